//! A query's condition and order as SQL text with parameters, for SQLite's JSON functions or PostgreSQL's `jsonb`.
//!
//! Nothing of a caller's is ever in the text: values and paths are parameters. The one exception are the paths and
//! collections of declared indexes, which an engine only recognises when they are spelled out: those come from the
//! configuration, which takes none that need quoting ([`Indexes`]).

use std::fmt::Write as _;

use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{DbBackend, Value};

use super::filter::{Field, Filter, Scalar, Sign, Test};
use crate::indexes::Indexes;

/// Writes conditions for one collection of one engine.
pub(crate) struct Writer<'a> {
    engine: DbBackend,
    collection: &'a str,
    indexes: &'a Indexes,
    text: String,
    values: Vec<Value>,
    /// Whether a declared index may serve it.
    indexed: bool,
    negated: bool,
}

/// Where a value that is tested comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Member(&'a [String]),
    /// One of an array's elements, named `element`.
    Element,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(engine: DbBackend, collection: &'a str, indexes: &'a Indexes) -> Self {
        Self {
            engine,
            collection,
            indexes,
            text: String::new(),
            values: Vec::new(),
            indexed: false,
            negated: false,
        }
    }

    /// The condition for the documents of the collection that match, and whether a declared index may serve it.
    pub(crate) fn condition(mut self, filter: &Filter) -> (SimpleExpr, bool) {
        self.own_collection();
        self.text.push_str(" AND ");
        self.filter(filter);
        let indexed = self.indexed;
        (self.finish(), indexed)
    }

    /// What a field is sorted by.
    pub(crate) fn sort_key(mut self, field: &Field) -> SimpleExpr {
        match field {
            Field::Id => self.text.push_str("id"),
            Field::Path(path) => self.value(Source::Member(path)),
        }
        self.finish()
    }

    /// The expression that a declared index is of.
    pub(crate) fn index_key(mut self, path: &[String]) -> String {
        self.value(Source::Member(path));
        self.text
    }

    /// The name of the type of the field that a declared index is of.
    pub(crate) fn index_kind(mut self, path: &[String]) -> String {
        self.kind(Source::Member(path));
        self.text
    }

    fn finish(self) -> SimpleExpr {
        Expr::cust_with_values(self.text, self.values)
    }

    fn sqlite(&self) -> bool {
        self.engine == DbBackend::Sqlite
    }

    fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        if self.sqlite() {
            self.text.push('?');
        } else {
            let _infallible = write!(self.text, "${}", self.values.len());
        }
    }

    fn own_collection(&mut self) {
        self.text.push_str("collection = ");
        if self.indexes.any(self.collection) {
            let _infallible = write!(self.text, "'{}'", self.collection);
        } else {
            self.bind(self.collection);
        }
    }

    fn filter(&mut self, filter: &Filter) {
        match filter {
            Filter::All(filters) => self.joined(filters, " AND ", "TRUE"),
            Filter::Any(filters) => self.joined(filters, " OR ", "FALSE"),
            Filter::Not(filter) => {
                let negated = std::mem::replace(&mut self.negated, true);
                self.text.push('(');
                self.filter(filter);
                self.text.push_str(" IS NOT TRUE)");
                self.negated = negated;
            }
            Filter::Field(Field::Id, test) => self.id(test),
            Filter::Field(Field::Path(path), test) => self.field(path, test),
        }
    }

    fn joined(&mut self, filters: &[Filter], sign: &str, none: &str) {
        let Some((first, rest)) = filters.split_first() else {
            self.text.push_str(none);
            return;
        };
        self.text.push('(');
        self.filter(first);
        for filter in rest {
            self.text.push_str(sign);
            self.filter(filter);
        }
        self.text.push(')');
    }

    /// A test of the id, which is always a text.
    fn id(&mut self, test: &Test) {
        match test {
            Test::Exists => self.text.push_str("TRUE"),
            Test::Equal(scalars) => {
                let texts: Vec<_> = scalars.iter().filter_map(text).collect();
                if texts.is_empty() {
                    self.text.push_str("FALSE");
                    return;
                }
                self.text.push_str("id IN ");
                self.list(texts, |writer, text| writer.bind(text));
            }
            Test::Compare(sign, Scalar::Text(text)) => {
                let _infallible = write!(self.text, "id {} ", sql(*sign));
                self.bind(text.as_str());
            }
            Test::Compare(..) => self.text.push_str("FALSE"),
            Test::Match {
                pattern,
                ignore_case,
            } => {
                self.text.push_str("id ");
                self.pattern(pattern, *ignore_case);
            }
        }
    }

    /// A test of a member: of its value, or where that is an array of one of its elements.
    fn field(&mut self, path: &[String], test: &Test) {
        let member = Source::Member(path);
        if *test == Test::Exists {
            self.kind(member);
            self.text.push_str(" IS NOT NULL");
            return;
        }
        // An index finds what is there, not what is missing.
        let indexed = self.indexes.has(self.collection, path) && !self.negated;
        self.indexed |= indexed;
        self.text.push('(');
        self.branch(indexed, "id IN (");
        self.holds(member, test);
        self.branch(indexed, " UNION ALL ");
        if !indexed {
            self.text.push_str(" OR ");
        }
        self.kind(member);
        self.text.push_str(" = 'array' AND EXISTS (SELECT 1 FROM ");
        self.elements(path);
        self.text.push_str(" WHERE ");
        self.holds(Source::Element, test);
        self.text.push_str(if indexed { ")))" } else { "))" });
    }

    /// Begins a branch of its own for a declared index: engines don't take one for each side of an "or".
    fn branch(&mut self, indexed: bool, before: &str) {
        if indexed {
            self.text.push_str(before);
            self.text.push_str("SELECT id FROM documents WHERE ");
            self.own_collection();
            self.text.push_str(" AND ");
        }
    }

    fn holds(&mut self, source: Source<'_>, test: &Test) {
        match test {
            Test::Equal(scalars) => self.equal(source, scalars),
            Test::Compare(sign, scalar) => {
                let (kinds, sign) = (self.kinds(scalar), sql(*sign));
                self.kind(source);
                let _infallible = write!(self.text, " IN ({kinds}) AND ");
                self.value(source);
                let _infallible = write!(self.text, " {sign} ");
                self.scalar(scalar);
            }
            Test::Match {
                pattern,
                ignore_case,
            } => {
                self.kind(source);
                let text = if self.sqlite() { "text" } else { "string" };
                let _infallible = write!(self.text, " = '{text}' AND ");
                self.value(source);
                if !self.sqlite() {
                    self.text.push_str(" #>> '{}'");
                }
                self.text.push(' ');
                self.pattern(pattern, *ignore_case);
            }
            Test::Exists => self.text.push_str("TRUE"),
        }
    }

    /// Whether a value is one of the scalars, which are taken type by type.
    fn equal(&mut self, source: Source<'_>, scalars: &[Scalar]) {
        let kind = |scalar: &Scalar| std::mem::discriminant(scalar);
        let mut groups: Vec<Vec<&Scalar>> = Vec::new();
        for scalar in scalars {
            match groups
                .iter_mut()
                .find(|group| kind(group[0]) == kind(scalar))
            {
                Some(group) => group.push(scalar),
                None => groups.push(vec![scalar]),
            }
        }
        if groups.is_empty() {
            self.text.push_str("FALSE");
            return;
        }
        self.text.push('(');
        for (index, group) in groups.iter().enumerate() {
            self.text.push_str(if index == 0 { "" } else { " OR " });
            match group[0] {
                Scalar::Null => self.null(source),
                Scalar::Bool(_) if self.sqlite() => {
                    self.kind(source);
                    self.text.push_str(" IN ");
                    self.list(group.iter(), |writer, scalar| {
                        let name = if **scalar == Scalar::Bool(true) {
                            "true"
                        } else {
                            "false"
                        };
                        writer.bind(name);
                    });
                }
                scalar => {
                    let kinds = self.kinds(scalar);
                    self.kind(source);
                    let _infallible = write!(self.text, " IN ({kinds}) AND ");
                    self.value(source);
                    self.text.push_str(" IN ");
                    self.list(group.iter(), |writer, scalar| writer.scalar(scalar));
                }
            }
        }
        self.text.push(')');
    }

    fn null(&mut self, source: Source<'_>) {
        self.text.push('(');
        self.kind(source);
        self.text.push_str(" = 'null'");
        if matches!(source, Source::Member(_)) {
            self.text.push_str(" OR ");
            self.kind(source);
            self.text.push_str(" IS NULL");
        }
        self.text.push(')');
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        for (index, item) in items.into_iter().enumerate() {
            self.text.push_str(if index == 0 { "(" } else { ", " });
            write(self, item);
        }
        self.text.push(')');
    }

    /// The name of a value's type.
    fn kind(&mut self, source: Source<'_>) {
        match source {
            Source::Member(path) if self.sqlite() => self.extract("json_type", path),
            Source::Element if self.sqlite() => self.text.push_str("element.type"),
            source => {
                self.text.push_str("jsonb_typeof(");
                self.value(source);
                self.text.push(')');
            }
        }
    }

    fn value(&mut self, source: Source<'_>) {
        match source {
            Source::Member(path) if self.sqlite() => self.extract("json_extract", path),
            Source::Member(path) => self.extract("jsonb_extract_path", path),
            Source::Element if self.sqlite() => self.text.push_str("element.atom"),
            Source::Element => self.text.push_str("element.value"),
        }
    }

    fn extract(&mut self, function: &str, path: &[String]) {
        self.text.push_str(function);
        let literal = self.indexes.has(self.collection, path);
        if self.sqlite() {
            self.text.push_str("(data, ");
            self.name(literal, json_path(path));
        } else {
            self.text.push_str("(body");
            for part in path {
                self.text.push_str(", ");
                self.name(literal, part.clone());
            }
        }
        self.text.push(')');
    }

    fn name(&mut self, literal: bool, name: String) {
        if literal {
            let _infallible = write!(self.text, "'{name}'");
        } else {
            self.bind(name);
        }
    }

    /// The elements of a member that is an array, as `element`.
    fn elements(&mut self, path: &[String]) {
        if self.sqlite() {
            self.extract("json_each", path);
            self.text.push_str(" AS element");
        } else {
            // An engine may evaluate this before it has tested that there is an array.
            self.text.push_str("jsonb_array_elements(CASE WHEN ");
            self.kind(Source::Member(path));
            self.text.push_str(" = 'array' THEN ");
            self.value(Source::Member(path));
            self.text
                .push_str(" ELSE '[]'::jsonb END) AS element(value)");
        }
    }

    fn kinds(&self, scalar: &Scalar) -> &'static str {
        match (scalar, self.sqlite()) {
            (Scalar::Text(_), true) => "'text'",
            (Scalar::Text(_), false) => "'string'",
            (Scalar::Bool(_), _) => "'boolean'",
            (_, true) => "'integer', 'real'",
            (_, false) => "'number'",
        }
    }

    fn scalar(&mut self, scalar: &Scalar) {
        if !self.sqlite() {
            let json = match scalar {
                Scalar::Null => serde_json::Value::Null,
                Scalar::Bool(value) => (*value).into(),
                Scalar::Integer(value) => (*value).into(),
                Scalar::Real(value) => (*value).into(),
                Scalar::Text(text) => text.as_str().into(),
            };
            self.bind(json.to_string());
            self.text.push_str("::jsonb");
            return;
        }
        match scalar {
            Scalar::Null => self.text.push_str("NULL"),
            Scalar::Bool(value) => self.bind(*value),
            Scalar::Integer(value) => self.bind(*value),
            Scalar::Real(value) => self.bind(*value),
            Scalar::Text(text) => self.bind(text.as_str()),
        }
    }

    fn pattern(&mut self, pattern: &str, ignore_case: bool) {
        match (self.sqlite(), ignore_case) {
            (true, false) => {
                self.text.push_str("REGEXP ");
                self.bind(pattern);
            }
            (true, true) => {
                self.text.push_str("REGEXP ");
                self.bind(format!("(?i){pattern}"));
            }
            (false, ignore_case) => {
                self.text.push_str(if ignore_case { "~* " } else { "~ " });
                self.bind(pattern);
            }
        }
    }
}

fn text(scalar: &Scalar) -> Option<&str> {
    match scalar {
        Scalar::Text(text) => Some(text),
        _ => None,
    }
}

fn sql(sign: Sign) -> &'static str {
    match sign {
        Sign::Greater => ">",
        Sign::GreaterEqual => ">=",
        Sign::Less => "<",
        Sign::LessEqual => "<=",
    }
}

fn json_path(path: &[String]) -> String {
    path.iter()
        .fold("$".to_owned(), |text, part| format!("{text}.\"{part}\""))
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::{PostgresQueryBuilder, Query as Select, SqliteQueryBuilder};

    use super::super::Query;
    use super::*;

    fn sql(engine: DbBackend, query: &str) -> String {
        let indexes: Indexes = "c:label".parse().unwrap();
        let filter = Query::parse(query).unwrap().filter;
        let (condition, _) = Writer::new(engine, "c", &indexes).condition(&filter);
        let select = Select::select().expr(condition).to_owned();
        let (sql, values) = match engine {
            DbBackend::Sqlite => select.build(SqliteQueryBuilder),
            _ => select.build(PostgresQueryBuilder),
        };
        let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
        let sql = sql.trim_start_matches("SELECT ");
        format!("{sql} [{}]", values.join(", "))
    }

    #[test]
    fn nothing_of_a_caller_is_in_the_text() {
        let hostile =
            r#"{"a' OR 1=1 --": {"$in": ["' OR 1=1 --", 1]}, "b?$1": {"$regex": "'?$1"}}"#;
        for engine in [DbBackend::Sqlite, DbBackend::Postgres] {
            let sql = sql(engine, hostile);
            let (text, _) = sql.split_once(" [").unwrap();
            assert!(!text.contains("OR 1=1") && !text.contains("b?"), "{text}");
        }
    }

    #[test]
    fn sqlite_reads_json_by_its_functions() {
        assert_eq!(
            sql(DbBackend::Sqlite, r#"{"a.b": {"$gte": 2}}"#),
            "collection = 'c' AND (json_type(data, ?) IN ('integer', 'real') AND json_extract(data, ?) >= ? \
             OR json_type(data, ?) = 'array' AND EXISTS (SELECT 1 FROM json_each(data, ?) AS element \
             WHERE element.type IN ('integer', 'real') AND element.atom >= ?)) \
             ['$.\\\"a\\\".\\\"b\\\"', '$.\\\"a\\\".\\\"b\\\"', 2, '$.\\\"a\\\".\\\"b\\\"', '$.\\\"a\\\".\\\"b\\\"', 2]"
        );
    }

    #[test]
    fn an_indexed_field_is_spelled_out() {
        assert_eq!(
            sql(DbBackend::Postgres, r#"{"label": "x"}"#),
            "collection = 'c' AND (id IN (SELECT id FROM documents WHERE collection = 'c' \
             AND (jsonb_typeof(jsonb_extract_path(body, 'label')) IN ('string') \
             AND jsonb_extract_path(body, 'label') IN ($1::jsonb)) \
             UNION ALL SELECT id FROM documents WHERE collection = 'c' \
             AND jsonb_typeof(jsonb_extract_path(body, 'label')) = 'array' \
             AND EXISTS (SELECT 1 FROM jsonb_array_elements(CASE WHEN jsonb_typeof(jsonb_extract_path(body, 'label')) = 'array' \
             THEN jsonb_extract_path(body, 'label') ELSE '[]'::jsonb END) AS element(value) \
             WHERE (jsonb_typeof(element.value) IN ('string') AND element.value IN ($2::jsonb))))) ['\\\"x\\\"', '\\\"x\\\"']"
        );
    }
}

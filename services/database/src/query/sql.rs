//! What the engine knows of a query: the conditions that its indexes serve, as SQL text with parameters.
//!
//! They find all documents that match, and may find others: which do is decided by [`super::matching`], the same for
//! each engine. Nothing of a caller's is ever in the text: values are parameters. The paths and collections of declared
//! indexes are spelled out, because an engine only recognizes them so: they come from the configuration, which takes none
//! that need quoting ([`Indexes`]).

mod text;

use std::fmt::Write as _;

use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{DbBackend, Value as Parameter};

use super::filter::{Field, Filter, Sign, Test};
use super::value::Value;
use crate::indexes::Indexes;

/// 2^53: numbers less than it are what they are in 64 bits of floating point, too.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The most tests of a filter that become SQL: SQLite nests no deeper than 1,000 levels, and takes each "or" for one.
const MOST_TESTS: usize = 256;

/// Writes conditions for one collection of one engine.
pub(crate) struct Writer<'a> {
    engine: DbBackend,
    collection: &'a str,
    indexes: &'a Indexes,
    text: String,
    values: Vec<Parameter>,
    /// Whether a declared index serves it.
    indexed: bool,
    /// Whether the key of the index has all values of the field.
    exact: bool,
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
            exact: false,
        }
    }

    /// A condition that all documents of the collection that match satisfy, and whether a declared index serves it.
    pub(crate) fn condition(mut self, filter: &Filter) -> (SimpleExpr, bool) {
        self.own_collection();
        if self.serves_filter(filter) {
            self.text.push_str(" AND ");
            self.filter(filter);
        }
        let condition = Expr::cust_with_values(self.text, self.values);
        (condition, self.indexed)
    }

    /// How many entries of indexes [`Self::condition`] reads, or more than `most`; none if no index serves it.
    pub(crate) fn entries(mut self, filter: &Filter, most: u64) -> Option<SimpleExpr> {
        if !self.serves_filter(filter) {
            return None;
        }
        self.text.push_str("CAST(");
        self.count(filter, most);
        self.text.push_str(" AS BIGINT)");
        Some(Expr::cust_with_values(self.text, self.values))
    }

    /// The field of which one index has all that the filter asks for, so that the engine knows which documents match: if
    /// none satisfies [`Self::is_unlike`].
    pub(crate) fn covered<'f>(&self, filter: &'f Filter) -> Option<&'f [String]> {
        match filter {
            _ if filter.tests() > MOST_TESTS => None,
            Filter::All(filters) | Filter::Any(filters) => {
                let mut paths = filters.iter().map(|filter| self.covered(filter));
                let first = paths.next()??;
                paths.all(|path| path == Some(first)).then_some(first)
            }
            Filter::Field(Field::Path(path), test) => {
                let served = self.indexes.has(self.collection, path) && self.serves(test);
                (served && self.is_exact(test)).then_some(path)
            }
            Filter::Not(_) | Filter::Text(_) | Filter::Field(Field::Id, _) => None,
        }
    }

    /// The condition that the documents of the collection that match satisfy, and no others, of a filter that is
    /// [`Self::covered`].
    pub(crate) fn exact_condition(mut self, filter: &Filter) -> SimpleExpr {
        self.exact = true;
        self.own_collection();
        self.text.push_str(" AND ");
        self.filter(filter);
        Expr::cust_with_values(self.text, self.values)
    }

    /// That the engine may not compare the field's value as [`super::matching`] does.
    pub(crate) fn is_unlike(&self, path: &[String]) -> String {
        match self.sqlite() {
            true => self.is_odd(path),
            false => self.has_others(path),
        }
    }

    /// The expression that a declared index is of.
    pub(crate) fn index_key(&self, path: &[String]) -> String {
        match self.sqlite() {
            true => format!("json_extract(data, '{}')", json_path(path)),
            false => format!("jsonb_extract_path(body, '{}')", path.join("', '")),
        }
    }

    /// That the field may have values which the key of the index does not have: elements of arrays that the path leads to or
    /// through and, because SQLite takes the first of the members of one name, the last of these.
    pub(crate) fn has_others(&self, path: &[String]) -> String {
        let prefixes = || (1..=path.len()).map(|length| &path[..length]);
        let arrays = prefixes().map(|prefix| format!("{} = 'array'", self.kind(prefix)));
        let mut others: Vec<_> = arrays.collect();
        if self.sqlite() {
            others.extend(prefixes().map(json_path).map(|path| {
                format!("json_type(jsonb_remove(data, '{path}'), '{path}') IS NOT NULL")
            }));
        }
        format!("({})", others.join(" OR "))
    }

    /// That the engine does not sort the field's value as documents are sorted.
    pub(crate) fn is_odd(&self, path: &[String]) -> String {
        let (others, kind, key) = (self.has_others(path), self.kind(path), self.index_key(path));
        match self.sqlite() {
            true => format!(
                "({others} OR {kind} IN ('object', 'true', 'false') \
                 OR {kind} = 'integer' AND typeof({key}) = 'real')"
            ),
            false => format!("({others} OR {kind} <> 'number')"),
        }
    }

    /// A condition that is both the key of an index and what its documents have in common: SQLite takes only keys into
    /// account when it chooses an index.
    pub(crate) fn holds(&self, condition: &str) -> String {
        match self.sqlite() {
            true => format!("{condition} AND {condition} = TRUE"),
            false => condition.to_owned(),
        }
    }

    fn kind(&self, path: &[String]) -> String {
        match self.sqlite() {
            true => format!("json_type(data, '{}')", json_path(path)),
            false => format!("jsonb_typeof({})", self.index_key(path)),
        }
    }

    fn sqlite(&self) -> bool {
        self.engine == DbBackend::Sqlite
    }

    fn bind(&mut self, value: impl Into<Parameter>) {
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

    /// Whether an index finds the documents that match, by a condition that the engine can read.
    fn serves_filter(&self, filter: &Filter) -> bool {
        filter.tests() <= MOST_TESTS && self.narrows(filter)
    }

    /// Whether an index finds the documents that match.
    fn narrows(&self, filter: &Filter) -> bool {
        match filter {
            Filter::All(filters) => filters.iter().any(|filter| self.narrows(filter)),
            Filter::Any(filters) => filters.iter().all(|filter| self.narrows(filter)),
            Filter::Not(_) => false,
            Filter::Text(_) => self.indexes.text(self.collection).is_some(),
            Filter::Field(Field::Id, test) => {
                matches!(test, Test::Equal(_) | Test::Compare(_, Value::Text(_)))
            }
            Filter::Field(Field::Path(path), test) => {
                self.indexes.has(self.collection, path) && self.serves(test)
            }
        }
    }

    fn serves(&self, test: &Test) -> bool {
        let known = |value: &Value| match value {
            Value::Bool(_) | Value::Integer(_) | Value::Real(_) => true,
            // The engines do not agree on texts with U+0000.
            Value::Text(text) => !text.contains('\0'),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match test {
            Test::Equal(values) => values.iter().all(known),
            // PostgreSQL compares the texts of `jsonb` in the order of the database's collation.
            Test::Compare(_, Value::Text(text)) => self.sqlite() && !text.contains('\0'),
            Test::Compare(..) => true,
            _ => false,
        }
    }

    /// Whether the engine compares with it as [`super::matching`] does. Greater numbers are rounded, by one of the two.
    fn is_exact(&self, test: &Test) -> bool {
        let number = |value: f64| self.sqlite() && value.abs() < EXACT;
        let exact = |value: &Value| match value {
            Value::Integer(value) => number(*value as f64),
            Value::Real(value) => number(*value),
            Value::Text(_) => true,
            // SQLite has the number 1 for `true`.
            Value::Bool(_) => !self.sqlite(),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match test {
            Test::Equal(values) => values.iter().all(exact),
            Test::Compare(_, value) => exact(value),
            _ => false,
        }
    }

    fn filter(&mut self, filter: &Filter) {
        match filter {
            Filter::All(filters) => {
                let some = filters.iter().filter(|filter| self.narrows(filter));
                let some: Vec<_> = some.collect();
                self.joined(&some, " AND ", "TRUE");
            }
            Filter::Any(filters) => {
                self.joined(&filters.iter().collect::<Vec<_>>(), " OR ", "FALSE");
            }
            Filter::Not(_) => self.text.push_str("TRUE"),
            Filter::Text(search) => self.search(search),
            Filter::Field(Field::Id, test) => self.id(test),
            Filter::Field(Field::Path(path), test) => self.field(path, test),
        }
    }

    fn joined(&mut self, filters: &[&Filter], sign: &str, none: &str) {
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

    fn count(&mut self, filter: &Filter, most: u64) {
        match filter {
            Filter::All(filters) | Filter::Any(filters) => {
                self.text.push_str("(0");
                for filter in filters {
                    if self.narrows(filter) {
                        self.text.push_str(" + ");
                        self.count(filter, most);
                    }
                }
                self.text.push(')');
            }
            Filter::Not(_) => self.text.push('0'),
            Filter::Text(search) => self.search_count(search, most),
            Filter::Field(Field::Id, test) => {
                let number = match test {
                    Test::Equal(values) => values.len() as u64,
                    _ => most + 1,
                };
                let _infallible = write!(self.text, "{number}");
            }
            Filter::Field(Field::Path(path), test) => {
                let others = self.has_others(path);
                self.branch("(SELECT count(*) FROM (");
                self.value(path, test);
                let _infallible = write!(self.text, " LIMIT {}) AS found)", most + 1);
                self.branch(" + (SELECT count(*) FROM (");
                let others = self.holds(&others);
                let _infallible = write!(self.text, "{others} LIMIT {}) AS found)", most + 1);
            }
        }
    }

    fn id(&mut self, test: &Test) {
        match test {
            Test::Equal(values) => {
                let text = |value: &Value| match value {
                    Value::Text(text) if !text.contains('\0') => Some(text.clone()),
                    _ => None,
                };
                let texts: Vec<_> = values.iter().filter_map(text).collect();
                if texts.is_empty() {
                    self.text.push_str("FALSE");
                    return;
                }
                self.text.push_str("id IN ");
                self.list(texts, |writer, text| writer.bind(text));
            }
            Test::Compare(sign, Value::Text(text)) if !text.contains('\0') => {
                let _infallible = write!(self.text, "id {} ", or_equal(*sign));
                self.bind(text.as_str());
            }
            _ => self.text.push_str("TRUE"),
        }
    }

    /// A branch for each index of the field: engines do not take one for each side of an "or".
    fn field(&mut self, path: &[String], test: &Test) {
        if self.exact {
            self.text.push('(');
            self.value(path, test);
            self.text.push(')');
            return;
        }
        self.indexed = true;
        let others = self.has_others(path);
        self.branch("id IN (");
        self.value(path, test);
        self.branch(" UNION ALL ");
        let _infallible = write!(self.text, "{})", self.holds(&others));
    }

    fn branch(&mut self, before: &str) {
        self.text.push_str(before);
        self.text.push_str("SELECT id FROM documents WHERE ");
        self.own_collection();
        self.text.push_str(" AND ");
    }

    fn value(&mut self, path: &[String], test: &Test) {
        let key = self.index_key(path);
        match test {
            Test::Equal(values) if values.is_empty() => self.text.push_str("FALSE"),
            Test::Equal(values) => {
                let _infallible = write!(self.text, "{key} IN ");
                self.list(values, Self::scalar);
            }
            // A number of more than 64 bits is rounded, here and in the engine: then the greater one is not less.
            Test::Compare(sign, value) => {
                let symbol = match self.exact {
                    true => symbol(*sign),
                    false => or_equal(*sign),
                };
                let _infallible = write!(self.text, "{key} {symbol} ");
                self.scalar(value);
                let is_text = matches!(value, Value::Text(_));
                let greater = matches!(sign, Sign::Greater | Sign::GreaterEqual);
                match (self.sqlite(), is_text, greater) {
                    (true, false, true) => {
                        let _infallible = write!(self.text, " AND {key} < ''");
                    }
                    (true, true, false) => {
                        let _infallible = write!(self.text, " AND {key} >= ''");
                    }
                    (true, ..) => {}
                    (false, ..) => {
                        let kind = self.kind(path);
                        let _infallible = write!(self.text, " AND {kind} = 'number'");
                    }
                }
            }
            _ => self.text.push_str("TRUE"),
        }
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, write: impl Fn(&mut Self, T)) {
        for (index, item) in items.into_iter().enumerate() {
            self.text.push_str(if index == 0 { "(" } else { ", " });
            write(self, item);
        }
        self.text.push(')');
    }

    fn scalar(&mut self, value: &Value) {
        if !self.sqlite() {
            self.bind(value.json().to_string());
            self.text.push_str("::jsonb");
            return;
        }
        match value {
            Value::Bool(value) => self.bind(*value),
            Value::Integer(value) => match i64::try_from(*value) {
                Ok(value) => self.bind(value),
                Err(_) => self.bind(*value as f64),
            },
            Value::Real(value) => self.bind(*value),
            Value::Text(text) => self.bind(text.as_str()),
            Value::Null | Value::Array(_) | Value::Object(_) => self.text.push_str("NULL"),
        }
    }
}

fn symbol(sign: Sign) -> &'static str {
    match sign {
        Sign::Greater => ">",
        Sign::GreaterEqual => ">=",
        Sign::Less => "<",
        Sign::LessEqual => "<=",
    }
}

fn or_equal(sign: Sign) -> &'static str {
    match sign {
        Sign::Greater | Sign::GreaterEqual => ">=",
        Sign::Less | Sign::LessEqual => "<=",
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

    fn sql(engine: DbBackend, query: &str) -> (String, usize) {
        let indexes: Indexes = "c:label".parse().unwrap();
        let filter = Query::parse(query).unwrap().filter;
        let (condition, _) = Writer::new(engine, "c", &indexes).condition(&filter);
        let select = Select::select().expr(condition).to_owned();
        let (sql, values) = match engine {
            DbBackend::Sqlite => select.build(SqliteQueryBuilder),
            _ => select.build(PostgresQueryBuilder),
        };
        let sql = sql.trim_start_matches("SELECT ");
        (sql.to_owned(), values.into_iter().count())
    }

    #[test]
    fn nothing_of_a_caller_is_in_the_text() {
        let hostile = r#"{"label": {"$in": ["' OR 1=1 --", "b?$1"]}, "_id": "' OR 1=1 --"}"#;
        for engine in [DbBackend::Sqlite, DbBackend::Postgres] {
            let (text, values) = sql(engine, hostile);
            assert!(!text.contains("OR 1=1") && !text.contains("b?"), "{text}");
            assert_eq!(values, 3, "{text}");
        }
    }

    #[test]
    fn an_engine_sees_only_what_its_indexes_serve() {
        let all = "collection = 'c'";
        let table = [
            (r#"{"other": 1}"#, all),
            (r#"{"$or": [{"label": 1}, {"other": 1}]}"#, all),
            (r#"{"label": {"$ne": 1}}"#, all),
            (r#"{"label": null}"#, all),
            (
                r#"{"_id": "x", "other": 1}"#,
                "collection = 'c' AND (id IN (?))",
            ),
            (
                r#"{"label": {"$gt": 5}}"#,
                "collection = 'c' AND id IN (SELECT id FROM documents WHERE collection = 'c' \
                 AND json_extract(data, '$.\"label\"') >= ? AND json_extract(data, '$.\"label\"') < '' \
                 UNION ALL SELECT id FROM documents WHERE collection = 'c' \
                 AND OTHERS AND OTHERS = TRUE)",
            ),
        ];
        let others = "(json_type(data, '$.\"label\"') = 'array' \
            OR json_type(jsonb_remove(data, '$.\"label\"'), '$.\"label\"') IS NOT NULL)";
        for (query, expected) in table {
            let (text, _) = sql(DbBackend::Sqlite, query);
            assert_eq!(text.replace(others, "OTHERS"), expected, "{query}");
        }
    }
}

//! Query filters: a JSON document translated to a parametrised condition. It never touches the store.
//!
//! ```text
//! {"label": "sport", "author.age": {"$gte": 18}, "author": {"city": "Bern"}, "$limit": 10, "$skip": 20}
//! ```
//! Fields are joined by "and"; a dotted name and a nested object mean the same. Operators: `$eq`, `$ne`, `$gt`,
//! `$gte`, `$lt`, `$lte`, `$in`. Comparison is by type: a number never equals a string. `$ne` holds for a missing
//! field, `null` equals a missing field.

use sea_orm::Value;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, SimpleExpr};
use serde_json::{Map, Value as Json};

/// What a query asks for.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) condition: Condition,
    pub(crate) limit: Option<u64>,
    pub(crate) skip: u64,
}

/// Why a query can't be translated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FilterError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Filter {
    /// Translates a query's text; an empty one asks for everything.
    pub(crate) fn parse(query: &str) -> Result<Self, FilterError> {
        let mut filter = Self {
            condition: Condition::all(),
            limit: None,
            skip: 0,
        };
        if query.trim().is_empty() {
            return Ok(filter);
        }
        let fields: Map<String, Json> = serde_json::from_str(query)
            .map_err(|error| malformed(format!("the query is not a JSON object: {error}")))?;
        for (name, value) in &fields {
            match name.as_str() {
                "$limit" => filter.limit = Some(count(name, value)?),
                "$skip" => filter.skip = count(name, value)?,
                _ => filter.field(&mut Vec::new(), name, value)?,
            }
        }
        Ok(filter)
    }

    fn field<'a>(
        &mut self,
        path: &mut Vec<&'a str>,
        name: &'a str,
        value: &'a Json,
    ) -> Result<(), FilterError> {
        if name.starts_with('$') {
            return Err(unknown(name));
        }
        let depth = path.len();
        path.extend(name.split('.'));
        if path
            .iter()
            .any(|part| part.is_empty() || part.contains('"'))
        {
            return Err(malformed(format!("`{name}` is not a field's name")));
        }
        match value {
            Json::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => {
                for (operator, operand) in operators {
                    let test = test(&json_path(path), operator, operand)?;
                    self.add(test);
                }
            }
            Json::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    self.field(path, name, value)?;
                }
            }
            value => self.add(equal(&json_path(path), value)?),
        }
        path.truncate(depth);
        Ok(())
    }

    fn add(&mut self, test: SimpleExpr) {
        let condition = std::mem::replace(&mut self.condition, Condition::all());
        self.condition = condition.add(test);
    }
}

fn test(path: &str, operator: &str, operand: &Json) -> Result<SimpleExpr, FilterError> {
    match operator {
        "$eq" => equal(path, operand),
        "$ne" => Ok(Expr::cust_with_expr(
            "(?) IS NOT TRUE",
            equal(path, operand)?,
        )),
        "$gt" => ordered(path, operator, ">", operand),
        "$gte" => ordered(path, operator, ">=", operand),
        "$lt" => ordered(path, operator, "<", operand),
        "$lte" => ordered(path, operator, "<=", operand),
        "$in" => {
            let Json::Array(operands) = operand else {
                return Err(malformed("`$in` takes an array".to_owned()));
            };
            let none = Expr::cust("FALSE");
            operands
                .iter()
                .try_fold(none, |any, operand| Ok(any.or(equal(path, operand)?)))
        }
        _ => Err(unknown(operator)),
    }
}

fn equal(path: &str, operand: &Json) -> Result<SimpleExpr, FilterError> {
    match operand {
        Json::Null => Ok(Expr::cust_with_values(
            "json_extract(data, ?) IS NULL",
            [path],
        )),
        Json::Bool(value) => {
            let name = if *value { "true" } else { "false" };
            Ok(Expr::cust_with_values(
                "json_type(data, ?) = ?",
                [path, name],
            ))
        }
        Json::Number(_) | Json::String(_) => compare(path, "=", operand),
        Json::Array(_) | Json::Object(_) => Err(malformed(
            "a field can be compared with a string, a number, a boolean or null only".to_owned(),
        )),
    }
}

fn ordered(
    path: &str,
    operator: &str,
    sql: &str,
    operand: &Json,
) -> Result<SimpleExpr, FilterError> {
    match operand {
        Json::Number(_) | Json::String(_) => compare(path, sql, operand),
        _ => Err(malformed(format!(
            "`{operator}` takes a number or a string"
        ))),
    }
}

/// `sql` is one of this module's own comparison signs, never a caller's text.
fn compare(path: &str, sql: &str, operand: &Json) -> Result<SimpleExpr, FilterError> {
    let (types, value): (_, Value) = match operand {
        Json::String(text) => ("('text')", text.as_str().into()),
        Json::Number(number) => {
            let value = match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => integer.into(),
                (None, Some(real)) => real.into(),
                (None, None) => return Err(malformed(format!("`{number}` is out of range"))),
            };
            ("('integer', 'real')", value)
        }
        _ => unreachable!("callers pass strings and numbers"),
    };
    Ok(Expr::cust_with_values(
        format!("(json_type(data, ?) IN {types} AND json_extract(data, ?) {sql} ?)"),
        [path.into(), path.into(), value],
    ))
}

fn json_path(path: &[&str]) -> String {
    path.iter()
        .fold("$".to_owned(), |text, part| format!("{text}.\"{part}\""))
}

fn count(name: &str, value: &Json) -> Result<u64, FilterError> {
    value
        .as_u64()
        .filter(|count| i64::try_from(*count).is_ok())
        .ok_or_else(|| malformed(format!("`{name}` takes a whole number")))
}

fn malformed(message: String) -> FilterError {
    FilterError {
        reason: "QUERY_MALFORMED",
        message,
    }
}

fn unknown(operator: &str) -> FilterError {
    FilterError {
        reason: "QUERY_OPERATOR_UNKNOWN",
        message: format!("`{operator}` is not an operator of queries"),
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::sea_query::{Alias, Query, SqliteQueryBuilder};

    use super::*;

    fn sql(query: &str) -> String {
        let filter = Filter::parse(query).unwrap();
        let (sql, values) = Query::select()
            .column(Alias::new("id"))
            .from(Alias::new("t"))
            .cond_where(filter.condition)
            .build(SqliteQueryBuilder);
        let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
        let sql = sql
            .trim_start_matches(r#"SELECT "id" FROM "t""#)
            .trim_start_matches(" WHERE ");
        format!("{sql} [{}]", values.join(", "))
    }

    #[test]
    fn filters_become_parametrised_conditions() {
        let table = [
            ("", r##"TRUE []"##),
            ("{}", r##"TRUE []"##),
            (r#"{"$limit": 3, "$skip": 1}"#, r##"TRUE []"##),
            (
                r#"{"label": "a' OR 1=1 --"}"#,
                r##"(json_type(data, ?) IN ('text') AND json_extract(data, ?) = ?) ['$.\"label\"', '$.\"label\"', 'a\' OR 1=1 --']"##,
            ),
            (
                r#"{"a.b": {"$gte": 2}}"#,
                r##"(json_type(data, ?) IN ('integer', 'real') AND json_extract(data, ?) >= ?) ['$.\"a\".\"b\"', '$.\"a\".\"b\"', 2]"##,
            ),
            (
                r#"{"a": {"b": true}}"#,
                r##"json_type(data, ?) = ? ['$.\"a\".\"b\"', 'true']"##,
            ),
            (
                r#"{"a": {"$ne": null}}"#,
                r##"(json_extract(data, ?) IS NULL) IS NOT TRUE ['$.\"a\"']"##,
            ),
        ];
        let found: Vec<_> = table.iter().map(|(query, _)| sql(query)).collect();
        let expected: Vec<_> = table.iter().map(|(_, sql)| (*sql).to_owned()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_filter_is_named() {
        let table = [
            ("[1]", "QUERY_MALFORMED"),
            ("{", "QUERY_MALFORMED"),
            (r#"{"$where": "1"}"#, "QUERY_OPERATOR_UNKNOWN"),
            (r#"{"a": {"$regex": "x"}}"#, "QUERY_OPERATOR_UNKNOWN"),
            (r#"{"a": {"$in": 1}}"#, "QUERY_MALFORMED"),
            (r#"{"a": {"$gt": true}}"#, "QUERY_MALFORMED"),
            (r#"{"a": [1]}"#, "QUERY_MALFORMED"),
            (r#"{"a\"b": 1}"#, "QUERY_MALFORMED"),
            (r#"{"a..b": 1}"#, "QUERY_MALFORMED"),
            (r#"{"$limit": -1}"#, "QUERY_MALFORMED"),
        ];
        for (query, reason) in table {
            assert_eq!(Filter::parse(query).unwrap_err().reason, reason, "{query}");
        }
        let error = Filter::parse(r#"{"a": {"$regex": "x"}}"#).unwrap_err();
        assert_eq!(error.message, "`$regex` is not an operator of queries");
    }
}

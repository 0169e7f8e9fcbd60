//! Queries: a filter document as MongoDB users know it, parsed to plain values. It never touches the store; how it
//! reads as SQL is [`sql`]'s.
//!
//! ```text
//! {"label": "sport", "author.age": {"$gte": 18}, "$or": [{"a": 1}, {"b": {"$exists": false}}],
//!  "$sort": {"author.age": -1}, "$skip": 20, "$limit": 10, "$project": {"label": 1}}
//! ```

mod filter;
mod matching;
mod projection;
pub(crate) mod search;
pub(crate) mod sql;
pub(crate) mod summary;
pub(crate) mod value;

use serde_json::{Map, Value as Json};
use serving::json::Members;

pub(crate) use filter::{Field, Filter};
pub(crate) use projection::Projection;
pub(crate) use search::index_entry;
pub(crate) use summary::Summary;

use crate::indexes::Indexes;

/// Bounds what one query's text can cost.
const QUERY_LIMIT: usize = 64 * 1024;
const DEPTH_LIMIT: usize = 32;
const SORT_LIMIT: usize = 32;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    pub(crate) filter: Filter,
    /// In order of weight; an empty list means the order of ids.
    pub(crate) sort: Vec<(Field, Direction)>,
    pub(crate) limit: Option<u64>,
    pub(crate) skip: u64,
    pub(crate) projection: Option<Projection>,
    pub(crate) summary: Option<Summary>,
}

/// Which way a field is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Ascending,
    Descending,
}

/// Why a text is not a valid query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The operator that is to blame, where one is.
    pub(crate) operator: Option<String>,
    /// Where the text stops being JSON, in bytes.
    pub(crate) offset: Option<usize>,
}

impl Query {
    /// Reads a query's text; an empty one asks for everything.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let mut query = Self {
            filter: Filter::All(Vec::new()),
            sort: Vec::new(),
            limit: None,
            skip: 0,
            projection: None,
            summary: None,
        };
        if text.trim().is_empty() {
            return Ok(query);
        }
        if text.len() > QUERY_LIMIT {
            let length = text.len();
            return Err(Fault::malformed(format!(
                "the query has {length} bytes, more than {QUERY_LIMIT}"
            )));
        }
        let mut fields: Map<String, Json> =
            serde_json::from_str(text).map_err(|error| Fault::not_json(text, &error))?;
        if let Some(limit) = fields.remove("$limit") {
            query.limit = Some(count("$limit", &limit)?);
        }
        if let Some(skip) = fields.remove("$skip") {
            query.skip = count("$skip", &skip)?;
        }
        if let Some(project) = fields.remove("$project") {
            query.projection = Projection::parse(&project)?;
        }
        if fields.remove("$sort").is_some() {
            query.sort = sort(text)?;
        }
        query.summary = Summary::take(&mut fields)?;
        if query.summary.is_some() && (!query.sort.is_empty() || query.projection.is_some()) {
            let expected =
                "documents, and cannot be combined with `$count`, `$distinct` and `$group`";
            let operator = match query.projection {
                Some(_) => "$project",
                None => "$sort",
            };
            return Err(Fault::operand(operator, expected));
        }
        query.filter = Filter::parse(&fields, DEPTH_LIMIT)?;
        Ok(query)
    }

    /// Has each `$text` search the fields of the collection's text index.
    pub(crate) fn use_text_index(
        &mut self,
        collection: &str,
        indexes: &Indexes,
    ) -> Result<(), Fault> {
        let mut searches = Vec::new();
        self.filter.searches(&mut searches);
        for search in searches {
            let Some(index) = indexes.text(collection) else {
                return Err(Fault::no_text_index(collection));
            };
            search.look_in(index);
        }
        Ok(())
    }
}

impl Fault {
    fn malformed(message: String) -> Self {
        Self {
            reason: "QUERY_MALFORMED",
            message,
            operator: None,
            offset: None,
        }
    }

    fn operand(operator: &str, expected: &str) -> Self {
        Self {
            reason: "QUERY_OPERAND_INVALID",
            message: format!("`{operator}` takes {expected}"),
            operator: Some(operator.to_owned()),
            offset: None,
        }
    }

    fn unknown(operator: &str) -> Self {
        Self {
            reason: "QUERY_OPERATOR_UNKNOWN",
            message: format!("`{operator}` is not an operator of queries"),
            operator: Some(operator.to_owned()),
            offset: None,
        }
    }

    fn no_text_index(collection: &str) -> Self {
        let message = format!(
            "`$text` needs a text index, which collection `{collection}` does not have: declare \
             the fields to search in `DATABASE_INDEXES`, as `{collection}:FIELD:text`"
        );
        Self {
            reason: "TEXT_INDEX_MISSING",
            message,
            operator: Some("$text".to_owned()),
            offset: None,
        }
    }

    fn not_json(text: &str, error: &serde_json::Error) -> Self {
        let offset = offset(text, error);
        Self {
            reason: "QUERY_MALFORMED",
            message: format!("the query is not a JSON object, at byte {offset}: {error}"),
            operator: None,
            offset: Some(offset),
        }
    }
}

/// Where in a text JSON's parser stopped, in bytes from its start.
pub(crate) fn offset(text: &str, error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return text.len();
    }
    // Lines and columns are counted from 1.
    let before: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

fn count(name: &str, value: &Json) -> Result<u64, Fault> {
    value
        .as_u64()
        .filter(|count| i64::try_from(*count).is_ok())
        .ok_or_else(|| Fault::operand(name, "a whole number from 0"))
}

/// Reads `$sort` from the text again: in it the order of the keys counts, which a map doesn't keep.
fn sort(text: &str) -> Result<Vec<(Field, Direction)>, Fault> {
    const EXPECTED: &str = "an object of fields, each with 1 (ascending) or -1 (descending)";

    #[derive(serde::Deserialize)]
    struct Sorted<'a> {
        #[serde(rename = "$sort", borrow)]
        sort: Members<'a>,
    }
    let Sorted { sort } =
        serde_json::from_str(text).map_err(|_| Fault::operand("$sort", EXPECTED))?;
    if sort.0.len() > SORT_LIMIT {
        return Err(Fault::operand(
            "$sort",
            &format!("at most {SORT_LIMIT} fields"),
        ));
    }
    sort.0
        .into_iter()
        .map(|member| {
            let direction = match member.value {
                "1" => Direction::Ascending,
                "-1" => Direction::Descending,
                _ => return Err(Fault::operand("$sort", EXPECTED)),
            };
            Ok((Field::parse(&member.name)?, direction))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> Field {
        Field::parse(name).unwrap()
    }

    #[test]
    fn an_empty_text_asks_for_everything() {
        for text in ["", "  ", "{}"] {
            let query = Query::parse(text).unwrap();
            assert_eq!(query.filter, Filter::All(Vec::new()), "{text}");
            assert_eq!((query.limit, query.skip), (None, 0), "{text}");
        }
    }

    #[test]
    fn a_sort_keeps_the_order_of_its_fields() {
        let query = Query::parse(r#"{"$sort": {"z": 1, "a.b": -1, "_id": 1}}"#).unwrap();
        assert_eq!(
            query.sort,
            [
                (field("z"), Direction::Ascending),
                (field("a.b"), Direction::Descending),
                (Field::Id, Direction::Ascending),
            ]
        );
    }

    #[test]
    fn an_invalid_query_is_named() {
        let deep = format!("{}1{}", r#"{"$not": "#.repeat(40), "}".repeat(40));
        let table = [
            ("[1]", "QUERY_MALFORMED", None),
            ("{", "QUERY_MALFORMED", None),
            (r#"{"a": {}}"#, "QUERY_MALFORMED", None),
            (r#"{"a\"b": 1}"#, "QUERY_MALFORMED", None),
            (r#"{"a..b": 1}"#, "QUERY_MALFORMED", None),
            (&deep, "QUERY_MALFORMED", None),
            (
                r#"{"$where": "1"}"#,
                "QUERY_OPERATOR_UNKNOWN",
                Some("$where"),
            ),
            (
                r#"{"a": {"$near": 1}}"#,
                "QUERY_OPERATOR_UNKNOWN",
                Some("$near"),
            ),
            (
                r#"{"a": {"$gt": 1, "b": 2}}"#,
                "QUERY_OPERATOR_UNKNOWN",
                Some("b"),
            ),
            (r#"{"a": {"$in": 1}}"#, "QUERY_OPERAND_INVALID", Some("$in")),
            (
                r#"{"a": {"$gt": true}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$gt"),
            ),
            (
                r#"{"a": {"$exists": 1}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$exists"),
            ),
            (
                r#"{"a": {"$regex": "("}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$regex"),
            ),
            (
                r#"{"a": {"$regex": "(a{1000}){1000}"}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$regex"),
            ),
            (
                r#"{"a": {"$regex": "a", "$options": "g"}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$options"),
            ),
            (
                r#"{"a": {"$options": "i"}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$options"),
            ),
            (
                r#"{"a": {"$not": 1}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$not"),
            ),
            (r#"{"$or": []}"#, "QUERY_OPERAND_INVALID", Some("$or")),
            (
                r#"{"$and": {"a": 1}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$and"),
            ),
            (r#"{"$limit": -1}"#, "QUERY_OPERAND_INVALID", Some("$limit")),
            (
                r#"{"$or": [{"$limit": 1}]}"#,
                "QUERY_OPERATOR_UNKNOWN",
                Some("$limit"),
            ),
            (
                r#"{"$sort": {"a": 2}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$sort"),
            ),
            (
                r#"{"$sort": ["a"]}"#,
                "QUERY_OPERAND_INVALID",
                Some("$sort"),
            ),
            (
                r#"{"$project": {"a": 1, "b": 0}}"#,
                "QUERY_OPERAND_INVALID",
                Some("$project"),
            ),
        ];
        for (text, reason, operator) in table {
            let fault = Query::parse(text).unwrap_err();
            assert_eq!(
                (fault.reason, fault.operator.as_deref()),
                (reason, operator),
                "{text}: {}",
                fault.message
            );
        }
    }

    #[test]
    fn bad_json_is_located() {
        let fault = Query::parse("{\"a\": 1,\n \"b\": x}").unwrap_err();
        assert_eq!(fault.offset, Some(15), "{}", fault.message);
    }
}

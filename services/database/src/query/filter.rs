//! The condition of a query, as a tree of tests of fields.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json};

use super::Fault;
use super::search::Search;
use super::value::Value;

/// Bounds what a pattern can cost: its text, and the machine that it compiles to, in bytes.
const PATTERN_LIMIT: usize = 1024;
const PATTERN_MEMORY: usize = 1 << 20;

/// Which documents match.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Field(Field, Test),
    Text(Search),
}

/// What is tested: the document's id, or a member of its data by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Id,
    Path(Vec<String>),
}

/// A test of one field; of an array it holds if it holds for the array or for one of its elements.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// Equals one of them; a missing field equals null.
    Equal(Vec<Value>),
    Compare(Sign, Value),
    Exists,
    /// Text that has a match.
    Match(Pattern),
    Kind(Vec<Kind>),
    /// An array of this many elements.
    Size(u64),
    /// An array with an element that matches; the empty path is the element itself.
    Element(Box<Filter>),
}

/// A regular expression.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(pub(super) Regex, String);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str() && self.1 == other.1
    }
}

/// How a field stands to a text or a number, both of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// The types of values, by MongoDB's names; `int` has 32 bits, and `long` those of 64 bits that are not `int`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Number,
    Int,
    Long,
    Double,
    String,
    Array,
    Object,
}

/// MongoDB's names and numbers of types.
const KINDS: &[(&str, u64, Kind)] = &[
    ("double", 1, Kind::Double),
    ("string", 2, Kind::String),
    ("object", 3, Kind::Object),
    ("array", 4, Kind::Array),
    ("bool", 8, Kind::Bool),
    ("null", 10, Kind::Null),
    ("int", 16, Kind::Int),
    ("long", 18, Kind::Long),
    ("number", u64::MAX, Kind::Number),
];

impl Filter {
    pub(super) fn parse(members: &Map<String, Json>, depth: usize) -> Result<Self, Fault> {
        let mut all = Vec::new();
        conditions(&mut all, &mut Vec::new(), members, depth)?;
        Ok(Self::all(all))
    }

    /// Finds the searches in it.
    pub(super) fn searches<'f>(&'f mut self, found: &mut Vec<&'f mut Search>) {
        match self {
            Self::All(filters) | Self::Any(filters) => {
                filters.iter_mut().for_each(|filter| filter.searches(found));
            }
            Self::Not(filter) => filter.searches(found),
            Self::Text(search) => found.push(search),
            Self::Field(..) => {}
        }
    }

    fn all(filters: Vec<Self>) -> Self {
        match <[Self; 1]>::try_from(filters) {
            Ok([one]) => one,
            Err(filters) => Self::All(filters),
        }
    }
}

impl Field {
    /// Reads a dotted name; `_id` is the document's id.
    pub(crate) fn parse(name: &str) -> Result<Self, Fault> {
        if name == "_id" {
            return Ok(Self::Id);
        }
        if name.starts_with('$') {
            return Err(Fault::unknown(name));
        }
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        // JSON paths have no escape for the quotation mark.
        let odd = |part: &String| part.is_empty() || part.contains(['"', '\\', '\0']);
        if path.iter().any(odd) {
            return Err(Fault::malformed(format!("`{name}` is not a field's name")));
        }
        Ok(Self::Path(path))
    }
}

/// Reads an object's members, each a condition, below the path of `names`.
fn conditions(
    all: &mut Vec<Filter>,
    names: &mut Vec<String>,
    members: &Map<String, Json>,
    depth: usize,
) -> Result<(), Fault> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Fault::malformed(
            "the query is nested too deeply".to_owned(),
        ));
    };
    for (name, value) in members {
        match name.as_str() {
            "$and" => all.push(Filter::All(each(name, value, depth)?)),
            "$or" => all.push(Filter::Any(each(name, value, depth)?)),
            "$nor" => all.push(Filter::Not(Box::new(Filter::Any(each(
                name, value, depth,
            )?)))),
            "$not" => {
                let Json::Object(members) = value else {
                    return Err(Fault::operand(name, "a filter"));
                };
                all.push(Filter::Not(Box::new(Filter::parse(members, depth)?)));
            }
            "$text" => all.push(Filter::Text(Search::parse(value)?)),
            _ => {
                names.push(name.clone());
                field(all, names, value, depth)?;
                names.pop();
            }
        }
    }
    Ok(())
}

fn each(operator: &str, value: &Json, depth: usize) -> Result<Vec<Filter>, Fault> {
    let filters = value.as_array().filter(|filters| !filters.is_empty());
    filters
        .and_then(|filters| {
            filters
                .iter()
                .map(Json::as_object)
                .collect::<Option<Vec<_>>>()
        })
        .ok_or_else(|| Fault::operand(operator, "an array of at least one filter"))?
        .into_iter()
        .map(|members| Filter::parse(members, depth))
        .collect()
}

fn field(
    all: &mut Vec<Filter>,
    names: &mut Vec<String>,
    value: &Json,
    depth: usize,
) -> Result<(), Fault> {
    let Json::Object(members) = value else {
        let field = Field::parse(&names.join("."))?;
        all.push(Filter::Field(field, Test::Equal(vec![Value::of(value)])));
        return Ok(());
    };
    if members.keys().any(|key| key.starts_with('$')) {
        all.push(operators(&Field::parse(&names.join("."))?, members, depth)?);
        return Ok(());
    }
    if members.is_empty() {
        return Err(Fault::malformed(format!(
            "`{}` is compared with an empty object: use `$eq`, or `$exists`",
            names.join(".")
        )));
    }
    // A nested object means the same as a dotted name; operators of filters have no place in it.
    if let Some(depth) = depth.checked_sub(1) {
        for (name, value) in members {
            names.push(name.clone());
            field(all, names, value, depth)?;
            names.pop();
        }
        return Ok(());
    }
    Err(Fault::malformed(
        "the query is nested too deeply".to_owned(),
    ))
}

/// Reads an object of operators, all of which must hold for one field.
fn operators(field: &Field, members: &Map<String, Json>, depth: usize) -> Result<Filter, Fault> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Fault::malformed(
            "the query is nested too deeply".to_owned(),
        ));
    };
    let is = |test| Filter::Field(field.clone(), test);
    let not = |filter| Filter::Not(Box::new(filter));
    let mut all = Vec::new();
    for (operator, operand) in members {
        all.push(match operator.as_str() {
            "$eq" => is(Test::Equal(vec![Value::of(operand)])),
            "$ne" => not(is(Test::Equal(vec![Value::of(operand)]))),
            "$in" => is(Test::Equal(values(operator, operand)?)),
            "$nin" => not(is(Test::Equal(values(operator, operand)?))),
            "$all" => match values(operator, operand)? {
                none if none.is_empty() => Filter::Any(Vec::new()),
                all => Filter::all(all.into_iter().map(|v| is(Test::Equal(vec![v]))).collect()),
            },
            "$gt" => is(compare(operator, Sign::Greater, operand)?),
            "$gte" => is(compare(operator, Sign::GreaterEqual, operand)?),
            "$lt" => is(compare(operator, Sign::Less, operand)?),
            "$lte" => is(compare(operator, Sign::LessEqual, operand)?),
            "$exists" => match operand {
                Json::Bool(true) => is(Test::Exists),
                Json::Bool(false) => not(is(Test::Exists)),
                _ => return Err(Fault::operand(operator, "true or false")),
            },
            "$size" => is(Test::Size(super::count(operator, operand)?)),
            "$type" => is(Test::Kind(kinds(operator, operand)?)),
            "$elemMatch" => is(Test::Element(Box::new(element(operator, operand, depth)?))),
            "$regex" => is(matches(operand, members.get("$options"))?),
            "$options" if members.contains_key("$regex") => continue,
            "$options" => return Err(Fault::operand(operator, "a `$regex` beside it")),
            "$not" => match operand {
                Json::Object(members) if !members.is_empty() => {
                    not(operators(field, members, depth)?)
                }
                _ => return Err(Fault::operand(operator, "an object of operators")),
            },
            "$text" => {
                return Err(Fault::operand(
                    operator,
                    "no field: it belongs to the top level of the query",
                ));
            }
            _ => return Err(Fault::unknown(operator)),
        });
    }
    Ok(Filter::all(all))
}

fn values(operator: &str, operand: &Json) -> Result<Vec<Value>, Fault> {
    let operands = operand.as_array();
    let operands = operands.ok_or_else(|| Fault::operand(operator, "an array of values"))?;
    Ok(operands.iter().map(Value::of).collect())
}

fn compare(operator: &str, sign: Sign, operand: &Json) -> Result<Test, Fault> {
    match Value::of(operand) {
        value @ (Value::Integer(_) | Value::Real(_) | Value::Text(_)) => {
            Ok(Test::Compare(sign, value))
        }
        _ => Err(Fault::operand(operator, "a number or a string")),
    }
}

/// What an element of an array must match: operators, or a filter of its members.
fn element(operator: &str, operand: &Json, depth: usize) -> Result<Filter, Fault> {
    const OF_FILTERS: [&str; 3] = ["$and", "$or", "$nor"];
    let members = operand
        .as_object()
        .ok_or_else(|| Fault::operand(operator, "a filter, or an object of operators"))?;
    let is_operator = |name: &String| name.starts_with('$') && !OF_FILTERS.contains(&&**name);
    if members.keys().any(is_operator) {
        return operators(&Field::Path(Vec::new()), members, depth);
    }
    let object = Filter::Field(Field::Path(Vec::new()), Test::Kind(vec![Kind::Object]));
    let mut filter = Filter::parse(members, depth)?;
    let mut searches = Vec::new();
    filter.searches(&mut searches);
    match searches.is_empty() {
        true => Ok(Filter::All(vec![object, filter])),
        false => Err(Fault::operand(operator, "a filter without `$text`")),
    }
}

fn kinds(operator: &str, operand: &Json) -> Result<Vec<Kind>, Fault> {
    let one = |json: &Json| {
        let kind = KINDS.iter().find(|(name, number, _)| {
            json.as_str() == Some(name) || json.as_u64() == Some(*number)
        });
        kind.map(|(_, _, kind)| *kind)
    };
    let kinds = match operand {
        Json::Array(some) if !some.is_empty() => some.iter().map(one).collect(),
        operand => one(operand).map(|kind| vec![kind]),
    };
    kinds.ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|(name, ..)| format!("`{name}`")).collect();
        Fault::operand(operator, &format!("one or more of {}", names.join(", ")))
    })
}

/// Compiles a pattern; one that would be costly is refused.
fn matches(operand: &Json, options: Option<&Json>) -> Result<Test, Fault> {
    let options = match options {
        None => "",
        Some(options) => options
            .as_str()
            .filter(|options| options.chars().all(|option| "imsx".contains(option)))
            .ok_or_else(|| Fault::operand("$options", "some of the letters `imsx`"))?,
    };
    let pattern = operand
        .as_str()
        .filter(|pattern| pattern.len() <= PATTERN_LIMIT && !pattern.contains('\0'))
        .ok_or_else(|| {
            let expected = format!("a string of at most {PATTERN_LIMIT} bytes");
            Fault::operand("$regex", &expected)
        })?;
    let regex = RegexBuilder::new(pattern)
        .case_insensitive(options.contains('i'))
        .multi_line(options.contains('m'))
        .dot_matches_new_line(options.contains('s'))
        .ignore_whitespace(options.contains('x'))
        .size_limit(PATTERN_MEMORY)
        .build()
        .map_err(|error| Fault::operand("$regex", &format!("a regular expression: {error}")))?;
    Ok(Test::Match(Pattern(regex, options.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::Query;
    use super::*;

    fn filter(text: &str) -> Filter {
        Query::parse(text).unwrap().filter
    }

    #[test]
    fn ways_of_saying_the_same() {
        let table = [
            (r#"{"a.b": 1}"#, r#"{"a": {"b": 1}}"#),
            (r#"{"a.b": {"$eq": 1}}"#, r#"{"a": {"b": {"$in": [1]}}}"#),
            (r#"{"a": {"$ne": 1}}"#, r#"{"a": {"$nin": [1]}}"#),
            (
                r#"{"a": {"$exists": false}}"#,
                r#"{"a": {"$not": {"$exists": true}}}"#,
            ),
        ];
        for (one, other) in table {
            assert_eq!(filter(one), filter(other), "{one} {other}");
        }
    }

    #[test]
    fn operators_of_filters_nest() {
        let id = |value| Filter::Field(Field::Id, Test::Equal(vec![Value::Integer(value)]));
        assert_eq!(
            filter(r#"{"$or": [{"_id": 1}, {"$not": {"$and": [{"_id": 2}]}}]}"#),
            Filter::Any(vec![id(1), Filter::Not(Box::new(Filter::All(vec![id(2)])))])
        );
    }
}

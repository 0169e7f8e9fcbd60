//! The condition of a query, as a tree of tests of fields.

use regex::RegexBuilder;
use serde_json::{Map, Value as Json};

use super::Fault;

/// Bounds what a pattern can cost: its text, and the machine that it compiles to, in bytes.
const PATTERN_LIMIT: usize = 1024;
const PATTERN_MEMORY: usize = 1 << 20;
const SCALAR: &str = "a string, a number, a boolean or null";

/// Which documents match.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Field(Field, Test),
}

/// What is tested: the document's id, or a member of its data by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    Id,
    Path(Vec<String>),
}

/// A test of one field; of an array it holds if it holds for one of the elements.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// Equals one of them; a missing field equals null.
    Equal(Vec<Scalar>),
    Compare(Sign, Scalar),
    Exists,
    /// Text that has a match.
    Match {
        pattern: String,
        ignore_case: bool,
    },
}

/// How a field stands to a text or a number, both of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// What a field can be compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(String),
}

impl Filter {
    pub(super) fn parse(members: &Map<String, Json>, depth: usize) -> Result<Self, Fault> {
        let mut all = Vec::new();
        conditions(&mut all, &mut Vec::new(), members, depth)?;
        Ok(Self::all(all))
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

impl Scalar {
    fn parse(value: &Json) -> Option<Self> {
        match value {
            Json::Null => Some(Self::Null),
            Json::Bool(value) => Some(Self::Bool(*value)),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Some(Self::Integer(integer)),
                None => number.as_f64().map(Self::Real),
            },
            Json::String(text) => Some(Self::Text(text.clone())),
            Json::Array(_) | Json::Object(_) => None,
        }
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
            "$not" => {
                let Json::Object(members) = value else {
                    return Err(Fault::operand(name, "a filter"));
                };
                all.push(Filter::Not(Box::new(Filter::parse(members, depth)?)));
            }
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
        .ok_or_else(|| Fault::operand(operator, "an array of filters, one at least"))?
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
        let Some(scalar) = Scalar::parse(value) else {
            return Err(Fault::malformed(format!(
                "`{}` is compared with an array: use {SCALAR}, or `$in` for one of several",
                names.join(".")
            )));
        };
        all.push(Filter::Field(field, Test::Equal(vec![scalar])));
        return Ok(());
    };
    if members.keys().any(|key| key.starts_with('$')) {
        all.push(operators(Field::parse(&names.join("."))?, members)?);
        return Ok(());
    }
    if members.is_empty() {
        return Err(Fault::malformed(format!(
            "`{}` is compared with an empty object: use `$exists`, or {SCALAR}",
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
fn operators(field: Field, members: &Map<String, Json>) -> Result<Filter, Fault> {
    let mut all = Vec::new();
    for (operator, operand) in members {
        let is = |test| Filter::Field(field.clone(), test);
        let not = |filter| Filter::Not(Box::new(filter));
        all.push(match operator.as_str() {
            "$eq" => is(Test::Equal(vec![scalar(operator, operand)?])),
            "$ne" => not(is(Test::Equal(vec![scalar(operator, operand)?]))),
            "$in" => is(Test::Equal(scalars(operator, operand)?)),
            "$nin" => not(is(Test::Equal(scalars(operator, operand)?))),
            "$gt" => is(compare(operator, Sign::Greater, operand)?),
            "$gte" => is(compare(operator, Sign::GreaterEqual, operand)?),
            "$lt" => is(compare(operator, Sign::Less, operand)?),
            "$lte" => is(compare(operator, Sign::LessEqual, operand)?),
            "$exists" => match operand {
                Json::Bool(true) => is(Test::Exists),
                Json::Bool(false) => not(is(Test::Exists)),
                _ => return Err(Fault::operand(operator, "true or false")),
            },
            "$regex" => is(matches(operand, members.get("$options"))?),
            "$options" if members.contains_key("$regex") => continue,
            "$options" => return Err(Fault::operand(operator, "a `$regex` beside it")),
            "$not" => match operand {
                Json::Object(members) if !members.is_empty() => {
                    not(operators(field.clone(), members)?)
                }
                _ => return Err(Fault::operand(operator, "an object of operators")),
            },
            _ => return Err(Fault::unknown(operator)),
        });
    }
    Ok(Filter::all(all))
}

fn scalar(operator: &str, operand: &Json) -> Result<Scalar, Fault> {
    Scalar::parse(operand).ok_or_else(|| Fault::operand(operator, SCALAR))
}

fn scalars(operator: &str, operand: &Json) -> Result<Vec<Scalar>, Fault> {
    operand
        .as_array()
        .and_then(|operands| operands.iter().map(Scalar::parse).collect())
        .ok_or_else(|| Fault::operand(operator, "an array of strings, numbers, booleans and nulls"))
}

fn compare(operator: &str, sign: Sign, operand: &Json) -> Result<Test, Fault> {
    match Scalar::parse(operand) {
        Some(scalar @ (Scalar::Integer(_) | Scalar::Real(_) | Scalar::Text(_))) => {
            Ok(Test::Compare(sign, scalar))
        }
        _ => Err(Fault::operand(operator, "a number or a string")),
    }
}

/// Compiles the pattern once to refuse what would be costly or is none; the store compiles it for itself.
fn matches(operand: &Json, options: Option<&Json>) -> Result<Test, Fault> {
    let ignore_case = match options.map(Json::as_str) {
        None | Some(Some("")) => false,
        Some(Some("i")) => true,
        Some(_) => return Err(Fault::operand("$options", "`i`, to ignore case")),
    };
    let pattern = operand
        .as_str()
        .filter(|pattern| pattern.len() <= PATTERN_LIMIT && !pattern.contains('\0'))
        .ok_or_else(|| {
            let expected = format!("a string of at most {PATTERN_LIMIT} bytes");
            Fault::operand("$regex", &expected)
        })?;
    RegexBuilder::new(pattern)
        .size_limit(PATTERN_MEMORY)
        .build()
        .map_err(|error| Fault::operand("$regex", &format!("a regular expression: {error}")))?;
    Ok(Test::Match {
        pattern: pattern.to_owned(),
        ignore_case,
    })
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
        let id = |value| Filter::Field(Field::Id, Test::Equal(vec![Scalar::Integer(value)]));
        assert_eq!(
            filter(r#"{"$or": [{"_id": 1}, {"$not": {"$and": [{"_id": 2}]}}]}"#),
            Filter::Any(vec![id(1), Filter::Not(Box::new(Filter::All(vec![id(2)])))])
        );
    }
}

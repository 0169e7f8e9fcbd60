//! What a query returns instead of documents: their number, the distinct values of a field, or figures of groups.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::value::Value;
use super::{Fault, Field};

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Summary {
    /// The member of the result that has the number.
    Count(String),
    Distinct(Field),
    Group(Key, Vec<(String, Figure)>),
}

/// What the documents of a group have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Operand(Operand),
    Members(Vec<(String, Operand)>),
}

/// A field of each document, or the same value for all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    Field(Field),
    Constant(Value),
}

/// A figure of a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Figure {
    Sum(Operand),
    Average(Operand),
    Least(Operand),
    Greatest(Operand),
}

/// The groups so far, in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Vec<u8>, (Value, Vec<Total>)>);

#[derive(Debug, Clone, Default)]
struct Total {
    integers: i128,
    reals: Option<f64>,
    numbers: u64,
    value: Option<Value>,
}

impl Summary {
    /// Takes the member of a query that asks for a summary, if there is one.
    pub(super) fn take(members: &mut Map<String, Json>) -> Result<Option<Self>, Fault> {
        let mut summaries = Vec::new();
        if let Some(operand) = members.remove("$count") {
            summaries.push(match &operand {
                Json::Bool(true) => Self::Count("count".to_owned()),
                Json::String(name) if !name.is_empty() => Self::Count(name.clone()),
                _ => return Err(Fault::operand("$count", "true, or a name for the number")),
            });
        }
        if let Some(operand) = members.remove("$distinct") {
            let name = operand.as_str();
            let name = name.ok_or_else(|| Fault::operand("$distinct", "the name of a field"))?;
            summaries.push(Self::Distinct(Field::parse(name)?));
        }
        if let Some(operand) = members.remove("$group") {
            summaries.push(group(&operand)?);
        }
        if summaries.len() > 1 {
            let expected = "no other summary in the same query";
            return Err(Fault::operand("$group", expected));
        }
        Ok(summaries.pop())
    }

    /// Adds the names of the members that it reads.
    pub(crate) fn wanted(&self, names: &mut BTreeSet<String>) {
        let operands: Vec<&Operand> = match self {
            Self::Count(_) => Vec::new(),
            Self::Distinct(field) => {
                names.extend(field.member().map(str::to_owned));
                return;
            }
            Self::Group(key, figures) => {
                let figures = figures.iter().map(|(_, figure)| figure.operand());
                key.operands().into_iter().chain(figures).collect()
            }
        };
        for operand in operands {
            if let Operand::Field(field) = operand {
                names.extend(field.member().map(str::to_owned));
            }
        }
    }
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a document.
    pub(crate) fn add(&mut self, summary: &Summary, id: &str, document: &Value) {
        match summary {
            Summary::Count(_) => {}
            Summary::Distinct(field) => {
                for value in field.values(id, document) {
                    match value {
                        Value::Array(elements) => elements.into_iter().for_each(|element| {
                            self.group(element, 0);
                        }),
                        value => {
                            self.group(value, 0);
                        }
                    }
                }
            }
            Summary::Group(key, figures) => {
                let totals = self.group(key.of(id, document), figures.len());
                for ((_, figure), total) in figures.iter().zip(totals) {
                    figure.add(total, figure.operand().of(id, document));
                }
            }
        }
    }

    fn group(&mut self, value: Value, figures: usize) -> &mut Vec<Total> {
        let new = |value| (value, vec![Total::default(); figures]);
        let key = value.key();
        &mut self.0.entry(key).or_insert_with(|| new(value)).1
    }

    /// The results as JSON.
    pub(crate) fn results(self, summary: &Summary) -> Vec<String> {
        let groups = self.0.into_values().map(|(value, totals)| match summary {
            Summary::Count(_) | Summary::Distinct(_) => {
                serde_json::json!({"value": value.json()}).to_string()
            }
            Summary::Group(_, figures) => {
                let mut members = Map::new();
                members.insert("_id".to_owned(), value.json());
                for ((name, figure), total) in figures.iter().zip(totals) {
                    members.insert(name.clone(), figure.result(total));
                }
                Json::Object(members).to_string()
            }
        });
        groups.collect()
    }
}

/// The result of a count.
pub(crate) fn count(name: &str, number: u64) -> String {
    Json::Object(Map::from_iter([(name.to_owned(), number.into())])).to_string()
}

impl Key {
    fn operands(&self) -> Vec<&Operand> {
        match self {
            Self::Operand(operand) => vec![operand],
            Self::Members(members) => members.iter().map(|(_, operand)| operand).collect(),
        }
    }

    fn of(&self, id: &str, document: &Value) -> Value {
        match self {
            Self::Operand(operand) => operand.of(id, document),
            Self::Members(members) => {
                let members = members.iter();
                Value::Object(
                    members
                        .map(|(name, operand)| (name.clone(), operand.of(id, document)))
                        .collect(),
                )
            }
        }
    }
}

impl Operand {
    fn parse(operator: &str, json: &Json) -> Result<Self, Fault> {
        match json {
            Json::String(name) => match name.strip_prefix('$') {
                Some(name) => Ok(Self::Field(Field::parse(name)?)),
                None => Err(Fault::operand(operator, "a field as `$name`, or a number")),
            },
            Json::Null | Json::Number(_) => Ok(Self::Constant(Value::of(json))),
            _ => Err(Fault::operand(operator, "a field as `$name`, or a number")),
        }
    }

    fn of(&self, id: &str, document: &Value) -> Value {
        match self {
            Self::Field(field) => field.of(id, document),
            Self::Constant(value) => value.clone(),
        }
    }
}

impl Figure {
    fn operand(&self) -> &Operand {
        match self {
            Self::Sum(operand)
            | Self::Average(operand)
            | Self::Least(operand)
            | Self::Greatest(operand) => operand,
        }
    }

    fn add(&self, total: &mut Total, value: Value) {
        match (self, value) {
            (Self::Sum(_) | Self::Average(_), Value::Integer(value)) => {
                total.integers += value;
                total.numbers += 1;
            }
            (Self::Sum(_) | Self::Average(_), Value::Real(value)) => {
                *total.reals.get_or_insert_default() += value;
                total.numbers += 1;
            }
            (Self::Sum(_) | Self::Average(_), _) | (_, Value::Null) => {}
            (Self::Least(_), value) => match &mut total.value {
                Some(least) if *least <= value => {}
                least => *least = Some(value),
            },
            (Self::Greatest(_), value) => match &mut total.value {
                Some(greatest) if *greatest >= value => {}
                greatest => *greatest = Some(value),
            },
        }
    }

    fn result(&self, total: Total) -> Json {
        let sum = |reals: f64| total.integers as f64 + reals;
        match self {
            Self::Sum(_) => match total.reals {
                Some(reals) => sum(reals).into(),
                None => Value::Integer(total.integers).json(),
            },
            Self::Average(_) if total.numbers == 0 => Json::Null,
            Self::Average(_) => {
                (sum(total.reals.unwrap_or_default()) / total.numbers as f64).into()
            }
            Self::Least(_) | Self::Greatest(_) => total.value.map_or(Json::Null, |v| v.json()),
        }
    }
}

/// Reads `{"_id": "$label", "documents": {"$sum": 1}, "oldest": {"$max": "$age"}}`.
fn group(operand: &Json) -> Result<Summary, Fault> {
    let expected =
        "an object with `_id` and figures, such as `{\"_id\": \"$label\", \"n\": {\"$sum\": 1}}`";
    let fault = || Fault::operand("$group", expected);
    let members = operand.as_object().ok_or_else(fault)?;
    let key = match members.get("_id").ok_or_else(fault)? {
        Json::Object(members) => {
            let members = members.iter();
            let members =
                members.map(|(name, json)| Ok((name.clone(), Operand::parse("_id", json)?)));
            Key::Members(members.collect::<Result<_, Fault>>()?)
        }
        json => Key::Operand(Operand::parse("_id", json)?),
    };
    let mut figures = Vec::new();
    for (name, json) in members.iter().filter(|(name, _)| *name != "_id") {
        let figure = json.as_object().filter(|figure| figure.len() == 1);
        let (operator, json) = figure
            .and_then(|figure| figure.iter().next())
            .ok_or_else(fault)?;
        let operand = || Operand::parse(operator, json);
        figures.push((
            name.clone(),
            match operator.as_str() {
                "$sum" => Figure::Sum(operand()?),
                "$avg" => Figure::Average(operand()?),
                "$min" => Figure::Least(operand()?),
                "$max" => Figure::Greatest(operand()?),
                "$count" => Figure::Sum(Operand::Constant(Value::Integer(1))),
                _ => return Err(Fault::unknown(operator)),
            },
        ));
    }
    Ok(Summary::Group(key, figures))
}

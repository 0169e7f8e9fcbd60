//! Values of documents, and their one order: null, numbers, texts, objects, arrays, false and true. A missing field is
//! equal to null. Texts are in the order of their code points, numbers in that of their values; arrays are
//! compared element by element, and objects member by member in the order of the members' names.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Any JSON value. An object has each name once: of a name that comes twice, the last value counts.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Real(f64),
    Text(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// Reads those members of a document that are named `wanted`, and skips the others.
    pub(crate) fn members(data: &str, wanted: &BTreeSet<String>) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_str(data);
        let members = json.deserialize_map(Members(Some(wanted)))?;
        json.end()?;
        Ok(members)
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// Finds the values at a path; how it leads through arrays is described in [`super::matching`].
    pub(super) fn reach<'v>(&'v self, path: &[String], found: &mut Vec<&'v Self>) {
        let Some((first, rest)) = path.split_first() else {
            found.push(self);
            return;
        };
        match self {
            Self::Object(_) => {
                if let Some(member) = self.member(first) {
                    member.reach(rest, found);
                }
            }
            Self::Array(elements) => {
                let place = first.parse::<usize>().ok();
                if let Some(element) = place.and_then(|place| elements.get(place)) {
                    element.reach(rest, found);
                }
                for element in elements {
                    element.reach(path, found);
                }
            }
            _ => {}
        }
    }

    /// Reads an operand.
    pub(crate) fn of(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => match number.as_i128() {
                Some(integer) => Self::Integer(integer),
                None => Self::Real(number.as_f64().unwrap_or_default()),
            },
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(elements) => {
                Self::Array(elements.iter().map(Self::of).collect())
            }
            serde_json::Value::Object(members) => {
                let members = members.iter();
                Self::Object(
                    members
                        .map(|(name, v)| (name.clone(), Self::of(v)))
                        .collect(),
                )
            }
        }
    }

    /// The value as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Integer(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => value.into(),
                (_, Ok(value)) => value.into(),
                _ => (*value as f64).into(),
            },
            Self::Real(value) => (*value).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Array(elements) => elements.iter().map(Self::json).collect(),
            Self::Object(members) => {
                let members = members.iter();
                members.map(|(name, v)| (name.clone(), v.json())).collect()
            }
        }
    }

    /// Bytes whose order is that of the values.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        self.write_key(&mut key);
        key
    }

    pub(crate) fn write_key(&self, key: &mut Vec<u8>) {
        key.push(self.rank());
        match self {
            Self::Null => {}
            Self::Bool(value) => key.push((*value).into()),
            Self::Integer(value) => number(key, *value as f64, value - (*value as f64) as i128),
            Self::Real(value) => number(key, *value, 0),
            Self::Text(text) => text_key(key, text),
            Self::Array(elements) => {
                for element in elements {
                    element.write_key(key);
                }
                key.push(0);
            }
            Self::Object(members) => {
                for (name, value) in members {
                    key.push(1);
                    text_key(key, name);
                    value.write_key(key);
                }
                key.push(0);
            }
        }
    }

    /// The place of the value's type in the order; it is never 0, which ends lists in keys.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 2,
            Self::Text(_) => 3,
            Self::Object(_) => 4,
            Self::Array(_) => 5,
            Self::Bool(_) => 6,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            (Self::Integer(one), Self::Integer(other)) => one.cmp(other),
            _ if self.rank() != other.rank() => self.rank().cmp(&other.rank()),
            _ => self.key().cmp(&other.key()),
        }
    }
}

/// The nearest number of 64 bits, and how much the value is above it.
fn number(key: &mut Vec<u8>, nearest: f64, above: i128) {
    // The two zeros are equal.
    let bits = (nearest + 0.0).to_bits();
    let ordered = match bits >> 63 {
        0 => bits | 1 << 63,
        _ => !bits,
    };
    key.extend(ordered.to_be_bytes());
    key.extend((above + (1 << 126)).to_be_bytes());
}

fn text_key(key: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        key.push(byte);
        // A zero byte is not the end.
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 0]);
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Members(None))
    }
}

/// Reads a value; of an object only the members that are named, if names are given.
struct Members<'a>(Option<&'a BTreeSet<String>>);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Real(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.0.is_some_and(|wanted| !wanted.contains(&*name)) {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            members.insert(name.into_owned(), map.next_value()?);
        }
        Ok(Value::Object(members))
    }
}

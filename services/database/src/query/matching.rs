//! Whether a document matches a filter. The answer depends on the document's text only, not on an engine.
//!
//! A path leads through objects by their members, and through arrays by the place of an element (`a.0`) as well as through
//! each element that is an object or an array. A test holds if it does for a value that the path reaches or, where that is
//! an array, for one of its elements.

use std::collections::BTreeSet;

use super::filter::{Field, Filter, Kind, Sign, Test};
use super::value::Value;

impl Filter {
    /// Whether a document with this id matches; `document` has the members that are [`Self::wanted`]. An element of an
    /// array has no id: there, `_id` is a member.
    pub(crate) fn matches(&self, id: &str, document: &Value) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(id, document)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(id, document)),
            Self::Not(filter) => !filter.matches(id, document),
            Self::Field(Field::Id, test) if id.is_empty() => {
                test.holds(&document.member("_id").into_iter().collect::<Vec<_>>())
            }
            Self::Field(Field::Id, test) => test.holds(&[&Value::Text(id.to_owned())]),
            Self::Field(Field::Path(path), test) => {
                let mut found = Vec::new();
                document.reach(path, &mut found);
                test.holds(&found)
            }
            Self::Text(search) => search.matches(document),
        }
    }

    /// Adds the names of the members that the filter reads.
    pub(crate) fn wanted(&self, names: &mut BTreeSet<String>) {
        match self {
            Self::All(filters) | Self::Any(filters) => {
                filters.iter().for_each(|filter| filter.wanted(names));
            }
            Self::Not(filter) => filter.wanted(names),
            Self::Field(field, _) => names.extend(field.member().map(str::to_owned)),
            Self::Text(search) => {
                let fields = search.fields().iter();
                names.extend(fields.filter_map(|path| path.first().cloned()));
            }
        }
    }

    /// Whether every document matches.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::All(filters) if filters.is_empty())
    }

    /// Filters that all documents that match satisfy.
    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::All(filters) => filters,
            filter => std::slice::from_ref(filter),
        }
    }

    /// How many tests it has.
    pub(crate) fn tests(&self) -> usize {
        match self {
            Self::All(filters) | Self::Any(filters) => filters.iter().map(Self::tests).sum(),
            Self::Not(filter) => filter.tests(),
            Self::Field(..) | Self::Text(_) => 1,
        }
    }

    /// Whether it reads the documents' ids only, and the engine knows which match.
    pub(crate) fn is_of_ids(&self) -> bool {
        self.parts().iter().all(|part| {
            let Self::Field(Field::Id, test) = part else {
                return false;
            };
            match test {
                Test::Equal(_) => true,
                Test::Compare(_, Value::Text(text)) => !text.contains('\0'),
                _ => false,
            }
        })
    }
}

impl Field {
    /// The member of the document that it is in.
    pub(crate) fn member(&self) -> Option<&str> {
        match self {
            Self::Id => None,
            Self::Path(path) => path.first().map(String::as_str),
        }
    }

    /// The value by which documents are sorted: the first that is reached, or null.
    pub(crate) fn of(&self, id: &str, document: &Value) -> Value {
        let mut values = self.values(id, document).into_iter();
        values.next().unwrap_or(Value::Null)
    }

    /// All values that are reached.
    pub(crate) fn values(&self, id: &str, document: &Value) -> Vec<Value> {
        match self {
            Self::Id => vec![Value::Text(id.to_owned())],
            Self::Path(path) => {
                let mut found = Vec::new();
                document.reach(path, &mut found);
                found.into_iter().cloned().collect()
            }
        }
    }
}

impl Test {
    fn holds(&self, found: &[&Value]) -> bool {
        match self {
            Self::Exists => !found.is_empty(),
            Self::Equal(values) if found.is_empty() => values.contains(&Value::Null),
            Self::Size(size) => found
                .iter()
                .any(|value| matches!(value, Value::Array(some) if some.len() as u64 == *size)),
            Self::Element(filter) => found.iter().any(|value| {
                matches!(value, Value::Array(some)
                    if some.iter().any(|element| filter.matches("", element)))
            }),
            _ => found.iter().any(|value| {
                self.of(value)
                    || matches!(value, Value::Array(elements)
                        if elements.iter().any(|element| self.of(element)))
            }),
        }
    }

    /// Whether it holds for one value.
    fn of(&self, value: &Value) -> bool {
        match self {
            Self::Equal(values) => values.contains(value),
            Self::Compare(sign, other) => {
                value.rank() == other.rank()
                    && match sign {
                        Sign::Greater => value > other,
                        Sign::GreaterEqual => value >= other,
                        Sign::Less => value < other,
                        Sign::LessEqual => value <= other,
                    }
            }
            Self::Match(pattern) => {
                matches!(value, Value::Text(text) if pattern.0.is_match(text))
            }
            Self::Kind(kinds) => kinds.iter().any(|kind| kind.is_of(value)),
            Self::Exists | Self::Size(_) | Self::Element(_) => false,
        }
    }
}

impl Kind {
    fn is_of(self, value: &Value) -> bool {
        match value {
            Value::Null => self == Self::Null,
            Value::Bool(_) => self == Self::Bool,
            Value::Integer(value) => match self {
                Self::Number => true,
                Self::Int => i32::try_from(*value).is_ok(),
                Self::Long => i32::try_from(*value).is_err() && i64::try_from(*value).is_ok(),
                Self::Double => i64::try_from(*value).is_err(),
                _ => false,
            },
            Value::Real(_) => matches!(self, Self::Number | Self::Double),
            Value::Text(_) => self == Self::String,
            Value::Array(_) => self == Self::Array,
            Value::Object(_) => self == Self::Object,
        }
    }
}

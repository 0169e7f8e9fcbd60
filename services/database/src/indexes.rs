//! The declared indexes: a value, read from the configuration. It touches no store; [`crate::store`] applies it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The fields of each collection that have an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(BTreeMap<String, BTreeSet<Vec<String>>>);

impl Indexes {
    /// Whether a field of a collection has one.
    pub(crate) fn has(&self, collection: &str, path: &[String]) -> bool {
        self.0
            .get(collection)
            .is_some_and(|paths| paths.contains(path))
    }

    /// Whether any field of a collection has one.
    pub(crate) fn any(&self, collection: &str) -> bool {
        self.0.contains_key(collection)
    }

    /// Each collection with its fields.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<Vec<String>>)> {
        let collections = self.0.iter();
        collections.map(|(collection, paths)| (collection.as_str(), paths))
    }
}

/// Reads `COLLECTION:FIELD[,FIELD]...`, several separated by `;`. The names become part of SQL text.
impl FromStr for Indexes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut indexes = BTreeMap::<_, BTreeSet<_>>::new();
        for declaration in text
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let fault = |what: &str| Err(format!("has `{declaration}`: {what}"));
            let Some((collection, fields)) = declaration.split_once(':') else {
                return fault("write it as COLLECTION:FIELD,FIELD");
            };
            if !valid_collection(collection) {
                return fault("the collection's name has 1 to 64 letters, digits, `_` and `-`");
            }
            for field in fields.split(',').map(str::trim) {
                let plain = |part: &str| {
                    !part.is_empty()
                        && part
                            .chars()
                            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                };
                if !field.split('.').all(plain) {
                    return fault(&format!(
                        "`{field}` is not a field's path: use letters, digits, `_` and `-`, with dots between"
                    ));
                }
                indexes
                    .entry(collection.to_owned())
                    .or_default()
                    .insert(field.split('.').map(str::to_owned).collect());
            }
        }
        Ok(Self(indexes))
    }
}

/// Whether a text can name a collection: 1 to 64 letters, digits, `_` and `-`.
pub(crate) fn valid_collection(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_or_refused() {
        let indexes: Indexes = "documents:label, author.age; other:x".parse().unwrap();
        let age = ["author".to_owned(), "age".to_owned()];
        assert!(indexes.has("documents", &age) && indexes.any("other"));
        assert!(!indexes.has("other", &age) && !indexes.any("none"));
        for wrong in [
            "label", "a b:x", "c:", "c:a..b", "c:a'b", "c:a\"", "c:$x", "c:é",
        ] {
            assert!(wrong.parse::<Indexes>().is_err(), "{wrong}");
        }
    }
}

//! The declared indexes: a value, read from the configuration. It touches no store; [`crate::store`] applies it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::text::TextIndex;

/// The fields of each collection that have an index, and the text index that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes {
    fields: BTreeMap<String, BTreeSet<Vec<String>>>,
    texts: BTreeMap<String, TextIndex>,
}

impl Indexes {
    /// Whether a field of a collection has one.
    pub(crate) fn has(&self, collection: &str, path: &[String]) -> bool {
        self.fields
            .get(collection)
            .is_some_and(|paths| paths.contains(path))
    }

    /// Whether a collection has any.
    pub(crate) fn any(&self, collection: &str) -> bool {
        self.fields.contains_key(collection) || self.texts.contains_key(collection)
    }

    /// The text index of a collection.
    pub(crate) fn text(&self, collection: &str) -> Option<&TextIndex> {
        self.texts.get(collection)
    }

    /// Each collection with its text index.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &TextIndex)> {
        let texts = self.texts.iter();
        texts.map(|(collection, index)| (collection.as_str(), index))
    }

    /// Each collection with its fields.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<Vec<String>>)> {
        let collections = self.fields.iter();
        collections.map(|(collection, paths)| (collection.as_str(), paths))
    }
}

/// Reads `COLLECTION:FIELD[,FIELD]...`, several separated by `;`; `FIELD:text` is a field of the collection's text index.
/// The names become part of SQL text.
impl FromStr for Indexes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = BTreeMap::<_, BTreeSet<_>>::new();
        let mut texts = BTreeMap::<_, BTreeSet<_>>::new();
        for declaration in text
            .split(';')
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let fault = |what: &str| Err(format!("has `{declaration}`: {what}"));
            let Some((collection, names)) = declaration.split_once(':') else {
                return fault("write it as COLLECTION:FIELD,FIELD");
            };
            if !valid_collection(collection) {
                return fault("the collection's name has 1 to 64 letters, digits, `_` and `-`");
            }
            for name in names.split(',').map(str::trim) {
                let (field, list) = match name.split_once(':') {
                    None => (name, &mut fields),
                    Some((field, "text")) => (field, &mut texts),
                    Some((_, kind)) => {
                        return fault(&format!(
                            "`{kind}` is not a kind of index: use `text`, or none"
                        ));
                    }
                };
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
                list.entry(collection.to_owned())
                    .or_default()
                    .insert(field.split('.').map(str::to_owned).collect());
            }
        }
        let text = |(collection, fields): (String, _)| {
            let index = TextIndex::new(&collection, fields);
            (collection, index)
        };
        let texts = texts.into_iter().map(text).collect();
        Ok(Self { fields, texts })
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
        let indexes: Indexes = "c:x,a.b:text,title:text".parse().unwrap();
        let index = indexes.text("c").unwrap();
        assert_eq!(index.fields.len(), 2);
        assert!(indexes.any("c") && indexes.text("other").is_none());
        for wrong in [
            "c:a:word", "c::text", "label", "a b:x", "c:", "c:a..b", "c:a'b", "c:a\"", "c:$x",
            "c:é",
        ] {
            assert!(wrong.parse::<Indexes>().is_err(), "{wrong}");
        }
    }
}

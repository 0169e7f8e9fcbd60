//! Reads typed values from the tree, and collects faults.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::{Fault, MOST_FOUND, MOST_SHOWN, Position};
use super::keys::Object;
use super::tree::{Key, Node, Value};
use super::units;
use crate::similar::{listed, meant};
use crate::spec::{Digest, Name, Size};

/// Collects faults, so that reading continues after each.
#[derive(Default)]
pub(crate) struct Reader {
    faults: RefCell<Vec<Fault>>,
}

/// A mapping's known keys.
pub(crate) struct Fields<'a> {
    pub at: Position,
    entries: BTreeMap<&'a str, (&'a Key, &'a Node)>,
}

impl<'a> Fields<'a> {
    /// Returns a key's value. A key without a value counts as absent.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries
            .get(key)
            .map(|(_, node)| *node)
            .filter(|node| !node.is_null())
    }

    /// Returns the position of a key, or of the mapping if the key is absent.
    pub(crate) fn at(&self, key: &str) -> Position {
        self.entries.get(key).map_or(self.at, |(key, _)| key.at)
    }
}

impl Reader {
    pub(crate) fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        let mut faults = self.faults.borrow_mut();
        if faults.len() < MOST_FOUND {
            faults.push(fault);
        }
    }

    /// Returns a hint for an unknown word. Only the faults that are shown have one: comparing takes time.
    pub(crate) fn meant(&self, word: &str, known: &[&str]) -> String {
        if self.faults.borrow().len() < MOST_SHOWN {
            meant(word, known)
        } else {
            listed(known)
        }
    }

    /// Reads a mapping with fixed keys: unknown, duplicate and missing keys are faults.
    pub(crate) fn object<'a>(
        &self,
        node: &'a Node,
        at: Position,
        object: &Object,
    ) -> Option<Fields<'a>> {
        let entries = self.entries(node, object.title)?;
        let known: Vec<&str> = object.keys.iter().map(|key| key.name).collect();
        let mut fields = Fields {
            at,
            entries: BTreeMap::new(),
        };
        for (key, value) in entries {
            if known.contains(&key.name.as_str()) {
                fields.entries.entry(&key.name).or_insert((key, value));
            } else {
                let fault = Fault::new(
                    key.at,
                    format!("unknown key `{}` in {}", key.name, object.title),
                );
                self.fault(fault.help(self.meant(&key.name, &known)));
            }
        }
        for key in object.keys.iter().filter(|key| key.required) {
            if fields.get(key.name).is_none() {
                self.fault(
                    Fault::new(
                        at,
                        format!("missing key `{}` in {}", key.name, object.title),
                    )
                    .help(key.about),
                );
            }
        }
        Some(fields)
    }

    /// Returns the entries of a mapping with user-defined names. Duplicates are faults, but are returned so that their
    /// values are checked, too.
    pub(crate) fn entries<'a>(
        &self,
        node: &'a Node,
        what: &str,
    ) -> Option<Vec<(&'a Key, &'a Node)>> {
        let Value::Map(entries) = &node.value else {
            self.fault(Fault::new(
                node.at,
                format!("{what} must be a mapping, not {}", node.kind()),
            ));
            return None;
        };
        let mut seen: BTreeMap<&str, Position> = BTreeMap::new();
        for (key, _) in entries {
            if let Some(first) = seen.get(key.name.as_str()) {
                let fault = Fault::new(key.at, format!("duplicate key `{}`", key.name));
                self.fault(fault.help(format!("first defined on line {}", first.line)));
            } else {
                seen.insert(&key.name, key.at);
            }
        }
        Some(entries.iter().map(|(key, value)| (key, value)).collect())
    }

    pub(crate) fn list<'a>(&self, node: &'a Node, what: &str) -> &'a [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.fault(
                    Fault::new(
                        node.at,
                        format!("{what} must be a list, not {}", node.kind()),
                    )
                    .help("write it like `[one, two]`"),
                );
                &[]
            }
        }
    }

    pub(crate) fn text<'a>(&self, node: &'a Node, what: &str) -> Option<&'a str> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => {
                if let Some(control) = control(text) {
                    self.fault(
                        Fault::new(node.at, format!("{what} contains {control}"))
                            .help("use text of one line without control characters"),
                    );
                    return None;
                }
                Some(text)
            }
            _ => {
                self.fault(Fault::new(
                    node.at,
                    format!("{what} must be a string, not {}", node.kind()),
                ));
                None
            }
        }
    }

    /// Reads a string and parses it; an error of `parse` becomes a fault.
    pub(crate) fn parsed<T>(
        &self,
        node: &Node,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        parse(text)
            .map_err(|message| self.fault(Fault::new(node.at, message)))
            .ok()
    }

    pub(crate) fn size(&self, node: &Node, what: &str) -> Option<Size> {
        self.parsed(node, what, units::size)
    }

    pub(crate) fn duration(&self, node: &Node, what: &str) -> Option<Duration> {
        self.parsed(node, what, units::duration)
    }

    pub(crate) fn number(&self, node: &Node, what: &str, least: u64, most: u64) -> Option<u64> {
        self.parsed(node, what, |text| {
            let number = text
                .parse()
                .ok()
                .filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| {
                format!("{what} must be a number from {least} to {most}, not `{text}`")
            })
        })
    }

    pub(crate) fn word<T: Clone>(&self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, what)?;
        let value = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| value.clone());
        if value.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fault(
                Fault::new(node.at, format!("invalid value `{text}` for {what}"))
                    .help(self.meant(text, &known)),
            );
        }
        value
    }

    pub(crate) fn name(&self, text: &str, at: Position) -> Option<Name> {
        Name::new(text)
            .map_err(|error| self.fault(Fault::new(at, error.to_string())))
            .ok()
    }

    pub(crate) fn digest(&self, node: &Node) -> Option<Digest> {
        self.parsed(node, "sha256", |text| {
            Digest::parse(text).map_err(|error| format!("`{text}`: {error}"))
        })
    }
}

/// Names the first character of a text that units, environment files, XML and scripts cannot have. A tab is only a space.
pub fn control(text: &str) -> Option<String> {
    // Unicode reserves some code points forever. systemd refuses text that has one.
    let is_reserved =
        |c: char| u32::from(c) & 0xfffe == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c);
    let found = text
        .chars()
        .find(|c| (c.is_control() && *c != '\t') || is_reserved(*c))?;
    Some(match found {
        '\n' => "a line break".to_owned(),
        other => format!("the character U+{:04X}", u32::from(other)),
    })
}

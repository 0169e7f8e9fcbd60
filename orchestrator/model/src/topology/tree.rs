//! Parses YAML to a tree of nodes with positions, within limits. Only this file uses the YAML library.

use std::collections::{HashMap, HashSet};

use std::iter::Sum;
use std::ops::Add;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::fault::{Fault, Position};

/// The maximum nesting: deeper than any topology, and shallow enough for recursion.
const DEEPEST: usize = 24;
/// The maximum number of nodes after aliases are resolved, against "billion laughs" attacks. Copies that are kept for
/// aliases count, too.
const MOST_NODES: usize = 50_000;
/// The maximum length of all scalars and keys after aliases are resolved, in bytes: four times that of the largest file.
const MOST_BYTES: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub at: Position,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `plain`: written without quotes, so that `null` and `~` are empty values.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In file order, duplicates included.
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub at: Position,
    pub name: String,
}

impl Node {
    /// Returns the kind of value, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "an empty value",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The entries of a mapping, `None` for other values.
    pub(crate) fn entries(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    fn weight(&self) -> Weight {
        let parts = match &self.value {
            Value::Scalar { text, .. } => return Weight::of(text),
            Value::List(items) => items.iter().map(Node::weight).sum(),
            Value::Map(entries) => entries
                .iter()
                .map(|(key, node)| Weight::of(&key.name) + node.weight())
                .sum(),
        };
        Weight::of("") + parts
    }
}

/// What a part of the tree counts against the limits.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

impl Weight {
    fn of(text: &str) -> Weight {
        Weight {
            nodes: 1,
            bytes: text.len(),
        }
    }
}

impl Add for Weight {
    type Output = Weight;
    fn add(self, other: Weight) -> Weight {
        Weight {
            nodes: self.nodes + other.nodes,
            bytes: self.bytes + other.bytes,
        }
    }
}

impl Sum for Weight {
    fn sum<I: Iterator<Item = Weight>>(parts: I) -> Weight {
        parts.fold(Weight::default(), Add::add)
    }
}

/// Parses one document. `start` is the hint for an empty file.
pub(crate) fn parse(text: &str, start: &'static str) -> Result<Node, Fault> {
    let mut builder = Builder {
        start,
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        total: Weight::default(),
    };
    builder.document()
}

struct Builder<'a> {
    start: &'static str,
    parser: Parser<'a, serde_yaml::granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, Weight)>,
    total: Weight,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_none() => {
                    let (event, at) = self.next()?;
                    root = Some(self.node(event, at, 0)?);
                }
                Event::DocumentStart(..) => {
                    return Err(Fault::new(at, "unexpected second document")
                        .help("a file has only one document; remove this `---`"));
                }
                Event::StreamEnd => break,
                _ => return Err(Fault::new(at, "unexpected content")),
            }
        }
        let empty =
            || Fault::new(Position { line: 1, column: 1 }, "the file is empty").help(self.start);
        root.filter(|node| !node.is_null()).ok_or_else(empty)
    }

    /// Returns the next event that is not a comment.
    fn next(&mut self) -> Result<(Event<'a>, Position), Fault> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, span))) => return Ok((event, position(&span))),
                Some(Err(error)) => {
                    let mark = error.marker();
                    let at = Position {
                        line: mark.line().max(1),
                        column: mark.col() + 1,
                    };
                    return Err(Fault::new(at, format!("invalid YAML: {}", error.info())));
                }
                None => return Ok((Event::StreamEnd, Position::default())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: Position, depth: usize) -> Result<Node, Fault> {
        if depth > DEEPEST {
            return Err(Fault::new(
                at,
                format!("nested more than {DEEPEST} levels deep"),
            ));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (
                Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                },
                anchor,
            ),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor);
                let (node, weight) =
                    target.ok_or_else(|| Fault::new(at, "this alias refers to itself"))?;
                // Before the copy, which may be large.
                self.total = grown(self.total, *weight, at)?;
                let value = node.value.clone();
                return Ok(Node { at, value });
            }
            _ => return Err(Fault::new(at, "missing value")),
        };
        let own = match &value {
            Value::Scalar { text, .. } => Weight::of(text),
            _ => Weight::of(""),
        };
        self.total = grown(self.total, own, at)?;
        let node = Node { at, value };
        if anchor != 0 {
            let weight = node.weight();
            self.total = grown(self.total, weight, at)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                override_with(&mut entries, merged);
                return Ok(Value::Map(entries));
            }
            let key = self.node(event, at, depth + 1)?;
            let Value::Scalar { text: name, .. } = key.value else {
                return Err(Fault::new(at, format!("{} cannot be a key", key.kind()))
                    .help("use a plain word as the key"));
            };
            let (event, value_at) = self.next()?;
            let value = self.node(event, value_at, depth + 1)?;
            if name == "<<" {
                merge(&mut merged, value, at)?;
            } else {
                entries.push((Key { at, name }, value));
            }
        }
    }
}

/// The total with a part added to it, within the limits.
fn grown(total: Weight, part: Weight, at: Position) -> Result<Weight, Fault> {
    let grown = total + part;
    if grown.nodes > MOST_NODES {
        let message =
            format!("the file has more than {MOST_NODES} values, including those of aliases");
        return Err(Fault::new(at, message));
    }
    if grown.bytes > MOST_BYTES {
        let message = format!(
            "the file has more than {} MiB of text, including that of aliases",
            MOST_BYTES >> 20
        );
        return Err(Fault::new(at, message));
    }
    Ok(grown)
}

/// Adds merged entries to a mapping's own, which override them; of several with one name the first counts.
fn override_with(entries: &mut Vec<(Key, Node)>, merged: Vec<(Key, Node)>) {
    if merged.is_empty() {
        return;
    }
    let mut names: HashSet<String> = entries.iter().map(|(key, _)| key.name.clone()).collect();
    let new = merged
        .into_iter()
        .filter(|(key, _)| names.insert(key.name.clone()));
    entries.extend(new);
}

/// Merges `<<: *other` or `<<: [*one, *other]`. Earlier entries override later ones; the mapping's own entries override
/// all.
fn merge(merged: &mut Vec<(Key, Node)>, value: Node, at: Position) -> Result<(), Fault> {
    match value.value {
        Value::Map(entries) => {
            merged.extend(
                entries
                    .into_iter()
                    .map(|(key, node)| (Key { at, name: key.name }, node)),
            );
            Ok(())
        }
        Value::List(items) => items
            .into_iter()
            .try_for_each(|item| merge(merged, item, at)),
        Value::Scalar { .. } => Err(Fault::new(
            at,
            "`<<` must be an alias of a mapping, or a list of such aliases",
        )),
    }
}

fn position(span: &Span) -> Position {
    Position {
        line: span.start.line().max(1),
        column: span.start.col() + 1,
    }
}

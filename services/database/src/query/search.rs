//! `$text`: a search for words and phrases in the fields of a collection's text index.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::Fault;
use super::value::Value;
use crate::text::{self, TextIndex};

/// The most different words of a search.
const WORDS_LIMIT: usize = 256;
/// A word that is not searched for.
const OTHER: usize = usize::MAX;

/// Words that follow each other, by their places in [`Search::words`].
type Phrase = Vec<usize>;

/// Which words a document must have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Search {
    /// All that it mentions, in order.
    words: Vec<String>,
    /// One of these at least, if `all` is empty.
    any: Vec<Phrase>,
    all: Vec<Phrase>,
    none: Vec<Phrase>,
    /// Where it looks; none until the collection is known.
    fields: BTreeSet<Vec<String>>,
}

/// A part of the text: several words, one phrase of them, or such that a document must not have.
#[derive(Debug, Default)]
struct Part<'t> {
    text: &'t str,
    negated: bool,
    quoted: bool,
}

impl Search {
    pub(super) fn parse(operand: &Json) -> Result<Self, Fault> {
        const EXPECTED: &str = "an object with a text, such as `{\"$search\": \"words\"}`";
        let fault = |expected| Fault::operand("$text", expected);
        let members = operand.as_object().ok_or_else(|| fault(EXPECTED))?;
        for (name, value) in members {
            match (name.as_str(), value) {
                ("$search", Json::String(_))
                | ("$caseSensitive" | "$diacriticSensitive", Json::Bool(false)) => {}
                ("$language", Json::String(language)) if language == "none" => {}
                ("$search", _) => return Err(fault(EXPECTED)),
                ("$language", _) => return Err(Fault::operand(name, "\"none\"")),
                ("$caseSensitive" | "$diacriticSensitive", _) => {
                    return Err(Fault::operand(name, "false"));
                }
                _ => return Err(Fault::unknown(name)),
            }
        }
        let search = members.get("$search").and_then(Json::as_str);
        let search = Self::of(search.ok_or_else(|| fault(EXPECTED))?);
        if search.words.len() > WORDS_LIMIT {
            let expected = format!("at most {WORDS_LIMIT} different words");
            return Err(Fault::operand("$search", &expected));
        }
        Ok(search)
    }

    fn of(text: &str) -> Self {
        let (mut any, mut all, mut none) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts(text) {
            let mut phrases: Vec<Vec<String>> = Vec::new();
            text::each_word(part.text, |word, joined| match phrases.last_mut() {
                Some(phrase) if joined || part.quoted => phrase.push(word.to_owned()),
                _ => phrases.push(vec![word.to_owned()]),
            });
            let list = match (part.negated, part.quoted) {
                (true, _) => &mut none,
                (false, true) => &mut all,
                (false, false) => &mut any,
            };
            list.append(&mut phrases);
        }
        let words: BTreeSet<String> = [&any, &all, &none]
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect();
        let words: Vec<String> = words.into_iter().collect();
        let places = |phrases: Vec<Vec<String>>| {
            let phrases = phrases.iter();
            phrases
                .map(|phrase| phrase.iter().map(|word| place(&words, word)).collect())
                .collect()
        };
        let (any, all, none) = (places(any), places(all), places(none));
        Self {
            words,
            any,
            all,
            none,
            fields: BTreeSet::new(),
        }
    }

    pub(super) fn look_in(&mut self, index: &TextIndex) {
        self.fields.clone_from(&index.fields);
    }

    pub(super) fn fields(&self) -> &BTreeSet<Vec<String>> {
        &self.fields
    }

    /// Whether a document matches, by the texts in it.
    pub(super) fn matches(&self, document: &Value) -> bool {
        let texts = texts(&self.fields, document).into_iter();
        let texts: Vec<Phrase> = texts.map(|text| self.places(text)).collect();
        let has = |phrase: &Phrase| {
            let mut texts = texts.iter();
            texts.any(|text| text.windows(phrase.len()).any(|words| words == phrase))
        };
        let found = match self.all.is_empty() {
            true => self.any.iter().any(has),
            false => self.all.iter().all(has),
        };
        found && !self.none.iter().any(has)
    }

    fn places(&self, text: &str) -> Phrase {
        let mut places = Vec::new();
        text::each_word(text, |word, _| places.push(place(&self.words, word)));
        places
    }

    /// Words as they are in an index: each document that matches has all words of one of these lists.
    pub(super) fn alternatives(&self) -> Vec<BTreeSet<&str>> {
        let words = |phrase: &Phrase| -> BTreeSet<&str> {
            let words = phrase
                .iter()
                .map(|place| text::indexed(&self.words[*place]));
            words.collect()
        };
        match self.all.is_empty() {
            true => self.any.iter().map(words).collect(),
            false => vec![self.all.iter().flat_map(words).collect()],
        }
    }
}

/// What a document has in a text index; none if it is damaged.
pub(crate) fn index_entry(index: &TextIndex, data: &str) -> Option<String> {
    let members = index.fields.iter().filter_map(|path| path.first().cloned());
    let document = Value::members(data, &members.collect()).ok()?;
    Some(text::index_entry(texts(&index.fields, &document)))
}

/// The texts in fields, and those that are elements of arrays in them.
fn texts<'v>(fields: &BTreeSet<Vec<String>>, document: &'v Value) -> Vec<&'v str> {
    let mut found = Vec::new();
    for path in fields {
        document.reach(path, &mut found);
    }
    let mut texts = Vec::new();
    for value in found {
        match value {
            Value::Text(text) => texts.push(text.as_str()),
            Value::Array(elements) => {
                texts.extend(elements.iter().filter_map(|element| match element {
                    Value::Text(text) => Some(text.as_str()),
                    _ => None,
                }))
            }
            _ => {}
        }
    }
    texts
}

fn place(words: &[String], word: &str) -> usize {
    let place = words.binary_search_by(|other| other.as_str().cmp(word));
    place.unwrap_or(OTHER)
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let positive = rest.strip_prefix('-');
        let negated = positive.is_some();
        rest = positive.unwrap_or(rest);
        let quoted = rest.strip_prefix('"');
        let text;
        (text, rest) = match quoted {
            Some(phrase) => phrase.split_once('"').unwrap_or((phrase, "")),
            None => {
                let ends = |letter: char| letter.is_whitespace() || letter == '"';
                rest.split_at(rest.find(ends).unwrap_or(rest.len()))
            }
        };
        parts.push(Part {
            text,
            negated,
            quoted: quoted.is_some(),
        });
        rest = rest.trim_start();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_has_words_phrases_and_what_must_not_be_there() {
        let table = [
            ("red", "[red]", "", ""),
            ("Red wine", "[red] [wine]", "", ""),
            ("red -wine pre-market", "[red] [pre] [market]", "", "[wine]"),
            (r#"a "red  wine" "x""#, "[a]", "[red wine] [x]", ""),
            (r#"a -"red wine" - b"#, "[a] [b]", "", "[red wine]"),
            (r#"東京 "open"#, "[東 京]", "[open]", ""),
            (r#" "" -- "!" "#, "", "", ""),
        ];
        for (text, any, all, none) in table {
            let search = Search::of(text);
            let written = |phrases: &[Phrase]| {
                let phrase = |phrase: &Phrase| {
                    let words = phrase.iter().map(|place| search.words[*place].as_str());
                    format!("[{}]", words.collect::<Vec<_>>().join(" "))
                };
                phrases.iter().map(phrase).collect::<Vec<_>>().join(" ")
            };
            let lists = [&search.any, &search.all, &search.none].map(|list| written(list));
            assert_eq!(lists, [any, all, none], "{text}");
        }
    }
}

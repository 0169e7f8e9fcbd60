//! The words of texts, as `$text` finds them: the same for each engine, whose full-text indexes take them as they are.
//!
//! Letters and digits, with the marks on them, are words; all other characters divide words. Words are compared without
//! case and accents. A character of a script that is written without spaces is a word.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use uuid::Uuid;

/// Part of an index's name: raise it when texts are divided in another way, so that indexes are created again.
const VERSION: u32 = 1;
/// A word's first bytes are enough for an index; PostgreSQL takes at most 2 KiB.
const WORD_LIMIT: usize = 128;
/// The most bytes of one document's words in an index: PostgreSQL takes at most 1 MiB.
const WORDS_LIMIT: usize = 512 << 10;
/// In an index, the word of documents that have more words than it takes. It is not a word of a text.
pub(crate) const TOO_MANY: &str = "…";

/// A collection's text index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextIndex {
    /// It has nothing to quote, and differs if the fields do.
    pub(crate) name: String,
    pub(crate) fields: BTreeSet<Vec<String>>,
}

impl TextIndex {
    /// The prefix of the names of all text indexes.
    pub(crate) const PREFIX: &'static str = "text_";

    pub(crate) fn new(collection: &str, fields: BTreeSet<Vec<String>>) -> Self {
        let names: Vec<_> = fields.iter().map(|path| path.join(".")).collect();
        let text = format!("{VERSION} {collection}:{}", names.join(","));
        let name = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple();
        let name = format!("{}{name}", Self::PREFIX);
        Self { name, fields }
    }
}

/// A word as it is in an index.
pub(crate) fn indexed(word: &str) -> &str {
    &word[..word.floor_char_boundary(WORD_LIMIT)]
}

/// The different words of texts as they are in an index, with spaces between them.
pub(crate) fn index_entry<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let (mut words, mut bytes) = (BTreeSet::new(), 0);
    for text in texts {
        each_word(text, |word, _| {
            let word = indexed(word);
            if bytes <= WORDS_LIMIT && !words.contains(word) {
                bytes += word.len();
                words.insert(word.to_owned());
            }
        });
    }
    match bytes <= WORDS_LIMIT {
        true => words.into_iter().collect::<Vec<_>>().join(" "),
        false => TOO_MANY.to_owned(),
    }
}

/// Calls `found` with each word of a text, and whether the word follows the one before without anything between them.
pub(crate) fn each_word(text: &str, found: impl FnMut(&str, bool)) {
    if text.is_ascii() {
        return divide(
            text.chars().map(|letter| letter.to_ascii_lowercase()),
            found,
        );
    }
    let letters = text.nfkd().filter(|letter| !is_ignored(*letter)).nfc();
    // By way of upper case, so that `ß` is the same as `SS`, and `ς` the same as `σ`.
    let letters = letters.flat_map(char::to_uppercase);
    divide(letters.flat_map(char::to_lowercase), found);
}

fn divide(letters: impl Iterator<Item = char>, mut found: impl FnMut(&str, bool)) {
    let (mut word, mut joined, mut alone) = (String::new(), false, false);
    for letter in letters {
        let mark = is_combining_mark(letter);
        let inside = letter.is_alphanumeric() || mark && !word.is_empty();
        let begins = inside && !mark && (alone || is_word(letter));
        if !word.is_empty() && (begins || !inside) {
            found(&word, joined);
            word.clear();
            joined = inside;
        }
        if inside {
            word.push(letter);
            alone = is_word(letter) || mark && alone;
        } else {
            (joined, alone) = (false, false);
        }
    }
    if !word.is_empty() {
        found(&word, joined);
    }
}

/// Accents of Latin, Greek and Cyrillic letters, and what is not seen inside words.
fn is_ignored(letter: char) -> bool {
    matches!(
        letter,
        '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200c}' | '\u{200d}'
    )
}

/// Whether it is of a script without spaces: Chinese, Japanese, Thai, Lao, Burmese and Khmer.
fn is_word(letter: char) -> bool {
    matches!(letter,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_depend_on_how_they_are_written() {
        let table = [
            ("", ""),
            (" -- \u{301} ", ""),
            ("Red, red_wine 7up", "red red wine 7up"),
            ("Caf\u{e9} CAFE\u{301} ﬁne Ｗide", "cafe cafe fine wide"),
            ("Straße STRASSE ΟΔΟΣ οδός", "strasse strasse οδοσ οδοσ"),
            ("co\u{ad}op it's", "coop it s"),
            ("हिन्दी", "हिन्दी"),
            ("한국어 문서", "한국어 문서"),
            ("東京都、ガラスabc", "東+京+都 ガ+ラ+ス+abc"),
        ];
        for (text, expected) in table {
            let mut words = String::new();
            each_word(text, |word, joined| {
                let sign = if joined { '+' } else { ' ' };
                words.push(sign);
                words.push_str(word);
            });
            assert_eq!(words.trim(), expected, "{text}");
        }
    }

    #[test]
    fn an_index_has_each_word_once_and_no_more_than_engines_take() {
        assert_eq!(index_entry(["b a b", "C"]), "a b c");
        assert_eq!(index_entry([&*"ä".repeat(1000)]).len(), WORD_LIMIT);
        let many: String = (0..200_000).map(|n| format!("{n} ")).collect();
        assert_eq!(index_entry([&*many]), TOO_MANY);
    }
}

//! Text of others, such as a guest's console or a topology file, as it is safe to print on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Drops what a terminal would obey instead of show; a tab becomes a space.
pub fn printable(text: &str) -> String {
    let shown = |c| match c {
        '\t' => Some(' '),
        c => (!is_obeyed(c)).then_some(c),
    };
    text.chars().filter_map(shown).collect()
}

/// Shows what a terminal would obey as `\u001b`, also in JSON's strings, where that means the same. Lines and tabs stay.
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_obeyed(c) && !matches!(c, '\n' | '\t');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            // All of them are in the basic plane.
            let _ = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Like [`printable`], but keeps each character's column: U+FFFD stands for what is dropped there.
pub fn printable_in_columns(text: &str) -> String {
    let shown = |c| match c {
        '\t' => ' ',
        c if is_obeyed(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and those that change the direction of text, after
/// which a line reads differently than it is (<https://www.unicode.org/reports/tr9/#Explicit_Directional_Formatting>).
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_json_stays_the_same() {
        assert_eq!(escaped("plain, ä, 語\n\ttab"), "plain, ä, 語\n\ttab");
        let hostile = "a\x1b[2J\r\u{9b}2J\u{202e}b\0\x7f";
        let shown = "a\\u001b[2J\\u000d\\u009b2J\\u202eb\\u0000\\u007f";
        assert_eq!(escaped(hostile), shown);
        let json = serde_json::to_string(hostile).unwrap();
        let read: String = serde_json::from_str(&escaped(&json)).unwrap();
        assert_eq!(read, hostile);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, dropped, replaced) in [
            ("plain, ä, 語, 🦀", "plain, ä, 語, 🦀", "plain, ä, 語, 🦀"),
            ("a\tb", "a b", "a b"),
            ("\x1b[2Jhello\r", "[2Jhello", "\u{fffd}[2Jhello\u{fffd}"),
            ("\x7f\0", "", "\u{fffd}\u{fffd}"),
            // C1: the one-character form of `ESC [`, and of `ESC ]`.
            (
                "\u{9b}2J\u{9d}0;title",
                "2J0;title",
                "\u{fffd}2J\u{fffd}0;title",
            ),
            // Overrides, embeddings, isolates and marks.
            (
                "user\u{202e}txt.exe\u{2066}\u{2069}\u{200f}\u{061c}",
                "usertxt.exe",
                "user\u{fffd}txt.exe\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("one\u{2028}two", "onetwo", "one\u{fffd}two"),
        ] {
            assert_eq!(printable(text), dropped, "{text:?}");
            assert_eq!(printable_in_columns(text), replaced, "{text:?}");
        }
    }
}

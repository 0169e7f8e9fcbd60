//! Text to grams: lower-case words and pairs of neighbouring words, each as a number of 32 bits, with its number of
//! occurrences. The vocabulary gives grams their weights.
//!
//! Text is first brought to Unicode's form NFKC. In scripts that put no spaces between words, each letter counts as a
//! word, and three neighbouring letters are a gram too. Emoji and other pictures are words as well.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

const SHORTEST_WORD: usize = 2;

/// Counts a text's grams, in the order of their numbers.
pub(crate) fn count(text: &str) -> Vec<(u32, u32)> {
    let mut grams = Vec::new();
    // The word before, and the pair before if both of it are letters of a script without spaces.
    let (mut before, mut letters): (Option<u64>, Option<u64>) = (None, None);
    for_each_word(text, |word, script| {
        let hash = fnv(word.chars().flat_map(char::to_lowercase));
        let pair = before.map(|before| joined(before, hash));
        grams.push(fold(hash));
        grams.extend(pair.map(fold));
        if script == Script::WithoutSpaces {
            grams.extend(letters.map(|letters| fold(joined(letters, hash))));
            letters = pair;
        } else {
            letters = None;
        }
        before = Some(hash);
    });
    grams.sort_unstable();
    grams
        .chunk_by(|one, other| one == other)
        .map(|equal| (equal[0], u32::try_from(equal.len()).unwrap_or(u32::MAX)))
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    WithSpaces,
    WithoutSpaces,
}

fn for_each_word(text: &str, mut found: impl FnMut(&str, Script)) {
    let mut word = String::new();
    // A space after the text ends the last word.
    for letter in text.nfkc().chain([' ']) {
        let alone = if has_no_spaces(letter) {
            Some(Script::WithoutSpaces)
        } else {
            is_picture(letter).then_some(Script::WithSpaces)
        };
        let continues = letter.is_alphanumeric() || letter == '_' || is_combining_mark(letter);
        if alone.is_none() && continues {
            word.push(letter);
            continue;
        }
        if word.chars().nth(SHORTEST_WORD - 1).is_some() {
            found(&word, Script::WithSpaces);
        }
        word.clear();
        if let Some(script) = alone {
            found(letter.encode_utf8(&mut [0; 4]), script);
        }
    }
}

/// Whether a letter is of a script whose words are not divided by spaces: Thai, Lao, Tibetan, Burmese, Khmer, Kana, Han.
fn has_no_spaces(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x0e00..=0x0fff
            | 0x1000..=0x109f
            | 0x1780..=0x17ff
            | 0x3040..=0x30ff
            | 0x31f0..=0x31ff
            | 0x3400..=0x4dbf
            | 0x4e00..=0x9fff
            | 0xf900..=0xfaff
            | 0x20000..=0x3ffff
    )
}

/// Whether a character is of Unicode's blocks of symbols and pictographs.
fn is_picture(letter: char) -> bool {
    matches!(u32::from(letter), 0x2600..=0x27bf | 0x2b00..=0x2bff | 0x1f000..=0x1faff)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over letters: the same in every process, unlike the standard library's hashes.
fn fnv(letters: impl Iterator<Item = char>) -> u64 {
    letters.fold(FNV_OFFSET, |hash, letter| {
        (hash ^ u64::from(u32::from(letter))).wrapping_mul(FNV_PRIME)
    })
}

/// The hash of two neighbours.
fn joined(before: u64, hash: u64) -> u64 {
    (before.rotate_left(5) ^ hash).wrapping_mul(FNV_PRIME)
}

fn fold(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_pairs_are_counted_without_case() {
        assert_eq!(count("Red red, RED a"), count("red red red"));
        let counts: Vec<u32> = count("one two three one two")
            .into_iter()
            .map(|(_, count)| count)
            .collect();
        assert_eq!((counts.len(), counts.iter().sum::<u32>()), (6, 9));
        assert_ne!(count("one two"), count("two one"));
        assert_eq!(count(" .!? "), []);
    }

    #[test]
    fn scripts_without_spaces_are_counted_by_letters() {
        // Four letters, three pairs, two threes.
        assert_eq!(count("足球比赛").len(), 4 + 3 + 2);
        assert_ne!(count("球足"), count("足球"));
        let shared = |one: &str, other: &str| {
            let grams = |text| count(text).into_iter().map(|(gram, _)| gram);
            let other: Vec<u32> = grams(other).collect();
            grams(one).filter(|gram| other.contains(gram)).count()
        };
        assert_eq!(shared("这场足球", "足球比赛"), 3);
        assert_eq!(shared("สวัสดี", "สวัสดีครับ"), count("สวัสดี").len());
    }

    #[test]
    fn equal_texts_are_equal_however_they_are_encoded() {
        assert_eq!(count("caf\u{e9} bar"), count("cafe\u{301} bar"));
        assert_eq!(count("ＡＢＣ ﬁne"), count("abc fine"));
        // A vowel sign does not end a word.
        assert_eq!(count("हिन्दी").len(), 1);
    }

    #[test]
    fn an_emoji_is_a_word() {
        assert_eq!(count("great 🎉").len(), 3);
        assert_eq!(count("🎉🎉"), count("🎉 🎉"));
    }
}

//! Text to features: lower-case words and pairs of neighbouring words, hashed into a fixed number of buckets.

use std::collections::BTreeMap;

/// How many buckets there are; a power of two.
pub(crate) const BUCKETS: usize = 1 << 16;
const SHORTEST_WORD: usize = 2;

/// How often each bucket occurs in a text, in the order of buckets.
pub(crate) fn count(text: &str) -> BTreeMap<u16, f32> {
    let mut counts = BTreeMap::new();
    let mut before: Option<u64> = None;
    let words = text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| word.chars().nth(SHORTEST_WORD - 1).is_some());
    for word in words {
        let hash = fnv(FNV_OFFSET, word.chars().flat_map(char::to_lowercase));
        *counts.entry(bucket(hash)).or_default() += 1.0;
        if let Some(before) = before {
            let pair = (before.rotate_left(5) ^ hash).wrapping_mul(FNV_PRIME);
            *counts.entry(bucket(pair)).or_default() += 1.0;
        }
        before = Some(hash);
    }
    counts
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

fn fnv(seed: u64, letters: impl Iterator<Item = char>) -> u64 {
    letters.fold(seed, |hash, letter| {
        (hash ^ u64::from(u32::from(letter))).wrapping_mul(FNV_PRIME)
    })
}

fn bucket(hash: u64) -> u16 {
    let folded = hash ^ (hash >> 32);
    ((folded ^ (folded >> 16)) & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_pairs_are_counted_without_case() {
        assert_eq!(count("Red red, RED a"), count("red red red"));
        let total: f32 = count("one two three").values().sum();
        assert_eq!(total, 5.0);
        assert_eq!(count(" .!? "), BTreeMap::new());
    }
}

//! Text to grams: lower-case words and pairs of neighbouring words, each as a number of 32 bits, with its number of
//! occurrences. The vocabulary gives grams their weights.

const SHORTEST_WORD: usize = 2;

/// Counts a text's grams, in the order of their numbers.
pub(crate) fn count(text: &str) -> Vec<(u32, u32)> {
    let mut grams = Vec::new();
    let mut before: Option<u64> = None;
    let words = text
        .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .filter(|word| word.chars().nth(SHORTEST_WORD - 1).is_some());
    for word in words {
        let hash = fnv(word.chars().flat_map(char::to_lowercase));
        grams.push(fold(hash));
        if let Some(before) = before {
            grams.push(fold((before.rotate_left(5) ^ hash).wrapping_mul(FNV_PRIME)));
        }
        before = Some(hash);
    }
    grams.sort_unstable();
    grams
        .chunk_by(|one, other| one == other)
        .map(|equal| (equal[0], u32::try_from(equal.len()).unwrap_or(u32::MAX)))
        .collect()
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over letters: the same in every process, unlike the standard library's hashes.
fn fnv(letters: impl Iterator<Item = char>) -> u64 {
    letters.fold(FNV_OFFSET, |hash, letter| {
        (hash ^ u64::from(u32::from(letter))).wrapping_mul(FNV_PRIME)
    })
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
}

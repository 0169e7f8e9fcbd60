//! The grams that a model knows: each has a row of weights; rare grams weigh more (TF-IDF).

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

/// Row 0 is the bias, not a gram.
pub(crate) const BIAS: u32 = 0;

/// A row and a text's value in it.
pub(crate) type Feature = (u32, f32);

/// Grams (already hashes), their rows, and the number of texts with each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vocabulary {
    rows: FxHashMap<u32, u32>,
    /// By row.
    occurrences: Vec<u32>,
    /// The number of counted texts.
    texts: u32,
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self {
            rows: FxHashMap::default(),
            occurrences: vec![0],
            texts: 0,
        }
    }
}

impl Vocabulary {
    /// Makes a vocabulary of the given grams, in the order of their rows.
    pub(crate) fn new(texts: u32, grams: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut vocabulary = Self {
            texts,
            ..Self::default()
        };
        for (gram, occurrences) in grams {
            vocabulary.rows.insert(gram, vocabulary.rows() as u32);
            vocabulary.occurrences.push(occurrences);
        }
        vocabulary
    }

    /// The number of rows, including the bias.
    pub(crate) fn rows(&self) -> usize {
        self.occurrences.len()
    }

    pub(crate) fn texts(&self) -> u32 {
        self.texts
    }

    /// Each gram and its occurrences, in the order of their rows.
    pub(crate) fn grams(&self) -> Vec<(u32, u32)> {
        let mut grams: Vec<(u32, u32)> =
            self.rows.iter().map(|(gram, row)| (*row, *gram)).collect();
        grams.sort_unstable();
        grams
            .into_iter()
            .map(|(row, gram)| (gram, self.occurrences[row as usize]))
            .collect()
    }

    /// Counts a text, and gives each of its grams a row.
    pub(crate) fn count(&mut self, grams: &[(u32, u32)]) {
        self.texts = self.texts.saturating_add(1);
        for &(gram, _) in grams {
            let next = self.occurrences.len() as u32;
            let row = *self.rows.entry(gram).or_insert(next);
            if row == next {
                self.occurrences.push(0);
            }
            self.occurrences[row as usize] += 1;
        }
    }

    /// Log-scaled counts times inverse document frequency, scaled to length 1. Grams without a row are left out.
    pub(crate) fn weigh(&self, grams: &[(u32, u32)]) -> Vec<Feature> {
        let texts = self.texts as f32 + 1.0;
        let mut features = Vec::with_capacity(grams.len());
        for &(gram, count) in grams {
            let Some(&row) = self.rows.get(&gram) else {
                continue;
            };
            let rarity = 1.0 + (texts / (self.occurrences[row as usize] as f32 + 1.0)).ln();
            features.push((row, (1.0 + (count as f32).ln()) * rarity));
        }
        scale(&mut features);
        features
    }

    /// Keeps the bias and the `limit` most frequent grams, newer ones first among equals; returns each row's new place.
    pub(crate) fn prune(&mut self, limit: usize) -> Vec<Option<u32>> {
        let mut grams: Vec<(usize, (u32, u32))> = self.grams().into_iter().enumerate().collect();
        grams.sort_by_key(|&(index, (_, occurrences))| Reverse((occurrences, index)));
        grams.truncate(limit);
        grams.sort_unstable_by_key(|&(index, _)| index);
        let mut moved = vec![None; self.rows()];
        moved[BIAS as usize] = Some(BIAS);
        for (row, (index, _)) in grams.iter().enumerate() {
            moved[index + 1] = Some(row as u32 + 1);
        }
        *self = Self::new(self.texts, grams.into_iter().map(|(_, gram)| gram));
        moved
    }
}

/// Scales features to length 1.
pub(crate) fn scale(features: &mut [Feature]) {
    let squares: f32 = features.iter().map(|(_, value)| value * value).sum();
    let length = squares.sqrt();
    for (_, value) in features {
        *value /= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_grams_weigh_more_and_the_rarest_are_pruned_first() {
        let mut vocabulary = Vocabulary::default();
        for grams in [&[(7, 1), (8, 1)][..], &[(7, 2), (9, 1)], &[(7, 1), (9, 1)]] {
            vocabulary.count(grams);
        }
        let features = vocabulary.weigh(&[(7, 1), (8, 1)]);
        assert_eq!(
            features.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(features[0].1 < features[1].1, "{features:?}");
        let length =
            |features: &[Feature]| -> f32 { features.iter().map(|(_, value)| value * value).sum() };
        assert!((length(&features) - 1.0).abs() < 1e-6);

        assert_eq!(vocabulary.prune(2), [Some(0), Some(1), None, Some(2)]);
        assert_eq!(vocabulary.grams(), [(7, 3), (9, 2)]);
        let known = vocabulary.weigh(&[(7, 1), (8, 1)]);
        assert_eq!(known.len(), 1);
        assert!((length(&known) - 1.0).abs() < 1e-6, "{known:?}");
    }
}

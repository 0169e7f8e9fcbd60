//! The examples that a model remembers, to go over them again: a fair sample of all that it was ever shown, bounded
//! by size.
//!
//! Each example has drawn a lot. When they are too many, those with the lowest go, and so does any later one that
//! drew no more: whether an example stays depends neither on its age nor on what it says.

use crate::machine::Example;

/// What is remembered, at most, in features: 8 bytes each.
pub(crate) const ROOM: usize = 1 << 21;

/// Remembered examples, the older first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) examples: Vec<Example>,
    /// The highest lot of those that had to go.
    pub(crate) lowest: u32,
}

impl Memory {
    /// Forgets what there is no room for.
    pub(crate) fn trim(&mut self, room: usize) {
        let lowest = self.lowest;
        self.examples.retain(|example| example.lot > lowest);
        let size = |examples: &[Example]| -> usize { examples.iter().map(cost).sum() };
        if size(&self.examples) <= room {
            return;
        }
        // An eighth more than needed, so that the next few examples don't make it start again.
        let mut over = size(&self.examples) - room + room / 8;
        let mut lots: Vec<(u32, usize)> = self
            .examples
            .iter()
            .map(|example| (example.lot, cost(example)))
            .collect();
        lots.sort_unstable();
        for (lot, cost) in lots {
            if over == 0 {
                break;
            }
            self.lowest = lot;
            over = over.saturating_sub(cost);
        }
        let lowest = self.lowest;
        self.examples.retain(|example| example.lot > lowest);
    }

    /// Moves features to their new rows; those without one go.
    pub(crate) fn prune(&mut self, moved: &[Option<u32>]) {
        for example in &mut self.examples {
            example.features = example
                .features
                .iter()
                .filter_map(|&(row, value)| Some((moved[row as usize]?, value)))
                .collect();
        }
    }
}

/// An example without features takes memory too.
fn cost(example: &Example) -> usize {
    example.features.len() + 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(lot: u32) -> Example {
        Example {
            label: 0,
            features: vec![(1, 1.0); 2].into(),
            alphas: Box::default(),
            lot,
        }
    }

    #[test]
    fn the_highest_lots_stay_whenever_they_come() {
        let mut memory = Memory::default();
        for lot in [5, 50, 20, 40, 30, 10] {
            memory.examples.push(example(lot));
            memory.trim(40);
        }
        let lots = |memory: &Memory| -> Vec<u32> {
            memory.examples.iter().map(|example| example.lot).collect()
        };
        assert_eq!((lots(&memory), memory.lowest), (vec![50, 40, 30], 20));
        memory.examples.extend([example(20), example(21)]);
        memory.trim(40);
        assert_eq!(lots(&memory), [50, 40, 30, 21]);
    }
}

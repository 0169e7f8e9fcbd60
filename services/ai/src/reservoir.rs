//! The examples that a model keeps for further passes: a fair sample of all examples it was trained with, limited by
//! size (reservoir sampling).
//!
//! Each example has a random priority. When there are too many, the examples with the lowest priorities are dropped,
//! and so is every later example with such a priority. So neither age nor content decides what stays.

use crate::machine::Example;

/// The largest size of the sample, in features of 8 bytes.
pub(crate) const ROOM: usize = 1 << 21;

/// The sampled examples, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reservoir {
    pub(crate) examples: Vec<Example>,
    /// The highest priority of a dropped example.
    pub(crate) lowest: u32,
}

impl Reservoir {
    /// Drops the examples that exceed `room`.
    pub(crate) fn trim(&mut self, room: usize) {
        let lowest = self.lowest;
        self.examples.retain(|example| example.priority > lowest);
        let size = |examples: &[Example]| -> usize { examples.iter().map(cost).sum() };
        if size(&self.examples) <= room {
            return;
        }
        // An eighth more than needed, so that the next few examples do not cause another trim.
        let mut over = size(&self.examples) - room + room / 8;
        let mut priorities: Vec<(u32, usize)> = self
            .examples
            .iter()
            .map(|example| (example.priority, cost(example)))
            .collect();
        priorities.sort_unstable();
        for (priority, cost) in priorities {
            if over == 0 {
                break;
            }
            self.lowest = priority;
            over = over.saturating_sub(cost);
        }
        let lowest = self.lowest;
        self.examples.retain(|example| example.priority > lowest);
    }

    /// Moves features to their new rows; drops features without one.
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

/// An example without features needs memory too.
fn cost(example: &Example) -> usize {
    example.features.len() + 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(priority: u32) -> Example {
        Example {
            label: 0,
            features: vec![(1, 1.0); 2].into(),
            alphas: Box::default(),
            priority,
        }
    }

    #[test]
    fn examples_with_the_highest_priorities_stay_in_any_order() {
        let mut reservoir = Reservoir::default();
        for priority in [5, 50, 20, 40, 30, 10] {
            reservoir.examples.push(example(priority));
            reservoir.trim(40);
        }
        let priorities = |reservoir: &Reservoir| -> Vec<u32> {
            reservoir
                .examples
                .iter()
                .map(|example| example.priority)
                .collect()
        };
        assert_eq!(
            (priorities(&reservoir), reservoir.lowest),
            (vec![50, 40, 30], 20)
        );
        reservoir.examples.extend([example(20), example(21)]);
        reservoir.trim(40);
        assert_eq!(priorities(&reservoir), [50, 40, 30, 21]);
    }
}

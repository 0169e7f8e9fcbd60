//! Finds cycles in the dependencies between domains.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::Name;

/// How far the search is with a domain.
#[derive(Clone, Copy)]
enum State {
    /// On the path, at this index.
    OnPath(usize),
    /// No cycle that is still to be found leads through it.
    Done,
}

/// Returns cycles without common domains, so many that no cycle is left without their members. The first member is
/// repeated at the end. Follows each dependency once.
pub(super) fn cycles(edges: &BTreeMap<Name, BTreeSet<Name>>) -> Vec<Vec<Name>> {
    let mut states: BTreeMap<&Name, State> = BTreeMap::new();
    let mut cycles = Vec::new();
    for start in edges.keys() {
        // Each member with its dependencies that were not followed yet.
        let mut path = Vec::new();
        let mut next = Some(start);
        loop {
            match next.map(|name| (name, states.get(name).copied())) {
                Some((name, None)) => {
                    states.insert(name, State::OnPath(path.len()));
                    path.push((name, edges.get(name).into_iter().flatten()));
                }
                Some((name, Some(State::OnPath(first)))) => {
                    let members = path.drain(first..).map(|(name, _)| name);
                    let mut cycle: Vec<Name> = members.cloned().collect();
                    for member in &cycle {
                        if let Some((member, _)) = edges.get_key_value(member) {
                            states.insert(member, State::Done);
                        }
                    }
                    cycle.push(name.clone());
                    cycles.push(cycle);
                }
                Some((_, Some(State::Done))) => {}
                None => {
                    if let Some((name, _)) = path.pop() {
                        states.insert(name, State::Done);
                    }
                }
            }
            match path.last_mut() {
                Some((_, dependencies)) => next = dependencies.next(),
                None => break,
            }
        }
    }
    cycles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(index: usize) -> Name {
        Name::new(&format!("n{index}")).unwrap()
    }

    /// Whether any domain depends on itself, by removing those without dependencies until none is left.
    fn has_cycle(mut edges: BTreeMap<Name, BTreeSet<Name>>) -> bool {
        loop {
            let free: BTreeSet<Name> = edges
                .iter()
                .filter(|(_, to)| to.iter().all(|to| !edges.contains_key(to)))
                .map(|(name, _)| name.clone())
                .collect();
            if free.is_empty() {
                return !edges.is_empty();
            }
            edges.retain(|name, _| !free.contains(name));
        }
    }

    proptest! {
        #[test]
        fn cycles_are_real_apart_and_all(pairs in prop::collection::vec((0usize..9, 0usize..9), 0..24)) {
            let mut edges: BTreeMap<Name, BTreeSet<Name>> = (0..9).map(|index| (name(index), BTreeSet::new())).collect();
            for (from, to) in pairs {
                edges.entry(name(from)).or_default().insert(name(to));
            }
            let found = cycles(&edges);
            let mut left = edges.clone();
            for cycle in &found {
                prop_assert_eq!(cycle.first(), cycle.last());
                for pair in cycle.windows(2) {
                    prop_assert!(edges[&pair[0]].contains(&pair[1]));
                }
                for member in &cycle[1..] {
                    prop_assert!(left.remove(member).is_some(), "`{}` is in two cycles", member);
                }
            }
            prop_assert!(!has_cycle(left));
        }
    }
}

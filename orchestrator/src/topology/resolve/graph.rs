//! Dependencies between domains: cycles are found and named.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::Name;

/// A cycle, its first member being the last too; `None` where there is none.
pub fn cycle(edges: &BTreeMap<Name, BTreeSet<Name>>) -> Option<Vec<Name>> {
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        let mut path = Vec::new();
        if let Some(cycle) = visit(edges, start, &mut path, &mut done) {
            return Some(cycle);
        }
    }
    None
}

fn visit(
    edges: &BTreeMap<Name, BTreeSet<Name>>,
    at: &Name,
    path: &mut Vec<Name>,
    done: &mut BTreeSet<Name>,
) -> Option<Vec<Name>> {
    if let Some(start) = path.iter().position(|name| name == at) {
        let mut cycle = path[start..].to_vec();
        cycle.push(at.clone());
        return Some(cycle);
    }
    if done.contains(at) {
        return None;
    }
    path.push(at.clone());
    let found = edges
        .get(at)
        .into_iter()
        .flatten()
        .find_map(|next| visit(edges, next, path, done));
    path.pop();
    done.insert(at.clone());
    found
}

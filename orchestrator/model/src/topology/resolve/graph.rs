//! Finds cycles in the dependencies between domains.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::Name;

/// Returns cycles without common domains, at least one if there is any. The first member is repeated at the end.
pub(super) fn cycles(mut edges: BTreeMap<Name, BTreeSet<Name>>) -> Vec<Vec<Name>> {
    let mut cycles = Vec::new();
    while let Some(cycle) = cycle(&edges) {
        edges.retain(|name, _| !cycle.contains(name));
        cycles.push(cycle);
    }
    cycles
}

fn cycle(edges: &BTreeMap<Name, BTreeSet<Name>>) -> Option<Vec<Name>> {
    let mut done = BTreeSet::new();
    edges
        .keys()
        .find_map(|start| visit(edges, start, &mut Vec::new(), &mut done))
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
    let cycle = edges
        .get(at)
        .into_iter()
        .flatten()
        .find_map(|next| visit(edges, next, path, done));
    path.pop();
    done.insert(at.clone());
    cycle
}

//! Which domain comes before which: the one place that sorts by dependencies.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{DomainSpec, Name, Spec};

/// The spec's domains in dependency order, and who depends on whom.
pub struct Order<'a> {
    /// Each domain comes after those that it depends on; by name where that leaves a choice.
    pub dependencies_first: Vec<&'a DomainSpec>,
    dependents: BTreeMap<&'a Name, Vec<&'a Name>>,
}

impl<'a> Order<'a> {
    pub fn of(spec: &'a Spec) -> Order<'a> {
        let mut dependents: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
        let mut missing: BTreeMap<&Name, usize> = BTreeMap::new();
        for domain in spec.domains.values() {
            // Those of other hosts are waited for.
            let own = domain.depends_on.iter();
            let own = own.filter(|name| !spec.elsewhere.contains_key(name));
            let own: Vec<&Name> = own.collect();
            missing.insert(&domain.name, own.len());
            for dependency in own {
                dependents.entry(dependency).or_default().push(&domain.name);
            }
        }
        let mut ready: BTreeSet<&Name> = missing
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(name, _)| *name)
            .collect();
        let mut dependencies_first = Vec::with_capacity(spec.domains.len());
        while let Some(name) = ready.pop_first() {
            dependencies_first.extend(spec.domains.get(name));
            for dependent in dependents.get(name).into_iter().flatten() {
                if let Some(count) = missing.get_mut(dependent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(dependent);
                    }
                }
            }
        }
        // Validation refuses cycles. A recorded spec with a cycle keeps its members, in name order.
        if dependencies_first.len() < spec.domains.len() {
            let placed: BTreeSet<&Name> = dependencies_first
                .iter()
                .map(|domain| &domain.name)
                .collect();
            let rest = spec.domains.values();
            let rest: Vec<&DomainSpec> = rest
                .filter(|domain| !placed.contains(&domain.name))
                .collect();
            dependencies_first.extend(rest);
        }
        Order {
            dependencies_first,
            dependents,
        }
    }

    /// The domains that depend on this one directly.
    pub fn dependents(&self, name: &Name) -> impl Iterator<Item = &'a Name> {
        let dependents = self.dependents.get(name).map(Vec::as_slice);
        dependents.unwrap_or_default().iter().copied()
    }

    /// Sorts names so that each comes before those that it depends on. Names that the spec lacks come first: nothing
    /// can depend on them.
    pub fn dependents_first(&self, names: impl IntoIterator<Item = Name>) -> Vec<Name> {
        let mut names: BTreeSet<Name> = names.into_iter().collect();
        let known: Vec<Name> = self
            .dependencies_first
            .iter()
            .rev()
            .filter_map(|domain| names.take(&domain.name))
            .collect();
        names.into_iter().chain(known).collect()
    }
}

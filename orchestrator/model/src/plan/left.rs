//! Data volumes that no domain of the spec has: of domains and volumes that were renamed or removed.

use std::collections::BTreeSet;

use super::builder::PlanBuilder;
use super::{Action, Plan};
use crate::observed::{Observed, OldVolume};
use crate::spec::{Size, Spec, VolumeId};

/// Names the volumes that are left, and how to delete them.
pub(super) fn note(spec: &Spec, observed: &Observed, plan: &mut PlanBuilder) {
    for id in volumes(spec, observed) {
        let size = observed.volume(id).unwrap_or(Size(0));
        plan.note(format!(
            "no domain of the topology uses the data volume `{}` ({size}); run `pspd volume prune` to delete such volumes",
            id.file()
        ));
    }
}

/// Deletes the volumes that are left, but for those that a domain has open until the next `up`.
pub(super) fn prune(spec: &Spec, observed: &Observed) -> Plan {
    let mut plan = PlanBuilder::default();
    for id in volumes(spec, observed) {
        if is_open(spec, observed, id) {
            plan.note(format!(
                "kept the data volume `{}`: `{}` is running",
                id.file(),
                id.domain
            ));
            continue;
        }
        let mut old = observed.old_volumes.iter();
        let old = old.find(|(_, old)| old.owner() == Some(id));
        let old = old.filter(|_| !observed.volumes.contains_key(id));
        let file = old.map_or_else(|| id.file(), |(file, _)| file.clone());
        plan.add(
            Action::DeleteVolume { file },
            "no domain of the topology uses it",
        );
    }
    plan.finish()
}

fn is_open(spec: &Spec, observed: &Observed, id: &VolumeId) -> bool {
    let domain = observed.domain(&id.domain);
    domain.is_some_and(|domain| {
        let attached = domain.attached.contains_key(id.volume.as_str());
        domain.power.has_process() && (attached || !spec.domains.contains_key(&id.domain))
    })
}

fn volumes<'a>(spec: &Spec, observed: &'a Observed) -> BTreeSet<&'a VolumeId> {
    let mut left: BTreeSet<&VolumeId> = observed.volumes.keys().collect();
    left.extend(observed.old_volumes.values().filter_map(OldVolume::owner));
    for id in spec.volumes() {
        left.remove(&id);
    }
    left
}

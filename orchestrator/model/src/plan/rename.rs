//! Data volumes whose files have names of earlier versions, `DOMAIN-VOLUME.qcow2`: they get their current names.

use super::builder::PlanBuilder;
use super::{Action, DomainStep, PlanError, StepId};
use crate::observed::Observed;
use crate::spec::{DomainSpec, Spec, VolumeId};

/// Gives volumes of earlier versions their current names, after whatever has them open was stopped.
pub(super) fn plan(
    spec: &Spec,
    observed: &Observed,
    plan: &mut PlanBuilder,
) -> Result<(), PlanError> {
    for (from, old) in &observed.old_volumes {
        if let Some(id) = old.owner().filter(|id| !observed.volumes.contains_key(id)) {
            let action = Action::RenameVolume {
                domain: id.domain.clone(),
                volume: id.volume.clone(),
                from: from.clone(),
                file: id.file(),
            };
            plan.add(action, "other volumes could have its name")
                .if_planned(StepId::of(&id.domain, DomainStep::Merge))
                .if_planned(StepId::of(&id.domain, DomainStep::Stop));
            continue;
        }
        let missing = |id: &VolumeId| {
            spec.volumes().any(|wanted| wanted == *id) && observed.volume(id).is_none()
        };
        if let (Some(one), Some(other)) = (old.of.first(), old.of.last())
            && old.of.iter().any(missing)
        {
            return Err(PlanError::UnclearVolume {
                file: from.clone(),
                one: one.clone(),
                other: other.clone(),
            });
        }
        plan.note(format!(
            "the data volume `{from}` has a name of an earlier version and is not used"
        ));
    }
    Ok(())
}

/// Whether a volume of the domain is to be renamed.
pub(super) fn is_due(domain: &DomainSpec, observed: &Observed) -> bool {
    let mut volumes = domain.volumes.iter().map(|volume| volume.of(&domain.name));
    volumes.any(|id| !observed.volumes.contains_key(&id) && observed.volume(&id).is_some())
}

/// Refuses what cannot be done with volumes of earlier versions.
pub(super) fn refuse(spec: &Spec, observed: &Observed) -> Result<(), PlanError> {
    let used = |id: &VolumeId| spec.volumes().any(|volume| volume == *id);
    let mut old = observed.old_volumes.iter();
    match old.find(|(_, old)| old.of.iter().any(used)) {
        Some((file, _)) => Err(PlanError::OldVolume { file: file.clone() }),
        None => Ok(()),
    }
}

//! Data volumes in a plan: created and grown.

use super::builder::PlanBuilder;
use super::domain::{DomainPlanner, grows};
use super::{Action, DomainStep, PlanError, StepId};
use crate::spec::VolumeId;

impl DomainPlanner<'_> {
    /// Brings the domain's data volumes to their size.
    pub(super) fn volumes(&self, plan: &mut PlanBuilder) -> Result<(), PlanError> {
        for spec in &self.domain.volumes {
            let (id, size) = (spec.of(&self.domain.name), spec.size);
            let file = id.file();
            let VolumeId { domain, volume } = id.clone();
            match self.observed.volume(&id) {
                None if self.uses(&id) => return Err(PlanError::VolumeGone { domain, file }),
                None => {
                    let action = Action::CreateVolume {
                        domain,
                        volume,
                        file,
                        size,
                    };
                    plan.add(action, "it does not exist");
                }
                Some(have) if grows(&file, have, size)? => {
                    let renamed = DomainStep::RenameVolume(volume.clone());
                    let action = Action::GrowVolume {
                        domain,
                        volume,
                        file,
                        size,
                    };
                    plan.add(action, format!("it has {have}"))
                        .if_planned(self.id(DomainStep::Merge))
                        .if_planned(self.id(DomainStep::Stop))
                        .if_planned(self.id(renamed));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether the running domain has the volume open, which nothing can bring back: a new one would take its place.
    fn uses(&self, id: &VolumeId) -> bool {
        let domain = self.observed().filter(|domain| domain.power.has_process());
        domain.is_some_and(|domain| domain.attached.contains_key(id.volume.as_str()))
    }

    /// The steps that bring this domain's volumes to their name and size.
    pub(super) fn volume_steps(&self) -> impl Iterator<Item = StepId> {
        let volumes = self.domain.volumes.iter();
        volumes.flat_map(|volume| {
            let name = || volume.name.clone();
            [DomainStep::RenameVolume(name()), DomainStep::Volume(name())].map(|step| self.id(step))
        })
    }
}

//! The plan that gives a domain other memory or vCPUs than the topology does.

use super::builder::PlanBuilder;
use super::title::sizes;
use super::waits::processors;
use super::{Action, Plan, PlanError, up};
use crate::definition::Affect;
use crate::observed::Observed;
use crate::spec::{Name, Range, Size, Spec};
use crate::topology::LEAST_MEMORY;

pub(super) fn plan(
    spec: &Spec,
    observed: &Observed,
    name: &Name,
    memory: Option<Size>,
    vcpus: Option<u32>,
) -> Result<Plan, PlanError> {
    up::reject_foreign(spec, observed)?;
    up::reject_stopped(spec, observed)?;
    let domain = || name.clone();
    let now = observed.domain(name);
    let defined = now.and_then(|now| now.defined.as_ref());
    let defined = defined.filter(|defined| defined.persistent);
    let Some(defined) = defined else {
        return Err(PlanError::NotDefined { domain: domain() });
    };
    if let Some(asked) = memory.filter(|asked| *asked < LEAST_MEMORY) {
        return Err(PlanError::TooLittle {
            domain: domain(),
            asked,
            least: LEAST_MEMORY,
        });
    }
    let (memory, vcpus) = (
        within(name, defined.memory, memory, |size| size.to_string())?,
        within(name, defined.vcpus, vcpus, processors)?,
    );
    let mut plan = PlanBuilder::default();
    if (memory, vcpus) == (defined.memory, defined.vcpus) {
        return Ok(plan.finish());
    }
    let live = defined
        .live
        .filter(|_| now.is_some_and(|now| now.power.has_process()));
    if live.is_some_and(|live| live.vcpus.current != vcpus.current) {
        let count = processors(vcpus.current);
        plan.note(format!("`{name}` gets its {count} at its next start"));
    }
    let topology = &spec.domains[name];
    if (memory, vcpus) != (topology.memory, topology.vcpus) {
        plan.note(format!(
            "the topology gives `{name}` {}; `pspd up` restores that",
            sizes(topology.memory, topology.vcpus)
        ));
    }
    let action = Action::Resize {
        domain: domain(),
        memory,
        vcpus,
        memory_affects: match live {
            Some(live) if memory.current <= live.maximum_memory => Affect::Both,
            _ => Affect::Config,
        },
        redefine: None,
    };
    plan.add(action, "`pspd set`");
    Ok(plan.finish())
}

fn within<T: Copy + PartialOrd>(
    name: &Name,
    range: Range<T>,
    asked: Option<T>,
    shown: impl Fn(T) -> String,
) -> Result<Range<T>, PlanError> {
    let Range { current, maximum } = range;
    let current = asked.unwrap_or(current);
    if current > maximum {
        return Err(PlanError::OverMaximum {
            domain: name.clone(),
            asked: shown(current),
            maximum: shown(maximum),
        });
    }
    Ok(Range { current, maximum })
}

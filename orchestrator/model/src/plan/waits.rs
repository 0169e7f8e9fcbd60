//! What a running domain gets at its next start only.

use crate::observed::Live;
use crate::spec::DomainSpec;

/// Returns what the domain does not have yet, such as `its 2 vCPUs at its next start: it runs with 1`.
pub fn waits(domain: &DomainSpec, live: Live) -> Vec<String> {
    let (memory, vcpus) = (domain.memory, domain.vcpus);
    let mut waits = Vec::new();
    if memory.current > live.maximum_memory {
        waits.push(format!(
            "its {} at its next start: it runs with {} at most",
            memory.current, live.maximum_memory
        ));
    }
    if vcpus.current != live.vcpus.current {
        waits.push(format!(
            "its {} at its next start: it runs with {}",
            processors(vcpus.current),
            live.vcpus.current
        ));
    }
    if (memory.maximum, vcpus.maximum) != (live.maximum_memory, live.vcpus.maximum) {
        waits.push("its new maximum at its next start".to_owned());
    }
    waits
}

pub(super) fn processors(count: u32) -> String {
    match count {
        1 => "1 vCPU".to_owned(),
        count => format!("{count} vCPUs"),
    }
}

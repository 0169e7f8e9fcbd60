//! Memory and vCPUs that change while a domain runs, and those that wait.

use super::*;

#[test]
fn memory_applies_live_and_a_maximum_waits() {
    let mut spec = two();
    let world = applied(&spec);
    let domain = spec.domains.get_mut(&name("d0")).unwrap();
    domain.memory = Range {
        current: Size::mib(768),
        maximum: Size::gib(2),
    };
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"d0/resize after []: it has 512 MiB of 1 GiB and 1 of 2 vCPUs");
    let note = "`d0` gets its new maximum at its next start";
    assert_eq!(plan.notes, [note]);
    // It is recalled until that start.
    let mut later = world;
    later.apply(&plan, usize::MAX, &spec);
    let plan = up(&spec, &later).unwrap();
    assert_eq!((plan.steps, plan.notes), (vec![], vec![note.to_owned()]));
    later.domain(&name("d0")).power = Power::Off;
    let plan = up(&spec, &later).unwrap();
    later.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &later).unwrap().notes, [""; 0]);
}

#[test]
fn vcpus_wait_for_the_next_start_and_are_noted_until_then() {
    let mut spec = two();
    let mut world = applied(&spec);
    let domain = spec.domains.get_mut(&name("d0")).unwrap();
    domain.vcpus.current = 2;
    let note = "`d0` gets its 2 vCPUs at its next start: it runs with 1".to_owned();
    let plan = up(&spec, &world).unwrap();
    assert_eq!((plan.steps.len(), &plan.notes), (1, &vec![note.clone()]));
    world.apply(&plan, usize::MAX, &spec);
    let plan = up(&spec, &world).unwrap();
    assert_eq!((plan.steps, plan.notes), (vec![], vec![note]));
    world.domain(&name("d0")).power = Power::Off;
    let plan = up(&spec, &world).unwrap();
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn a_guests_file_systems_are_seen_to_before_up_is_done() {
    let mut spec = two();
    let mut world = applied(&spec);
    let domain = spec.domains.get_mut(&name("d0")).unwrap();
    domain.system_disk = Size::gib(8);
    let plan = up(&spec, &world).unwrap();
    let edges = after(&plan, "d0", DomainStep::FileSystems);
    assert_eq!(edges, ["d0/reach", "d0/healthy"]);
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    // Without a service, nothing else mounts its volume.
    spec.domains.get_mut(&name("d0")).unwrap().service = None;
    spec.domains
        .get_mut(&name("d1"))
        .unwrap()
        .depends_on
        .clear();
    let plan = up(&spec, &world).unwrap();
    let edges = after(&plan, "d0", DomainStep::FileSystems);
    assert_eq!(edges, ["d0/reach", "d0/withdraw"]);
    let plan = up(&spec, &nothing(&spec)).unwrap();
    let mounts = plan.steps.iter().find_map(|step| match &step.action {
        Action::FileSystems { volumes, .. } => Some(volumes),
        _ => None,
    });
    assert_eq!(mounts, Some(&spec.domains[&name("d0")].volumes));
}

#[test]
fn file_systems_that_an_interrupted_up_left_out_are_seen_to_by_the_next() {
    let mut spec = two();
    spec.domains.get_mut(&name("d0")).unwrap().service = None;
    let d1 = spec.domains.get_mut(&name("d1")).unwrap();
    d1.depends_on.clear();
    let mut world = applied(&spec);
    spec.domains.get_mut(&name("d1")).unwrap().system_disk = Size::gib(8);
    for domain in ["d0", "d1"] {
        world.domain(&name(domain)).power = Power::Off;
    }
    let plan = up(&spec, &world).unwrap();
    let done = |plan: &Plan, domain: &str, count: usize| {
        let id = StepId::of(&name(domain), DomainStep::FileSystems);
        plan.steps.iter().take(count).any(|step| step.id == id)
    };
    for count in 0..=plan.steps.len() {
        let mut world = world.clone();
        world.apply(&plan, count, &spec);
        let rest = up(&spec, &world).unwrap();
        for domain in ["d0", "d1"] {
            let was_done = done(&plan, domain, count);
            assert_eq!(
                done(&rest, domain, usize::MAX),
                !was_done,
                "{domain}, {count}"
            );
        }
        world.apply(&rest, usize::MAX, &spec);
        assert_eq!(up(&spec, &world), Ok(Plan::default()));
    }
}

//! Delays, stopped services and less memory: what is applied in guests that are reached.

use super::*;
use crate::fault::Ended;
use crate::observed::Shaping;
use crate::shape::Share;

#[test]
fn a_delay_is_applied_in_the_guests_that_send() {
    let spec = two();
    let mut world = applied(&spec);
    let effect = delay("d0", "d1", latency(100), Direction::Both);
    insta::assert_snapshot!(lines(&plan_fault(&spec, &world, effect)), @"
    intent/record after []: the fault `delay-1` begins
    d0/reach after [intent/record]: a fault is active
    d0/shape after [intent/record d0/reach]: a fault is active
    d1/reach after [intent/record]: a fault is active
    d1/shape after [intent/record d1/reach]: a fault is active
    ");
    let one = delay("d0", "d1", latency(100), Direction::OneWay);
    insta::assert_snapshot!(lines(&plan_fault(&spec, &world, one.clone())), @"
    intent/record after []: the fault `delay-1` begins
    d0/reach after [intent/record]: a fault is active
    d0/shape after [intent/record d0/reach]: a fault is active
    ");
    let first = inject(&spec, &mut world, one);
    let lossy = Shape {
        loss: Share(20_000),
        ..latency(50)
    };
    let second = inject(&spec, &mut world, delay("d1", "d0", lossy, Direction::Both));
    let shapes = |world: &mut World, name: &Name| {
        let shaping = world.domain(name).shaping.as_ref();
        let routes = shaping.into_iter().flat_map(|shaping| &shaping.routes);
        routes
            .map(|route| route.shape.to_string())
            .collect::<Vec<_>>()
    };
    let (d0, d1) = (name("d0"), name("d1"));
    assert_eq!(shapes(&mut world, &d0), ["--latency 150ms --loss 2%"]);
    assert_eq!(shapes(&mut world, &d1), ["--latency 50ms --loss 2%"]);
    heal(&spec, &mut world, &[first]);
    assert_eq!(shapes(&mut world, &d0), ["--latency 50ms --loss 2%"]);
    heal(&spec, &mut world, &[second]);
    assert_eq!(world, applied(&spec));
}

#[test]
fn what_an_interrupted_run_left_in_a_guest_is_replaced() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d0")).shaping = Some(Shaping {
        routes: Vec::new(),
        complete: false,
    });
    for plan in [up(&spec, &world).unwrap(), plan_heal(&spec, &world, &[])] {
        let mut world = world.clone();
        world.apply(&plan, usize::MAX, &spec);
        assert_eq!(world, applied(&spec));
    }
}

#[test]
fn a_delay_waits_for_a_guest_that_is_not_reached_and_comes_back_with_a_new_disk() {
    let spec = two();
    let mut world = applied(&spec);
    let id = inject(
        &spec,
        &mut world,
        delay("d0", "d1", latency(9), Direction::OneWay),
    );
    let cut = inject(&spec, &mut world, link("d0"));
    let again = delay("d0", "d1", latency(1), Direction::OneWay);
    let error = try_plan(&spec, &world, again);
    let domain = name("d0");
    assert_eq!(error.unwrap_err(), PlanError::Unplugged { domain });
    heal(&spec, &mut world, &[id]);
    assert!(world.domain(&name("d0")).shaping.is_some());
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    heal(&spec, &mut world, &[cut]);
    assert_eq!(world, applied(&spec));

    inject(
        &spec,
        &mut world,
        delay("d0", "d1", latency(9), Direction::OneWay),
    );
    let domain = world.domain(&name("d0"));
    (domain.disk, domain.power) = (None, Power::Off);
    let plan = up(&spec, &world).unwrap();
    world.apply(&plan, usize::MAX, &spec);
    assert!(world.domain(&name("d0")).shaping.is_some());
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn a_stopped_service_is_stopped_again_after_a_reboot_and_starts_when_it_is_healed() {
    let spec = two();
    let mut world = applied(&spec);
    let before = world.clone();
    let stop = |how| Effect::Service {
        domain: name("d1"),
        how,
    };
    insta::assert_snapshot!(lines(&plan_fault(&spec, &world, stop(Ended::Killed))), @"
    d1/reach after []: the fault kills it
    d1/service after [d1/reach]: the fault kills it
    ");
    let id = inject(&spec, &mut world, stop(Ended::Stopped));
    let stopped = world.clone();
    assert!(!world.domain(&name("d1")).service.as_ref().unwrap().serving);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    world.domain(&name("d1")).service.as_mut().unwrap().serving = true;
    let plan = up(&spec, &world).unwrap();
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(world, stopped);
    // One that is deployed meanwhile is stopped after it was healthy.
    let mut changed = stopped;
    let service = changed.domain(&name("d1")).service.as_mut().unwrap();
    service.release = Some(Digest::of(b"new"));
    let plan = up(&spec, &changed).unwrap();
    assert!(after(&plan, "d1", DomainStep::SetService).contains(&"d1/healthy".to_owned()));
    changed.apply(&plan, usize::MAX, &spec);
    assert!(
        !changed
            .domain(&name("d1"))
            .service
            .as_ref()
            .unwrap()
            .serving
    );
    heal(&spec, &mut world, &[id]);
    assert_eq!(world, before);
    let mut spec = spec;
    spec.domains.get_mut(&name("d1")).unwrap().service = None;
    let domain = name("d1");
    let error = try_plan(&spec, &world, stop(Ended::Stopped)).unwrap_err();
    assert_eq!(error, PlanError::NoService { domain });
}

#[test]
fn the_least_memory_of_several_faults_counts() {
    let spec = two();
    let mut world = applied(&spec);
    let before = world.clone();
    let memory = |to| Effect::Memory {
        domain: name("d1"),
        to: Size::mib(to),
    };
    let has = |world: &mut World| {
        world
            .domain(&name("d1"))
            .defined
            .as_ref()
            .unwrap()
            .memory
            .current
    };
    let (domain, size) = (name("d1"), Size::mib(512));
    let error = try_plan(&spec, &world, memory(512)).unwrap_err();
    assert_eq!(error, PlanError::MoreMemory { domain, has: size });
    let first = inject(&spec, &mut world, memory(300));
    let second = inject(&spec, &mut world, memory(200));
    assert_eq!(has(&mut world), Size::mib(200));
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    heal(&spec, &mut world, &[second]);
    assert_eq!(has(&mut world), Size::mib(300));
    heal(&spec, &mut world, &[first]);
    assert_eq!(world, before);
}

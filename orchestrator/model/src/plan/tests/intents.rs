//! What the user asked for beside the topology.

use super::*;
use crate::intent::{Fault, FaultKind, PowerIntent};

const KINDS: [FaultKind; 8] = [
    FaultKind::Pause,
    FaultKind::Kill,
    FaultKind::Service,
    FaultKind::Network,
    FaultKind::Disk,
    FaultKind::Clock,
    FaultKind::Memory,
    FaultKind::Cpu,
];

fn fault(kind: FaultKind, domain: &str) -> Intent {
    let fault = Fault {
        kind,
        domains: BTreeSet::from([name(domain)]),
    };
    let mut intent = Intent::default();
    intent.faults.insert(name("f1"), fault);
    intent
}

/// Both domains run; then the user stopped `d0`, and `d1` lost what it depends on.
fn stopped() -> (Spec, World) {
    let spec = two();
    let mut world = applied(&spec);
    world.intent.power.insert(name("d0"), PowerIntent::Stopped);
    world.domain(&name("d0")).power = Power::Off;
    for domain in world.observed.domains.values_mut() {
        domain.service.as_mut().unwrap().serving = false;
    }
    (spec, world)
}

#[test]
fn a_stopped_domain_is_no_drift_and_neither_are_its_dependents() {
    let (spec, world) = stopped();
    assert_eq!(drift(&spec, &world), Plan::default());
}

#[test]
fn up_starts_what_the_user_stopped_and_says_so() {
    let (spec, mut world) = stopped();
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    intent/record after []: `up` starts what was stopped
    d0/start after []: it is not running
    d0/reach after [d0/start]: it starts
    d0/push after [d0/reach]: it starts
    d0/activate after [d0/push]: it starts
    d0/healthy after [d0/activate]: it starts
    d1/reach after []: it is not SERVING
    d1/push after [d1/reach]: it is not SERVING
    d1/activate after [d1/push d0/healthy]: it is not SERVING
    d1/healthy after [d1/activate]: it is not SERVING
    ");
    assert_eq!(plan.notes, ["starting `d0`, which the user stopped"]);
    world.apply(&plan, usize::MAX, &spec);
    assert!(world.intent.is_empty());
    assert_eq!(drift(&spec, &world), Plan::default());
}

#[test]
fn up_leaves_active_faults_alone() {
    let spec = two();
    for kind in KINDS {
        let mut world = applied(&spec);
        world.intent = fault(kind, "d0");
        for domain in world.observed.domains.values_mut() {
            domain.service.as_mut().unwrap().serving = false;
        }
        match kind {
            FaultKind::Pause => {
                world.domain(&name("d0")).power = Power::Paused(crate::observed::Pause::User);
            }
            FaultKind::Kill => world.domain(&name("d0")).power = Power::Off,
            FaultKind::Memory => {
                let defined = world.domain(&name("d0")).defined.as_mut().unwrap();
                defined.memory.current = Size::mib(200);
            }
            _ => {}
        }
        assert_eq!(up(&spec, &world), Ok(Plan::default()), "{kind:?}");
    }
}

#[test]
fn down_clears_all_intent() {
    let (spec, mut world) = stopped();
    world.intent.faults = fault(FaultKind::Network, "d1").faults;
    let plan = down(&spec, &world, Volumes::Keep);
    world.apply(&plan, usize::MAX, &spec);
    assert!(world.intent.is_empty());
}

#[test]
fn a_fault_ends_with_the_domain_that_it_acts_on() {
    let both = two();
    let mut world = applied(&both);
    world.intent = fault(FaultKind::Network, "d1");
    let one = spec(vec![domain(0, &[], true)]);
    let plan = up(&one, &world).unwrap();
    world.apply(&plan, usize::MAX, &one);
    assert!(world.intent.is_empty());
}

proptest! {
    /// Whatever the user stopped: nothing of it is drift, and one `up` brings all of it back.
    #[test]
    fn intent_is_respected_by_plan_and_ended_by_up(spec in any_spec(), held in any::<u8>()) {
        let mut world = applied(&spec);
        for (index, name) in spec.domains.keys().enumerate() {
            if held >> index & 1 == 1 {
                world.intent.power.insert(name.clone(), PowerIntent::Stopped);
                let domain = world.domain(name);
                domain.power = Power::Off;
                domain.service.as_mut().unwrap().serving = false;
            }
        }
        prop_assert_eq!(drift(&spec, &world), Plan::default());
        let plan = up(&spec, &world).unwrap();
        prop_assert!(respects_order(&plan));
        world.apply(&plan, usize::MAX, &spec);
        prop_assert!(world.observed.domains.values().all(|domain| domain.power == Power::Running));
        prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
    }
}

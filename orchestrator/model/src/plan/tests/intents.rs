//! What the user asked for beside the topology.

use super::*;
use crate::fault::{Effect, Fault};
use crate::intent::PowerIntent;

fn active(effect: Effect) -> Intent {
    let mut intent = Intent::default();
    intent
        .faults
        .insert(name("f1"), Fault::new(effect, 0, None));
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
fn a_stopped_domain_and_its_dependents_are_not_drift() {
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
    let domain = || name("d0");
    let effects = [
        Effect::Isolate { domain: domain() },
        Effect::Link { domain: domain() },
        Effect::Pause { domain: domain() },
        Effect::Kill { domain: domain() },
        Effect::Memory {
            domain: domain(),
            to: Size::mib(200),
        },
    ];
    for effect in effects {
        let mut world = applied(&spec);
        world.intent = active(effect.clone());
        for domain in world.observed.domains.values_mut() {
            domain.service.as_mut().unwrap().serving = false;
        }
        match &effect {
            Effect::Pause { domain } => {
                world.domain(domain).power = Power::Paused(crate::observed::Pause::User);
            }
            Effect::Kill { domain } => world.domain(domain).power = Power::Off,
            Effect::Memory { domain, to } => {
                let defined = world.domain(domain).defined.as_mut().unwrap();
                defined.memory.current = *to;
            }
            Effect::Link { domain } => world.domain(domain).link_down = true,
            other => world.observed.cuts = other.cuts(&spec),
        }
        assert_eq!(up(&spec, &world), Ok(Plan::default()), "{effect:?}");
    }
}

#[test]
fn down_clears_all_intent() {
    let (spec, mut world) = stopped();
    world.intent.faults = active(Effect::Link { domain: name("d1") }).faults;
    let plan = down(&spec, &world, Volumes::Keep);
    world.apply(&plan, usize::MAX, &spec);
    assert!(world.intent.is_empty());
}

#[test]
fn a_fault_ends_with_the_domain_that_it_acts_on() {
    let both = two();
    let mut world = applied(&both);
    world.intent = active(Effect::Link { domain: name("d1") });
    let one = spec(vec![domain(0, &[], true)]);
    let plan = up(&one, &world).unwrap();
    world.apply(&plan, usize::MAX, &one);
    assert!(world.intent.is_empty());
}

proptest! {
    /// Nothing that the user stopped is drift, and one `up` brings all of it back.
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

//! Faults are applied, add up, and end separately.

mod harm;
mod hosts;
mod within;

use super::*;
use crate::fault::{Cut, Direction, Effect};
use crate::harm::{DiskHarm, Offset, Throttle};
use crate::observed::{Crash, Pause};
use crate::shape::Shape;

fn names(names: &[&str]) -> BTreeSet<Name> {
    names.iter().map(|text| name(text)).collect()
}

fn partition(from: &[&str], to: &[&str], direction: Direction) -> Effect {
    Effect::Partition {
        from: names(from),
        to: names(to),
        direction,
    }
}

fn isolate(domain: &str) -> Effect {
    Effect::Isolate {
        domain: name(domain),
    }
}

fn link(domain: &str) -> Effect {
    Effect::Link {
        domain: name(domain),
    }
}

fn pause(domain: &str) -> Effect {
    Effect::Pause {
        domain: name(domain),
    }
}

fn kill(domain: &str) -> Effect {
    Effect::Kill {
        domain: name(domain),
    }
}

fn delay(from: &str, to: &str, shape: Shape, direction: Direction) -> Effect {
    Effect::Delay {
        from: name(from),
        to: name(to),
        direction,
        shape,
    }
}

fn slow(domain: &str, disk: &str, kib: u64) -> Effect {
    let limit = Throttle {
        bytes: Some(Size(kib << 10)),
        iops: None,
    };
    Effect::Disk {
        domain: name(domain),
        disk: name(disk),
        harm: DiskHarm::Slow(limit),
    }
}

fn full(domain: &str, disk: &str) -> Effect {
    Effect::Disk {
        domain: name(domain),
        disk: name(disk),
        harm: DiskHarm::Full,
    }
}

fn failing(domain: &str, disk: &str) -> Effect {
    Effect::Disk {
        domain: name(domain),
        disk: name(disk),
        harm: DiskHarm::Fail,
    }
}

fn clock(domain: &str, skew: i64) -> Effect {
    Effect::Clock {
        domain: name(domain),
        skew: Offset(skew),
    }
}

fn cpu(domain: &str, burn: u32) -> Effect {
    Effect::Cpu {
        domain: name(domain),
        burn,
    }
}

fn latency(milliseconds: u64) -> Shape {
    Shape {
        latency: milliseconds * 1000,
        ..Shape::default()
    }
}

fn try_plan(spec: &Spec, world: &World, effect: Effect) -> Result<(Name, Plan), PlanError> {
    super::inject(spec, &world.intent, &world.observed, effect, None)
}

fn plan_fault(spec: &Spec, world: &World, effect: Effect) -> Plan {
    try_plan(spec, world, effect).unwrap().1
}

fn try_inject(spec: &Spec, world: &mut World, effect: Effect) -> Result<Name, PlanError> {
    let (id, plan) = try_plan(spec, world, effect)?;
    assert!(respects_order(&plan));
    world.apply(&plan, usize::MAX, spec);
    Ok(id)
}

fn inject(spec: &Spec, world: &mut World, effect: Effect) -> Name {
    try_inject(spec, world, effect).unwrap()
}

fn plan_heal(spec: &Spec, world: &World, ids: &[Name]) -> Plan {
    let ids = ids.iter().cloned().collect();
    super::heal(spec, &world.intent, &world.observed, &ids).unwrap()
}

fn heal(spec: &Spec, world: &mut World, ids: &[Name]) {
    let plan = plan_heal(spec, world, ids);
    assert!(respects_order(&plan));
    world.apply(&plan, usize::MAX, spec);
}

fn three() -> Spec {
    let all = ["d0", "d1"];
    spec(vec![
        domain(0, &[], true),
        domain(1, &all[..1], false),
        domain(2, &all, false),
    ])
}

#[test]
fn a_partition_is_recorded_before_and_forgotten_after() {
    let spec = two();
    let mut world = applied(&spec);
    let effect = partition(&["d0"], &["d1"], Direction::Both);
    insta::assert_snapshot!(lines(&plan_fault(&spec, &world, effect.clone())), @"
    intent/record after []: the fault `partition-1` begins
    network/cuts after [intent/record]: a fault is active
    ");
    let id = inject(&spec, &mut world, effect);
    let mac = |text: &str| Some(spec.domains[&name(text)].mac);
    let (a, b) = (mac("d0"), mac("d1"));
    let both = [Cut { from: a, to: b }, Cut { from: b, to: a }];
    assert_eq!(world.observed.cuts, BTreeSet::from(both));
    insta::assert_snapshot!(lines(&plan_heal(&spec, &world, &[id])), @"
    network/cuts after []: no active fault needs it
    intent/record after [network/cuts]: faults end
    ");
}

#[test]
fn a_partition_one_way_leaves_the_other() {
    let spec = two();
    let mut world = applied(&spec);
    inject(
        &spec,
        &mut world,
        partition(&["d0"], &["d1"], Direction::OneWay),
    );
    let mac = |text: &str| Some(spec.domains[&name(text)].mac);
    let (from, to) = (mac("d0"), mac("d1"));
    assert_eq!(world.observed.cuts, BTreeSet::from([Cut { from, to }]));
}

#[test]
fn ids_are_not_used_twice_at_a_time() {
    let spec = two();
    let mut world = applied(&spec);
    let first = inject(&spec, &mut world, isolate("d0"));
    let second = inject(&spec, &mut world, isolate("d1"));
    assert_eq!(
        (first.as_str(), second.as_str()),
        ("isolate-1", "isolate-2")
    );
    heal(&spec, &mut world, &[first]);
    assert_eq!(
        inject(&spec, &mut world, isolate("d0")).as_str(),
        "isolate-1"
    );
}

#[test]
fn what_cannot_be_done_is_an_error_and_no_record() {
    let spec = two();
    let world = applied(&spec);
    let refused = |world: &World, spec: &Spec, effect| {
        super::inject(spec, &world.intent, &world.observed, effect, None).unwrap_err()
    };
    let same = partition(&["d0", "d1"], &["d1"], Direction::Both);
    let domain = name("d1");
    assert_eq!(
        refused(&world, &spec, same),
        PlanError::OneDomain { domain }
    );
    let mut off = world.clone();
    off.domain(&name("d1")).power = Power::Off;
    for effect in [link("d1"), pause("d1"), kill("d1")] {
        let domain = name("d1");
        let error = PlanError::NeedsRunning { domain };
        assert_eq!(refused(&off, &spec, effect), error);
    }
    let mut stopped = world.clone();
    stopped.observed.lab = LabState::Stopped;
    let deployment = spec.name.clone();
    let error = PlanError::NotUp { deployment };
    assert_eq!(refused(&stopped, &spec, isolate("d1")), error);
    let mut remote = spec.clone();
    remote.connection = Connection::Uri("qemu:///system".into());
    let error = refused(&world, &remote, isolate("d1")).to_string();
    assert!(error.contains("needs a lab"), "{error}");
    let ids = BTreeSet::from([name("link-1")]);
    let error = super::heal(&spec, &world.intent, &world.observed, &ids).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no fault has the id `link-1`. Active: none"
    );
}

#[test]
fn partitions_and_links_are_applied_again_after_the_lab_was_restarted() {
    let spec = two();
    let mut world = applied(&spec);
    let effect = partition(&["d0"], &["d1"], Direction::Both);
    let cuts = effect.cuts(&spec);
    inject(&spec, &mut world, effect);
    inject(&spec, &mut world, link("d1"));
    world.observed.lab = LabState::Stopped;
    world.observed.cuts.clear();
    world.held.clear();
    for domain in world.observed.domains.values_mut() {
        (domain.power, domain.link_down) = (Power::Off, false);
        domain.service.as_mut().unwrap().serving = false;
    }
    let plan = up(&spec, &world).unwrap();
    // Guests are reached and deployed before they are cut off.
    let last: Vec<String> = plan
        .steps
        .iter()
        .rev()
        .take(2)
        .map(|step| step.id.to_string())
        .collect();
    assert_eq!(last, ["d1/link", "network/cuts"]);
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(world.observed.cuts, cuts);
    assert!(world.domain(&name("d1")).link_down);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn a_fault_whose_time_is_over_is_ended_by_up_plan_and_heal() {
    let spec = two();
    let mut world = applied(&spec);
    world.observed.clock = 100;
    let lasts = Some(std::time::Duration::from_secs(10));
    let planned = super::inject(&spec, &world.intent, &world.observed, isolate("d0"), lasts);
    world.apply(&planned.unwrap().1, usize::MAX, &spec);
    world.observed.clock = 109;
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    world.observed.clock = 110;
    insta::assert_snapshot!(lines(&drift(&spec, &world)), @"
    intent/record after []: faults expired, or their domains were removed
    network/cuts after []: no active fault needs it
    ");
    let healed = plan_heal(&spec, &world, &[]);
    let plan = up(&spec, &world).unwrap();
    for plan in [healed, plan] {
        let mut world = world.clone();
        world.apply(&plan, usize::MAX, &spec);
        assert!(world.intent.is_empty() && world.observed.cuts.is_empty());
    }
}

proptest! {
    /// Wherever an injection is killed: `plan` says what `up` does, until the last of the faults ended.
    #[test]
    fn what_up_does_about_a_fault_is_planned(
        effect in any_effect(),
        count in 0usize..4,
        seconds in 1u64..20,
        removed in any::<bool>(),
    ) {
        let mut spec = three();
        let mut world = applied(&spec);
        world.observed.clock = 100;
        let lasts = Some(std::time::Duration::from_secs(10));
        let planned = super::inject(&spec, &world.intent, &world.observed, effect, lasts);
        world.apply(&planned.unwrap().1, count, &spec);
        world.observed.clock += seconds;
        if removed {
            spec.domains.remove(&name("d2"));
        }
        prop_assert_eq!(Ok(drift(&spec, &world)), up(&spec, &world));
    }
}

#[test]
fn a_domain_that_a_fault_stopped_runs_again_when_it_is_healed() {
    let spec = two();
    let domain = name("d1");
    for effect in [pause("d1"), kill("d1"), Effect::Crash { domain }] {
        let mut world = applied(&spec);
        let before = world.clone();
        let id = inject(&spec, &mut world, effect.clone());
        let power = world.domain(&name("d1")).power;
        let expected = match effect {
            Effect::Kill { .. } => Power::Off,
            Effect::Crash { .. } => Power::Crashed(Crash::Guest),
            _ => Power::Paused(Pause::User),
        };
        assert_eq!(power, expected);
        assert_eq!(up(&spec, &world), Ok(Plan::default()));
        heal(&spec, &mut world, &[id]);
        assert_eq!(world, before, "{effect:?}");
    }
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let way = prop_oneof![Just(Direction::Both), Just(Direction::OneWay)];
    let domain = (0usize..3).prop_map(|index| format!("d{index}"));
    let sides = (0usize..3, way).prop_map(|(alone, way)| {
        let all = ["d0", "d1", "d2"];
        let others: Vec<&str> = all.into_iter().filter(|it| *it != all[alone]).collect();
        partition(&all[alone..=alone], &others, way)
    });
    prop_oneof![
        sides,
        domain.clone().prop_map(|domain| isolate(&domain)),
        domain.clone().prop_map(|domain| link(&domain)),
        (domain.clone(), 1u64..3).prop_map(|(domain, kib)| slow(&domain, "system", kib)),
        domain.clone().prop_map(|domain| full(&domain, "system")),
        Just(full("d0", "data")),
        Just(failing("d0", "data")),
        (domain.clone(), -2i64..3).prop_map(|(domain, skew)| clock(&domain, skew)),
        (domain, 1u32..80).prop_map(|(domain, burn)| cpu(&domain, burn)),
        (0usize..3, 1u64..3).prop_map(|(index, time)| {
            let (from, to) = (format!("d{index}"), format!("d{}", (index + 1) % 3));
            delay(&from, &to, latency(time), Direction::Both)
        }),
    ]
}

proptest! {
    /// Whatever is injected: nothing is left to do, and healing one by one in any order leads back to before.
    #[test]
    fn faults_add_up_and_end_separately(
        effects in prop::collection::vec(any_effect(), 0..5),
        order in any::<prop::sample::Index>(),
    ) {
        let spec = three();
        let mut world = applied(&spec);
        let before = world.clone();
        let mut ids = Vec::new();
        for effect in effects {
            // A delay of a guest whose link is down is refused.
            ids.extend(try_inject(&spec, &mut world, effect));
            prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
        }
        while !ids.is_empty() {
            let id = ids.remove(order.index(ids.len()));
            heal(&spec, &mut world, &[id]);
            prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
            let left = &world.intent.faults;
            let cuts: BTreeSet<Cut> = left.values().flat_map(|fault| fault.effect.cuts(&spec)).collect();
            prop_assert_eq!(&world.observed.cuts, &cuts);
        }
        prop_assert_eq!(world, before);
    }

    /// Wherever an injection or a healing is killed, `up` applies what is recorded, and `heal` ends all of it.
    #[test]
    fn a_half_done_fault_converges(first in any_effect(), second in any_effect(), count in 0usize..4, heals in any::<bool>()) {
        let spec = three();
        let mut world = applied(&spec);
        let before = world.clone();
        let id = inject(&spec, &mut world, first);
        let plan = if heals {
            plan_heal(&spec, &world, &[id])
        } else {
            try_plan(&spec, &world, second).map(|(_, plan)| plan).unwrap_or_default()
        };
        world.apply(&plan, count, &spec);
        let mut upped = world.clone();
        let plan = up(&spec, &world).unwrap();
        upped.apply(&plan, usize::MAX, &spec);
        prop_assert_eq!(&upped.intent, &world.intent);
        prop_assert_eq!(up(&spec, &upped), Ok(Plan::default()));
        for mut world in [world, upped] {
            let all: Vec<Name> = world.intent.faults.keys().cloned().collect();
            heal(&spec, &mut world, &all);
            prop_assert_eq!(&world, &before);
        }
    }
}

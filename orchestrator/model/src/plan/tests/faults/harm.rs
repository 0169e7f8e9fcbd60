//! Slow and full disks, clocks that are set off, and burnt processors.

use super::*;
use crate::harm::Disturbance;
use crate::observed::Disturbed;

fn disturbance(world: &mut World, text: &str) -> Disturbance {
    let disturbed = world.domain(&name(text)).disturbed.clone();
    disturbed.map(|disturbed| disturbed.by).unwrap_or_default()
}

fn limit(world: &mut World, disk: &str) -> String {
    let throttles = &world.domain(&name("d0")).throttles;
    let limit = throttles.get(disk).copied();
    limit.map_or(String::new(), |limit| DiskHarm::Slow(limit).to_string())
}

#[test]
fn the_strictest_limit_of_each_kind_counts_and_a_new_process_gets_it_again() {
    let spec = two();
    let mut world = applied(&spec);
    let before = world.clone();
    insta::assert_snapshot!(lines(&plan_fault(&spec, &world, slow("d0", "data", 500))), @"
    intent/record after []: the fault `disk-1` begins
    d0/throttle/data after [intent/record]: a fault is active
    ");
    let first = inject(&spec, &mut world, slow("d0", "data", 500));
    let few = Throttle {
        bytes: Some(Size::mib(1)),
        iops: Some(5),
    };
    let few = Effect::Disk {
        domain: name("d0"),
        disk: name("data"),
        harm: DiskHarm::Slow(few),
    };
    let second = inject(&spec, &mut world, few);
    assert_eq!(limit(&mut world, "data"), "--slow 500KiB/s --iops 5");
    assert_eq!(limit(&mut world, "system"), "");
    let mut ended = world.clone();
    let domain = ended.domain(&name("d0"));
    domain.power = Power::Crashed(Crash::Process);
    domain.throttles.clear();
    let plan = up(&spec, &ended).unwrap();
    assert!(has(&plan, "d0", DomainStep::Throttle("data".into())));
    ended.apply(&plan, usize::MAX, &spec);
    assert_eq!(limit(&mut ended, "data"), "--slow 500KiB/s --iops 5");
    assert_eq!(up(&spec, &ended), Ok(Plan::default()));
    heal(&spec, &mut world, &[first]);
    assert_eq!(limit(&mut world, "data"), "--slow 1MiB/s --iops 5");
    insta::assert_snapshot!(lines(&plan_heal(&spec, &world, std::slice::from_ref(&second))), @"
    d0/throttle/data after []: no active fault needs it
    intent/record after [d0/throttle/data]: faults end
    ");
    heal(&spec, &mut world, &[second]);
    assert_eq!(world, before);
}

#[test]
fn what_disturbs_a_guest_from_within_adds_up() {
    let spec = two();
    let mut world = applied(&spec);
    let before = world.clone();
    insta::assert_snapshot!(lines(&plan_fault(&spec, &world, full("d0", "data"))), @"
    intent/record after []: the fault `disk-1` begins
    d0/reach after [intent/record]: a fault is active
    d0/disturb after [intent/record d0/reach]: a fault is active
    ");
    let effects = [
        full("d0", "data"),
        full("d0", "system"),
        clock("d0", 600),
        clock("d0", -60),
        cpu("d0", 70),
        cpu("d0", 60),
    ];
    let ids: Vec<Name> = effects
        .into_iter()
        .map(|effect| inject(&spec, &mut world, effect))
        .collect();
    let all = disturbance(&mut world, "d0");
    let mounts = [("data", "/var/lib/data"), ("system", "/")];
    let mounts = mounts.map(|(disk, mount)| (name(disk), mount.into()));
    assert_eq!(
        (all.full, all.clock, all.burn),
        (BTreeMap::from(mounts), Offset(540), 100)
    );
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    heal(&spec, &mut world, &ids[..1]);
    heal(&spec, &mut world, &ids[2..3]);
    heal(&spec, &mut world, &ids[4..5]);
    let left = disturbance(&mut world, "d0");
    let only = BTreeMap::from([(name("system"), "/".into())]);
    assert_eq!((left.full, left.clock, left.burn), (only, Offset(-60), 60));
    for id in [&ids[1], &ids[3], &ids[5]] {
        heal(&spec, &mut world, std::slice::from_ref(id));
    }
    assert_eq!(world, before);
}

#[test]
fn a_disk_that_fails_is_full_after_it_is_brought_back() {
    let spec = two();
    let mut world = applied(&spec);
    let disks = |world: &mut World| {
        let by = disturbance(world, "d0");
        (by.full.len(), by.failing.len())
    };
    let first = inject(&spec, &mut world, full("d0", "data"));
    let second = inject(&spec, &mut world, failing("d0", "data"));
    assert_eq!(disks(&mut world), (0, 1));
    heal(&spec, &mut world, &[second]);
    assert_eq!(disks(&mut world), (1, 0));
    heal(&spec, &mut world, &[first]);
    assert_eq!(world, applied(&spec));
    let domain = name("d0");
    let error = try_plan(&spec, &world, failing("d0", "system")).unwrap_err();
    assert_eq!(error, PlanError::SystemDiskFails { domain });
}

/// The offsets with which a plan reaches a domain.
fn reached_with(plan: &Plan) -> Vec<Offset> {
    let steps = plan.steps.iter();
    let offsets = steps.filter_map(|step| match &step.action {
        Action::Reach { clock, .. } => Some(*clock),
        _ => None,
    });
    offsets.collect()
}

#[test]
fn a_clock_that_a_fault_set_off_is_not_set_right_but_for_a_new_disk() {
    let spec = two();
    let mut world = applied(&spec);
    assert_eq!(
        reached_with(&plan_fault(&spec, &world, clock("d1", 600))),
        [Offset(0)]
    );
    let id = inject(&spec, &mut world, clock("d1", 600));
    let mut off = world.clone();
    off.domain(&name("d1")).power = Power::ShutDown;
    let plan = up(&spec, &off).unwrap();
    assert_eq!(reached_with(&plan), [Offset(600)]);
    assert!(has(&plan, "d1", DomainStep::Disturb));
    let names = BTreeSet::from([name("d1")]);
    let (intent, observed) = (&off.intent, &off.observed);
    let plan = super::super::power(&spec, intent, observed, PowerGoal::Start, &names).unwrap();
    assert_eq!(reached_with(&plan), [Offset(600)]);
    let mut new = off;
    new.domain(&name("d1")).disk = None;
    let plan = up(&spec, &new).unwrap();
    assert_eq!(reached_with(&plan), [Offset(0)]);
    new.apply(&plan, usize::MAX, &spec);
    assert_eq!(disturbance(&mut new, "d1").clock, Offset(600));
    heal(&spec, &mut world, &[id]);
    assert_eq!(world, applied(&spec));
}

#[test]
fn disks_are_brought_back_before_a_release_is_pushed() {
    let spec = two();
    let disk = BTreeMap::from([(name("data"), "/var/lib/data".into())]);
    let full = Disturbance {
        full: disk.clone(),
        ..Disturbance::default()
    };
    let failing = Disturbance {
        failing: disk,
        ..Disturbance::default()
    };
    for by in [full, failing] {
        let mut world = applied(&spec);
        world.domain(&name("d0")).disturbed = Some(Disturbed {
            by,
            complete: false,
        });
        world.domain(&name("d0")).service.as_mut().unwrap().serving = false;
        let plan = up(&spec, &world).unwrap();
        assert_eq!(
            after(&plan, "d0", DomainStep::Push),
            ["d0/reach", "d0/disturb"]
        );
        world.apply(&plan, usize::MAX, &spec);
        assert_eq!(world, applied(&spec));
    }
}

#[test]
fn such_faults_need_a_guest_that_runs_and_those_within_it_one_that_is_reached() {
    let spec = two();
    let mut world = applied(&spec);
    let effects = || {
        [
            slow("d0", "data", 1),
            full("d0", "data"),
            failing("d0", "data"),
            clock("d0", 1),
            cpu("d0", 1),
        ]
    };
    let mut off = world.clone();
    off.domain(&name("d0")).power = Power::Off;
    let domain = || name("d0");
    for effect in effects() {
        let error = try_plan(&spec, &off, effect).unwrap_err();
        assert_eq!(error, PlanError::NeedsRunning { domain: domain() });
    }
    inject(&spec, &mut world, link("d0"));
    let [slow, within @ ..] = effects();
    assert!(try_plan(&spec, &world, slow).is_ok());
    for effect in within {
        let error = try_plan(&spec, &world, effect).unwrap_err();
        assert_eq!(error, PlanError::Unplugged { domain: domain() });
    }
}

#[test]
fn a_memory_that_is_saved_to_the_end_of_all_faults_keeps_none() {
    let spec = two();
    let mut world = applied(&spec);
    inject(&spec, &mut world, slow("d0", "data", 1));
    inject(&spec, &mut world, clock("d1", 600));
    inject(&spec, &mut world, link("d0"));
    let plan = super::super::down_saved(&spec, &world.intent, &world.observed).unwrap();
    let before = after(&plan, "d0", DomainStep::Save);
    for step in ["d0/link", "d0/throttle/data"] {
        assert!(before.contains(&step.to_owned()), "{before:?}");
    }
    assert!(respects_order(&plan));
    world.apply(&plan, usize::MAX, &spec);
    let plan = up(&spec, &world).unwrap();
    // The guest is as it was saved.
    assert!(has(&plan, "d1", DomainStep::Disturb));
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    assert_eq!(disturbance(&mut world, "d1"), Disturbance::default());
}

#[test]
fn a_fault_of_a_volume_ends_with_the_volume() {
    let spec = two();
    let effect = full("d0", "data");
    assert_eq!(effect.clone().within(&spec), Some(effect.clone()));
    let mut other = spec;
    other.domains.get_mut(&name("d0")).unwrap().volumes.clear();
    assert_eq!(effect.within(&other), None);
    assert!(full("d0", "system").within(&other).is_some());
}

//! The commands for power, and what is left of a deployment whose memory is saved.

use super::*;
use crate::fault::{Effect, Fault};
use crate::intent::PowerIntent;
use crate::observed::{Crash, MemoryCondition, Pause};

const GOALS: [PowerGoal; 9] = [
    PowerGoal::Start,
    PowerGoal::Stop(StopMode::Shutdown),
    PowerGoal::Stop(StopMode::Force),
    PowerGoal::Restart(Restart::Warm),
    PowerGoal::Restart(Restart::Cold),
    PowerGoal::Pause,
    PowerGoal::Resume,
    PowerGoal::Save,
    PowerGoal::Restore,
];

const POWERS: [Power; 9] = [
    Power::Off,
    Power::ShutDown,
    Power::Running,
    Power::Paused(Pause::User),
    Power::Paused(Pause::IoError),
    Power::Suspended,
    Power::Saved,
    Power::Crashed(Crash::Guest),
    Power::Crashed(Crash::Process),
];

fn ask(spec: &Spec, world: &World, goal: PowerGoal, names: &[&str]) -> Result<Plan, PlanError> {
    let names = names.iter().map(|it| name(it)).collect();
    power(spec, &world.intent, &world.observed, goal, &names)
}

fn done(spec: &Spec, world: &mut World, goal: PowerGoal, names: &[&str]) -> Plan {
    let plan = ask(spec, world, goal, names).unwrap();
    world.apply(&plan, usize::MAX, spec);
    plan
}

#[test]
fn dependents_stop_first_and_dependencies_are_waited_for_first() {
    let spec = two();
    let mut world = applied(&spec);
    let stop = done(&spec, &mut world, PowerGoal::Stop(StopMode::Shutdown), &[]);
    insta::assert_snapshot!(lines(&stop), @"
    intent/record after []: `pspd stop`
    d1/gather after []: `pspd stop`
    d1/stop after [d1/gather]: `pspd stop`
    d0/gather after []: `pspd stop`
    d0/stop after [d1/stop d0/gather]: `pspd stop`
    ");
    assert_eq!(drift(&spec, &world), Plan::default());
    let start = done(&spec, &mut world, PowerGoal::Start, &[]);
    insta::assert_snapshot!(lines(&start), @"
    intent/record after []: `pspd start`
    d0/start after []: `pspd start`
    d1/start after []: `pspd start`
    d0/reach after [d0/start]: `pspd start`
    d0/serving after [d0/reach]: `pspd start`
    d1/reach after [d1/start]: `pspd start`
    d1/serving after [d1/reach d0/serving]: `pspd start`
    ");
    assert!(world.intent.is_empty());
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn the_memory_of_all_is_of_one_instant_and_all_continue_together() {
    let spec = two();
    let mut world = applied(&spec);
    let save = done(&spec, &mut world, PowerGoal::Save, &[]);
    insta::assert_snapshot!(lines(&save), @"
    intent/record after []: `pspd save`
    d0/gather after []: `pspd save`
    d1/gather after []: `pspd save`
    d0/pause after [d0/gather d1/gather]: `pspd save`
    d1/pause after [d0/gather d1/gather]: `pspd save`
    d0/save after [d0/pause d1/pause]: `pspd save`
    d1/save after [d0/pause d1/pause]: `pspd save`
    ");
    assert_eq!(save.undo, Undo::WhenNotSuccessful);
    assert_eq!(drift(&spec, &world), Plan::default());
    let mut by_up = world.clone();
    let restore = done(&spec, &mut world, PowerGoal::Restore, &[]);
    insta::assert_snapshot!(lines(&restore), @"
    intent/record after []: `pspd restore`
    d0/restore after []: `pspd restore`
    d1/restore after []: `pspd restore`
    d0/continue after [d0/restore d1/restore]: `pspd restore`
    d1/continue after [d0/restore d1/restore]: `pspd restore`
    d0/serving after [d0/continue]: `pspd restore`
    d1/serving after [d1/continue d0/serving]: `pspd restore`
    ");
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    let plan = up(&spec, &by_up).unwrap();
    assert!(has(&plan, "d0", DomainStep::Restore) && !has(&plan, "d0", DomainStep::Reach));
    by_up.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &by_up), Ok(Plan::default()));
}

#[test]
fn down_with_saved_memory_keeps_disks_and_up_continues() {
    let spec = two();
    let mut world = applied(&spec);
    let plan = down_saved(&spec, &world.intent, &world.observed).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    d0/gather after []: the deployment is taken down
    d1/gather after []: the deployment is taken down
    d0/pause after [d0/gather d1/gather]: the deployment is taken down
    d1/pause after [d0/gather d1/gather]: the deployment is taken down
    d0/save after [d0/pause d1/pause]: the deployment is taken down
    d1/save after [d0/pause d1/pause]: the deployment is taken down
    unpublish/127.0.0.1:9000 after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save]: the deployment is taken down
    unpublish/127.0.0.1:9001 after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save]: the deployment is taken down
    d1/undefine after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save]: the deployment is taken down
    d0/undefine after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save]: the deployment is taken down
    network/stop after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/undefine d0/undefine]: the deployment is taken down
    network/undefine after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/undefine d0/undefine network/stop]: the deployment is taken down
    lab/stop after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/undefine d0/undefine network/stop network/undefine]: the deployment is taken down
    lab/remove after [d0/gather d1/gather d0/pause d1/pause d0/save d1/save unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/undefine d0/undefine network/stop network/undefine lab/stop]: the deployment is taken down
    ");
    world.apply(&plan, usize::MAX, &spec);
    let again = down_saved(&spec, &world.intent, &world.observed).unwrap();
    assert_eq!(again.steps, []);
    let mut removed = world.clone();
    let plan = up(&spec, &world).unwrap();
    for step in [DomainStep::CreateDisk, DomainStep::Start, DomainStep::Push] {
        assert!(!has(&plan, "d0", step.clone()) && !has(&plan, "d1", step));
    }
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    let plan = down(&spec, &removed, Volumes::Delete);
    removed.apply(&plan, usize::MAX, &spec);
    assert!(owns_nothing(&removed.observed));
}

#[test]
fn memory_that_does_not_fit_is_not_restored_and_the_reason_is_named() {
    let spec = two();
    let mut saved = applied(&spec);
    done(&spec, &mut saved, PowerGoal::Save, &[]);
    let boots = |spec: &Spec, world: &World, problem: &str| {
        let plan = up(spec, world).unwrap();
        assert!(has(&plan, "d0", DomainStep::Start), "{problem}");
        assert!(!has(&plan, "d0", DomainStep::Restore), "{problem}");
        assert!(has(&plan, "d1", DomainStep::Restore), "{problem}");
        let note = format!("`d0` boots instead of continuing from its saved memory: {problem}");
        assert!(plan.notes.contains(&note), "{:?}", plan.notes);
        let mut world = world.clone();
        world.apply(&plan, usize::MAX, spec);
        assert_eq!(up(spec, &world), Ok(Plan::default()));
    };
    for (condition, problem) in [
        (MemoryCondition::OtherDisks, "its disks were written since"),
        (
            MemoryCondition::OtherHypervisor,
            "it is from another version of QEMU",
        ),
        (MemoryCondition::Damaged, "its file is damaged"),
    ] {
        let mut world = saved.clone();
        world.domain(&name("d0")).memory.as_mut().unwrap().condition = condition;
        boots(&spec, &world, problem);
        let error = ask(&spec, &world, PowerGoal::Restore, &["d0"]).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    type Change = fn(&mut DomainSpec);
    let changes: [(Change, &str); 4] = [
        (
            |domain| domain.machine = Machine::Q35,
            "its definition changed",
        ),
        (
            |domain| domain.memory.current = Size::mib(500),
            "its memory or its vCPUs changed",
        ),
        (
            |domain| domain.system_disk = Size::gib(900),
            "its disks change",
        ),
        (
            |domain| domain.volumes[0].size = Size::gib(900),
            "its disks change",
        ),
    ];
    for (change, problem) in changes {
        let mut spec = spec.clone();
        change(spec.domains.get_mut(&name("d0")).unwrap());
        boots(&spec, &saved, problem);
    }
}

#[test]
fn a_changed_binary_is_deployed_after_the_restore() {
    let spec = two();
    let mut world = applied(&spec);
    done(&spec, &mut world, PowerGoal::Save, &[]);
    world.domain(&name("d0")).service.as_mut().unwrap().release = Some(Digest::of(b"new"));
    let plan = up(&spec, &world).unwrap();
    assert_eq!(after(&plan, "d0", DomainStep::Reach), ["d0/continue"]);
    assert!(has(&plan, "d0", DomainStep::Push) && !has(&plan, "d1", DomainStep::Push));
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn what_cannot_be_asked_of_a_domain_is_said_with_what_to_do() {
    let spec = two();
    let mut world = applied(&spec);
    let errors =
        |world: &World, goal: PowerGoal| told(&ask(&spec, world, goal, &["d0"]).unwrap_err());
    insta::assert_snapshot!(errors(&world, PowerGoal::Restore), @"domain `d0` is running. Run `pspd stop d0` first");
    done(
        &spec,
        &mut world,
        PowerGoal::Stop(StopMode::Shutdown),
        &["d0"],
    );
    insta::assert_snapshot!(errors(&world, PowerGoal::Pause), @"domain `d0` is not running: it is shut off. Run `pspd start` to start it");
    insta::assert_snapshot!(errors(&world, PowerGoal::Restore), @"no memory of domain `d0` is saved. Run `pspd start d0` to boot it");
    let error = ask(&spec, &world, PowerGoal::Restore, &[]).unwrap_err();
    insta::assert_snapshot!(told(&error), @"no domain of `demo` has saved memory. Run `pspd start` to boot them");
    done(&spec, &mut world, PowerGoal::Start, &[]);
    done(&spec, &mut world, PowerGoal::Save, &["d0"]);
    insta::assert_snapshot!(errors(&world, PowerGoal::Save), @"domain `d0` is not running: it is shut off. Run `pspd restore` to continue it");
    let effect = Effect::Kill { domain: name("d1") };
    world
        .intent
        .faults
        .insert(name("kill-1"), Fault::new(effect, 0, None));
    let error = ask(&spec, &world, PowerGoal::Start, &["d1"]).unwrap_err();
    insta::assert_snapshot!(told(&error), @"the fault `kill-1` controls the power of `d1`. Run `pspd heal kill-1` to end it");
    let nothing = nothing(&spec);
    insta::assert_snapshot!(errors(&nothing, PowerGoal::Start), @"`demo` is not up. Run `pspd up` to start it");
}

#[test]
fn a_service_is_not_waited_for_while_what_it_depends_on_is_stopped() {
    let spec = two();
    let mut world = applied(&spec);
    done(&spec, &mut world, PowerGoal::Stop(StopMode::Force), &[]);
    let plan = done(&spec, &mut world, PowerGoal::Start, &["d1"]);
    assert!(has(&plan, "d1", DomainStep::Reach) && !has(&plan, "d1", DomainStep::Serving));
    assert_eq!(
        plan.notes,
        ["not waiting for the service of `d1`: its dependency `d0` is not running normally"]
    );
    assert_eq!(
        world.intent.power,
        BTreeMap::from([(name("d0"), PowerIntent::Stopped)])
    );
}

#[test]
fn other_sizes_are_set_within_the_maximum_and_up_brings_the_topologys_back() {
    let spec = two();
    let mut world = applied(&spec);
    let set = |world: &World, memory, vcpus| {
        super::super::set(&spec, &world.observed, &name("d0"), memory, vcpus)
    };
    let maximum = spec.domains[&name("d0")].memory.maximum;
    let less = Size(maximum.0 / 4 * 3);
    let plan = set(&world, Some(less), None).unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert!(
        plan.notes[0].ends_with("`pspd up` restores that"),
        "{:?}",
        plan.notes
    );
    world.apply(&plan, usize::MAX, &spec);
    assert!(has(&drift(&spec, &world), "d0", DomainStep::Resize));
    let plan = up(&spec, &world).unwrap();
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
    let error = set(&world, Some(Size(maximum.0 + 1)), None).unwrap_err();
    assert_eq!(
        told(&error),
        "`d0` can have at most 1 GiB, not 1.0 GiB. Raise its maximum in the topology, and run `pspd up`"
    );
}

fn subset(spec: &Spec, bits: u8) -> Vec<&str> {
    let names = spec.domains.keys().enumerate();
    let names = names.filter(|(index, _)| bits >> index & 1 == 1);
    names.map(|(_, name)| name.as_str()).collect()
}

proptest! {
    /// From any power states, through any commands of which any may be killed at any step: `plan` and `up` can be made, one
    /// `up` brings everything back, and no memory is restored that does not fit (which the model asserts).
    #[test]
    fn up_converges_after_any_commands(
        spec in any_spec(),
        powers in prop::collection::vec(0..POWERS.len(), 6),
        asked in prop::collection::vec((0..GOALS.len(), any::<u8>(), 0usize..40, prop::collection::vec(any::<u8>(), 1..8)), 1..4),
    ) {
        let mut world = applied(&spec);
        for (domain, power) in world.observed.domains.values_mut().zip(powers) {
            domain.power = POWERS[power];
        }
        for (goal, bits, count, picks) in asked {
            // A command can refuse what it is asked.
            let Ok(plan) = ask(&spec, &world, GOALS[goal], &subset(&spec, bits)) else { continue };
            prop_assert!(respects_order(&plan));
            world.apply_in_any_order(&plan, count, &spec, &picks);
        }
        drift(&spec, &world);
        let mut removed = world.clone();
        let plan = up(&spec, &world).unwrap();
        prop_assert!(respects_order(&plan));
        world.apply(&plan, usize::MAX, &spec);
        prop_assert!(world.observed.domains.values().all(|domain| domain.power == Power::Running));
        prop_assert!(world.observed.domains.values().all(|domain| domain.memory.is_none()));
        prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
        let plan = down(&spec, &removed, Volumes::Delete);
        removed.apply(&plan, usize::MAX, &spec);
        prop_assert!(owns_nothing(&removed.observed));
    }

    /// What a command did is what the user asked for, so it is not drift.
    #[test]
    fn an_applied_command_leaves_no_drift(spec in any_spec(), goal in 0..GOALS.len(), bits in any::<u8>()) {
        let mut world = applied(&spec);
        let Ok(plan) = ask(&spec, &world, GOALS[goal], &subset(&spec, bits)) else { return Ok(()) };
        world.apply(&plan, usize::MAX, &spec);
        prop_assert_eq!(drift(&spec, &world), Plan::default());
    }
}

//! Snapshots of the whole deployment: one instant for all domains, and the way back.

use super::*;
use crate::fault::{Effect, Fault};
use crate::observed::{Crash, Pause};

fn save(spec: &Spec, world: &World, disk_only: bool) -> Result<Plan, PlanError> {
    let options = SnapshotOptions {
        name: name("clean"),
        note: "a note".into(),
        disk_only,
        tidy: false,
        meets: false,
    };
    super::super::save_snapshot(spec, &world.intent, &world.observed, options)
}

#[test]
fn over_several_hosts_all_are_paused_before_any_resumes() {
    let spec = two();
    let options = SnapshotOptions {
        name: name("clean"),
        note: String::new(),
        disk_only: false,
        tidy: false,
        meets: true,
    };
    let world = applied(&spec);
    let plan = super::super::save_snapshot(&spec, &world.intent, &world.observed, options).unwrap();
    assert_eq!(plan.undo, Undo::WhenNotSuccessful);
    insta::assert_snapshot!(lines(&plan), @"
    snapshot/begin after []: `pspd snapshot save`
    d0/layers after [snapshot/begin]: `pspd snapshot save`
    d1/layers after [snapshot/begin]: `pspd snapshot save`
    hosts/ready after [d0/layers d1/layers]: the snapshot is of one instant on all hosts
    d0/pause after [d0/layers d1/layers hosts/ready]: `pspd snapshot save`
    d1/pause after [d0/layers d1/layers hosts/ready]: `pspd snapshot save`
    hosts/paused after [hosts/ready d0/pause d1/pause]: the snapshot is of one instant on all hosts
    d0/take-snapshot after [d0/layers d1/layers d0/pause d1/pause]: `pspd snapshot save`
    d1/take-snapshot after [d0/layers d1/layers d0/pause d1/pause]: `pspd snapshot save`
    d0/resume after [d0/take-snapshot d1/take-snapshot hosts/paused]: its disks are frozen
    d1/resume after [d0/take-snapshot d1/take-snapshot hosts/paused]: its disks are frozen
    hosts/saved after [d0/take-snapshot d1/take-snapshot d0/resume d1/resume hosts/paused]: the snapshot is of one instant on all hosts
    snapshot/record after [d0/take-snapshot d1/take-snapshot d0/resume d1/resume hosts/saved]: `pspd snapshot save`
    ");
    insta::assert_snapshot!(lines(&super::super::save_nothing()), @"
    hosts/ready after []: the snapshot is of one instant on all hosts
    hosts/paused after [hosts/ready]: the snapshot is of one instant on all hosts
    hosts/saved after [hosts/paused]: the snapshot is of one instant on all hosts
    ");
}

#[test]
fn all_domains_are_paused_while_they_are_saved() {
    let spec = two();
    let plan = save(&spec, &applied(&spec), false).unwrap();
    assert_eq!(plan.undo, Undo::WhenNotSuccessful);
    insta::assert_snapshot!(lines(&plan), @"
    snapshot/begin after []: `pspd snapshot save`
    d0/layers after [snapshot/begin]: `pspd snapshot save`
    d1/layers after [snapshot/begin]: `pspd snapshot save`
    d0/pause after [d0/layers d1/layers]: `pspd snapshot save`
    d1/pause after [d0/layers d1/layers]: `pspd snapshot save`
    d0/take-snapshot after [d0/layers d1/layers d0/pause d1/pause]: `pspd snapshot save`
    d1/take-snapshot after [d0/layers d1/layers d0/pause d1/pause]: `pspd snapshot save`
    d0/resume after [d0/take-snapshot d1/take-snapshot]: its disks are frozen
    d1/resume after [d0/take-snapshot d1/take-snapshot]: its disks are frozen
    snapshot/record after [d0/take-snapshot d1/take-snapshot d0/resume d1/resume]: `pspd snapshot save`
    ");
}

#[test]
fn what_does_not_run_is_saved_as_it_is() {
    let spec = two();
    for power in [
        Power::Off,
        Power::Saved,
        Power::Suspended,
        Power::Paused(Pause::User),
        Power::Paused(Pause::IoError),
        Power::Crashed(Crash::Guest),
        Power::Crashed(Crash::Process),
    ] {
        for disk_only in [false, true] {
            let mut world = applied(&spec);
            world.domain(&name("d0")).power = power;
            let plan = save(&spec, &world, disk_only).unwrap();
            let before = world.clone();
            // The model refuses a snapshot of a guest that runs, and of a process that is not there.
            world.apply(&plan, usize::MAX, &spec);
            assert_eq!(world.observed.snapshots, BTreeSet::from([name("clean")]));
            world.observed.snapshots.clear();
            if power != Power::Suspended {
                assert_eq!(world, before, "{power:?}");
            }
        }
    }
}

#[test]
fn saved_memory_is_a_part_of_a_snapshot() {
    let spec = two();
    let mut world = applied(&spec);
    let saved = power(
        &spec,
        &world.intent,
        &world.observed,
        PowerGoal::Save,
        &BTreeSet::from([name("d0")]),
    );
    world.apply(&saved.unwrap(), usize::MAX, &spec);
    let of = |plan: &Plan| {
        let mut steps = plan.steps.iter();
        let of = steps.find_map(|step| match &step.action {
            Action::TakeSnapshot { domain, of, .. } if *domain == name("d0") => Some(of.clone()),
            _ => None,
        });
        of.unwrap()
    };
    assert_eq!(
        of(&save(&spec, &world, false).unwrap()),
        SnapshotOf::SavedMemory
    );
    assert_eq!(of(&save(&spec, &world, true).unwrap()), SnapshotOf::Off);
    let memory = &mut world.domain(&name("d0")).memory;
    memory.as_mut().unwrap().condition = crate::observed::MemoryCondition::Damaged;
    assert_eq!(of(&save(&spec, &world, false).unwrap()), SnapshotOf::Off);
}

#[test]
fn a_snapshot_needs_a_name_of_its_own_a_deployment_and_no_faults() {
    let spec = two();
    let error = |world: &World| told(&save(&spec, world, false).unwrap_err());
    let mut world = applied(&spec);
    world.observed.snapshots.insert(name("clean"));
    insta::assert_snapshot!(error(&world), @"the snapshot `clean` already exists. Choose another name, or remove it with `pspd snapshot rm clean`");
    insta::assert_snapshot!(error(&nothing(&spec)), @"`demo` is not up. Run `pspd up` to start it");
    let mut world = applied(&spec);
    let fault = Fault::new(Effect::Link { domain: name("d0") }, 0, None);
    world.intent.faults.insert(name("link-1"), fault);
    insta::assert_snapshot!(error(&world), @"the fault `link-1` is active, and a snapshot would keep a part of it. Run `pspd heal` first");
}

#[test]
fn nothing_runs_while_a_snapshot_is_put_in_place() {
    let spec = two();
    for power in [
        Power::Running,
        Power::Paused(Pause::Process(7)),
        Power::Suspended,
        Power::Crashed(Crash::Guest),
        Power::Saved,
    ] {
        let mut world = applied(&spec);
        world.domain(&name("d0")).power = power;
        let plan = super::super::rewind(&world.observed, &name("clean"), false);
        world.apply(&plan, usize::MAX, &spec);
        let off = world
            .observed
            .domains
            .values()
            .all(|it| !it.power.has_process());
        assert!(off, "{power:?}");
    }
    let plan = super::super::rewind(&applied(&spec).observed, &name("clean"), false);
    insta::assert_snapshot!(lines(&plan), @"
    d0/stop after []: `pspd snapshot restore`
    d1/stop after []: `pspd snapshot restore`
    snapshot/rewind after [d0/stop d1/stop]: `pspd snapshot restore`
    ");
}

#[test]
fn snapshots_are_removed_one_after_the_other() {
    let names = ["a", "b", "c"].map(name);
    let plan = super::super::remove_snapshots(&names);
    insta::assert_snapshot!(lines(&plan), @"
    remove-snapshot/a after []: `pspd snapshot rm`
    remove-snapshot/b after [remove-snapshot/a]: `pspd snapshot rm`
    remove-snapshot/c after [remove-snapshot/b]: `pspd snapshot rm`
    ");
}

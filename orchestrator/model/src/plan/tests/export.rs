//! Exports: one instant for all guests, and nothing that a killed one leaves.

use super::*;
use crate::observed::{Crash, Pause};

fn options() -> ExportOptions {
    ExportOptions {
        archive: "demo.tar.xz".into(),
        existing: Existing::Refuse,
        clean: false,
        flatten: false,
        with_secrets: true,
        snapshot: None,
    }
}

fn export(spec: &Spec, world: &World) -> Result<Plan, PlanError> {
    super::super::export(spec, &world.intent, &world.observed, options())
}

#[test]
fn running_guests_are_paused_together_and_packed_while_they_run() {
    let spec = two();
    let plan = export(&spec, &applied(&spec)).unwrap();
    assert_eq!(plan.undo, Undo::WhenNotSuccessful);
    insta::assert_snapshot!(lines(&plan), @"
    d0/trim after []: the deployment is exported
    d1/trim after []: the deployment is exported
    d0/pause after [d0/trim d1/trim]: the deployment is exported
    d1/pause after [d0/trim d1/trim]: the deployment is exported
    d0/snapshot after [d0/pause d1/pause]: the deployment is exported
    d1/snapshot after [d0/pause d1/pause]: the deployment is exported
    d0/resume after [d0/pause d0/snapshot d1/snapshot]: its disks are frozen
    d1/resume after [d1/pause d0/snapshot d1/snapshot]: its disks are frozen
    archive/export after [d0/snapshot d1/snapshot]: the deployment is exported
    d0/merge-snapshot after [d0/snapshot d0/resume archive/export]: its disks were packed
    d1/merge-snapshot after [d1/snapshot d1/resume archive/export]: its disks were packed
    ");
}

#[test]
fn a_stopped_deployment_is_packed_without_pausing_anything() {
    let spec = two();
    let mut world = applied(&spec);
    for domain in world.observed.domains.values_mut() {
        domain.power = Power::Off;
    }
    insta::assert_snapshot!(lines(&export(&spec, &world).unwrap()), @"archive/export after []: the deployment is exported");
}

#[test]
fn a_snapshot_is_packed_while_the_deployment_is_left_alone() {
    let spec = two();
    let options = ExportOptions {
        snapshot: Some(name("clean")),
        ..options()
    };
    let export = |world: &World| {
        let (intent, observed) = (&world.intent, &world.observed);
        super::super::export(&spec, intent, observed, options.clone())
    };
    let mut world = applied(&spec);
    world.domain(&name("d0")).unmerged = true;
    let plan = export(&world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"archive/export after []: the deployment is exported");
    world
        .observed
        .images
        .values_mut()
        .for_each(|image| image.cached = false);
    insta::assert_snapshot!(told(&export(&world).unwrap_err()), @"image `debian` is no longer cached. Run `pspd up` to get it again");
}

#[test]
fn saved_memory_that_is_not_packed_is_noted() {
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
    assert_eq!(
        export(&spec, &world).unwrap().notes,
        ["`d0` is packed as after a power cut: its saved memory is not packed"]
    );
}

#[test]
fn a_domain_that_was_paused_stays_paused() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d0")).power = Power::Paused(Pause::User);
    let plan = export(&spec, &world).unwrap();
    for step in [DomainStep::Tidy, DomainStep::Pause, DomainStep::Resume] {
        assert!(!has(&plan, "d0", step.clone()) && has(&plan, "d1", step));
    }
    insta::assert_snapshot!(plan.notes.join("\n"), @"
    `d0` is packed without trimming its disks: it is paused
    `d0` stays paused; run `pspd up` to resume it
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(world.domain(&name("d0")).power, Power::Paused(Pause::User));
    assert!(!world.domain(&name("d0")).unmerged);
}

#[test]
fn what_an_interrupted_export_left_is_merged_before_anything_is_paused() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d1")).unmerged = true;
    let plan = export(&spec, &world).unwrap();
    assert_eq!(plan.steps[0].id.to_string(), "d1/merge");
    assert!(after(&plan, "d0", DomainStep::Pause).contains(&"d1/merge".to_owned()));
    world.apply(&plan, usize::MAX, &spec);
    assert!(!world.domain(&name("d1")).unmerged);
}

#[test]
fn private_keys_that_are_left_out_are_mentioned() {
    let spec = two();
    let world = applied(&spec);
    let options = ExportOptions {
        with_secrets: false,
        ..options()
    };
    let plan = super::super::export(&spec, &world.intent, &world.observed, options).unwrap();
    assert!(plan.notes[0].starts_with("private keys are not included"));
    assert_eq!(export(&spec, &world).unwrap().notes, [""; 0]);
}

#[test]
fn what_an_export_lacks_is_an_error_that_says_what_to_do() {
    let spec = two();
    let error = |change: fn(&mut World)| {
        let mut world = applied(&spec);
        change(&mut world);
        told(&export(&spec, &world).unwrap_err())
    };
    let errors = [
        error(|world| _ = world.observed.keys.missing.insert("ca.pem".into())),
        error(|world| world.observed.images.get_mut("debian").unwrap().cached = false),
        error(|world| {
            world.observed.lab = LabState::Stopped;
            world.domain(&name("d0")).unmerged = true;
        }),
        error(|world| world.domain(&name("d0")).foreign = true),
    ];
    insta::assert_snapshot!(errors.join("\n"), @"
    `demo` has no keys yet. Run `pspd up` first
    image `debian` is no longer cached. Run `pspd up` to get it again
    an interrupted export left snapshots of `d0`, and the lab is not running. Run `pspd up` first
    domain `d0` already exists and is not managed by this deployment. Rename one of them, or remove the existing one with virsh
    ");
}

const POWERS: [Power; 5] = [
    Power::Off,
    Power::Running,
    Power::Paused(Pause::User),
    Power::Suspended,
    Power::Crashed(Crash::Guest),
];

proptest! {
    /// Wherever an export is killed, in whatever order its steps ran.
    #[test]
    fn up_and_down_converge_after_any_part_of_an_export(
        spec in any_spec(),
        powers in prop::collection::vec(0..POWERS.len(), 6),
        picks in prop::collection::vec(any::<u8>(), 40),
        count in 0usize..40,
    ) {
        let mut world = applied(&spec);
        for (domain, power) in world.observed.domains.values_mut().zip(powers) {
            domain.power = POWERS[power];
        }
        let plan = export(&spec, &world).unwrap();
        prop_assert!(respects_order(&plan));
        world.apply_in_any_order(&plan, count, &spec, &picks);
        let mut removed = world.clone();
        let rest = up(&spec, &world).unwrap();
        prop_assert!(respects_order(&rest));
        world.apply(&rest, usize::MAX, &spec);
        let mut domains = world.observed.domains.values();
        prop_assert!(domains.all(|domain| domain.power == Power::Running && !domain.unmerged));
        prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
        let removal = down(&spec, &removed, Volumes::Delete);
        prop_assert!(respects_order(&removal));
        removed.apply(&removal, usize::MAX, &spec);
        prop_assert!(owns_nothing(&removed.observed));
        prop_assert!(removed.observed.domains.values().all(|domain| !domain.unmerged));
    }

    #[test]
    fn an_export_leaves_everything_as_it_was_and_wakes_suspended_guests(spec in any_spec(), powers in prop::collection::vec(0..POWERS.len(), 6)) {
        let mut world = applied(&spec);
        for (domain, power) in world.observed.domains.values_mut().zip(powers) {
            domain.power = POWERS[power];
        }
        let mut before = world.clone();
        for domain in before.observed.domains.values_mut().filter(|domain| domain.power == Power::Suspended) {
            domain.power = Power::Running;
        }
        let plan = export(&spec, &world).unwrap();
        world.apply(&plan, usize::MAX, &spec);
        prop_assert_eq!(world, before);
    }
}

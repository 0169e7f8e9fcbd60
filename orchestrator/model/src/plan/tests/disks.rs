//! Disks whose files are gone or replaced, and system disks whose base is: another build must not take its place.

use super::*;
use crate::observed::{Attached, Base};

fn without_base(spec: &Spec) -> World {
    let mut world = applied(spec);
    for domain in world.observed.domains.values_mut() {
        domain.disk.as_mut().unwrap().base = Base::Missing;
    }
    world
}

#[test]
fn another_build_of_the_image_means_a_new_system_disk() {
    let spec = spec(vec![domain(0, &[], true)]);
    for cached in [false, true] {
        let mut world = without_base(&spec);
        world.observed.images.get_mut("debian").unwrap().cached = cached;
        let plan = up(&spec, &world).unwrap();
        let expected = "\
            d0/gather after []: the build of its image that it is based on is no longer cached\n\
            d0/stop after [d0/gather]: the build of its image that it is based on is no longer cached\n\
            d0/delete-disk after [d0/stop]: the build of its image that it is based on is no longer cached\n\
            d0/disk after [d0/delete-disk]: the build of its image that it is based on is no longer cached\n\
            d0/start after [d0/disk d0/stop]: it was stopped for the change";
        let lines = lines(&plan).replace("[d0/stop image/debian]", "[d0/stop]");
        let lines = lines.replace("[image/debian d0/delete-disk]", "[d0/delete-disk]");
        assert!(lines.contains(expected), "{lines}");
        world.apply(&plan, usize::MAX, &spec);
        assert_eq!(up(&spec, &world), Ok(Plan::default()));
    }
}

#[test]
fn a_new_system_disk_has_room_for_its_image() {
    let spec = spec(vec![domain(0, &[], false)]);
    let have = spec.domains[&name("d0")].system_disk;
    let sized = |mut world: World, size: Size| {
        world.observed.images.get_mut("debian").unwrap().size = Some(size);
        up(&spec, &world)
    };
    let least = Size(have.0 + 1024);
    let error = PlanError::SmallerThanImage {
        domain: "d0".into(),
        have,
        image: "debian".into(),
        least,
    };
    assert_eq!(sized(nothing(&spec), least), Err(error.clone()));
    assert_eq!(sized(without_base(&spec), least), Err(error));
    assert!(sized(nothing(&spec), have).is_ok());
    // Nothing of it is copied again.
    assert_eq!(sized(applied(&spec), least), Ok(Plan::default()));
}

#[test]
fn an_image_by_path_comes_again_as_it_was() {
    let mut spec = spec(vec![domain(0, &[], true)]);
    let image = spec.images.get_mut("debian").unwrap();
    image.source = ImageSource::Path {
        path: "/image".into(),
        sha256: Digest::of(b"image"),
    };
    let mut world = without_base(&spec);
    world.observed.images.get_mut("debian").unwrap().cached = false;
    let plan = up(&spec, &world).unwrap();
    assert_eq!(lines(&plan), "image/debian after []: it is not cached");
}

#[test]
fn a_saved_state_is_not_restored_over_other_disks() {
    let spec = spec(vec![domain(0, &[], true)]);
    let discards = |world: &World| {
        let plan = up(&spec, world).unwrap();
        let discard = |step: &Step| matches!(&step.action, Action::Start { saved_state, .. } if *saved_state == SavedState::Discard);
        plan.steps.iter().any(discard)
    };
    let mut based = without_base(&spec);
    based.domain(&name("d0")).power = Power::Saved;
    assert!(discards(&based));
    let mut blank = applied(&spec);
    blank.domain(&name("d0")).power = Power::Saved;
    assert!(!discards(&blank));
    blank.observed.volumes.clear();
    assert!(discards(&blank));
}

fn with_attached(spec: &Spec, serial: &str, now: Attached) -> World {
    let mut world = applied(spec);
    let domain = world.domain(&name("d0"));
    domain.attached.insert(serial.to_owned(), now);
    world
}

#[test]
fn a_volume_that_is_gone_while_in_use_is_not_made_again() {
    let spec = spec(vec![domain(0, &[], true)]);
    let mut world = with_attached(&spec, "data", Attached::Missing);
    world.observed.volumes.clear();
    let gone = PlanError::VolumeGone {
        domain: name("d0"),
        file: "d0.data.qcow2".into(),
    };
    assert_eq!(up(&spec, &world), Err(gone.clone()));
    let drift = super::super::drift(&spec, &world.intent, &world.observed);
    assert_eq!(drift, Err(gone.clone()));
    // Also where the definition changes in the same run.
    let mut changed = spec.clone();
    changed.domains.get_mut(&name("d0")).unwrap().machine = Machine::Q35;
    assert_eq!(up(&changed, &world), Err(gone));
    let removal = down(&spec, &world, Volumes::Keep);
    world.apply(&removal, usize::MAX, &spec);
    let plan = up(&spec, &world).unwrap();
    assert!(has(&plan, "d0", DomainStep::Volume(name("data"))));
}

#[test]
fn a_domain_whose_disk_was_replaced_restarts() {
    let spec = spec(vec![domain(0, &[], true)]);
    for serial in ["data", "system"] {
        let mut world = with_attached(&spec, serial, Attached::Replaced);
        let plan = up(&spec, &world).unwrap();
        let reason = "the file of a disk was replaced while it runs";
        let expected = format!(
            "d0/gather after []: {reason}\nd0/stop after [d0/gather]: {reason}\nd0/start after [d0/stop]: "
        );
        assert!(lines(&plan).starts_with(&expected), "{}", lines(&plan));
        world.apply(&plan, usize::MAX, &spec);
        assert_eq!(up(&spec, &world), Ok(Plan::default()));
    }
}

#[test]
fn a_domain_whose_disk_was_overwritten_is_not_shut_down() {
    let spec = spec(vec![domain(0, &[], true)]);
    for disk in ["data", "system"] {
        let mut world = with_attached(&spec, disk, Attached::Overwritten);
        let overwritten = PlanError::DiskOverwritten {
            domain: name("d0"),
            disk: disk.to_owned(),
        };
        assert_eq!(up(&spec, &world), Err(overwritten.clone()));
        let drift = super::super::drift(&spec, &world.intent, &world.observed);
        assert_eq!(drift, Err(overwritten));
        // Forced off, as the hint says.
        world.domain(&name("d0")).power = Power::Off;
        world.domain(&name("d0")).attached.clear();
        assert!(has(&up(&spec, &world).unwrap(), "d0", DomainStep::Start));
    }
}

#[test]
fn a_saved_state_is_not_restored_over_another_disk() {
    let spec = spec(vec![domain(0, &[], true)]);
    for now in [Attached::Replaced, Attached::Overwritten] {
        let mut world = with_attached(&spec, "data", now);
        world.domain(&name("d0")).power = Power::Saved;
        let plan = up(&spec, &world).unwrap();
        let line = "d0/start after []: its saved state is from other disks";
        assert!(lines(&plan).starts_with(line), "{}", lines(&plan));
    }
}

#[test]
fn disks_that_are_not_the_deployments_are_not_exported() {
    let spec = two();
    let export = |world: &World| {
        let options = ExportOptions {
            archive: "a.tar".into(),
            existing: Existing::Refuse,
            clean: false,
            flatten: false,
            with_secrets: false,
            snapshot: None,
        };
        super::super::export(&spec, &world.intent, &world.observed, options)
    };
    let domain = name("d0");
    let world = with_attached(&spec, "data", Attached::Replaced);
    let replaced = PlanError::DiskReplaced {
        domain: domain.clone(),
    };
    assert_eq!(export(&world), Err(replaced));
    let other = PlanError::OtherBase { domain };
    assert_eq!(export(&without_base(&spec)), Err(other));
}

#[test]
fn a_domain_that_must_not_have_a_release_disk_is_defined_again() {
    let mut spec = two();
    let world = applied(&spec);
    // The golden plan shows that the default keeps the digest that definitions had before there were release disks.
    spec.domains.get_mut(&name("d0")).unwrap().push = Push::Ssh;
    let plan = up(&spec, &world).unwrap();
    let defined = ["d0", "d1"].map(|domain| has(&plan, domain, DomainStep::Define));
    assert_eq!(defined, [true, false]);
}

//! System disks whose base is gone: another build of the image must not take its place.

use super::*;
use crate::observed::Base;

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

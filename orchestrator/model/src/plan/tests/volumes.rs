//! Data volumes whose files have names of earlier versions, and those that no domain uses.

use super::*;
use crate::observed::{Attached, OldVolume};

fn volume(domain: &str, volume: &str) -> VolumeId {
    VolumeId {
        domain: name(domain),
        volume: name(volume),
    }
}

/// `applied`, as an earlier version left it: each volume under its old name, and a definition with that name.
fn of_earlier_version(spec: &Spec) -> World {
    let mut world = applied(spec);
    for (id, size) in std::mem::take(&mut world.observed.volumes) {
        let of = BTreeSet::from([id.clone()]);
        let old = OldVolume { size, of };
        world.observed.old_volumes.insert(id.old_file(), old);
        let defined = world.domain(&id.domain).defined.as_mut().unwrap();
        defined.digest = Digest::of(b"another name");
    }
    world
}

#[test]
fn a_volume_is_renamed_while_its_domain_is_off() {
    let spec = spec(vec![domain(0, &[], true)]);
    let mut world = of_earlier_version(&spec);
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    d0/gather after []: its data volumes are renamed
    d0/stop after [d0/gather]: its data volumes are renamed
    d0/rename-volume/data after [d0/stop]: other volumes could have its name
    d0/define after [d0/stop d0/rename-volume/data]: its definition changed
    d0/start after [d0/define d0/stop d0/rename-volume/data]: it was stopped for the change
    d0/reach after [d0/start]: it starts
    d0/push after [d0/reach]: it starts
    d0/activate after [d0/push]: it starts
    d0/healthy after [d0/activate]: it starts
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn the_volume_of_a_domain_that_left_keeps_its_owner() {
    let before = spec(vec![domain(0, &[], true)]);
    let mut world = of_earlier_version(&before);
    let after = spec(vec![domain(1, &[], true)]);
    world.domain(&name("d1")).service = Some(model::service(&name("d1")));
    world.apply(&up(&after, &world.clone()).unwrap(), usize::MAX, &after);
    let volumes: Vec<&VolumeId> = world.observed.volumes.keys().collect();
    assert_eq!(volumes, [&volume("d0", "data"), &volume("d1", "data")]);
}

#[test]
fn a_volume_whose_owner_is_not_clear_is_not_taken() {
    let spec = spec(vec![domain(0, &[], true)]);
    let mut world = nothing(&spec);
    let of = BTreeSet::from([volume("d0", "data"), volume("d", "0-data")]);
    let old = OldVolume {
        size: Size::gib(1),
        of,
    };
    world.observed.old_volumes.insert("file".into(), old);
    let error = PlanError::UnclearVolume {
        file: "file".into(),
        one: volume("d", "0-data"),
        other: volume("d0", "data"),
    };
    assert_eq!(up(&spec, &world), Err(error));
    world.observed.volumes = applied(&spec).observed.volumes;
    let plan = up(&spec, &world).unwrap();
    let note = "the data volume `file` has a name of an earlier version and is not used";
    assert_eq!(plan.notes, [note]);
}

#[test]
fn down_deletes_volumes_of_earlier_versions() {
    let spec = two();
    let mut world = of_earlier_version(&spec);
    let plan = down(&spec, &world, Volumes::Delete);
    world.apply(&plan, usize::MAX, &spec);
    assert!(owns_nothing(&world.observed));
}

#[test]
fn an_export_wants_current_names() {
    let spec = two();
    let world = of_earlier_version(&spec);
    let options = ExportOptions {
        archive: "a.tar".into(),
        existing: Existing::Refuse,
        clean: false,
        flatten: false,
        with_secrets: false,
        snapshot: None,
    };
    let plan = super::super::export(&spec, &world.intent, &world.observed, options);
    let file = "d0-data.qcow2".to_owned();
    assert_eq!(plan, Err(PlanError::OldVolume { file }));
}

proptest! {
    #[test]
    fn a_half_finished_renaming_converges_and_loses_nothing(spec in any_spec(), count in 0usize..60, picks in prop::collection::vec(any::<u8>(), 1..8)) {
        let mut world = of_earlier_version(&spec);
        let volumes = applied(&spec).observed.volumes;
        let plan = up(&spec, &world).unwrap();
        world.apply_in_any_order(&plan, count, &spec, &picks);
        let rest = up(&spec, &world).unwrap();
        let created = |step: &Step| matches!(step.action, Action::CreateVolume { .. });
        prop_assert!(!plan.steps.iter().chain(&rest.steps).any(created));
        world.apply(&rest, usize::MAX, &spec);
        prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
        prop_assert_eq!(&world.observed.volumes, &volumes);
    }
}

#[test]
fn volumes_that_no_domain_has_are_named_and_pruned() {
    let before = spec(vec![domain(0, &[], true), domain(1, &[], true)]);
    let after = spec(vec![domain(1, &[], true)]);
    let note = "no domain of the topology uses the data volume `d0.data.qcow2` (1 GiB); run `pspd volume prune` to delete such volumes";
    for mut world in [applied(&before), of_earlier_version(&before)] {
        let plan = up(&after, &world).unwrap();
        assert_eq!(plan.notes, [note]);
        // Not while its domain still runs.
        let early = prune_volumes(&after, &world.observed);
        assert_eq!(early.steps, []);
        assert_eq!(early.notes.len(), 1);
        world.apply(&plan, usize::MAX, &after);
        assert_eq!(up(&after, &world).unwrap().notes, [note]);
        let prune = prune_volumes(&after, &world.observed);
        assert_eq!(
            lines(&prune),
            "delete-volume/d0.data.qcow2 after []: no domain of the topology uses it"
        );
        world.apply(&prune, usize::MAX, &after);
        assert_eq!(up(&after, &world), Ok(Plan::default()));
        let kept: Vec<&VolumeId> = world.observed.volumes.keys().collect();
        assert_eq!(kept, [&volume("d1", "data")]);
    }
}

#[test]
fn a_volume_that_left_its_domain_is_pruned_once_it_is_closed() {
    let before = spec(vec![domain(0, &[], true)]);
    let after = spec(vec![domain(0, &[], false)]);
    let mut world = applied(&before);
    let domain = world.domain(&name("d0"));
    domain.attached.insert("data".into(), Attached::Same);
    assert_eq!(prune_volumes(&after, &world.observed).steps, []);
    world.apply(&up(&after, &world.clone()).unwrap(), usize::MAX, &after);
    assert_eq!(prune_volumes(&after, &world.observed).steps.len(), 1);
}

//! Taking a deployment down.

use super::*;
use crate::observed::Attached;

#[test]
fn down_stops_dependents_first_and_keeps_volumes() {
    let spec = two();
    insta::assert_snapshot!(lines(&down(&spec, &applied(&spec), Volumes::Keep)), @"
    unpublish/127.0.0.1:9000 after []: the deployment is taken down
    unpublish/127.0.0.1:9001 after []: the deployment is taken down
    d1/gather after []: the deployment is taken down
    d1/stop after [d1/gather]: the deployment is taken down
    d1/undefine after [d1/stop]: the deployment is taken down
    d1/delete-disk after [d1/undefine]: the deployment is taken down
    d0/gather after []: the deployment is taken down
    d0/stop after [d1/stop d0/gather]: the deployment is taken down
    d0/undefine after [d0/stop]: the deployment is taken down
    d0/delete-disk after [d0/undefine]: the deployment is taken down
    network/stop after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk]: the deployment is taken down
    network/undefine after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk network/stop]: the deployment is taken down
    lab/stop after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk network/stop network/undefine]: the deployment is taken down
    lab/remove after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk network/stop network/undefine lab/stop]: the deployment is taken down
    ");
}

#[test]
fn down_with_volumes_leaves_no_file() {
    let spec = two();
    let mut world = applied(&spec);
    let plan = down(&spec, &world, Volumes::Delete);
    world.apply(&plan, usize::MAX, &spec);
    assert!(owns_nothing(&world.observed));
}

#[test]
fn only_a_guest_with_something_to_keep_shuts_down() {
    let mut spec = two();
    let mode = |spec: &Spec, world: &World, domain: &str| {
        let plan = down(spec, world, Volumes::Keep);
        let mut steps = plan.steps.into_iter();
        steps.find_map(|step| match step.action {
            Action::Stop { domain: of, mode } if of == name(domain) => Some(mode),
            _ => None,
        })
    };
    let mut world = applied(&spec);
    assert_eq!(mode(&spec, &world, "d0"), Some(StopMode::Shutdown));
    assert_eq!(mode(&spec, &world, "d1"), Some(StopMode::Force));
    // A volume that it was started with counts, although the spec no longer has it.
    let attached = &mut world.domain(&name("d1")).attached;
    attached.insert("data".into(), Attached::Same);
    assert_eq!(mode(&spec, &world, "d1"), Some(StopMode::Shutdown));
    let service = spec.domains.get_mut(&name("d1")).unwrap().service.as_mut();
    service.unwrap().checkpoint = vec!["checkpoint".into()];
    let world = applied(&spec);
    assert_eq!(mode(&spec, &world, "d1"), Some(StopMode::Shutdown));
}

#[test]
fn plans_grow_linearly_with_the_domains() {
    let edges = |plan: &Plan| {
        plan.steps
            .iter()
            .map(|step| step.after.len())
            .sum::<usize>()
    };
    let sizes = |count: u8| {
        let spec = spec((0..count).map(|index| domain(index, &[], true)).collect());
        let mut world = applied(&spec);
        let running = down(&spec, &world, Volumes::Delete);
        // Disks that are left without definitions.
        for domain in world.observed.domains.values_mut() {
            (domain.defined, domain.power) = (None, Power::Off);
        }
        let left = down(&spec, &world, Volumes::Delete);
        let fresh = up(&spec, &nothing(&spec)).unwrap();
        [edges(&fresh), edges(&running), edges(&left)]
    };
    for (few, many) in sizes(10).into_iter().zip(sizes(100)) {
        assert!(many <= 11 * few, "{few} edges of 10 domains, {many} of 100");
    }
}

#[test]
fn a_uris_relay_stops_with_what_it_publishes() {
    let mut spec = two();
    spec.connection = Connection::Uri("qemu:///system".into());
    let mut world = applied(&spec);
    (world.observed.lab, world.observed.relay) = (LabState::Unused, true);
    let plan = down(&spec, &world, Volumes::Keep);
    let last = plan.steps.last().unwrap();
    assert_eq!(last.action, Action::StopRelay);
    assert_eq!(last.after.len(), plan.steps.len() - 1);
}

#[test]
fn a_lab_with_foreign_domains_keeps_running() {
    let spec = two();
    let mut world = applied(&spec);
    world.observed.foreign.insert("other".into());
    let plan = down(&spec, &world, Volumes::Keep);
    let mut steps = plan.steps.iter();
    assert!(!steps.any(|step| matches!(step.action, Action::StopLab | Action::RemoveLab)));
    assert_eq!(plan.notes.len(), 1);
}

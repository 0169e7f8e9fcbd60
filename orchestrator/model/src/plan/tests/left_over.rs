//! What an interrupted export leaves: paused domains, and overlays that are not merged.

use super::*;
use crate::observed::Pause;

/// All domains run; an export of them was killed at its worst moment.
fn interrupted() -> (Spec, World) {
    let spec = two();
    let mut world = applied(&spec);
    for name in spec.domains.keys() {
        let domain = world.domain(name);
        (domain.power, domain.unmerged) = (Power::Paused(Pause::User), true);
    }
    (spec, world)
}

#[test]
fn up_resumes_and_merges_and_restarts_nothing() {
    let (spec, mut world) = interrupted();
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    d0/resume after []: it is paused
    d0/merge after [d0/resume]: an export or a snapshot was interrupted
    d1/resume after []: it is paused
    d1/merge after [d1/resume]: an export or a snapshot was interrupted
    d0/serving after [d0/resume]: it was paused
    d1/serving after [d1/resume d0/serving]: it was paused
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world).unwrap().steps, []);
}

#[test]
fn a_paused_guest_is_resumed_before_it_must_answer() {
    let (mut spec, world) = interrupted();
    let removal = down(&spec, &world, Volumes::Keep);
    spec.domains.get_mut(&name("d0")).unwrap().machine = Machine::Q35;
    for plan in [removal, up(&spec, &world).unwrap()] {
        assert_eq!(after(&plan, "d0", DomainStep::Gather), ["d0/resume"]);
        let before_stop = after(&plan, "d0", DomainStep::Stop);
        for before in ["d0/gather", "d0/resume", "d0/merge"] {
            assert!(before_stop.iter().any(|id| id == before), "{before}");
        }
    }
    let mut unmerged = world;
    let domain = unmerged.domain(&name("d0"));
    domain.unmerged = false;
    domain.deployed.as_mut().unwrap().certificate = None;
    let plan = up(&two(), &unmerged).unwrap();
    assert_eq!(after(&plan, "d0", DomainStep::Reach), ["d0/resume"]);
}

/// Its system disk is deleted with what was not merged; the volume's overlay stays beside it for the next `up`.
#[test]
fn down_of_a_stopped_lab_leaves_the_merge_to_up() {
    let (spec, mut world) = interrupted();
    world.observed.lab = LabState::Stopped;
    for domain in world.observed.domains.values_mut() {
        (domain.defined, domain.power) = (None, Power::Off);
    }
    let plan = down(&spec, &world, Volumes::Keep);
    assert!(!has(&plan, "d0", DomainStep::Merge));
    world.apply(&plan, usize::MAX, &spec);
    let plan = up(&spec, &world).unwrap();
    assert_eq!(after(&plan, "d0", DomainStep::Merge), ["lab/start"]);
    let before_start = after(&plan, "d0", DomainStep::Start);
    assert!(before_start.iter().any(|id| id == "d0/merge"));
}

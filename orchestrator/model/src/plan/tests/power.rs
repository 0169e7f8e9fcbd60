//! Every power state that libvirt reports, met by `up` and `down`.

use super::*;
use crate::observed::{Crash, Pause};

const POWERS: [Power; 9] = [
    Power::Off,
    Power::Running,
    Power::Paused(Pause::User),
    Power::Paused(Pause::IoError),
    Power::Paused(Pause::Libvirt),
    Power::Suspended,
    Power::Saved,
    Power::Crashed(Crash::Guest),
    Power::Crashed(Crash::Process),
];

fn in_power(power: Power) -> (Spec, World) {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d0")).power = power;
    (spec, world)
}

#[test]
fn up_handles_each_power_state_on_purpose() {
    let steps = |power| {
        let (spec, world) = in_power(power);
        let plan = up(&spec, &world).unwrap();
        let first = plan.steps.first();
        first.map_or("nothing".to_owned(), |step| {
            format!("{}: {} ({})", step.id, step.title(), step.reason)
        })
    };
    let lines = POWERS.map(|power| format!("{power:?} -> {}", steps(power)));
    insta::assert_snapshot!(lines.join("\n"), @"
    Off -> d0/start: start (it is not running)
    Running -> nothing
    Paused(User) -> d0/resume: resume (it is paused)
    Paused(IoError) -> d0/resume: resume (it was paused by a disk's I/O error)
    Paused(Libvirt) -> d0/resume: resume (libvirt paused it)
    Suspended -> d0/wake: wake up (the guest suspended itself to memory)
    Saved -> d0/start: start (it is saved)
    Crashed(Guest) -> d0/stop: force off (the guest's kernel panicked)
    Crashed(Process) -> d0/start: start (its process ended unexpectedly)
    ");
}

#[test]
fn a_crashed_guest_is_forced_off_without_asking_it_for_anything() {
    let (spec, world) = in_power(Power::Crashed(Crash::Guest));
    for plan in [
        up(&spec, &world).unwrap(),
        down(&spec, &world, Volumes::Keep),
    ] {
        assert!(!has(&plan, "d0", DomainStep::Gather));
        let stop = StepId::of(&name("d0"), DomainStep::Stop);
        let stop = plan.steps.iter().find(|step| step.id == stop).unwrap();
        let mode = StopMode::Force;
        assert_eq!(
            stop.action,
            Action::Stop {
                domain: name("d0"),
                mode
            }
        );
    }
}

#[test]
fn a_saved_state_is_discarded_where_the_definition_changed() {
    let (mut spec, world) = in_power(Power::Saved);
    let saved_state = |plan: Plan| {
        plan.steps.into_iter().find_map(|step| match step.action {
            Action::Start { saved_state, .. } => Some(saved_state),
            _ => None,
        })
    };
    let plan = up(&spec, &world).unwrap();
    assert_eq!(saved_state(plan), Some(SavedState::Restore));
    spec.domains.get_mut(&name("d0")).unwrap().machine = Machine::Q35;
    let plan = up(&spec, &world).unwrap();
    assert_eq!(saved_state(plan), Some(SavedState::Discard));
}

proptest! {
    #[test]
    fn up_and_down_converge_from_any_power_states(spec in any_spec(), powers in prop::collection::vec(0..POWERS.len(), 6)) {
        let mut world = applied(&spec);
        for (domain, power) in world.observed.domains.values_mut().zip(powers) {
            domain.power = POWERS[power];
        }
        let mut removed = world.clone();
        let plan = up(&spec, &world).unwrap();
        world.apply(&plan, usize::MAX, &spec);
        prop_assert!(world.observed.domains.values().all(|domain| domain.power == Power::Running));
        prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
        let plan = down(&spec, &removed, Volumes::Delete);
        removed.apply(&plan, usize::MAX, &spec);
        prop_assert!(owns_nothing(&removed.observed));
    }
}

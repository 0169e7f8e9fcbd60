//! Every power state that libvirt reports, met by `up` and `down`.

use super::*;
use crate::observed::{Crash, Pause};

const POWERS: [Power; 10] = [
    Power::Off,
    Power::ShutDown,
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
    ShutDown -> d0/start: start (its guest shut down)
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
fn a_domain_whose_process_is_stopped_is_named_with_what_to_do_and_taken_down_by_force() {
    let (spec, world) = in_power(Power::Paused(Pause::Process(7)));
    let error = up(&spec, &world).unwrap_err();
    assert_eq!(
        told(&error),
        "process 7 of domain `d0` is stopped. Run `kill -CONT 7` to continue it"
    );
    let plan = down(&spec, &world, Volumes::Keep);
    assert!(!has(&plan, "d0", DomainStep::Resume) && !has(&plan, "d0", DomainStep::Gather));
    let stop = StepId::of(&name("d0"), DomainStep::Stop);
    let stop = plan.steps.iter().find(|step| step.id == stop).unwrap();
    let (domain, mode) = (name("d0"), StopMode::Force);
    assert_eq!(stop.action, Action::Stop { domain, mode });
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

/// Changes of a domain after which a machine that was saved before is another one.
const CHANGES: [fn(&mut DomainSpec); 5] = [
    |domain| domain.machine = Machine::Q35,
    |domain| domain.volumes.clear(),
    |domain| domain.memory.current = Size::mib(640),
    |domain| domain.memory.maximum = Size::gib(2),
    |domain| domain.vcpus.current = 2,
];

fn saved_state(plan: &Plan) -> Option<SavedState> {
    plan.steps.iter().find_map(|step| match step.action {
        Action::Start { saved_state, .. } => Some(saved_state),
        _ => None,
    })
}

#[test]
fn a_saved_state_is_discarded_with_a_note_where_the_definition_changed() {
    let (spec, world) = in_power(Power::Saved);
    let plan = up(&spec, &world).unwrap();
    assert_eq!(saved_state(&plan), Some(SavedState::Restore));
    assert_eq!(plan.notes, [""; 0]);
    for (index, change) in CHANGES.into_iter().enumerate() {
        let mut spec = spec.clone();
        change(spec.domains.get_mut(&name("d0")).unwrap());
        let plan = up(&spec, &world).unwrap();
        assert_eq!(saved_state(&plan), Some(SavedState::Discard), "{index}");
        let note = "`d0` boots instead of continuing from its saved memory";
        assert!(plan.notes.iter().any(|it| it.starts_with(note)), "{index}");
    }
}

#[test]
fn no_interruption_leaves_a_saved_state_beside_another_definition() {
    let (spec, saved) = in_power(Power::Saved);
    for (index, change) in CHANGES.into_iter().enumerate() {
        let mut spec = spec.clone();
        change(spec.domains.get_mut(&name("d0")).unwrap());
        let plan = up(&spec, &saved).unwrap();
        for count in 0..plan.steps.len() {
            let mut world = saved.clone();
            world.apply(&plan, count, &spec);
            let rest = up(&spec, &world).unwrap();
            let restores = world.domain(&name("d0")).power == Power::Saved
                && saved_state(&rest) == Some(SavedState::Restore);
            assert!(!restores, "{index}: after {count} steps");
        }
    }
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

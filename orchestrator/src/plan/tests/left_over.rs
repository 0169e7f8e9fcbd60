//! What an interrupted export left: domains that stand still, and overlays that are not merged.

use super::*;

/// All of it runs; an export of it was killed at its worst moment.
fn interrupted() -> (Spec, Observed) {
    let spec = two();
    let mut observed = applied(&spec);
    for name in spec.domains.keys() {
        observed.paused.insert(name.clone());
        observed.snapshots.insert(name.clone());
    }
    (spec, observed)
}

fn after<'a>(plan: &'a Plan, id: &str) -> Vec<&'a str> {
    let step = plan.steps.iter().find(|step| step.id == id).unwrap();
    step.after.iter().map(String::as_str).collect()
}

#[test]
fn up_resumes_and_merges_and_restarts_nothing() {
    let (spec, mut observed) = interrupted();
    let plan = up(&spec, &observed).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    d0/resume after []: it is paused
    d0/merge after [d0/resume]: an export was interrupted
    d1/resume after []: it is paused
    d1/merge after [d1/resume]: an export was interrupted
    ");
    apply(&plan, usize::MAX, &spec, &mut observed);
    assert_eq!(up(&spec, &observed).unwrap().steps, []);
}

#[test]
fn a_guest_that_stands_still_goes_on_before_it_is_asked_for_anything() {
    let (mut spec, observed) = interrupted();
    let gone = down(&spec, &observed, false);
    spec.domains.get_mut(&name("d0")).unwrap().machine = Machine::Q35;
    for plan in [gone, up(&spec, &observed).unwrap()] {
        assert_eq!(after(&plan, "d0/gather"), ["d0/resume"]);
        for before in ["d0/gather", "d0/resume", "d0/merge"] {
            assert!(after(&plan, "d0/stop").contains(&before), "{before}");
        }
    }
    let mut unmerged = observed;
    unmerged.snapshots.clear();
    unmerged.certified.clear();
    let plan = up(&two(), &unmerged).unwrap();
    assert_eq!(after(&plan, "d0/reach"), ["d0/resume"]);
    let plan = down(&two(), &unmerged, false);
    assert!(after(&plan, "d0/stop").contains(&"d0/resume"));
}

/// Its system disk goes with what was not merged; the volume's overlay stays beside it for the next `up`.
#[test]
fn down_of_a_stopped_lab_leaves_the_merging_to_up() {
    let (spec, mut observed) = interrupted();
    observed.lab = LabState::Stopped;
    observed.domains.clear();
    observed.paused.clear();
    let plan = down(&spec, &observed, false);
    assert!(!plan.steps.iter().any(|step| step.id.ends_with("/merge")));
    apply(&plan, usize::MAX, &spec, &mut observed);
    let plan = up(&spec, &observed).unwrap();
    assert_eq!(after(&plan, "d0/merge"), ["lab/start"]);
    assert!(after(&plan, "d0/start").contains(&"d0/merge"));
}

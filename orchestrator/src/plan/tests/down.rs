//! Taking a deployment away.

use super::*;

#[test]
fn down_takes_dependants_first_and_keeps_volumes() {
    let spec = two();
    insta::assert_snapshot!(lines(&down(&spec, &applied(&spec), false)), @"
    unpublish/127.0.0.1:9000 after []: the deployment goes
    unpublish/127.0.0.1:9001 after []: the deployment goes
    d1/gather after []: the deployment goes
    d1/stop after [d1/gather]: the deployment goes
    d1/undefine after [d1/gather d1/stop]: the deployment goes
    d1/delete-disk after [d1/undefine]: the deployment goes
    d0/gather after []: the deployment goes
    d0/stop after [d1/stop d0/gather]: the deployment goes
    d0/undefine after [d1/stop d0/gather d0/stop]: the deployment goes
    d0/delete-disk after [d0/undefine]: the deployment goes
    network/stop after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk]: the deployment goes
    network/undefine after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk network/stop]: the deployment goes
    lab/stop after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk network/stop network/undefine]: the deployment goes
    lab/remove after [unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001 d1/gather d1/stop d1/undefine d1/delete-disk d0/gather d0/stop d0/undefine d0/delete-disk network/stop network/undefine lab/stop]: the deployment goes
    ");
}

#[test]
fn down_with_volumes_leaves_no_file() {
    let spec = two();
    let mut observed = applied(&spec);
    apply(
        &down(&spec, &observed, true),
        usize::MAX,
        &spec,
        &mut observed,
    );
    assert_eq!(
        observed,
        Observed {
            images: observed.images.clone(),
            releases: observed.releases.clone(),
            certificates: observed.certificates.clone(),
            certified: observed.certified.clone(),
            ..nothing_at_all()
        }
    );
}

#[test]
fn a_uris_relay_stops_with_what_it_publishes() {
    let mut spec = two();
    spec.connection = Connection::Uri("qemu:///system".into());
    let mut observed = applied(&spec);
    (observed.lab, observed.relay) = (LabState::Unused, true);
    let plan = down(&spec, &observed, false);
    let last = plan.steps.last().unwrap();
    assert_eq!(last.action, Action::StopRelay);
    assert_eq!(last.after.len(), plan.steps.len() - 1);
}

#[test]
fn a_lab_with_strangers_stays() {
    let spec = two();
    let mut observed = applied(&spec);
    observed.strangers.insert("other".into());
    let plan = down(&spec, &observed, false);
    assert!(
        !plan
            .steps
            .iter()
            .any(|step| matches!(step.action, Action::StopLab | Action::RemoveLab))
    );
    assert_eq!(plan.notes.len(), 1);
}

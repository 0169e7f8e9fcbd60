//! Published HTTP servers: fronts that begin, change and end.

use super::*;
use crate::publish::{Front, FrontTls};

const HOST: &str = "127.0.0.1:9000";

/// One domain with a front.
fn fronted(hosts: &[&str], tls: Option<FrontTls>) -> Spec {
    let mut spec = spec(vec![domain(0, &[], false)]);
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    let publish = &mut spec.domains.get_mut(&name("d0")).unwrap().publish[0];
    publish.http = Some(Front { hosts, tls });
    spec
}

fn plain() -> Spec {
    spec(vec![domain(0, &[], false)])
}

/// What brings a host from one spec to another, which then needs nothing.
fn between(before: &Spec, after: &Spec) -> String {
    let mut world = applied(before);
    let new = nothing(after);
    world.observed.front_certificates = new.observed.front_certificates;
    let plan = up(after, &world).unwrap();
    world.apply(&plan, usize::MAX, after);
    assert_eq!(lines(&drift(after, &world)), "");
    lines(&plan)
}

#[test]
fn a_front_waits_for_the_keys_of_its_certificate() {
    let spec = fronted(&["a.example"], Some(FrontTls::SelfSigned));
    let plan = up(&spec, &nothing(&spec)).unwrap();
    let publish = DomainStep::Publish(HOST.parse().unwrap());
    assert_eq!(after(&plan, "d0", publish), ["lab/start", "keys/create"]);
    assert_eq!(lines(&drift(&spec, &applied(&spec))), "");
}

#[test]
fn a_front_changes_without_closing_its_address() {
    let hosts = between(&fronted(&[], None), &fronted(&["a.example"], None));
    insta::assert_snapshot!(hosts, @"d0/publish/127.0.0.1:9000 after []: its hosts changed");
}

#[test]
fn another_way_of_publishing_closes_the_address_first() {
    insta::assert_snapshot!(between(&plain(), &fronted(&[], None)), @"
    unpublish/127.0.0.1:9000 after []: the topology does not publish it
    d0/publish/127.0.0.1:9000 after [unpublish/127.0.0.1:9000]: it is not published
    ");
    insta::assert_snapshot!(between(&fronted(&[], None), &plain()), @"
    unpublish/127.0.0.1:9000 after []: the topology does not publish it
    d0/publish/127.0.0.1:9000 after [unpublish/127.0.0.1:9000]: it is not published
    ");
}

#[test]
fn a_renewed_certificate_reaches_its_front() {
    let spec = fronted(&["a.example"], Some(FrontTls::SelfSigned));
    let mut world = applied(&spec);
    let owner = CertificateOwner::Front(HOST.parse().unwrap());
    world.observed.keys.expiring.insert(owner);
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    certificate/front/127.0.0.1:9000 after []: it expires soon, or its names changed
    d0/publish/127.0.0.1:9000 after [certificate/front/127.0.0.1:9000]: its certificate is renewed
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(lines(&drift(&spec, &world)), "");
}

#[test]
fn other_files_of_a_certificate_reach_the_front() {
    let files = FrontTls::Files {
        cert: "/cert.pem".into(),
        key: "/key.pem".into(),
    };
    let spec = fronted(&[], Some(files));
    let host = HOST.parse().unwrap();
    let mut world = nothing(&spec);
    let mut renewed = |text: &[u8]| {
        let certificates = &mut world.observed.front_certificates;
        certificates.insert(host, Digest::of(text));
        let plan = up(&spec, &world).unwrap();
        world.apply(&plan, usize::MAX, &spec);
        assert_eq!(lines(&drift(&spec, &world)), "");
        lines(&plan)
    };
    renewed(b"first");
    insta::assert_snapshot!(renewed(b"second"), @"d0/publish/127.0.0.1:9000 after []: its certificate changed");
}

#[test]
fn a_front_whose_program_does_not_run_is_published_again_or_closed() {
    let spec = fronted(&[], None);
    let mut world = applied(&spec);
    world.observed.published.clear();
    insta::assert_snapshot!(lines(&drift(&spec, &world)), @"d0/publish/127.0.0.1:9000 after []: it is not published");
    insta::assert_snapshot!(lines(&drift(&plain(), &world)), @"
    unpublish/127.0.0.1:9000 after []: the topology does not publish it
    d0/publish/127.0.0.1:9000 after [unpublish/127.0.0.1:9000]: it is not published
    ");
}

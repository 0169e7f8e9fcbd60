//! Published HTTP servers.

use super::*;
use crate::publish::{Front, FrontTls};

/// The fronts of [`VALID`] with this `publish`, whose service has a secret.
fn fronts(publish: &str) -> Vec<(String, u16, Front)> {
    let text = with("B: true}", "B: true}, secrets: {TOKEN: generate}");
    let spec = read(&text.replace("\"8080:80\"", publish)).unwrap();
    let publish = spec.domains.into_values().next().unwrap().publish;
    let front = |it: Publish| Some((it.host.to_string(), it.guest_port, it.http?));
    publish.into_iter().filter_map(front).collect()
}

#[test]
fn a_front_has_hosts_and_a_certificate() {
    let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let files = FrontTls::Files {
        cert: "/base/cert.pem".into(),
        key: "/base/key.pem".into(),
    };
    let publish = "\"8022:22\", {http: 80, listen: 8080}, \
        {http: 80, listen: '0.0.0.0:443', hosts: [App.Example.org, 192.0.2.1], tls: self-signed}, \
        {http: 80, listen: '[::1]:8443', tls: {cert: cert.pem, key: key.pem}}";
    let expected = [
        ("127.0.0.1:8080", hosts(&[]), None),
        (
            "0.0.0.0:443",
            hosts(&["192.0.2.1", "app.example.org"]),
            Some(FrontTls::SelfSigned),
        ),
        ("[::1]:8443", hosts(&[]), Some(files)),
    ];
    let expected = expected.map(|(host, hosts, tls)| (host.to_owned(), 80, Front { hosts, tls }));
    assert_eq!(fronts(publish), expected);
}

#[test]
fn faults_of_fronts_are_shown_where_they_are() {
    let publish = "{http: 80, listen: '0.0.0.0:443', tls: self-signed}, {http: 50051, listen: 81}";
    let text = with("B: true}", "B: true}, secrets: {TOKEN: generate}");
    insta::assert_snapshot!(shown(&text.replace("\"8080:80\"", publish)), @r#"
    2 errors in `/base/topology.yaml`

    topology.yaml:11:49: a certificate for `0.0.0.0:443` has no names: it listens on all addresses
    11 |     publish: [{http: 80, listen: '0.0.0.0:443', tls: self-signed}, {http: 50051, listen: 81}]
       |                                                 ^ add `hosts`, or listen on a single address

    topology.yaml:11:68: port 50051 of `web` is not HTTP: it speaks gRPC with mutual TLS
    11 |     publish: [{http: 80, listen: '0.0.0.0:443', tls: self-signed}, {http: 50051, listen: 81}]
       |                                                                    ^ publish it as it is: `"127.0.0.1:81:50051"`
    "#);
}

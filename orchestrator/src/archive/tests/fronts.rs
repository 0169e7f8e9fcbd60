//! Published HTTP servers in an archive.

use pspd_model::publish::{Front, FrontTls, Publish};

use super::*;

#[test]
fn an_archive_has_no_certificate_of_the_user_and_a_front_gets_a_free_port() {
    let mut fixture = Fixture::new();
    let store = Name::new("store").unwrap();
    let files = FrontTls::Files {
        cert: fixture.folder.path().join("word"),
        key: fixture.folder.path().join("words"),
    };
    let front = |port: u16, tls| Publish {
        host: ([127, 0, 0, 1], port).into(),
        guest_port: 8080,
        http: Some(Front {
            hosts: ["a.example".to_owned()].into(),
            tls,
        }),
    };
    let fronts = [
        front(10, Some(files)),
        front(11, Some(FrontTls::SelfSigned)),
        front(12, None),
    ];
    let publish = &mut fixture.spec.domains.get_mut(&store).unwrap().publish;
    publish.extend(fronts.clone());
    let archive = fixture.pack("a.tar.zst", false);
    let placement = Host::new()
        .import_to(&archive, "lab", &[], |address| address.port() == 11)
        .unwrap();
    let imported = &placement.spec.domains[&store].publish[1..];
    let mut expected = fronts;
    expected[0] = front(10, Some(FrontTls::SelfSigned));
    assert_ne!(imported[1].host.port(), 11);
    expected[1].host = imported[1].host;
    assert_eq!(imported, expected);
    assert_eq!(placement.notes.len(), 1, "{:?}", placement.notes);
}

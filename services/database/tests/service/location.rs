//! What the service says of a URL that names its servers wrongly.

use crate::server::{Server, command};

#[test]
fn a_fault_of_the_url_is_reported_without_the_password() {
    for (store, expected) in [
        (
            "postgres://user:secret@a,,b/c",
            "`DATABASE_STORE` has an empty host, host 2 of 3: name a host there, or remove the comma",
        ),
        (
            "postgres://user:secret@a,b/c?target_session_attrs=any",
            "`DATABASE_STORE` has a value of the parameter `target_session_attrs` that is not \
             supported: use `read-write` or `primary`, or remove it",
        ),
        (
            "postgres://user:secret@a,b:secret/c",
            "`DATABASE_STORE` has a port that is not a number from 1 to 65535 for host 2 of 2, `b`",
        ),
    ] {
        let output = command(store, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn servers_that_cannot_be_reached_are_named_without_the_password() {
    let store = "postgres://user:secret@127.0.0.1:1,127.0.0.1:2/c";
    let said = Server::spawn(command(store, &[])).map(drop).unwrap_err();
    let expected = "failed to open the store `postgres://127.0.0.1:1,127.0.0.1:2/c`";
    assert!(said.contains(expected), "{said}");
    for host in ["127.0.0.1:1", "127.0.0.1:2"] {
        assert!(said.contains(&format!("`{host}` failed: ")), "{said}");
    }
    assert!(!said.contains("secret"), "{said}");
}

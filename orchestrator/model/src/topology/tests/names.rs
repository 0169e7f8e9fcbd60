//! Which labels can be domains' names.

use super::*;

/// What is said of a domain of this name.
fn said(name: &str, rest: &str) -> Option<String> {
    let text = format!(
        "name: demo\nimages: {{debian: {{recipe: recipe}}}}\ndomains:\n  {name}: {{image: debian{rest}}}\n"
    );
    let faults = read(&text).err()?;
    assert_eq!(faults.len(), 1, "{name}");
    Some(Faults::in_text(Path::new("/base/topology.yaml"), &text, faults).to_string())
}

const SERVICE: &str = ", service: {binary: web, port: 50051, health: tcp}";

#[test]
fn names_of_others_are_refused() {
    for name in ["pspd", "localhost"] {
        let said = said(name, "").unwrap();
        assert!(said.contains("is reserved"), "{said}");
    }
}

#[test]
fn a_service_needs_a_name_that_a_unit_and_a_user_can_have() {
    let digit = "no user's name begins with a digit";
    let taken = "guests have a unit or a user of this name";
    for (name, words) in [
        ("\"123\"", digit),
        ("1web", digit),
        ("root", taken),
        ("ssh", taken),
        ("systemd-network", taken),
        ("pspd-volumes", taken),
    ] {
        let refused = said(name, SERVICE).unwrap();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(said(name, ""), None, "a guest alone can have any name");
    }
    for name in ["web1", "database-server", "roots"] {
        assert_eq!(said(name, SERVICE), None);
    }
}

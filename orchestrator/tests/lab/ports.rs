//! Published ports that another deployment has, or no address of the host.

use std::fs;
use std::process::Command;

use pspd_lab::Relay;

use super::servers::Answering;
use super::{free_address, program};

#[test]
fn ports_that_cannot_be_published_are_named_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("deployments/other");
    let relay = Relay::start_with(&program(), &other.join("lab")).unwrap();
    let (host, guest) = (free_address(), Answering::new("one"));
    relay.publish(host, guest.0).unwrap();

    let file = folder.path().join("topology.yaml");
    let recipe = folder.path().join("recipe");
    fs::create_dir(&recipe).unwrap();
    fs::write(recipe.join("build.sh"), "").unwrap();
    let text = format!(
        "name: demo\nimages: {{guest: {{recipe: ./recipe}}}}\n\
         domains: {{web: {{image: guest, publish: ['{host}:22', '192.0.2.7:2222:22']}}}}\n"
    );
    fs::write(&file, text).unwrap();
    let ran = Command::new(program())
        .arg("--state-dir")
        .arg(folder.path())
        .arg("--cache-dir")
        .arg(folder.path().join("cache"))
        .args(["--file"])
        .arg(&file)
        .arg("up")
        .output()
        .unwrap();
    relay.stop().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(1), "{said}");
    let named = format!(
        "`{host}`, which is used by the deployment `other` in `{}`",
        other.display()
    );
    assert!(said.contains(&named), "{said}");
    let absent = "this host does not have the address `192.0.2.7`";
    assert!(said.contains(absent), "{said}");
    let home = folder.path().join("deployments/demo");
    assert!(!home.join("lab").exists() && !home.join("keys").exists());
}

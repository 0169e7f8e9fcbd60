//! An ordinary user, created for the tests.

use std::fs;
use std::process::Command;

use crate::run;

/// A user of the host with subordinate ids, deleted on drop.
pub(crate) struct User(pub String);

impl User {
    pub(crate) fn new() -> User {
        let name = format!("pspdtest{}", std::process::id());
        let user = User(name.clone());
        run(
            "useradd",
            &[
                "--no-create-home",
                "--user-group",
                "--shell",
                "/bin/sh",
                &name,
            ],
        );
        let has_range = fs::read_to_string("/etc/subuid")
            .is_ok_and(|ranges| ranges.contains(&format!("{name}:")));
        if !has_range {
            run(
                "usermod",
                &[
                    "--add-subuids",
                    "700000-765535",
                    "--add-subgids",
                    "700000-765535",
                    &name,
                ],
            );
        }
        user
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = Command::new("userdel").arg(&self.0).output();
    }
}

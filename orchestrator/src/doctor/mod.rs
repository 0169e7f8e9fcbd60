//! Checks the prerequisites on this host, and suggests a fix for each problem.
//!
//! Never changes anything. The checks are in the order in which `up` would fail.

mod host;
mod namespaces;
mod tools;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use pspd_model::spec::{Connection, Spec};
use pspd_model::topology::Found;
use serde::Serialize;

use crate::state::Paths;
use crate::topology;

/// A prerequisite and its state.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    Ok {
        detail: String,
    },
    /// `up` works, but with a limitation.
    Warning {
        detail: String,
        fix: String,
    },
    /// `up` would fail.
    Missing {
        detail: String,
        fix: String,
    },
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            outcome: Outcome::Ok {
                detail: detail.into(),
            },
        }
    }

    fn warning(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            outcome: Outcome::Warning {
                detail: detail.into(),
                fix: fix.into(),
            },
        }
    }

    fn missing(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            outcome: Outcome::Missing {
                detail: detail.into(),
                fix: fix.into(),
            },
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, detail, fix) = match &self.outcome {
            Outcome::Ok { detail } => ("ok", detail, None),
            Outcome::Warning { detail, fix } => ("warning", detail, Some(fix)),
            Outcome::Missing { detail, fix } => ("missing", detail, Some(fix)),
        };
        write!(f, "{word:<8} {:<16} {detail}", self.name)?;
        match fix {
            Some(fix) => write!(f, "\n{:<25} fix: {fix}", ""),
            None => Ok(()),
        }
    }
}

/// Runs all checks. Those that need a topology run only if `file` is a valid one.
pub fn examine(paths: &Paths, file: &Path) -> Vec<Check> {
    let loaded = topology::load(file);
    let spec = loaded.as_ref().ok();
    let lab = spec.is_none_or(|spec| spec.connection == Connection::Lab);

    let mut checks = tools::check(lab);
    if lab {
        checks.push(host::tun());
        checks.push(namespaces::check());
    }
    checks.push(host::space("state", &paths.state));
    checks.push(host::space("cache", &paths.cache));
    match &loaded {
        Ok(spec) => {
            checks.push(Check::ok(
                "topology",
                format!("`{}` describes {}", file.display(), describe(spec)),
            ));
            checks.push(host::memory(spec));
            checks.extend(host::connection(spec));
            checks.extend(host::ports(paths, spec));
            checks.extend(host::coreboot(paths, spec));
            checks.push(host::accelerator(paths, spec));
        }
        // A host is ready before there is a topology.
        Err(_) if topology::look(file) == Found::Nothing => {
            checks.push(host::kvm());
            checks.push(Check::warning(
                "topology",
                format!(
                    "`{}` does not exist, so the checks that need it were skipped",
                    file.display()
                ),
                "pspd init",
            ));
        }
        Err(faults) => {
            let first = faults
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            checks.push(Check::missing(
                "topology",
                first,
                "fix the file (`pspd plan` shows all errors), or write a new one with `pspd init`",
            ));
        }
    }
    checks
}

/// The command that installs all missing packages, where there are several.
pub fn install(checks: &[Check]) -> Option<String> {
    let packages = checks.iter().filter_map(|check| match &check.outcome {
        Outcome::Missing { fix, .. } => fix.strip_prefix(INSTALL),
        _ => None,
    });
    let packages: BTreeSet<&str> = packages.flat_map(str::split_whitespace).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    (packages.len() > 1).then(|| format!("sudo {INSTALL}{}", packages.join(" ")))
}

/// How a fix begins that is nothing but packages.
const INSTALL: &str = "apt-get install ";

fn describe(spec: &Spec) -> String {
    match spec.domains.len() {
        1 => format!("`{}`, one domain", spec.name),
        count => format!("`{}`, {count} domains", spec.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_topology_is_not_an_error_and_a_wrong_topology_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(
            Some(folder.path().join("state")),
            Some(folder.path().join("cache")),
        );
        let paths = paths.unwrap();
        let file = folder.path().join("topology.yaml");
        let topology = || {
            let checks = examine(&paths, &file).into_iter();
            let mut checks = checks.filter(|check| check.name == "topology");
            checks.next().unwrap().to_string()
        };
        assert!(topology().starts_with("warning  topology"));
        std::fs::write(&file, "name: [").unwrap();
        assert!(topology().starts_with("missing  topology"));
    }

    #[test]
    fn all_that_is_missing_is_installed_by_one_command() {
        let missing = |fix: &str| Check::missing("it", "not found", fix);
        let checks = [
            missing("apt-get install xz-utils"),
            Check::ok("other", "there"),
            missing("apt-get install cpio"),
            missing("apt-get install cpio"),
            missing("modprobe tun"),
        ];
        let expected = "sudo apt-get install cpio xz-utils";
        assert_eq!(install(&checks).as_deref(), Some(expected));
        assert_eq!(install(&checks[..2]), None);
    }

    #[test]
    fn a_missing_prerequisite_is_shown_with_its_fix_below() {
        let check = Check::missing(
            "qemu-img",
            "not found in PATH",
            "apt-get install qemu-utils",
        );
        assert_eq!(
            check.to_string(),
            "missing  qemu-img         not found in PATH\n                          fix: apt-get install qemu-utils"
        );
    }
}

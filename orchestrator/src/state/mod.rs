//! The files that pspd keeps on the host: where they are, the lock, the journal, what was deployed.
//!
//! ```text
//! STATE/deployments/NAME/       0700
//!   lock                        held while a command changes the deployment; says by whom
//!   journal.jsonl               what the last run began and ended, one entry a line
//!   spec.json                   the spec of the last `up`, for commands without a topology file
//!   keys/                       see identity
//!   disks/                      DOMAIN.qcow2, the system disks: overlays that a rebuild replaces
//!   volumes/                    DOMAIN-VOLUME.qcow2, the data volumes: only `down --volumes` removes them
//!   console/DOMAIN.log          serial consoles
//!   logs/DOMAIN.log             what services logged, gathered from their guests
//!   console/DOMAIN.firmware.log what the firmware said at the last start
//!   deployed/DOMAIN.json        the release that was activated last, and in which boot
//!   boots/DOMAIN.json           its last boot: when each stage was reached, and on what firmware
//!   lab/                        see lab
//! CACHE/images/DIGEST/          see image
//! CACHE/firmware/DIGEST/        see image/coreboot
//! ```

mod boots;
mod deployed;
mod files;
mod journal;
mod lock;
mod logbook;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::spec::{Name, Spec};

pub use deployed::Deployed;
pub use files::{create_private, remove_if_there, write_atomically};
pub use journal::{Entry, Journal};
pub use lock::{Lock, Locked, Patience};
pub use logbook::{LogLine, Logbook};

/// Where pspd keeps files.
#[derive(Clone, Debug)]
pub struct Paths {
    pub state: PathBuf,
    pub cache: PathBuf,
}

impl Paths {
    /// What was asked for, else `/var/lib/pspd` and `/var/cache/pspd` for root, else the XDG base directories.
    pub fn resolve(state: Option<PathBuf>, cache: Option<PathBuf>) -> anyhow::Result<Paths> {
        let state = match state {
            Some(path) => path,
            None => standard("XDG_STATE_HOME", ".local/state", "/var/lib")?,
        };
        let cache = match cache {
            Some(path) => path,
            None => standard("XDG_CACHE_HOME", ".cache", "/var/cache")?,
        };
        Ok(Paths {
            state: std::path::absolute(state)?,
            cache: std::path::absolute(cache)?,
        })
    }

    /// Every deployment that has state here.
    pub fn deployments(&self) -> anyhow::Result<Vec<Home>> {
        let folder = self.state.join("deployments");
        match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => {
                let entries =
                    entries.with_context(|| format!("failed to list `{}`", folder.display()))?;
                Ok(entries.flatten().map(|entry| Home(entry.path())).collect())
            }
        }
    }

    pub fn deployment(&self, name: &Name) -> Home {
        Home(self.state.join("deployments").join(name.as_str()))
    }
}

fn standard(variable: &str, under_home: &str, for_root: &str) -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new(for_root).join("pspd"));
    }
    if let Some(base) = std::env::var_os(variable).filter(|base| Path::new(base).is_absolute()) {
        return Ok(Path::new(&base).join("pspd"));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| {
        anyhow!(
            "neither {variable} nor HOME is set; name the folder with --state-dir and --cache-dir"
        )
    })?;
    Ok(Path::new(&home).join(under_home).join("pspd"))
}

/// One deployment's folder.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// Makes the folder and its fixed parts, closed to others.
    pub fn create(&self) -> anyhow::Result<()> {
        for folder in [
            self.0.clone(),
            self.disks(),
            self.volumes(),
            self.console(),
            self.deployed(),
            self.0.join("logs"),
            self.boots(),
        ] {
            files::create_private(&folder)?;
        }
        Ok(())
    }

    /// Removes the folder with everything in it, keys and records too.
    pub fn remove(&self) -> anyhow::Result<()> {
        crate::folder::remove(&self.0)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    pub fn disks(&self) -> PathBuf {
        self.0.join("disks")
    }

    pub fn disk(&self, domain: &Name) -> PathBuf {
        self.disks().join(format!("{domain}.qcow2"))
    }

    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }

    /// The NoCloud volume of a domain whose image wants one.
    pub fn seed(&self, domain: &Name) -> PathBuf {
        self.disks().join(format!("{domain}-seed.iso"))
    }

    pub fn console(&self) -> PathBuf {
        self.0.join("console")
    }

    pub fn console_log(&self, domain: &Name) -> PathBuf {
        self.console().join(format!("{domain}.log"))
    }

    /// What a domain's service logged.
    pub fn logbook(&self, domain: &Name) -> Logbook {
        Logbook::new(self.0.join("logs").join(format!("{domain}.log")))
    }

    pub fn firmware_log(&self, domain: &Name) -> PathBuf {
        self.console().join(format!("{domain}.firmware.log"))
    }

    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    pub fn lab(&self) -> PathBuf {
        self.0.join("lab")
    }

    fn boots(&self) -> PathBuf {
        self.0.join("boots")
    }

    fn deployed(&self) -> PathBuf {
        self.0.join("deployed")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub fn journal_file(&self) -> PathBuf {
        self.0.join("journal.jsonl")
    }

    /// Records the spec that `up` makes true.
    pub fn record_spec(&self, spec: &Spec) -> anyhow::Result<()> {
        write_atomically(
            &self.0.join("spec.json"),
            &serde_json::to_vec_pretty(spec)?,
            0o600,
        )
    }

    /// The spec of the last `up`, if there was one.
    pub fn recorded_spec(&self) -> anyhow::Result<Option<Spec>> {
        let path = self.0.join("spec.json");
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).with_context(|| {
            format!(
                "`{}` is damaged; name the topology with --file instead",
                path.display()
            )
        })
    }
}

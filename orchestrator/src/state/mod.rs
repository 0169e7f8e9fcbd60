//! The files of pspd on the host: their paths, the lock, the journal and the records of deployments.
//!
//! ```text
//! STATE/deployments/NAME/       0700
//!   lock                        held while a command changes the deployment; contains the holder
//!   journal.jsonl               the steps of the last run, one entry per line
//!   spec.json                   the spec of the last `up`, for commands without a topology file
//!   origin                      the path of the topology file of the last `up`
//!   intent.json                 what the user asked for beside the topology: stopped domains, active faults
//!   keys/                       see identity
//!   disks/                      DOMAIN.qcow2, the system disks: overlays, replaced by a rebuild
//!   disks/DOMAIN-release.raw    the disk that carries releases to the guest: empty but during a push
//!   volumes/                    DOMAIN.VOLUME.qcow2, the data volumes: only `down --volumes` removes them
//!   disks/layers/, volumes/layers/   DOMAIN.DISK.N.qcow2, what disks with snapshots are made of; see disk/layers
//!   spec.old-volumes.json       the spec that says whose volumes with names of earlier versions are, until they are renamed
//!   console/DOMAIN.log          serial consoles
//!   logs/DOMAIN.log             the logs of services, gathered from their guests
//!   console/DOMAIN.firmware.log the firmware's log since the last start
//!   deployed/DOMAIN.json        the release that was healthy last, and its certificate
//!   deployed/DOMAIN.file-systems  exists while its file systems are to be grown and mounted
//!   attached/DOMAIN.json        the files that the disks were at the last start
//!   memory/DOMAIN.mem, .json    the memory of saved domains, and what it is of
//!   shaping/DOMAIN.json         how its guest was made to delay what it sends
//!   disturbed/DOMAIN.json       what was made to disturb its guest from within
//!   boots/DOMAIN.json           the last boot: the time of each stage, and the reported firmware
//!   snapshots/                  see snapshot
//!   flattened/                  DOMAIN.qcow2, self-contained system disks, and disks without layers, while an export packs them
//!   lab/                        see lab
//! STATE/sent/NAME/              see remote
//! CACHE/images/DIGEST/          see image
//! CACHE/firmware/DIGEST/        see firmware/coreboot
//! ```

mod attached;
mod deployed;
mod files;
mod guest_record;
mod intent;
mod journal;
mod lock;
mod logbook;
mod memory;
mod origin;
mod sharing;
mod snapshot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use pspd_model::hint::{Hint as _, Hinted};
use pspd_model::observed::Observed;
use pspd_model::spec::{Name, SYSTEM_DISK, Spec};

pub use attached::{FileIdentity, OpenedFile, Stamp};
pub use files::{create_private, read_end, read_if_there, remove_if_there, write_atomically};
pub use guest_record::GuestRecord;
pub use journal::{Entry, Journal};
pub use lock::{Lock, Locked, Patience};
pub use logbook::{LogLine, Logbook};
pub use memory::{FileVersion, MemoryImage, MemoryRecord};
pub use origin::resolved as resolved_origin;
pub use snapshot::{Snapshot, SnapshotDomain};

/// The directories of pspd's files.
#[derive(Clone, Debug)]
pub struct Paths {
    pub state: PathBuf,
    pub cache: PathBuf,
}

impl Paths {
    /// Returns the given directories, or else `/var/lib/pspd` and `/var/cache/pspd` for root, or else the XDG base
    /// directories.
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
            state: usable(&state, "--state-dir", &MISREAD)?,
            cache: usable(&cache, "--cache-dir", &[])?,
        })
    }

    /// Returns all deployments with state on this host.
    pub fn deployments(&self) -> anyhow::Result<Vec<Home>> {
        deployments(&self.state)
    }

    /// Records in the cache that this state's deployments use it.
    pub fn register(&self) -> anyhow::Result<()> {
        sharing::register(&self.users(), &self.state)
    }

    /// Returns all state directories that are known to use the same cache, this one among them.
    pub fn sharing_cache(&self) -> anyhow::Result<Vec<Paths>> {
        let mut states = BTreeSet::from([self.state.clone()]);
        states.extend(sharing::registered(&self.users())?);
        let paths = states.into_iter().map(|state| Paths {
            state,
            cache: self.cache.clone(),
        });
        Ok(paths.collect())
    }

    fn users(&self) -> PathBuf {
        self.cache.join("users")
    }

    /// What another machine sent for a deployment: its topology, and the files that this names.
    pub fn sent(&self, name: &Name) -> PathBuf {
        self.all_sent().join(name.as_str())
    }

    pub fn all_sent(&self) -> PathBuf {
        self.state.join("sent")
    }

    pub fn deployment(&self, name: &Name) -> Home {
        Home(self.state.join("deployments").join(name.as_str()))
    }
}

fn deployments(state: &Path) -> anyhow::Result<Vec<Home>> {
    let folder = state.join("deployments");
    match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => {
            let entries =
                entries.with_context(|| format!("failed to list `{}`", folder.display()))?;
            Ok(entries.flatten().map(|entry| Home(entry.path())).collect())
        }
    }
}

/// What libvirt and QEMU misread in the path of a firmware configuration file, by which a guest gets its host key.
const MISREAD: [char; 6] = [',', '&', '<', '>', '"', '\''];

/// Returns the absolute path of a directory in which libvirt can use files.
fn usable(directory: &Path, option: &str, misread: &[char]) -> anyhow::Result<PathBuf> {
    let directory = std::path::absolute(directory)?;
    let problem = match directory.to_str() {
        None => "is not UTF-8".to_owned(),
        Some(path) if path.contains(char::is_control) => "has a control character".to_owned(),
        Some(path) => match path.chars().find(|char| misread.contains(char)) {
            Some(char) => format!("has the character `{char}`"),
            None => return Ok(directory),
        },
    };
    bail!(Hinted::new(
        format!(
            "the path `{}` {problem}, so libvirt cannot use it",
            directory.display()
        ),
        format!("Pass another directory with `{option}`"),
    ))
}

fn standard(variable: &str, under_home: &str, for_root: &str) -> anyhow::Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new(for_root).join("pspd"));
    }
    if let Some(base) = std::env::var_os(variable).filter(|base| Path::new(base).is_absolute()) {
        return Ok(Path::new(&base).join("pspd"));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| {
        Hinted::new(
            format!("neither {variable} nor HOME is set"),
            "Pass --state-dir and --cache-dir",
        )
    })?;
    Ok(Path::new(&home).join(under_home).join("pspd"))
}

/// The folder of layers, beside their disks.
pub const LAYERS: &str = "layers";
const SPEC_OF_OLD_VOLUMES: &str = "spec.old-volumes.json";

/// The directory of a deployment.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// Creates the directory and its subdirectories, which other users cannot list.
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
            files::create_private(&folder).map_err(files::placed)?;
        }
        Ok(())
    }

    /// Fails where a command of another user left files that this user may not use, such as one of root.
    pub fn refuse_foreign(&self) -> anyhow::Result<()> {
        files::refuse_foreign(&self.0)
    }

    /// Removes the directory with everything in it, including keys and records.
    pub fn remove(&self) -> anyhow::Result<()> {
        crate::folder::remove(&self.0)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// The name of its deployment, which is the name of the folder.
    pub fn deployment(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// The other deployments beside this one.
    pub fn others(&self) -> anyhow::Result<Vec<Home>> {
        let state = self.0.parent().and_then(Path::parent);
        let mut homes = deployments(state.unwrap_or(Path::new("/")))?;
        homes.retain(|home| home.0 != self.0);
        Ok(homes)
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

    /// The folders of layers: each beside the disks, which may be on a file system of their own.
    pub fn layer_folders(&self) -> [PathBuf; 2] {
        [self.disks(), self.volumes()].map(|folder| folder.join(LAYERS))
    }

    /// A layer of a disk of this serial number, by the name of its file.
    pub fn layer(&self, serial: &str, file: &str) -> PathBuf {
        let [system, volumes] = self.layer_folders();
        let folder = if serial == SYSTEM_DISK {
            system
        } else {
            volumes
        };
        folder.join(file)
    }

    /// The NoCloud volume of a domain whose image needs one.
    pub fn seed(&self, domain: &Name) -> PathBuf {
        self.disks().join(format!("{domain}-seed.iso"))
    }

    /// The disk that carries releases to a domain's guest.
    pub fn release_disk(&self, domain: &Name) -> PathBuf {
        self.disks().join(format!("{domain}-release.raw"))
    }

    pub fn console(&self) -> PathBuf {
        self.0.join("console")
    }

    pub fn console_log(&self, domain: &Name) -> PathBuf {
        self.console().join(format!("{domain}.log"))
    }

    /// The log of a domain's service.
    pub fn logbook(&self, domain: &Name) -> Logbook {
        Logbook::new(self.0.join("logs").join(format!("{domain}.log")))
    }

    pub fn firmware_log(&self, domain: &Name) -> PathBuf {
        self.console().join(format!("{domain}.firmware.log"))
    }

    pub fn flattened(&self) -> PathBuf {
        self.0.join("flattened")
    }

    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    pub fn lab(&self) -> PathBuf {
        self.0.join("lab")
    }

    /// Which hosts are cut off from the others.
    pub fn cuts(&self) -> PathBuf {
        self.0.join("cuts.json")
    }

    /// The process that connects the labs of several hosts.
    pub fn switch(&self) -> PathBuf {
        self.0.join("switch")
    }

    fn boots(&self) -> PathBuf {
        self.0.join("boots")
    }

    pub fn boot_record(&self, domain: &Name) -> PathBuf {
        self.boots().join(format!("{domain}.json"))
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

    /// Records the spec of this `up`.
    pub fn record_spec(&self, spec: &Spec) -> anyhow::Result<()> {
        write_atomically(
            &self.0.join("spec.json"),
            &serde_json::to_vec_pretty(spec)?,
            0o600,
        )
    }

    /// Keeps the recorded spec while there are volumes with names of earlier versions. Called before another spec is
    /// recorded: a run that is killed before they are renamed must not give them to another domain.
    pub fn keep_spec_of_old_volumes(&self, observed: &Observed) -> anyhow::Result<()> {
        let (spec, kept) = (self.0.join("spec.json"), self.0.join(SPEC_OF_OLD_VOLUMES));
        if observed.old_volumes.is_empty() {
            return remove_if_there(&kept);
        }
        match files::read_if_there(&spec)? {
            Some(text) if !kept.exists() => write_atomically(&kept, &text, 0o600),
            _ => Ok(()),
        }
    }

    /// The spec that says whose volumes with names of earlier versions are; `None` if none can be read.
    pub fn spec_of_old_volumes(&self) -> Option<Spec> {
        let kept = std::fs::read(self.0.join(SPEC_OF_OLD_VOLUMES)).ok();
        let kept = kept.and_then(|text| serde_json::from_slice(&text).ok());
        kept.or_else(|| self.recorded_spec().ok().flatten())
    }

    /// The spec of the last `up`, if there was one.
    pub fn recorded_spec(&self) -> anyhow::Result<Option<Spec>> {
        let path = self.0.join("spec.json");
        let Some(text) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let spec = serde_json::from_slice(&text)
            .with_context(|| format!("`{}` is damaged", path.display()))
            .hint("Pass the topology with --file instead")?;
        Ok(Some(spec))
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use pspd_model::observed::OldVolume;
    use pspd_model::spec::Size;
    use pspd_model::topology::{self, Found};

    use super::*;

    fn spec(domain: &str) -> Spec {
        let text = format!(
            "name: demo\nimages: {{debian: {{path: /image, sha256: {}}}}}\ndomains: {{{domain}: {{image: debian}}}}\n",
            "0".repeat(64)
        );
        topology::parse(&text, Path::new("/"), &|_| Found::File).unwrap()
    }

    #[test]
    fn a_directory_that_libvirt_cannot_name_is_refused() {
        let usable = |path: &[u8]| {
            let path = PathBuf::from(OsString::from_vec(path.to_vec()));
            Paths::resolve(Some(path), Some("/cache".into())).map(|paths| paths.state)
        };
        let odd = r"/a b/100%/#?;[]\$:=/ä";
        assert_eq!(usable(odd.as_bytes()).unwrap(), Path::new(odd));
        for (path, problem) in [
            (&b"/caf\xe9"[..], "is not UTF-8"),
            (b"/two\nlines", "has a control character"),
            (b"/a&b", "has the character `&`"),
        ] {
            let error = crate::hint::told(&usable(path).unwrap_err());
            assert!(
                error.contains(problem) && error.contains("`--state-dir`"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_spec_that_says_whose_old_volumes_are_outlives_another_up() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home(folder.path().to_owned());
        let mut observed = Observed::default();
        let old = OldVolume {
            size: Size::mib(1),
            of: Default::default(),
        };
        observed.old_volumes.insert("a-b-c.qcow2".into(), old);
        home.record_spec(&spec("first")).unwrap();
        for other in ["second", "third"] {
            home.keep_spec_of_old_volumes(&observed).unwrap();
            home.record_spec(&spec(other)).unwrap();
            assert_eq!(home.spec_of_old_volumes(), Some(spec("first")));
        }
        home.keep_spec_of_old_volumes(&Observed::default()).unwrap();
        assert_eq!(home.spec_of_old_volumes(), Some(spec("third")));
    }
}

//! Where a deployment that comes from elsewhere goes on this host: from an archive, or from another deployment.
//!
//! ```text
//! FOLDER/topology.yaml          what `pspd up` brings up; written last
//! FOLDER/...                    files that the topology names
//! STATE/deployments/NAME/       disks and volumes, renamed into place; `importing/` until all of it is complete
//! ```

mod moved;
mod staging;
pub mod written;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use pspd_model::spec::{Name, Spec};
use pspd_model::topology;
use serde_json::{Value, json};

use crate::folder;
use crate::state::{Home, Paths, create_private};

pub use moved::Taken;
pub use staging::{Staging, sync_parent};

/// A topology's mapping. One of an archive has any shape: nothing of it is indexed.
pub type Mapping = serde_json::Map<String, Value>;

/// What the topology's file is called.
pub const TOPOLOGY: &str = "topology.yaml";

/// What the user chose.
pub struct Wanted {
    /// The topology's own without it.
    pub name: Option<Name>,
    /// As topology.yaml has it.
    pub connection: String,
    /// Where the topology goes; a folder of the deployment's name without it.
    pub folder: Option<PathBuf>,
}

/// Where a deployment goes, and what it becomes there.
pub struct Placement {
    pub spec: Spec,
    pub folder: PathBuf,
    pub home: Home,
    /// What differs from where it comes from, for people.
    pub notes: Vec<String>,
    text: String,
}

impl Placement {
    /// Decides what a deployment becomes on this host; creates nothing. `read` validates a topology that is in a folder.
    /// `origin` says in the topology where it comes from.
    pub fn decide(
        mut topology: Mapping,
        origin: &str,
        wanted: Wanted,
        taken: &Taken,
        paths: &Paths,
        read: impl Fn(&str, &Path) -> Result<Spec>,
    ) -> Result<Placement> {
        let mut notes = Vec::new();
        topology.insert("connection".to_owned(), json!(wanted.connection));
        if let Some(name) = &wanted.name {
            topology.insert("name".to_owned(), json!(name));
        }
        let name = topology.get("name").and_then(Value::as_str);
        let name = Name::new(name.unwrap_or_default())
            .context("the archive's name cannot be used; give another with `--name`")?;
        let folder = wanted
            .folder
            .unwrap_or_else(|| PathBuf::from(name.as_str()));
        let folder = std::path::absolute(folder)?;
        moved::move_network(&mut topology, &taken.networks, &mut notes)?;
        // Validated before a part of it is used.
        read(&text(&topology, origin)?, &folder)?;
        moved::move_ports(&mut topology, taken, &mut notes);
        let text = text(&topology, origin)?;
        Ok(Placement {
            home: paths.deployment(&name),
            spec: read(&text, &folder)?,
            folder,
            notes,
            text,
        })
    }

    /// Refuses to touch an existing folder or deployment.
    pub fn refuse_taken(&self) -> Result<()> {
        // A link that leads nowhere is in the way, too.
        ensure!(
            fs::symlink_metadata(&self.folder).is_err(),
            "`{}` already exists; name another folder with `--into`",
            self.folder.display()
        );
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        // A file without a name: permissions alone do not say what a file system accepts.
        tempfile::tempfile_in(parent).with_context(|| {
            format!(
                "failed to find a writable folder `{}`; name another one with `--into`",
                parent.display()
            )
        })?;
        let home = self.home.path();
        let here = self
            .home
            .recorded_spec()
            .map_or(true, |spec| spec.is_some());
        let started = home.join("disks").exists() && !self.importing().exists();
        ensure!(
            !here && !started,
            "the deployment `{}` already exists; remove it with `pspd down --volumes`, or choose another name (`--name` of `pspd import`)",
            self.spec.name
        );
        Ok(())
    }

    /// Exists while placing is not complete.
    fn importing(&self) -> PathBuf {
        self.home.path().join("importing")
    }

    /// Places the deployment. `fill` gets the folder of the topology and one of the state, both under temporary names;
    /// after an error nothing is left. The caller holds the deployment's lock.
    pub fn place(&self, fill: impl FnOnce(&Staging, &Staging) -> Result<()>) -> Result<()> {
        create_private(self.home.path())?;
        self.discard_unfinished()?;
        let placed = self.filled(fill);
        if placed.is_err() {
            // The lock's file is in the folder, and is removed with it.
            self.home.remove()?;
        }
        placed
    }

    fn filled(&self, fill: impl FnOnce(&Staging, &Staging) -> Result<()>) -> Result<()> {
        let hidden = format!(".{}.importing", self.spec.name);
        let parent = self.folder.parent().unwrap_or(Path::new("/"));
        let own = Staging::create(&parent.join(hidden))?;
        let state = Staging::create(&self.importing())?;
        self.home.create()?;
        fill(&own, &state)?;
        for folder in [self.home.disks(), self.home.volumes()] {
            sync_parent(&folder.join("any"))?;
        }
        let mut text = own.file(TOPOLOGY)?;
        text.write_all(self.text.as_bytes())
            .and_then(|()| text.sync_all())
            .with_context(|| format!("failed to write `{TOPOLOGY}`"))?;
        own.keep(&self.folder)
    }

    /// Removes all that [`Placement::place`] placed.
    pub fn remove(&self) -> Result<()> {
        folder::remove(&self.folder)?;
        self.home.remove()
    }

    /// Removes what a killed run had renamed into place.
    fn discard_unfinished(&self) -> Result<()> {
        if !self.importing().exists() {
            return Ok(());
        }
        for folder in [self.home.disks(), self.home.volumes(), self.home.keys()] {
            folder::remove(&folder)?;
        }
        Ok(())
    }
}

/// A topology as its file has it: what is validated is what is written.
pub fn text(mapping: &Mapping, origin: &str) -> Result<String> {
    let yaml = serde_yaml::to_string(mapping).context("failed to write the topology")?;
    let text = format!(
        "# {origin} by pspd. Run `pspd up` in this folder to bring it up; docs/topology.md explains every key.\n{yaml}"
    );
    ensure!(
        text.len() as u64 <= topology::LARGEST,
        "the spec has {} bytes; the maximum of a topology is {}",
        text.len(),
        topology::LARGEST
    );
    Ok(text)
}

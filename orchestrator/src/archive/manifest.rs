//! The archive's table of contents, and what must hold of it before anything else is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Firmware, ImageSource, Name, Spec};
use pspd_model::topology::{self, Found};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use super::entry::{Content, Entry, FileName, Secret};
use super::sizes;
use crate::firmware;
use crate::placement::{Mapping, text};

/// What an imported topology says of where it comes from.
pub(super) const IMPORTED: &str = "Imported";
/// The format that this pspd writes and the newest that it reads.
pub(super) const FORMAT: u32 = 2;
/// What earlier versions read: without directories, and without services that are commands.
const PLAIN_FORMAT: u32 = 1;
/// The manifest's own file; the first of an archive after its digest.
pub(super) const MANIFEST: &str = "manifest.json";
/// The manifest's digest, as `sha256sum` writes it: the first file of an archive.
pub(super) const MANIFEST_DIGEST: &str = "manifest.json.sha256";
/// A deployment of a hundred domains with volumes has about 500 files.
pub(super) const MOST_FILES: usize = 4096;
/// In bytes: 4096 files take about 1 MiB.
pub(super) const LONGEST_MANIFEST: u64 = 4 << 20;
/// In bytes: a certificate with its key has about 2 KiB.
pub(super) const LONGEST_SECRET: u64 = crate::identity::LONGEST_SECRET;
/// What [`MOST_FILES`] files and a spec of as many values as a topology can have take.
const MOST_VALUES: usize = 100_000;
/// Each file has up to three mappings, and each domain of a spec about six.
const MOST_MAPPINGS: usize = 20_000;

/// What YAML replaces by other keys. An archive's spec has the keys that it means.
const MERGE: &str = "<<";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// Such as `pspd 0.1.0`.
    pub made_by: String,
    /// The deployment in topology.yaml's keys, everything resolved; its paths are names of the archive's files.
    pub spec: Value,
    /// In the archive's order.
    pub files: Vec<Entry>,
}

impl Manifest {
    /// Reads a manifest's text and checks all that does not depend on the other files.
    pub fn parse(text: &[u8]) -> Result<Manifest> {
        check_amount(text)?;
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            made_by: String,
        }
        // Of a newer format, these two keys are all that is known.
        let head: Head = serde_json::from_slice(text).context("failed to read the manifest")?;
        ensure!(
            head.format <= FORMAT,
            Hinted::new(
                format!(
                    "the archive has format {}, made by {}, and this pspd reads formats up to {FORMAT}",
                    head.format,
                    head.made_by.escape_debug()
                ),
                "Use a newer pspd",
            )
        );
        let manifest: Manifest =
            serde_json::from_slice(text).context("failed to read the manifest")?;
        ensure!(
            !merges(&manifest.spec),
            "the archive's spec has a key `{MERGE}`; an archive has no YAML merges"
        );
        manifest.check_files()?;
        Ok(manifest)
    }

    /// The oldest format that has what the spec and the files need.
    pub fn format_of(spec: &Value, files: &[Entry]) -> u32 {
        let has_folder = files
            .iter()
            .any(|entry| matches!(entry.content, Content::Folder {}));
        let domains = spec["domains"].as_object();
        let has_new_key = domains.into_iter().flatten().any(|(_, domain)| {
            let service = domain["service"].as_object();
            service.is_some_and(|keys| {
                ["command", "setup"]
                    .iter()
                    .any(|key| keys.contains_key(*key))
            })
        });
        match has_folder || has_new_key {
            true => FORMAT,
            false => PLAIN_FORMAT,
        }
    }

    /// How many bytes all files have.
    pub fn total(&self) -> u64 {
        self.files.iter().map(|entry| entry.size).sum()
    }

    /// Checks a manifest that is to be written as a reader will.
    pub fn check(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        ensure!(
            text.len() as u64 <= LONGEST_MANIFEST,
            "its manifest has {} bytes; the limit is {LONGEST_MANIFEST}",
            text.len()
        );
        Manifest::parse(&text)?.spec(Path::new("/")).map(drop)
    }

    fn check_files(&self) -> Result<()> {
        ensure!(
            self.files.len() <= MOST_FILES,
            "the manifest lists {} files; the limit is {MOST_FILES}",
            self.files.len()
        );
        let mut seen = BTreeSet::from([MANIFEST.to_owned(), MANIFEST_DIGEST.to_owned()]);
        let mut total = 0u64;
        for entry in &self.files {
            if let Content::Secret { .. } = entry.content {
                ensure!(
                    entry.size <= LONGEST_SECRET,
                    "the key `{}` has {} bytes; the limit is {LONGEST_SECRET}",
                    entry.name,
                    entry.size
                );
            }
            // Some file systems ignore case.
            ensure!(
                seen.insert(entry.name.as_str().to_ascii_lowercase()),
                "the manifest lists `{}` twice",
                entry.name
            );
            total = total
                .checked_add(entry.size)
                .filter(|total| *total < i64::MAX as u64)
                .context("the sizes in the manifest are impossible")?;
        }
        Ok(())
    }

    /// The spec, with its files in `folder`; everything that it and the list of files say of each other is compared.
    pub fn spec(&self, folder: &Path) -> Result<Spec> {
        self.spec_of(&text(self.topology()?, IMPORTED)?, folder)
    }

    pub fn topology(&self) -> Result<&Mapping> {
        let spec = self.spec.as_object();
        spec.context("the archive's spec is not a mapping")
    }

    /// [`Manifest::spec`] of a changed text.
    pub fn spec_of(&self, text: &str, folder: &Path) -> Result<Spec> {
        let files = Files {
            folder,
            by_name: self
                .files
                .iter()
                .map(|entry| (entry.name.as_str(), entry))
                .collect(),
        };
        let look = |path: &Path| match files.at(path).map(|entry| &entry.content) {
            Some(Content::File { .. } | Content::Image { .. }) => Found::File,
            Some(Content::Folder {}) => Found::Folder,
            _ => Found::Nothing,
        };
        let spec = topology::parse(text, folder, &look).map_err(|faults| {
            let shown = faults.iter().take(topology::MOST_SHOWN);
            let shown: Vec<&str> = shown.map(|fault| fault.message.as_str()).collect();
            let more = match faults.len() - shown.len() {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            anyhow::anyhow!("the archive's spec is invalid: {}{more}", shown.join("; "))
        })?;
        files.check_images(&spec)?;
        files.check_roms(&spec)?;
        self.check_disks(&spec, folder)?;
        sizes::check(&self.files, &spec, folder)?;
        Ok(spec)
    }

    /// Every disk has its place in the spec, and every volume of the spec its disk.
    fn check_disks(&self, spec: &Spec, folder: &Path) -> Result<()> {
        let mut seen = BTreeMap::new();
        let mut keys = BTreeMap::new();
        let volumes: BTreeSet<(&Name, &Name)> = spec
            .domains
            .values()
            .flat_map(|domain| domain.volumes.iter().map(|one| (&domain.name, &one.name)))
            .collect();
        for entry in &self.files {
            let place = match &entry.content {
                Content::System { domain, image, .. } => {
                    let known = spec
                        .domains
                        .get(domain)
                        .map(|domain| &spec.images[&domain.image]);
                    let base = folder.join(image.as_str());
                    ensure!(
                        known.is_some_and(|known| matches!(&known.source, ImageSource::Path { path, .. } if *path == base)),
                        "`{}` is the disk of a domain whose image is not `{image}`",
                        entry.name
                    );
                    (domain.clone(), None)
                }
                Content::Volume { domain, volume, .. } => {
                    ensure!(
                        volumes.contains(&(domain, volume)),
                        "`{}` is a volume that the spec does not have",
                        entry.name
                    );
                    (domain.clone(), Some(volume.clone()))
                }
                Content::Secret { key } => {
                    ensure!(
                        key.belongs_to(spec),
                        "`{}` is the key of something that the spec does not have",
                        entry.name
                    );
                    if let Some(other) = keys.insert(key.path(), &entry.name) {
                        bail!("`{}` and `{other}` are the same key", entry.name);
                    }
                    continue;
                }
                _ => continue,
            };
            if let Some(other) = seen.insert(place, &entry.name) {
                bail!("`{}` and `{other}` are the same disk", entry.name);
            }
        }
        for domain in spec.domains.values() {
            for volume in &domain.volumes {
                ensure!(
                    seen.contains_key(&(domain.name.clone(), Some(volume.name.clone()))),
                    "the archive lacks the volume `{}` of `{}`",
                    volume.name,
                    domain.name
                );
            }
        }
        Ok(())
    }
}

/// The archive's files as they will be in a folder.
struct Files<'a> {
    folder: &'a Path,
    by_name: BTreeMap<&'a str, &'a Entry>,
}

impl Files<'_> {
    fn at(&self, path: &Path) -> Option<&Entry> {
        let name = path.strip_prefix(self.folder).ok()?.to_str()?;
        self.by_name.get(name).copied()
    }

    fn check_images(&self, spec: &Spec) -> Result<()> {
        for image in spec.images.values() {
            let ImageSource::Path { path, sha256 } = &image.source else {
                bail!("the image `{}` is not a file of the archive", image.name);
            };
            let is_it = self.at(path).is_some_and(|entry| {
                matches!(entry.content, Content::Image { .. }) && entry.sha256 == *sha256
            });
            ensure!(
                is_it,
                "the image `{}` is not the archive's file of that name",
                image.name
            );
        }
        Ok(())
    }

    fn check_roms(&self, spec: &Spec) -> Result<()> {
        for domain in spec.domains.values() {
            let Firmware::Rom { path, sha256 } = &domain.firmware else {
                continue;
            };
            let entry = self.at(path).filter(|entry| entry.sha256 == *sha256);
            let entry = entry.with_context(|| {
                format!(
                    "the ROM of `{}` is not the archive's file of that name",
                    domain.name
                )
            })?;
            firmware::check_size(path, entry.size)?;
        }
        Ok(())
    }
}

/// Counts what a JSON text would become, before memory is taken for it. Outside of strings, each value but the first of
/// a list or mapping follows a comma.
fn check_amount(text: &[u8]) -> Result<()> {
    let (mut values, mut mappings) = (0, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => {
                mappings += 1;
                values += 1;
            }
            b'[' | b',' if !in_string => values += 1,
            _ => {}
        }
    }
    ensure!(
        values <= MOST_VALUES && mappings <= MOST_MAPPINGS,
        "the manifest has {values} values and {mappings} mappings; the limits are {MOST_VALUES} and {MOST_MAPPINGS}"
    );
    Ok(())
}

/// Whether any mapping has the key of a YAML merge.
fn merges(value: &Value) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .any(|(key, value)| key == MERGE || merges(value)),
        Value::Array(items) => items.iter().any(merges),
        _ => false,
    }
}

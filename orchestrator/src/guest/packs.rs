//! The directories of a release that a guest lacks: what it needs of each, as a file without a name.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pspd_model::spec::Digest;
use tokio_util::sync::CancellationToken;

use super::Guest;
use super::release::{Content, Release, ReleaseFile, ReleaseTree};
use super::script::trees;
use crate::event::Scope;
use crate::full_disk;
use crate::tree::{Index, Pack};

/// A pack, and what it becomes in the guest.
pub(super) struct Packed {
    pub file: ReleaseFile,
    pub tree: Digest,
    /// The tree that it is the difference to.
    pub base: Option<Digest>,
    /// The directory's path in the release.
    pub path: PathBuf,
    /// It ends with this handle.
    _content: File,
}

/// What a guest said of its trees.
struct Present {
    trees: Vec<Digest>,
    /// Those of the current release, by their paths in it.
    current: BTreeMap<PathBuf, Digest>,
}

impl Present {
    fn read(report: &str) -> Present {
        let trees = report.lines().filter_map(|line| line.strip_prefix("tree "));
        let current = report.lines().filter_map(|line| {
            let (digest, path) = line.strip_prefix("base ")?.split_once(' ')?;
            Some((path.into(), Digest::parse(digest).ok()?))
        });
        Present {
            trees: trees.filter_map(|tree| Digest::parse(tree).ok()).collect(),
            current: current.collect(),
        }
    }
}

impl Guest {
    /// Packs what the guest lacks of the release's directories. `report` is of [`super::script::inspect`]; the packs are in
    /// `folder`.
    pub(super) fn pack(
        &self,
        release: &Release,
        report: &str,
        folder: &Path,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Vec<Packed>> {
        lacking(release, report, |tree, base| {
            scope.stage(format!("packing {}", tree.path.display()));
            let base = base.and_then(|base| self.index(release, base));
            pack(release, tree, base.as_ref(), folder, cancel)
        })
    }

    /// The index of a tree that the guest has; `None` if it is not what it should be, and so no base for another.
    fn index(&self, release: &Release, tree: &Digest) -> Option<Index> {
        let mut text = String::new();
        let command = trees::index(&release.service, tree);
        let read = self
            .session
            .lines(&command, Some(super::session::ANSWER), |line| {
                text.push_str(line);
                text.push('\n');
                true
            });
        let index = read.ok().and_then(|()| Index::parse(&text))?;
        (index.digest == *tree).then_some(index)
    }
}

/// Packs the trees that a guest lacks. `pack` gets a tree, and the one that the current release has in its place.
pub(super) fn lacking<P>(
    release: &Release,
    report: &str,
    mut pack: impl FnMut(&ReleaseTree, Option<&Digest>) -> anyhow::Result<P>,
) -> anyhow::Result<Vec<P>> {
    let mut present = Present::read(report);
    let mut packs = Vec::new();
    for tree in &release.trees {
        let wanted = &tree.index.digest;
        if present.trees.contains(wanted) {
            continue;
        }
        let base = present.current.get(&tree.path);
        packs.push(pack(
            tree,
            base.filter(|base| present.trees.contains(base)),
        )?);
        // Two paths may have the same content.
        present.trees.push(wanted.clone());
    }
    Ok(packs)
}

pub(super) fn pack(
    release: &Release,
    tree: &ReleaseTree,
    base: Option<&Index>,
    folder: &Path,
    cancel: &CancellationToken,
) -> anyhow::Result<Packed> {
    let failed = || format!("failed to write a file to `{}`", folder.display());
    let mut content = tempfile::tempfile_in(folder).with_context(failed)?;
    let pack = Pack {
        folder: &tree.folder,
        index: &tree.index,
        base,
    };
    let digest = pack.write(&mut content, cancel).map_err(|error| {
        match error.downcast::<std::io::Error>() {
            Ok(error) => full_disk::named(error, &content),
            Err(error) => error,
        }
    })?;
    Ok(Packed {
        file: ReleaseFile {
            path: trees::pack(&release.service, &tree.index.digest),
            mode: 0o600,
            digest,
            // Opened again, it is read from its beginning, as if it had a name.
            content: Content::Host(format!("/proc/self/fd/{}", content.as_raw_fd()).into()),
        },
        tree: tree.index.digest.clone(),
        base: base.map(|base| base.digest.clone()),
        path: tree.path.clone(),
        _content: content,
    })
}

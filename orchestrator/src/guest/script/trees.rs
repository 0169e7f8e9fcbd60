//! The parts of the scripts for a release's directories.
//!
//! ```text
//! /opt/pspd/SERVICE/trees/DIGEST/index    what is in the directory
//! /opt/pspd/SERVICE/trees/DIGEST/files    the directory as it was pushed; nothing changes it
//! /opt/pspd/SERVICE/trees/DIGEST.pack     what was pushed to make it
//! ```
//! A release has folders of its own, with hard links to these files. They belong to root, so that the service's user can
//! replace, but not change them.

use std::path::{Path, PathBuf};

use pspd_model::spec::{Digest, Name};

use crate::guest::release::{Release, ReleaseTree};
use crate::guest::{encode, unit};

/// Where a pack is received.
pub(in crate::guest) fn pack(service: &Name, tree: &Digest) -> PathBuf {
    Path::new(&unit::home(service)).join(format!("trees/{tree}.pack"))
}

/// The line of a tree in the list of a complete release.
pub(super) fn listed(tree: &ReleaseTree) -> String {
    format!("tree {} {}", tree.index.digest, tree.path.display())
}

/// Prints `tree DIGEST` for each tree that the guest has, and `base DIGEST PATH` for each of the current release. It runs in
/// the service's folder.
pub(super) const REPORT: &str = r#"for tree in trees/*/; do tree=${tree%/}; case "$tree" in *.new | 'trees/*') ;; *) echo "tree ${tree##*/}" ;; esac; done
sed -n 's/^tree /base /p' current/.complete 2>/dev/null
"#;

/// Removes the trees of no release, but for those of `wanted`. It runs in the service's folder.
pub(super) fn prune(wanted: &[ReleaseTree]) -> String {
    let wanted: Vec<&str> = wanted
        .iter()
        .map(|tree| tree.index.digest.as_str())
        .collect();
    format!(
        r#"kept=" {} $(sed -n 's/^tree \([0-9a-f]*\) .*/\1/p' releases/*/.complete 2>/dev/null | tr '\n' ' ') "
for tree in trees/*; do case "$kept" in *" ${{tree##*/}} "*) ;; *) rm -rf "$tree" ;; esac; done
"#,
        wanted.join(" ")
    )
}

/// Prints the index of a tree.
pub(in crate::guest) fn index(service: &Name, tree: &Digest) -> String {
    format!("cat {}/trees/{tree}/index", unit::home(service))
}

/// Makes trees from their packs, each of the tree that it is the difference to, if any.
pub(super) fn make(service: &Name, packs: &[(Digest, Option<Digest>)]) -> String {
    if packs.is_empty() {
        return String::new();
    }
    let (home, user) = (unit::home(service), unit::user(service));
    let mut script = format!(
        r#"make_tree() {{ # DIGEST BASE
    cd {home}/trees
    rm -rf $1.new
    if [ "$2" ]; then cp -al $2 $1.new; else mkdir -p $1.new/files; fi
    tar -x -f $1.pack -C $1.new removed
    (cd $1.new/files && xargs -0 rm -rf -- <../removed)
    tar -x -p -f $1.pack -C $1.new --no-same-owner
    rm $1.new/removed $1.pack
    chgrp -hR {user} $1.new/files
    sync -f $1.new
    mv $1.new $1
}}
"#
    );
    for (tree, base) in packs {
        let base = base.as_ref().map_or("", Digest::as_str);
        script.push_str(&format!("make_tree {tree} '{base}'\n"));
    }
    script
}

/// Puts the trees into the release's folder. What prepares the release may add to their folders.
pub(super) fn place(release: &Release) -> String {
    let (home, user) = (unit::home(&release.service), unit::user(&release.service));
    let mut script = String::new();
    for tree in &release.trees {
        let path = encode::word(&tree.path.to_string_lossy()).into_owned();
        let target = format!("{home}/releases/{}/{path}", release.digest);
        script.push_str(&format!(
            "rm -rf {target}\nmkdir -p {}\ncp -al {home}/trees/{}/files {target}\n",
            super::parent(&target),
            tree.index.digest
        ));
        if release.has_setup() {
            script.push_str(&format!(
                "find {target} -type d -exec chown {user}: {{}} +\n"
            ));
        }
    }
    script
}

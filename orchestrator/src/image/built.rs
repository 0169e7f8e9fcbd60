//! Images that pspd builds: by a recipe that it carries, or by one in a folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pspd_builtin::{Debian, Program};
use pspd_model::spec::{Builtin, Digest, ImageSource, ImageSpec, Size};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::cache::DISK;
use super::recipe;
use crate::event::Scope;

/// The folder of a recipe with the source of the guest's first process.
const INIT: &str = "init";
/// `disk_mib` in the recipe.
const DEBIAN_MIB: u64 = 4096;

/// The digest of a recipe that pspd carries: the same as of its folder.
pub(super) fn digest(builtin: Builtin) -> Digest {
    match builtin {
        Builtin::Debian => recipe::digest_of_carried::<Debian>(""),
    }
}

/// The virtual size of the disk of an image that pspd carries the recipe of.
pub(super) fn size(builtin: Builtin) -> Size {
    match builtin {
        Builtin::Debian => Size::mib(DEBIAN_MIB),
    }
}

/// The digest of an image: of its recipe and its packages.
pub(super) fn with_packages(recipe: Digest, packages: &BTreeSet<String>) -> Digest {
    if packages.is_empty() {
        return recipe;
    }
    let packages = packages.iter().map(|package| format!(" {package}"));
    let inputs = recipe.to_string() + &packages.collect::<String>();
    Digest::of(inputs.as_bytes())
}

/// Fills the folder `out`. Blocks.
pub(super) fn build(
    image: &ImageSpec,
    out: &Path,
    log: &Path,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<()> {
    // Beside the result and not in /tmp, which may be mounted so that no program runs from it.
    let written = tempfile::Builder::new()
        .prefix("recipe-")
        .tempdir_in(out)
        .context("failed to make a folder for the recipe")?;
    let (recipe, title) = match &image.source {
        ImageSource::Builtin(builtin) => {
            let folder = written.path().join(builtin.name());
            match builtin {
                Builtin::Debian => recipe::write::<Debian>(&folder)?,
            }
            let title = format!("the built-in recipe `{}`", builtin.name());
            (folder, title)
        }
        ImageSource::Recipe(folder) => {
            let title = format!("the recipe `{}`", folder.display());
            (folder.clone(), title)
        }
        ImageSource::Path { .. } | ImageSource::Url { .. } => {
            bail!("the image `{}` is not built by a recipe", image.name)
        }
    };
    let guest_init = guest_init(&recipe, &written)?;
    let build = recipe::Build {
        recipe: &recipe,
        title: &title,
        packages: &image.packages,
        guest_init: guest_init.as_deref(),
        out,
        made: DISK,
        log,
        scope,
        cancel,
    };
    build.run()?;
    written
        .close()
        .context("failed to remove the folder of the recipe")
}

/// The guest's first process, where the recipe has the source that it was compiled from.
fn guest_init(recipe: &Path, written: &TempDir) -> Result<Option<PathBuf>> {
    let source = recipe.join(INIT);
    if !source.is_dir()
        || recipe::digest_of_folder(&source)? != recipe::digest_of_carried::<Debian>(INIT)
    {
        return Ok(None);
    }
    let path = written.path().join("guest-init");
    Program::GuestInit
        .write(&path)
        .with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_size_is_that_of_the_recipe() {
        let conf = Debian::get("recipe.conf").unwrap().data;
        let line = format!("\ndisk_mib={DEBIAN_MIB}\n");
        assert!(String::from_utf8_lossy(&conf).contains(&line));
        assert_eq!(size(Builtin::Debian), Size::mib(DEBIAN_MIB));
    }

    #[test]
    fn the_carried_recipe_is_the_folder() {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/debian");
        let folder = tempfile::tempdir().unwrap();
        recipe::write::<Debian>(folder.path()).unwrap();
        let carried = digest(Builtin::Debian);
        assert_eq!(carried, recipe::digest(&original).unwrap());
        assert_eq!(carried, recipe::digest(folder.path()).unwrap());
    }

    #[test]
    fn the_guests_init_is_recompiled_only_if_its_source_differs() {
        let (folder, written) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        recipe::write::<Debian>(folder.path()).unwrap();
        fs::write(folder.path().join("packages"), "openssh-server").unwrap();
        let init = guest_init(folder.path(), &written).unwrap().unwrap();
        assert!(fs::read(init).unwrap().starts_with(b"\x7fELF"));

        fs::write(folder.path().join("init/src/main.rs"), "fn main() {}").unwrap();
        assert_eq!(guest_init(folder.path(), &written).unwrap(), None);
    }
}

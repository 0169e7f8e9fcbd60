//! coreboot's ROMs: built from the recipe that this program carries, cached by the digest of their inputs.
//!
//! ```text
//! <cache>/firmware/<digest>/   of the recipe: seabios.rom, linux-base.rom, cbfstool, manifest.json
//! <cache>/firmware/<digest>/   of recipe, image and command line: linux.rom, the base with that kernel in it
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use pspd_model::spec::{Digest, Payload};
use rust_embed::RustEmbed;
use tokio_util::sync::CancellationToken;

use super::rom::{self, Rom};
use crate::event::Scope;
use crate::image::cache::{CachedImage, Images, Readers};
use crate::image::{GuestImage, bz_image, recipe};
use crate::tool;

const WITH_SEABIOS: &str = "seabios.rom";
const BASE: &str = "linux-base.rom";
const WITH_LINUX: &str = "linux.rom";
const TOOL: &str = "cbfstool";
/// The kernel takes 4 KiB at a fixed place for it.
const LONGEST_COMMAND_LINE: usize = 2047;

#[derive(RustEmbed)]
#[folder = "../images/coreboot"]
struct Recipe;

/// The digest by which a ROM is cached, known before it is built. `image` is the guest's, whose kernel may be in it.
pub fn digest(payload: &Payload, image: &Digest) -> Digest {
    match payload {
        Payload::Seabios => recipe_digest(),
        Payload::Linux { cmdline } => {
            let words = cmdline.as_deref().unwrap_or_default();
            Digest::of(format!("{} {image} {words}", recipe_digest()).as_bytes())
        }
    }
}

/// The digest of the recipe, whose ROMs all others are made from.
pub fn recipe_digest() -> Digest {
    let mut all = Vec::new();
    for name in Recipe::iter() {
        let content = content(&name);
        // Lengths keep apart what would otherwise run together.
        all.extend_from_slice(format!("{name} {}\n", content.len()).as_bytes());
        all.extend_from_slice(&content);
    }
    Digest::of(&all)
}

fn content(name: &str) -> std::borrow::Cow<'static, [u8]> {
    Recipe::get(name).expect("a listed file exists").data
}

/// How many options the recipe sets, of coreboot and of SeaBIOS as its payload.
pub fn options() -> [usize; 2] {
    ["coreboot.config", "seabios.config"].map(|name| {
        let text = String::from_utf8_lossy(&content(name)).into_owned();
        text.lines().filter(|line| line.contains("CONFIG_")).count()
    })
}

/// Whether the ROM of this digest is in the cache.
pub fn is_cached(cache: &Path, digest: &Digest) -> bool {
    roms(cache).folder(digest).is_dir()
}

/// Whether the ROM is the one that is cached by this digest.
pub(super) fn is_cached_by(cache: &Path, digest: &Digest, rom: &Rom) -> bool {
    rom.path.starts_with(roms(cache).folder(digest))
}

/// What this host lacks for building the ROMs, as the recipe itself reports it; nothing where they are cached.
pub fn lacking(cache: &Path) -> Result<Option<String>> {
    if is_cached(cache, &recipe_digest()) {
        return Ok(None);
    }
    let scripts = tempfile::tempdir().context("failed to make a folder for the recipe")?;
    recipe::write::<Recipe>(scripts.path())?;
    // By its interpreter: the temporary folder may be mounted so that no program runs from it.
    let checked = Command::new("bash")
        .arg(scripts.path().join("build.sh"))
        .arg("--check")
        .stdin(Stdio::null())
        .output()
        .context("failed to run `bash`")?;
    Ok((!checked.status.success()).then(|| {
        let words = String::from_utf8_lossy(&checked.stderr);
        words
            .trim()
            .trim_start_matches("build.sh: missing: ")
            .to_owned()
    }))
}

/// The cached ROM with SeaBIOS as its payload, built if it is missing. Blocks; `cancel` ends it.
pub fn with_seabios(cache: &Path, scope: &Scope, cancel: &CancellationToken) -> Result<Rom> {
    checked(built(cache, scope, cancel)?.join(WITH_SEABIOS))
}

/// The cached ROM with an image's kernel as its payload, made if it is missing.
pub fn with_linux(
    cache: &Path,
    image: &GuestImage,
    payload: &Payload,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<Rom> {
    let base = built(cache, scope, cancel)?;
    let images = roms(cache);
    let digest = digest(payload, &image.digest);
    let rom = images.folder(&digest).join(WITH_LINUX);
    if !rom.is_file()
        && let Some(partial) = images.begin(&digest, scope, cancel)?
    {
        scope.stage("putting the kernel into the ROM");
        add_kernel(&base, image, payload, &partial.path().join(WITH_LINUX))?;
        partial.commit(Readers::Everyone)?;
    }
    checked(rom)
}

/// All ROMs in the cache, by digest.
pub fn list(cache: &Path) -> Result<Vec<CachedImage>> {
    roms(cache).list()
}

/// Removes the ROMs that `keep` does not name, and returns what it removed. `keep` must name those of every deployment.
pub fn prune(cache: &Path, keep: &BTreeSet<Digest>) -> Result<Vec<CachedImage>> {
    roms(cache).prune(keep)
}

/// The cache's folder of ROMs, kept in the same way as images.
fn roms(cache: &Path) -> Images {
    Images::in_folder(cache.join("firmware"))
}

/// The folder of the recipe's ROMs.
fn built(cache: &Path, scope: &Scope, cancel: &CancellationToken) -> Result<PathBuf> {
    let carried = recipe::write::<Recipe>;
    build_from(carried, cache, &recipe_digest(), scope, cancel)
}

fn build_from(
    write_recipe: impl FnOnce(&Path) -> Result<()>,
    cache: &Path,
    digest: &Digest,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<PathBuf> {
    let images = roms(cache);
    let folder = images.folder(digest);
    if folder.is_dir() {
        return Ok(folder);
    }
    let Some(partial) = images.begin(digest, scope, cancel)? else {
        return Ok(folder);
    };
    // Beside the result and not in /tmp, which may be mounted so that no program runs from it.
    let scripts = tempfile::Builder::new()
        .prefix("recipe-")
        .tempdir_in(partial.path())
        .context("failed to make a folder for the recipe")?;
    write_recipe(scripts.path())?;
    let build = recipe::Build {
        recipe: scripts.path(),
        title: "the built-in recipe of coreboot",
        packages: &BTreeSet::new(),
        guest_init: None,
        out: partial.path(),
        made: WITH_SEABIOS,
        log: &images.log(digest),
        scope,
        cancel,
    };
    build.run()?;
    scripts
        .close()
        .context("failed to remove the folder of the recipe")?;
    partial.commit(Readers::Everyone)?;
    Ok(folder)
}

fn add_kernel(base: &Path, image: &GuestImage, payload: &Payload, rom: &Path) -> Result<()> {
    let direct = image
        .kernel
        .as_ref()
        .context("the image has no kernel of its own to put into a ROM")?;
    let mut command_line = direct.cmdline.clone();
    if let Payload::Linux {
        cmdline: Some(words),
    } = payload
    {
        command_line.push(' ');
        command_line.push_str(words);
    }
    ensure!(
        command_line.len() <= LONGEST_COMMAND_LINE,
        "the kernel's command line has {} bytes; the limit is {LONGEST_COMMAND_LINE}",
        command_line.len()
    );
    let bytes = fs::read(base.join(BASE))
        .with_context(|| format!("failed to read `{}`", base.join(BASE).display()))?;
    fs::write(rom, bytes).with_context(|| format!("failed to write `{}`", rom.display()))?;
    let mut add = Command::new(base.join(TOOL));
    add.arg(rom).args(["add-payload", "-n", "fallback/payload"]);
    // The kernel unpacks itself: packing it once more would only cost time at every boot.
    add.args(["-c", "none", "-C", &command_line])
        .arg("-f")
        .arg(bz_image(direct));
    if let Some(initrd) = &direct.initrd {
        add.arg("-I").arg(initrd);
    }
    tool::run(&mut add, "build-essential", b"")
        .context("failed to put the kernel into a ROM of 16 MiB")
}

fn checked(path: PathBuf) -> Result<Rom> {
    let sha256 = rom::digest(&path)?;
    Ok(Rom { path, sha256 })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_input_counts_for_the_digest() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let linux = |words: Option<&str>| Payload::Linux {
            cmdline: words.map(str::to_owned),
        };
        let all = [
            digest(&Payload::Seabios, &one),
            digest(&linux(None), &one),
            digest(&linux(None), &two),
            digest(&linux(Some("quiet")), &one),
        ];
        let different: BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(digest(&Payload::Seabios, &two), all[0]);
    }

    #[test]
    fn the_whole_recipe_is_carried() {
        let folder = tempfile::tempdir().unwrap();
        recipe::write::<Recipe>(folder.path()).unwrap();
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/coreboot");
        assert_eq!(
            recipe::digest(folder.path()).unwrap(),
            recipe::digest(&original).unwrap()
        );
    }

    #[test]
    fn the_recipe_tolerates_the_warnings_that_the_compiler_knows() {
        let tolerated = |unknown: &str| {
            let folder = tempfile::tempdir().unwrap();
            let compiler = folder.path().join("gcc");
            fs::write(
                &compiler,
                format!("#!/bin/sh\n[ \"$1\" != -Wno-error={unknown} ]\n"),
            )
            .unwrap();
            fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
            let path = std::env::var("PATH").unwrap();
            let made = Command::new("make")
                .args(["--silent", "-f"])
                .arg(
                    Path::new(env!("CARGO_MANIFEST_DIR"))
                        .join("../images/coreboot/site-local/Makefile.inc"),
                )
                .args([
                    "--eval",
                    "shown: ; @echo $(filter -Wno-error=%,$(CFLAGS_common))",
                    "shown",
                ])
                .env("PATH", format!("{}:{path}", folder.path().display()))
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            String::from_utf8(made.stdout).unwrap()
        };
        assert_eq!(
            tolerated("none"),
            "-Wno-error=array-compare -Wno-error=format -Wno-error=enum-int-mismatch\n"
        );
        assert_eq!(
            tolerated("enum-int-mismatch"),
            "-Wno-error=array-compare -Wno-error=format\n"
        );
    }

    #[test]
    fn a_build_that_fails_shows_the_compilers_first_error_and_leaves_no_rom() {
        let cache = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"broken");
        // It makes one ROM, fails to compile a file, and continues to a second error.
        let broken = |folder: &Path| {
            for (name, text) in [
                (
                    "build.sh",
                    "#!/bin/sh\nset -e\ncd \"$(dirname \"$0\")\"\n: >\"$1/seabios.rom\"\nmake -k all\n",
                ),
                ("Makefile", "all: bootblock.o ramstage.o\n"),
                ("bootblock.c", "int main(void) { return no_such_thing; }\n"),
                ("ramstage.c", "int second = also_missing;\n"),
            ] {
                fs::write(folder.join(name), text)?;
            }
            let script = folder.join("build.sh");
            Ok(fs::set_permissions(
                script,
                fs::Permissions::from_mode(0o755),
            )?)
        };
        let (scope, cancel) = (Scope::ignored(), CancellationToken::new());
        let built = build_from(broken, cache.path(), &digest, &scope, &cancel);
        let error = built.unwrap_err().to_string();
        let first = error.find("bootblock.c:1:").expect(&error);
        assert!(
            error[first..].contains("no_such_thing") && error.find("ramstage.c:1:") > Some(first),
            "{error}"
        );
        assert!(!is_cached(cache.path(), &digest));
        assert_eq!(list(cache.path()).unwrap(), []);
        let left = fs::read_dir(cache.path().join("firmware")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(
            left,
            [format!("{digest}.lock"), format!("{digest}.log")]
                .map(Into::<std::ffi::OsString>::into)
        );
    }
}

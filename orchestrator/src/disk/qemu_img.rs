//! qemu-img, the only program that makes and changes disks which no domain has open.
//!
//! What copies data ends when its command is cancelled; the rest writes a few clusters.
//!
//! The format of every file is stated, never guessed: a hostile file could otherwise name other files of this host.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use pspd_model::hint::Hinted;
use pspd_model::spec::Size;
use tokio_util::sync::CancellationToken;

use super::qcow2::Header;
use crate::tool;

const PACKAGE: &str = "qemu-utils";

/// Makes a qcow2 overlay of virtual size `size` at `path`, over the read-only qcow2 `base`.
///
/// The overlay names its base by absolute path. An error leaves no file; an existing file is an error.
pub fn create_overlay(base: &Path, path: &Path, size: Size) -> Result<()> {
    let base = base
        .canonicalize()
        .with_context(|| format!("failed to find the image `{}`", base.display()))?;
    let least = Header::open(&base)?.size;
    ensure!(
        size >= least,
        Hinted::new(
            format!(
                "disk `{}` of {size} is smaller than its image `{}`",
                path.display(),
                base.display()
            ),
            format!("Make it {least} or more"),
        )
    );
    create_file(path, size, |command| {
        command.args(["-F", "qcow2", "-b"]).arg(&base);
    })
}

/// Makes an empty qcow2 disk of virtual size `size` at `path`; it takes room as it is written.
///
/// An error leaves no file; an existing file is an error.
pub fn create(path: &Path, size: Size) -> Result<()> {
    // A volume outlives many crashes, and lazy reference counts would need a repair after each: they stay off.
    create_file(path, size, |_| {})
}

fn create_file(path: &Path, size: Size, options: impl FnOnce(&mut Command)) -> Result<()> {
    let context = || format!("failed to create the disk `{}` of {size}", path.display());
    // Takes the name, so that qemu-img cannot overwrite a disk that has data.
    let mut file = fs::OpenOptions::new();
    file.write(true).create_new(true).mode(0o600);
    file.open(path).with_context(context)?;
    let mut command = qemu_img("create");
    command.args(["-q", "-f", "qcow2"]);
    options(&mut command);
    command.arg("--").arg(path).arg(size.0.to_string());
    let made = run(command).with_context(context);
    if made.is_err() {
        // The error that counts is qemu-img's.
        let _ = fs::remove_file(path);
    }
    made
}

/// Grows a disk to a virtual size of `size`; its content stays.
pub fn resize(path: &Path, size: Size) -> Result<()> {
    let mut command = qemu_img("resize");
    command.args(["-q", "-f", "qcow2", "--"]);
    command.arg(path).arg(size.0.to_string());
    run(command)
        .with_context(|| format!("failed to resize the disk `{}` to {size}", path.display()))
}

/// Writes a raw image as the qcow2 file `to`. What a cancelled run left there is the caller's to remove.
pub fn convert_raw(raw: &Path, to: &Path, cancel: &CancellationToken) -> Result<()> {
    let mut command = qemu_img("convert");
    command.args(["-f", "raw", "-O", "qcow2", "--"]);
    command.args([raw, to]);
    tool::run_until_cancelled(&mut command, PACKAGE, "converting an image", cancel)
        .with_context(|| format!("failed to convert `{}` to qcow2", raw.display()))
}

/// Writes a self-contained copy of a disk to `to`, with what its base has. A running domain may have it open.
pub fn flatten(disk: &Path, to: &Path, cancel: &CancellationToken) -> Result<()> {
    let mut command = qemu_img("convert");
    // Without a lock: the running guest's own QEMU has the chain open, too.
    command.args(["-U", "-f", "qcow2", "-O", "qcow2", "--"]);
    command.args([disk, to]);
    tool::run_until_cancelled(&mut command, PACKAGE, "flattening a disk", cancel)
        .with_context(|| format!("failed to flatten `{}`", disk.display()))
}

/// Merges an overlay that no domain has open into its base. When it is cancelled, the overlay still has all that it had, so
/// the next call completes it.
pub fn commit(overlay: &Path, cancel: &CancellationToken) -> Result<()> {
    let mut command = qemu_img("commit");
    command.args(["-q", "-f", "qcow2", "--"]).arg(overlay);
    tool::run_until_cancelled(&mut command, PACKAGE, "merging a snapshot", cancel)
        .with_context(|| format!("failed to merge `{}` into its disk", overlay.display()))
}

/// Makes `base` the backing file of an overlay; its content stays, and `base` need not exist yet.
pub fn rebase(overlay: &Path, base: &Path) -> Result<()> {
    let mut command = qemu_img("rebase");
    command.args(["-u", "-f", "qcow2", "-F", "qcow2", "-b"]);
    command.arg(base).arg("--").arg(overlay);
    run(command).with_context(|| format!("failed to rebase `{}`", overlay.display()))
}

/// Copies what an overlay has only from the layers between it and `below` into it, and makes it an overlay of `below`, or
/// self-contained. No domain has it open. After a failure, a crash or when it is cancelled, its content is what it was.
pub fn absorb(overlay: &Path, below: Option<&Path>, cancel: &CancellationToken) -> Result<()> {
    let mut command = qemu_img("rebase");
    command.args(["-q", "-f", "qcow2"]);
    match below {
        Some(below) => command.args(["-F", "qcow2", "-b"]).arg(below),
        None => command.args(["-b", ""]),
    };
    command.arg("--").arg(overlay);
    tool::run_until_cancelled(&mut command, PACKAGE, "merging layers", cancel)
        .with_context(|| format!("failed to merge layers into `{}`", overlay.display()))
}

fn qemu_img(subcommand: &str) -> Command {
    let mut command = Command::new("qemu-img");
    command.arg(subcommand);
    command
}

fn run(mut command: Command) -> Result<()> {
    tool::run(&mut command, PACKAGE, b"")
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use anyhow::Error;

    use super::*;
    use crate::cancelled::Cancelled;
    use crate::disk::qcow2::Backing;
    use crate::hint::told;

    #[test]
    fn an_overlay_has_its_own_size() {
        let folder = tempfile::tempdir().unwrap();
        let (base, overlay) = (folder.path().join("base"), folder.path().join("overlay"));
        create(&base, Size::mib(64)).unwrap();
        create_overlay(&base, &overlay, Size::mib(96)).unwrap();
        let header = Header::open(&overlay).unwrap();
        let backing = Backing {
            path: base.canonicalize().unwrap(),
            format: Some("qcow2".to_owned()),
        };
        assert_eq!(
            (header.size, header.backing),
            (Size::mib(96), Some(backing))
        );
        assert_eq!(Header::open(&base).unwrap().backing, None);
    }

    #[test]
    fn an_overlay_smaller_than_its_image_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (base, overlay) = (folder.path().join("base"), folder.path().join("overlay"));
        create(&base, Size::mib(64)).unwrap();
        let error = create_overlay(&base, &overlay, Size::mib(32)).unwrap_err();
        assert!(
            told(&error).ends_with(". Make it 64 MiB or more"),
            "{error}"
        );
        assert!(!overlay.exists());
    }

    #[test]
    fn an_existing_disk_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        fs::write(&path, "precious").unwrap();
        create(&path, Size::mib(1)).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_disk_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        create(&path, Size::mib(1)).unwrap();
        resize(&path, Size::mib(3)).unwrap();
        assert_eq!(Header::open(&path).unwrap().size, Size::mib(3));
    }

    #[test]
    fn an_overlay_gets_a_base_that_does_not_exist_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("overlay");
        create(&path, Size::mib(1)).unwrap();
        let base = Path::new("/nowhere/base.qcow2");
        rebase(&path, base).unwrap();
        let backing = Header::open(&path).unwrap().backing.unwrap();
        assert_eq!(backing.path, base);
    }

    #[test]
    fn a_cancelled_conversion_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (raw, disk) = (folder.path().join("raw"), folder.path().join("disk"));
        let file = fs::File::create(&raw).unwrap();
        file.set_len(256 << 20).unwrap();
        let cancel = CancellationToken::new();
        convert_raw(&raw, &disk, &cancel).unwrap();
        assert_eq!(Header::open(&disk).unwrap().size, Size::mib(256));
        cancel.cancel();
        let error = convert_raw(&raw, &disk, &cancel).unwrap_err();
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
    }

    fn io(path: &Path, command: &str) {
        let mut tool = Command::new("qemu-io");
        tool.args(["-f", "qcow2", "-c", command]).arg(path);
        let ran = tool.output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && !said.contains("failed"), "{ran:?}");
    }

    /// Cancels a merge as soon as it has written 1 MiB to `to`.
    fn interrupted(to: &Path, merge: impl Fn(&CancellationToken) -> Result<()> + Sync) -> Error {
        let length = || fs::metadata(to).unwrap().len();
        let (before, cancel) = (length(), CancellationToken::new());
        thread::scope(|threads| {
            let merging = threads.spawn(|| merge(&cancel));
            while length() < before + (1 << 20) && !merging.is_finished() {
                thread::sleep(Duration::from_millis(1));
            }
            cancel.cancel();
            merging.join().unwrap().unwrap_err()
        })
    }

    #[test]
    fn what_a_cancelled_merge_left_is_completed_by_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (base, top) = (at("base"), at("top"));
        create(&base, Size::mib(384)).unwrap();
        io(&base, "write -P 1 0 1M");
        let content = ["read -P 1 0 512k", "read -P 2 512k 383M"];
        let has_content = |path: &Path| content.iter().for_each(|read| io(path, read));
        let never = CancellationToken::new();
        for (filled, to) in [(&top, &base), (&base, &top)] {
            create_overlay(&base, &top, Size::mib(384)).unwrap();
            io(filled, "write -P 2 512k 383M");
            let merge = |cancel: &CancellationToken| {
                if to == &base {
                    commit(&top, cancel)
                } else {
                    absorb(&top, None, cancel)
                }
            };
            let error = interrupted(to, merge);
            assert!(Cancelled::is_cause_of(&error), "{error:#}");
            has_content(&top);
            merge(&never).unwrap();
            has_content(to);
            fs::remove_file(&top).unwrap();
        }
    }

    #[test]
    fn what_qemu_img_refuses_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        let error = create(&path, Size(u64::MAX)).unwrap_err();
        assert!(
            format!("{error:#}").contains("`qemu-img` failed"),
            "{error:#}"
        );
        assert!(!path.exists());
    }
}

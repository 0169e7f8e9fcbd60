//! Builds an image from a recipe: a folder whose `build.sh` fills another folder.
//!
//! `build.sh OUT [PACKAGE...]` leaves its result in `OUT`, such as `disk.qcow2`, and says `STAGE: ...` on standard output
//! as it goes; packages are what to install beside the recipe's own. Every file of the folder counts for the digest, so a
//! recipe that changes is another image.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write, pipe};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rust_embed::RustEmbed;
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::cancelled::Cancelled;
use crate::event::Scope;
use crate::spec::Digest;

pub const SCRIPT: &str = "build.sh";
const POLL: Duration = Duration::from_millis(50);
/// How long a script may be open for writing when it is to start.
const BUSY: Duration = Duration::from_secs(5);
/// How long a cancelled build may clean up after itself.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of the log that an error shows.
const TAIL: usize = 20;
/// Lines from a compiler's first error on: itself, its source line and the mark below.
const AFTER_ERROR: usize = 3;

/// The digest over the names, modes and contents of a recipe's files.
pub fn digest(recipe: &Path) -> Result<Digest> {
    if !recipe.join(SCRIPT).is_file() {
        bail!("recipe `{}` has no `{SCRIPT}`", recipe.display());
    }
    let mut files = Vec::new();
    collect(recipe, &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let name = path
            .strip_prefix(recipe)
            .unwrap_or(&path)
            .as_os_str()
            .as_bytes();
        let (kind, content) = content(&path)?;
        // Lengths keep apart what would otherwise run together.
        for part in [name, kind.as_bytes(), &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(Digest::from(hash))
}

/// Writes out a recipe that this program carries.
pub fn write<R: RustEmbed>(folder: &Path) -> Result<()> {
    for name in R::iter() {
        let path = folder.join(&*name);
        let context = || format!("writing `{}`", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        let file = R::get(&name).expect("a listed file is there");
        fs::write(&path, file.data).with_context(context)?;
    }
    let script = folder.join(SCRIPT);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making `{}` executable", script.display()))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing `{}`", folder.display()))? {
        let entry = entry.with_context(|| format!("listing `{}`", folder.display()))?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn content(path: &Path) -> Result<(&'static str, Vec<u8>)> {
    let context = || format!("reading `{}`", path.display());
    let metadata = fs::symlink_metadata(path).with_context(context)?;
    if metadata.is_symlink() {
        let target = fs::read_link(path).with_context(context)?;
        return Ok(("link", target.as_os_str().as_bytes().to_vec()));
    }
    let executable = metadata.permissions().mode() & 0o111 != 0;
    let kind = if executable { "executable" } else { "file" };
    Ok((kind, fs::read(path).with_context(context)?))
}

/// Runs the recipe's script; it fills the folder `out` with at least the file `made`, and `log` keeps what it said.
pub fn build(
    recipe: &Path,
    packages: &BTreeSet<String>,
    out: &Path,
    made: &str,
    log: &Path,
    scope: &Scope,
    cancel: &CancellationToken,
) -> Result<()> {
    let log_file = File::create(log).with_context(|| format!("creating `{}`", log.display()))?;
    // One pipe for both, so that the log has the script's own order.
    let (output, input) = pipe().context("making a pipe")?;
    let script = recipe.join(SCRIPT);
    let mut command = Command::new(&script);
    command
        .arg(out)
        .args(packages)
        .stdin(Stdio::null())
        .stdout(input.try_clone().context("sharing a pipe")?)
        .stderr(input)
        // Its own group, so that cancelling reaches everything that it started.
        .process_group(0);
    let mut child = start(command).with_context(|| format!("starting `{}`", script.display()))?;
    let stages = scope.clone();
    let reader = thread::spawn(move || follow(BufReader::new(output), log_file, &stages));
    let status = wait(&mut child, cancel)?;
    // It ends with the script's last descendant, and it can only fail at writing the log.
    let _ = reader.join();
    let Some(status) = status else {
        bail!(Cancelled::during(format_args!(
            "the recipe `{}` was built",
            recipe.display()
        )));
    };
    if !status.success() {
        bail!(
            "recipe `{}` failed ({status}), log `{}`:\n{}",
            recipe.display(),
            log.display(),
            said(log)?
        );
    }
    if !out.join(made).is_file() {
        bail!("recipe `{}` made no `{made}`", recipe.display());
    }
    Ok(())
}

/// Starts a script that may just have been written: a child that another thread forked meanwhile has it open for writing,
/// and so keeps it from being run, until that child runs a program of its own.
fn start(mut command: Command) -> io::Result<Child> {
    let began = Instant::now();
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && began.elapsed() < BUSY =>
            {
                sleep(POLL);
            }
            spawned => return spawned,
        }
    }
}

/// Copies the script's output to the log and its stages to the reporter.
fn follow(output: impl BufRead, mut log: File, scope: &Scope) -> io::Result<()> {
    for line in output.lines() {
        let line = line?;
        writeln!(log, "{line}")?;
        if let Some(stage) = line.strip_prefix("STAGE: ") {
            scope.stage(stage);
        }
    }
    Ok(())
}

/// `None` if it was cancelled: then the whole group is gone.
fn wait(child: &mut Child, cancel: &CancellationToken) -> Result<Option<ExitStatus>> {
    let mut ending: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("waiting for the build")? {
            return Ok(ending.is_none().then_some(status));
        }
        match ending {
            None if cancel.is_cancelled() => {
                signal(child, Signal::TERM);
                ending = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GRACE => signal(child, Signal::KILL),
            _ => {}
        }
        sleep(POLL);
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It fails only if the group is gone, which is what is wanted.
        let _ = kill_process_group(group, signal);
    }
}

/// The first error of a compiler, where there is one that far up, and the log's end.
fn said(log: &Path) -> Result<String> {
    let text = fs::read(log).with_context(|| format!("reading `{}`", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.len().saturating_sub(TAIL);
    let first = lines[..end]
        .iter()
        .position(|line| line.contains("error: "))
        .map(|at| format!("{}\n...\n", lines[at..end.min(at + AFTER_ERROR)].join("\n")));
    Ok(first.unwrap_or_default() + &lines[end..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Events};

    fn recipe(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SCRIPT);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    /// A build that nobody watches or cancels.
    fn built(recipe: &tempfile::TempDir, out: &tempfile::TempDir) -> Result<()> {
        build(
            recipe.path(),
            &BTreeSet::new(),
            out.path(),
            "disk.qcow2",
            &out.path().join("log"),
            &Scope::ignored(),
            &CancellationToken::new(),
        )
    }

    #[test]
    fn every_file_counts_for_the_digest() {
        let folder = recipe("true");
        let path = folder.path().join("deep/file");
        fs::create_dir(folder.path().join("deep")).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        seen.insert(digest(folder.path()).unwrap());
        fs::write(&path, "a").unwrap();
        seen.insert(digest(folder.path()).unwrap());
        fs::write(&path, "b").unwrap();
        seen.insert(digest(folder.path()).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        seen.insert(digest(folder.path()).unwrap());
        fs::rename(&path, folder.path().join("file")).unwrap();
        seen.insert(digest(folder.path()).unwrap());
        assert_eq!(seen.len(), 5);
        assert!(seen.contains(&digest(folder.path()).unwrap()));
    }

    #[test]
    fn stages_are_told() {
        let (recipe, out) = (
            recipe("echo STAGE: one; echo noise; echo STAGE: two; touch $1/disk.qcow2"),
            out(),
        );
        let (events, mut received) = Events::channel();
        let log = out.path().join("log");
        let scope = events.scope("image", None);
        build(
            recipe.path(),
            &BTreeSet::new(),
            out.path(),
            "disk.qcow2",
            &log,
            &scope,
            &CancellationToken::new(),
        )
        .unwrap();
        let mut stages = Vec::new();
        while let Ok(event) = received.try_recv() {
            if let Event::Stage { stage, .. } = event {
                stages.push(stage);
            }
        }
        assert_eq!(stages, ["one", "two"]);
        assert_eq!(
            fs::read_to_string(log).unwrap(),
            "STAGE: one\nnoise\nSTAGE: two\n"
        );
    }

    #[test]
    fn a_script_that_is_open_for_writing_is_waited_for() {
        let (recipe, out) = (recipe("touch $1/disk.qcow2"), out());
        let script = recipe.path().join(SCRIPT);
        let writer = File::options().append(true).open(script).unwrap();
        let writing = thread::spawn(move || {
            sleep(2 * POLL);
            drop(writer);
        });
        built(&recipe, &out).unwrap();
        writing.join().unwrap();
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let (recipe, out) = (recipe("seq 100; echo no such package >&2; exit 3"), out());
        let error = built(&recipe, &out).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("no such package"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1 + TAIL);
    }

    #[test]
    fn a_failure_shows_a_compilers_first_error_too() {
        let script = "echo 'a.c:7:3: error: no such thing' >&2; echo '  thing' >&2; seq 50; echo 'b.c:1: error: second'; exit 2";
        let (recipe, out) = (recipe(script), out());
        let error = built(&recipe, &out).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().skip(1).take(4).collect();
        assert_eq!(
            lines,
            ["a.c:7:3: error: no such thing", "  thing", "1", "..."]
        );
        assert!(error.ends_with("b.c:1: error: second"), "{error}");
    }

    #[test]
    fn a_recipe_that_makes_no_disk_has_failed() {
        let (recipe, out) = (recipe("true"), out());
        let error = built(&recipe, &out).unwrap_err();
        assert!(
            error.to_string().ends_with("made no `disk.qcow2`"),
            "{error}"
        );
    }

    #[test]
    fn cancelling_ends_the_whole_group() {
        let (recipe, out) = (recipe("sleep 60 & echo $! > $1/child; wait"), out());
        let (log, cancel) = (out.path().join("log"), CancellationToken::new());
        let error = thread::scope(|scope| {
            let build = scope.spawn(|| {
                build(
                    recipe.path(),
                    &BTreeSet::new(),
                    out.path(),
                    "disk.qcow2",
                    &log,
                    &Scope::ignored(),
                    &cancel,
                )
            });
            let child = out.path().join("child");
            let end = Instant::now() + Duration::from_secs(10);
            while fs::read_to_string(&child).unwrap_or_default().is_empty() && Instant::now() < end
            {
                sleep(POLL);
            }
            cancel.cancel();
            build.join().unwrap().unwrap_err()
        });
        assert!(Cancelled::is_cause_of(&error), "{error:#}");
        let child = fs::read_to_string(out.path().join("child")).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    fn out() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }
}

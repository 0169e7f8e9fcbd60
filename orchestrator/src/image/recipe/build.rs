//! Runs a recipe's script: its stages as events, its output in a log, its whole process group ended by a cancellation.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write as _, pipe};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio_util::sync::CancellationToken;

use super::SCRIPT;
use crate::cancelled::Cancelled;
use crate::event::Scope;

const POLL: Duration = Duration::from_millis(50);
/// How long another process may have a script open for writing that is about to start.
const BUSY: Duration = Duration::from_secs(5);
/// How long a cancelled build may clean up after itself.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of the log that an error shows.
const TAIL: usize = 20;
/// Lines from a compiler's first error on: the error, its source line and the mark below it.
const AFTER_ERROR: usize = 3;

/// One run of a recipe's script.
pub(crate) struct Build<'a> {
    pub recipe: &'a Path,
    /// For messages, such as "the recipe `images/debian`".
    pub title: &'a str,
    pub packages: &'a BTreeSet<String>,
    /// The guest's first process, if it is compiled already.
    pub guest_init: Option<&'a Path>,
    /// The folder that the script fills.
    pub out: &'a Path,
    /// The file that must be in that folder at the end.
    pub made: &'a str,
    /// The file that keeps the script's output.
    pub log: &'a Path,
    pub scope: &'a Scope,
    pub cancel: &'a CancellationToken,
}

impl Build<'_> {
    /// Blocks until the script has ended.
    pub(crate) fn run(&self) -> Result<()> {
        let Build { title, log, .. } = self;
        let Some(status) = self.run_script()? else {
            bail!(Cancelled::during(format_args!("building {title}")));
        };
        ensure!(
            status.success(),
            "{title} failed ({status}), see `{}`:\n{}",
            log.display(),
            excerpt(log)?
        );
        ensure!(
            self.out.join(self.made).is_file(),
            "{title} did not create `{}`",
            self.made
        );
        Ok(())
    }

    /// `None` if it was cancelled.
    fn run_script(&self) -> Result<Option<ExitStatus>> {
        let log = File::create(self.log)
            .with_context(|| format!("failed to create `{}`", self.log.display()))?;
        // One pipe for both, so that the log has the script's own order.
        let (output, input) = pipe().context("failed to make a pipe")?;
        let script = self.recipe.join(SCRIPT);
        let mut command = Command::new(&script);
        command
            .arg(self.out)
            .args(self.packages)
            .envs(self.guest_init.map(|path| ("PSPD_GUEST_INIT", path)))
            .stdin(Stdio::null())
            .stdout(input.try_clone().context("failed to share a pipe")?)
            .stderr(input)
            // Its own group, so that cancelling reaches everything that it started.
            .process_group(0);
        let mut child =
            start(command).with_context(|| format!("failed to start `{}`", script.display()))?;
        let stages = self.scope.clone();
        let reader = thread::spawn(move || follow(BufReader::new(output), log, &stages));
        let status = wait(&mut child, self.cancel)?;
        // It ends with the script's last descendant, and it can only fail at writing the log.
        let _ = reader.join();
        Ok(status)
    }
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
        if let Some(status) = child.try_wait().context("failed to wait for the build")? {
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
        // It fails only if the group is gone already.
        let _ = kill_process_group(group, signal);
    }
}

/// The log's end, after a compiler's first error where that is further up.
fn excerpt(log: &Path) -> Result<String> {
    let text = fs::read(log).with_context(|| format!("failed to read `{}`", log.display()))?;
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
    use std::os::unix::fs::PermissionsExt as _;

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
        build(recipe, out, &Scope::ignored(), &CancellationToken::new())
    }

    fn build(
        recipe: &tempfile::TempDir,
        out: &tempfile::TempDir,
        scope: &Scope,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let build = Build {
            recipe: recipe.path(),
            title: "the recipe",
            packages: &BTreeSet::new(),
            guest_init: None,
            out: out.path(),
            made: "disk.qcow2",
            log: &out.path().join("log"),
            scope,
            cancel,
        };
        build.run()
    }

    #[test]
    fn stages_are_reported_and_all_output_is_logged() {
        let (recipe, out) = (
            recipe("echo STAGE: one; echo noise; echo STAGE: two; touch $1/disk.qcow2"),
            out(),
        );
        let (events, mut received) = Events::channel();
        let scope = events.scope("image", None);
        build(&recipe, &out, &scope, &CancellationToken::new()).unwrap();
        let mut stages = Vec::new();
        while let Ok(event) = received.try_recv() {
            if let Event::Stage { stage, .. } = event {
                stages.push(stage);
            }
        }
        assert_eq!(stages, ["one", "two"]);
        assert_eq!(
            fs::read_to_string(out.path().join("log")).unwrap(),
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
            error.to_string().ends_with("did not create `disk.qcow2`"),
            "{error}"
        );
    }

    #[test]
    fn cancelling_ends_the_whole_group() {
        let (recipe, out) = (recipe("sleep 60 & echo $! > $1/child; wait"), out());
        let cancel = CancellationToken::new();
        let error = thread::scope(|scope| {
            let build = scope.spawn(|| build(&recipe, &out, &Scope::ignored(), &cancel));
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

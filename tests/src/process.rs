//! Processes that scenarios start: each is waited for within a limit, and killed if its scenario ends without it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::wait::Wait;

const POLL: Duration = Duration::from_millis(10);

/// The ids of the processes that one scenario started and that still run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Children(Arc<Mutex<BTreeSet<u32>>>);

thread_local! {
    static CHILDREN: RefCell<Children> = RefCell::default();
}

impl Children {
    /// Those of this thread's scenario.
    pub(crate) fn here() -> Children {
        CHILDREN.with_borrow(Children::clone)
    }

    /// Counts what this thread starts from now on among these.
    pub(crate) fn adopt_this_thread(self) {
        CHILDREN.set(self);
    }

    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let ids: Vec<String> = self.with(|ids| ids.iter().map(u32::to_string).collect());
        if !ids.is_empty() {
            sh("kill", ["-KILL".to_owned()].into_iter().chain(ids))?;
        }
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeSet<u32>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A child process; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Owned {
    child: Child,
    siblings: Children,
}

impl Owned {
    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Owned> {
        let child = command
            .spawn()
            .with_context(|| format!("failed to run {:?}", command.get_program()))?;
        let siblings = Children::here();
        siblings.with(|ids| ids.insert(child.id()));
        Ok(Owned { child, siblings })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process's status, once it has ended.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    pub(crate) fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.forget();
        Ok(())
    }

    fn forget(&self) {
        self.siblings.with(|ids| ids.remove(&self.child.id()));
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // The only failure is that the process has ended already.
        let _ = self.kill();
    }
}

/// A command that runs, its outputs going to files.
#[derive(Debug)]
pub struct Running {
    shown: String,
    process: Owned,
    out: NamedTempFile,
    err: NamedTempFile,
    wait: Wait,
}

impl Running {
    /// Starts a command that may take at most `limit`; failures call it `shown`.
    pub fn start(command: &mut Command, shown: String, limit: Duration) -> anyhow::Result<Running> {
        let out = NamedTempFile::new()?;
        let err = NamedTempFile::new()?;
        command.stdin(Stdio::null());
        command.stdout(out.reopen()?).stderr(err.reopen()?);
        Ok(Running {
            shown,
            process: Owned::spawn(command)?,
            out,
            err,
            wait: Wait::new(limit),
        })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.process.ended()?.is_none())
    }

    pub fn wait(mut self) -> anyhow::Result<Ran> {
        let status = loop {
            if let Some(status) = self.process.ended()? {
                break status;
            }
            if let Err(late) = self.wait.check(format_args!("`{}`", self.shown)) {
                self.process.kill()?;
                bail!("{late}:\n{}{}", self.stdout()?, self.stderr()?);
            }
            std::thread::sleep(POLL);
        };
        Ok(Ran {
            elapsed: self.wait.elapsed(),
            status,
            stdout: self.stdout()?,
            stderr: self.stderr()?,
            command: self.shown,
        })
    }

    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        sh("kill", [&format!("-{signal}"), &self.id().to_string()])
    }

    pub fn stdout(&self) -> anyhow::Result<String> {
        read(&self.out)
    }

    pub fn stderr(&self) -> anyhow::Result<String> {
        read(&self.err)
    }
}

fn read(file: &NamedTempFile) -> anyhow::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(file.path())?).into_owned())
}

/// A finished command.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

impl Ran {
    /// The exit code; none after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails with both outputs unless the exit code is `code`.
    pub fn expect(self, code: i32) -> anyhow::Result<Ran> {
        ensure!(
            self.code() == Some(code),
            "`{}`: {}, expected {code}\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Fails unless stderr has `text`. Prefer `root_cause` and `json`, which compare whole values.
    pub fn says(self, text: &str) -> anyhow::Result<Ran> {
        ensure!(
            self.stderr.contains(text),
            "`{}`: stderr lacks `{text}`:\n{}",
            self.command,
            self.stderr
        );
        Ok(self)
    }

    /// Fails unless the last cause of the printed error is `cause`, whole. A failed step prints its causes in one line,
    /// separated by colons.
    pub fn root_cause(self, cause: &str) -> anyhow::Result<Ran> {
        let mut causes = self.stderr.lines().filter_map(|line| {
            line.strip_prefix("error: ")
                .or(line.strip_prefix("  caused by: "))
        });
        let last = causes.next_back().unwrap_or("no error");
        let last = last.rsplit_once(": ").map_or(last, |(_, cause)| cause);
        ensure!(
            last == cause,
            "`{}`: expected the root cause `{cause}`, found `{last}`:\n{}",
            self.command,
            self.stderr
        );
        Ok(self)
    }

    /// stdout as one JSON value.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| {
            format!(
                "`{}`: stdout is not JSON:\n{}\n{}",
                self.command, self.stdout, self.stderr
            )
        })
    }
}

/// Runs a program that must succeed.
pub fn sh<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
    output(Command::new(program).args(args)).map(drop)
}

/// Runs a command to its end. Its limit is the scenario's deadline.
pub fn run(command: &mut Command) -> anyhow::Result<Ran> {
    let shown = format!("{command:?}");
    Running::start(command, shown, Duration::MAX)?.wait()
}

/// Runs a command that must succeed and returns its stdout.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let ran = run(command)?;
    ensure!(
        ran.status.success(),
        "{}: {}\n{}\n{}",
        ran.command,
        ran.status,
        ran.stdout,
        ran.stderr
    );
    Ok(ran.stdout)
}

/// Processes whose command line has `text`, other than this one's.
pub fn processes_naming(text: &str) -> anyhow::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(command) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if pid != std::process::id() && command.contains(text) {
            found.push((pid, command));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, limit: Duration) -> Running {
        let mut command = Command::new("sh");
        Running::start(command.args(["-c", script]), "script".to_owned(), limit).unwrap()
    }

    fn exists(id: u32) -> bool {
        fs::exists(format!("/proc/{id}")).unwrap()
    }

    #[test]
    fn a_finished_command_has_its_outputs_and_its_exit_code() {
        let ran = shell("echo out; echo err >&2; exit 7", Duration::from_secs(60));
        let ran = ran.wait().unwrap().expect(7).unwrap();
        assert_eq!((&*ran.stdout, &*ran.stderr), ("out\n", "err\n"));
        let error = ran.expect(0).unwrap_err().to_string();
        assert_eq!(
            error,
            "`script`: exit status: 7, expected 0\nstdout:\nout\n\nstderr:\nerr\n"
        );
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_and_its_outputs_are_shown() {
        let running = shell("echo started; exec sleep 600", Duration::from_millis(300));
        let id = running.id();
        let error = running.wait().unwrap_err().to_string();
        assert_eq!(
            error,
            "timed out after 0 s waiting for `script`:\nstarted\n"
        );
        assert!(!exists(id));
    }

    #[test]
    fn the_deadline_ends_a_command_without_a_limit() {
        crate::wait::set_deadline(Instant::now() + Duration::from_millis(100));
        let error = output(Command::new("sleep").arg("600")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "timed out after 0 s waiting for `\"sleep\" \"600\"`:\n"
        );
    }

    #[test]
    fn a_command_ends_with_the_scenario_that_forgot_it() {
        let running = shell("exec sleep 600", Duration::MAX);
        let id = running.id();
        assert!(exists(id));
        drop(running);
        assert!(!exists(id));
        assert!(Children::here().with(|ids| ids.is_empty()));
    }

    #[test]
    fn a_root_cause_is_compared_whole() {
        let script = "echo 'error: failed to dial `web`' >&2; echo '  caused by: no route' >&2";
        let ran = || shell(script, Duration::from_secs(60)).wait().unwrap();
        assert!(ran().root_cause("no route").is_ok());
        assert!(ran().root_cause("route").is_err());
        assert!(ran().root_cause("failed to dial `web`").is_err());
    }
}

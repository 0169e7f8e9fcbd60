//! Commands on a deployment whose supervisor or libvirtd does not answer, or whose sockets are gone.

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pspd::state::{Home, Paths};
use pspd::topology;
use pspd_lab::Lab;
use pspd_model::spec::Name;
use rustix::process::{Pid, Signal, kill_process};

use super::{enter, outside_processes, poll, program, supervisor};

/// The lab of a deployment without domains.
struct Deployed {
    folder: tempfile::TempDir,
    home: Home,
    lab: Lab,
}

impl Deployed {
    fn new() -> Deployed {
        let folder = tempfile::tempdir().unwrap();
        let state = Some(folder.path().to_owned());
        let home = Paths::resolve(state.clone(), state).unwrap();
        let home = home.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let file = folder.path().join("topology.yaml");
        fs::create_dir(folder.path().join("recipe")).unwrap();
        let text =
            "name: demo\nimages: {guest: {recipe: ./recipe}}\ndomains: {web: {image: guest}}\n";
        fs::write(&file, text).unwrap();
        home.record_spec(&topology::load(&file).unwrap()).unwrap();
        let (lab, _) = Lab::start_with(&program(), &home.lab()).unwrap();
        Deployed { folder, home, lab }
    }

    fn spawn(&self, command: &str) -> Child {
        Command::new(program())
            .arg("--state-dir")
            .arg(self.folder.path())
            .args([command, "--deployment", "demo"])
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, command: &str) -> (Output, String) {
        let output = self.spawn(command).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output, text)
    }

    /// libvirtd's process id outside of the lab.
    fn libvirtd(&self) -> Pid {
        let processes = outside_processes("libvirtd", &self.home.lab());
        let pid = processes[0].file_name().unwrap().to_str().unwrap();
        Pid::from_raw(pid.parse().unwrap()).unwrap()
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        // One that was stopped and removed by the test is not an error.
        let _ = self.lab.clone().stop();
    }
}

#[test]
fn a_stopped_libvirtd_is_named() {
    let deployed = Deployed::new();
    let libvirtd = deployed.libvirtd();
    kill_process(libvirtd, Signal::STOP).unwrap();
    for command in ["status", "down"] {
        let started = Instant::now();
        let (output, text) = deployed.run(command);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let pid = libvirtd.as_raw_nonzero();
        let advice = format!("process {pid} is stopped. Run `kill -CONT {pid}` to continue it");
        assert!(text.contains(&advice), "{text}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    kill_process(libvirtd, Signal::CONT).unwrap();
    let (output, text) = deployed.run("status");
    assert_eq!(output.status.code(), Some(4), "{text}");
}

#[test]
fn commands_end_soon_after_a_signal_while_libvirtd_is_stopped() {
    let deployed = Deployed::new();
    let libvirtd = deployed.libvirtd();
    kill_process(libvirtd, Signal::STOP).unwrap();
    for (command, signal) in [
        ("down", Signal::INT),
        ("down", Signal::TERM),
        // It has no handler, and shells let their background jobs ignore the other signal.
        ("status", Signal::TERM),
    ] {
        let mut running = deployed.spawn(command);
        // It waits for libvirtd by then.
        std::thread::sleep(Duration::from_secs(2));
        assert!(running.try_wait().unwrap().is_none(), "{command} ended");
        let started = Instant::now();
        let pid = Pid::from_raw(running.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        running.wait().unwrap();
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(2), "{command}: {waited:?}");
    }
    kill_process(libvirtd, Signal::CONT).unwrap();
}

#[test]
fn a_stopped_supervisor_is_named_by_every_command() {
    let deployed = Deployed::new();
    let pid = supervisor(&deployed.home.lab());
    kill_process(pid, Signal::STOP).unwrap();
    for command in ["status", "down"] {
        let (output, text) = deployed.run(command);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("is stopped. Run `kill -CONT"), "{text}");
    }
    kill_process(pid, Signal::CONT).unwrap();
}

#[test]
fn down_ends_a_lab_whose_sockets_were_removed() {
    for removed in ["control", "libvirt-sock"] {
        let deployed = Deployed::new();
        assert_eq!(enter(&deployed.lab, "echo inside"), "inside");
        let processes = outside_processes("", &deployed.home.lab());
        fs::remove_file(deployed.home.lab().join("run").join(removed)).unwrap();
        let (output, text) = deployed.run("down");
        assert_eq!(output.status.code(), Some(0), "{removed}: {text}");
        poll("every process to end", || {
            processes.iter().all(|process| !process.exists())
        });
        assert!(!deployed.home.lab().exists());
    }
}

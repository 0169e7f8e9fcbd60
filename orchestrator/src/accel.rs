//! Tests whether KVM can run guests on this host. Access to `/dev/kvm` alone does not prove it.
//!
//! The test boots the image's kernel in QEMU, without libvirt, disk or network, until it prints its first line on the
//! serial console. The result is valid for one boot of this host, one QEMU version and one image, and is cached in
//! `<cache>/accel`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use pspd_model::definition::{Accelerator, DirectKernel};
use pspd_model::hint::Hinted;
use pspd_model::spec::{Accel, Digest};
use serde::{Deserialize, Serialize};

const DEVICE: &str = "/dev/kvm";
const QEMU: &str = "qemu-system-x86_64";
/// With working KVM, a guest needs a tenth of it.
const DEADLINE: Duration = Duration::from_secs(5);
/// The start of the kernel's first line.
const SIGN: &str = "Linux version";

/// The accelerator, and the reason for the choice in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub accelerator: Accelerator,
    pub reason: String,
}

impl Proof {
    fn kvm(reason: impl Into<String>) -> Proof {
        Proof {
            accelerator: Accelerator::Kvm,
            reason: reason.into(),
        }
    }

    fn tcg(reason: impl Into<String>) -> Proof {
        Proof {
            accelerator: Accelerator::Tcg,
            reason: reason.into(),
        }
    }
}

/// Chooses the accelerator. For `auto`, boots `kernel` under KVM with a short deadline, once per host boot, QEMU
/// version and image.
///
/// Without a kernel, the host's own is used. `kvm` is an error if the device cannot be opened.
pub fn decide(wanted: Accel, cache: &Path, kernel: Option<&DirectKernel>) -> Result<Proof> {
    match (wanted, openable(Path::new(DEVICE))) {
        (Accel::Tcg, _) => Ok(Proof::tcg("the topology asks for TCG")),
        (Accel::Kvm, Ok(())) => Ok(Proof::kvm("the topology asks for KVM")),
        (Accel::Kvm, Err(reason)) => bail!("the topology asks for KVM, but {reason}"),
        (Accel::Auto, Ok(())) => match kernel.cloned().or_else(own_kernel) {
            Some(kernel) => proven(cache, &kernel),
            None => Ok(Proof::tcg(format!(
                "`{DEVICE}` is accessible, but no kernel is available to test it. Set `accel: kvm` in the topology to use it untested"
            ))),
        },
        (Accel::Auto, Err(reason)) => Ok(Proof::tcg(reason)),
    }
}

/// Whether this user can open the device of KVM, or the reason why not.
pub fn device() -> Result<(), String> {
    openable(Path::new(DEVICE))
}

/// Opens the device. The error is one line with the reason and a hint.
fn openable(device: &Path) -> Result<(), String> {
    let Err(error) = File::options().read(true).write(true).open(device) else {
        return Ok(());
    };
    let device = device.display();
    Err(match error.kind() {
        ErrorKind::NotFound => format!(
            "this host has no `{device}`. Enable virtualization in its firmware (or nesting in its hypervisor), and load kvm_intel or kvm_amd"
        ),
        ErrorKind::PermissionDenied => {
            format!(
                "this user has no permission to open `{device}`. Add the user to group `kvm`, and log in again"
            )
        }
        _ => format!("failed to open `{device}`: {error}"),
    })
}

/// Returns the running kernel of this host, if this user can read it.
///
/// Firmware alone is not a sufficient test: on some hosts, it completes under KVM, and then the kernel hangs.
fn own_kernel() -> Option<DirectKernel> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    [
        format!("/boot/vmlinuz-{release}"),
        format!("/usr/lib/modules/{release}/vmlinuz"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|kernel| File::open(kernel).is_ok())
    .map(|kernel| DirectKernel {
        kernel,
        initrd: None,
        cmdline: "console=ttyS0".to_owned(),
    })
}

/// Returns the cached result, or runs the test.
fn proven(cache: &Path, kernel: &DirectKernel) -> Result<Proof> {
    let folder = cache.join("accel");
    let path = folder.join(format!("{}.json", cache_key(kernel)?));
    if let Ok(text) = fs::read(&path)
        && let Ok(proof) = serde_json::from_slice(&text)
    {
        return Ok(proof);
    }
    let proof = prove(kernel)?;
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create `{}`", folder.display()))?;
    let text = serde_json::to_vec(&proof).context("failed to encode the result of the KVM test")?;
    fs::write(&path, text).with_context(|| format!("failed to write `{}`", path.display()))?;
    Ok(proof)
}

/// Returns a digest of everything that the result depends on. The path of a cached image contains its digest.
fn cache_key(kernel: &DirectKernel) -> Result<Digest> {
    let read =
        |path: &str| fs::read_to_string(path).with_context(|| format!("failed to read `{path}`"));
    let boot = read("/proc/sys/kernel/random/boot_id")?;
    let release = read("/proc/sys/kernel/osrelease")?;
    let output = Command::new(QEMU)
        .arg("--version")
        .output()
        .map_err(missing)?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(Digest::of(
        format!("{boot}{release}{version}{kernel:?}").as_bytes(),
    ))
}

/// QEMU's version, as it prints it.
pub fn hypervisor() -> Result<String> {
    let output = Command::new(QEMU)
        .arg("--version")
        .output()
        .map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn missing(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("`{QEMU}` is not installed");
            Hinted::new(message, "Install package `qemu-system-x86`").into()
        }
        _ => anyhow!(error).context(format!("failed to start `{QEMU}`")),
    }
}

fn prove(kernel: &DirectKernel) -> Result<Proof> {
    let start = Instant::now();
    Ok(match run(command("kvm", kernel), SIGN, DEADLINE)? {
        Outcome::Seen => Proof::kvm(format!(
            "a guest booted under KVM in {:.1} s",
            start.elapsed().as_secs_f64()
        )),
        Outcome::Silent => Proof::tcg(format!(
            "`{DEVICE}` is accessible, but a guest under KVM printed nothing for {} s; using TCG, which is slower",
            DEADLINE.as_secs()
        )),
        Outcome::Ended(message) => Proof::tcg(format!(
            "`{DEVICE}` is accessible, but QEMU failed to run a guest under KVM ({message}); using TCG, which is slower"
        )),
    })
}

fn command(accelerator: &str, kernel: &DirectKernel) -> Command {
    let mut command = Command::new(QEMU);
    command
        .args([
            "-accel",
            accelerator,
            "-machine",
            "pc",
            "-cpu",
            "max",
            "-m",
            "256",
        ])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(&kernel.kernel)
        // The kernel prints before its drivers are loaded.
        .arg("-append")
        .arg(format!(
            "earlyprintk=serial,ttyS0,115200 {}",
            kernel.cmdline
        ));
    if let Some(initrd) = &kernel.initrd {
        command.arg("-initrd").arg(initrd);
    }
    command
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Seen,
    Silent,
    /// QEMU exited early; its last error message.
    Ended(String),
}

/// Runs QEMU until its guest prints `sign`, it exits, or `deadline` passes. QEMU is stopped on return.
fn run(mut command: Command, sign: &str, deadline: Duration) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let outcome = watch(&mut child, sign, deadline);
    // Killing fails only if QEMU has already exited.
    let _ = child.kill();
    child
        .wait()
        .with_context(|| format!("failed to wait for `{QEMU}`"))?;
    outcome
}

fn watch(child: &mut Child, sign: &str, deadline: Duration) -> Result<Outcome> {
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("failed to read the output of `{QEMU}`: not a pipe");
    };
    let output = chunks(stdout);
    let end = Instant::now() + deadline;
    let mut printed = Vec::new();
    loop {
        match output.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(chunk) => printed.extend(chunk),
            Err(RecvTimeoutError::Timeout) => return Ok(Outcome::Silent),
            Err(RecvTimeoutError::Disconnected) => {
                let mut errors = String::new();
                stderr
                    .read_to_string(&mut errors)
                    .with_context(|| format!("failed to read the errors of `{QEMU}`"))?;
                return Ok(Outcome::Ended(
                    errors
                        .lines()
                        .last()
                        .unwrap_or("no message")
                        .trim()
                        .to_owned(),
                ));
            }
        }
        if printed
            .windows(sign.len())
            .any(|window| window == sign.as_bytes())
        {
            return Ok(Outcome::Seen);
        }
    }
}

/// Reads on a separate thread, so that waiting can have a deadline. The thread ends when the pipe closes.
fn chunks(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_result_depends_on_what_the_guest_prints() {
        let deadline = Duration::from_secs(10);
        for (script, outcome) in [
            ("echo Linux version 6; exec sleep 60", Outcome::Seen),
            (
                "printf 'Linux ver'; sleep 0.1; printf sion; exec sleep 60",
                Outcome::Seen,
            ),
            (
                "echo nothing; echo first >&2; echo no KVM here >&2",
                Outcome::Ended("no KVM here".into()),
            ),
        ] {
            assert_eq!(
                run(shell(script), "Linux version", deadline).unwrap(),
                outcome
            );
        }
    }

    #[test]
    fn a_hanging_guest_is_stopped() {
        let start = Instant::now();
        let outcome = run(
            shell("exec sleep 60"),
            "Linux version",
            Duration::from_millis(100),
        )
        .unwrap();
        assert_eq!(outcome, Outcome::Silent);
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_device_that_cannot_be_opened_is_reported_with_a_hint() {
        let reason = openable(Path::new("/nonexistent/kvm")).unwrap_err();
        assert!(
            reason.starts_with("this host has no `/nonexistent/kvm`. Enable virtualization"),
            "{reason}"
        );
    }

    #[test]
    fn the_topology_can_choose_the_accelerator() {
        let cache = tempfile::tempdir().unwrap();
        let proof = decide(Accel::Tcg, cache.path(), None).unwrap();
        assert_eq!(proof.accelerator, Accelerator::Tcg);
    }

    #[test]
    fn a_result_is_cached() {
        let cache = tempfile::tempdir().unwrap();
        let kept = Proof::kvm("kept from before");
        let kernel = DirectKernel {
            kernel: "/nonexistent/vmlinux".into(),
            initrd: None,
            cmdline: String::new(),
        };
        let folder = cache.path().join("accel");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.json", cache_key(&kernel).unwrap()));
        fs::write(path, serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(proven(cache.path(), &kernel).unwrap(), kept);
    }
}

//! Proves whether KVM runs guests on this host; an openable `/dev/kvm` is no proof.
//!
//! The proof boots the image's kernel under QEMU alone, without libvirt, disk or network, until it says its first line
//! on the serial console. It holds for one boot of this host, one QEMU and one image, and is kept under `<cache>/accel`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::image::DirectKernel;
use crate::spec::{Accel, Digest};

const DEVICE: &str = "/dev/kvm";
const QEMU: &str = "qemu-system-x86_64";
/// A guest under working KVM needs a tenth of it.
const DEADLINE: Duration = Duration::from_secs(5);
/// The start of the kernel's first line.
const SIGN: &str = "Linux version";

/// What domains run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// The accelerator, and in one line why it is that one.
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

/// Decides by `wanted`; for `auto`, boots `kernel` under KVM with a short deadline once per host boot, kernel and image.
///
/// An image without a kernel of its own is proven with this host's. `kvm` is an error where the device can't be opened.
pub fn decide(wanted: Accel, cache: &Path, kernel: Option<&DirectKernel>) -> Result<Proof> {
    match (wanted, openable(Path::new(DEVICE))) {
        (Accel::Tcg, _) => Ok(Proof::tcg("the topology asks for TCG")),
        (Accel::Kvm, Ok(())) => Ok(Proof::kvm("the topology asks for KVM")),
        (Accel::Kvm, Err(reason)) => bail!("the topology asks for KVM, but {reason}"),
        (Accel::Auto, Ok(())) => match kernel.cloned().or_else(own_kernel) {
            Some(kernel) => proven(cache, &kernel),
            None => Ok(Proof::tcg(format!(
                "`{DEVICE}` opens, but there is no kernel to prove it with; `accel: kvm` in the topology uses it unproven"
            ))),
        },
        (Accel::Auto, Err(reason)) => Ok(Proof::tcg(reason)),
    }
}

/// Says in one line why the device can't be opened, and what to do.
fn openable(device: &Path) -> Result<(), String> {
    let Err(error) = File::options().read(true).write(true).open(device) else {
        return Ok(());
    };
    let device = device.display();
    Err(match error.kind() {
        ErrorKind::NotFound => format!(
            "this host has no `{device}`: enable virtualisation in its firmware (or nesting in its hypervisor) and load kvm_intel or kvm_amd"
        ),
        ErrorKind::PermissionDenied => {
            format!(
                "`{device}` may not be opened by this user: add the user to group `kvm` and log in again"
            )
        }
        _ => format!("`{device}` can't be opened: {error}"),
    })
}

/// The kernel that this host runs, if this user may read it.
///
/// The firmware alone would be no proof: there are hosts where it ends under KVM and the kernel after it hangs.
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

/// The cached proof, or a new one.
fn proven(cache: &Path, kernel: &DirectKernel) -> Result<Proof> {
    let folder = cache.join("accel");
    let path = folder.join(format!("{}.json", circumstances(kernel)?));
    if let Ok(text) = fs::read(&path)
        && let Ok(proof) = serde_json::from_slice(&text)
    {
        return Ok(proof);
    }
    let proof = prove(kernel)?;
    fs::create_dir_all(&folder).with_context(|| format!("creating `{}`", folder.display()))?;
    let text = serde_json::to_vec(&proof).context("writing the proof")?;
    fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
    Ok(proof)
}

/// All that the answer depends on, as one digest. A cached image's path names its digest.
fn circumstances(kernel: &DirectKernel) -> Result<Digest> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("reading `{path}`"));
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

fn missing(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound => {
            anyhow!("`{QEMU}` is not installed: install package `qemu-system-x86`")
        }
        _ => anyhow!(error).context(format!("starting `{QEMU}`")),
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
            "`{DEVICE}` opens, but a guest under KVM said nothing for {} s; running under TCG, which is slower",
            DEADLINE.as_secs()
        )),
        Outcome::Ended(said) => Proof::tcg(format!(
            "`{DEVICE}` opens, but QEMU runs no guest under KVM ({said}); running under TCG, which is slower"
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
        // The kernel speaks before it has drivers.
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
    /// QEMU ended without the sign; its last words.
    Ended(String),
}

/// Runs QEMU until its guest says `sign`, it ends, or `deadline` passes; it is gone afterwards.
fn run(mut command: Command, sign: &str, deadline: Duration) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let outcome = watch(&mut child, sign, deadline);
    // Killing fails only if it is gone already.
    let _ = child.kill();
    child
        .wait()
        .with_context(|| format!("waiting for `{QEMU}`"))?;
    outcome
}

fn watch(child: &mut Child, sign: &str, deadline: Duration) -> Result<Outcome> {
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("`{QEMU}` was started without pipes");
    };
    let output = chunks(stdout);
    let end = Instant::now() + deadline;
    let mut said = Vec::new();
    loop {
        match output.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(chunk) => said.extend(chunk),
            Err(RecvTimeoutError::Timeout) => return Ok(Outcome::Silent),
            Err(RecvTimeoutError::Disconnected) => {
                let mut words = String::new();
                stderr
                    .read_to_string(&mut words)
                    .with_context(|| format!("reading what `{QEMU}` said"))?;
                return Ok(Outcome::Ended(
                    words
                        .lines()
                        .last()
                        .unwrap_or("no message")
                        .trim()
                        .to_owned(),
                ));
            }
        }
        if said
            .windows(sign.len())
            .any(|window| window == sign.as_bytes())
        {
            return Ok(Outcome::Seen);
        }
    }
}

/// Reads on a thread of its own, so that waiting can have a deadline. It ends with the pipe.
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
    fn a_guest_is_judged_by_what_it_says() {
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
    fn a_guest_that_hangs_is_ended() {
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
    fn a_device_that_does_not_open_says_what_to_do() {
        let reason = openable(Path::new("/nonexistent/kvm")).unwrap_err();
        assert!(
            reason.starts_with("this host has no `/nonexistent/kvm`: enable virtualisation"),
            "{reason}"
        );
    }

    #[test]
    fn what_the_topology_asks_for_is_taken() {
        let cache = tempfile::tempdir().unwrap();
        let proof = decide(Accel::Tcg, cache.path(), None).unwrap();
        assert_eq!(proof.accelerator, Accelerator::Tcg);
    }

    #[test]
    fn a_proof_is_kept_for_its_circumstances() {
        let cache = tempfile::tempdir().unwrap();
        let kept = Proof::kvm("kept from before");
        let kernel = DirectKernel {
            kernel: "/nonexistent/vmlinux".into(),
            initrd: None,
            cmdline: String::new(),
        };
        let folder = cache.path().join("accel");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}.json", circumstances(&kernel).unwrap()));
        fs::write(path, serde_json::to_vec(&kept).unwrap()).unwrap();
        assert_eq!(proven(cache.path(), &kernel).unwrap(), kept);
    }
}

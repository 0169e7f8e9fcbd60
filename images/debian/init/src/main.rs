//! The one program that pspd adds to its Debian guest.
//!
//! As process 1 of the initramfs it brings the guest from the kernel to a listening sshd and then becomes systemd
//! ([`boot`]). Later, systemd runs it to take over that sshd ([`sshd`]) and to respond to the hypervisor ([`watch`]).
//! It configures nothing that systemd can do later without delaying anything.

mod boot;
mod clock;
mod disks;
mod identity;
mod network;
mod root;
mod smbios;
mod sshd;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return boot::run();
    }
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "sshd" => sshd::take_over(),
        "watch" => watch::run(),
        _ => Err(anyhow::anyhow!("usage: guest sshd | watch")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints one line to standard error: the console for process 1, the journal for a unit.
#[expect(clippy::print_stderr, reason = "the program's only output")]
fn say(message: &str) {
    eprintln!("guest: {message}");
}

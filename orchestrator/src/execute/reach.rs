//! Waiting for a guest: until SSH answers, with the firmware that was asked for.

use std::borrow::Cow;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{anyhow, bail, ensure};
use pspd_model::harm::Offset;
use pspd_model::observed::{Pause, Power};
use pspd_model::printable::printable;
use pspd_model::spec::{Firmware, Name};

use super::World;
use super::domain::expect;
use crate::boot::{Boot, Times, Watch};
use crate::event::Scope;
use crate::guest::{ConnectError, Guest};
use crate::state::read_end;

/// From a domain's start to its SSH banner, natively.
const BOOT: Duration = Duration::from_secs(20);
/// The time between two looks at the domain's state.
const LOOK: Duration = Duration::from_millis(500);
/// In bytes: more than that many lines have.
const LOG_END: u64 = 64 << 10;
pub(super) const LOG_LINES: usize = 12;

pub(super) fn reach(
    world: &World,
    domain: &Name,
    firmware: &Firmware,
    boot_timeout: Option<Duration>,
    clock: Offset,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("waiting for SSH");
    let deadline = boot_timeout.unwrap_or_else(|| world.patience(BOOT));
    let guest = connect(world, domain, deadline, scope)?;
    let watch = world.take_watch(domain);
    match guest {
        Ok(guest) => {
            check_firmware(world, domain, firmware, &guest, watch)?;
            let wrong = guest.set_clock(clock)?;
            if let Some(skew) = wrong.filter(|_| clock == Offset(0)) {
                scope.note(format!("the clock of `{domain}` was {skew}; it was set"));
            }
            world.set_guest(domain, guest);
            Ok(())
        }
        Err(error @ ConnectError::NoBanner { .. }) => {
            let times = watch.map(|watch| watch.times());
            Err(anyhow!(
                "{error}\n{}",
                how_far(world, domain, firmware, times)
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sets the clock of a guest that was paused.
pub(super) fn set_clock(
    world: &World,
    domain: &Name,
    clock: Offset,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("setting its clock");
    let guest = connect(world, domain, world.patience(BOOT), scope)??;
    guest.set_clock(clock)?;
    world.set_guest(domain, guest);
    Ok(())
}

/// Connects, unless the guest gets into a state meanwhile in which it cannot answer: that is the outer error.
fn connect(
    world: &World,
    domain: &Name,
    deadline: Duration,
    scope: &Scope,
) -> anyhow::Result<Result<Guest, ConnectError>> {
    let (handle, reach, identity) = (expect(world, domain)?, world.reach()?, world.identity()?);
    let cancel = world.cancel.child_token();
    let (done, connected) = channel::<()>();
    std::thread::scope(|threads| {
        let watching = threads.spawn(|| {
            let connected = connected;
            while connected.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                // A libvirt that does not answer is not the guest's fault.
                let detail = handle.power().ok().and_then(mute);
                if detail.is_some() {
                    cancel.cancel();
                    return detail;
                }
            }
            None
        });
        let guest = Guest::connect(
            &reach,
            &world.spec,
            domain,
            &identity,
            deadline,
            scope,
            &cancel,
        );
        drop(done);
        match watching.join() {
            Ok(Some(detail)) => bail!("`{domain}` does not answer: {detail}"),
            Ok(None) => Ok(guest),
            Err(_) => bail!("a thread that watches `{domain}` panicked"),
        }
    })
}

/// Why a guest in this state does not answer, and will not; `None` if it may.
fn mute(power: Power) -> Option<Cow<'static, str>> {
    match power {
        Power::Off => Some("it is shut off".into()),
        Power::ShutDown
        | Power::Paused(Pause::IoError | Pause::Process(_))
        | Power::Suspended
        | Power::Saved
        | Power::Crashed(_) => power.detail(),
        Power::Running | Power::Paused(Pause::User | Pause::Libvirt) => None,
    }
}

/// Records the boot; firmware that was not asked for is an error.
fn check_firmware(
    world: &World,
    domain: &Name,
    asked: &Firmware,
    guest: &Guest,
    watch: Option<Watch>,
) -> anyhow::Result<()> {
    let mut boot = match watch {
        Some(watch) => Boot {
            started: Some(watch.started().to_string()),
            times: Times {
                ssh: Some(watch.elapsed()),
                ..watch.times()
            },
            console: length(&world.home.console_log(domain)),
            ..Boot::default()
        },
        // It was running before.
        None => Boot::recorded(&world.home, domain)?.unwrap_or_default(),
    };
    boot.reported = guest.firmware()?;
    boot.record(&world.home, domain)?;
    ensure!(
        boot.reported.fits(asked),
        "`{domain}` should run on {} but reports {}; recreate it with `pspd down && pspd up`",
        asked.word(),
        boot.reported
    );
    Ok(())
}

/// The length of a console's log in bytes, if there is one.
fn length(log: &Path) -> Option<u64> {
    std::fs::metadata(log).ok().map(|log| log.len())
}

/// Which stage a boot did not reach, the last console output of the stage that was running, and what to do.
fn how_far(world: &World, domain: &Name, firmware: &Firmware, times: Option<Times>) -> String {
    let waited_for = times.map_or("SSH", |times| times.waiting_for());
    let in_firmware = times.is_some_and(|times| times.kernel.is_none());
    let of_firmware = in_firmware.then(|| {
        let said = end_of(&world.home.firmware_log(domain));
        let hint = match firmware {
            Firmware::Rom { path, .. } => format!(
                "the ROM `{}` may be for another board or lack its payload; try it with the other `machine`",
                path.display()
            ),
            other => format!("`firmware: {}` may not be able to boot this image", other.word()),
        };
        format!("its firmware's log ends with:\n{said}\n{hint}\n")
    });
    format!(
        "timed out waiting for {waited_for}\n{}its serial console ends with:\n{}\ninspect it with `pspd console {domain}` \
         and `pspd logs --firmware {domain}`",
        of_firmware.unwrap_or_default(),
        end_of(&world.home.console_log(domain))
    )
}

/// The last lines of a console's log, indented.
fn end_of(log: &Path) -> String {
    match read_end(log, LOG_END) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text
                .lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty())
                .collect();
            if lines.is_empty() {
                return "  (no output)".to_owned();
            }
            indented(
                lines
                    .iter()
                    .skip(lines.len().saturating_sub(LOG_LINES))
                    .copied(),
            )
        }
        Err(error) => format!("  (`{}`: {error})", log.display()),
    }
}

/// Lines for an error's text, without the control characters that a guest may print.
pub(super) fn indented<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    lines
        .into_iter()
        .map(|line| format!("  {}", printable(line)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_guests_control_characters_do_not_reach_the_terminal() {
        assert_eq!(super::indented(["\x1b[2Jhello", "b\r"]), "  [2Jhello\n  b");
    }
}

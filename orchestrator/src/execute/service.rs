//! What is done in guests: reaching them, and bringing a release of their service into use.

use std::fs;
use std::time::Duration;

use anyhow::anyhow;

use super::World;
use crate::event::Scope;
use crate::guest::{Activated, ConnectError, Guest, RolledBack};
use crate::health::{self, Health};
use crate::spec::{Digest, Name};
use crate::state::Deployed;

/// From a domain's start to its SSH banner, natively.
const BOOT: Duration = Duration::from_secs(20);
/// From a service's start to SERVING, natively.
const SERVING: Duration = Duration::from_secs(10);
const LOG_LINES: usize = 12;

pub(super) fn reach(world: &World, domain: &Name, scope: &Scope) -> anyhow::Result<()> {
    scope.stage("waiting for SSH");
    let deadline = world.spec.domains[domain]
        .boot_timeout
        .unwrap_or_else(|| world.patience(BOOT));
    let guest = Guest::connect(
        &world.reach()?,
        &world.spec,
        domain,
        &world.identity,
        deadline,
        scope,
        &world.cancel,
    );
    match guest {
        Ok(guest) => {
            world.set_guest(domain, guest);
            Ok(())
        }
        Err(error @ ConnectError::NoBanner { .. }) => {
            let console = console_end(world, domain);
            Err(anyhow!(
                "{error}\nits serial console ends with:\n{console}\nlook into it with `pspd console {domain}`"
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// The last lines of the serial log, indented.
fn console_end(world: &World, domain: &Name) -> String {
    let path = world.home.console_log(domain);
    match fs::read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text
                .lines()
                .map(str::trim_end)
                .filter(|line| !line.is_empty())
                .collect();
            if lines.is_empty() {
                return "  (it is silent)".to_owned();
            }
            indented(
                lines
                    .iter()
                    .skip(lines.len().saturating_sub(LOG_LINES))
                    .copied(),
            )
        }
        Err(error) => format!("  (`{}`: {error})", path.display()),
    }
}

/// Lines for an error's text, without the control characters that a guest may print.
fn indented<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    lines
        .into_iter()
        .map(|line| format!("  {}", clean(line)))
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn push(
    world: &World,
    domain: &Name,
    release: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("pushing");
    let assembled = world.release(domain)?;
    expect_release(&assembled.digest, release, domain)?;
    world
        .guest(domain)?
        .push(&assembled, scope, &world.cancel)?;
    Ok(())
}

pub(super) fn activate(
    world: &World,
    domain: &Name,
    release: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("starting the service");
    let assembled = world.release(domain)?;
    expect_release(&assembled.digest, release, domain)?;
    let guest = world.guest(domain)?;
    // What runs from here on is known only once it is SERVING.
    world.home.forget_deployed(domain)?;
    match guest.activate(&assembled)? {
        Activated::Unchanged | Activated::Restarted => Ok(()),
        Activated::Failed => {
            let seen = format!("`{domain}` could not be started");
            Err(roll_back(world, &guest, domain, &seen))
        }
    }
}

/// The plan's release is what the files were when it was made; a build in between makes them another's.
fn expect_release(found: &Digest, planned: &Digest, domain: &Name) -> anyhow::Result<()> {
    if found == planned {
        return Ok(());
    }
    Err(anyhow!(
        "the files of `{domain}` changed while `up` ran; run `pspd up` again"
    ))
}

pub(super) fn healthy(
    world: &World,
    domain: &Name,
    release: &Digest,
    scope: &Scope,
) -> anyhow::Result<()> {
    scope.stage("waiting for SERVING");
    let deadline = world.patience(SERVING);
    match serving(world, domain, deadline)? {
        Ok(()) => world.home.record_deployed(
            domain,
            &Deployed {
                release: release.clone(),
            },
        ),
        Err(health) if world.cancel.is_cancelled() => Err(anyhow!(
            "cancelled while the service was {}",
            describe(&health)
        )),
        Err(health) => {
            let waited = deadline.as_secs();
            let seen = format!(
                "`{domain}` did not become SERVING within {waited} s: it is {}",
                describe(&health)
            );
            let guest = world.guest(domain)?;
            Err(roll_back(world, &guest, domain, &seen))
        }
    }
}

fn serving(world: &World, domain: &Name, deadline: Duration) -> anyhow::Result<Result<(), Health>> {
    let reach = world.reach()?;
    let wait = health::serving(
        &reach,
        &world.spec,
        domain,
        &world.identity,
        deadline,
        &world.cancel,
    );
    Ok(world.runtime.block_on(wait))
}

fn describe(health: &Health) -> String {
    match health {
        Health::Serving => "SERVING".into(),
        Health::NotServing => "NOT_SERVING".into(),
        Health::Unreachable(cause) => format!("not answering ({cause})"),
    }
}

/// Goes back to the release before; the error says what was seen, what the service logged, and what runs now.
fn roll_back(world: &World, guest: &Guest, domain: &Name, seen: &str) -> anyhow::Error {
    let logged = match guest.last_log_lines(domain, LOG_LINES) {
        Ok(lines) => format!(
            "its last log lines:\n{}",
            indented(lines.iter().map(String::as_str))
        ),
        Err(error) => format!("its log cannot be read: {error:#}"),
    };
    let now = match guest.roll_back(domain) {
        Ok(RolledBack::To(previous)) => match serving(world, domain, world.patience(SERVING)) {
            Ok(Ok(())) => {
                let short = previous.short().to_owned();
                match world
                    .home
                    .record_deployed(domain, &Deployed { release: previous })
                {
                    Ok(()) => format!("rolled back to the release {short}, which is SERVING"),
                    Err(error) => format!(
                        "rolled back to the release {short}, which is SERVING; not recorded: {error:#}"
                    ),
                }
            }
            _ => format!(
                "rolled back to the release {}, which is not SERVING either",
                previous.short()
            ),
        },
        Ok(RolledBack::Failed(previous)) => {
            format!(
                "rolled back to the release {}, which does not start either",
                previous.short()
            )
        }
        Ok(RolledBack::Nowhere) => {
            "it was stopped: there is no release before it to go back to".to_owned()
        }
        Err(error) => format!("rolling back failed: {error:#}"),
    };
    anyhow!("{seen}\n{logged}\n{now}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_guests_control_characters_do_not_reach_the_terminal() {
        assert_eq!(super::indented(["\x1b[2Jhello", "b\r"]), "  [2Jhello\n  b");
    }
}

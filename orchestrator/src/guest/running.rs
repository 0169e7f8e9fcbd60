//! What can be seen in a guest of a service that is not healthy yet.

use std::io;

use pspd_model::spec::Name;

use super::{Guest, script};

/// Why a service will not become healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its process ended and systemd does not start it again; how.
    Ended(String),
    /// It is not running: its process ended well, or systemd has not started it yet; how, if it ended.
    Inactive(String),
    /// It listens on addresses that only its own guest can reach.
    Loopback,
}

/// Reads `systemctl show`.
fn ended(shown: &str) -> Option<Fault> {
    let value = |key: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let status = value("ExecMainStatus").unwrap_or("unknown");
    let how = match value("ExecMainCode") {
        // systemd forgets how a unit ended that ended well.
        Some("0") if value("ActiveState") == Some("inactive") => {
            "its process exited with code 0".to_owned()
        }
        // `CLD_EXITED` of waitid(2).
        Some("1") => format!("its process exited with code {status}"),
        Some("2" | "3") => format!("its process was ended by signal {status}"),
        _ => format!(
            "systemd could not start it ({})",
            value("Result").unwrap_or("unknown")
        ),
    };
    match value("ActiveState")? {
        "failed" => match value("NRestarts") {
            None | Some("0") => Some(Fault::Ended(how)),
            Some(count) => Some(Fault::Ended(format!("{how}, also after {count} restarts"))),
        },
        "inactive" => Some(Fault::Inactive(how)),
        _ => None,
    }
}

/// Whether the listening sockets of a port in the format of `/proc/net/tcp` and `tcp6` are of loopback addresses only.
/// See proc_net_tcp.rst of the kernel's documentation.
fn only_loopback(sockets: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let mut addresses = sockets.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        local.strip_suffix(&port).filter(|_| state == LISTEN)
    });
    // Words of 32 bits, little-endian: 127.0.0.0/8, ::1, and the former mapped to IPv6.
    let is_loopback = |address: &str| match address.len() {
        8 => address.ends_with("7F"),
        _ => {
            address == "00000000000000000000000001000000"
                || address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F")
        }
    };
    let Some(first) = addresses.next() else {
        return false;
    };
    is_loopback(first) && addresses.all(is_loopback)
}

impl Guest {
    /// Looks once at a service and its port.
    pub fn look(&self, service: &Name, port: u16) -> anyhow::Result<Option<Fault>> {
        let command = script::unit_state(service);
        let shown = self
            .session
            .feed("read the service's state", &command, io::empty())?;
        Ok(match ended(&shown) {
            Some(fault) => Some(fault),
            None => only_loopback(&shown, port).then_some(Fault::Loopback),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_loopback_only_differs_from_one_that_others_reach() {
        let line = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000   101        0 4711 1\n"
            )
        };
        let (v4, v6) = ("0100007F:C383", "00000000000000000000000001000000:C383");
        let mapped = "0000000000000000FFFF00000100007F:C383";
        let all = "00000000:C383";
        let all_v6 = "00000000000000000000000000000000:C383";
        for (sockets, found) in [
            (String::new(), false),
            (line(v4, "0A"), true),
            (line(v6, "0A"), true),
            (line(mapped, "0A"), true),
            (line(v4, "0A") + &line(v6, "0A"), true),
            (line(v4, "0A") + &line(all, "0A"), false),
            (line(all_v6, "0A"), false),
            // A connection, and another port.
            (line(v4, "01"), false),
            (line("0100007F:0016", "0A"), false),
        ] {
            assert_eq!(only_loopback(&sockets, 50051), found, "{sockets}");
        }
    }

    #[test]
    fn a_service_has_ended_when_systemd_does_not_start_it_again() {
        for (state, found) in [
            ("ActiveState=active\nExecMainCode=0", None),
            (
                "ActiveState=activating\nExecMainCode=1\nExecMainStatus=3\nNRestarts=2",
                None,
            ),
            (
                "ActiveState=failed\nExecMainCode=1\nExecMainStatus=3\nNRestarts=4",
                Some(Fault::Ended(
                    "its process exited with code 3, also after 4 restarts".into(),
                )),
            ),
            (
                "ActiveState=inactive\nExecMainCode=1\nExecMainStatus=0\nNRestarts=0",
                Some(Fault::Inactive("its process exited with code 0".into())),
            ),
            (
                "ActiveState=inactive\nExecMainCode=0\nExecMainStatus=0\nResult=success",
                Some(Fault::Inactive("its process exited with code 0".into())),
            ),
            (
                "ActiveState=failed\nExecMainCode=2\nExecMainStatus=11\nNRestarts=0",
                Some(Fault::Ended("its process was ended by signal 11".into())),
            ),
            (
                "ActiveState=failed\nExecMainCode=0\nResult=resources",
                Some(Fault::Ended(
                    "systemd could not start it (resources)".into(),
                )),
            ),
            ("", None),
        ] {
            assert_eq!(ended(state), found, "{state}");
        }
    }
}

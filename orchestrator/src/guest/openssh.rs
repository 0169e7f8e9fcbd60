//! Options for the system's `ssh` and `scp`, used in terminals. Only the deployment's key and the pinned host key are accepted.

use std::ffi::OsString;

use anyhow::Context as _;
use pspd_model::spec::{Name, Spec};

use crate::identity::{self, Identity};
use crate::state::{Home, write_atomically};

const KNOWN_HOSTS: &str = "known_hosts";

/// Returns the options of `ssh` and `scp`, for the folder of the deployment's keys as working directory: both expand what
/// looks like a variable in a path. `proxy` is a command that connects stdin and stdout to the guest's
/// SSH port, if the port is not routable from the host.
pub fn openssh_options(
    home: &Home,
    spec: &Spec,
    domain: &Name,
    identity: &Identity,
    proxy: Option<String>,
) -> anyhow::Result<Vec<OsString>> {
    let mut lines = String::new();
    for name in spec.domains.keys() {
        let key = identity.host_key(name)?;
        let key = key
            .public_key()
            .to_openssh()
            .context("failed to encode a host key")?;
        lines.push_str(&format!("{name} {key}\n"));
    }
    write_atomically(&home.keys().join(KNOWN_HOSTS), lines.as_bytes(), 0o600)?;
    let option = |name: &str, value: &str| {
        [
            OsString::from("-o"),
            OsString::from(format!("{name}={value}")),
        ]
    };
    let mut arguments: Vec<OsString> = vec!["-F".into(), "none".into()];
    arguments.extend(option("User", "root"));
    arguments.extend(option("IdentityFile", identity::SSH));
    arguments.extend(option("IdentitiesOnly", "yes"));
    // The agent's keys are not needed, and an agent that hangs would block the connection.
    arguments.extend(option("IdentityAgent", "none"));
    arguments.extend(option("UserKnownHostsFile", KNOWN_HOSTS));
    arguments.extend(option("GlobalKnownHostsFile", "/dev/null"));
    arguments.extend(option("StrictHostKeyChecking", "yes"));
    arguments.extend(option("HostKeyAlias", domain.as_str()));
    arguments.extend(option("HostKeyAlgorithms", "ssh-ed25519"));
    arguments.extend(option("PreferredAuthentications", "publickey"));
    arguments.extend(option("LogLevel", "ERROR"));
    // Also applies with a proxy, until the guest's banner.
    arguments.extend(option("ConnectTimeout", "30"));
    // Ends the session after three messages without an answer, if the guest was stopped.
    arguments.extend(option("ServerAliveInterval", "15"));
    if let Some(proxy) = proxy {
        arguments.extend(option("ProxyCommand", &proxy.replace('%', "%%")));
    }
    Ok(arguments)
}

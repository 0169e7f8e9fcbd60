//! Machines that are reached by SSH.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A machine that domains run on, as `ssh` reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// `[USER@]ADDRESS`, where the address can be a name of the SSH configuration.
    pub ssh: String,
    /// The SSH configuration's own without it.
    pub port: Option<u16>,
    /// An SSH configuration in the place of the user's own.
    pub config: Option<PathBuf>,
    /// Its address in the guests' network, where it is one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
}

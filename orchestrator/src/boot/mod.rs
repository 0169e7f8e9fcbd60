//! The boot of a domain, from power on to SSH: when each stage was reached, and the firmware that the guest reports.
//!
//! Owns neither the domain nor the SSH session: it reads two console logs that the hypervisor writes.

mod reboots;
mod record;
mod stages;
mod watch;

use serde::{Deserialize, Serialize};

pub use stages::{Console, Reader, STAGES, Times};
pub use watch::Watch;

use crate::firmware::Reported;

/// The last boot of a domain that pspd observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// When the domain was started, in RFC 3339; `None` if pspd did not start it.
    pub started: Option<String>,
    pub times: Times,
    pub reported: Reported,
    /// The length of the serial console's log when the guest was reached, in bytes; `None` in records of earlier versions.
    #[serde(default)]
    pub console: Option<u64>,
}

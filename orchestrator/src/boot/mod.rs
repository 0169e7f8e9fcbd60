//! A domain's way from power to SSH: what its consoles say and when, and which firmware its guest says that it runs on.
//!
//! Owns neither the domain nor the session: it reads two files that the hypervisor writes, and compares words.

mod stages;
mod watch;

use serde::{Deserialize, Serialize};

pub use stages::{Console, Reader, STAGES, Times};
pub use watch::Watch;

use crate::firmware::Reported;

/// The last boot of a domain that pspd saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    /// When its power was switched on, in RFC 3339; unknown where pspd did not do that.
    pub started: Option<String>,
    pub times: Times,
    pub reported: Reported,
}

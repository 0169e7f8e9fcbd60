//! Which firmware a guest says that it runs on.

use super::Guest;
use crate::boot::{FIRMWARE_SCRIPT, Reported};

impl Guest {
    pub fn firmware(&self) -> anyhow::Result<Reported> {
        let text = self
            .session
            .script("read what firmware it runs on", FIRMWARE_SCRIPT)?;
        Ok(Reported::parse(&text))
    }
}

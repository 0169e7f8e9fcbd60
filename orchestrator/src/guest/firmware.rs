//! Reads the firmware that a guest reports.

use super::Guest;
use crate::firmware::{REPORT_SCRIPT, Reported};

impl Guest {
    pub fn firmware(&self) -> anyhow::Result<Reported> {
        let text = self
            .session
            .script("read the reported firmware", REPORT_SCRIPT)?;
        Ok(Reported::parse(&text))
    }
}

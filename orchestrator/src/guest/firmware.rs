//! Which firmware a guest says that it runs on.

use super::Guest;
use crate::firmware::{REPORT_SCRIPT, Reported};

impl Guest {
    pub fn firmware(&self) -> anyhow::Result<Reported> {
        let text = self
            .session
            .script("read what firmware it runs on", REPORT_SCRIPT)?;
        Ok(Reported::parse(&text))
    }
}

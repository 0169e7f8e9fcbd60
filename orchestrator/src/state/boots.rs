//! The record of each domain's last boot, so that `status` need not ask the guest.

use std::path::PathBuf;

use pspd_model::spec::Name;

use super::{Home, files};
use crate::boot::Boot;

impl Home {
    /// Reads the record of a domain's boot; a damaged record is ignored.
    pub fn boot_record(&self, domain: &Name) -> anyhow::Result<Option<Boot>> {
        let text = files::read_if_there(&self.boot(domain))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub fn record_boot(&self, domain: &Name, boot: &Boot) -> anyhow::Result<()> {
        files::write_atomically(&self.boot(domain), &serde_json::to_vec(boot)?, 0o600)
    }

    pub fn forget_boot(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.boot(domain))
    }

    fn boot(&self, domain: &Name) -> PathBuf {
        self.boots().join(format!("{domain}.json"))
    }
}

//! The record of each domain's last boot, so that `status` need not ask the guest.

use anyhow::Result;
use pspd_model::spec::Name;

use super::Boot;
use crate::state::{Home, read_if_there, remove_if_there, write_atomically};

impl Boot {
    /// Reads the record of a domain's boot; a damaged record is ignored.
    pub fn recorded(home: &Home, domain: &Name) -> Result<Option<Boot>> {
        let text = read_if_there(&home.boot_record(domain))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub fn record(&self, home: &Home, domain: &Name) -> Result<()> {
        write_atomically(&home.boot_record(domain), &serde_json::to_vec(self)?, 0o600)
    }

    pub fn forget(home: &Home, domain: &Name) -> Result<()> {
        remove_if_there(&home.boot_record(domain))
    }
}

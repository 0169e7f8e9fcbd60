//! The record of the release last activated in a guest, so that a second `up` needs no SSH connection.

use pspd_model::observed::Deployed;
use pspd_model::spec::Name;

use super::{Home, files};

impl Home {
    /// Reads a domain's record. A damaged record is ignored; `up` then inspects the guest.
    pub fn deployed_record(&self, domain: &Name) -> anyhow::Result<Option<Deployed>> {
        let text = files::read_if_there(&self.record(domain))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub fn record_deployed(&self, domain: &Name, deployed: &Deployed) -> anyhow::Result<()> {
        files::write_atomically(&self.record(domain), &serde_json::to_vec(deployed)?, 0o600)
    }

    pub fn forget_deployed(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.record(domain))
    }

    fn record(&self, domain: &Name) -> std::path::PathBuf {
        self.deployed().join(format!("{domain}.json"))
    }
}

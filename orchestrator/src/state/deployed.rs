//! The record of the release that was healthy last in a guest, so that a second `up` needs no SSH connection, and so that a
//! healthy release is known where another one takes its place.

use pspd_model::observed::Deployed;
use pspd_model::spec::{Digest, Name};
use serde::{Deserialize, Serialize};

use super::{Home, files};

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    deployed: Deployed,
    /// Whether another release was activated since, which has not been healthy yet.
    #[serde(default)]
    superseded: bool,
}

impl Home {
    /// Reads what is deployed in a domain. A damaged record is ignored; `up` then inspects the guest.
    pub fn deployed_record(&self, domain: &Name) -> anyhow::Result<Option<Deployed>> {
        let record = self.read_record(domain)?;
        let current = record.filter(|record| !record.superseded);
        Ok(current.map(|record| record.deployed))
    }

    /// The release that was healthy last on the domain's disk, also where another one was activated since.
    pub fn healthy_release(&self, domain: &Name) -> anyhow::Result<Option<Digest>> {
        Ok(self
            .read_record(domain)?
            .map(|record| record.deployed.release))
    }

    pub fn record_deployed(&self, domain: &Name, deployed: &Deployed) -> anyhow::Result<()> {
        self.write_record(domain, deployed.clone(), false)
    }

    /// Records that a release is activated. Until it is healthy, only an earlier one is known to be.
    pub fn record_activation(&self, domain: &Name, release: &Digest) -> anyhow::Result<()> {
        match self.read_record(domain)? {
            Some(record) if record.deployed.release != *release => {
                self.write_record(domain, record.deployed, true)
            }
            _ => Ok(()),
        }
    }

    pub fn forget_deployed(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.record(domain))
    }

    /// Records that a domain's file systems are to be seen to, until that is done.
    pub fn record_file_systems_due(&self, domain: &Name) -> anyhow::Result<()> {
        files::write_atomically(&self.file_systems_due(domain), b"", 0o600)
    }

    pub fn are_file_systems_due(&self, domain: &Name) -> bool {
        self.file_systems_due(domain).exists()
    }

    pub fn forget_file_systems_due(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.file_systems_due(domain))
    }

    fn file_systems_due(&self, domain: &Name) -> std::path::PathBuf {
        self.deployed().join(format!("{domain}.file-systems"))
    }

    fn read_record(&self, domain: &Name) -> anyhow::Result<Option<Record>> {
        let text = files::read_if_there(&self.record(domain))?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    fn write_record(
        &self,
        domain: &Name,
        deployed: Deployed,
        superseded: bool,
    ) -> anyhow::Result<()> {
        let record = Record {
            deployed,
            superseded,
        };
        files::write_atomically(&self.record(domain), &serde_json::to_vec(&record)?, 0o600)
    }

    fn record(&self, domain: &Name) -> std::path::PathBuf {
        self.deployed().join(format!("{domain}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_was_healthy_stays_known_until_the_disk_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home(folder.path().to_owned());
        std::fs::create_dir(home.deployed()).unwrap();
        let web = Name::new("web").unwrap();
        let [first, second] = ["1", "2"].map(|text| Digest::of(text.as_bytes()));
        let deployed = Deployed {
            release: first.clone(),
            certificate: None,
        };
        let known = || {
            let current = home.deployed_record(&web).unwrap();
            (
                current.map(|deployed| deployed.release),
                home.healthy_release(&web).unwrap(),
            )
        };
        // As written by earlier versions.
        let text = serde_json::to_vec(&deployed).unwrap();
        std::fs::write(home.record(&web), text).unwrap();
        assert_eq!(known(), (Some(first.clone()), Some(first.clone())));
        home.record_activation(&web, &first).unwrap();
        assert_eq!(known(), (Some(first.clone()), Some(first.clone())));
        // Also where `up` is killed after it, and run again.
        for _ in 0..2 {
            home.record_activation(&web, &second).unwrap();
            assert_eq!(known(), (None, Some(first.clone())));
        }
        home.record_activation(&web, &first).unwrap();
        assert_eq!(known(), (None, Some(first)));
        home.forget_deployed(&web).unwrap();
        assert_eq!(known(), (None, None));
    }
}

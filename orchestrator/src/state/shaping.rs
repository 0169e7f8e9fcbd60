//! The record of how each guest was made to shape what it sends.
//!
//! A guest shapes by files on its own disk, which it applies at each boot. The record says what they are without asking
//! the guest; it goes with the disk.

use std::path::PathBuf;

use pspd_model::observed::Shaping;
use pspd_model::spec::Name;

use super::{Home, files};

impl Home {
    /// Reads how a guest shapes what it sends. A damaged record counts as one of an interrupted run.
    pub fn shaping_record(&self, domain: &Name) -> anyhow::Result<Option<Shaping>> {
        let text = files::read_if_there(&self.shaping(domain))?;
        let unknown = || Shaping {
            routes: Vec::new(),
            complete: false,
        };
        Ok(text.map(|text| serde_json::from_slice(&text).unwrap_or_else(|_| unknown())))
    }

    pub fn record_shaping(&self, domain: &Name, shaping: &Shaping) -> anyhow::Result<()> {
        files::create_private(&self.path().join(FOLDER))?;
        files::write_atomically(&self.shaping(domain), &serde_json::to_vec(shaping)?, 0o600)
    }

    pub fn forget_shaping(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.shaping(domain))
    }

    fn shaping(&self, domain: &Name) -> PathBuf {
        self.path().join(FOLDER).join(format!("{domain}.json"))
    }
}

const FOLDER: &str = "shaping";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Paths;

    #[test]
    fn a_record_is_kept_until_it_is_forgotten_and_a_damaged_one_is_not_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().to_owned());
        let paths = Paths::resolve(path.clone(), path).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let web = Name::new("web").unwrap();
        assert_eq!(home.shaping_record(&web).unwrap(), None);
        let shaping = Shaping {
            routes: Vec::new(),
            complete: true,
        };
        home.record_shaping(&web, &shaping).unwrap();
        assert_eq!(home.shaping_record(&web).unwrap(), Some(shaping));
        std::fs::write(home.shaping(&web), "{").unwrap();
        assert!(!home.shaping_record(&web).unwrap().unwrap().complete);
        home.forget_shaping(&web).unwrap();
        assert_eq!(home.shaping_record(&web).unwrap(), None);
    }
}

//! The record of what disturbs each guest from within.
//!
//! A guest is disturbed by units on its own disk, which it starts at each boot. The record says what they do without asking
//! the guest; it goes with the disk.

use std::path::PathBuf;

use pspd_model::harm::Disturbance;
use pspd_model::observed::Disturbed;
use pspd_model::spec::Name;

use super::{Home, files};

impl Home {
    /// Reads what disturbs a guest. A damaged record counts as one of an interrupted run.
    pub fn disturbed_record(&self, domain: &Name) -> anyhow::Result<Option<Disturbed>> {
        let text = files::read_if_there(&self.disturbed(domain))?;
        let unknown = || Disturbed {
            by: Disturbance::default(),
            complete: false,
        };
        Ok(text.map(|text| serde_json::from_slice(&text).unwrap_or_else(|_| unknown())))
    }

    pub fn record_disturbed(&self, domain: &Name, disturbed: &Disturbed) -> anyhow::Result<()> {
        files::create_private(&self.path().join(FOLDER))?;
        let text = serde_json::to_vec(disturbed)?;
        files::write_atomically(&self.disturbed(domain), &text, 0o600)
    }

    pub fn forget_disturbed(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.disturbed(domain))
    }

    fn disturbed(&self, domain: &Name) -> PathBuf {
        self.path().join(FOLDER).join(format!("{domain}.json"))
    }
}

const FOLDER: &str = "disturbed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Paths;
    use pspd_model::harm::Offset;

    #[test]
    fn a_record_is_kept_until_it_is_forgotten_and_a_damaged_one_is_not_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().to_owned());
        let paths = Paths::resolve(path.clone(), path).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let web = Name::new("web").unwrap();
        assert_eq!(home.disturbed_record(&web).unwrap(), None);
        let disturbed = Disturbed {
            by: Disturbance {
                full: [(web.clone(), "/srv".into())].into(),
                failing: [].into(),
                clock: Offset(-60),
                burn: 90,
            },
            complete: true,
        };
        home.record_disturbed(&web, &disturbed).unwrap();
        assert_eq!(home.disturbed_record(&web).unwrap(), Some(disturbed));
        std::fs::write(home.disturbed(&web), "{").unwrap();
        let damaged = home.disturbed_record(&web).unwrap();
        assert!(damaged.is_some_and(|it| !it.complete));
        home.forget_disturbed(&web).unwrap();
        assert_eq!(home.disturbed_record(&web).unwrap(), None);
    }
}

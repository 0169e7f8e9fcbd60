//! The records of what pspd made each guest do by files on its own disk, which the guest applies at each boot.
//!
//! A record says what these are without asking the guest; it goes with the disk.

use std::path::PathBuf;

use pspd_model::harm::Disturbance;
use pspd_model::observed::{Disturbed, Shaping};
use pspd_model::spec::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Home, files};

/// A kind of record.
pub trait GuestRecord: Serialize + DeserializeOwned {
    /// The folder of these records; each is the file `DOMAIN.json`.
    const FOLDER: &'static str;

    /// What a damaged record counts as: one of an interrupted run.
    fn incomplete() -> Self;
}

impl GuestRecord for Shaping {
    const FOLDER: &'static str = "shaping";

    fn incomplete() -> Shaping {
        Shaping {
            routes: Vec::new(),
            complete: false,
        }
    }
}

impl GuestRecord for Disturbed {
    const FOLDER: &'static str = "disturbed";

    fn incomplete() -> Disturbed {
        Disturbed {
            by: Disturbance::default(),
            complete: false,
        }
    }
}

impl Home {
    pub fn guest_record<T: GuestRecord>(&self, domain: &Name) -> anyhow::Result<Option<T>> {
        let text = files::read_if_there(&self.guest_record_file::<T>(domain))?;
        Ok(text.map(|text| serde_json::from_slice(&text).unwrap_or_else(|_| T::incomplete())))
    }

    pub fn record_guest<T: GuestRecord>(&self, domain: &Name, record: &T) -> anyhow::Result<()> {
        files::create_private(&self.path().join(T::FOLDER))?;
        let text = serde_json::to_vec(record)?;
        files::write_atomically(&self.guest_record_file::<T>(domain), &text, 0o600)
    }

    pub fn forget_guest_record<T: GuestRecord>(&self, domain: &Name) -> anyhow::Result<()> {
        files::remove_if_there(&self.guest_record_file::<T>(domain))
    }

    fn guest_record_file<T: GuestRecord>(&self, domain: &Name) -> PathBuf {
        self.path().join(T::FOLDER).join(format!("{domain}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Paths;
    use pspd_model::harm::Offset;

    fn is_kept_until_it_is_forgotten<T>(record: T)
    where
        T: GuestRecord + PartialEq + std::fmt::Debug,
    {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().to_owned());
        let paths = Paths::resolve(path.clone(), path).unwrap();
        let home = paths.deployment(&Name::new("demo").unwrap());
        home.create().unwrap();
        let web = Name::new("web").unwrap();
        assert_eq!(home.guest_record::<T>(&web).unwrap(), None);
        home.record_guest(&web, &record).unwrap();
        assert_eq!(home.guest_record(&web).unwrap(), Some(record));
        std::fs::write(home.guest_record_file::<T>(&web), "{").unwrap();
        assert_eq!(home.guest_record(&web).unwrap(), Some(T::incomplete()));
        home.forget_guest_record::<T>(&web).unwrap();
        assert_eq!(home.guest_record::<T>(&web).unwrap(), None);
    }

    #[test]
    fn a_record_is_kept_until_it_is_forgotten_and_a_damaged_one_is_not_complete() {
        is_kept_until_it_is_forgotten(Shaping {
            routes: Vec::new(),
            complete: true,
        });
        is_kept_until_it_is_forgotten(Disturbed {
            by: Disturbance {
                full: [(Name::new("web").unwrap(), "/srv".into())].into(),
                failing: [].into(),
                clock: Offset(-60),
                burn: 90,
            },
            complete: true,
        });
        assert!(!Shaping::incomplete().complete && !Disturbed::incomplete().complete);
    }
}

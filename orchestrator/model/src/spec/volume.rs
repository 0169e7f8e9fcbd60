//! Data volumes, and the names of their files.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Name, Size};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Also the serial number that identifies the disk in the guest; at most 20 characters.
    pub name: Name,
    pub size: Size,
    /// The absolute mount point in the guest.
    pub mount: PathBuf,
}

impl VolumeSpec {
    /// This volume of a domain.
    pub fn of(&self, domain: &Name) -> VolumeId {
        VolumeId {
            domain: domain.clone(),
            volume: self.name.clone(),
        }
    }
}

/// A data volume of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    pub domain: Name,
    pub volume: Name,
}

impl VolumeId {
    /// The file in the deployment's folder of volumes, and in an archive. A `.` is in no name, so no two volumes have the
    /// same file.
    pub fn file(&self) -> String {
        format!("{self}{QCOW2}")
    }

    /// The volume of a file; `None` if the file is named otherwise.
    pub fn of_file(file: &str) -> Option<VolumeId> {
        let (domain, volume) = file.strip_suffix(QCOW2)?.split_once('.')?;
        Some(VolumeId {
            domain: Name::new(domain).ok()?,
            volume: Name::new(volume).ok()?,
        })
    }

    /// The file of this volume in earlier versions, which other volumes could have, too.
    pub fn old_file(&self) -> String {
        format!("{}-{}{QCOW2}", self.domain, self.volume)
    }

    /// Every volume whose [`VolumeId::old_file`] has this name.
    pub fn of_old_file(file: &str) -> BTreeSet<VolumeId> {
        let stem = file.strip_suffix(QCOW2).unwrap_or_default();
        let split = |(at, _)| {
            Some(VolumeId {
                domain: Name::new(&stem[..at]).ok()?,
                volume: Name::new(&stem[at + 1..]).ok()?,
            })
        };
        stem.match_indices('-').filter_map(split).collect()
    }
}

const QCOW2: &str = ".qcow2";

/// `DOMAIN.VOLUME`.
impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.domain, self.volume)
    }
}

impl Serialize for VolumeId {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// Few letters and many dashes, so that names which are joined meet often.
        fn any_volume()(domain in "[ab]([ab-]{0,4}[ab])?", volume in "[ab]([ab-]{0,4}[ab])?") -> VolumeId {
            VolumeId { domain: Name::new(&domain).unwrap(), volume: Name::new(&volume).unwrap() }
        }
    }

    proptest! {
        #[test]
        fn a_file_is_of_one_volume(one in any_volume(), other in any_volume()) {
            prop_assert_eq!(one == other, one.file() == other.file());
            prop_assert_eq!(VolumeId::of_file(&one.file()), Some(one.clone()));
            prop_assert!(VolumeId::of_old_file(&one.old_file()).contains(&one));
            prop_assert_eq!(VolumeId::of_file(&one.old_file()), None);
        }
    }

    #[test]
    fn an_old_file_can_be_of_several_volumes() {
        let of = VolumeId::of_old_file("db-main-data.qcow2");
        let of: Vec<String> = of.iter().map(ToString::to_string).collect();
        assert_eq!(of, ["db.main-data", "db-main.data"]);
        assert!(VolumeId::of_old_file("db.data.qcow2").is_empty());
    }
}

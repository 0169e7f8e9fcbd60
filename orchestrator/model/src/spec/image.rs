//! Guest images: where they come from, and how their guests receive their identity.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// A recipe that pspd carries.
    Builtin(Builtin),
    /// The absolute path of a recipe's directory.
    Recipe(PathBuf),
    Path {
        path: PathBuf,
        sha256: Digest,
    },
    Url {
        url: String,
        sha256: Digest,
    },
}

impl ImageSource {
    /// Whether pspd builds the image, by a recipe, and so knows what is in it.
    pub fn is_built(&self) -> bool {
        matches!(self, ImageSource::Builtin(_) | ImageSource::Recipe(_))
    }
}

/// A recipe that pspd carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// The folder `images/debian` of pspd's source.
    Debian,
}

impl Builtin {
    pub const ALL: [Builtin; 1] = [Builtin::Debian];

    pub fn name(self) -> &'static str {
        match self {
            Builtin::Debian => "debian",
        }
    }
}

/// How a guest of this image receives its name, address and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seed {
    /// systemd credentials in SMBIOS OEM strings, for pspd's own images.
    Credentials,
    /// A NoCloud volume for cloud-init, for stock cloud images.
    Nocloud,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    pub name: String,
    pub source: ImageSource,
    /// Additional packages that a recipe installs; empty for other sources.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    pub seed: Seed,
}

impl ImageSpec {
    /// The image of a recipe that pspd carries, without additional packages.
    pub fn builtin(builtin: Builtin) -> ImageSpec {
        ImageSpec {
            name: builtin.name().to_owned(),
            source: ImageSource::Builtin(builtin),
            packages: BTreeSet::new(),
            seed: Seed::Credentials,
        }
    }
}

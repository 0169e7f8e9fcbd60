//! What the manifest says of one file of an archive.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use pspd_model::spec::{Digest, Name, Spec};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: FileName,
    /// In bytes.
    pub size: u64,
    pub sha256: Digest,
    pub content: Content,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// For a person: the README, the XML to define by hand.
    Plain {},
    /// A self-contained qcow2 file that `images` of the spec name.
    Image { virtual_size: u64 },
    /// A domain's system disk, a qcow2 overlay of an image that is named without a folder.
    System {
        domain: Name,
        image: FileName,
        virtual_size: u64,
    },
    /// A data volume, a self-contained qcow2 file.
    Volume {
        domain: Name,
        volume: Name,
        virtual_size: u64,
    },
    /// A firmware ROM, a service's executable or a file beside it, that the spec names.
    File {
        /// Its permission bits; archives of earlier versions have none.
        #[serde(default = "plain_mode", skip_serializing_if = "is_plain_mode")]
        mode: u32,
    },
    /// A directory beside a service's executable, as a tar.
    Folder {},
    /// A key of the deployment, by its place in the keys' folder.
    Secret { key: Secret },
}

fn plain_mode() -> u32 {
    0o644
}

fn is_plain_mode(mode: &u32) -> bool {
    *mode == plain_mode()
}

/// A key of the deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Secret {
    Authority {},
    Client {},
    Ssh {},
    Host {
        domain: Name,
    },
    Service {
        domain: Name,
    },
    /// One of the service's `secrets`.
    Value {
        domain: Name,
        key: String,
    },
}

/// The name of a file of the archive: one plain component, so that it can become a path and XML as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl Secret {
    /// Where [`crate::identity`] keeps it, in the keys' folder.
    pub fn path(&self) -> PathBuf {
        match self {
            Secret::Authority {} => "ca.pem".into(),
            Secret::Client {} => "client.pem".into(),
            Secret::Ssh {} => "ssh".into(),
            Secret::Host { domain } => Path::new("hosts").join(domain.as_str()),
            Secret::Service { domain } => Path::new("services").join(format!("{domain}.pem")),
            Secret::Value { domain, key } => Path::new("secrets").join(domain.as_str()).join(key),
        }
    }

    /// Whether the spec has the owner of the key.
    pub(super) fn belongs_to(&self, spec: &Spec) -> bool {
        match self {
            Secret::Authority {} | Secret::Client {} | Secret::Ssh {} => true,
            Secret::Host { domain } | Secret::Service { domain } => {
                spec.domains.contains_key(domain)
            }
            Secret::Value { domain, key } => {
                let service = spec
                    .domains
                    .get(domain)
                    .and_then(|one| one.service.as_ref());
                service.is_some_and(|service| service.secrets.contains_key(key))
            }
        }
    }
}

impl FileName {
    /// Accepts 1 to 90 of `A-Z`, `a-z`, `0-9`, `.`, `_` and `-`, with no `.` or `-` first.
    pub fn new(text: &str) -> Result<FileName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let valid = (1..=90).contains(&text.len())
            && text.chars().all(plain)
            && !text.starts_with(['.', '-']);
        ensure!(
            valid,
            "`{}` is not a valid name of a file in an archive",
            text.escape_debug()
        );
        Ok(FileName(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileName {
    type Error = String;
    fn try_from(text: String) -> Result<FileName, String> {
        FileName::new(&text).map_err(|error| error.to_string())
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> String {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

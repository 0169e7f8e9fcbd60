//! The service of a domain.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The environment variable with the path of a service's TLS key log.
pub const KEY_LOG: &str = "SSLKEYLOGFILE";

/// The TCP port of a guest's SSH server, which no service can have.
pub const SSH_PORT: u16 = 22;

/// A service in a domain, run as a systemd unit with the domain's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    #[serde(flatten)]
    pub program: Program,
    /// The TCP port in the guest.
    pub port: u16,
    pub health: HealthCheck,
    pub environment: BTreeMap<String, String>,
    /// Environment variables that only the service can read.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    pub arguments: Vec<String>,
    /// Arguments that make the program write the running service's data to its files; empty if not supported.
    #[serde(default)]
    pub checkpoint: Vec<String>,
    /// The deadline from its start to SERVING; `None` for the default of the health check and the accelerator.
    #[serde(default)]
    pub start_timeout: Option<Duration>,
    /// Whether it logs the keys of its TLS connections, with which a capture can be decrypted.
    #[serde(default)]
    pub tls_key_log: bool,
    /// Path in the release to a file or a folder of this host (absolute).
    pub files: BTreeMap<PathBuf, PathBuf>,
    /// Commands that prepare a release in the guest before it is started, each of one word at least.
    #[serde(default)]
    pub setup: Vec<Vec<String>>,
    /// The deadline of all of `setup`; `None` for the default of the accelerator.
    #[serde(default)]
    pub setup_timeout: Option<Duration>,
}

/// What a service runs, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// The absolute path of a static executable or script on this host.
    Binary(PathBuf),
    /// A program of the guest or of the release, and its first arguments; never empty.
    Command(Vec<String>),
}

impl Program {
    pub fn binary(&self) -> Option<&Path> {
        match self {
            Program::Binary(path) => Some(path),
            Program::Command(_) => None,
        }
    }
}

/// The health check of a service. Serialized as a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum HealthCheck {
    /// `grpc.health.v1` over mTLS must report SERVING for this service name.
    Grpc(String),
    /// The port must accept connections, for services without gRPC.
    Tcp,
}

impl HealthCheck {
    const TCP: &str = "tcp";
}

impl From<String> for HealthCheck {
    fn from(text: String) -> HealthCheck {
        match text.as_str() {
            HealthCheck::TCP => HealthCheck::Tcp,
            _ => HealthCheck::Grpc(text),
        }
    }
}

impl From<HealthCheck> for String {
    fn from(health: HealthCheck) -> String {
        match health {
            HealthCheck::Tcp => HealthCheck::TCP.to_owned(),
            HealthCheck::Grpc(name) => name,
        }
    }
}

/// The source of a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// A random value, stored with the deployment's keys.
    Generate,
    /// The absolute path of a file on this host that contains the value in one line.
    File(PathBuf),
}

//! Configuration from environment variables, checked as a whole before anything is bound.
//!
//! All faults are collected, so one start reports all of them. No variable has a hidden default here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use tracing_subscriber::filter::LevelFilter;

use crate::callers::{Callers, Owners};
use crate::channel::Dependency;
use crate::established::Limits;
use crate::tls::{self, Identity};

/// The environment at start, and the faults found in it so far.
#[derive(Debug, Default)]
pub struct Settings {
    variables: BTreeMap<String, String>,
    faults: Vec<String>,
    identity: Option<Identity>,
}

/// All faults of the configuration, one per line.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The settings that every service has: its name, its address and its identity.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: String,
    pub listen: SocketAddr,
    /// `None` only in the insecure loopback mode of tests and benchmarks.
    pub identity: Option<Identity>,
    pub callers: Callers,
    /// Resources of the service that belong to one caller each.
    pub owners: Owners,
    /// Where spans are exported to.
    pub collector: Option<Dependency>,
    /// The most connections.
    pub limits: Limits,
}

impl Settings {
    /// Takes the process's environment.
    pub fn from_process() -> Self {
        let mut settings = Self::default();
        for (key, value) in std::env::vars_os() {
            let Ok(key) = key.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(settings.variables.insert(key, value)),
                Err(_) if key.starts_with("PSPD_") => settings.fault(&key, "is not UTF-8"),
                Err(_) => {}
            }
        }
        settings
    }

    /// Takes given variables instead of the process's.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Self {
            variables,
            ..Self::default()
        }
    }

    /// Returns a variable's value if it is set and not empty.
    pub fn optional(&self, key: &str) -> Option<&str> {
        self.variables
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Returns a variable's value, or records that it is missing; `meaning` says what to set it to.
    pub fn required(&mut self, key: &str, meaning: &str) -> Option<String> {
        let value = self.optional(key).map(str::to_owned);
        if value.is_none() {
            self.fault(key, &format!("is not set: set it to {meaning}"));
        }
        value
    }

    /// Parses a required variable.
    pub fn parsed<T: FromStr>(&mut self, key: &str, meaning: &str) -> Option<T> {
        let value = self.required(key, meaning)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.fault(key, &format!("is `{value}`, which is not {meaning}"));
        }
        parsed
    }

    /// Reads `LOG_LEVEL`; `info` if it is not set or not a level.
    pub fn log_level(&mut self) -> LevelFilter {
        if self.optional("LOG_LEVEL").is_none() {
            return LevelFilter::INFO;
        }
        self.parsed("LOG_LEVEL", "one of off, error, warn, info, debug, trace")
            .unwrap_or(LevelFilter::INFO)
    }

    /// Records a fault of one variable.
    pub fn fault(&mut self, key: &str, fault: &str) {
        self.faults.push(format!("`{key}` {fault}"));
    }

    /// Reads `PSPD_NAME`, `PSPD_LISTEN`, `PSPD_CALLERS`, the collector of spans, the limits of connections, and the TLS
    /// identity (or `PSPD_INSECURE_LOOPBACK=1`).
    pub fn service(&mut self) -> Option<Service> {
        let name = self.required("PSPD_NAME", "the service's domain name");
        let listen = self.parsed::<SocketAddr>("PSPD_LISTEN", "an address such as 0.0.0.0:50051");
        let insecure = self.insecure();
        if insecure && listen.is_some_and(|address| !address.ip().is_loopback()) {
            self.fault(
                "PSPD_LISTEN",
                "must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1",
            );
        }
        self.identity = if insecure { None } else { self.identity() };
        if self.identity.is_none() && !insecure {
            return None;
        }
        let callers = match insecure {
            true => Callers::Anyone,
            false => Callers::parse(self.optional("PSPD_CALLERS").unwrap_or_default()),
        };
        Some(Service {
            name: name?,
            listen: listen?,
            identity: self.identity.clone(),
            callers,
            owners: Owners::default(),
            collector: self.collector(),
            limits: self.limits(),
        })
    }

    /// Reads `PSPD_CONNECTIONS` and `PSPD_CONNECTIONS_OF_SOURCE`.
    fn limits(&mut self) -> Limits {
        let mut limit = |key: &str, default| match self.optional(key) {
            None => default,
            Some(_) => self
                .parsed(key, "a number from 1")
                .map_or(default, NonZeroUsize::get),
        };
        let default = Limits::default();
        Limits {
            all: limit("PSPD_CONNECTIONS", default.all),
            of_source: limit("PSPD_CONNECTIONS_OF_SOURCE", default.of_source),
        }
    }

    /// Reads `OTEL_EXPORTER_OTLP_ENDPOINT`; a collector with `https` has a certificate of the deployment.
    fn collector(&mut self) -> Option<Dependency> {
        let key = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let collector = Dependency::collector(self.optional(key)?, self.identity.clone());
        collector.map_err(|fault| self.fault(key, &fault)).ok()
    }

    /// Reads the resources that belong to one caller each, as `RESOURCE=CALLER,...`; none if it is not set.
    pub fn owners(&mut self, key: &str) -> Option<Owners> {
        match Owners::parse(self.optional(key).unwrap_or_default()) {
            Ok(owners) => Some(owners),
            Err(fault) => {
                self.fault(key, &fault);
                None
            }
        }
    }

    /// Reads the URL of another service. Call it after [`Settings::service`], whose identity the client presents.
    /// The URL may have an address, which names no service: then `name` does.
    pub fn dependency(&mut self, key: &str, name: &str) -> Option<Dependency> {
        let url = self.required(key, "a URL such as https://name.domain:50051")?;
        match Dependency::new(&url, self.identity.clone(), self.insecure()) {
            Ok(dependency) => Some(dependency.or_named(name)),
            Err(fault) => {
                self.fault(key, &fault);
                None
            }
        }
    }

    /// Returns the configuration that `build` makes of what was read, or every recorded fault. `build` returns `None`
    /// if a value is missing; that is a recorded fault.
    pub fn finish<T>(self, build: impl FnOnce() -> Option<T>) -> Result<T, ConfigError> {
        match build() {
            Some(configuration) if self.faults.is_empty() => Ok(configuration),
            _ => Err(ConfigError(self.faults)),
        }
    }

    fn insecure(&self) -> bool {
        self.optional("PSPD_INSECURE_LOOPBACK") == Some("1")
    }

    fn identity(&mut self) -> Option<Identity> {
        let mut file =
            |file: tls::File, meaning| self.required(file.variable(), meaning).map(PathBuf::from);
        let ca = file(tls::File::Ca, "the path of the deployment's CA certificate");
        let cert = file(
            tls::File::Cert,
            "the path of the service's certificate chain",
        );
        let key = file(tls::File::Key, "the path of the certificate's private key");
        let files = tls::Files {
            ca: ca?,
            cert: cert?,
            key: key?,
        };
        match Identity::load(files) {
            Ok(identity) => Some(identity),
            Err(faults) => {
                for (file, fault) in faults {
                    self.fault(file.variable(), &fault);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(pairs: &[(&str, &str)]) -> Vec<String> {
        let mut settings = Settings::from_pairs(pairs.iter().copied());
        let service = settings.service();
        let dependency = settings.dependency("AI_DATABASE", "database-server");
        match settings.finish(|| service.zip(dependency)) {
            Ok(_) => Vec::new(),
            Err(ConfigError(faults)) => faults,
        }
    }

    #[test]
    fn a_dependency_with_any_url_is_named_as_a_service() {
        for (url, expected) in [
            ("https://records.pspd.internal:50051", "records"),
            ("https://10.88.0.10:50051", "database-server"),
            ("https://127.0.0.1:50051", "database-server"),
            ("https://[::1]:50051", "database-server"),
            ("https://localhost:50051", "database-server"),
        ] {
            let dependency = Dependency::new(url, None, false).unwrap();
            assert_eq!(
                dependency.or_named("database-server").name,
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        assert_eq!(
            faults(&[
                ("PSPD_LISTEN", "somewhere"),
                ("PSPD_TLS_CA", "/does/not/exist"),
                ("AI_DATABASE", "http://database:1"),
            ]),
            [
                "`PSPD_NAME` is not set: set it to the service's domain name",
                "`PSPD_LISTEN` is `somewhere`, which is not an address such as 0.0.0.0:50051",
                "`PSPD_TLS_CERT` is not set: set it to the path of the service's certificate chain",
                "`PSPD_TLS_KEY` is not set: set it to the path of the certificate's private key",
                "`AI_DATABASE` is `http://database:1`: its scheme must be `https`",
            ]
        );
    }

    #[test]
    fn an_unknown_log_level_is_a_fault() {
        let mut settings = Settings::from_pairs([("LOG_LEVEL", "debug")]);
        assert_eq!(settings.log_level(), LevelFilter::DEBUG);
        let mut settings = Settings::from_pairs([("LOG_LEVEL", "loud")]);
        assert_eq!(settings.log_level(), LevelFilter::INFO);
        assert_eq!(
            settings.finish(|| Some(())),
            Err(ConfigError(vec![
                "`LOG_LEVEL` is `loud`, which is not one of off, error, warn, info, debug, trace"
                    .to_owned()
            ]))
        );
    }

    #[test]
    fn the_insecure_mode_is_for_loopback_only() {
        let open = [
            ("PSPD_NAME", "x"),
            ("PSPD_LISTEN", "0.0.0.0:1"),
            ("PSPD_INSECURE_LOOPBACK", "1"),
            ("AI_DATABASE", "http://database:1"),
        ];
        assert_eq!(
            faults(&open),
            [
                "`PSPD_LISTEN` must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1",
                "`AI_DATABASE` is `http://database:1`: its host must be a loopback address while `PSPD_INSECURE_LOOPBACK` is 1",
            ]
        );
        let closed = [
            ("PSPD_NAME", "x"),
            ("PSPD_LISTEN", "127.0.0.1:1"),
            ("PSPD_INSECURE_LOOPBACK", "1"),
            ("AI_DATABASE", "http://127.0.0.1:1"),
        ];
        assert_eq!(faults(&closed), [] as [&str; 0]);
    }
}

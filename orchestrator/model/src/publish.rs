//! What a domain publishes on the host: its ports as they are, or an HTTP server behind a front.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A listening address on the host that leads to a port of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    pub host: SocketAddr,
    pub guest_port: u16,
    /// How requests are passed on; `None` forwards connections as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Front>,
}

/// Where an address of the host leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    pub guest: SocketAddr,
    /// `None` forwards connections as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front: Option<Front>,
}

/// A reverse proxy in front of an HTTP server of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Front {
    /// The host names and addresses that are answered, in lower case; all of them if empty.
    pub hosts: BTreeSet<String>,
    /// `None` serves plain HTTP.
    pub tls: Option<FrontTls>,
}

/// The certificate of a front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontTls {
    /// Signed by the deployment's own authority, for the front's host names and its listening address.
    SelfSigned,
    /// PEM files of this host: absolute paths.
    Files { cert: PathBuf, key: PathBuf },
}

impl Front {
    pub fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "HTTPS",
            None => "HTTP",
        }
    }
}

/// The guest's address, and the scheme of a front.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.front {
            None => write!(f, "{}", self.guest),
            Some(front) => write!(f, "{} by {}", self.guest, front.scheme()),
        }
    }
}

impl Publish {
    /// Where it leads, for a guest with this address.
    pub fn target(&self, guest: Ipv4Addr) -> Target {
        Target {
            guest: (guest, self.guest_port).into(),
            front: self.http.clone(),
        }
    }

    /// Whether it is a front whose certificate the deployment's authority signs.
    pub fn is_self_signed(&self) -> bool {
        let tls = self.http.as_ref().and_then(|front| front.tls.as_ref());
        tls == Some(&FrontTls::SelfSigned)
    }

    /// The names of a front's own certificate: its host names, and its listening address if that is a single one.
    pub fn certificate_names(&self) -> BTreeSet<String> {
        let hosts = self.http.iter().flat_map(|front| &front.hosts);
        let mut names: BTreeSet<String> = hosts.cloned().collect();
        if !self.host.ip().is_unspecified() {
            names.insert(self.host.ip().to_string());
        }
        names
    }

    /// Where other machines reach it: URLs of a front, else the address. `here` is this host's address, for one that
    /// listens on all of them.
    pub fn reached_at(&self, here: IpAddr) -> Vec<String> {
        let Some(front) = &self.http else {
            return vec![self.host.to_string()];
        };
        let (scheme, default) = match front.tls {
            Some(_) => ("https", 443),
            None => ("http", 80),
        };
        let ip = match self.host.ip() {
            ip if ip.is_unspecified() => here,
            ip => ip,
        };
        let names = match front.hosts.is_empty() {
            true => vec![url_host(&ip.to_string())],
            false => front.hosts.iter().map(|host| url_host(host)).collect(),
        };
        let port = match self.host.port() {
            port if port == default => String::new(),
            port => format!(":{port}"),
        };
        let urls = names.iter().map(|name| format!("{scheme}://{name}{port}"));
        urls.collect()
    }
}

/// As URLs have it: an IPv6 address in brackets.
fn url_host(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// The listening address, with the scheme of a front.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.http {
            None => write!(f, "{}", self.host),
            Some(front) => write!(f, "{} ({})", self.host, front.scheme()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(host: &str, hosts: &[&str], tls: Option<FrontTls>) -> Publish {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Publish {
            host: host.parse().unwrap(),
            guest_port: 8080,
            http: Some(Front { hosts, tls }),
        }
    }

    #[test]
    fn a_plain_port_keeps_its_serialized_form() {
        let text = r#"{"host":"127.0.0.1:8080","guest_port":80}"#;
        let publish: Publish = serde_json::from_str(text).unwrap();
        assert_eq!(publish.http, None);
        assert_eq!(serde_json::to_string(&publish).unwrap(), text);
        let front = front("0.0.0.0:443", &["a.example"], Some(FrontTls::SelfSigned));
        let text = serde_json::to_string(&front).unwrap();
        assert_eq!(serde_json::from_str::<Publish>(&text).unwrap(), front);
    }

    #[test]
    fn a_front_is_reached_at_its_names() {
        let here = "192.0.2.7".parse().unwrap();
        let own = Some(FrontTls::SelfSigned);
        let table = [
            (front("0.0.0.0:80", &[], None), vec!["http://192.0.2.7"]),
            (
                front("0.0.0.0:8080", &[], None),
                vec!["http://192.0.2.7:8080"],
            ),
            (front("[::1]:443", &[], own.clone()), vec!["https://[::1]"]),
            (
                front("0.0.0.0:8443", &["b.example", "a.example"], own.clone()),
                vec!["https://a.example:8443", "https://b.example:8443"],
            ),
            (
                front("127.0.0.1:80", &[], own),
                vec!["https://127.0.0.1:80"],
            ),
        ];
        for (publish, urls) in table {
            assert_eq!(publish.reached_at(here), urls);
        }
    }

    #[test]
    fn a_certificate_has_the_listening_address_if_it_is_one() {
        let names = |publish: Publish| Vec::from_iter(publish.certificate_names());
        let own = || Some(FrontTls::SelfSigned);
        assert_eq!(
            names(front("0.0.0.0:443", &["a.example"], own())),
            ["a.example"]
        );
        let single = front("192.0.2.1:443", &["a.example"], own());
        assert_eq!(names(single), ["192.0.2.1", "a.example"]);
    }
}

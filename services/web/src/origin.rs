//! Which site a request comes from. A browser sends requests of any site to this server; only those of its own page, and
//! those of programs, may pass.
//!
//! - **Host**: a site whose name was made to point to this server (DNS rebinding) is known by its name. Addresses cannot
//!   be rebound, so all are accepted; names are `localhost`, the service's own, and those of the configuration.
//! - **Origin** and **Sec-Fetch-Site**: browsers say which site sends a request, and sites cannot change it.
//! - **Content-Type**: a form of another site cannot send the types of the API.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Request, header};

/// The names by which browsers may call this server, in lower case and without a port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(BTreeSet<String>);

impl FromStr for Hosts {
    type Err = String;

    /// Reads names that are separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(|name| {
                let valid = name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
                match valid {
                    true => Ok(name.to_ascii_lowercase()),
                    false => Err(format!(
                        "has `{name}`, which is not a host name without a port"
                    )),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Hosts {
    /// Adds the service's own name.
    pub(crate) fn with(mut self, name: &str) -> Self {
        self.0.insert(name.to_ascii_lowercase());
        self
    }

    /// Whether a request to this host is meant for this server.
    pub(crate) fn admit(&self, host: &Authority) -> bool {
        let name = host.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.parse::<Ipv4Addr>().is_ok()
            || address.parse::<Ipv6Addr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.0.contains(&name.to_ascii_lowercase())
    }
}

/// The host that a request names, if it names exactly one.
pub(crate) fn host<B>(request: &Request<B>) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok()?.parse().ok(),
        _ => None,
    }
}

/// Whether a request comes from a page of `host` itself or from a program. Browsers say where a page is from; programs
/// say nothing.
pub(crate) fn is_own<B>(request: &Request<B>, host: &Authority) -> bool {
    let headers = request.headers();
    if headers.get_all(header::ORIGIN).iter().count() > 1 {
        return false;
    }
    let own_origin = headers
        .get(header::ORIGIN)
        .is_none_or(|origin| origin.to_str().is_ok_and(|origin| is_origin(origin, host)));
    own_origin && own_site(request.method(), headers)
}

fn is_origin(origin: &str, host: &Authority) -> bool {
    let Some((scheme @ ("http" | "https"), authority)) = origin.split_once("://") else {
        return false;
    };
    let default = if scheme == "http" { 80 } else { 443 };
    let Ok(origin) = authority.parse::<Authority>() else {
        return false;
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
}

/// `same-site` is another port or another name of the same host.
fn own_site(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, values: &[&str]| {
        let value = headers.get(name).map(|value| value.as_bytes());
        value.is_none_or(|value| values.iter().any(|known| known.as_bytes() == value))
    };
    // A link on another site may lead here.
    let link = *method == Method::GET
        && headers.contains_key("sec-fetch-mode")
        && is("sec-fetch-mode", &["navigate"]);
    is("sec-fetch-site", &["same-origin", "none"]) || link
}

/// Whether a request's content, if it has any, has one of the types. `application/json` includes `+json`, and
/// `application/grpc` includes `-web` and `+proto`.
pub(crate) fn has_type<B: http_body::Body>(request: &Request<B>, types: &[&str]) -> bool {
    if request.body().is_end_stream() {
        return true;
    }
    let value = request.headers().get(header::CONTENT_TYPE);
    let value = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    types.iter().any(|known| match *known {
        "application/grpc" => essence.starts_with("application/grpc"),
        "application/json" => essence == *known || essence.ends_with("+json"),
        known => essence == known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request<String> {
        let mut request = Request::builder().method(method).uri("/api/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(String::new()).unwrap()
    }

    #[test]
    fn hosts_are_addresses_and_known_names() {
        let hosts: Hosts = "Docs.example, app.example".parse().unwrap();
        let hosts = hosts.with("web-server");
        let table = [
            ("127.0.0.1:8080", true),
            ("192.0.2.7", true),
            ("[::1]:8080", true),
            ("localhost:8080", true),
            ("LOCALHOST", true),
            ("web-server:8080", true),
            ("docs.example", true),
            ("evil.example", false),
            ("evil.docs.example", false),
            ("127.0.0.1.evil.example:8080", false),
            ("web-server.evil.example", false),
            ("localhost.evil.example", false),
        ];
        for (host, expected) in table {
            assert_eq!(hosts.admit(&host.parse().unwrap()), expected, "{host}");
        }
        assert!("a:1".parse::<Hosts>().is_err());
    }

    #[test]
    fn other_sites_are_known_by_what_browsers_say() {
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("origin", "http://127.0.0.1:8080")], true),
            (
                &[
                    ("origin", "http://127.0.0.1:8080"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (
                &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
                true,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                ],
                true,
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "no-cors"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "anything")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://127.0.0.1:9000")], false),
            (&[("origin", "http://127.0.0.1")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "file://127.0.0.1:8080")], false),
        ];
        let host = "127.0.0.1:8080".parse().unwrap();
        for (headers, expected) in table {
            assert_eq!(
                is_own(&request("GET", headers), &host),
                *expected,
                "{headers:?}"
            );
        }
        let navigation = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert!(!is_own(&request("POST", &navigation), &host));
        let proxied = "app.example".parse().unwrap();
        assert!(is_own(
            &request("POST", &[("origin", "https://app.example")]),
            &proxied
        ));
    }
}

//! HAProxy's configuration for one front. See <https://docs.haproxy.org/2.6/configuration.html>.
//!
//! HAProxy listens on a socket that it inherits, so that its restart refuses no connection. It answers in the lab's
//! network, where the guests are, without the privileges of the supervisor and with no file in sight.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::host;

/// An empty folder beside the configuration, which is all that HAProxy sees.
pub(super) const ROOT: &str = "root";
/// The maximum number of connections of a front; others wait in the kernel's queue.
const MOST: usize = 1024;
/// Of `nobody`, for where HAProxy's package made no user.
const NOBODY: (u32, u32) = (65534, 65534);

const DEFAULTS: &str = r#"
defaults
    mode http
    # The lengths of streams are the guest's to decide: server-sent events, gRPC and WebSockets may be silent for long.
    timeout client 1h
    timeout server 1h
    timeout tunnel 24h
    timeout client-fin 30s
    timeout http-request 10s
    timeout http-keep-alive 1m
    # As for relayed connections: a client that is gone sends no end, and neither does a guest that was killed.
    option clitcpka
    clitcpka-idle 1m
    clitcpka-intvl 15s
    clitcpka-cnt 4
    option srvtcpka
    srvtcpka-idle 1m
    srvtcpka-intvl 15s
    srvtcpka-cnt 4
    default-server tcp-ut 2m
    # A server that is being restarted is tried for 20 s, and a guest that does not answer for a minute. Only connecting
    # is tried again, so no request is sent twice; and each connects, because one that was idle may have ended.
    timeout connect 3s
    retries 20
    retry-on conn-failure
    option redispatch
    option http-server-close
"#;

/// What a front's configuration depends on.
pub(super) struct Setting<'a> {
    /// The number of the inherited listening socket.
    pub listener: i32,
    pub guest: SocketAddr,
    /// Lower case; all if empty.
    pub hosts: &'a BTreeSet<String>,
    /// A PEM file beside the configuration.
    pub certificate: Option<&'a str>,
    /// Where HAProxy listens once it has accepted its configuration; a plain path.
    pub ready: &'a Path,
}

pub(super) fn configuration(setting: &Setting<'_>) -> String {
    let Setting {
        listener,
        guest,
        hosts,
        certificate,
        ready,
    } = setting;
    let mut text = format!(
        "global\n    stats socket {} mode 600 level operator\n    maxconn {MOST}\n    no strict-limits\n    \
         hard-stop-after 24h\n    ssl-default-bind-options ssl-min-ver TLSv1.2\n",
        ready.display()
    );
    if host::is_root() {
        text.push_str(&unprivileged());
    }
    text.push_str(DEFAULTS);
    let tls = certificate.map_or(String::new(), |file| {
        format!(" ssl crt {file} alpn h2,http/1.1")
    });
    let _ = write!(
        text,
        "\nfrontend front\n    bind fd@{listener}{tls}\n    maxconn {MOST}\n"
    );
    if !hosts.is_empty() {
        let names: Vec<String> = hosts.iter().map(|host| bracketed(host)).collect();
        let _ = writeln!(
            text,
            "    http-request return status 421 content-type text/plain \
             string \"this server does not answer for that host name\\n\" \
             unless {{ req.hdr(host),host_only,lower -m str {} }}",
            names.join(" ")
        );
    }
    let scheme = if certificate.is_some() {
        "https"
    } else {
        "http"
    };
    // An IPv4 client of a socket that listens for IPv6 too has a mapped address.
    let client = "%[src,regsub(^::ffff:,)]";
    let _ = write!(
        text,
        "    http-request del-header ^(x[-_](forwarded|real)([-_].*)?|forwarded)$ -m reg
    http-request set-header X-Real-IP {client}
    http-request set-header X-Forwarded-For {client}
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    use_backend grpc if {{ req.hdr(content-type) -m reg ^application/grpc([+;]|$) }}
    default_backend http

backend http
    server guest {guest}

# gRPC needs HTTP/2 on the whole way, and has many calls on a connection.
backend grpc
    no option http-server-close
    server guest {guest} proto h2
"
    );
    text
}

/// As requests name an address of IPv6.
fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// The user whom HAProxy becomes. An ordinary user's lab may not map another's id; HAProxy then stays that user.
fn unprivileged() -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (uid, gid) = user(&passwd, "haproxy").unwrap_or(NOBODY);
    let maps = |file: &str, id| fs::read_to_string(file).is_ok_and(|map| is_mapped(&map, id));
    let mut text = format!("    chroot {ROOT}\n");
    if maps("/proc/self/uid_map", uid) && maps("/proc/self/gid_map", gid) {
        let _ = write!(text, "    uid {uid}\n    gid {gid}\n");
    }
    text
}

fn user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, uid, gid, ..] = fields[..] else {
            return None;
        };
        (found == name).then_some((uid.parse().ok()?, gid.parse().ok()?))
    })
}

/// Whether a user namespace has this id; `map` is its user_namespaces(7).
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let fields: Vec<u32> = line
            .split_ascii_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        matches!(fields[..], [first, _, count] if id >= first && id - first < count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_ids_are_found() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nhaproxy:x:103:108::/var/lib/haproxy:/none\n";
        assert_eq!(user(passwd, "haproxy"), Some((103, 108)));
        assert_eq!(user(passwd, "other"), None);
        let map = "         0       1000          1\n         1     100000      65535\n";
        for (id, mapped) in [(0, true), (103, true), (65535, true), (65536, false)] {
            assert_eq!(is_mapped(map, id), mapped, "{id}");
        }
        assert!(is_mapped("0 0 4294967295", 65534));
        assert!(!is_mapped("0 1000 1", 103));
    }

    #[test]
    fn hosts_and_tls_are_in_the_configuration_only_if_they_are_set() {
        let configuration = |hosts: &[&str], certificate| {
            configuration(&Setting {
                listener: 9,
                guest: "10.77.0.12:8080".parse().unwrap(),
                hosts: &hosts.iter().map(|host| (*host).to_owned()).collect(),
                certificate,
                ready: Path::new("/run/f1"),
            })
        };
        let plain = configuration(&[], None);
        assert!(plain.contains("bind fd@9\n") && plain.contains("X-Forwarded-Proto http\n"));
        assert!(!plain.contains("421"));
        let all = configuration(&["2001:db8::1", "a.example"], Some("web.pem"));
        assert!(all.contains("bind fd@9 ssl crt web.pem alpn h2,http/1.1\n"));
        assert!(all.contains("X-Forwarded-Proto https\n"));
        assert!(all.contains("-m str [2001:db8::1] a.example }\n"));
    }
}

//! Reads the network, and refuses networks that guests cannot be in.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::super::fault::Fault;
use super::super::keys;
use super::super::read::{Fields, Reader};
use super::addresses;
use crate::spec::{Connection, Name, NetworkSpec};

const DEFAULT_CIDR: &str = "10.77.0.0/24";
const DEFAULT_DNS_DOMAIN: &str = "pspd.internal";
/// A guest's name in DNS is a label of at most 63 characters, a dot and the domain, in all at most 253 (RFC 1035).
const LONGEST_DNS_DOMAIN: usize = 253 - 64;

/// Whose addresses can be no guest's: <https://www.iana.org/assignments/iana-ipv4-special-registry>.
const UNUSABLE: [(Ipv4Net, &str); 4] = [
    (net([0, 0, 0, 0], 8), "addresses of \"this network\""),
    (net([127, 0, 0, 0], 8), "loopback addresses"),
    (net([224, 0, 0, 0], 4), "multicast addresses"),
    (net([240, 0, 0, 0], 4), "reserved addresses"),
];

/// Addresses that do not belong to public hosts: private ones (RFC 1918), shared ones (RFC 6598), and those for documentation and
/// benchmarks (RFC 5737, RFC 2544).
const NOT_PUBLIC: [Ipv4Net; 8] = [
    net([10, 0, 0, 0], 8),
    net([172, 16, 0, 0], 12),
    net([192, 168, 0, 0], 16),
    net([100, 64, 0, 0], 10),
    net([192, 0, 2, 0], 24),
    net([198, 51, 100, 0], 24),
    net([203, 0, 113, 0], 24),
    net([198, 18, 0, 0], 15),
];

const fn net([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

pub(super) fn network(
    reader: &Reader,
    fields: &Fields,
    name: &Name,
    connection: Option<&Connection>,
) -> Option<NetworkSpec> {
    let own = fields
        .get("network")
        .map(|node| reader.object(node, node.at, &keys::NETWORK));
    let fields = match own {
        Some(fields) => Some(fields?),
        None => None,
    };
    let get = |key: &str| fields.as_ref().and_then(|fields| fields.get(key));
    let cidr = match get("cidr") {
        Some(node) => {
            let cidr = reader.parsed(node, "cidr", parse_cidr)?;
            if hides_public(cidr, connection) {
                let message = format!(
                    "`{cidr}` would hide public addresses from the host, where the network is"
                );
                let help = "use private addresses, such as 10.77.0.0/24, or `connection: lab`";
                reader.fault(Fault::new(node.at, message).help(help));
            }
            cidr
        }
        None => parse_cidr(DEFAULT_CIDR).ok()?,
    };
    let domain = match get("domain") {
        Some(node) => reader.parsed(node, "domain", parse_domain)?,
        None => DEFAULT_DNS_DOMAIN.to_owned(),
    };
    Some(NetworkSpec {
        name: name.to_string(),
        cidr,
        gateway: addresses::gateway(cidr),
        domain,
    })
}

fn parse_domain(text: &str) -> Result<String, String> {
    if text.len() > LONGEST_DNS_DOMAIN {
        Err(format!(
            "the DNS domain has {} characters; the maximum is {LONGEST_DNS_DOMAIN}",
            text.len()
        ))
    } else if text.split('.').all(|label| Name::new(label).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is not a valid DNS domain; write it like `{DEFAULT_DNS_DOMAIN}`"
        ))
    }
}

fn parse_cidr(text: &str) -> Result<Ipv4Net, String> {
    let net: Ipv4Net = text
        .parse()
        .map_err(|_| format!("`{text}` is not a valid network; write it like `{DEFAULT_CIDR}`"))?;
    if net.addr() != net.network() {
        return Err(format!(
            "`{text}` has host bits set; the network is `{}`",
            net.trunc()
        ));
    }
    if net.prefix_len() > 29 || net.prefix_len() < 8 {
        return Err(format!(
            "`{text}` is too large or too small; use a prefix from /8 to /29"
        ));
    }
    match UNUSABLE.iter().find(|(other, _)| other.contains(&net)) {
        Some((_, what)) => Err(format!(
            "`{text}` has {what}, which guests cannot have; write it like `{DEFAULT_CIDR}`"
        )),
        None => Ok(net),
    }
}

/// A lab has a network namespace of its own. On any other connection, the host's own routes change.
fn hides_public(cidr: Ipv4Net, connection: Option<&Connection>) -> bool {
    matches!(connection, Some(Connection::Uri(_)))
        && !NOT_PUBLIC.iter().any(|other| other.contains(&cidr))
}

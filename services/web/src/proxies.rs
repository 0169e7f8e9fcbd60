//! Which client a request is from: that of its connection, or the one that a trusted proxy names.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::{HeaderMap, Request};
use tower::Service;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
/// The word for the default gateway.
const GATEWAY: &str = "gateway";
/// The routes of this process's network, see proc_pid_net(5).
pub(crate) const ROUTES: &str = "/proc/self/net/route";

/// The addresses of the proxies whose headers are believed; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(BTreeSet<IpAddr>);

impl Proxies {
    /// Reads addresses that are separated by commas. `gateway` is the default gateway in `routes`, the text of
    /// `/proc/net/route`.
    pub fn read(text: &str, routes: impl FnOnce() -> String) -> Result<Self, String> {
        let words = text.split(',').map(str::trim);
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let gateway = words
            .contains(&GATEWAY)
            .then(|| {
                default_gateway(&routes()).ok_or("names the gateway, but no default route exists")
            })
            .transpose()?;
        let address = |word: &&str| match (*word, gateway) {
            (GATEWAY, Some(gateway)) => Ok(gateway.into()),
            (word, _) => word
                .parse()
                .map_err(|_| format!("has `{word}`, which is not an address or `{GATEWAY}`")),
        };
        words
            .iter()
            .map(address)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The client of a request that came from `peer`.
    fn client<B>(&self, peer: IpAddr, request: &Request<B>) -> Client {
        let peer = peer.to_canonical();
        if !self.0.contains(&peer) {
            return Client {
                address: peer,
                https: false,
            };
        }
        let headers = request.headers();
        Client {
            address: self.forwarded_for(headers).unwrap_or(peer),
            https: only(headers, FORWARDED_PROTO) == Some("https"),
        }
    }

    /// The last address that does not belong to a proxy: those before it are only what it said itself.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lines = headers.get_all(FORWARDED_FOR).into_iter();
        let text: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
        let text = text?.join(",");
        let addresses = text.rsplit(',').map(|word| word.trim().parse::<IpAddr>());
        for address in addresses {
            let address = address.ok()?.to_canonical();
            if !self.0.contains(&address) {
                return Some(address);
            }
        }
        None
    }
}

/// A header that a request has once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    let (first, second) = (values.next()?, values.next());
    first.to_str().ok().filter(|_| second.is_none())
}

/// The gateway of the route to everywhere; addresses are in the machine's byte order.
fn default_gateway(routes: &str) -> Option<Ipv4Addr> {
    routes.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, _, _, _, _, mask, ..] = fields[..] else {
            return None;
        };
        let everywhere = destination == "00000000" && mask == "00000000";
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (everywhere && gateway != 0).then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

/// Who asks: an extension of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// Whether a trusted proxy says that the client uses HTTPS.
    pub(crate) https: bool,
}

/// Adds the [`Client`] to the requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Identified<S> {
    inner: S,
    proxies: Arc<Proxies>,
    peer: IpAddr,
}

impl<S> Identified<S> {
    pub(crate) fn new(inner: S, proxies: Arc<Proxies>, peer: IpAddr) -> Self {
        Self {
            inner,
            proxies,
            peer,
        }
    }
}

impl<S, B> Service<Request<B>> for Identified<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let client = self.proxies.client(self.peer, &request);
        request.extensions_mut().insert(client);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
eth0\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";

    fn proxies(text: &str) -> Proxies {
        Proxies::read(text, || ROUTES.to_owned()).unwrap()
    }

    fn client(proxies: &Proxies, peer: &str, headers: &[(&str, &str)]) -> (String, bool) {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let client = proxies.client(peer.parse().unwrap(), &request.body(()).unwrap());
        (client.address.to_string(), client.https)
    }

    #[test]
    fn proxies_are_addresses_and_the_gateway() {
        let expected = ["10.77.0.1", "192.0.2.1", "::1"].map(|it| it.parse().unwrap());
        assert_eq!(proxies("gateway, 192.0.2.1,::1,"), Proxies(expected.into()));
        assert_eq!(proxies(""), Proxies::default());
        let table = [
            ("a", ROUTES, "has `a`, which is not an address or `gateway`"),
            (
                "10.0.0.0/8",
                ROUTES,
                "has `10.0.0.0/8`, which is not an address or `gateway`",
            ),
            (
                "gateway",
                "Iface\n",
                "names the gateway, but no default route exists",
            ),
        ];
        for (text, routes, fault) in table {
            assert_eq!(
                Proxies::read(text, || routes.to_owned()),
                Err(fault.to_owned())
            );
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let forwarded = [
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-proto", "https"),
        ];
        let gateway = proxies("gateway");
        let said = ("203.0.113.7".to_owned(), true);
        assert_eq!(client(&gateway, "10.77.0.1", &forwarded), said);
        assert_eq!(client(&gateway, "::ffff:10.77.0.1", &forwarded), said);
        let other = ("10.77.0.2".to_owned(), false);
        assert_eq!(client(&gateway, "10.77.0.2", &forwarded), other);
        let none = ("10.77.0.1".to_owned(), false);
        assert_eq!(client(&Proxies::default(), "10.77.0.1", &forwarded), none);
        assert_eq!(client(&gateway, "10.77.0.1", &[]), none);
    }

    #[test]
    fn the_last_address_that_is_not_a_proxy_counts() {
        let two = proxies("10.77.0.1, 192.0.2.1");
        let table: [(&[&str], &str); 6] = [
            (&["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (&["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
            (&["203.0.113.7, 192.0.2.1"], "203.0.113.7"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["192.0.2.1"], "10.77.0.1"),
            (&["203.0.113.7, unknown"], "10.77.0.1"),
        ];
        for (lines, expected) in table {
            let headers: Vec<_> = lines.iter().map(|line| (FORWARDED_FOR, *line)).collect();
            let (address, _) = client(&two, "10.77.0.1", &headers);
            assert_eq!(address, expected, "{lines:?}");
        }
        let twice = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "https"),
        ];
        assert!(!client(&two, "10.77.0.1", &twice).1);
    }
}

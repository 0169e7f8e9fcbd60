//! This host's address, as other machines know it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Any address behind the default route (RFC 5737: it belongs to nobody).
const ELSEWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// Returns the address from which this host sends to others; loopback without a network. Sends nothing.
pub fn of_this_host() -> IpAddr {
    let own = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(ELSEWHERE)?;
        socket.local_addr()
    };
    own().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

//! Brings up `lo` and the Ethernet interface with a static address, by rtnetlink (rtnetlink(7)).
//!
//! Messages are encoded here: four kinds do not need a netlink library.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLM_F_REQUEST_ACK: u16 = 0x1 | 0x4;
const NLM_F_CREATE_REPLACE: u16 = 0x400 | 0x100;
const NLMSG_ERROR: u16 = 2;
const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
/// Whether interfaces send a gratuitous ARP when they come up.
const ANNOUNCE: &str = "/proc/sys/net/ipv4/conf/all/arp_notify";

/// Brings up loopback, and the interface with `address` and a default route, if given.
pub(crate) fn configure(address: Option<(Ipv4Addr, u8)>, gateway: Option<Ipv4Addr>) -> Result<()> {
    let netlink = Netlink::open()?;
    netlink.up(1).context("failed to bring up `lo`")?;
    let Some((address, prefix)) = address else {
        return Ok(());
    };
    let index = ethernet()?;
    netlink
        .add_address(index, address, prefix)
        .with_context(|| format!("failed to set address `{address}/{prefix}`"))?;
    // The interface announces its address when it comes up: another guest may have had it a moment ago.
    std::fs::write(ANNOUNCE, "1").with_context(|| format!("failed to write `{ANNOUNCE}`"))?;
    netlink
        .up(index)
        .context("failed to bring up the network interface")?;
    if let Some(gateway) = gateway {
        netlink
            .add_default_route(gateway)
            .with_context(|| format!("failed to set the default route to `{gateway}`"))?;
    }
    Ok(())
}

/// The index of the first interface with hardware.
fn ethernet() -> Result<u32> {
    let mut names: Vec<_> = std::fs::read_dir("/sys/class/net")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("device").exists())
        .collect();
    names.sort();
    let Some(first) = names.first() else {
        bail!("no network interface found");
    };
    let index = std::fs::read_to_string(first.join("ifindex"))?;
    Ok(index.trim().parse()?)
}

struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> Result<Netlink> {
        // `None` is protocol 0: NETLINK_ROUTE.
        let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)
            .context("failed to open a netlink socket")?;
        Ok(Netlink(socket))
    }

    fn up(&self, index: u32) -> Result<()> {
        let mut message = vec![0; 4];
        message.extend(index.to_ne_bytes());
        message.extend(IFF_UP.to_ne_bytes());
        message.extend(IFF_UP.to_ne_bytes());
        self.request(RTM_NEWLINK, 0, &message)
    }

    fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        const IFA_ADDRESS: u16 = 1;
        const IFA_LOCAL: u16 = 2;
        const IFA_BROADCAST: u16 = 4;
        let mut message = vec![AF_INET, prefix, 0, 0];
        message.extend(index.to_ne_bytes());
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address) | host_bits);
        message.extend(attribute(IFA_LOCAL, address));
        message.extend(attribute(IFA_ADDRESS, address));
        message.extend(attribute(IFA_BROADCAST, broadcast));
        self.request(RTM_NEWADDR, NLM_F_CREATE_REPLACE, &message)
    }

    fn add_default_route(&self, gateway: Ipv4Addr) -> Result<()> {
        const RT_TABLE_MAIN: u8 = 254;
        const RTPROT_STATIC: u8 = 4;
        const RTN_UNICAST: u8 = 1;
        const RTA_GATEWAY: u16 = 5;
        let mut message = vec![
            AF_INET,
            0,
            0,
            0,
            RT_TABLE_MAIN,
            RTPROT_STATIC,
            0,
            RTN_UNICAST,
        ];
        message.extend(0u32.to_ne_bytes());
        message.extend(attribute(RTA_GATEWAY, gateway));
        self.request(RTM_NEWROUTE, NLM_F_CREATE_REPLACE, &message)
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        let header = Header {
            length: (HEADER + body.len()) as u32,
            kind,
            flags: NLM_F_REQUEST_ACK | flags,
        };
        let message = [&header.encode()[..], body].concat();
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(self.0.as_fd(), &message, SendFlags::empty(), &kernel)?;

        let mut answer = [0u8; 512];
        let (length, _) = recv(self.0.as_fd(), &mut answer, RecvFlags::empty())?;
        match acknowledgement(&answer[..length]) {
            Some(0) => Ok(()),
            Some(error) => Err(Errno::from_raw_os_error(-error).into()),
            None => bail!("the answer to netlink request {kind} is not an acknowledgement"),
        }
    }
}

/// The size of a `struct nlmsghdr`.
const HEADER: usize = 16;

/// The fields of a `struct nlmsghdr` (netlink(7)) that matter here; sequence number and port are 0.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_ne_bytes());
        bytes
    }

    /// Reads a message's header; returns it with the message's body.
    fn decode(message: &[u8]) -> Option<(Header, &[u8])> {
        let (bytes, body) = message.split_first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, ..] = *bytes;
        let header = Header {
            length: u32::from_ne_bytes([l0, l1, l2, l3]),
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
        };
        Some((header, body))
    }
}

/// The error number of a `struct nlmsgerr`, 0 for success; `None` if the message is of another kind.
fn acknowledgement(message: &[u8]) -> Option<i32> {
    let (header, body) = Header::decode(message)?;
    let error = body.first_chunk::<4>()?;
    (header.kind == NLMSG_ERROR).then(|| i32::from_ne_bytes(*error))
}

/// A `struct rtattr` with an address.
fn attribute(kind: u16, address: Ipv4Addr) -> [u8; 8] {
    let [k0, k1] = kind.to_ne_bytes();
    let [l0, l1] = 8u16.to_ne_bytes();
    let [a, b, c, d] = address.octets();
    [l0, l1, k0, k1, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, error: i32) -> Vec<u8> {
        let header = Header {
            length: 36,
            kind,
            flags: 0,
        };
        // The kernel repeats the header of the request behind the error.
        [&header.encode()[..], &error.to_ne_bytes(), &[0; HEADER]].concat()
    }

    #[test]
    fn a_header_has_the_layout_of_nlmsghdr() {
        let header = Header {
            length: 0x0102_0304,
            kind: 0x0506,
            flags: 0x0708,
        };
        let mut expected = [0; HEADER];
        expected[..4].copy_from_slice(&0x0102_0304_u32.to_ne_bytes());
        expected[4..6].copy_from_slice(&0x0506_u16.to_ne_bytes());
        expected[6..8].copy_from_slice(&0x0708_u16.to_ne_bytes());
        assert_eq!(header.encode(), expected);
        assert_eq!(Header::decode(&expected), Some((header, &[][..])));
    }

    #[test]
    fn only_a_whole_error_message_is_an_acknowledgement() {
        assert_eq!(acknowledgement(&message(NLMSG_ERROR, 0)), Some(0));
        assert_eq!(acknowledgement(&message(NLMSG_ERROR, -17)), Some(-17));
        assert_eq!(acknowledgement(&message(RTM_NEWLINK, 0)), None);
        for length in 0..HEADER + 4 {
            assert_eq!(acknowledgement(&message(NLMSG_ERROR, 0)[..length]), None);
        }
    }
}

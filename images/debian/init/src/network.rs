//! Brings up `lo` and the one Ethernet interface with a static address, by rtnetlink (rtnetlink(7)).
//!
//! Messages are laid out by hand: four kinds of them don't need a netlink library, and all is done in a millisecond.

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

/// Loopback up; the interface up with `address` and a default route, where they are given.
pub fn configure(address: Option<(Ipv4Addr, u8)>, gateway: Option<Ipv4Addr>) -> Result<()> {
    let netlink = Netlink::open()?;
    netlink.up(1).context("bringing up `lo`")?;
    let Some((address, prefix)) = address else {
        return Ok(());
    };
    let index = ethernet()?;
    netlink
        .up(index)
        .context("bringing up the network interface")?;
    netlink
        .add_address(index, address, prefix)
        .with_context(|| format!("setting address `{address}/{prefix}`"))?;
    if let Some(gateway) = gateway {
        netlink
            .add_default_route(gateway)
            .with_context(|| format!("setting the default route to `{gateway}`"))?;
    }
    Ok(())
}

/// The index of the first interface that has hardware behind it.
fn ethernet() -> Result<u32> {
    let mut names: Vec<_> = std::fs::read_dir("/sys/class/net")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("device").exists())
        .collect();
    names.sort();
    let Some(first) = names.first() else {
        bail!("the machine has no network interface that the kernel drives");
    };
    let index = std::fs::read_to_string(first.join("ifindex"))?;
    Ok(index.trim().parse()?)
}

struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> Result<Netlink> {
        // No protocol is protocol 0: NETLINK_ROUTE.
        let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)
            .context("opening a netlink socket")?;
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
        let length = 16 + body.len() as u32;
        let mut message = Vec::with_capacity(length as usize);
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST_ACK | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(self.0.as_fd(), &message, SendFlags::empty(), &kernel)?;

        let mut answer = [0u8; 512];
        let (length, _) = recv(self.0.as_fd(), &mut answer, RecvFlags::empty())?;
        match answer[..length] {
            [
                _,
                _,
                _,
                _,
                a,
                b,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                e0,
                e1,
                e2,
                e3,
                ..,
            ] if u16::from_ne_bytes([a, b]) == NLMSG_ERROR => {
                match i32::from_ne_bytes([e0, e1, e2, e3]) {
                    0 => Ok(()),
                    error => Err(Errno::from_raw_os_error(-error).into()),
                }
            }
            _ => bail!("the kernel's answer to netlink request {kind} is not an acknowledgement"),
        }
    }
}

/// A `struct rtattr` that holds an address.
fn attribute(kind: u16, address: Ipv4Addr) -> [u8; 8] {
    let [k0, k1] = kind.to_ne_bytes();
    let [l0, l1] = 8u16.to_ne_bytes();
    let [a, b, c, d] = address.octets();
    [l0, l1, k0, k1, a, b, c, d]
}

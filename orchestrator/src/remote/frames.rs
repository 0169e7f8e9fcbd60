//! Ethernet frames in a stream of bytes: between a tap device of a lab's bridge and an SSH connection.
//!
//! ```text
//! length (4 bytes, big endian), then the kernel's header of a packet (virtio's, 10 bytes) and the frame
//! ```
//! The kernel's header lets frames of up to 64 KiB pass in one piece, as between guests of one host: a segment's checksum
//! and its cut into packets are then the business of who leaves the network.

use std::io::{self, BufRead, Write};

/// Of the kernel's header.
const HEADER: usize = 10;
/// A header, and a frame with as much in it as an IP packet has at most.
pub(super) const LONGEST: usize = HEADER + 14 + 4 + 65_535;
/// Ports of DHCP.
const DHCP: [u16; 2] = [67, 68];
/// A frame goes to all at an address with this bit.
const GROUP: u8 = 1;

/// An Ethernet address.
pub(super) type Address = [u8; 6];

/// A frame with the kernel's header before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    /// A packet as a tap device gives it; `None` if it is too short.
    pub(super) fn of(packet: &[u8]) -> Option<Frame> {
        (packet.len() >= HEADER + 14).then(|| Frame(packet.to_vec()))
    }

    /// Reads the next one; `None` at the end of the stream.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Frame>> {
        if from.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(HEADER + 14..=LONGEST).contains(&length) {
            let message = format!("a frame of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut packet = vec![0; length];
        from.read_exact(&mut packet)?;
        Ok(Some(Frame(packet)))
    }

    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&(self.0.len() as u32).to_be_bytes())?;
        to.write_all(&self.0)
    }

    /// What a tap device takes.
    pub(super) fn packet(&self) -> &[u8] {
        &self.0
    }

    fn ethernet(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    /// Where it goes; `None` if that is to more than one.
    pub(super) fn to(&self) -> Option<Address> {
        let to: Address = self.ethernet()[..6].try_into().expect("6 bytes");
        (to[0] & GROUP == 0).then_some(to)
    }

    pub(super) fn from(&self) -> Address {
        self.ethernet()[6..12].try_into().expect("6 bytes")
    }

    /// Whether it is DHCP for IPv4, which each host answers for its own guests.
    pub(super) fn is_dhcp(&self) -> bool {
        let ethernet = self.ethernet();
        if ethernet[12..14] != [0x08, 0x00] {
            return false;
        }
        let packet = &ethernet[14..];
        let (Some(first), Some(17)) = (packet.first(), packet.get(9)) else {
            return false;
        };
        let header = usize::from(first & 0x0f) * 4;
        let port = |at: usize| {
            let bytes = packet.get(header + at..header + at + 2)?;
            Some(u16::from_be_bytes(bytes.try_into().ok()?))
        };
        [port(0), port(2)]
            .iter()
            .flatten()
            .any(|port| DHCP.contains(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with an IPv4 packet of UDP between these ports; `options` words are in its header.
    fn udp(from: u16, to: u16, options: u8) -> Frame {
        let mut packet = vec![0; HEADER];
        packet.extend([0xff; 6]);
        packet.extend([0x52, 0x54, 0, 0, 0, 1]);
        packet.extend([0x08, 0x00]);
        let mut ip = vec![0; 20 + usize::from(options) * 4];
        ip[0] = 0x45 + options;
        ip[9] = 17;
        packet.extend(ip);
        packet.extend(from.to_be_bytes());
        packet.extend(to.to_be_bytes());
        Frame::of(&packet).unwrap()
    }

    #[test]
    fn frames_pass_through_a_stream_in_order() {
        let frames = [udp(1, 2, 0), udp(3, 4, 1), udp(68, 67, 0)];
        let mut stream = Vec::new();
        for frame in &frames {
            frame.write(&mut stream).unwrap();
        }
        let mut from = &stream[..];
        for frame in &frames {
            assert_eq!(Frame::read(&mut from).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).unwrap(), None);
        for cut in [1, 5, stream.len() - 1] {
            let mut from = &stream[..cut];
            let last = loop {
                match Frame::read(&mut from) {
                    Ok(Some(_)) => {}
                    end => break end,
                }
            };
            assert_eq!(last.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_length_that_no_frame_has_is_an_error() {
        for length in [0, 23, LONGEST as u32 + 1, u32::MAX] {
            let stream = [&length.to_be_bytes()[..], &[0; 100]].concat();
            assert!(Frame::read(&mut &stream[..]).is_err(), "{length}");
        }
    }

    #[test]
    fn dhcp_is_known_by_its_ports() {
        for (from, to, options, expected) in [
            (68, 67, 0, true),
            (67, 68, 1, true),
            (5000, 67, 0, true),
            (53, 5000, 0, false),
            (53, 5000, 2, false),
        ] {
            assert_eq!(udp(from, to, options).is_dhcp(), expected, "{from} {to}");
        }
        // Too short to say.
        let mut cut = udp(68, 67, 0);
        cut.0.truncate(HEADER + 14 + 20);
        assert!(!cut.is_dhcp());
    }

    #[test]
    fn a_frame_to_a_group_has_no_destination() {
        assert_eq!(udp(1, 2, 0).to(), None);
        assert_eq!(udp(1, 2, 0).from(), [0x52, 0x54, 0, 0, 0, 1]);
    }
}

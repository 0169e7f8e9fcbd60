//! A capture as a pcapng file: the packets of a pcap stream, and before them what readers need for them.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html> describes the format.

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::net::Ipv4Addr;

use anyhow::Context as _;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, NameResolutionBlock, Record};
use pcap_file::pcapng::blocks::unknown::UnknownBlock;
use pcap_file::{Endianness, PcapError};

use super::{Wanted, expression};

/// Packets are shown with nanoseconds, as 10 to the power of minus this.
const NANOSECONDS: u8 = 9;
/// The type of a Decryption Secrets Block.
const DECRYPTION_SECRETS: u32 = 0x0000_000a;
/// The type of secrets that is a TLS key log.
const TLS_KEY_LOG: u32 = 0x544c_534b;

/// What is before the packets.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub wanted: &'a Wanted,
    /// The lines of a TLS key log, with which readers decrypt the packets; may be empty.
    pub keys: &'a str,
}

/// Copies packets; returns how many there were, and `None` if not even the header of a capture came. Calls `began` when that
/// came.
pub(super) fn convert(
    from: impl Read,
    to: impl Write,
    Head { wanted, keys }: Head<'_>,
    began: impl FnOnce(),
) -> anyhow::Result<Option<u64>> {
    let mut reader = match PcapReader::new(from) {
        Ok(reader) => reader,
        Err(error) if is_end(&error) => return Ok(None),
        Err(error) => return Err(error).context("failed to read what `tcpdump` captured"),
    };
    began();
    let header = reader.header();
    let mut writer =
        PcapNgWriter::with_endianness(BufWriter::new(to), Endianness::Little).context(WRITING)?;
    let mut options = vec![
        InterfaceDescriptionOption::IfName((&wanted.bridge).into()),
        InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
    ];
    if let Some(filter) = expression(&wanted.macs, wanted.filter.as_deref()) {
        // 0: a filter as text.
        let filter: Vec<u8> = [0].into_iter().chain(filter.into_bytes()).collect();
        options.push(InterfaceDescriptionOption::IfFilter(filter.into()));
    }
    let interface = InterfaceDescriptionBlock {
        linktype: header.datalink,
        snaplen: header.snaplen,
        options,
    };
    writer.write_pcapng_block(interface).context(WRITING)?;
    writer.write_pcapng_block(names(wanted)).context(WRITING)?;
    if !keys.is_empty() {
        let secrets = secrets(keys)?;
        let block = UnknownBlock::new(DECRYPTION_SECRETS, 0, &secrets);
        writer.write_pcapng_block(block).context(WRITING)?;
    }
    let mut count = 0;
    loop {
        let packet = match reader.next_packet() {
            None => break,
            // Its last packet was cut off as it ended.
            Some(Err(error)) if is_end(&error) => break,
            Some(packet) => packet.context("failed to read what `tcpdump` captured")?,
        };
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: packet.timestamp,
            original_len: packet.orig_len,
            data: packet.data,
            options: Vec::new(),
        };
        writer.write_pcapng_block(block).context(WRITING)?;
        writer.get_mut().flush().context(WRITING)?;
        count += 1;
    }
    Ok(Some(count))
}

/// Whether there is nothing more to read, also within a packet.
fn is_end(error: &PcapError) -> bool {
    match error {
        PcapError::IncompleteBuffer => true,
        PcapError::IoError(error) => error.kind() == ErrorKind::UnexpectedEof,
        _ => false,
    }
}

const WRITING: &str = "failed to write the capture";

fn names(wanted: &Wanted) -> NameResolutionBlock<'_> {
    let record = |(address, name): (&Ipv4Addr, &'_ String)| {
        Record::Ipv4(Ipv4Record {
            ip_addr: address.octets().to_vec().into(),
            names: vec![name.clone().into()],
        })
    };
    NameResolutionBlock {
        records: wanted.names.iter().map(record).collect(),
        options: Vec::new(),
    }
}

/// The body of a Decryption Secrets Block.
fn secrets(keys: &str) -> anyhow::Result<Vec<u8>> {
    let length = u32::try_from(keys.len()).context("the TLS keys are longer than 4 GiB")?;
    let head = [TLS_KEY_LOG, length].map(u32::to_le_bytes);
    Ok([head.as_flattened(), keys.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use pcap_file::DataLink;
    use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
    use pcap_file::pcapng::{Block, PcapNgReader};
    use proptest::prelude::*;

    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            bridge: "virbr0".into(),
            macs: Vec::new(),
            filter: Some("tcp port 80".into()),
            names: BTreeMap::from([(Ipv4Addr::new(10, 77, 0, 10), "web".to_owned())]),
        }
    }

    fn head(wanted: &Wanted) -> Head<'_> {
        Head { wanted, keys: "" }
    }

    /// What `tcpdump` writes of these packets.
    fn captured(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            snaplen: 262_144,
            ..PcapHeader::default()
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
        for (micros, data) in packets {
            let length = u32::try_from(data.len()).unwrap();
            let packet = PcapPacket::new(Duration::from_micros(*micros), length, data);
            writer.write_packet(&packet).unwrap();
        }
        writer.into_writer()
    }

    fn read(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut reader = PcapNgReader::new(file).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.unwrap() {
                let micros = u64::try_from(packet.timestamp.as_micros()).unwrap();
                packets.push((micros, packet.data.into_owned()));
            }
        }
        packets
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The last packet may be cut off, as `tcpdump` was ended.
        #[test]
        fn each_whole_packet_arrives_with_its_time(
            packets in prop::collection::vec((0_u64..1 << 50, prop::collection::vec(any::<u8>(), 1..200)), 0..20),
            cut in 0_usize..16,
        ) {
            let packets: Vec<_> = packets.into_iter().map(|(at, data)| (at % (1 << 51), data)).collect();
            let whole = captured(&packets);
            let cut = if packets.is_empty() { 0 } else { cut.min(16) };
            let mut file = Vec::new();
            let count = convert(&whole[..whole.len() - cut], &mut file, head(&wanted()), || ()).unwrap();
            let left = packets.len() - usize::from(cut > 0);
            prop_assert_eq!(count, Some(left as u64));
            prop_assert_eq!(read(&file), &packets[..left]);
        }
    }

    #[test]
    fn readers_see_the_interface_and_the_names() {
        let mut file = Vec::new();
        convert(captured(&[]).as_slice(), &mut file, head(&wanted()), || ()).unwrap();
        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let Some(Ok(Block::InterfaceDescription(interface))) = reader.next_block() else {
            panic!("no interface");
        };
        assert_eq!(interface.linktype, DataLink::ETHERNET);
        let options = [
            InterfaceDescriptionOption::IfName("virbr0".into()),
            InterfaceDescriptionOption::IfTsResol(9),
            InterfaceDescriptionOption::IfFilter(b"\0tcp port 80".as_slice().into()),
        ];
        assert_eq!(interface.options, options);
        let Some(Ok(Block::NameResolution(names))) = reader.next_block() else {
            panic!("no names");
        };
        let web = Record::Ipv4(Ipv4Record {
            ip_addr: [10, 77, 0, 10].as_slice().into(),
            names: vec!["web".into()],
        });
        assert_eq!(names.records, [web]);
        assert!(reader.next_block().is_none());
    }

    #[test]
    fn keys_are_before_the_packets_that_need_them() {
        let keys = "CLIENT_RANDOM 01 02\n";
        let packets = [(7, b"packet".to_vec())];
        let (mut file, wanted) = (Vec::new(), wanted());
        let head = Head {
            wanted: &wanted,
            keys,
        };
        convert(captured(&packets).as_slice(), &mut file, head, || ()).unwrap();
        let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
        let mut secrets = None;
        loop {
            match reader.next_block().expect("a packet").unwrap() {
                Block::Unknown(block) => secrets = Some((block.type_, block.value.into_owned())),
                Block::EnhancedPacket(_) => break,
                _ => {}
            }
        }
        // The secrets' type, their length, and themselves up to a whole number of words.
        let expected = [b"KSLT\x14\0\0\0".as_slice(), keys.as_bytes()].concat();
        assert_eq!(secrets, Some((10, expected)));
        assert_eq!(read(&file), packets);
    }

    #[test]
    fn nothing_is_not_a_capture() {
        let mut file = Vec::new();
        let converted = convert([].as_slice(), &mut file, head(&wanted()), || ()).unwrap();
        assert_eq!((converted, file), (None, Vec::new()));
    }
}

//! Captures of a deployment's network: what `tcpdump` sees on its bridge, as a pcapng file with the names of the guests.
//!
//! ```text
//! tcpdump (in the lab) ── pcap ──► Capture::write ── pcapng ──► the file
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use pcap_file::PcapError;
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, NameResolutionBlock, Record};
use pspd_model::spec::Mac;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio_util::sync::CancellationToken;

use crate::reach::Reach;

/// How soon the end of a capture is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// Packets are shown with nanoseconds, as 10 to the power of minus this.
const NANOSECONDS: u8 = 9;

/// What is captured.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The network's bridge.
    pub bridge: String,
    /// Only what these guests send or receive; all, if there are none.
    pub macs: Vec<Mac>,
    /// pcap-filter(7).
    pub filter: Option<String>,
    /// The names of guests, which readers show in place of addresses.
    pub names: BTreeMap<Ipv4Addr, String>,
}

/// A capture that began.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    /// What it says of its work.
    said: File,
    wanted: Wanted,
}

/// What was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    pub packets: u64,
    /// Packets that the host's kernel had no room for.
    pub dropped: u64,
}

impl Capture {
    pub fn start(reach: &Reach, wanted: Wanted) -> anyhow::Result<Capture> {
        let mut argv = vec!["tcpdump".to_owned()];
        // In a user namespace there is no other user to change to.
        let options = [
            "-i",
            &wanted.bridge,
            "-Z",
            "root",
            "-U",
            // Otherwise the kernel keeps packets for up to a second, and those of the last second are lost.
            "--immediate-mode",
            "-n",
            "-w",
            "-",
            "--",
        ];
        argv.extend(options.map(str::to_owned));
        argv.extend(expression(&wanted.macs, wanted.filter.as_deref()));
        let mut command = match reach {
            Reach::Lab(lab) => lab.enter(&argv)?,
            Reach::Direct => {
                let mut command = Command::new(&argv[0]);
                command.args(&argv[1..]);
                command
            }
        };
        let said = tempfile::tempfile().context("failed to create a temporary file")?;
        let tcpdump = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?)
            // `nsenter` passes no signals on.
            .process_group(0)
            .spawn()
            .context("failed to run `tcpdump`")?;
        Ok(Capture {
            tcpdump,
            said,
            wanted,
        })
    }

    /// Writes packets until the time is over, if there is a limit, or the capture is cancelled. Calls `began` when packets are
    /// seen from now on.
    pub fn write(
        mut self,
        to: impl Write,
        limit: Option<Duration>,
        cancel: &CancellationToken,
        began: impl FnOnce(),
    ) -> anyhow::Result<Captured> {
        let group = Pid::from_raw(self.tcpdump.id().cast_signed());
        let group = group.context("tcpdump has no process id")?;
        let packets = self
            .tcpdump
            .stdout
            .take()
            .context("tcpdump has no stdout")?;
        let started = Instant::now();
        let written = std::thread::scope(|threads| {
            let tcpdump = &mut self.tcpdump;
            threads.spawn(move || {
                let is_over = || limit.is_some_and(|limit| started.elapsed() >= limit);
                while matches!(tcpdump.try_wait(), Ok(None)) {
                    if cancel.is_cancelled() || is_over() {
                        // It may have ended meanwhile.
                        let _ = kill_process_group(group, Signal::INT);
                    }
                    std::thread::sleep(LOOK);
                }
            });
            let written = convert(packets, to, &self.wanted, began);
            if written.is_err() {
                let _ = kill_process_group(group, Signal::INT);
            }
            written
        });
        let said = said(&mut self.said)?;
        match written {
            Ok(Some(packets)) => Ok(Captured {
                packets,
                dropped: dropped(&said),
            }),
            Ok(None) => Err(anyhow!(
                "failed to capture: {}",
                reason(&said, self.wanted.filter.as_deref())
            )),
            Err(error) => Err(error),
        }
    }
}

fn said(file: &mut File) -> anyhow::Result<String> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(64 << 10).read_to_string(&mut text)?;
    Ok(text)
}

/// Why `tcpdump` captured nothing.
fn reason(said: &str, filter: Option<&str>) -> String {
    if said.contains("No such file or directory") || said.is_empty() {
        return "this host has no `tcpdump`. Install the package `tcpdump`".to_owned();
    }
    let lines = said
        .lines()
        .filter_map(|line| line.strip_prefix("tcpdump: "));
    let told = lines.filter(|line| !line.starts_with("listening on"));
    let told: Vec<&str> = told.collect();
    if told.is_empty() {
        return said.trim().to_owned();
    }
    let told = told.join("; ");
    match filter.filter(|_| told.contains("filter expression")) {
        Some(filter) => format!("`{filter}` is not valid for pcap-filter(7): {told}"),
        None => told,
    }
}

/// `tcpdump` counts at its end.
fn dropped(said: &str) -> u64 {
    let mut counts = said.lines().filter_map(|line| {
        let count = line.strip_suffix(" packets dropped by kernel")?;
        count.parse().ok()
    });
    counts.next().unwrap_or(0)
}

/// What guests send or receive, and what the filter lets through.
fn expression(macs: &[Mac], filter: Option<&str>) -> Option<String> {
    let hosts: Vec<String> = macs.iter().map(|mac| format!("ether host {mac}")).collect();
    let hosts = (!hosts.is_empty()).then(|| hosts.join(" or "));
    match (hosts, filter) {
        (Some(hosts), Some(filter)) => Some(format!("({hosts}) and ({filter})")),
        (Some(one), None) => Some(one),
        (None, filter) => filter.map(str::to_owned),
    }
}

/// Copies packets; returns how many there were, and `None` if not even the header of a capture came.
fn convert(
    from: impl Read,
    to: impl Write,
    wanted: &Wanted,
    began: impl FnOnce(),
) -> anyhow::Result<Option<u64>> {
    let mut reader = match PcapReader::new(from) {
        Ok(reader) => reader,
        Err(error) if is_end(&error) => return Ok(None),
        Err(error) => return Err(error).context("failed to read what `tcpdump` captured"),
    };
    began();
    let header = reader.header();
    let mut writer = PcapNgWriter::new(BufWriter::new(to)).context(WRITING)?;
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

#[cfg(test)]
mod tests {
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
            let count = convert(&whole[..whole.len() - cut], &mut file, &wanted(), || ()).unwrap();
            let left = packets.len() - usize::from(cut > 0);
            prop_assert_eq!(count, Some(left as u64));
            prop_assert_eq!(read(&file), &packets[..left]);
        }
    }

    #[test]
    fn readers_see_the_interface_and_the_names() {
        let mut file = Vec::new();
        convert(captured(&[]).as_slice(), &mut file, &wanted(), || ()).unwrap();
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
    fn what_tcpdump_says_becomes_the_error() {
        assert_eq!(
            convert([].as_slice(), Vec::new(), &wanted(), || ()).unwrap(),
            None
        );
        for (said, expected) in [
            (
                "tcpdump: syntax error in filter expression\n",
                "`tcp port 80` is not valid for pcap-filter(7): syntax error in filter expression",
            ),
            (
                "nsenter: failed to execute tcpdump: No such file or directory\n",
                "this host has no `tcpdump`. Install the package `tcpdump`",
            ),
            (
                "tcpdump: virbr0: You don't have permission to perform this capture on that device\n(socket: Operation not permitted)\n",
                "virbr0: You don't have permission to perform this capture on that device",
            ),
        ] {
            assert_eq!(reason(said, Some("tcp port 80")), expected);
        }
        let said = "tcpdump: listening on virbr0, link-type EN10MB (Ethernet), snapshot length 262144 bytes\n\
            7 packets captured\n9 packets received by filter\n2 packets dropped by kernel\n";
        assert_eq!(dropped(said), 2);
    }

    #[test]
    fn guests_and_filter_must_both_match() {
        let mac = |last| Mac([0x52, 0x54, 0, 0, 0, last]);
        let filter = Some("port 1 or port 2");
        assert_eq!(expression(&[], None), None);
        assert_eq!(expression(&[], filter).as_deref(), filter);
        assert_eq!(
            expression(&[mac(1)], None).as_deref(),
            Some("ether host 52:54:00:00:00:01")
        );
        assert_eq!(
            expression(&[mac(1), mac(2)], filter).as_deref(),
            Some(
                "(ether host 52:54:00:00:00:01 or ether host 52:54:00:00:00:02) and (port 1 or port 2)"
            )
        );
    }
}

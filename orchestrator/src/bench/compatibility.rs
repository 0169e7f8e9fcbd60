//! What each firmware boots from: each is started with each medium as the only one, and the output on its consoles
//! decides.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pspd_model::definition::Ownership;
use pspd_model::printable::printable;
use pspd_model::spec::{Digest, Firmware, Name};

use super::firmware::Bench;
use super::result::{Reached, Row, Try};
use crate::event::{Scope, seconds};
use crate::firmware::Roms;
use crate::image::media::{Media, STARTED};
use crate::libvirt::{BootNetwork, DomainConfig, Medium, Probe};
use crate::state::{read_end, remove_if_there};

/// Longer than any of them takes to try the network, even under emulation on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The rows, each by the case whose firmware and board it has.
const ROWS: [(&str, &str); 5] = [
    ("seabios", "seabios-disk"),
    ("seabios, q35", "seabios-q35-disk"),
    ("coreboot", "coreboot-disk"),
    ("coreboot, payload linux", "coreboot-linux"),
    ("uefi", "uefi-disk"),
];

/// What firmware prints that found nothing: SeaBIOS, then OVMF, then the shell that OVMF falls back to.
const NOTHING_FOUND: [&str; 3] = [
    "No bootable device.",
    "BdsDxe: No bootable option or device was found",
    "UEFI Interactive Shell",
];
const KERNEL: &str = "Linux version ";

/// What a medium reports that it is.
fn reports(medium: Medium) -> &'static str {
    match medium {
        Medium::CdRom => "cd-rom",
        Medium::Network => "network",
        Medium::VirtioBlk | Medium::VirtioScsi | Medium::Sata | Medium::Usb => "disk",
    }
}

/// How far a start got, by the output on both consoles; `None` while it may get further.
fn decided(medium: Medium, serial: &str, debug: &str) -> Option<Reached> {
    if serial.contains(&format!("{STARTED}{}", reports(medium))) {
        Some(Reached::BootLoader)
    } else if serial.contains(KERNEL) {
        Some(Reached::Kernel)
    } else {
        let nothing = |words: &&str| serial.contains(words) || debug.contains(words);
        NOTHING_FOUND
            .iter()
            .any(nothing)
            .then_some(Reached::NothingFound)
    }
}

fn so_far(serial: &str, debug: &str) -> Reached {
    match serial.is_empty() && debug.is_empty() {
        true => Reached::Nothing,
        false => Reached::Firmware,
    }
}

/// The last line of the serial console, or of the other one where that is silent.
fn last_words(serial: &str, debug: &str) -> String {
    let last = |text: &str| {
        let mut lines = text.lines().rev().map(printable);
        lines.find(|line| !line.trim().is_empty())
    };
    last(serial).or_else(|| last(debug)).unwrap_or_default()
}

fn chain(error: &crate::libvirt::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

impl Bench {
    /// Tries each firmware with each medium; BIOS and UEFI get a network of their own, with the file that they load.
    pub(super) fn compatibility(&self, media: &Media, scope: &Scope) -> anyhow::Result<Vec<Row>> {
        let networks = [("bios", 1), ("uefi", 2)].map(|(file, number)| BootNetwork {
            name: format!("boot-{file}"),
            gateway: Ipv4Addr::new(10, 79, number, 1),
            tftp: media.tftp(),
            file: file.into(),
        });
        let mut started = Vec::new();
        let tried = networks
            .iter()
            .try_for_each(|network| {
                started.push(self.connection()?.start_boot_network(network)?);
                Ok(())
            })
            .and_then(|()| self.try_all(media, scope));
        // Also after a failure: a lab is not removed while it has objects that the deployment does not own.
        for network in started {
            network.destroy()?;
        }
        tried
    }

    fn try_all(&self, media: &Media, scope: &Scope) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        let here = ROWS.iter().filter(|(_, case)| self.has(case));
        let total = (here.clone().count() * Medium::ALL.len()) as u64;
        for (row, case) in here {
            let mut tries = Vec::new();
            for medium in Medium::ALL {
                self.check_cancelled()?;
                scope.stage(format!("{row} from {}", medium.word()));
                tries.push(self.attempt(&Name::new(case)?, medium, media)?);
                let done = rows.len() * Medium::ALL.len() + tries.len();
                scope.progress(done as u64, Some(total));
            }
            rows.push(Row {
                firmware: (*row).to_owned(),
                tries,
            });
        }
        Ok(rows)
    }

    fn attempt(&self, case: &Name, medium: Medium, media: &Media) -> anyhow::Result<Try> {
        let domain = &self.spec.domains[case];
        let network = match domain.firmware {
            Firmware::Uefi => "boot-uefi",
            _ => "boot-bios",
        };
        let source = match medium {
            Medium::Network => network.to_owned(),
            Medium::CdRom => media.cd_rom().display().to_string(),
            _ => media.disk().display().to_string(),
        };
        let machine = self.machine(case)?;
        let (serial, debug) = (machine.serial_log.clone(), machine.firmware_log.clone());
        remove_if_there(&serial)?;
        remove_if_there(&debug)?;
        let probe = Probe {
            machine,
            medium,
            source,
        };
        let began = Instant::now();
        let tried = |reached, last_words| Try {
            medium,
            boots: reached == Reached::BootLoader,
            reached,
            seconds: seconds(began.elapsed()),
            last_words,
        };
        let running = match self.connection()?.start_probe(&probe) {
            Ok(running) => running,
            Err(error) => return Ok(tried(Reached::Refused, chain(&error))),
        };
        let output =
            |log| String::from_utf8_lossy(&read_end(log, 1 << 20).unwrap_or_default()).into_owned();
        let tried = loop {
            let (serial, debug) = (output(&serial), output(&debug));
            let over = began.elapsed() > PATIENCE || self.cancel.is_cancelled();
            let reached = decided(medium, &serial, &debug);
            if let Some(reached) = reached.or_else(|| over.then(|| so_far(&serial, &debug))) {
                break tried(reached, last_words(&serial, &debug));
            }
            std::thread::sleep(POLL);
        };
        running.destroy()?;
        Ok(tried)
    }

    /// A case's board and firmware, with nothing to boot from.
    fn machine(&self, case: &Name) -> anyhow::Result<DomainConfig> {
        let domain = &self.spec.domains[case];
        let name = Name::new("probe")?;
        // A ROM is in the cache by now.
        let roms = Roms {
            cache: &self.host.cache,
            scope: &Scope::ignored(),
            cancel: &self.cancel,
        };
        let firmware = roms.loader(&domain.firmware, || Ok(self.image.clone()))?;
        Ok(DomainConfig {
            ownership: Ownership {
                deployment: self.spec.name.clone(),
                digest: Digest::of(b"probe"),
            },
            accelerator: self.accelerator,
            machine: domain.machine,
            firmware,
            kernel: None,
            memory: domain.memory,
            vcpus: domain.vcpus,
            disks: Vec::new(),
            interfaces: Vec::new(),
            oem_strings: Vec::new(),
            fw_cfg: Vec::new(),
            serial_log: self.host.home.console_log(&name),
            firmware_log: self.host.home.firmware_log(&name),
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_on_the_consoles_decides() {
        let disk = Medium::Sata;
        for (medium, serial, debug, reached) in [
            (
                disk,
                "GRUB\r\nstarted from disk\r\n",
                "",
                Some(Reached::BootLoader),
            ),
            // A medium other than the given one.
            (Medium::CdRom, "started from disk", "", None),
            (disk, "[ 0.0] Linux version 6", "", Some(Reached::Kernel)),
            (
                disk,
                "",
                "No bootable device.  Retrying",
                Some(Reached::NothingFound),
            ),
            (
                disk,
                "BdsDxe: No bootable option or device was found.",
                "",
                Some(Reached::NothingFound),
            ),
            (disk, "", "SeaBIOS (version", None),
        ] {
            assert_eq!(decided(medium, serial, debug), reached, "{serial}{debug}");
        }
        assert_eq!(so_far("", ""), Reached::Nothing);
        assert_eq!(so_far("", "SeaBIOS"), Reached::Firmware);
    }

    #[test]
    fn the_last_line_is_the_serial_consoles_and_printable() {
        assert_eq!(last_words("a\r\n\x1b[2Jb\r\n\r\n", "c"), "[2Jb");
        assert_eq!(last_words("", "c\n"), "c");
        assert_eq!(last_words("", ""), "");
    }
}

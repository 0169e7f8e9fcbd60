//! The firmware that a guest reports, and whether it matches the topology.

use std::fmt;

use pspd_model::printable::printable;
use pspd_model::spec::Firmware;
use serde::{Deserialize, Serialize};

/// The firmware according to SMBIOS (type 0), ACPI and EFI, as exposed by the guest's kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    pub vendor: String,
    pub version: String,
    /// Whether the kernel was booted by EFI.
    pub efi: bool,
    /// Whether coreboot's ACPI tables are present.
    pub coreboot: bool,
}

/// Prints the input of [`Reported::parse`]. It starts no process besides the shell, because a booting guest is slow.
/// coreboot names itself as the creator of an SSDT.
pub const SCRIPT: &str = r#"cd /sys/class/dmi/id
read -r line <bios_vendor && echo "vendor $line"
read -r line <bios_version && echo "version $line"
[ ! -d /sys/firmware/efi ] || echo efi
for table in /sys/firmware/acpi/tables/SSDT*; do
    [ ! -r "$table" ] || while read -r line || [ "$line" ]; do
        case $line in *COREv4*) echo coreboot ;; esac
    done <"$table"
done"#;

impl Reported {
    pub fn parse(text: &str) -> Reported {
        let mut reported = Reported::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("vendor", vendor)) => reported.vendor = printable(vendor),
                Some(("version", version)) => reported.version = printable(version),
                _ => {
                    reported.efi |= line == "efi";
                    reported.coreboot |= line == "coreboot";
                }
            }
        }
        reported
    }

    /// Returns whether this can be the firmware that the topology asks for. A user's own ROM always matches.
    pub fn fits(&self, asked: &Firmware) -> bool {
        match asked {
            Firmware::Seabios => self.vendor == "SeaBIOS" && !self.efi && !self.coreboot,
            Firmware::Coreboot(_) => self.vendor == "coreboot" && self.coreboot,
            Firmware::Uefi => self.efi,
            Firmware::Rom { .. } => true,
        }
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.vendor, self.version)?;
        if self.efi {
            f.write_str(", EFI")?;
        }
        if self.coreboot {
            f.write_str(", coreboot's tables")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pspd_model::spec::Payload;

    #[test]
    fn only_the_firmware_of_the_topology_matches() {
        let seabios = "vendor SeaBIOS\nversion 1.16.3-debian-1.16.3-2\n";
        let coreboot = "vendor coreboot\nversion 4.15\ncoreboot\n";
        let uefi = "vendor EFI Development Kit II / OVMF\nversion 0.0.0\nefi\n";
        let asked = [
            Firmware::Seabios,
            Firmware::Coreboot(Payload::Seabios),
            Firmware::Uefi,
        ];
        let fits = |text: &str| {
            asked
                .clone()
                .map(|asked| Reported::parse(text).fits(&asked))
        };
        assert_eq!(fits(seabios), [true, false, false]);
        assert_eq!(fits(coreboot), [false, true, false]);
        assert_eq!(fits(uefi), [false, false, true]);
        assert_eq!(fits(""), [false, false, false]);
        assert_eq!(
            Reported::parse(coreboot).to_string(),
            "coreboot 4.15, coreboot's tables"
        );
    }

    #[test]
    fn a_guests_control_characters_are_dropped() {
        assert_eq!(
            Reported::parse("vendor \x1b[2JSeaBIOS").vendor,
            "[2JSeaBIOS"
        );
    }
}

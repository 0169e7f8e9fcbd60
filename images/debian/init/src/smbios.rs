//! The OEM strings of the SMBIOS tables (type 11), which contain the guest's credentials.
//!
//! Reads the raw structures (DMTF DSP0134, section 6.1) and leaves their meaning to [`crate::identity`].

use std::fs;

use anyhow::{Context, Result, bail};

/// The tables that the firmware gave to the kernel.
const FROM_FIRMWARE: &str = "/sys/firmware/dmi/tables/DMI";
/// The tables that QEMU gave to the firmware; coreboot makes its own tables and drops the strings.
const FROM_QEMU: &str = "/sys/firmware/qemu_fw_cfg/by_name/etc/smbios/smbios-tables/raw";

const OEM_STRINGS: u8 = 11;

/// The OEM strings, from the firmware's tables or otherwise from QEMU's.
pub(crate) fn oem_strings() -> Result<Vec<String>> {
    let from_firmware = fs::read(FROM_FIRMWARE).map(|table| parse(&table));
    if let Ok(Ok(strings)) = &from_firmware
        && !strings.is_empty()
    {
        return Ok(strings.clone());
    }
    let table = fs::read(FROM_QEMU).with_context(|| format!("failed to read `{FROM_QEMU}`"))?;
    parse(&table)
}

/// Walks the structures: a header with its length, then strings that each end in NUL, then one more NUL.
fn parse(mut table: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    while let [kind, length, ..] = *table {
        let Some(mut strings) = table.get(usize::from(length)..).filter(|_| length >= 4) else {
            bail!("an SMBIOS structure of type {kind} is truncated");
        };
        while let Some(end) = strings
            .iter()
            .position(|byte| *byte == 0)
            .filter(|end| *end > 0)
        {
            if kind == OEM_STRINGS {
                found.push(String::from_utf8_lossy(&strings[..end]).into_owned());
            }
            strings = &strings[end + 1..];
        }
        // A structure without strings ends in two NULs; the strings of any other end in a NUL each and one more.
        let end = if table[usize::from(length)..].starts_with(&[0]) {
            2
        } else {
            1
        };
        table = strings.get(end..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn structure(kind: u8, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, 4 + body.len() as u8, 0, 0];
        bytes.extend(body);
        for string in strings {
            bytes.extend(string.as_bytes());
            bytes.push(0);
        }
        bytes.extend(if strings.is_empty() {
            &[0, 0][..]
        } else {
            &[0][..]
        });
        bytes
    }

    #[test]
    fn only_oem_strings_are_read() {
        let table = [
            structure(1, &[1, 2], &["QEMU", "pc"]),
            structure(32, &[0; 7], &[]),
            structure(11, &[2], &["a=1", "b=2"]),
            structure(127, &[], &[]),
        ]
        .concat();
        assert_eq!(parse(&table).unwrap(), ["a=1", "b=2"]);
    }

    #[test]
    fn a_truncated_table_is_an_error() {
        assert!(parse(&[11, 200, 0, 0, 1]).is_err());
        assert!(parse(&[11, 0, 0, 0]).is_err());
    }
}

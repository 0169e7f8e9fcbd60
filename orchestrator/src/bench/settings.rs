//! What can be configured in each firmware, and what a change takes.

use serde::Serialize;

use crate::firmware::coreboot;

/// Of one firmware.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub firmware: &'static str,
    /// A domain's lines of a topology; each is valid.
    pub in_topology: Vec<&'static str>,
    /// What the firmware itself offers, and where.
    pub of_its_own: String,
    /// When a change takes effect.
    pub a_change_takes: &'static str,
}

/// Of every firmware that a topology can name.
pub(super) fn all() -> Vec<Settings> {
    let [coreboot, seabios] = coreboot::options();
    vec![
        Settings {
            firmware: "seabios",
            in_topology: vec![
                "firmware: seabios, machine: pc",
                "firmware: seabios, machine: q35",
                "firmware: seabios, boot: kernel",
            ],
            of_its_own: "nothing that persists: the hypervisor passes the boot order at each start, and its options \
                         are chosen when it is compiled, by the distribution"
                .into(),
            a_change_takes: "the next start",
        },
        Settings {
            firmware: "coreboot",
            in_topology: vec![
                "firmware: coreboot",
                "firmware: coreboot, boot: kernel",
                "firmware: {coreboot: {payload: linux}}",
                "firmware: {coreboot: {payload: linux, cmdline: quiet}}",
            ],
            of_its_own: format!(
                "all of its source: board, console, drivers, payload. images/coreboot sets {coreboot} of coreboot's \
                 options, {seabios} of its SeaBIOS', and has patches; the kernel's command line is part of the ROM"
            ),
            a_change_takes: "a build of the ROM; of the kernel and its command line, copying it into one, and the next \
                             start",
        },
        Settings {
            firmware: "uefi",
            in_topology: vec!["firmware: uefi", "firmware: uefi, boot: kernel"],
            of_its_own: "boot entries, their order and other variables, kept in an NVRAM file of the domain: by the \
                         guest with efibootmgr, or in its menus on the serial console. Secure boot is off"
                .into(),
            a_change_takes: "the next start",
        },
        Settings {
            firmware: "rom",
            in_topology: vec![
                "firmware: {rom: ROM, sha256: DIGEST}",
                "firmware: {rom: ROM, sha256: DIGEST}, machine: pc",
                "firmware: {rom: ROM, sha256: DIGEST}, boot: kernel",
            ],
            of_its_own: "what it was built with".into(),
            a_change_takes: "the new digest in the topology, and the next start",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;
    use pspd_model::spec::Digest;

    #[test]
    fn every_line_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        let (rom, content) = (folder.path().join("rom"), [0; 64 << 10]);
        std::fs::write(&rom, content).unwrap();
        let file = folder.path().join("topology.yaml");
        for line in all().iter().flat_map(|one| &one.in_topology) {
            let line = line
                .replace("ROM", &rom.display().to_string())
                .replace("DIGEST", Digest::of(&content).as_str());
            let text = format!(
                "name: demo\nimages: {{guest: {{recipe: {}}}}}\ndomains: {{one: {{image: guest, {line}}}}}\n",
                folder.path().display()
            );
            std::fs::write(&file, text).unwrap();
            if let Err(error) = topology::load(&file) {
                panic!("`{line}`: {error}");
            }
        }
    }

    #[test]
    fn coreboots_options_are_counted_in_its_recipe() {
        let [coreboot, seabios] = coreboot::options();
        assert!(coreboot > 3 && seabios > 3, "{coreboot}, {seabios}");
    }
}

//! Derives the times of a boot's stages from its console output. Pure: the caller passes the time of each text.
//!
//! ```text
//! power on ─> firmware done ─> kernel's first line ─> init ─> SSH
//!  start()    debug port, or    both on the serial console    connect()
//!             UEFI's message
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The console that a text was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The firmware's debug port.
    Debug,
    Serial,
}

/// Times since power on; `None` if a stage was not reached or not detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The firmware started a boot loader or the kernel.
    pub firmware: Option<Duration>,
    /// The kernel printed its first line on the serial port.
    pub kernel: Option<Duration>,
    /// The kernel started process 1.
    pub init: Option<Duration>,
    /// SSH answered with the pinned host key.
    pub ssh: Option<Duration>,
}

/// The stages' names, in order.
pub const STAGES: [&str; 4] = ["firmware", "kernel", "init", "ssh"];

impl Times {
    /// In the order of [`STAGES`].
    pub fn all(&self) -> [Option<Duration>; 4] {
        [self.firmware, self.kernel, self.init, self.ssh]
    }

    /// Returns the stage that was not reached.
    pub fn waiting_for(&self) -> &'static str {
        match self {
            Times {
                kernel: None,
                firmware: None,
                ..
            } => "the firmware's hand-over",
            Times { kernel: None, .. } => "the kernel's first line",
            Times { init: None, .. } => "the kernel to start process 1",
            _ => "SSH",
        }
    }
}

/// The last messages of firmware: SeaBIOS, coreboot with another payload, UEFI (on the serial console).
const LAST_MESSAGES: [&str; 3] = ["Booting from ", "Jumping to boot code", "BdsDxe: starting "];
/// The first message of a kernel that UEFI started without a boot loader. UEFI itself prints nothing then.
const EFI_STUB: &str = "EFI stub: ";
/// The first line of a kernel.
pub(super) const KERNEL: &str = "Linux version ";
const INIT: [&str; 2] = [
    "] Run /init as init process",
    "] Run /sbin/init as init process",
];

/// In bytes; the rest of a longer line is another line.
const LONGEST_LINE: usize = 16 << 10;

/// Collects the output of both consoles during one boot.
#[derive(Debug, Default)]
pub struct Reader {
    times: Times,
    /// The time of the last output, for firmware with unknown messages.
    last_debug: Option<Duration>,
    handed_over: bool,
    unfinished: [String; 2],
}

impl Reader {
    /// Processes the text that a console printed until `at`, the time since power on.
    pub fn take(&mut self, console: Console, text: &str, at: Duration) {
        if self.times.kernel.is_none() && console == Console::Debug && !text.is_empty() {
            self.last_debug = Some(at);
        }
        let mut pending = std::mem::take(&mut self.unfinished[console as usize]);
        pending.push_str(text);
        // The last line of firmware may be incomplete: check it, too.
        let complete = pending.rfind('\n').map_or(0, |end| end + 1);
        for line in pending.lines() {
            self.line(line, at);
        }
        let mut rest = pending.split_off(complete);
        if rest.len() > LONGEST_LINE {
            // No message is that long: a guest may never end its line.
            rest.clear();
        }
        self.unfinished[console as usize] = rest;
    }

    fn line(&mut self, line: &str, at: Duration) {
        let before_kernel = self.times.kernel.is_none();
        let handed_over = LAST_MESSAGES.iter().any(|message| line.contains(message))
            || (!self.handed_over && line.contains(EFI_STUB));
        if before_kernel && handed_over {
            self.times.firmware = Some(at);
            self.handed_over = true;
        } else if before_kernel && line.contains(KERNEL) {
            self.times.kernel = Some(at);
            if !self.handed_over {
                self.times.firmware = self.last_debug;
            }
        } else if self.times.init.is_none() && INIT.iter().any(|message| line.contains(message)) {
            self.times.init = Some(at);
        }
    }

    pub fn times(&self) -> Times {
        self.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[(Console, &str)]) -> [Option<u64>; 3] {
        let mut reader = Reader::default();
        for (second, (console, text)) in parts.iter().enumerate() {
            reader.take(*console, text, Duration::from_secs(second as u64));
        }
        let Times {
            firmware,
            kernel,
            init,
            ..
        } = reader.times();
        [firmware, kernel, init].map(|time| time.map(|time| time.as_secs()))
    }

    #[test]
    fn the_last_message_of_each_firmware_ends_its_stage() {
        use Console::{Debug, Serial};
        let kernel = (Serial, "\r\n[    0.000000] Linux version 6.12\r\n");
        let init = (Serial, "[    2.1] Run /init as init process\n");
        for (parts, times) in [
            // The first medium is not bootable: the last attempt counts.
            (
                vec![
                    (Debug, "SeaBIOS\nBooting from DVD"),
                    (Debug, "...\nBooting from Hard Disk..."),
                    kernel,
                    init,
                ],
                [Some(1), Some(2), Some(3)],
            ),
            (
                vec![
                    (Debug, "Jumping to boot code at 1\n"),
                    (Debug, "SeaBIOS\n"),
                    (Debug, "Booting from ROM...\n"),
                    kernel,
                ],
                [Some(2), Some(3), None],
            ),
            (
                vec![(Debug, "Jumping to boot code at 1\n"), kernel, init],
                [Some(0), Some(1), Some(2)],
            ),
            (
                vec![
                    (Serial, "BdsDxe: loading Boot0001\r\nBdsDxe: start"),
                    (Serial, "ing Boot0001\r\n"),
                    kernel,
                ],
                [Some(1), Some(2), None],
            ),
            (
                vec![(Serial, "EFI stub: Loaded initrd\r\n"), kernel, init],
                [Some(0), Some(1), Some(2)],
            ),
            (
                vec![
                    (Serial, "BdsDxe: starting Boot0001\r\n"),
                    (Serial, "EFI stub: Loaded initrd\r\n"),
                    kernel,
                ],
                [Some(0), Some(2), None],
            ),
            // Unknown messages, and messages after the kernel's start.
            (
                vec![
                    (Debug, "hello\n"),
                    (Debug, "bye\n"),
                    kernel,
                    (Debug, "Booting from nowhere\n"),
                ],
                [Some(1), Some(2), None],
            ),
            (vec![kernel, init], [None, Some(0), Some(1)]),
            (vec![(Debug, "hello\n")], [None, None, None]),
        ] {
            assert_eq!(read(&parts), times, "{parts:?}");
        }
    }

    #[test]
    fn the_first_missing_stage_is_waited_for() {
        let mut times = Times::default();
        assert_eq!(times.waiting_for(), "the firmware's hand-over");
        times.firmware = Some(Duration::ZERO);
        assert_eq!(times.waiting_for(), "the kernel's first line");
        times.kernel = Some(Duration::ZERO);
        assert_eq!(times.waiting_for(), "the kernel to start process 1");
        times.init = Some(Duration::ZERO);
        assert_eq!(times.waiting_for(), "SSH");
    }
}

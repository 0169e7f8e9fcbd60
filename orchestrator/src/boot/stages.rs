//! What a boot's consoles say, to the times at which its stages were reached. Pure: times come with the text.
//!
//! ```text
//! power on ─> firmware done ─> kernel's first line ─> init ─> SSH
//!  start()    debugging port,   serial console, both of it    connect()
//!             or UEFI's word
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which console a text is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The firmware's debugging port.
    Debug,
    Serial,
}

/// Since power on; `None` where a stage was not reached or left no trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// The firmware handed over, to a boot loader or to the kernel.
    pub firmware: Option<Duration>,
    /// The kernel's first line came out of the serial port.
    pub kernel: Option<Duration>,
    /// The kernel started process 1.
    pub init: Option<Duration>,
    /// SSH answered, and its host key was the pinned one.
    pub ssh: Option<Duration>,
}

/// The stages' names, in order.
pub const STAGES: [&str; 4] = ["firmware", "kernel", "init", "ssh"];

impl Times {
    /// In the order of [`STAGES`].
    pub fn all(&self) -> [Option<Duration>; 4] {
        [self.firmware, self.kernel, self.init, self.ssh]
    }

    /// What was waited for when nothing more came.
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

/// What a firmware says last: SeaBIOS, coreboot with another payload, UEFI (on the serial console).
const HANDS_OVER: [&str; 3] = ["Booting from ", "Jumping to boot code", "BdsDxe: starting "];
/// What a kernel says first that UEFI started without a boot loader; nobody else tells of that hand-over.
const EFI_STUB: &str = "EFI stub: ";
const KERNEL: &str = "Linux version ";
const INIT: [&str; 2] = [
    "] Run /init as init process",
    "] Run /sbin/init as init process",
];

/// Collects both consoles' text of one boot.
#[derive(Debug, Default)]
pub struct Reader {
    times: Times,
    /// The last words of any kind, for a firmware whose words are not known.
    last_debug: Option<Duration>,
    told: bool,
    unfinished: [String; 2],
}

impl Reader {
    /// Takes what a console wrote until `at`, since power on.
    pub fn take(&mut self, console: Console, text: &str, at: Duration) {
        if self.times.kernel.is_none() && console == Console::Debug && !text.is_empty() {
            self.last_debug = Some(at);
        }
        let mut pending = std::mem::take(&mut self.unfinished[console as usize]);
        pending.push_str(text);
        // A firmware's last line need not end: what it has of it is looked at as well.
        let complete = pending.rfind('\n').map_or(0, |end| end + 1);
        for line in pending.lines() {
            self.line(line, at);
        }
        self.unfinished[console as usize] = pending.split_off(complete);
    }

    fn line(&mut self, line: &str, at: Duration) {
        let before_kernel = self.times.kernel.is_none();
        let handed_over = HANDS_OVER.iter().any(|words| line.contains(words))
            || (!self.told && line.contains(EFI_STUB));
        if before_kernel && handed_over {
            self.times.firmware = Some(at);
            self.told = true;
        } else if before_kernel && line.contains(KERNEL) {
            self.times.kernel = Some(at);
            if !self.told {
                self.times.firmware = self.last_debug;
            }
        } else if self.times.init.is_none() && INIT.iter().any(|words| line.contains(words)) {
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
    fn each_firmwares_last_word_ends_it() {
        use Console::{Debug, Serial};
        let kernel = (Serial, "\r\n[    0.000000] Linux version 6.12\r\n");
        let init = (Serial, "[    2.1] Run /init as init process\n");
        for (parts, times) in [
            // The first medium has none: the last attempt counts.
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
            // Words that are not known, and words after the kernel's.
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
    fn what_is_waited_for_is_the_first_stage_that_is_missing() {
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

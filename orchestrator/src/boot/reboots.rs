//! How often a guest rebooted without pspd since its recorded boot: its serial console shows each start of a kernel.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Boot;
use super::stages::KERNEL;

impl Boot {
    /// Counts the reboots since, by the log of the serial console; `None` if that does not show them: the kernel is quiet, or
    /// the log was shortened.
    pub fn reboots(&self, serial: &Path) -> Result<Option<usize>> {
        let (Some(_), Some(from)) = (self.times.kernel, self.console) else {
            return Ok(None);
        };
        kernels(serial, from).with_context(|| format!("failed to read `{}`", serial.display()))
    }
}

/// Counts the kernels that started behind `from`; `None` if the log is shorter.
fn kernels(serial: &Path, from: u64) -> io::Result<Option<usize>> {
    let mut file = match File::open(serial) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    if file.metadata()?.len() < from {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut count = 0;
    for line in BufReader::new(file).split(b'\n') {
        if String::from_utf8_lossy(&line?).contains(KERNEL) {
            count += 1;
        }
    }
    Ok(Some(count))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::boot::Times;

    #[test]
    fn each_kernel_behind_the_recorded_boot_is_a_reboot() {
        const BOOT: &[u8] =
            b"SeaBIOS\r\n[    0.000000] Linux version 6.1\r\n[    1.2] Run /init\xff\r\nlogin: ";
        let folder = tempfile::tempdir().unwrap();
        let serial = folder.path().join("web.log");
        let mut boot = Boot {
            times: Times {
                kernel: Some(Duration::from_secs(2)),
                ..Times::default()
            },
            console: Some(2 * BOOT.len() as u64),
            ..Boot::default()
        };
        assert_eq!(boot.reboots(&serial).unwrap(), None);
        for (boots, expected) in [(1, None), (2, Some(0)), (3, Some(1)), (5, Some(3))] {
            fs::write(&serial, BOOT.repeat(boots)).unwrap();
            assert_eq!(boot.reboots(&serial).unwrap(), expected, "{boots}");
        }
        boot.times.kernel = None;
        assert_eq!(boot.reboots(&serial).unwrap(), None);
    }
}

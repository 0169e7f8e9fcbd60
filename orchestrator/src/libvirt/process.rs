//! The processes of this host's domains, which libvirt does not show.

use std::fs;

/// Returns the process of a running domain if it is stopped, such as by SIGSTOP.
pub(super) fn stopped(uuid: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let of_domain =
            pspd_lab::is_stopped(pid) && names(&fs::read(entry.path().join("cmdline")).ok()?, uuid);
        of_domain.then_some(pid)
    })
}

/// Whether QEMU's command line has the UUID of a domain.
fn names(command: &[u8], uuid: &str) -> bool {
    let arguments: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    arguments
        .windows(2)
        .any(|pair| pair == [b"-uuid", uuid.as_bytes()])
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_process_of_a_domain_is_found_while_it_is_stopped() {
        let uuid = uuid::Uuid::new_v4().to_string();
        let mut process = Command::new("sh")
            .arg0("qemu")
            .args(["-c", "kill -STOP $$; read ended", "-uuid", &uuid])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let until = |expected: Option<u32>| {
            let began = Instant::now();
            while stopped(&uuid) != expected {
                assert!(began.elapsed() < Duration::from_secs(20), "{expected:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        until(Some(process.id()));
        assert_eq!(stopped(&uuid::Uuid::new_v4().to_string()), None);
        let pid = process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-CONT", &pid])
                .status()
                .unwrap()
                .success()
        );
        until(None);
        drop(process.stdin.take());
        process.wait().unwrap();
    }
}

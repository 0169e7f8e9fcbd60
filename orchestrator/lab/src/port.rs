//! Finds the process that listens on a port of the host in `/proc`.

use std::fs;
use std::path::Path;

/// Returns the name and id of a process that listens on TCP `port`, if this user may see it.
pub(super) fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| listening_inode(&table, port))?;
    let socket = format!("socket:[{inode}]");
    let process = fs::read_dir("/proc").ok()?.flatten().find(|entry| {
        let number = entry.file_name();
        number.as_encoded_bytes().iter().all(u8::is_ascii_digit) && holds(&entry.path(), &socket)
    })?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    let number = process.file_name();
    Some(format!(
        "`{}` (process {})",
        name.trim(),
        number.to_string_lossy()
    ))
}

fn holds(process: &Path, socket: &str) -> bool {
    fs::read_dir(process.join("fd")).is_ok_and(|fds| {
        fds.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == socket))
    })
}

/// Returns the inode of the listening socket in a table of proc_net_tcp(5).
fn listening_inode(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN)
            .then(|| fields.get(9).map(|&inode| inode.to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_the_port_it_listens_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let process = holder(port).unwrap();
        assert!(
            process.ends_with(&format!("(process {})", std::process::id())),
            "{process}"
        );
        drop(listener);
        assert_eq!(holder(port), None);
    }
}

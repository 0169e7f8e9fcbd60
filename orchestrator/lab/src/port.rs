//! Finds the process that listens on a port of the host in `/proc`.

use std::fs;
use std::path::Path;

use crate::holder;

/// Returns the name and id of a process that listens on TCP `port`, if this user may see it. Of a supervisor, returns its
/// deployment.
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
    let number = process.file_name();
    let number = number.to_string_lossy();
    let line = fs::read(process.path().join("cmdline")).ok()?;
    if let Some(lab) = holder::directory(&line).map(Path::new) {
        return Some(format!("{} (process {number})", published_by(lab)));
    }
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("`{}` (process {number})", name.trim()))
}

/// Names the deployment of a lab: the folder that its directory is in.
fn published_by(lab: &Path) -> String {
    let home = lab.parent().unwrap_or(lab);
    let name = home.file_name().unwrap_or_default();
    format!(
        "the deployment `{}` in `{}`",
        name.display(),
        home.display()
    )
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
    fn a_labs_deployment_is_named() {
        let lab = Path::new("/state/deployments/demo/lab");
        let named = "the deployment `demo` in `/state/deployments/demo`";
        assert_eq!(published_by(lab), named);
    }

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

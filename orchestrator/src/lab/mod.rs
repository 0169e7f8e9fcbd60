//! The deployment's own libvirtd in private namespaces.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A handle to a deployment's running lab.
#[derive(Clone, Debug)]
pub struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// Starts the lab whose private files live in `dir`, or takes the running one; libvirtd answers when this returns.
    pub fn start(dir: &Path) -> anyhow::Result<Lab> {
        let _ = dir;
        unimplemented!()
    }

    /// The lab of `dir` if its supervisor runs.
    pub fn running(dir: &Path) -> anyhow::Result<Option<Lab>> {
        let _ = dir;
        unimplemented!()
    }

    /// `qemu:///system?socket=PATH`, good in- and outside of the lab.
    pub fn libvirt_uri(&self) -> String {
        let _ = &self.dir;
        unimplemented!()
    }

    /// Connects inside the lab's network; the socket that comes back keeps its namespace.
    pub fn dial(&self, to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let _ = (to, timeout);
        unimplemented!()
    }

    /// Relays connections to `host`, a listening address of the host, to `guest`. Idempotent.
    pub fn publish(&self, host: SocketAddr, guest: SocketAddr) -> anyhow::Result<()> {
        let _ = (host, guest);
        unimplemented!()
    }

    pub fn unpublish(&self, host: SocketAddr) -> anyhow::Result<()> {
        let _ = host;
        unimplemented!()
    }

    /// What is relayed now: host address and guest address.
    pub fn published(&self) -> anyhow::Result<Vec<(SocketAddr, SocketAddr)>> {
        unimplemented!()
    }

    /// Ends the lab and every process in it. Files stay.
    pub fn stop(self) -> anyhow::Result<()> {
        unimplemented!()
    }
}

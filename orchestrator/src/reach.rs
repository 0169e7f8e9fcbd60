//! Connections to guest addresses: direct, or through a lab.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pspd_lab::Lab;

/// The network namespace in which guest addresses are routable.
#[derive(Clone, Debug)]
pub enum Reach {
    /// The host's namespace (a libvirt URI on this host).
    Direct,
    /// The lab's namespace.
    Lab(Lab),
}

impl Reach {
    /// Connects to a guest; blocks for `timeout` at most.
    pub fn dial_blocking(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> io::Result<std::net::TcpStream> {
        match self {
            Reach::Direct => std::net::TcpStream::connect_timeout(&to, timeout),
            Reach::Lab(lab) => lab.dial(to, timeout),
        }
    }

    /// Connects to a guest without blocking the worker.
    pub async fn dial(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> io::Result<tokio::net::TcpStream> {
        let reach = self.clone();
        let stream = tokio::task::spawn_blocking(move || reach.dial_blocking(to, timeout))
            .await
            .map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        tokio::net::TcpStream::from_std(stream)
    }
}

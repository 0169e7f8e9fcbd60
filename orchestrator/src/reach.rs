//! Connections to guest addresses: direct, or through a lab.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

use crate::lab::Lab;

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

/// Enables TCP keepalive: a killed guest sends no FIN, and without probes its connections would never close.
pub(crate) fn enable_keepalive(stream: &impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Ok(())
}

//! The supervisor's relays, which forward connections from a listening socket on the host to a guest address.
//!
//! It never binds: the client passes a listening socket from the host's network namespace. If the guest is down, the
//! connection is closed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::keepalive;

/// The maximum number of relayed connections, over all published addresses; others wait in the kernel's queue.
const MOST: usize = 1024;
const CONNECT: Duration = Duration::from_secs(5);
const BUFFER: usize = 16 * 1024;

pub(super) struct Published {
    relays: BTreeMap<SocketAddr, Relayed>,
    slots: Arc<Semaphore>,
}

struct Relayed {
    guest: SocketAddr,
    listener: Arc<TcpListener>,
    /// Dropping it stops the relay and its connections.
    _task: AbortOnDropHandle<()>,
}

impl Default for Published {
    fn default() -> Published {
        Published {
            relays: BTreeMap::new(),
            slots: Arc::new(Semaphore::new(MOST)),
        }
    }
}

impl Published {
    pub(super) fn addresses(&self) -> Vec<(SocketAddr, SocketAddr)> {
        self.relays.iter().map(|(&h, r)| (h, r.guest)).collect()
    }

    /// Relays `host` to `guest`, on `listener` or on the existing listener of `host`.
    pub(super) fn publish(
        &mut self,
        host: SocketAddr,
        guest: SocketAddr,
        listener: Option<OwnedFd>,
    ) -> io::Result<()> {
        let listener = match (listener, self.relays.get(&host)) {
            (_, Some(relayed)) if relayed.guest == guest => return Ok(()),
            (_, Some(relayed)) => relayed.listener.clone(),
            (Some(fd), None) => {
                let listener = std::net::TcpListener::from(fd);
                listener.set_nonblocking(true)?;
                Arc::new(TcpListener::from_std(listener)?)
            }
            (None, None) => {
                return Err(io::Error::other("the request contains no listening socket"));
            }
        };
        let task = tokio::spawn(serve(listener.clone(), guest, self.slots.clone()));
        let relayed = Relayed {
            guest,
            listener,
            _task: AbortOnDropHandle::new(task),
        };
        self.relays.insert(host, relayed);
        Ok(())
    }

    pub(super) fn unpublish(&mut self, host: SocketAddr) {
        let Some(relayed) = self.relays.remove(&host) else {
            return;
        };
        // The aborted task holds the socket until it is scheduled again; no connection must be accepted until then.
        let _ = shutdown(&relayed.listener, Shutdown::Both);
    }
}

async fn serve(listener: Arc<TcpListener>, guest: SocketAddr, slots: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => {
                connections.spawn(async move {
                    // The client sees that its connection is closed; the error has no other use.
                    let _ = relay(client, guest).await;
                    drop(slot);
                });
            }
            // Out of descriptors or memory, or the peer disconnected: retry later.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(mut client: TcpStream, guest: SocketAddr) -> io::Result<()> {
    let mut upstream = tokio::time::timeout(CONNECT, TcpStream::connect(guest)).await??;
    for stream in [&client, &upstream] {
        stream.set_nodelay(true)?;
        keepalive::enable(stream)?;
    }
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await?;
    Ok(())
}

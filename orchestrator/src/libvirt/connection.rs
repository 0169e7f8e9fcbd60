//! A connection to libvirt. [`super::objects`] lists, finds and defines domains and networks with it.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use virt::connect::Connect;

use super::error::Cause;
use super::events::{self, Hub};
use super::{Error, Result, ffi};

/// libvirt's keepalive: the interval in seconds, and the number of unanswered messages after which the connection is
/// dead. It is the deadline of every call. Generous, because hosts that emulate several guests are slow to answer.
const KEEPALIVE: (i32, u32) = (5, 5);
/// The deadline for a connection. Keepalive begins only after it.
const OPEN_WITHIN: Duration = Duration::from_secs(15);

/// An open connection, shared by its clones. Calls block.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Open>);

#[derive(Debug)]
struct Open {
    connect: Connect,
    uri: String,
    hub: Hub,
    callbacks: Vec<i32>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // A registered callback would keep the connection open.
        for callback in &self.callbacks {
            ffi::ignore_events(&self.connect, *callback);
        }
    }
}

impl Connection {
    /// Connects to a libvirt URI, <https://libvirt.org/uri.html>. Blocks for 15 s at most.
    pub fn open(uri: &str) -> Result<Connection> {
        let (sender, opened) = channel();
        let wanted = uri.to_owned();
        // libvirt has no deadline for this call: a thread that gets no answer is left to the end of the process.
        std::thread::spawn(move || sender.send(Connection::open_unbounded(&wanted)));
        match opened.recv_timeout(OPEN_WITHIN) {
            Ok(opened) => opened,
            Err(RecvTimeoutError::Timeout) => Err(Error::Silent {
                uri: uri.to_owned(),
                waited: OPEN_WITHIN,
            }),
            Err(RecvTimeoutError::Disconnected) => {
                unreachable!("the thread sends what it opened")
            }
        }
    }

    fn open_unbounded(uri: &str) -> Result<Connection> {
        let open = || -> Result<Open, Cause> {
            // Otherwise, libvirt also prints every error to stderr.
            virt::error::clear_error_callback();
            events::run_event_loop()?;
            let connect = Connect::open(Some(uri))?;
            let (interval, count) = KEEPALIVE;
            // Drivers without a server, such as `test`, do not support keepalive.
            let _ = connect.set_keep_alive(interval, count);
            let hub = Hub::default();
            let callbacks = hub.attach(&connect)?;
            let uri = uri.to_owned();
            Ok(Open {
                connect,
                uri,
                hub,
                callbacks,
            })
        };
        let open = open().map_err(|source| Error::Connect {
            uri: uri.to_owned(),
            source,
        })?;
        Ok(Connection(Arc::new(open)))
    }

    pub fn uri(&self) -> &str {
        &self.0.uri
    }

    pub(super) fn raw(&self) -> &Connect {
        &self.0.connect
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.0.hub
    }
}

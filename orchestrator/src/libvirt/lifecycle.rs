//! The lifecycle events of a connection's domains, for a listener.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::{Connection, LifecycleEvent};

/// The lifecycle events of all domains of a connection, from its creation until it is dropped.
#[derive(Debug)]
pub struct Lifecycle {
    events: Receiver<LifecycleEvent>,
    /// Keeps the connection open.
    _connection: Connection,
}

impl Lifecycle {
    /// Returns the next event; blocks for `timeout` at most.
    pub fn next(&self, timeout: Duration) -> Option<LifecycleEvent> {
        self.events.recv_timeout(timeout).ok()
    }
}

impl Connection {
    /// Starts listening. Must be called before the operation whose event is awaited.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle {
            events: self.hub().listen(),
            _connection: self.clone(),
        }
    }
}

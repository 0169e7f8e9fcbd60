//! libvirt's event loop, and the distribution of lifecycle events.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use virt::connect::Connect;
use virt_sys as sys;

use super::error::Cause;
use super::ffi;

/// A lifecycle event of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LifecycleEvent {
    pub domain: String,
    pub change: LifecycleChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LifecycleChange {
    Defined,
    Undefined,
    Started,
    Suspended,
    Resumed,
    /// The machine starts again, and its process stays.
    Restarted,
    /// The guest has shut down; its process is ending.
    ShuttingDown,
    Stopped(StopReason),
    /// The guest suspended itself.
    PmSuspended,
    Crashed,
    /// An event that pspd does not know.
    Other,
}

/// The reason why a domain stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    ShutDown,
    Destroyed,
    Crashed,
    Migrated,
    Saved,
    Failed,
    Other,
}

/// Distributes a connection's events to all listeners: libvirt accepts a callback only once per connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Hub(Arc<Mutex<Vec<Sender<LifecycleEvent>>>>);

impl Hub {
    /// Registers with libvirt; [`ffi::ignore_events`] with the returned ids ends it.
    pub(super) fn attach(&self, connect: &Connect) -> Result<Vec<i32>, virt::error::Error> {
        let hub = self.clone();
        let lifecycle = ffi::on_lifecycle(
            connect,
            Box::new(move |domain, event, detail| hub.tell(domain, change(event, detail))),
        )?;
        let hub = self.clone();
        let restart = ffi::on_restart(
            connect,
            Box::new(move |domain| hub.tell(domain, LifecycleChange::Restarted)),
        );
        // Drivers without a hypervisor, such as `test`, do not have this event.
        Ok([Some(lifecycle), restart.ok()]
            .into_iter()
            .flatten()
            .collect())
    }

    fn tell(&self, domain: &str, change: LifecycleChange) {
        let domain = domain.to_owned();
        self.send(&LifecycleEvent { domain, change });
    }

    pub(super) fn listen(&self) -> Receiver<LifecycleEvent> {
        let (sender, receiver) = channel();
        self.listeners().push(sender);
        receiver
    }

    /// Sends an event to all listeners, and removes dropped listeners.
    fn send(&self, event: &LifecycleEvent) {
        self.listeners()
            .retain(|listener| listener.send(event.clone()).is_ok());
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Sender<LifecycleEvent>>> {
        // The list of senders is valid even if a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change(event: u32, detail: u32) -> LifecycleChange {
    match event {
        sys::VIR_DOMAIN_EVENT_DEFINED => LifecycleChange::Defined,
        sys::VIR_DOMAIN_EVENT_UNDEFINED => LifecycleChange::Undefined,
        sys::VIR_DOMAIN_EVENT_STARTED => LifecycleChange::Started,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => LifecycleChange::Suspended,
        sys::VIR_DOMAIN_EVENT_RESUMED => LifecycleChange::Resumed,
        sys::VIR_DOMAIN_EVENT_STOPPED => LifecycleChange::Stopped(stop_reason(detail)),
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => LifecycleChange::ShuttingDown,
        sys::VIR_DOMAIN_EVENT_PMSUSPENDED => LifecycleChange::PmSuspended,
        sys::VIR_DOMAIN_EVENT_CRASHED => LifecycleChange::Crashed,
        _ => LifecycleChange::Other,
    }
}

fn stop_reason(detail: u32) -> StopReason {
    match detail {
        sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => StopReason::ShutDown,
        sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => StopReason::Destroyed,
        sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => StopReason::Crashed,
        sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => StopReason::Migrated,
        sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => StopReason::Saved,
        sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => StopReason::Failed,
        _ => StopReason::Other,
    }
}

/// Runs libvirt's event loop on a separate thread until the process ends.
///
/// Must be called before the first connection: an earlier connection has neither events nor keepalive.
pub(super) fn run_event_loop() -> Result<(), Cause> {
    static STARTED: OnceLock<Result<(), Cause>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            virt::event::event_register_default_impl()?;
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(event_loop)
                .map(drop)
                .map_err(|error| Cause {
                    code: sys::VIR_ERR_SYSTEM_ERROR,
                    message: format!("failed to start the event loop's thread: {error}"),
                })
        })
        .clone()
}

fn event_loop() {
    loop {
        // Fails only if polling descriptors fails. Other waits have their own deadlines.
        if virt::event::event_run_default_impl().is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

//! A domain that the deployment owns.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use virt::domain::Domain as VirtDomain;
use virt_sys as sys;

use super::error::Attempt;
use super::{Connection, DomainDescription, Error, LifecycleChange, Result};
use crate::cancelled::Cancelled;
use crate::spec::Size;

/// A guest that is still booting ignores the power button, so it is pressed repeatedly.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// The maximum delay until a cancelled wait ends.
const CANCEL_SLICE: Duration = Duration::from_millis(200);

/// A handle to an owned domain.
#[derive(Clone, Debug)]
pub struct Domain {
    domain: VirtDomain,
    connection: Connection,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainState {
    Running,
    Paused,
    ShuttingDown,
    Off,
    Crashed,
    Suspended,
    /// A state that pspd does not know.
    Unknown,
}

impl DomainState {
    /// Returns whether a process uses the domain's memory and disks.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::Off | DomainState::Crashed)
    }
}

/// The target of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Affect {
    /// Only the running domain.
    Live,
    /// The configuration of the next start.
    Config,
    Both,
}

/// The resources that a domain uses on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DomainStats {
    /// CPU time since the start.
    pub cpu_time: Duration,
    /// The memory that the guest has now.
    pub memory: Size,
    pub vcpus: u32,
    /// The resident memory of its process; `None` while it is off.
    pub resident: Option<Size>,
}

impl Domain {
    pub(super) fn new(domain: VirtDomain, connection: Connection, name: &str) -> Domain {
        let name = name.to_owned();
        Domain {
            domain,
            connection,
            name,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns libvirt's id while the domain is active.
    pub fn id(&self) -> Option<u32> {
        self.domain.id()
    }

    pub fn state(&self) -> Result<DomainState> {
        state_of(&self.domain).attempt(|| format!("read the state of domain `{}`", self.name))
    }

    /// Returns the configuration of the next start.
    pub fn config(&self) -> Result<DomainDescription> {
        self.describe(sys::VIR_DOMAIN_XML_INACTIVE)
    }

    /// Returns the current configuration if the domain is active.
    pub fn live(&self) -> Result<Option<DomainDescription>> {
        if !self.state()?.is_active() {
            return Ok(None);
        }
        self.describe(0).map(Some)
    }

    pub fn stats(&self) -> Result<DomainStats> {
        let info = self
            .domain
            .info()
            .attempt(|| format!("read the statistics of domain `{}`", self.name))?;
        // An error if the domain is off, or in drivers without this call.
        let memory = self.domain.memory_stats(0).unwrap_or_default();
        let resident = memory
            .iter()
            .find(|stat| stat.tag == sys::VIR_DOMAIN_MEMORY_STAT_RSS);
        Ok(DomainStats {
            cpu_time: Duration::from_nanos(info.cpu_time),
            memory: Size(info.memory << 10),
            vcpus: info.nr_virt_cpu,
            resident: resident.map(|stat| Size(stat.val << 10)),
        })
    }

    /// Starts it, from its saved state if there is one; does nothing if it is running.
    pub fn start(&self) -> Result<()> {
        self.unless_state(true, VirtDomain::create, "start")
    }

    /// Forces it off; does nothing if it is off.
    pub fn destroy(&self) -> Result<()> {
        self.unless_state(false, VirtDomain::destroy, "force off")
    }

    /// Presses the ACPI power button and waits until the domain is off.
    pub fn shutdown(&self, deadline: Duration, cancel: &CancellationToken) -> Result<()> {
        let events = self.connection.lifecycle();
        let began = Instant::now();
        let mut pressed: Option<Instant> = None;
        while self.state()?.is_active() {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled {
                    domain: self.name.clone(),
                    source: Cancelled::during("waiting for it to shut down"),
                });
            }
            if began.elapsed() >= deadline {
                return Err(Error::StillRunning {
                    domain: self.name.clone(),
                    waited: deadline,
                });
            }
            if pressed.is_none_or(|at| at.elapsed() >= PRESS_AGAIN) {
                self.unless_state(false, VirtDomain::shutdown, "shut down")?;
                pressed = Some(Instant::now());
            }
            self.await_stop(
                &events,
                CANCEL_SLICE.min(deadline - began.elapsed().min(deadline)),
            );
        }
        Ok(())
    }

    /// Saves its memory to the host's disk and stops it; the next start restores the saved state.
    pub fn save(&self) -> Result<()> {
        self.domain
            .managed_save(0)
            .attempt(|| format!("save domain `{}`", self.name))
    }

    pub fn has_saved_state(&self) -> Result<bool> {
        let attempt = || format!("look for a saved state of domain `{}`", self.name);
        self.domain.has_managed_save(0).attempt(attempt)
    }

    pub fn discard_saved_state(&self) -> Result<()> {
        if !self.has_saved_state()? {
            return Ok(());
        }
        let attempt = || format!("discard the saved state of domain `{}`", self.name);
        self.domain.managed_save_remove(0).attempt(attempt)
    }

    /// Removes its definition, NVRAM, saved state, and the metadata of snapshots and checkpoints.
    pub fn undefine(self) -> Result<()> {
        let common =
            sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        let all =
            common | sys::VIR_DOMAIN_UNDEFINE_NVRAM | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
        let unsupported =
            |error: &virt::error::Error| error.code().to_raw() == sys::VIR_ERR_INVALID_ARG;
        self.domain
            .undefine_flags(all)
            // Drivers without NVRAM and checkpoints reject the flags to remove them.
            .or_else(|error| {
                if unsupported(&error) {
                    self.domain.undefine_flags(common)
                } else {
                    Err(error)
                }
            })
            .attempt(|| format!("undefine domain `{}`", self.name))
    }

    /// Changes the current memory; the maximum is fixed in the definition.
    pub fn set_memory(&self, current: Size, affect: Affect) -> Result<()> {
        self.domain
            .set_memory_flags(current.0.div_ceil(1024), affect.flags())
            .attempt(|| format!("set the memory of domain `{}` to {current}", self.name))
            .map(drop)
    }

    /// Changes the number of virtual CPUs; the maximum is fixed in the definition.
    pub fn set_vcpus(&self, current: u32, affect: Affect) -> Result<()> {
        self.domain
            .set_vcpus_flags(current, affect.flags())
            .attempt(|| {
                format!(
                    "set the virtual CPUs of domain `{}` to {current}",
                    self.name
                )
            })
            .map(drop)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn raw(&self) -> &VirtDomain {
        &self.domain
    }

    /// Calls `act` unless the domain already has the wanted state. An error is ignored if the domain reached that state
    /// meanwhile.
    fn unless_state<T>(
        &self,
        active: bool,
        act: impl Fn(&VirtDomain) -> Result<T, virt::error::Error>,
        verb: &str,
    ) -> Result<()> {
        let reached = || Ok::<_, Error>(self.state()?.is_active() == active);
        if reached()? {
            return Ok(());
        }
        match act(&self.domain).attempt(|| format!("{verb} domain `{}`", self.name)) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(sys::VIR_ERR_OPERATION_INVALID) && reached()? => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns when the domain stops, or after `timeout`.
    fn await_stop(&self, events: &super::Lifecycle, timeout: Duration) {
        let until = Instant::now() + timeout;
        while let Some(event) = events.next(until.saturating_duration_since(Instant::now())) {
            let stopped = matches!(event.change, LifecycleChange::Stopped(_));
            if stopped && event.domain == self.name {
                return;
            }
        }
    }

    fn describe(&self, flags: sys::virDomainXMLFlags) -> Result<DomainDescription> {
        let attempt = || format!("read the definition of domain `{}`", self.name);
        let xml = self.domain.xml_desc(flags).attempt(attempt)?;
        DomainDescription::read(&xml).map_err(|source| Error::Report {
            subject: format!("domain `{}`", self.name),
            source,
        })
    }
}

impl Affect {
    fn flags(self) -> u32 {
        match self {
            Affect::Live => sys::VIR_DOMAIN_AFFECT_LIVE,
            Affect::Config => sys::VIR_DOMAIN_AFFECT_CONFIG,
            Affect::Both => sys::VIR_DOMAIN_AFFECT_LIVE | sys::VIR_DOMAIN_AFFECT_CONFIG,
        }
    }
}

/// Reads the state with `virDomainGetInfo`: `virt` hides a failure of `virDomainGetState`.
pub(super) fn state_of(domain: &VirtDomain) -> Result<DomainState, virt::error::Error> {
    Ok(match domain.info()?.state.to_raw() {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED => DomainState::Running,
        sys::VIR_DOMAIN_PAUSED => DomainState::Paused,
        sys::VIR_DOMAIN_SHUTDOWN => DomainState::ShuttingDown,
        sys::VIR_DOMAIN_SHUTOFF => DomainState::Off,
        sys::VIR_DOMAIN_CRASHED => DomainState::Crashed,
        sys::VIR_DOMAIN_PMSUSPENDED => DomainState::Suspended,
        _ => DomainState::Unknown,
    })
}

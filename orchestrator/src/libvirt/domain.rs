//! One domain that the deployment owns.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use virt::domain::Domain as VirtDomain;
use virt_sys as sys;

use super::error::Attempt;
use super::{Connection, DomainDescription, Error, LifecycleChange, Result};
use crate::cancelled::Cancelled;
use crate::spec::Size;

/// A guest that is not up yet, or whose first press came too early, ignores the power button: press it again.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// How soon a cancelled wait ends.
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
    /// One that this libvirt has and pspd does not know.
    Unknown,
}

impl DomainState {
    /// Whether a process holds the domain's memory and disks.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::Off | DomainState::Crashed)
    }
}

/// What a change is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Affect {
    /// The running domain alone.
    Live,
    /// What the next start takes.
    Config,
    Both,
}

/// What a domain takes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DomainStats {
    /// Since it was started.
    pub cpu_time: Duration,
    /// What the guest has now.
    pub memory: Size,
    pub vcpus: u32,
    /// What its process takes; known while it is active.
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

    /// libvirt's number of it while it is active.
    pub fn id(&self) -> Option<u32> {
        self.domain.id()
    }

    pub fn state(&self) -> Result<DomainState> {
        state_of(&self.domain).attempt(|| format!("read the state of domain `{}`", self.name))
    }

    /// What the next start takes.
    pub fn config(&self) -> Result<DomainDescription> {
        self.describe(sys::VIR_DOMAIN_XML_INACTIVE)
    }

    /// What runs now.
    pub fn live(&self) -> Result<Option<DomainDescription>> {
        match self.state()?.is_active() {
            true => self.describe(0).map(Some),
            false => Ok(None),
        }
    }

    pub fn stats(&self) -> Result<DomainStats> {
        let info = self
            .domain
            .info()
            .attempt(|| format!("read the statistics of domain `{}`", self.name))?;
        // Refused where the domain is off, or by drivers that know no such thing.
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

    /// Starts it, from its saved state if there is one; one that runs goes on.
    pub fn start(&self) -> Result<()> {
        self.unless_state(true, VirtDomain::create, "start")
    }

    /// Cuts its power; one that is off stays so.
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
                    source: Cancelled::during("it shut down"),
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

    /// Writes its memory to the host's disk and ends it; the next start goes on from there.
    pub fn save(&self) -> Result<()> {
        self.domain
            .managed_save(0)
            .attempt(|| format!("save domain `{}`", self.name))
    }

    pub fn has_saved_state(&self) -> Result<bool> {
        let attempt = || format!("ask for the saved state of domain `{}`", self.name);
        self.domain.has_managed_save(0).attempt(attempt)
    }

    pub fn discard_saved_state(&self) -> Result<()> {
        if !self.has_saved_state()? {
            return Ok(());
        }
        let attempt = || format!("discard the saved state of domain `{}`", self.name);
        self.domain.managed_save_remove(0).attempt(attempt)
    }

    /// Removes its definition, with its NVRAM, its saved state and the metadata of snapshots and checkpoints.
    pub fn undefine(self) -> Result<()> {
        let everywhere =
            sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        let everything = everywhere
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
        let refused =
            |error: &virt::error::Error| error.code().to_raw() == sys::VIR_ERR_INVALID_ARG;
        self.domain
            .undefine_flags(everything)
            // Drivers without NVRAM and checkpoints refuse to be asked to remove them.
            .or_else(|error| match refused(&error) {
                true => self.domain.undefine_flags(everywhere),
                false => Err(error),
            })
            .attempt(|| format!("undefine domain `{}`", self.name))
    }

    /// Changes what the guest has; its maximum is the definition's.
    pub fn set_memory(&self, current: Size, affect: Affect) -> Result<()> {
        self.domain
            .set_memory_flags(current.0.div_ceil(1024), affect.flags())
            .attempt(|| format!("give {current} of memory to domain `{}`", self.name))
            .map(drop)
    }

    /// Changes how many virtual CPUs the guest has; their maximum is the definition's.
    pub fn set_vcpus(&self, current: u32, affect: Affect) -> Result<()> {
        self.domain
            .set_vcpus_flags(current, affect.flags())
            .attempt(|| format!("give {current} virtual CPUs to domain `{}`", self.name))
            .map(drop)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn raw(&self) -> &VirtDomain {
        &self.domain
    }

    /// Acts unless the domain is as wanted, also where it became so meanwhile.
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
        let attempt = || format!("describe domain `{}`", self.name);
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

/// The state by `virDomainGetInfo`: `virt` hides a failure of `virDomainGetState`.
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

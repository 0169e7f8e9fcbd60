//! A domain that the deployment owns.

use std::time::{Duration, Instant};

use pspd_model::definition::{Affect, Interface};
use pspd_model::observed::{Crash, Pause, Power};
use pspd_model::plan::Link;
use pspd_model::spec::Size;
use tokio_util::sync::CancellationToken;
use virt::domain::Domain as VirtDomain;
use virt_sys as sys;

use super::error::{Attempt, unless_gone};
use super::xml::Element;
use super::{Connection, DomainDescription, Error, LifecycleChange, Result, ffi, process, render};
use crate::cancelled::Cancelled;

/// A guest that is still booting ignores the power button, so it is pressed repeatedly.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// The firmware passes control to the guest's kernel at once.
const WAKE: Duration = Duration::from_secs(30);
/// QEMU reports at most one error of a disk per second. libvirt takes one that comes after `resume` for a new pause, and shows
/// the guest as paused although it runs.
const LATE_ERROR: Duration = Duration::from_millis(1500);
/// Writing the memory of a large guest to a slow disk takes minutes. What needs longer is met as it is.
const JOB: Duration = Duration::from_secs(300);
/// The maximum delay until a cancelled wait ends.
const CANCEL_SLICE: Duration = Duration::from_millis(200);

/// A handle to an owned domain.
#[derive(Clone, Debug)]
pub struct Domain {
    domain: VirtDomain,
    connection: Connection,
    name: String,
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

    /// A domain that no longer exists is off.
    pub fn power(&self) -> Result<Power> {
        let power = unless_gone(power_of(&self.domain));
        let power = power.attempt(|| format!("read the state of domain `{}`", self.name))?;
        Ok(power.unwrap_or(Power::Off))
    }

    /// Whether it has a definition beside its process.
    pub fn is_persistent(&self) -> Result<bool> {
        let attempt = || format!("read whether domain `{}` is defined", self.name);
        self.domain.is_persistent().attempt(attempt)
    }

    /// Whether libvirt starts it with the host.
    pub fn autostart(&self) -> Result<bool> {
        let attempt = || format!("read whether domain `{}` starts with the host", self.name);
        self.domain.autostart().attempt(attempt)
    }

    pub fn set_autostart(&self, autostart: bool) -> Result<()> {
        let attempt = || format!("change whether domain `{}` starts with the host", self.name);
        self.domain.set_autostart(autostart).attempt(attempt)
    }

    /// Returns the configuration of the next start.
    pub fn config(&self) -> Result<DomainDescription> {
        self.describe(sys::VIR_DOMAIN_XML_INACTIVE)
    }

    /// Returns the current configuration if the domain is active.
    pub fn live(&self) -> Result<Option<DomainDescription>> {
        if self.power()?.has_process() {
            self.describe(0).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Starts it, from its saved state if there is one; does nothing if it is running.
    pub fn start(&self) -> Result<()> {
        self.forget_backing()?;
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
        loop {
            match self.power()? {
                power if !power.has_process() => return Ok(()),
                power @ (Power::Crashed(_) | Power::Paused(Pause::IoError | Pause::Process(_))) => {
                    return Err(Error::Unresponsive {
                        domain: self.name.clone(),
                        detail: power.detail().unwrap_or_default(),
                    });
                }
                _ => {}
            }
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
    }

    /// Presses the ACPI power button of a machine that starts again once its guest is off, and waits until it does.
    pub fn reboot(&self, deadline: Duration, cancel: &CancellationToken) -> Result<()> {
        let events = self.connection.lifecycle();
        let attempt = || format!("restart domain `{}`", self.name);
        let began = Instant::now();
        let mut pressed: Option<Instant> = None;
        loop {
            let power = self.power()?;
            if power != Power::Running {
                return Err(Error::Unresponsive {
                    domain: self.name.clone(),
                    detail: power.detail().unwrap_or_else(|| power.word().into()),
                });
            }
            if cancel.is_cancelled() {
                return Err(Error::Cancelled {
                    domain: self.name.clone(),
                    source: Cancelled::during("waiting for it to restart"),
                });
            }
            let left = deadline.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(Error::StillRunning {
                    domain: self.name.clone(),
                    waited: deadline,
                });
            }
            if pressed.is_none_or(|at| at.elapsed() >= PRESS_AGAIN) {
                self.domain
                    .reboot(sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
                    .attempt(attempt)?;
                pressed = Some(Instant::now());
            }
            if self.await_restart(&events, CANCEL_SLICE.min(left)) {
                return Ok(());
            }
        }
    }

    /// Pauses its virtual CPUs; fails if it is not running.
    pub fn suspend(&self) -> Result<()> {
        let attempt = || format!("pause domain `{}`", self.name);
        self.domain.suspend().map(drop).attempt(attempt)
    }

    /// Lets the virtual CPUs of a restored domain run.
    pub fn proceed(&self) -> Result<()> {
        let attempt = || format!("resume domain `{}`", self.name);
        self.domain.resume().map(drop).attempt(attempt)
    }

    /// Resumes its virtual CPUs. If a disk's error paused it, waits first until libvirt has heard of all its errors.
    pub fn resume(&self) -> Result<()> {
        if matches!(
            self.power()?,
            Power::Paused(Pause::IoError | Pause::Libvirt)
        ) {
            std::thread::sleep(LATE_ERROR);
        }
        self.proceed()
    }

    /// Wakes a guest that suspended itself to memory; has no effect in other states.
    pub fn wake(&self) -> Result<()> {
        if self.power()? != Power::Suspended {
            return Ok(());
        }
        let attempt = || format!("wake domain `{}`", self.name);
        self.domain.pm_wakeup(0).attempt(attempt)?;
        let began = Instant::now();
        while self.power()? == Power::Suspended {
            if began.elapsed() >= WAKE {
                return Err(Error::StillSuspended {
                    domain: self.name.clone(),
                    waited: WAKE,
                });
            }
            std::thread::sleep(CANCEL_SLICE);
        }
        Ok(())
    }

    /// Waits for a job that another process asked for and did not live to see the end of, such as a snapshot.
    pub fn await_job(&self) -> Result<()> {
        let attempt = || format!("read what job domain `{}` has", self.name);
        let began = Instant::now();
        // A domain that is off has none.
        while self.power()?.has_process() {
            let job = unless_gone(self.domain.job_info()).attempt(attempt)?;
            let busy = job.is_some_and(|job| job.r#type != sys::VIR_DOMAIN_JOB_NONE as i32);
            if !busy || began.elapsed() >= JOB {
                break;
            }
            std::thread::sleep(CANCEL_SLICE);
        }
        Ok(())
    }

    /// Discards the saved state of a managed save, if there is one.
    pub fn discard_saved_state(&self) -> Result<()> {
        if self.power()? != Power::Saved {
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
        let undefined = self
            .domain
            .undefine_flags(all)
            // Drivers without NVRAM and checkpoints reject the flags to remove them.
            .or_else(|error| {
                if unsupported(&error) {
                    self.domain.undefine_flags(common)
                } else {
                    Err(error)
                }
            });
        let undefined = unless_gone(undefined.map(drop));
        undefined
            .map(drop)
            .attempt(|| format!("undefine domain `{}`", self.name))
    }

    /// Changes the current memory; the maximum is fixed in the definition.
    pub fn set_memory(&self, current: Size, affect: Affect) -> Result<()> {
        self.domain
            .set_memory_flags(current.0.div_ceil(1024), flags(affect))
            .attempt(|| format!("give {current} of memory to domain `{}`", self.name))
            .map(drop)
    }

    /// Changes the number of virtual CPUs of the next start; the maximum is fixed in the definition.
    pub fn set_vcpus(&self, current: u32) -> Result<()> {
        self.domain
            .set_vcpus_flags(current, flags(Affect::Config))
            .attempt(|| format!("give {current} virtual CPUs to domain `{}`", self.name))
            .map(drop)
    }

    /// Takes the carrier from the running domain's network card, or gives it back; its next start has one.
    pub fn set_link(&self, interface: &Interface, link: Link) -> Result<()> {
        let state = match link {
            Link::Up => "up",
            Link::Down => "down",
        };
        let state = Element::new("link").attribute("state", state);
        let xml = render::interface(interface).child(state).to_xml();
        self.domain
            .update_device_flags(&xml, sys::VIR_DOMAIN_AFFECT_LIVE)
            .attempt(|| format!("set the network link of domain `{}`", self.name))
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
        let reached = || Ok::<_, Error>(self.power()?.has_process() == active);
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

    /// Returns whether the machine starts again within `timeout`.
    fn await_restart(&self, events: &super::Lifecycle, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        while let Some(event) = events.next(until.saturating_duration_since(Instant::now())) {
            if event.domain == self.name && event.change == LifecycleChange::Restarted {
                return true;
            }
        }
        false
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

fn flags(affect: Affect) -> u32 {
    match affect {
        Affect::Config => sys::VIR_DOMAIN_AFFECT_CONFIG,
        Affect::Both => sys::VIR_DOMAIN_AFFECT_LIVE | sys::VIR_DOMAIN_AFFECT_CONFIG,
    }
}

/// State and reason as one value. A domain that shuts down still runs.
pub(super) fn power_of(domain: &VirtDomain) -> Result<Power, virt::error::Error> {
    let (state, reason) = ffi::state(domain)?;
    Ok(match state {
        sys::VIR_DOMAIN_PAUSED => match reason {
            sys::VIR_DOMAIN_PAUSED_USER => Power::Paused(Pause::User),
            sys::VIR_DOMAIN_PAUSED_IOERROR => Power::Paused(Pause::IoError),
            sys::VIR_DOMAIN_PAUSED_CRASHED => Power::Crashed(Crash::Guest),
            // QEMU reports at most one error per second, so that of a second pause may be missing. A domain that ends
            // meanwhile has no disks to ask for.
            sys::VIR_DOMAIN_PAUSED_UNKNOWN if ffi::has_disk_error(domain).unwrap_or(false) => {
                Power::Paused(Pause::IoError)
            }
            _ => Power::Paused(Pause::Libvirt),
        },
        sys::VIR_DOMAIN_CRASHED => Power::Crashed(Crash::Guest),
        sys::VIR_DOMAIN_PMSUSPENDED => Power::Suspended,
        sys::VIR_DOMAIN_SHUTOFF if domain.has_managed_save(0)? => Power::Saved,
        sys::VIR_DOMAIN_SHUTOFF => match reason {
            sys::VIR_DOMAIN_SHUTOFF_CRASHED | sys::VIR_DOMAIN_SHUTOFF_FAILED => {
                Power::Crashed(Crash::Process)
            }
            sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN => Power::ShutDown,
            _ => Power::Off,
        },
        _ => process::stopped(&domain.uuid_string()?)
            .map_or(Power::Running, |pid| Power::Paused(Pause::Process(pid))),
    })
}

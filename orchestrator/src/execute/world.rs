//! What the steps of one run share: the spec, the handles that steps open, and the events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use pspd_lab::{Lab, Relay};
use pspd_model::definition::Accelerator;
use pspd_model::spec::{self, Name, Spec};
use tokio_util::sync::CancellationToken;

use super::boots::most_emulated;
use super::taken::Taken;
use crate::accel;
use crate::archive::{Opened, Packed};
use crate::boot::Watch;
use crate::event::{Events, Scope};
use crate::guest::{Guest, Release};
use crate::identity::Identity;
use crate::image::{self, GuestImage};
use crate::libvirt::Connection;
use crate::observe::Host;
use crate::placement::Placement;
use crate::reach::Reach;
use crate::state::Home;

pub struct World {
    pub spec: Spec,
    pub home: Home,
    pub cache: PathBuf,
    pub events: Events,
    pub cancel: CancellationToken,
    pub(super) runtime: tokio::runtime::Handle,
    identity: Mutex<Option<Arc<Identity>>>,
    lab: Mutex<Option<Lab>>,
    relay: Mutex<Option<Relay>>,
    connection: Mutex<Option<Connection>>,
    images: Mutex<BTreeMap<String, GuestImage>>,
    accelerator: Mutex<Option<Accelerator>>,
    guests: Mutex<BTreeMap<Name, Arc<Guest>>>,
    releases: Mutex<BTreeMap<Name, Arc<Release>>>,
    restarted: Mutex<BTreeSet<Name>>,
    watches: Mutex<BTreeMap<Name, Watch>>,
    packed: Mutex<Option<Packed>>,
    taken: Mutex<BTreeMap<Name, Taken>>,
    arrival: Option<Arrival>,
}

/// An archive that is being imported.
struct Arrival {
    placement: Arc<Placement>,
    /// Its files, which are read once.
    opened: Mutex<Option<Opened>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A step that panicked has ended the run; the handles are still valid.
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl World {
    /// Must be called on the runtime that will execute the plan.
    pub fn new(
        host: Host,
        spec: Spec,
        events: Events,
        cancel: CancellationToken,
    ) -> anyhow::Result<World> {
        Ok(World {
            spec,
            home: host.home,
            cache: host.cache,
            events,
            cancel,
            runtime: tokio::runtime::Handle::current(),
            identity: Mutex::default(),
            lab: Mutex::new(host.lab),
            relay: Mutex::new(host.relay),
            connection: Mutex::new(host.connection),
            images: Mutex::default(),
            accelerator: Mutex::default(),
            guests: Mutex::default(),
            releases: Mutex::default(),
            restarted: Mutex::default(),
            watches: Mutex::default(),
            packed: Mutex::default(),
            taken: Mutex::default(),
            arrival: None,
        })
    }

    /// The world of an import, whose archive is open and whose manifest was checked.
    pub fn importing(mut self, opened: Opened, placement: Arc<Placement>) -> World {
        self.arrival = Some(Arrival {
            placement,
            opened: Mutex::new(Some(opened)),
        });
        self
    }

    /// Keeps what a snapshot has of a domain, until all of it is recorded.
    pub(super) fn keep_taken(&self, domain: &Name, taken: Taken) {
        locked(&self.taken).insert(domain.clone(), taken);
    }

    pub(super) fn take_taken(&self) -> BTreeMap<Name, Taken> {
        std::mem::take(&mut *locked(&self.taken))
    }

    pub(super) fn placement(&self) -> anyhow::Result<&Placement> {
        let arrival = self.arrival.as_ref().context("no archive is open")?;
        Ok(&arrival.placement)
    }

    /// The open archive; there is one only once.
    pub(super) fn take_opened(&self) -> anyhow::Result<Opened> {
        let arrival = self.arrival.as_ref();
        arrival
            .and_then(|arrival| locked(&arrival.opened).take())
            .context("no archive is open")
    }

    /// The deployment's keys, which exist or which an earlier step created.
    pub(super) fn identity(&self) -> anyhow::Result<Arc<Identity>> {
        let mut identity = locked(&self.identity);
        if let Some(identity) = &*identity {
            return Ok(Arc::clone(identity));
        }
        let loaded = Identity::load(&self.home.keys())?.context("the deployment has no keys")?;
        Ok(Arc::clone(identity.insert(Arc::new(loaded))))
    }

    /// For a step that changed keys: they are read again, and so are the releases that carry them.
    pub(super) fn forget_identity(&self) {
        *locked(&self.identity) = None;
        locked(&self.releases).clear();
    }

    pub(super) fn lab(&self) -> anyhow::Result<Lab> {
        locked(&self.lab)
            .clone()
            .ok_or_else(|| anyhow!("the lab is not running"))
    }

    pub(super) fn set_lab(&self, lab: Option<Lab>) -> anyhow::Result<()> {
        let connection = lab
            .as_ref()
            .map(|lab| Connection::open(&lab.libvirt_uri()))
            .transpose()?;
        *locked(&self.connection) = connection;
        *locked(&self.relay) = lab.as_ref().map(|lab| lab.relay().clone());
        *locked(&self.lab) = lab;
        Ok(())
    }

    /// What publishes ports: the lab's supervisor, or for a URI's domains one that does only that.
    pub(super) fn relay(&self) -> anyhow::Result<Relay> {
        let mut relay = locked(&self.relay);
        if let Some(relay) = &*relay {
            return Ok(relay.clone());
        }
        let started = match self.spec.connection {
            spec::Connection::Lab => self.lab()?.relay().clone(),
            spec::Connection::Uri(_) => Relay::start(&self.home.lab())?,
        };
        *relay = Some(started.clone());
        Ok(started)
    }

    pub(super) fn connection(&self) -> anyhow::Result<Connection> {
        locked(&self.connection)
            .clone()
            .ok_or_else(|| anyhow!("not connected to libvirt: the lab is not running"))
    }

    pub(super) fn reach(&self) -> anyhow::Result<Reach> {
        match self.spec.connection {
            spec::Connection::Lab => Ok(Reach::Lab(self.lab()?)),
            spec::Connection::Uri(_) => Ok(Reach::Direct),
        }
    }

    /// The image, which an earlier step has put into the cache.
    pub(super) fn image(&self, name: &str, scope: &Scope) -> anyhow::Result<GuestImage> {
        let mut images = locked(&self.images);
        if let Some(image) = images.get(name) {
            return Ok(image.clone());
        }
        let spec = self
            .spec
            .images
            .get(name)
            .with_context(|| format!("the topology has no image `{name}`"))?;
        let image = image::ensure(&self.cache, spec, scope, &self.cancel)
            .with_context(|| format!("failed to get the image `{name}`"))?;
        images.insert(name.to_owned(), image.clone());
        Ok(image)
    }

    /// KVM or TCG, decided once and reported once.
    pub(super) fn accelerator(
        &self,
        accel: spec::Accel,
        image: &GuestImage,
    ) -> anyhow::Result<Accelerator> {
        // Held while KVM is proven: domains that are defined side by side want one proof.
        let mut accelerator = locked(&self.accelerator);
        if let Some(accelerator) = *accelerator {
            return Ok(accelerator);
        }
        let proof = accel::decide(accel, &self.cache, image.kernel.as_ref())?;
        if accel == spec::Accel::Auto {
            self.events.note(proof.reason);
        }
        Ok(*accelerator.insert(proof.accelerator))
    }

    /// A deadline for what takes so long natively. Emulated guests, and those whose accelerator this run did not
    /// need to know, get six times as long.
    pub(super) fn patience(&self, native: Duration) -> Duration {
        match *locked(&self.accelerator) {
            Some(Accelerator::Kvm) => native,
            _ => native * 6,
        }
    }

    /// How many guests may boot at a time. Does not block while KVM is proven.
    pub(super) fn most_boots(&self) -> usize {
        match self.accelerator.try_lock().as_deref() {
            Ok(Some(Accelerator::Kvm)) => usize::MAX,
            _ => most_emulated(),
        }
    }

    /// Follows a boot that is about to begin, until its guest is reached.
    pub(super) fn watch_boot(&self, domain: &Name) -> anyhow::Result<()> {
        crate::state::remove_if_there(&self.home.firmware_log(domain))?;
        self.watch_restart(domain)
    }

    /// The same for a process that stays, with its logs.
    pub(super) fn watch_restart(&self, domain: &Name) -> anyhow::Result<()> {
        let (serial, debug) = (
            self.home.console_log(domain),
            self.home.firmware_log(domain),
        );
        let watch = Watch::begin(&serial, &debug)?;
        locked(&self.watches).insert(domain.clone(), watch);
        Ok(())
    }

    /// The boot that this run began, if it did; it is no longer followed.
    pub(super) fn take_watch(&self, domain: &Name) -> Option<Watch> {
        locked(&self.watches).remove(domain)
    }

    pub(super) fn set_packed(&self, packed: Packed) {
        *locked(&self.packed) = Some(packed);
    }

    /// The archive that this run wrote, if it did.
    pub(super) fn packed(&self) -> Option<Packed> {
        *locked(&self.packed)
    }

    pub(super) fn guest(&self, domain: &Name) -> anyhow::Result<Arc<Guest>> {
        locked(&self.guests)
            .get(domain)
            .cloned()
            .ok_or_else(|| anyhow!("`{domain}` was not reached by SSH"))
    }

    pub(super) fn set_guest(&self, domain: &Name, guest: Guest) {
        locked(&self.guests).insert(domain.clone(), Arc::new(guest));
    }

    pub(super) fn note_restarted(&self, domain: &Name) {
        locked(&self.restarted).insert(domain.clone());
    }

    /// Whether this run started the domain's service again.
    pub(super) fn was_restarted(&self, domain: &Name) -> bool {
        locked(&self.restarted).contains(domain)
    }

    pub(super) fn release(&self, domain: &Name) -> anyhow::Result<Arc<Release>> {
        if let Some(release) = locked(&self.releases).get(domain) {
            return Ok(Arc::clone(release));
        }
        let release = Release::assemble(&self.spec, domain, &*self.identity()?, &self.cancel)?
            .with_context(|| format!("`{domain}` has no service"))?;
        let release = Arc::new(release);
        locked(&self.releases).insert(domain.clone(), Arc::clone(&release));
        Ok(release)
    }
}

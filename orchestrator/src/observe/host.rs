//! Reads the host: lab, libvirt, disks, records, and asks services for their health.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use pspd_lab::{Lab, Relay};
use pspd_model::definition::Ownership;
use pspd_model::harm::Throttle;
use pspd_model::hint::Hinted;
use pspd_model::observed::{
    CacheState, CertificateOwner, Defined, FrontState, ImageState, LabState, Live, NetworkState,
    Observed, Power, ServiceState,
};
use pspd_model::spec::{self, Digest, Name, Spec};
use tokio_util::sync::CancellationToken;

use super::in_use::roms;
use super::{attached, disks};
use crate::accel;
use crate::cuts;
use crate::disk;
use crate::dns;
use crate::firmware::coreboot;
use crate::guest::Release;
use crate::health::{self, Health};
use crate::hint::told;
use crate::identity::{self, Identity};
use crate::image;
use crate::libvirt::{self, Connection, DomainDescription};
use crate::reach::Reach;
use crate::state::{Home, Paths};

/// A healthy service answers in milliseconds; in an emulated guest that is busy, with a TLS handshake, in seconds.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(15);

/// For a libvirtd that is being started again.
const DAEMON: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);

/// How much of a deployment is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What exists on the host. Reads no file that the topology names, and no key.
    Existing,
    /// Also what the topology asks for: images, firmware, releases and keys, and whether services are healthy.
    Complete,
}

/// The handles through which a deployment's host is seen; `None` for what does not run (yet).
#[derive(Clone, Debug)]
pub struct Host {
    pub home: Home,
    pub cache: std::path::PathBuf,
    pub lab: Option<Lab>,
    /// What publishes ports: the lab's supervisor, or for a URI's domains one of its own.
    pub relay: Option<Relay>,
    pub connection: Option<Connection>,
}

impl Host {
    /// Takes what runs; starts nothing. A deployment that is up on another connection than the spec's is an error.
    pub async fn attach(paths: &Paths, spec: &Spec) -> anyhow::Result<Host> {
        let (paths, spec) = (paths.clone(), spec.clone());
        tokio::task::spawn_blocking(move || Host::attach_blocking(&paths, &spec)).await?
    }

    /// [`Host::attach`], which blocks until libvirt answers.
    pub fn attach_blocking(paths: &Paths, spec: &Spec) -> anyhow::Result<Host> {
        let home = paths.deployment(&spec.name);
        home.refuse_foreign()?;
        refuse_elsewhere(&home, spec)?;
        let (lab, connection) = match &spec.connection {
            spec::Connection::Lab => {
                let lab = Lab::running(&home.lab())?;
                let connection = lab.as_ref().map(open).transpose()?;
                (lab, connection)
            }
            spec::Connection::Uri(uri) => (None, Some(Connection::open(uri)?)),
        };
        let relay = Relay::running(&home.lab())?;
        Ok(Host {
            home,
            cache: paths.cache.clone(),
            lab,
            relay,
            connection,
        })
    }

    /// The handles of a deployment of which nothing exists yet.
    pub fn of_nothing(paths: &Paths, spec: &Spec) -> Host {
        Host {
            home: paths.deployment(&spec.name),
            cache: paths.cache.clone(),
            lab: None,
            relay: None,
            connection: None,
        }
    }

    /// Whether the DNS and DHCP server of the deployment's active network answers. Blocks.
    pub fn dns_answers(&self, spec: &Spec) -> bool {
        self.reach(spec)
            .is_some_and(|reach| dns::answers(&reach, spec))
    }

    /// How guests are reached, if anything runs that could have any.
    pub fn reach(&self, spec: &Spec) -> Option<Reach> {
        match &spec.connection {
            spec::Connection::Lab => self.lab.clone().map(Reach::Lab),
            spec::Connection::Uri(_) => Some(Reach::Direct),
        }
    }
}

fn refuse_elsewhere(home: &Home, spec: &Spec) -> anyhow::Result<()> {
    // A record that cannot be read says nothing, and `up` rewrites it.
    let Some(before) = home.recorded_spec().ok().flatten() else {
        return Ok(());
    };
    ensure!(
        before.connection == spec.connection || disks::system(&home.disks())?.is_empty(),
        Hinted::new(
            format!(
                "`{}` is up on `{}`, and the topology names another connection",
                spec.name, before.connection
            ),
            "Run `pspd down` first",
        )
    );
    Ok(())
}

/// Connects to a lab's libvirtd, which its supervisor starts again within a second should it have ended.
fn open(lab: &Lab) -> anyhow::Result<Connection> {
    let began = Instant::now();
    loop {
        match Connection::open(&lab.libvirt_uri()) {
            Err(error @ libvirt::Error::Silent { .. }) => {
                let fault = lab.libvirtd_fault();
                return Err(match fault {
                    Some(fault) => {
                        Hinted::new(format!("{error}: {fault}"), fault.hint().to_owned()).into()
                    }
                    None => error.into(),
                });
            }
            Err(_) if began.elapsed() < DAEMON => std::thread::sleep(RETRY),
            opened => return Ok(opened?),
        }
    }
}

/// Observes what planning `spec` looks at.
pub async fn observe(host: &Host, spec: &Spec, extent: Extent) -> anyhow::Result<Observed> {
    let mut observed = {
        let (host, spec) = (host.clone(), spec.clone());
        tokio::task::spawn_blocking(move || -> anyhow::Result<Observed> {
            let mut observed = existing(&host, &spec)?;
            if extent == Extent::Complete {
                wanted(&host, &spec, &mut observed)?;
            }
            Ok(observed)
        })
        .await??
    };
    if extent == Extent::Existing {
        return Ok(observed);
    }
    let running: Vec<&Name> = spec
        .domains
        .values()
        .filter(|domain| domain.service.is_some())
        .map(|domain| &domain.name)
        // A paused guest answers nothing, and would be waited for.
        .filter(|name| observed.domains[*name].power == Power::Running)
        .collect();
    for (name, health) in healths(host, spec, &running).await? {
        let domain = observed.domains.get_mut(&name);
        if let Some(service) = domain.and_then(|domain| domain.service.as_mut()) {
            service.serving = health == Health::Serving;
        }
    }
    Ok(observed)
}

/// What exists on the host of the deployment, by whatever spec.
fn existing(host: &Host, spec: &Spec) -> anyhow::Result<Observed> {
    let before = host.home.spec_of_old_volumes();
    let volumes = disks::volumes(&host.home.volumes(), before.as_ref())?;
    let mut observed = Observed {
        lab: lab_state(host, spec),
        volumes: volumes.named,
        old_volumes: volumes.old,
        clock: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        snapshots: host.home.snapshot_names()?,
        ..Observed::default()
    };
    for name in spec.domains.keys() {
        observed.domains.entry(name.clone()).or_default();
    }
    for (name, disk) in disks::system(&host.home.disks())? {
        // A file of another name is none of a domain's.
        if let Ok(name) = Name::new(&name) {
            observed.domains.entry(name).or_default().disk = Some(disk);
        }
    }
    for name in disk::domains_with_overlays(&host.home, spec)? {
        observed.domains.entry(name).or_default().unmerged = true;
    }
    for name in host.home.domains_with_memory()? {
        observed.domains.entry(name).or_default();
    }
    for (name, domain) in &mut observed.domains {
        domain.shaping = host.home.guest_record(name)?;
        domain.disturbed = host.home.guest_record(name)?;
    }
    observed.relay = host.relay.is_some() && observed.lab == LabState::Unused;
    if let Some(relay) = &host.relay {
        observed.published = relay.published()?.into_iter().collect();
        observed.fronts = fronts(relay)?;
    }
    if let Some(lab) = &host.lab {
        observed.cuts = cuts::read(lab)?;
    }
    if let Some(connection) = &host.connection {
        networks(connection, spec, &mut observed)?;
        domains(connection, &host.home, spec, &mut observed)?;
    }
    memory(&host.home, &mut observed)?;
    Ok(observed)
}

fn fronts(relay: &Relay) -> anyhow::Result<BTreeMap<SocketAddr, FrontState>> {
    let fronts = relay.fronts()?.into_iter().map(|front| {
        let certificate = front.settings.certificate;
        let state = FrontState {
            hosts: front.settings.hosts,
            certificate: certificate.map(|hex| Digest::parse(&hex)).transpose()?,
        };
        Ok((front.host, state))
    });
    fronts.collect()
}

/// The saved memory of domains that do not run.
fn memory(home: &Home, observed: &mut Observed) -> anyhow::Result<()> {
    let mut saved = home.domains_with_memory()?;
    saved.retain(|name| !observed.domains[name].power.has_process());
    if saved.is_empty() {
        return Ok(());
    }
    let hypervisor = accel::hypervisor()?;
    let read = std::thread::scope(|threads| {
        let hypervisor = hypervisor.as_str();
        let reading = |name| threads.spawn(move || home.saved_memory(name, hypervisor));
        let readers: Vec<_> = saved.iter().map(reading).collect();
        let ended = readers.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.collect::<Vec<_>>()
    });
    for (name, read) in saved.into_iter().zip(read) {
        let read =
            read.map_err(|_| anyhow::anyhow!("a thread that reads saved memory panicked"))?;
        observed.domains.entry(name).or_default().memory = read?;
    }
    Ok(())
}

/// What the spec asks for, and whether the cache and the folder of keys have it.
fn wanted(host: &Host, spec: &Spec, observed: &mut Observed) -> anyhow::Result<()> {
    observed.keys = identity::state(&host.home.keys(), spec)?;
    if let Some(network) = &mut observed.network {
        network.dns = network.active && host.dns_answers(spec);
    }
    for (name, image) in &spec.images {
        let digest = image::digest(image)?;
        let state = ImageState {
            digest,
            cached: image::cached(&host.cache, image)?.is_some(),
            size: image::size(&host.cache, image)?,
        };
        observed.images.insert(name.clone(), state);
    }
    for (name, digest) in roms(spec, |image| Ok(observed.images[image].digest.clone()))? {
        let cached = coreboot::is_cached(&host.cache, &digest);
        observed.domains.entry(name).or_default().rom = Some(CacheState { digest, cached });
    }
    let published = spec.domains.values().flat_map(|domain| &domain.publish);
    let fronts = published.filter_map(|publish| Some((publish.host, publish.http.as_ref()?)));
    for (address, front) in fronts {
        let pem = identity::front_certificate(&host.home.keys(), address, front)
            .with_context(|| format!("failed to get the certificate of {address}"))?;
        let digest = pem.map(|pem| (address, pem.digest()));
        observed.front_certificates.extend(digest);
    }
    services(host, spec, observed)
}

/// What each service should run, and what was deployed last.
fn services(host: &Host, spec: &Spec, observed: &mut Observed) -> anyhow::Result<()> {
    let keys = host.home.keys();
    let identity = Identity::load(&keys)?;
    for (name, domain) in &mut observed.domains {
        domain.deployed = host.home.deployed_record(name)?;
        domain.file_systems_due = host.home.are_file_systems_due(name);
        let of_spec = spec.domains.get(name);
        if of_spec.is_none_or(|domain| domain.service.is_none()) {
            continue;
        }
        let release = if identity::lacks_secrets(&observed.keys, name) {
            None
        } else {
            Release::digest(spec, name, &keys, &CancellationToken::new())
                .with_context(|| format!("failed to read the service of `{name}`"))?
        };
        let owner = CertificateOwner::Service(name.clone());
        let certificate = match &identity {
            Some(identity) if !observed.keys.expiring.contains(&owner) => {
                identity.certificate(name)?
            }
            _ => None,
        };
        domain.service = Some(ServiceState {
            release,
            certificate: certificate.map(|certificate| certificate.digest()),
            serving: false,
        });
    }
    Ok(())
}

fn lab_state(host: &Host, spec: &Spec) -> LabState {
    match (&spec.connection, &host.lab) {
        (spec::Connection::Uri(_), _) => LabState::Unused,
        (spec::Connection::Lab, Some(_)) => LabState::Running,
        (spec::Connection::Lab, None) if host.home.lab().exists() => LabState::Stopped,
        (spec::Connection::Lab, None) => LabState::Absent,
    }
}

fn networks(connection: &Connection, spec: &Spec, observed: &mut Observed) -> anyhow::Result<()> {
    for network in connection.networks()? {
        if network.name == spec.network.name {
            let owner = network.ownership.as_ref();
            let ours = owner.is_some_and(|owner| owner.deployment == spec.name);
            let handle = if ours {
                connection.network(&spec.name, &network.name)?
            } else {
                None
            };
            let autostart = match &handle {
                Some(handle) => handle.autostart()?,
                None => false,
            };
            let config = handle.map(|handle| handle.config()).transpose()?;
            let hosts = config.map(|config| config.hosts).unwrap_or_default();
            observed.network = Some(NetworkState {
                owner: network.ownership,
                active: network.active,
                autostart,
                dns: false,
                hosts: hosts
                    .into_iter()
                    .map(|host| (host.name, host.mac, host.address))
                    .collect(),
            });
        } else if network.active {
            observed.foreign.insert(network.name);
        }
    }
    Ok(())
}

fn domains(
    connection: &Connection,
    home: &Home,
    spec: &Spec,
    observed: &mut Observed,
) -> anyhow::Result<()> {
    for summary in connection.domains()? {
        let name = Name::new(&summary.name).ok();
        let owner = summary.ownership.as_ref();
        let Some(owner) = owner.filter(|owner| owner.deployment == spec.name) else {
            if let Some(name) = name.filter(|name| spec.domains.contains_key(name)) {
                let domain = observed.domains.entry(name).or_default();
                (domain.foreign, domain.power) = (true, summary.power);
            }
            observed.foreign.insert(summary.name);
            continue;
        };
        let Some(name) = name else { continue };
        let Some((defined, live)) = defined(connection, &name, owner)? else {
            continue;
        };
        let link_down = live
            .as_ref()
            .is_some_and(|live| live.interfaces.iter().any(|it| it.link_down));
        let disks = live.iter().flat_map(|live| &live.disks);
        let slow = disks.filter(|disk| !disk.throttle.is_none());
        let throttles = slow.filter_map(|disk| Some((disk.serial.clone()?, disk.throttle)));
        let throttles: BTreeMap<String, Throttle> = throttles.collect();
        let ahead = match &live {
            Some(live) => attached::is_ahead(home, &name, &live.disks)?,
            None => false,
        };
        let attached = match live {
            Some(live) => attached::of_process(home, &name, live.disks)?,
            None if summary.power == Power::Saved => attached::of_saved_state(home, &name)?,
            None => BTreeMap::new(),
        };
        let domain = observed.domains.entry(name).or_default();
        (domain.defined, domain.power) = (Some(defined), summary.power);
        domain.attached = attached;
        domain.unmerged |= ahead;
        domain.link_down = link_down;
        domain.throttles = throttles;
    }
    Ok(())
}

/// A domain's definition, and the one of its process if it has one; `None` where it disappeared meanwhile.
fn defined(
    connection: &Connection,
    name: &Name,
    owner: &Ownership,
) -> anyhow::Result<Option<(Defined, Option<DomainDescription>)>> {
    let Some(handle) = connection.domain(&owner.deployment, name.as_str())? else {
        return Ok(None);
    };
    // What it should have, and not what it has: a balloon takes a while to get to its size.
    let config = handle.config()?;
    let live = handle.live()?;
    let defined = Defined {
        digest: owner.digest.clone(),
        persistent: handle.is_persistent()?,
        autostart: handle.autostart()?,
        memory: config.memory,
        vcpus: config.vcpus,
        live: live.as_ref().map(|live| Live {
            maximum_memory: live.memory.maximum,
            vcpus: live.vcpus,
        }),
    };
    Ok(Some((defined, live)))
}

/// Asks the named domains' services all at once.
pub async fn healths(
    host: &Host,
    spec: &Spec,
    names: &[&Name],
) -> anyhow::Result<BTreeMap<Name, Health>> {
    let Some(reach) = host.reach(spec).filter(|_| !names.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let identity = match Identity::load(&host.home.keys()) {
        Ok(Some(identity)) => identity,
        Ok(None) => return Ok(BTreeMap::new()),
        Err(error) => {
            let unknown = Health::Unreachable(told(&error));
            let each = names.iter().map(|name| ((*name).clone(), unknown.clone()));
            return Ok(each.collect());
        }
    };
    let checks = names.iter().map(|name| async {
        (
            (*name).clone(),
            health::check(&reach, spec, name, &identity, HEALTH_TIMEOUT).await,
        )
    });
    Ok(join_all(checks).await.into_iter().collect())
}

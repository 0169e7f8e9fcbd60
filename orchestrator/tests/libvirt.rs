//! libvirt's API through `pspd::libvirt`: against libvirt's own `test:///default`, and on request (`--ignored`) against
//! the QEMU host that `PSPD_TEST_LIBVIRT_URI` names.

#![allow(clippy::unwrap_used)] // clippy exempts tests, but not the functions that they share

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use pspd::hint::{Told, told};
use pspd::libvirt::{
    Connection, Console, Disk, DiskFormat, Domain, DomainConfig, Error, Lifecycle, LifecycleChange,
    Loader, Network, StopReason,
};
use pspd_model::definition::{
    Accelerator, Affect, Interface, NetworkDefinition, NetworkHost, Ownership,
};
use pspd_model::observed::{Pause, Power};
use pspd_model::spec::{Digest, Mac, Machine, Name, Range, Size};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(30);

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A name that no other test or run has.
fn unique(prefix: &str) -> Name {
    let random = uuid::Uuid::new_v4().simple().to_string();
    name(&format!("{prefix}-{}", &random[..8]))
}

fn ownership(deployment: &Name) -> Ownership {
    Ownership {
        deployment: deployment.clone(),
        digest: Digest::of(b"one"),
    }
}

fn domain(deployment: &Name, domain: Name, log: &Path) -> DomainConfig {
    DomainConfig {
        name: domain,
        ownership: ownership(deployment),
        accelerator: Accelerator::Tcg,
        machine: Machine::Pc,
        firmware: Loader::Seabios,
        kernel: None,
        memory: Range {
            current: Size::mib(64),
            maximum: Size::mib(128),
        },
        vcpus: Range {
            current: 1,
            maximum: 2,
        },
        disks: Vec::new(),
        interfaces: Vec::new(),
        oem_strings: vec!["io.systemd.credential:system.hostname=a,b".to_owned()],
        fw_cfg: Vec::new(),
        serial_log: log.to_owned(),
        firmware_log: log.with_extension("firmware"),
    }
}

fn network(deployment: &Name) -> NetworkDefinition {
    NetworkDefinition {
        name: deployment.to_string(),
        ownership: ownership(deployment),
        cidr: "10.213.7.0/24".parse().unwrap(),
        gateway: "10.213.7.1".parse().unwrap(),
        domain: "pspd.internal".to_owned(),
        hosts: vec![host("one", 10)],
    }
}

fn host(host: &str, number: u8) -> NetworkHost {
    NetworkHost {
        name: name(host),
        mac: Mac([0x52, 0x54, 0, 0, 0, number]),
        address: [10, 213, 7, number].into(),
    }
}

/// The changes of one domain, up to and including `last`.
fn changes(events: &Lifecycle, domain: &Name, last: LifecycleChange) -> Vec<LifecycleChange> {
    let mut changes = Vec::new();
    while changes.last() != Some(&last) {
        let event = events.next(DEADLINE).expect("an event before the deadline");
        if event.domain == domain.as_str() {
            changes.push(event.change);
        }
    }
    changes
}

#[test]
fn the_test_driver_runs_a_domain_from_definition_to_removal() {
    let connection = Connection::open("test:///default").unwrap();
    let (deployment, guest) = (unique("pspd-test"), unique("guest"));
    let events = connection.lifecycle();
    let mut definition = domain(&deployment, guest.clone(), Path::new("/nonexistent/log"));
    let handle = connection.define_domain(&definition).unwrap();
    assert_eq!(handle.power().unwrap(), Power::Off);

    handle.start().unwrap();
    handle.start().unwrap();
    assert_eq!(handle.power().unwrap(), Power::Running);
    assert_eq!(handle.live().unwrap().unwrap().vcpus, definition.vcpus);
    handle.set_memory(Size::mib(96), Affect::Config).unwrap();
    assert_eq!(handle.config().unwrap().memory.current, Size::mib(96));

    definition.vcpus.maximum = 3;
    definition.ownership.digest = Digest::of(b"two");
    let handle = connection.define_domain(&definition).unwrap();
    let described = handle.config().unwrap();
    assert_eq!(described.uuid, definition.uuid());
    assert_eq!(described.vcpus, definition.vcpus);
    assert_eq!(described.ownership.as_ref(), Some(&definition.ownership));

    handle
        .shutdown(DEADLINE, &CancellationToken::new())
        .unwrap();
    handle.destroy().unwrap();
    handle.undefine().unwrap();
    let found = connection.domain(&deployment, guest.as_str()).unwrap();
    assert!(found.is_none());
    use LifecycleChange::{Defined, Started, Stopped, Undefined};
    assert_eq!(
        changes(&events, &guest, Undefined),
        [
            Defined,
            Started,
            Defined,
            Stopped(StopReason::ShutDown),
            Undefined
        ]
    );
}

#[test]
fn a_domain_that_is_undefined_while_it_runs_can_be_defined_again_or_stopped() {
    let connection = Connection::open("test:///default").unwrap();
    let (deployment, guest) = (unique("pspd-test"), unique("guest"));
    let definition = domain(&deployment, guest, Path::new("/nonexistent/log"));
    let handle = connection.define_domain(&definition).unwrap();
    assert!(handle.is_persistent().unwrap());
    handle.start().unwrap();
    handle.clone().undefine().unwrap();
    assert!(!handle.is_persistent().unwrap());
    connection.define_domain(&definition).unwrap();
    assert!(handle.is_persistent().unwrap());
    assert_eq!(handle.power().unwrap(), Power::Running);

    handle.clone().undefine().unwrap();
    let cancel = CancellationToken::new();
    handle.shutdown(DEADLINE, &cancel).unwrap();
    assert_eq!(handle.power().unwrap(), Power::Off);
    handle.undefine().unwrap();
}

#[test]
fn the_test_driver_runs_a_network_from_definition_to_removal() {
    let connection = Connection::open("test:///default").unwrap();
    let deployment = unique("pspd-test");
    let mut definition = network(&deployment);
    let handle = connection.define_network(&definition).unwrap();
    handle.start().unwrap();
    handle.start().unwrap();
    assert_eq!(handle.live().unwrap().unwrap().hosts, definition.hosts);

    definition.hosts = vec![host("two", 11)];
    let handle = connection.define_network(&definition).unwrap();
    let config = handle.config().unwrap();
    assert_eq!(config.hosts, definition.hosts);
    assert_eq!(config.ownership, Some(definition.ownership));

    let summaries = connection.networks().unwrap();
    let summary = summaries
        .iter()
        .find(|network| network.name == deployment.as_str());
    assert!(summary.unwrap().active);
    handle.destroy().unwrap();
    handle.destroy().unwrap();
    handle.undefine().unwrap();
    let found = connection
        .network(&deployment, deployment.as_str())
        .unwrap();
    assert!(found.is_none());
}

/// The test driver has a domain `test` and a network `default`, which no deployment owns.
#[test]
fn foreign_domains_and_networks_are_refused_and_left_alone() {
    let connection = Connection::open("test:///default").unwrap();
    let deployment = name("mine");
    let definition = domain(&deployment, name("test"), Path::new("/nonexistent/log"));
    let error = connection.define_domain(&definition).unwrap_err();
    insta::assert_snapshot!(told(&error.into()), @"domain `test` already exists and is managed by another program. Rename one of them, or remove the existing domain");
    let definition = NetworkDefinition {
        name: "default".to_owned(),
        ..network(&deployment)
    };
    let error = connection.define_network(&definition).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error}");

    let guest = unique("guest");
    let theirs = domain(&deployment, guest.clone(), Path::new("/nonexistent/log"));
    let theirs = connection.define_domain(&theirs).unwrap();
    let error = connection
        .domain(&name("other"), guest.as_str())
        .unwrap_err();
    let error = told(&error.into()).replace(guest.as_str(), "GUEST");
    insta::assert_snapshot!(error, @"domain `GUEST` already exists and is managed by deployment `mine`. Rename one of them, or remove the existing domain");
    theirs.undefine().unwrap();

    let left = connection.domains().unwrap();
    let test = left.iter().find(|domain| domain.name == "test").unwrap();
    assert_eq!((test.power, &test.ownership), (Power::Running, &None));
}

#[test]
fn the_error_for_an_unreachable_libvirt_says_what_to_do() {
    let error = Connection::open("qemu:///system?socket=/nonexistent/socket").unwrap_err();
    let Told { error, hint } = Told::of(&error.into());
    insta::assert_snapshot!(error, @"failed to connect to libvirt at `qemu:///system?socket=/nonexistent/socket`: Failed to connect socket to '/nonexistent/socket': No such file or directory (libvirt error 38)");
    insta::assert_snapshot!(hint.unwrap(), @"Check that the libvirtd of this socket is running");
}

/// From definition to removal on a real QEMU host.
#[test]
#[ignore = "needs a QEMU host, with its URI in PSPD_TEST_LIBVIRT_URI"]
fn a_qemu_host_runs_a_deployment_from_definition_to_removal() {
    let uri = std::env::var("PSPD_TEST_LIBVIRT_URI").unwrap();
    let connection = Connection::open(&uri).unwrap();
    let deployment = unique("pspd-test");
    let logs = tempfile::tempdir().unwrap();
    let network = start_network(&connection, &deployment);
    for (machine, firmware) in [
        (Machine::Pc, Loader::Seabios),
        (Machine::Q35, Loader::Seabios),
        (Machine::Q35, Loader::Uefi),
    ] {
        if firmware == Loader::Uefi && !connection.capabilities().unwrap().uefi {
            eprintln!("skipped UEFI: the host does not offer it");
            continue;
        }
        let guest = unique("guest");
        let interface = Interface {
            network: deployment.to_string(),
            mac: host("one", 10).mac,
        };
        let definition = DomainConfig {
            machine,
            firmware,
            interfaces: vec![interface],
            disks: vec![disk(logs.path())],
            ..domain(&deployment, guest, &logs.path().join("serial.log"))
        };
        run_domain(&connection, &definition);
    }
    network.destroy().unwrap();
    network.undefine().unwrap();
    let ours = |ownership: &Option<Ownership>| {
        ownership
            .as_ref()
            .is_some_and(|ownership| ownership.deployment == deployment)
    };
    assert!(
        !connection
            .domains()
            .unwrap()
            .iter()
            .any(|domain| ours(&domain.ownership))
    );
    assert!(
        !connection
            .networks()
            .unwrap()
            .iter()
            .any(|network| ours(&network.ownership))
    );
}

fn disk(dir: &Path) -> Disk {
    let path = dir.join("empty.raw");
    std::fs::File::create(&path)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    Disk {
        path,
        format: DiskFormat::Raw,
        serial: "system".to_owned(),
        read_only: false,
    }
}

/// Starts the network, then changes its hosts while it is active.
fn start_network(connection: &Connection, deployment: &Name) -> Network {
    let mut definition = network(deployment);
    let handle = connection.define_network(&definition).unwrap();
    handle.start().unwrap();
    let bridge = handle.live().unwrap().unwrap().bridge;
    definition.hosts = vec![host("two", 11), host("three", 12)];
    definition.ownership.digest = Digest::of(b"two");
    let handle = connection.define_network(&definition).unwrap();
    let live = handle.live().unwrap().unwrap();
    assert_eq!(live.hosts, definition.hosts);
    assert_eq!(live.bridge, bridge);
    let config = handle.config().unwrap();
    assert_eq!(config.hosts, definition.hosts);
    assert_eq!(config.ownership, Some(definition.ownership));
    handle
}

fn run_domain(connection: &Connection, definition: &DomainConfig) {
    let events = connection.lifecycle();
    let handle = connection.define_domain(definition).unwrap();
    let config = handle.config().unwrap();
    assert_eq!(config.memory, definition.memory);
    assert_eq!(config.vcpus, definition.vcpus);
    assert_eq!(config.accelerator, Some(Accelerator::Tcg));
    assert_eq!(config.ownership.as_ref(), Some(&definition.ownership));
    assert_eq!(config.serial_log.as_ref(), Some(&definition.serial_log));
    assert_eq!(config.disks[0].serial.as_deref(), Some("system"));
    assert_eq!(
        config.disks[0].path.as_ref(),
        Some(&definition.disks[0].path)
    );

    handle.start().unwrap();
    assert_eq!(handle.power().unwrap(), Power::Running);
    handle.suspend().unwrap();
    assert_eq!(handle.power().unwrap(), Power::Paused(Pause::User));
    handle.resume().unwrap();
    // There is no guest to react to the power button.
    let error = handle
        .shutdown(Duration::from_millis(500), &CancellationToken::new())
        .unwrap_err();
    assert!(matches!(error, Error::StillRunning { .. }), "{error}");
    console_ends_with_the_domain(&handle);
    handle.undefine().unwrap();
    let seen = changes(&events, &definition.name, LifecycleChange::Undefined);
    assert!(seen.contains(&LifecycleChange::Started), "{seen:?}");
    assert!(
        seen.contains(&LifecycleChange::Stopped(StopReason::Destroyed)),
        "{seen:?}"
    );
}

fn console_ends_with_the_domain(handle: &Domain) {
    let closed = handle.console(true).unwrap();
    let mut reader = closed.reader;
    let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    closed.writer.close();
    reading.join().unwrap().unwrap();

    let Console {
        mut reader,
        mut writer,
    } = handle.console(false).unwrap();
    writer.write_all(b"x").unwrap();
    let reading = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    handle.destroy().unwrap();
    reading.join().unwrap().unwrap();
}

//! Golden plans, and properties over many topologies and half-finished runs.

mod addresses;
mod commands;
mod disks;
mod down;
mod errors;
mod export;
mod faults;
mod fronts;
mod golden;
mod hosts;
mod intents;
mod left_over;
mod model;
mod power;
mod repairs;
mod rewind;
mod roms;
mod sizes;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::definition::Ownership;
use crate::observed::{
    CertificateOwner, ImageState, KeysState, LabState, ObservedDomain, Power, ServiceState,
};
use crate::publish::Publish;
use crate::spec::*;
use model::World;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// An error as the user reads it.
fn told(error: &PlanError) -> String {
    crate::hint::joined(&error.to_string(), error.hint().as_deref())
}

fn domain(index: u8, depends_on: &[&str], volume: bool) -> DomainSpec {
    let own = name(&format!("d{index}"));
    DomainSpec {
        image: "debian".into(),
        firmware: Firmware::Seabios,
        boot: Boot::Kernel,
        machine: Machine::Pc,
        memory: Range {
            current: Size::mib(512),
            maximum: Size::gib(1),
        },
        vcpus: Range {
            current: 1,
            maximum: 2,
        },
        system_disk: Size::gib(4),
        volumes: volume
            .then(|| VolumeSpec {
                name: name("data"),
                size: Size::gib(1),
                mount: "/var/lib/data".into(),
            })
            .into_iter()
            .collect(),
        depends_on: depends_on.iter().map(|other| name(other)).collect(),
        peers: BTreeSet::new(),
        service: Some(ServiceSpec {
            program: Program::Binary(PathBuf::from("/bin/service")),
            port: 50051,
            health: HealthCheck::Grpc("test.Service".into()),
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            arguments: Vec::new(),
            checkpoint: Vec::new(),
            start_timeout: None,
            tls_key_log: false,
            files: BTreeMap::new(),
            setup: Vec::new(),
            setup_timeout: None,
        }),
        publish: vec![Publish {
            host: ([127, 0, 0, 1], 9000 + u16::from(index)).into(),
            guest_port: 80,
            http: None,
        }],
        boot_timeout: None,
        push: Push::Auto,
        address: [10, 77, 0, 10 + index].into(),
        mac: Mac([0x52, 0x54, 0, 0, 0, index]),
        name: own,
        host: None,
    }
}

fn spec(domains: Vec<DomainSpec>) -> Spec {
    Spec {
        name: name("demo"),
        hosts: BTreeMap::new(),
        connection: Connection::Lab,
        accel: Accel::Auto,
        autostart: false,
        network: NetworkSpec {
            name: "demo".into(),
            cidr: "10.77.0.0/24".parse().unwrap(),
            gateway: [10, 77, 0, 1].into(),
            domain: "pspd.internal".into(),
        },
        elsewhere: BTreeMap::new(),
        images: BTreeMap::from([(
            "debian".to_owned(),
            ImageSpec {
                name: "debian".into(),
                source: ImageSource::Recipe("/recipe".into()),
                packages: BTreeSet::new(),
                seed: Seed::Credentials,
            },
        )]),
        domains: domains
            .into_iter()
            .map(|domain| (domain.name.clone(), domain))
            .collect(),
    }
}

/// A host that has nothing of the deployment, not even keys.
fn nothing(spec: &Spec) -> World {
    let domain = |name: &Name| {
        let domain = ObservedDomain {
            service: Some(ServiceState::default()),
            ..ObservedDomain::default()
        };
        (name.clone(), domain)
    };
    let image = ImageState {
        digest: Digest::of(b"image"),
        cached: false,
        size: None,
    };
    let observed = Observed {
        lab: LabState::Absent,
        keys: KeysState {
            missing: BTreeSet::from(["ca.pem".to_owned()]),
            ..KeysState::default()
        },
        images: BTreeMap::from([("debian".to_owned(), image)]),
        domains: spec.domains.keys().map(domain).collect(),
        ..Observed::default()
    };
    World {
        observed,
        intent: Intent::default(),
        held: BTreeMap::new(),
    }
}

fn up(spec: &Spec, world: &World) -> Result<Plan, PlanError> {
    super::up(spec, &world.intent, &world.observed)
}

fn drift(spec: &Spec, world: &World) -> Plan {
    super::drift(spec, &world.intent, &world.observed).unwrap()
}

fn down(spec: &Spec, world: &World, volumes: Volumes) -> Plan {
    super::down(spec, &world.intent, &world.observed, volumes)
}

fn applied(spec: &Spec) -> World {
    let mut world = nothing(spec);
    let plan = up(spec, &world).unwrap();
    world.apply(&plan, usize::MAX, spec);
    world
}

fn joined(ids: &[StepId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(" ")
}

fn lines(plan: &Plan) -> String {
    let line = |step: &Step| {
        format!(
            "{} after [{}]: {}",
            step.id,
            joined(&step.after),
            step.reason
        )
    };
    plan.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The ids of the steps that this step waits for.
fn after(plan: &Plan, domain: &str, step: DomainStep) -> Vec<String> {
    let id = StepId::of(&name(domain), step);
    let step = plan.steps.iter().find(|step| step.id == id);
    let step = step.unwrap_or_else(|| panic!("`{id}` is not planned"));
    step.after.iter().map(ToString::to_string).collect()
}

fn has(plan: &Plan, domain: &str, step: DomainStep) -> bool {
    let id = StepId::of(&name(domain), step);
    plan.steps.iter().any(|step| step.id == id)
}

fn two() -> Spec {
    spec(vec![domain(0, &[], true), domain(1, &["d0"], false)])
}

#[test]
fn fresh() {
    let spec = two();
    insta::assert_snapshot!(lines(&up(&spec, &nothing(&spec)).unwrap()), @"
    keys/create after []: `ca.pem` is missing
    lab/start after []: it is not running
    d0/publish/127.0.0.1:9000 after [lab/start]: it is not published
    d1/publish/127.0.0.1:9001 after [lab/start]: it is not published
    image/debian after []: it is not cached
    network/define after [lab/start]: it is not defined
    network/start after [lab/start network/define]: it is new
    d0/disk after [image/debian]: it does not exist
    d0/volume/data after []: it does not exist
    d0/define after [lab/start keys/create network/define image/debian d0/disk d0/volume/data]: it is not defined
    d0/start after [lab/start network/start d0/disk d0/define d0/volume/data]: it is not running
    d0/reach after [keys/create d0/start]: nothing is deployed
    d0/push after [d0/reach keys/create]: nothing is deployed
    d0/activate after [d0/push]: nothing is deployed
    d0/healthy after [d0/activate lab/start]: nothing is deployed
    d1/disk after [image/debian]: it does not exist
    d1/define after [lab/start keys/create network/define image/debian d1/disk]: it is not defined
    d1/start after [lab/start network/start d1/disk d1/define]: it is not running
    d1/reach after [keys/create d1/start]: nothing is deployed
    d1/push after [d1/reach keys/create]: nothing is deployed
    d1/activate after [d1/push d0/healthy]: nothing is deployed
    d1/healthy after [d1/activate lab/start]: nothing is deployed
    ");
}

#[test]
fn nothing_to_do() {
    let spec = two();
    assert_eq!(up(&spec, &applied(&spec)), Ok(Plan::default()));
}

#[test]
fn a_changed_binary_redeploys_that_service_alone() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d0")).service.as_mut().unwrap().release = Some(Digest::of(b"new"));
    insta::assert_snapshot!(lines(&up(&spec, &world).unwrap()), @"
    d0/reach after []: the release 0ad52e338662 is deployed
    d0/push after [d0/reach]: the release 0ad52e338662 is deployed
    d0/activate after [d0/push]: the release 0ad52e338662 is deployed
    d0/healthy after [d0/activate]: the release 0ad52e338662 is deployed
    ");
}

#[test]
fn a_renewed_certificate_restarts_nothing() {
    let spec = two();
    let mut world = applied(&spec);
    let owner = CertificateOwner::Service(name("d0"));
    world.observed.keys.expiring.insert(owner);
    world
        .domain(&name("d0"))
        .service
        .as_mut()
        .unwrap()
        .certificate = None;
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    certificate/service/d0 after []: it expires soon, or its names changed
    d0/reach after []: its certificate was renewed
    d0/renew after [d0/reach certificate/service/d0]: its certificate was renewed
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(up(&spec, &world), Ok(Plan::default()));
}

#[test]
fn a_service_whose_secret_is_still_to_be_generated_is_deployed_again() {
    let spec = two();
    let mut world = applied(&spec);
    world
        .observed
        .keys
        .missing
        .insert("secrets/d0/TOKEN".into());
    world.domain(&name("d0")).service.as_mut().unwrap().release = None;
    insta::assert_snapshot!(lines(&up(&spec, &world).unwrap()), @"
    keys/create after []: `secrets/d0/TOKEN` is missing
    d0/reach after [keys/create]: its secrets are generated
    d0/push after [d0/reach keys/create]: its secrets are generated
    d0/activate after [d0/push]: its secrets are generated
    d0/healthy after [d0/activate]: its secrets are generated
    ");
}

#[test]
fn an_unhealthy_service_is_deployed_again() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d1")).service.as_mut().unwrap().serving = false;
    insta::assert_snapshot!(lines(&up(&spec, &world).unwrap()), @"
    d1/reach after []: it is not SERVING
    d1/push after [d1/reach]: it is not SERVING
    d1/activate after [d1/push]: it is not SERVING
    d1/healthy after [d1/activate]: it is not SERVING
    ");
}

#[test]
fn another_firmware_restarts_the_domain() {
    let mut spec = two();
    let world = applied(&spec);
    spec.domains.get_mut(&name("d1")).unwrap().boot = Boot::Disk;
    insta::assert_snapshot!(lines(&up(&spec, &world).unwrap()), @"
    d1/gather after []: its definition changed
    d1/stop after [d1/gather]: its definition changed
    d1/define after [d1/stop]: its definition changed
    d1/start after [d1/define d1/stop]: it was stopped for the change
    d1/reach after [d1/start]: it starts
    d1/push after [d1/reach]: it starts
    d1/activate after [d1/push]: it starts
    d1/healthy after [d1/activate]: it starts
    ");
}

#[test]
fn another_image_replaces_the_system_disk_and_keeps_the_volume() {
    let spec = two();
    let mut world = applied(&spec);
    world.observed.images.insert(
        "debian".into(),
        ImageState {
            digest: Digest::of(b"new image"),
            cached: false,
            size: None,
        },
    );
    insta::assert_snapshot!(lines(&up(&spec, &world).unwrap()), @"
    image/debian after []: it is not cached
    d1/gather after []: its image changed
    d1/stop after [d1/gather]: its image changed
    d0/gather after []: its image changed
    d0/stop after [d1/stop d0/gather]: its image changed
    d0/delete-disk after [d0/stop image/debian]: its image changed
    d0/disk after [image/debian d0/delete-disk]: its image changed
    d0/define after [image/debian d0/stop d0/disk]: its definition changed
    d0/start after [d0/disk d0/define d0/stop]: it was stopped for the change
    d0/reach after [d0/start]: nothing is deployed
    d0/push after [d0/reach]: nothing is deployed
    d0/activate after [d0/push]: nothing is deployed
    d0/healthy after [d0/activate]: nothing is deployed
    d1/delete-disk after [d1/stop image/debian]: its image changed
    d1/disk after [image/debian d1/delete-disk]: its image changed
    d1/define after [image/debian d1/stop d1/disk]: its definition changed
    d1/start after [d1/disk d1/define d1/stop]: it was stopped for the change
    d1/reach after [d1/start]: nothing is deployed
    d1/push after [d1/reach]: nothing is deployed
    d1/activate after [d1/push d0/healthy]: nothing is deployed
    d1/healthy after [d1/activate]: nothing is deployed
    ");
}

#[test]
fn a_domain_that_left_the_topology_goes() {
    let before = two();
    let world = applied(&before);
    let after = spec(vec![domain(0, &[], true)]);
    insta::assert_snapshot!(lines(&up(&after, &world).unwrap()), @"
    unpublish/127.0.0.1:9001 after []: the topology does not publish it
    d1/gather after []: no longer in the topology
    d1/stop after [d1/gather]: no longer in the topology
    d1/undefine after [d1/stop]: no longer in the topology
    d1/delete-disk after [d1/undefine]: no longer in the topology
    network/define after [d1/stop unpublish/127.0.0.1:9001]: its guests changed
    ");
}

#[test]
fn a_foreign_object_is_an_error_that_names_it() {
    let spec = two();
    let mut world = nothing(&spec);
    world.domain(&name("d1")).foreign = true;
    assert_eq!(
        up(&spec, &world),
        Err(PlanError::Foreign {
            kind: "domain",
            name: "d1".into()
        })
    );
    for owner in [
        None,
        Some(Ownership {
            deployment: name("other"),
            digest: Digest::of(b""),
        }),
    ] {
        let mut world = applied(&spec);
        world.observed.network.as_mut().unwrap().owner = owner;
        assert_eq!(
            up(&spec, &world),
            Err(PlanError::Foreign {
                kind: "network",
                name: "demo".into()
            })
        );
    }
}

#[test]
fn a_disk_does_not_shrink() {
    let mut spec = two();
    let world = applied(&spec);
    spec.domains.get_mut(&name("d0")).unwrap().volumes[0].size = Size::mib(10);
    let error = PlanError::Shrinks {
        disk: "d0.data.qcow2".into(),
        have: Size::gib(1),
        want: Size::mib(10),
    };
    assert_eq!(up(&spec, &world), Err(error));
}

prop_compose! {
    /// Up to six domains; each depends on any of those before it.
    fn any_spec()(count in 0u8..6)(edges in prop::collection::vec(any::<u8>(), usize::from(count)), volumes in any::<u8>()) -> Spec {
        let domains = edges.iter().enumerate().map(|(index, edges)| {
            let before: Vec<String> = (0..index).filter(|other| edges >> other & 1 == 1).map(|other| format!("d{other}")).collect();
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            domain(index as u8, &before, volumes >> index & 1 == 1)
        });
        spec(domains.collect())
    }
}

fn owns_nothing(observed: &Observed) -> bool {
    let mut domains = observed.domains.values();
    domains.all(|domain| domain.defined.is_none() && domain.disk.is_none())
        && observed.lab == LabState::Absent
        && observed.network.is_none()
        && observed.volumes.is_empty()
        && observed.old_volumes.is_empty()
        && observed.published.is_empty()
}

fn respects_order(plan: &Plan) -> bool {
    let mut seen = BTreeSet::new();
    plan.steps.iter().all(|step| {
        let ready = step.after.iter().all(|id| seen.contains(id));
        ready && seen.insert(step.id.clone())
    })
}

proptest! {
    #[test]
    fn what_was_applied_needs_nothing(spec in any_spec()) {
        prop_assert_eq!(up(&spec, &applied(&spec)), Ok(Plan::default()));
    }

    #[test]
    fn a_half_finished_up_converges(spec in any_spec(), count in 0usize..60) {
        let mut world = nothing(&spec);
        let plan = up(&spec, &world).unwrap();
        world.apply(&plan, count, &spec);
        let rest = up(&spec, &world).unwrap();
        prop_assert!(respects_order(&rest));
        world.apply(&rest, usize::MAX, &spec);
        prop_assert_eq!(up(&spec, &world), Ok(Plan::default()));
    }

    #[test]
    fn down_after_any_part_of_up_owns_nothing(spec in any_spec(), count in 0usize..60) {
        let mut world = nothing(&spec);
        let plan = up(&spec, &world).unwrap();
        world.apply(&plan, count, &spec);
        let removal = down(&spec, &world, Volumes::Delete);
        prop_assert!(respects_order(&removal));
        world.apply(&removal, usize::MAX, &spec);
        prop_assert!(owns_nothing(&world.observed));
        prop_assert!(down(&spec, &world, Volumes::Delete).is_empty());
    }

    #[test]
    fn every_edge_points_back(spec in any_spec()) {
        prop_assert!(respects_order(&up(&spec, &nothing(&spec)).unwrap()));
    }
}

#[test]
fn a_domain_that_joins_or_leaves_restarts_no_other() {
    let (one, both) = (spec(vec![domain(0, &[], true)]), two());
    let starts = |plan: Plan| has(&plan, "d0", DomainStep::Start);
    let mut world = applied(&one);
    world.domain(&name("d1")).service = Some(model::service(&name("d1")));
    assert!(!starts(up(&both, &world).unwrap()), "joins");
    assert!(!starts(up(&one, &applied(&both)).unwrap()), "leaves");
}

#[test]
fn domains_are_restarted_when_their_network_is_not_active() {
    let spec = two();
    let mut world = applied(&spec);
    world.observed.network.as_mut().unwrap().active = false;
    assert!(has(&up(&spec, &world).unwrap(), "d0", DomainStep::Start));
}

#[test]
fn a_running_domain_whose_disk_is_missing_is_restarted() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d0")).disk = None;
    assert!(has(&up(&spec, &world).unwrap(), "d0", DomainStep::Start));
}

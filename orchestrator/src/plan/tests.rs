//! Golden plans, and properties over many topologies and half-finished runs.

mod down;
mod left_over;
mod roms;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use proptest::prelude::*;

use super::model::apply;
use super::*;
use crate::libvirt::Ownership;
use crate::observe::{ImageState, LabState};
use crate::spec::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
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
        service: Some(ServiceSpec {
            binary: PathBuf::from("/bin/service"),
            port: 50051,
            health: HealthCheck::Grpc("test.Service".into()),
            environment: BTreeMap::new(),
            secrets: BTreeMap::new(),
            arguments: Vec::new(),
            checkpoint: Vec::new(),
            files: BTreeMap::new(),
        }),
        publish: vec![Publish {
            host: ([127, 0, 0, 1], 9000 + u16::from(index)).into(),
            guest_port: 80,
        }],
        boot_timeout: None,
        address: [10, 77, 0, 10 + index].into(),
        mac: Mac([0x52, 0x54, 0, 0, 0, index]),
        name: own,
    }
}

fn spec(domains: Vec<DomainSpec>) -> Spec {
    Spec {
        name: name("demo"),
        connection: Connection::Lab,
        accel: Accel::Auto,
        network: NetworkSpec {
            name: "demo".into(),
            cidr: "10.77.0.0/24".parse().unwrap(),
            gateway: [10, 77, 0, 1].into(),
            domain: "pspd.internal".into(),
        },
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

/// A host where nothing is.
fn nothing(spec: &Spec) -> Observed {
    Observed {
        lab: LabState::Absent,
        images: BTreeMap::from([(
            "debian".to_owned(),
            ImageState {
                digest: Digest::of(b"image"),
                cached: false,
            },
        )]),
        releases: spec
            .domains
            .keys()
            .map(|name| (name.clone(), Digest::of(name.as_str().as_bytes())))
            .collect(),
        certificates: spec
            .domains
            .keys()
            .map(|name| (name.clone(), Digest::of(format!("{name}'s").as_bytes())))
            .collect(),
        ..Observed::default()
    }
}

fn applied(spec: &Spec) -> Observed {
    let mut observed = nothing(spec);
    let plan = up(spec, &observed).unwrap();
    apply(&plan, usize::MAX, spec, &mut observed);
    observed
}

fn lines(plan: &Plan) -> String {
    let line = |step: &Step| {
        format!(
            "{} after [{}]: {}",
            step.id,
            step.after.join(" "),
            step.reason
        )
    };
    plan.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn two() -> Spec {
    spec(vec![domain(0, &[], true), domain(1, &["d0"], false)])
}

#[test]
fn fresh() {
    let spec = two();
    insta::assert_snapshot!(lines(&up(&spec, &nothing(&spec)).unwrap()), @"
    lab/start after []: it does not run
    d0/publish/127.0.0.1:9000 after [lab/start]: it is not published
    d1/publish/127.0.0.1:9001 after [lab/start]: it is not published
    image/debian after []: it is not cached
    network/define after [lab/start]: it is not defined
    network/start after [lab/start network/define]: it is new
    d0/disk after [image/debian]: it is not there
    d0/volume/data after []: it is not there
    d0/define after [lab/start network/define image/debian d0/disk d0/volume/data]: it is not defined
    d0/start after [lab/start network/start d0/disk d0/define d0/volume/data]: it does not run
    d0/reach after [d0/start]: nothing is deployed
    d0/push after [d0/reach]: nothing is deployed
    d0/activate after [d0/push]: nothing is deployed
    d0/healthy after [d0/activate lab/start]: nothing is deployed
    d1/disk after [image/debian]: it is not there
    d1/define after [lab/start network/define image/debian d1/disk]: it is not defined
    d1/start after [lab/start network/start d1/disk d1/define]: it does not run
    d1/reach after [d1/start]: nothing is deployed
    d1/push after [d1/reach]: nothing is deployed
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
    let mut observed = applied(&spec);
    observed.releases.insert(name("d0"), Digest::of(b"new"));
    insta::assert_snapshot!(lines(&up(&spec, &observed).unwrap()), @"
    d0/reach after []: the release 0ad52e338662 is deployed
    d0/push after [d0/reach]: the release 0ad52e338662 is deployed
    d0/activate after [d0/push]: the release 0ad52e338662 is deployed
    d0/healthy after [d0/activate]: the release 0ad52e338662 is deployed
    ");
}

#[test]
fn a_renewed_certificate_restarts_nothing() {
    let spec = two();
    let mut observed = applied(&spec);
    observed.certificates.insert(name("d0"), Digest::of(b"new"));
    let plan = up(&spec, &observed).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    d0/reach after []: its certificate was renewed
    d0/renew after [d0/reach]: its certificate was renewed
    ");
    apply(&plan, usize::MAX, &spec, &mut observed);
    assert_eq!(up(&spec, &observed), Ok(Plan::default()));
}

#[test]
fn an_unhealthy_service_is_deployed_again() {
    let spec = two();
    let mut observed = applied(&spec);
    observed.serving.remove(&name("d1"));
    insta::assert_snapshot!(lines(&up(&spec, &observed).unwrap()), @"
    d1/reach after []: it is not SERVING
    d1/push after [d1/reach]: it is not SERVING
    d1/activate after [d1/push]: it is not SERVING
    d1/healthy after [d1/activate]: it is not SERVING
    ");
}

#[test]
fn memory_applies_live_and_a_maximum_waits() {
    let mut spec = two();
    let observed = applied(&spec);
    let domain = spec.domains.get_mut(&name("d0")).unwrap();
    domain.memory = Range {
        current: Size::mib(768),
        maximum: Size::gib(2),
    };
    let plan = up(&spec, &observed).unwrap();
    insta::assert_snapshot!(lines(&plan), @"d0/resize after []: it has 512 MiB of 1 GiB and 1 of 2 vCPUs");
    assert_eq!(plan.notes, ["`d0` takes its new maximum at its next start"]);
}

#[test]
fn another_firmware_restarts_the_domain() {
    let mut spec = two();
    let observed = applied(&spec);
    spec.domains.get_mut(&name("d1")).unwrap().boot = Boot::Disk;
    insta::assert_snapshot!(lines(&up(&spec, &observed).unwrap()), @"
    d1/gather after []: its definition changed
    d1/stop after [d1/gather]: its definition changed
    d1/define after [d1/stop]: its definition changed
    d1/start after [d1/define d1/stop]: it was shut down for the change
    d1/reach after [d1/start]: it starts
    d1/push after [d1/reach]: it starts
    d1/activate after [d1/push]: it starts
    d1/healthy after [d1/activate]: it starts
    ");
}

#[test]
fn another_image_replaces_the_system_disk_and_keeps_the_volume() {
    let spec = two();
    let mut observed = applied(&spec);
    observed.images.insert(
        "debian".into(),
        ImageState {
            digest: Digest::of(b"new image"),
            cached: false,
        },
    );
    insta::assert_snapshot!(lines(&up(&spec, &observed).unwrap()), @"
    image/debian after []: it is not cached
    d1/gather after []: its image changed
    d1/stop after [d1/gather]: its image changed
    d0/gather after []: its image changed
    d0/stop after [d1/stop d0/gather]: its image changed
    d0/delete-disk after [d0/stop image/debian]: its image changed
    d0/disk after [image/debian d0/delete-disk]: its image changed
    d0/define after [image/debian d0/stop d0/disk]: its definition changed
    d0/start after [d0/disk d0/define d0/stop]: it was shut down for the change
    d0/reach after [d0/start]: nothing is deployed
    d0/push after [d0/reach]: nothing is deployed
    d0/activate after [d0/push]: nothing is deployed
    d0/healthy after [d0/activate]: nothing is deployed
    d1/delete-disk after [d1/stop image/debian]: its image changed
    d1/disk after [image/debian d1/delete-disk]: its image changed
    d1/define after [image/debian d1/stop d1/disk]: its definition changed
    d1/start after [d1/disk d1/define d1/stop]: it was shut down for the change
    d1/reach after [d1/start]: nothing is deployed
    d1/push after [d1/reach]: nothing is deployed
    d1/activate after [d1/push d0/healthy]: nothing is deployed
    d1/healthy after [d1/activate]: nothing is deployed
    ");
}

#[test]
fn a_domain_that_left_the_topology_goes() {
    let before = two();
    let observed = applied(&before);
    let after = spec(vec![domain(0, &[], true)]);
    insta::assert_snapshot!(lines(&up(&after, &observed).unwrap()), @"
    unpublish/127.0.0.1:9001 after []: the topology does not publish it
    d1/stop after []: it left the topology
    d1/undefine after [d1/stop]: it left the topology
    d1/delete-disk after [d1/undefine]: it left the topology
    network/define after []: its guests changed
    ");
}

#[test]
fn a_foreign_object_is_an_error_that_names_it() {
    let spec = two();
    for owner in [
        None,
        Some(Ownership {
            deployment: name("other"),
            digest: Digest::of(b""),
        }),
    ] {
        let mut observed = applied(&spec);
        observed.domains.get_mut("d1").unwrap().owner = owner.clone();
        assert_eq!(
            up(&spec, &observed),
            Err(PlanError::Foreign {
                kind: "domain",
                name: "d1".into()
            })
        );
        let mut observed = applied(&spec);
        observed.network.as_mut().unwrap().owner = owner;
        assert_eq!(
            up(&spec, &observed),
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
    let observed = applied(&spec);
    spec.domains.get_mut(&name("d0")).unwrap().volumes[0].size = Size::mib(10);
    let error = PlanError::Shrinks {
        disk: "d0-data.qcow2".into(),
        have: Size::gib(1),
        want: Size::mib(10),
    };
    assert_eq!(up(&spec, &observed), Err(error));
}

fn nothing_at_all() -> Observed {
    Observed {
        lab: LabState::Absent,
        ..Observed::default()
    }
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
        let mut observed = nothing(&spec);
        let plan = up(&spec, &observed).unwrap();
        apply(&plan, count, &spec, &mut observed);
        let rest = up(&spec, &observed).unwrap();
        prop_assert!(respects_order(&rest));
        apply(&rest, usize::MAX, &spec, &mut observed);
        prop_assert_eq!(up(&spec, &observed), Ok(Plan::default()));
    }

    #[test]
    fn down_after_any_part_of_up_owns_nothing(spec in any_spec(), count in 0usize..60) {
        let mut observed = nothing(&spec);
        let plan = up(&spec, &observed).unwrap();
        apply(&plan, count, &spec, &mut observed);
        let away = down(&spec, &observed, true);
        prop_assert!(respects_order(&away));
        apply(&away, usize::MAX, &spec, &mut observed);
        let left = (&observed.lab, observed.domains.len(), &observed.network, observed.disks.len(), observed.volumes.len(), observed.published.len());
        prop_assert_eq!(left, (&LabState::Absent, 0, &None, 0, 0, 0));
        prop_assert!(down(&spec, &observed, true).is_empty());
    }

    #[test]
    fn every_edge_points_back(spec in any_spec()) {
        prop_assert!(respects_order(&up(&spec, &nothing(&spec)).unwrap()));
    }
}

fn starts(plan: &Plan, name: &str) -> bool {
    plan.steps
        .iter()
        .any(|step| step.id == format!("{name}/start"))
}

#[test]
fn a_domain_that_joins_or_leaves_restarts_no_other() {
    let (one, both) = (spec(vec![domain(0, &[], true)]), two());
    assert!(!starts(&up(&both, &applied(&one)).unwrap(), "d0"), "joins");
    assert!(!starts(&up(&one, &applied(&both)).unwrap(), "d0"), "leaves");
}

#[test]
fn domains_are_started_again_whose_network_went_away() {
    let spec = two();
    let mut observed = applied(&spec);
    observed.network.as_mut().unwrap().active = false;
    assert!(starts(&up(&spec, &observed).unwrap(), "d0"));
}

#[test]
fn a_running_domain_whose_disk_is_gone_is_started_again() {
    let spec = two();
    let mut observed = applied(&spec);
    observed.disks.remove("d0");
    assert!(starts(&up(&spec, &observed).unwrap(), "d0"));
}

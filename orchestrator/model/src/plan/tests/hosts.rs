//! Deployments over several hosts, each of which plans its own part.

use super::*;
use crate::definition::NetworkDefinition;
use crate::spec::HostSpec;

/// `d0` on `alpha`; `d1`, which depends on it, on `beta`.
fn spread() -> Spec {
    let mut spec = two();
    for (host, domain, gateway) in [("alpha", "d0", 1), ("beta", "d1", 2)] {
        let on = HostSpec {
            ssh: host.to_owned(),
            port: None,
            config: None,
            gateway: Some([10, 77, 0, gateway].into()),
        };
        spec.hosts.insert(name(host), on);
        spec.domains.get_mut(&name(domain)).unwrap().host = Some(name(host));
    }
    spec
}

#[test]
fn a_service_waits_for_one_of_another_host() {
    let spec = spread().on(&name("beta"));
    let plan = up(&spec, &nothing(&spec)).unwrap();
    assert_eq!(
        after(&plan, "d0", DomainStep::Serving),
        ["lab/start", "network/start"]
    );
    assert_eq!(
        after(&plan, "d1", DomainStep::Activate),
        ["d1/push", "d0/serving"]
    );
    assert!(!has(&plan, "d0", DomainStep::Start));
    assert_eq!(lines(&drift(&spec, &applied(&spec))), "");
}

#[test]
fn a_host_has_no_step_for_what_others_depend_on_elsewhere() {
    let spec = spread().on(&name("alpha"));
    let plan = up(&spec, &nothing(&spec)).unwrap();
    let others = plan
        .steps
        .iter()
        .filter(|step| step.id.to_string().starts_with("d1/"));
    assert_eq!(others.count(), 0);
}

#[test]
fn each_host_knows_all_names_and_has_its_own_gateway() {
    let networks = ["alpha", "beta"].map(|host| {
        let spec = spread().on(&name(host));
        let plan = up(&spec, &nothing(&spec)).unwrap();
        let definition = plan.steps.iter().find_map(|step| match &step.action {
            Action::DefineNetwork { definition, .. } => Some(definition.clone()),
            _ => None,
        });
        definition.unwrap()
    });
    assert_eq!(networks[0].hosts.len(), 2);
    assert_ne!(networks[0].gateway, networks[1].gateway);
    let names = |network: &NetworkDefinition| -> BTreeSet<String> {
        network
            .hosts
            .iter()
            .map(|host| host.name.to_string())
            .collect()
    };
    assert_eq!(names(&networks[0]), names(&networks[1]));
}

#[test]
fn a_domain_that_moved_leaves_its_host() {
    let before = spread().on(&name("alpha"));
    let mut moved = spread();
    moved.domains.get_mut(&name("d0")).unwrap().host = Some(name("beta"));
    let after = moved.on(&name("alpha"));
    let world = applied(&before);
    let plan = up(&after, &world).unwrap();
    assert!(has(&plan, "d0", DomainStep::Undefine));
}

//! What ended beside the guests, and what left the topology while they run.

use super::*;

#[test]
fn a_dead_dns_server_is_restored_and_no_guest_is_restarted() {
    let spec = two();
    let mut world = applied(&spec);
    world.observed.network.as_mut().unwrap().dns = false;
    let plan = drift(&spec, &world);
    insta::assert_snapshot!(lines(&plan), @"network/dns after []: it does not answer");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(drift(&spec, &world).steps, []);
}

#[test]
fn a_network_that_starts_needs_no_restored_dns_server() {
    let spec = two();
    let mut world = applied(&spec);
    let network = world.observed.network.as_mut().unwrap();
    (network.active, network.dns) = (false, false);
    let plan = drift(&spec, &world);
    assert!(plan.steps.iter().all(|step| step.id != StepId::RestoreDns));
}

#[test]
fn a_guest_whose_ssh_keys_are_lost_is_restarted_with_others() {
    for (file, domains) in [("ssh", vec!["d0", "d1"]), ("hosts/d1", vec!["d1"])] {
        let spec = two();
        let mut world = applied(&spec);
        world.observed.keys.missing.insert(file.into());
        let plan = up(&spec, &world).unwrap();
        for domain in ["d0", "d1"] {
            for step in [DomainStep::Stop, DomainStep::Define, DomainStep::Start] {
                assert_eq!(
                    has(&plan, domain, step),
                    domains.contains(&domain),
                    "{file}"
                );
            }
            assert!(!has(&plan, domain, DomainStep::CreateDisk));
        }
        world.apply(&plan, usize::MAX, &spec);
        let again = up(&spec, &world).unwrap();
        assert!(!has(&again, "d0", DomainStep::Stop) && !has(&again, "d1", DomainStep::Stop));
    }
}

#[test]
fn a_published_port_without_a_relay_is_published_again() {
    let spec = two();
    let mut world = applied(&spec);
    world.observed.published.clear();
    let plan = drift(&spec, &world);
    assert!(
        plan.steps
            .iter()
            .all(|step| matches!(step.action, Action::Publish { .. }))
    );
    assert_eq!(plan.steps.len(), 2);
}

#[test]
fn a_service_that_left_the_topology_is_stopped_in_its_guest() {
    let mut spec = two();
    let mut world = applied(&spec);
    spec.domains.get_mut(&name("d1")).unwrap().service = None;
    world.domain(&name("d1")).service = None;
    let plan = drift(&spec, &world);
    insta::assert_snapshot!(lines(&plan), @"
    d1/reach after []: its service is no longer in the topology
    d1/gather after [d1/reach]: its service is no longer in the topology
    d1/withdraw after [d1/gather]: its service is no longer in the topology
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(drift(&spec, &world).steps, []);
}

#[test]
fn a_new_system_disk_has_no_service_to_stop() {
    let mut spec = two();
    let mut world = applied(&spec);
    spec.domains.get_mut(&name("d1")).unwrap().service = None;
    let domain = world.domain(&name("d1"));
    (domain.service, domain.disk) = (None, None);
    assert!(!has(&drift(&spec, &world), "d1", DomainStep::Withdraw));
}

/// Whether the plan restarts a domain's service although its release is in use; `None` where it is left alone.
fn restarts(plan: &Plan, domain: &str) -> Option<bool> {
    plan.steps.iter().find_map(|step| match &step.action {
        Action::Activate {
            domain: of,
            restart,
            ..
        } => (of.as_str() == domain).then_some(*restart),
        _ => None,
    })
}

#[test]
fn a_service_that_was_healthy_is_restarted_unless_it_may_wait_for_another() {
    let spec = two();
    let mut world = applied(&spec);
    world.domain(&name("d1")).service.as_mut().unwrap().serving = false;
    assert_eq!(restarts(&drift(&spec, &world), "d1"), Some(true));
    // `d1` depends on it.
    world.domain(&name("d0")).service.as_mut().unwrap().serving = false;
    let plan = drift(&spec, &world);
    assert_eq!(restarts(&plan, "d0"), Some(true));
    assert_eq!(restarts(&plan, "d1"), Some(false));
}

#[test]
fn a_service_that_was_not_healthy_yet_is_not_restarted() {
    let spec = two();
    let mut world = applied(&spec);
    let domain = world.domain(&name("d0"));
    domain.deployed = None;
    domain.service.as_mut().unwrap().serving = false;
    assert_eq!(restarts(&drift(&spec, &world), "d0"), Some(false));
    // Nor one whose guest starts: systemd starts it.
    let mut world = applied(&spec);
    world.domain(&name("d0")).power = Power::Off;
    assert_eq!(restarts(&drift(&spec, &world), "d0"), Some(false));
}

#[test]
fn the_log_of_a_domain_is_gathered_where_its_guest_is() {
    let gathered = |plan: &Plan| {
        plan.steps.iter().find_map(|step| match &step.action {
            Action::Gather { domain, address } if domain.as_str() == "d1" => Some(*address),
            _ => None,
        })
    };
    let mut spec = two();
    let world = applied(&spec);
    let old = spec.domains[&name("d1")].address;
    let moved = spec.domains.get_mut(&name("d1")).unwrap();
    moved.address = "10.0.0.77".parse().unwrap();
    moved.firmware = Firmware::Uefi;
    let mut removed = two();
    removed.domains.remove(&name("d1"));
    assert_eq!(gathered(&drift(&removed, &world)), Some(old));
    assert_eq!(gathered(&drift(&spec, &world)), Some(old));
}

#[test]
fn a_definition_that_was_removed_comes_back_while_its_domain_runs() {
    let spec = two();
    let mut world = applied(&spec);
    world
        .domain(&name("d0"))
        .defined
        .as_mut()
        .unwrap()
        .persistent = false;
    let plan = drift(&spec, &world);
    let ids: Vec<String> = plan.steps.iter().map(|step| step.id.to_string()).collect();
    assert_eq!(ids, ["d0/define"]);
    world.apply(&plan, usize::MAX, &spec);
    assert!(drift(&spec, &world).is_empty());
}

/// libvirt keeps the setting with a definition, and forgets it with it.
#[test]
fn what_libvirt_starts_with_its_host_is_what_the_topology_says() {
    let mut spec = two();
    spec.connection = Connection::Uri("qemu:///system".into());
    spec.autostart = true;
    let mut world = nothing(&spec);
    world.observed.lab = LabState::Unused;
    let plan = up(&spec, &world).unwrap();
    let steps = plan.steps.iter().map(|step| step.id.to_string());
    let autostart: Vec<String> = steps.filter(|id| id.ends_with("/autostart")).collect();
    assert_eq!(
        autostart,
        ["network/autostart", "d0/autostart", "d1/autostart"]
    );
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(drift(&spec, &world), Plan::default());
    spec.autostart = false;
    let plan = up(&spec, &world).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    network/autostart after []: the topology's `autostart`
    d0/autostart after []: the topology's `autostart`
    d1/autostart after []: the topology's `autostart`
    ");
    world.apply(&plan, usize::MAX, &spec);
    assert_eq!(drift(&spec, &world), Plan::default());
    // A lab's libvirt must start nothing before pspd looked at it.
    spec.connection = Connection::Lab;
    spec.autostart = true;
    let world = applied(&spec);
    assert_eq!(drift(&spec, &world), Plan::default());
    let observed = &world.observed;
    assert!(
        observed
            .domains
            .values()
            .all(|it| !it.defined.as_ref().unwrap().autostart)
    );
}

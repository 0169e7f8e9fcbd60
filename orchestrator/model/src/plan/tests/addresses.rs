//! Addresses, MACs and published ports that change hands.

use super::*;

/// A copy of a topology in which domains are renamed, and addresses, MACs and published ports belong to other domains.
fn shuffled(spec: &Spec, renamed: u8, address: usize, mac: usize, port: usize) -> Spec {
    let domains: Vec<&DomainSpec> = spec.domains.values().collect();
    let other = |index: usize, by: usize| domains[(index + by) % domains.len()];
    let new_name = |old: &Name| {
        let index = spec.domains.keys().position(|name| name == old).unwrap();
        let moves = renamed >> index & 1 == 1;
        if moves {
            name(&format!("{old}-new"))
        } else {
            old.clone()
        }
    };
    let shuffle = |(index, domain): (usize, &&DomainSpec)| {
        let domain = DomainSpec {
            name: new_name(&domain.name),
            depends_on: domain.depends_on.iter().map(new_name).collect(),
            address: other(index, address).address,
            mac: other(index, mac).mac,
            publish: other(index, port).publish.clone(),
            ..(*domain).clone()
        };
        (domain.name.clone(), domain)
    };
    Spec {
        domains: domains.iter().enumerate().map(shuffle).collect(),
        ..spec.clone()
    }
}

/// What observing another topology adds for its new domains.
fn observe_new(world: &mut World, spec: &Spec) {
    for name in spec.domains.keys() {
        let domain = world.domain(name);
        domain.service.get_or_insert_with(|| model::service(name));
    }
}

#[test]
fn a_renamed_domain_starts_after_the_earlier_holder_of_its_address_stopped() {
    let before = spec(vec![domain(0, &[], false)]);
    let after = shuffled(&before, 1, 0, 0, 0);
    let mut world = applied(&before);
    observe_new(&mut world, &after);
    insta::assert_snapshot!(lines(&up(&after, &world).unwrap()), @"
    d0/gather after []: no longer in the topology
    d0/stop after [d0/gather]: no longer in the topology
    d0/undefine after [d0/stop]: no longer in the topology
    d0/delete-disk after [d0/undefine]: no longer in the topology
    network/define after [d0/stop]: its guests changed
    d0-new/disk after []: it does not exist
    d0-new/define after [network/define d0-new/disk]: it is not defined
    d0-new/start after [d0-new/disk d0-new/define]: it is not running
    d0-new/reach after [d0-new/start]: nothing is deployed
    d0-new/push after [d0-new/reach]: nothing is deployed
    d0-new/activate after [d0-new/push]: nothing is deployed
    d0-new/healthy after [d0-new/activate]: nothing is deployed
    ");
}

#[test]
fn a_port_moves_after_the_guest_at_its_new_address_stopped() {
    let before = two();
    let after = shuffled(&before, 0, 1, 0, 0);
    let plan = up(&after, &applied(&before)).unwrap();
    insta::assert_snapshot!(lines(&plan), @"
    unpublish/127.0.0.1:9000 after []: the topology does not publish it
    unpublish/127.0.0.1:9001 after []: the topology does not publish it
    d1/gather after []: its definition changed
    d1/stop after [d1/gather]: its definition changed
    d0/gather after []: its definition changed
    d0/stop after [d1/stop d0/gather]: its definition changed
    network/define after [d0/stop d1/stop unpublish/127.0.0.1:9000 unpublish/127.0.0.1:9001]: its guests changed
    d0/publish/127.0.0.1:9000 after [unpublish/127.0.0.1:9000 network/define]: it is not published
    d1/publish/127.0.0.1:9001 after [unpublish/127.0.0.1:9001 network/define]: it is not published
    d0/define after [network/define d0/stop]: its definition changed
    d0/start after [d0/define d0/stop]: it was stopped for the change
    d0/reach after [d0/start]: it starts
    d0/push after [d0/reach]: it starts
    d0/activate after [d0/push]: it starts
    d0/healthy after [d0/activate]: it starts
    d1/define after [network/define d1/stop]: its definition changed
    d1/start after [d1/define d1/stop]: it was stopped for the change
    d1/reach after [d1/start]: it starts
    d1/push after [d1/reach]: it starts
    d1/activate after [d1/push d0/healthy]: it starts
    d1/healthy after [d1/activate]: it starts
    ");
}

#[test]
fn the_network_stops_after_its_guests() {
    let before = two();
    let mut after = before.clone();
    after.network.domain = "other.internal".into();
    let plan = up(&after, &applied(&before)).unwrap();
    let id = StepId::StopNetwork;
    let step = plan.steps.iter().find(|step| step.id == id).unwrap();
    assert_eq!(joined(&step.after), "d0/stop d1/stop");
}

proptest! {
    /// The model of execution fails where two running domains hold an address, or a port leads to another domain.
    #[test]
    fn no_two_domains_hold_an_address_at_a_time(
        spec in any_spec(),
        (renamed, address, mac, port) in (any::<u8>(), 0usize..6, 0usize..6, 0usize..6),
        count in 0usize..60,
        picks in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let after = shuffled(&spec, renamed, address, mac, port);
        let mut world = applied(&spec);
        observe_new(&mut world, &after);
        let plan = up(&after, &world).unwrap();
        world.apply_in_any_order(&plan, count, &after, &picks);
        let rest = up(&after, &world).unwrap();
        world.apply_in_any_order(&rest, usize::MAX, &after, &picks);
        prop_assert!(up(&after, &world).unwrap().is_empty());
    }
}

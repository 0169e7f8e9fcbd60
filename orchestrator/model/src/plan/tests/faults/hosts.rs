//! Faults between domains of several hosts.

use super::*;
use crate::spec::HostSpec;

/// Three domains, each on one of three hosts.
fn spread(on: [usize; 3]) -> Spec {
    let mut spec = three();
    for host in ["alpha", "beta", "gamma"] {
        let on = HostSpec {
            ssh: host.to_owned(),
            port: None,
            config: None,
            gateway: None,
        };
        spec.hosts.insert(name(host), on);
    }
    let hosts: Vec<Name> = spec.hosts.keys().cloned().collect();
    for (domain, on) in spec.domains.values_mut().zip(on) {
        domain.host = Some(hosts[on].clone());
    }
    spec
}

fn between() -> impl Strategy<Value = Effect> {
    let way = || prop_oneof![Just(Direction::Both), Just(Direction::OneWay)];
    let all = || Just(["d0", "d1", "d2"]).prop_shuffle();
    let partitions = (all(), 1usize..3, 2usize..4, way()).prop_filter_map(
        "no second group",
        |(all, middle, end, way)| {
            let (from, to) = (&all[..middle], &all[middle..end]);
            (!to.is_empty()).then(|| partition(from, to, way))
        },
    );
    let delays = (all(), way()).prop_map(|(all, way)| delay(all[0], all[1], latency(1), way));
    prop_oneof![partitions, delays]
}

proptest! {
    /// Wherever the domains are: what passes between two of them passes a host that drops or slows it.
    #[test]
    fn a_fault_acts_between_domains_of_any_hosts(
        on in prop::array::uniform3(0usize..3),
        effect in between(),
    ) {
        let spec = spread(on);
        let mut cuts = BTreeMap::new();
        let mut routes = BTreeMap::new();
        for host in effect.hosts(&spec) {
            let part = spec.clone().on(host);
            let mut world = applied(&part);
            inject(&part, &mut world, effect.clone());
            prop_assert_eq!(up(&part, &world), Ok(Plan::default()));
            cuts.insert(host.clone(), world.observed.cuts.clone());
            for domain in part.domains.keys() {
                let shaping = world.domain(domain).shaping.clone();
                routes.insert(domain.clone(), shaping.map_or_else(Vec::new, |it| it.routes));
            }
        }
        for (sender, one) in &spec.domains {
            for (receiver, other) in &spec.domains {
                let cut = Cut { from: Some(one.mac), to: Some(other.mac) };
                if effect.cuts(&spec).contains(&cut) {
                    let on_the_way = [&one.host, &other.host].into_iter().flatten();
                    let drops = |host: &Name| cuts.get(host).is_some_and(|cuts| cuts.contains(&cut));
                    prop_assert!(on_the_way.into_iter().any(drops), "{sender} to {receiver}");
                }
                if effect.shape(sender, receiver).is_some() {
                    let own = routes.get(sender).into_iter().flatten();
                    let to = own.map(|route| route.to).collect::<Vec<_>>();
                    prop_assert_eq!(to, [other.address], "{} to {}", sender, receiver);
                }
            }
        }
    }
}

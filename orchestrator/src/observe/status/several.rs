//! The state of a deployment over several hosts, from what each of them says.

use pspd_model::spec::{Name, Spec};

use super::{DomainStatus, FaultStatus, HostStatus, NetworkState, NetworkStatus, Status};

impl Status {
    /// Of no host yet; `hosts` names them.
    pub(crate) fn of_several(deployment: &Name, hosts: String) -> Status {
        Status {
            deployment: deployment.clone(),
            connection: hosts,
            healthy: true,
            network: NetworkStatus {
                state: NetworkState::Active,
                dns: true,
            },
            hosts: Vec::new(),
            domains: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Adds a host, with what it says of its domains; nothing if it was not reached. `spec` is its part of the topology.
    pub(crate) fn add(&mut self, mut host: HostStatus, own: Option<Status>, spec: &Spec) {
        match own {
            Some(own) => {
                self.healthy &= own.healthy && host.linked;
                self.network.dns &= own.network.dns;
                if own.network.state != NetworkState::Active {
                    self.network.state = own.network.state;
                }
                host.network = Some(own.network);
                let domains = own.domains.into_iter();
                self.domains.extend(domains.map(|domain| DomainStatus {
                    host: Some(host.name.clone()),
                    ..domain
                }));
                let faults = own.faults.into_iter();
                self.faults.extend(faults.map(|fault| FaultStatus {
                    id: format!("{}:{}", host.name, fault.id),
                    ..fault
                }));
            }
            None => {
                self.healthy = false;
                let unknown = spec.domains.values().map(DomainStatus::unknown);
                self.domains.extend(unknown);
            }
        }
        self.hosts.push(host);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use pspd_model::topology::{self, Found};

    use super::super::tests::status;
    use super::*;

    /// One host that answers, but is not connected to the others, and one that does not answer.
    pub(crate) fn of_two() -> Status {
        let text = "name: demo\nhosts: {alpha: {ssh: a}, beta: {ssh: b}}\ndomains: {store: {image: debian, host: alpha}, web: {image: debian, host: beta}}\n";
        let spec = topology::parse(text, Path::new("/"), &|_| Found::File).unwrap();
        let mut several = Status::of_several(&spec.name, "alpha, beta".to_owned());
        let own = serde_json::from_str(&serde_json::to_string(&status()).unwrap()).unwrap();
        for (name, unreached, own) in [
            ("alpha", None, Some(own)),
            ("beta", Some("failed to reach host `beta`".to_owned()), None),
        ] {
            let name = Name::new(name).unwrap();
            let host = HostStatus {
                name: name.clone(),
                unreached,
                linked: false,
                detail: Some("the connection broke".to_owned()),
                network: None,
            };
            several.add(host, own, &spec.clone().on(&name));
        }
        several
    }

    #[test]
    fn a_host_that_does_not_answer_has_domains_of_unknown_state() {
        let status = of_two();
        assert!(!status.healthy);
        let of = |domain: &DomainStatus| {
            let host = domain.host.as_ref().map(Name::to_string);
            (
                domain.name.to_string(),
                host.unwrap(),
                domain.state.to_string(),
            )
        };
        let domains: Vec<_> = status.domains.iter().map(of).collect();
        let expected = [("store", "alpha", "running"), ("web", "beta", "unknown")];
        let expected = expected.map(|(name, host, state)| (name.into(), host.into(), state.into()));
        assert_eq!(domains, expected);
    }
}

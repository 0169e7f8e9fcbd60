//! The state of a deployment as `pspd status` reports it: its values, with stable fields in JSON.

mod read;
pub(crate) mod several;

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use pspd_model::observed::Power;
use pspd_model::spec::{DomainSpec, Firmware, Name, Size};
use serde::{Deserialize, Serialize};

use crate::boot::Boot;

pub(crate) use read::read;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) deployment: Name,
    pub(crate) connection: String,
    pub(crate) healthy: bool,
    pub(crate) network: NetworkStatus,
    /// Where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosts: Vec<HostStatus>,
    pub(crate) domains: Vec<DomainStatus>,
    /// The faults that the user injected and that have not ended.
    pub(crate) faults: Vec<FaultStatus>,
}

/// One of several hosts.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostStatus {
    pub(crate) name: Name,
    /// Why it says nothing of its domains; `null` if it does.
    pub(crate) unreached: Option<String>,
    /// Whether its lab is connected to those of the others.
    pub(crate) linked: bool,
    /// Why it is not, where that is known.
    pub(crate) detail: Option<String>,
    pub(crate) network: Option<NetworkStatus>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FaultStatus {
    /// Over several hosts it begins with the host's name.
    pub(crate) id: String,
    pub(crate) kind: Cow<'static, str>,
    /// In the words of the command that injected it.
    pub(crate) fault: String,
    pub(crate) domains: Vec<Name>,
    pub(crate) since: String,
    /// When it ends; `null` if it stays until it is healed.
    pub(crate) until: Option<String>,
    /// Seconds since it began.
    pub(crate) age: u64,
    /// Seconds until it ends; 0 if its time is over.
    pub(crate) left: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkStatus {
    pub(crate) state: NetworkState,
    /// Whether its DNS and DHCP server answers.
    pub(crate) dns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NetworkState {
    Absent,
    Inactive,
    Active,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DomainStatus {
    pub(crate) name: Name,
    /// The host that it is on, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<Name>,
    pub(crate) state: State,
    /// Why it is so, where that is known.
    pub(crate) detail: Option<String>,
    pub(crate) address: Ipv4Addr,
    /// The firmware that the topology asks for.
    pub(crate) firmware: Cow<'static, str>,
    /// The firmware that the guest reports; unknown until the guest was reached.
    pub(crate) reported: Option<ReportedStatus>,
    pub(crate) boot: Option<BootStatus>,
    /// Bytes.
    pub(crate) memory: Option<Size>,
    pub(crate) vcpus: Option<u32>,
    /// What the topology gives it at its next start only.
    pub(crate) at_next_start: Vec<String>,
    pub(crate) service: Option<ServiceStatus>,
    /// Addresses of the host where its ports are published now.
    pub(crate) published: Vec<SocketAddr>,
    /// Where other machines reach its published HTTP servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// Addresses of the host where they should be published, and are not.
    pub(crate) unpublished: Vec<SocketAddr>,
}

impl DomainStatus {
    /// Of a domain whose host does not answer.
    pub(crate) fn unknown(spec: &DomainSpec) -> DomainStatus {
        DomainStatus {
            name: spec.name.clone(),
            host: spec.host.clone(),
            state: State::unknown(),
            detail: None,
            address: spec.address,
            firmware: spec.firmware.word().into(),
            reported: None,
            boot: None,
            memory: None,
            vcpus: None,
            at_next_start: Vec::new(),
            service: None,
            published: Vec::new(),
            urls: Vec::new(),
            unpublished: Vec::new(),
        }
    }
}

/// A domain's power state, by its word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct State(Cow<'static, str>);

impl State {
    const ABSENT: &'static str = "absent";

    /// `None` if it is not defined.
    pub(crate) fn of(power: Option<Power>) -> State {
        State(power.map_or(State::ABSENT, Power::word).into())
    }

    fn unknown() -> State {
        State("unknown".into())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.0 == Power::Running.word()
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.0 == State::ABSENT
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) health: ServiceHealth,
    pub(crate) detail: Option<String>,
    pub(crate) port: u16,
    pub(crate) release: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ServiceHealth {
    /// Its domain does not run.
    Down,
    Serving,
    NotServing,
    Unreachable,
}

impl fmt::Display for ServiceHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceHealth::Down => "down",
            ServiceHealth::Serving => "serving",
            ServiceHealth::NotServing => "not-serving",
            ServiceHealth::Unreachable => "unreachable",
        })
    }
}

/// The firmware that a guest reported when it was last reached.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReportedStatus {
    pub(crate) vendor: String,
    pub(crate) version: String,
    pub(crate) efi: bool,
    pub(crate) coreboot: bool,
    /// Whether it matches the firmware that the topology asks for.
    pub(crate) as_asked: bool,
}

/// Seconds since power on; `null` if the stage was not detected.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BootStatus {
    /// RFC 3339.
    pub(crate) started: Option<String>,
    pub(crate) firmware: Option<f64>,
    pub(crate) kernel: Option<f64>,
    pub(crate) init: Option<f64>,
    pub(crate) ssh: Option<f64>,
    /// How often the guest rebooted since; `null` if that is not known.
    pub(crate) reboots: Option<usize>,
}

impl ReportedStatus {
    fn of(boot: &Boot, asked: &Firmware) -> ReportedStatus {
        let reported = boot.reported.clone();
        ReportedStatus {
            as_asked: reported.fits(asked),
            vendor: reported.vendor,
            version: reported.version,
            efi: reported.efi,
            coreboot: reported.coreboot,
        }
    }

    /// For the table, such as `coreboot 4.15`.
    pub(crate) fn shown(&self) -> String {
        format!("{} {}", self.vendor, self.version)
    }
}

impl BootStatus {
    fn of(boot: &Boot, reboots: Option<usize>) -> BootStatus {
        let [firmware, kernel, init, ssh] =
            boot.times.all().map(|time| time.map(crate::event::seconds));
        BootStatus {
            started: boot.started.clone(),
            firmware,
            kernel,
            init,
            ssh,
            reboots,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn status() -> Status {
        Status {
            deployment: Name::new("demo").unwrap(),
            connection: "lab".into(),
            healthy: false,
            network: NetworkStatus {
                state: NetworkState::Active,
                dns: false,
            },
            hosts: Vec::new(),
            domains: vec![DomainStatus {
                name: Name::new("store").unwrap(),
                host: None,
                state: State::of(Some(Power::Running)),
                detail: None,
                address: [10, 77, 0, 10].into(),
                firmware: "seabios".into(),
                reported: Some(ReportedStatus {
                    vendor: "coreboot".into(),
                    version: "4.15".into(),
                    efi: false,
                    coreboot: true,
                    as_asked: false,
                }),
                boot: Some(BootStatus {
                    started: Some("2026-01-01T00:00:00Z".into()),
                    firmware: Some(0.312),
                    kernel: Some(2.5),
                    init: None,
                    ssh: Some(7.0),
                    reboots: Some(0),
                }),
                memory: Some(Size::mib(512)),
                vcpus: Some(1),
                at_next_start: vec!["its 2 vCPUs at its next start: it runs with 1".into()],
                service: Some(ServiceStatus {
                    health: ServiceHealth::Unreachable,
                    detail: Some("connection refused".into()),
                    port: 50051,
                    release: Some("0123456789ab".into()),
                }),
                published: vec!["127.0.0.1:8080".parse().unwrap()],
                urls: vec!["https://app.example.org:8080".into()],
                unpublished: vec!["127.0.0.1:8081".parse().unwrap()],
            }],
            faults: vec![FaultStatus {
                id: "link-1".into(),
                kind: "link".into(),
                fault: "link store --down".into(),
                domains: vec![Name::new("store").unwrap()],
                since: "2026-01-01T00:00:00Z".into(),
                until: Some("2026-01-01T00:10:00Z".into()),
                age: 90,
                left: Some(510),
            }],
        }
    }

    #[test]
    fn the_json_form_has_stable_fields() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&status()).unwrap(), @r#"
        {
          "deployment": "demo",
          "connection": "lab",
          "healthy": false,
          "network": {
            "state": "active",
            "dns": false
          },
          "domains": [
            {
              "name": "store",
              "state": "running",
              "detail": null,
              "address": "10.77.0.10",
              "firmware": "seabios",
              "reported": {
                "vendor": "coreboot",
                "version": "4.15",
                "efi": false,
                "coreboot": true,
                "as_asked": false
              },
              "boot": {
                "started": "2026-01-01T00:00:00Z",
                "firmware": 0.312,
                "kernel": 2.5,
                "init": null,
                "ssh": 7.0,
                "reboots": 0
              },
              "memory": 536870912,
              "vcpus": 1,
              "at_next_start": [
                "its 2 vCPUs at its next start: it runs with 1"
              ],
              "service": {
                "health": "unreachable",
                "detail": "connection refused",
                "port": 50051,
                "release": "0123456789ab"
              },
              "published": [
                "127.0.0.1:8080"
              ],
              "urls": [
                "https://app.example.org:8080"
              ],
              "unpublished": [
                "127.0.0.1:8081"
              ]
            }
          ],
          "faults": [
            {
              "id": "link-1",
              "kind": "link",
              "fault": "link store --down",
              "domains": [
                "store"
              ],
              "since": "2026-01-01T00:00:00Z",
              "until": "2026-01-01T00:10:00Z",
              "age": 90,
              "left": 510
            }
          ]
        }
        "#);
    }
}

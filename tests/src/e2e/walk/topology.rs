//! The topology that a walk is at, as values.

use std::fmt::Write as _;

use pspd_tests::deployment::Deployment;

#[derive(Clone, Debug)]
pub(super) struct Topology {
    /// The third part of the network's address.
    pub(super) network: u8,
    pub(super) dns_domain: &'static str,
    pub(super) domains: Vec<Domain>,
}

#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub(super) name: &'static str,
    /// The last part of its address.
    pub(super) host: u8,
    pub(super) memory_mib: u64,
    pub(super) vcpus: u32,
    pub(super) firmware: &'static str,
    pub(super) has_service: bool,
    /// Beside `data`, which the service needs.
    pub(super) extra_volume: bool,
    pub(super) publishes: bool,
}

impl Domain {
    pub(super) fn new(name: &'static str, host: u8) -> Domain {
        Domain {
            name,
            host,
            memory_mib: 192,
            vcpus: 1,
            firmware: "seabios",
            has_service: true,
            extra_volume: false,
            publishes: false,
        }
    }

    /// Each with its mount point.
    pub(super) fn volumes(&self) -> Vec<(&'static str, &'static str)> {
        let mut volumes = vec![("data", "/var/lib/store")];
        if self.extra_volume {
            volumes.push(("extra", "/srv/extra"));
        }
        volumes
    }
}

impl Topology {
    pub(super) fn new(domains: usize) -> Topology {
        let mut all = vec![Domain::new("store", 10), Domain::new("index", 11)];
        all.truncate(domains);
        all[0].publishes = true;
        Topology {
            network: 77,
            dns_domain: "pspd.internal",
            domains: all,
        }
    }

    pub(super) fn deployment(&self) -> anyhow::Result<Deployment> {
        Deployment::of(|deployment| self.yaml(deployment))
    }

    pub(super) fn write(&self, deployment: &Deployment) -> anyhow::Result<()> {
        deployment.write(&self.yaml(deployment))
    }

    pub(super) fn address(&self, domain: &Domain) -> String {
        format!("10.{}.0.{}", self.network, domain.host)
    }

    fn yaml(&self, deployment: &Deployment) -> String {
        let mut text = format!(
            "name: {}\n\
             images: {{debian: {{recipe: images/debian}}}}\n\
             network: {{cidr: 10.{}.0.0/24, domain: {}}}\n\
             domains:\n",
            deployment.name, self.network, self.dns_domain
        );
        for domain in &self.domains {
            let _ = write!(
                text,
                "  {}:\n    image: debian\n    boot_timeout: 6m\n    address: {}\n    memory: {} MiB\n    vcpus: {}\n    firmware: {}\n    disks:\n",
                domain.name,
                self.address(domain),
                domain.memory_mib,
                domain.vcpus,
                domain.firmware,
            );
            for (volume, mount) in domain.volumes() {
                let _ = writeln!(text, "      {volume}: {{size: 64 MiB, mount: {mount}}}");
            }
            if domain.has_service {
                let _ = write!(
                    text,
                    "    service:\n      binary: {}\n      port: 50051\n      health: database.DatabaseService\n      start_timeout: 5m\n      environment: {{DATABASE_STORE: /var/lib/store/store.sqlite}}\n",
                    deployment.binary("database-server").display()
                );
            }
            if domain.publishes {
                let _ = writeln!(
                    text,
                    "    publish: [\"127.0.0.1:{}:50051\"]",
                    deployment.port
                );
            }
        }
        text
    }
}

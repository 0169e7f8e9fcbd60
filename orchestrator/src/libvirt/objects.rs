//! Lists, finds and defines domains and networks.
//!
//! A handle is returned only for an object that the deployment owns.

use pspd_model::definition::{NetworkDefinition, Ownership};
use pspd_model::observed::Power;
use pspd_model::spec::Name;
use serde::Serialize;
use virt::network::Network as VirtNetwork;
use virt_sys as sys;

use super::definition::DomainConfig;
use super::domain::power_of;
use super::error::{Attempt, Kind, Owner, unless_gone};
use super::network::config_xml;
use super::render::{self, DomainType};
use super::{Connection, Domain, Error, Network, Result, ownership};

/// A domain of the host with any owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DomainSummary {
    pub name: String,
    pub ownership: Option<Ownership>,
    pub power: Power,
}

/// A network of the host with any owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkSummary {
    pub name: String,
    pub ownership: Option<Ownership>,
    pub active: bool,
}

impl Connection {
    /// Returns all domains of the host, except those removed during the call.
    pub fn domains(&self) -> Result<Vec<DomainSummary>> {
        let attempt = || format!("list the domains of `{}`", self.uri());
        let domains = self.raw().list_all_domains(0).attempt(attempt)?;
        let mut summaries = Vec::with_capacity(domains.len());
        for domain in &domains {
            summaries.extend(unless_gone(summarize_domain(domain)).attempt(attempt)?);
        }
        summaries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(summaries)
    }

    /// Returns all networks of the host, except those removed during the call.
    pub fn networks(&self) -> Result<Vec<NetworkSummary>> {
        let attempt = || format!("list the networks of `{}`", self.uri());
        let networks = self.raw().list_all_networks(0).attempt(attempt)?;
        let mut summaries = Vec::with_capacity(networks.len());
        for network in &networks {
            summaries.extend(unless_gone(summarize_network(network)).attempt(attempt)?);
        }
        summaries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(summaries)
    }

    /// Returns the deployment's domain of that name. Fails with [`Error::Foreign`] if it has another owner.
    pub fn domain(&self, deployment: &Name, name: &str) -> Result<Option<Domain>> {
        let attempt = || format!("look up domain `{name}`");
        let lookup = unless_gone(self.raw().lookup_domain_by_name(name).and_then(|domain| {
            let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
            Ok((domain, xml))
        }));
        let Some((domain, xml)) = lookup.attempt(attempt)? else {
            return Ok(None);
        };
        check_owner(deployment, Kind::Domain, name, ownership::find(&xml))?;
        Ok(Some(Domain::new(domain, self.clone(), name)))
    }

    /// Returns the deployment's network of that name. Fails with [`Error::Foreign`] if it has another owner.
    pub fn network(&self, deployment: &Name, name: &str) -> Result<Option<Network>> {
        let attempt = || format!("look up network `{name}`");
        let lookup = self.raw().lookup_network_by_name(name);
        let lookup = unless_gone(lookup.and_then(|network| {
            let xml = config_xml(&network)?;
            Ok((network, xml))
        }));
        let Some((network, xml)) = lookup.attempt(attempt)? else {
            return Ok(None);
        };
        check_owner(deployment, Kind::Network, name, ownership::find(&xml))?;
        Ok(Some(Network::new(network, name)))
    }

    /// Defines the domain, or changes the owned one: what runs takes the change at its next start.
    pub fn define_domain(&self, definition: &DomainConfig) -> Result<Domain> {
        let name = definition.name.as_str();
        self.domain(&definition.ownership.deployment, name)?;
        let attempt = || format!("define domain `{name}`");
        let is_test = self.raw().driver_type().attempt(attempt)? == "Test";
        let kind = if is_test {
            DomainType::Test
        } else {
            definition.accelerator.into()
        };
        let xml = definition.to_xml_as(kind);
        let domain = self.raw().define_domain_xml(&xml).attempt(attempt)?;
        Ok(Domain::new(domain, self.clone(), name))
    }

    /// Defines the network, or changes its definition. An active network uses changed hosts immediately, so that guests
    /// stay attached, and all other changes at its next start.
    pub fn define_network(&self, definition: &NetworkDefinition) -> Result<Network> {
        let name = definition.name.as_str();
        let before = self.network(&definition.ownership.deployment, name)?;
        let network = self
            .raw()
            .define_network_xml(&render::network_xml(definition))
            .attempt(|| format!("define network `{name}`"))?;
        let network = Network::new(network, name);
        if before.is_some() {
            network.update_hosts(definition)?;
        }
        Ok(network)
    }
}

fn summarize_domain(domain: &virt::domain::Domain) -> Result<DomainSummary, virt::error::Error> {
    let xml = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
    Ok(DomainSummary {
        name: domain.name()?,
        ownership: ownership::find(&xml),
        power: power_of(domain)?,
    })
}

fn summarize_network(network: &VirtNetwork) -> Result<NetworkSummary, virt::error::Error> {
    Ok(NetworkSummary {
        name: network.name()?,
        ownership: ownership::find(&config_xml(network)?),
        active: network.is_active()?,
    })
}

fn check_owner(deployment: &Name, kind: Kind, name: &str, owner: Option<Ownership>) -> Result<()> {
    match owner {
        Some(ownership) if ownership.deployment == *deployment => Ok(()),
        owner => Err(Error::Foreign {
            kind,
            name: name.to_owned(),
            owner: Owner(owner),
        }),
    }
}

//! A network that the deployment owns.

use pspd_model::definition::{NetworkDefinition, NetworkHost};
use virt::network::Network as VirtNetwork;
use virt_sys as sys;

use super::error::Attempt;
use super::render::{dns_host, reservation};
use super::xml::Element;
use super::{Error, NetworkDescription, Result};

/// A handle to an owned network.
#[derive(Clone, Debug)]
pub struct Network {
    network: VirtNetwork,
    name: String,
}

impl Network {
    pub(super) fn new(network: VirtNetwork, name: &str) -> Network {
        let name = name.to_owned();
        Network { network, name }
    }

    pub fn is_active(&self) -> Result<bool> {
        let attempt = || format!("read the state of network `{}`", self.name);
        self.network.is_active().attempt(attempt)
    }

    /// Returns the configuration of the next start.
    pub fn config(&self) -> Result<NetworkDescription> {
        self.describe(config_xml(&self.network))
    }

    /// Returns the current configuration if it is active.
    pub fn live(&self) -> Result<Option<NetworkDescription>> {
        if !self.is_active()? {
            return Ok(None);
        }
        self.describe(self.network.xml_desc(0)).map(Some)
    }

    /// Starts it; does nothing if it is active.
    pub fn start(&self) -> Result<()> {
        if self.is_active()? {
            return Ok(());
        }
        self.network
            .create()
            .attempt(|| format!("start network `{}`", self.name))
    }

    /// Whether libvirt starts it with the host.
    pub fn autostart(&self) -> Result<bool> {
        let attempt = || format!("read whether network `{}` starts with the host", self.name);
        self.network.autostart().attempt(attempt)
    }

    pub fn set_autostart(&self, autostart: bool) -> Result<()> {
        let attempt = || {
            format!(
                "change whether network `{}` starts with the host",
                self.name
            )
        };
        self.network.set_autostart(autostart).attempt(attempt)
    }

    /// Stops it; its guests lose their link.
    pub fn destroy(&self) -> Result<()> {
        if !self.is_active()? {
            return Ok(());
        }
        self.network
            .destroy()
            .attempt(|| format!("stop network `{}`", self.name))
    }

    /// Makes libvirt start the DNS and DHCP server again where it ended: it does so for any update of a host.
    pub fn refresh(&self) -> Result<()> {
        let live = self.live()?;
        let host = live.as_ref().and_then(|live| live.hosts.first());
        let Some(host) = host else {
            return Ok(());
        };
        self.update_section(
            sys::VIR_NETWORK_UPDATE_COMMAND_MODIFY,
            sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
            host,
            &reservation(host),
        )
    }

    /// Removes its definition; an active network must be stopped first.
    pub fn undefine(self) -> Result<()> {
        self.network
            .undefine()
            .attempt(|| format!("undefine network `{}`", self.name))
    }

    /// Updates the hosts of an active network to those of `wanted`.
    pub(super) fn update_hosts(&self, wanted: &NetworkDefinition) -> Result<()> {
        let Some(live) = self.live()? else {
            return Ok(());
        };
        let removed = live
            .hosts
            .iter()
            .filter(|host| !wanted.hosts.contains(host));
        for host in removed {
            self.update(sys::VIR_NETWORK_UPDATE_COMMAND_DELETE, wanted, host)?;
        }
        let added = wanted
            .hosts
            .iter()
            .filter(|host| !live.hosts.contains(host));
        for host in added {
            self.update(sys::VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, wanted, host)?;
        }
        Ok(())
    }

    fn update(
        &self,
        command: sys::virNetworkUpdateCommand,
        wanted: &NetworkDefinition,
        host: &NetworkHost,
    ) -> Result<()> {
        let reservation = reservation(host);
        let names = dns_host(wanted, host);
        self.update_section(
            command,
            sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
            host,
            &reservation,
        )?;
        self.update_section(command, sys::VIR_NETWORK_SECTION_DNS_HOST, host, &names)
    }

    fn update_section(
        &self,
        command: sys::virNetworkUpdateCommand,
        section: sys::virNetworkUpdateSection,
        host: &NetworkHost,
        element: &Element,
    ) -> Result<()> {
        let live = sys::VIR_NETWORK_UPDATE_AFFECT_LIVE;
        self.network
            .update(command, section, -1, &element.to_xml(), live)
            .attempt(|| format!("update host `{}` of network `{}`", host.name, self.name))
    }

    fn describe(&self, xml: Result<String, virt::error::Error>) -> Result<NetworkDescription> {
        let xml = xml.attempt(|| format!("read the definition of network `{}`", self.name))?;
        NetworkDescription::read(&xml).map_err(|source| Error::Report {
            subject: format!("network `{}`", self.name),
            source,
        })
    }
}

/// Returns a network's XML for its next start.
pub(super) fn config_xml(network: &VirtNetwork) -> Result<String, virt::error::Error> {
    let inactive = network.xml_desc(sys::VIR_NETWORK_XML_INACTIVE);
    // The `test` driver does not support the flag.
    inactive.or_else(|error| match error.code().to_raw() {
        sys::VIR_ERR_INVALID_ARG => network.xml_desc(0),
        _ => Err(error),
    })
}

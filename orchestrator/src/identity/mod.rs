//! A deployment's keys: its certificate authority, its SSH key pair and its guests' host keys.

use std::path::Path;

use crate::spec::{Name, Spec};

/// All key material of one deployment, kept in its state directory with mode 0600.
#[derive(Clone, Debug)]
pub struct Identity {}

/// PEM texts of one mTLS peer.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Identity {
    /// Reads `dir`, making what is missing for the domains of `spec`.
    pub fn load_or_create(dir: &Path, spec: &Spec) -> anyhow::Result<Identity> {
        let _ = (dir, spec);
        unimplemented!()
    }

    /// The systemd credentials that give a guest its name, address and keys, as SMBIOS OEM strings.
    pub fn oem_strings(&self, spec: &Spec, domain: &Name) -> Vec<String> {
        let _ = (spec, domain);
        unimplemented!()
    }

    /// The certificate of a domain's service; its SANs are the guest's names and address.
    pub fn service(&self, spec: &Spec, domain: &Name) -> anyhow::Result<Certificate> {
        let _ = (spec, domain);
        unimplemented!()
    }

    pub fn export_credentials(&self, dir: &Path) -> anyhow::Result<()> {
        let _ = dir;
        unimplemented!()
    }

    /// pspd's own client certificate.
    pub fn client(&self) -> Certificate {
        unimplemented!()
    }
}

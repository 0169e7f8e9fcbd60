//! A deployment's keys: its certificate authority, its SSH key pair, its guests' host keys and its certificates.
//!
//! ```text
//! keys/ca.pem              the authority's certificate and key, ten years
//! keys/client.pem          pspd's own certificate and key
//! keys/services/NAME.pem   a service's certificate and key, 30 days
//! keys/ssh                 the SSH key that guests accept
//! keys/hosts/NAME          a guest's host key
//! keys/secrets/NAME/KEY    a generated secret of a service
//! ```
//! Each is one file of mode 0600, created atomically, so that two concurrent commands use the same content.

mod certificate;
mod credentials;
mod secret;
mod ssh;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ssh_key::PrivateKey;

use crate::libvirt::FwCfg;
use crate::spec::{Name, ServiceSpec, Spec};
use crate::state::write_atomically;

use certificate::Authority;
pub use certificate::Certificate;

/// All key material of one deployment.
#[derive(Clone, Debug)]
pub struct Identity {
    folder: PathBuf,
    authority: Authority,
    client: Certificate,
    ssh: PrivateKey,
}

impl Identity {
    /// Reads the keys in `folder`, and creates missing ones.
    pub fn load_or_create(folder: &Path, spec: &Spec) -> anyhow::Result<Identity> {
        let authority = Authority::load_or_create(&folder.join("ca.pem"), &spec.name)?;
        let client = authority.renewed(&folder.join("client.pem"), "pspd", &["pspd".to_owned()])?;
        let ssh = ssh::load_or_create(&folder.join("ssh"), &format!("pspd@{}", spec.name))?;
        Ok(Identity {
            folder: folder.to_owned(),
            authority,
            client,
            ssh,
        })
    }

    /// Returns a guest's host key, created at first use.
    pub fn host_key(&self, domain: &Name) -> anyhow::Result<PrivateKey> {
        ssh::load_or_create(&self.host_key_file(domain), domain.as_str())
    }

    /// Returns the files that only the guest may read, with their names in QEMU's firmware configuration.
    pub fn fw_cfg(&self, domain: &Name) -> anyhow::Result<Vec<FwCfg>> {
        self.host_key(domain)?;
        Ok(vec![FwCfg {
            name: "opt/pspd/ssh_host_ed25519_key".to_owned(),
            file: self.host_key_file(domain),
        }])
    }

    fn host_key_file(&self, domain: &Name) -> PathBuf {
        self.folder.join("hosts").join(domain.as_str())
    }

    /// Returns the SSH key that guests accept.
    pub fn ssh_key(&self) -> &PrivateKey {
        &self.ssh
    }

    /// Returns the file of that key, for OpenSSH.
    pub fn ssh_key_file(&self) -> PathBuf {
        self.folder.join("ssh")
    }

    /// Returns the systemd credentials with a guest's name, address and authorized key, as SMBIOS OEM strings. They are
    /// not secret: other processes can read them in QEMU's command line.
    pub fn oem_strings(&self, spec: &Spec, domain: &Name) -> anyhow::Result<Vec<String>> {
        let network = &spec.network;
        let address = format!(
            "{}/{}",
            spec.domains[domain].address,
            network.cidr.prefix_len()
        );
        let authorized = self
            .ssh
            .public_key()
            .to_openssh()
            .context("failed to encode the SSH key")?;
        let text = |name: &str, value: &str| format!("io.systemd.credential:{name}={value}");
        let binary = |name: &str, value: &str| {
            format!(
                "io.systemd.credential.binary:{name}={}",
                BASE64.encode(value)
            )
        };
        Ok(vec![
            text("system.hostname", domain.as_str()),
            text("pspd.address", &address),
            text("pspd.gateway", &network.gateway.to_string()),
            text("pspd.domain", &network.domain),
            binary("ssh.authorized_keys.root", &format!("{authorized}\n")),
        ])
    }

    /// Returns the certificate of a domain's service, renewed if it expires soon. Its names are those of the guest.
    pub fn service(&self, spec: &Spec, domain: &Name) -> anyhow::Result<Certificate> {
        let address = spec.domains[domain].address.to_string();
        let names = [
            spec.host_name(domain),
            domain.to_string(),
            address,
            "localhost".to_owned(),
        ];
        let path = self.folder.join("services").join(format!("{domain}.pem"));
        self.authority.renewed(&path, domain.as_str(), &names)
    }

    /// Returns the values of a service's secrets; generated values are created at first use.
    pub fn secrets(
        &self,
        domain: &Name,
        service: &ServiceSpec,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let folder = self.folder.join("secrets").join(domain.as_str());
        let values = service.secrets.iter();
        let values =
            values.map(|(key, from)| Ok((key.clone(), secret::value(&folder, key, from)?)));
        values.collect()
    }

    /// pspd's own client certificate.
    pub fn client(&self) -> &Certificate {
        &self.client
    }

    /// Writes `ca.pem`, `client.pem` and `client.key`, which any gRPC client can use to call the services, and each
    /// secret as `DOMAIN.KEY`.
    pub fn export_credentials(&self, folder: &Path, spec: &Spec) -> anyhow::Result<()> {
        credentials::export(&self.client, folder)?;
        for domain in spec.domains.values() {
            let Some(service) = &domain.service else {
                continue;
            };
            for (key, value) in self.secrets(&domain.name, service)? {
                let path = folder.join(format!("{}.{key}", domain.name));
                write_atomically(&path, value.as_bytes(), 0o600)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::topology;

    pub(crate) fn spec() -> Spec {
        let text = "name: demo\nimages: {debian: {recipe: r}}\ndomains:\n  web: {image: debian, address: 10.77.0.20}\n";
        let look = |path: &Path| {
            if path.ends_with("r") {
                topology::Found::Folder
            } else {
                topology::Found::File
            }
        };
        topology::parse(text, Path::new("/"), &look).unwrap()
    }

    #[test]
    fn keys_are_created_once_and_only_their_owner_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, web) = (spec(), Name::new("web").unwrap());
        let first = Identity::load_or_create(folder.path(), &spec).unwrap();
        let second = Identity::load_or_create(folder.path(), &spec).unwrap();
        assert_eq!(first.client().certificate, second.client().certificate);
        assert_eq!(
            first.host_key(&web).unwrap(),
            second.host_key(&web).unwrap()
        );
        assert_eq!(
            first.service(&spec, &web).unwrap().certificate,
            second.service(&spec, &web).unwrap().certificate
        );
        for file in [
            "ca.pem",
            "client.pem",
            "ssh",
            "hosts/web",
            "services/web.pem",
        ] {
            let mode = fs::metadata(folder.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_damaged_file_is_reported_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), "torn").unwrap();
        let error = Identity::load_or_create(folder.path(), &spec()).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("ca.pem`") && text.contains("Remove"),
            "{text}"
        );
    }

    #[test]
    fn a_guest_gets_its_name_address_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec();
        let identity = Identity::load_or_create(folder.path(), &spec).unwrap();
        let strings = identity
            .oem_strings(&spec, &Name::new("web").unwrap())
            .unwrap();
        assert_eq!(strings[0], "io.systemd.credential:system.hostname=web");
        assert_eq!(
            strings[1],
            "io.systemd.credential:pspd.address=10.77.0.20/24"
        );
        let files = identity.fw_cfg(&Name::new("web").unwrap()).unwrap();
        let key = fs::read_to_string(&files[0].file).unwrap();
        assert!(key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n") && key.ends_with('\n'));
        let body = BASE64.encode(&key);
        assert!(!strings.iter().any(|string| string.contains(&body)));
    }
}

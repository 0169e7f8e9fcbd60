//! A deployment's keys: its certificate authority, its SSH key pair, its guests' host keys and its certificates.
//!
//! ```text
//! keys/ca.pem              the authority's certificate and key, ten years
//! keys/client.pem          pspd's own certificate and key
//! keys/services/NAME.pem   a service's certificate and key, 30 days
//! keys/fronts/HOST.pem     a published HTTP server's certificate and key, 30 days
//! keys/ssh                 the SSH key that guests accept
//! keys/hosts/NAME          a guest's host key
//! keys/secrets/NAME/KEY    a generated secret of a service
//! ```
//! Each is one file of mode 0600 that is written completely or not at all. Loading only reads; [`create`] and [`renew`]
//! are for steps.

mod certificate;
mod credentials;
mod front;
mod secret;
mod shared;
mod ssh;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ssh_key::{LineEnding, PrivateKey};

use crate::state::write_atomically;

pub use certificate::Certificate;
use certificate::{Authority, Names, Usage};
pub use front::{FrontPem, front_certificate};
use pspd_model::observed::{CertificateOwner, KeysState, SSH_KEY, host_key_file};
use pspd_model::spec::{DomainSpec, Name, Secret as SecretSource, ServiceSpec, Spec};
pub use secret::LONGEST as LONGEST_SECRET;
pub use shared::{place, shared};

/// All key material of one deployment.
#[derive(Clone, Debug)]
pub struct Identity {
    folder: PathBuf,
    authority: Authority,
    client: Certificate,
    ssh: PrivateKey,
}

impl Identity {
    /// Reads the keys of a deployment; `None` before they were created.
    pub fn load(folder: &Path) -> anyhow::Result<Option<Identity>> {
        let Some(authority) = Authority::load(&folder.join(AUTHORITY))? else {
            return Ok(None);
        };
        let client = authority.certificate(&folder.join(CLIENT))?;
        let ssh = ssh::load(&folder.join(SSH))?;
        Ok(client.zip(ssh).map(|(client, ssh)| Identity {
            folder: folder.to_owned(),
            authority,
            client,
            ssh,
        }))
    }

    /// A guest's host key.
    pub fn host_key(&self, domain: &Name) -> anyhow::Result<PrivateKey> {
        let path = self.host_key_file(domain);
        ssh::load(&path)?.with_context(|| missing(&path))
    }

    /// Where a guest's host key is, which only that guest may read.
    pub fn host_key_file(&self, domain: &Name) -> PathBuf {
        self.folder.join(host_key_file(domain))
    }

    /// Returns the SSH key that guests accept.
    pub fn ssh_key(&self) -> &PrivateKey {
        &self.ssh
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

    /// The certificate of a domain's service, which must exist.
    pub fn service(&self, domain: &Name) -> anyhow::Result<Certificate> {
        let path = self.folder.join(service_file(domain));
        self.certificate(domain)?.with_context(|| missing(&path))
    }

    /// The certificate of a domain's service; `None` before it was signed.
    pub fn certificate(&self, domain: &Name) -> anyhow::Result<Option<Certificate>> {
        let path = self.folder.join(service_file(domain));
        self.authority.certificate(&path)
    }

    /// Every private key of the deployment in PEM, with a description.
    pub fn private_keys(&self, spec: &Spec) -> anyhow::Result<Vec<(String, String)>> {
        let openssh = |key: &PrivateKey| -> anyhow::Result<String> {
            let pem = key.to_openssh(LineEnding::LF);
            Ok(pem.context("failed to encode an SSH key")?.to_string())
        };
        let named = |name: &str, pem: &str| (name.to_owned(), pem.to_owned());
        let mut keys = vec![
            named("the authority's private key", self.authority.key()),
            named("pspd's private key", &self.client.key),
            named("pspd's private SSH key", &openssh(&self.ssh)?),
        ];
        for name in spec.domains.keys() {
            let host_key = format!("the private host key of `{name}`");
            if let Some(text) = store::read(&self.host_key_file(name))? {
                keys.push(named(&host_key, &openssh(&self.host_key(name)?)?));
                keys.push((host_key, text));
            }
            if let Some(certificate) = self.certificate(name)? {
                keys.push((format!("the private key of `{name}`"), certificate.key));
            }
        }
        Ok(keys)
    }

    /// The values of a service's secrets.
    pub fn secrets(
        &self,
        domain: &Name,
        service: &ServiceSpec,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        secrets(&self.folder, domain, service)
    }

    /// The values of all generated secrets, also of those that no service has now.
    pub fn generated_secrets(&self) -> anyhow::Result<Vec<String>> {
        secret::generated(&self.folder.join(SECRETS))
    }

    /// The folder of keys.
    pub fn folder(&self) -> &Path {
        &self.folder
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
                let path = folder.join(credentials::secret_file(&domain.name, &key));
                write_atomically(&path, value.as_bytes(), 0o600)?;
            }
        }
        Ok(())
    }
}

/// The kinds of files in the folder of keys.
#[derive(Clone, Copy, Debug)]
pub enum KeyFile {
    Authority,
    Certificate,
    Ssh,
    Secret,
}

/// Refuses the text of a key file that this module could not read later.
pub fn check(kind: KeyFile, text: &str) -> anyhow::Result<()> {
    match kind {
        KeyFile::Authority => certificate::check_authority(text),
        KeyFile::Certificate => certificate::check(text),
        KeyFile::Ssh => ssh::check(text),
        KeyFile::Secret => secret::check(text).context("it is not a secret in one line"),
    }
}

const AUTHORITY: &str = "ca.pem";
const CLIENT: &str = "client.pem";
const SECRETS: &str = "secrets";
/// The file of the SSH key in the folder of keys.
pub const SSH: &str = SSH_KEY;

fn service_file(domain: &Name) -> String {
    format!("services/{domain}.pem")
}

fn secrets_folder(domain: &Name) -> String {
    format!("{SECRETS}/{domain}")
}

/// The file of a generated secret in the folder of keys.
pub fn file_of_secret(domain: &Name, key: &str) -> String {
    format!("{}/{key}", secrets_folder(domain))
}

fn missing(path: &Path) -> String {
    format!("`{}` is missing; `pspd up` creates it", path.display())
}

/// Which keys the spec needs that do not exist, and which certificates must be renewed. A damaged key is an error.
pub fn state(folder: &Path, spec: &Spec) -> anyhow::Result<KeysState> {
    let files = needed(spec).into_iter();
    let missing = files.filter(|file| !folder.join(file).exists()).collect();
    let mut state = KeysState {
        missing,
        ..KeysState::default()
    };
    for file in spec.domains.keys().map(host_key_file).chain([SSH.into()]) {
        ssh::load(&folder.join(file))?;
    }
    let Some(authority) = Authority::load(&folder.join(AUTHORITY))? else {
        return Ok(state);
    };
    for (owner, file, names) in certificates(spec) {
        let certificate = authority.certificate(&folder.join(file))?;
        if certificate.is_some_and(|certificate| !authority.is_usable(&certificate, &names)) {
            state.expiring.insert(owner);
        }
    }
    Ok(state)
}

/// The values of a service's secrets; `folder` is the folder of keys.
pub fn secrets(
    folder: &Path,
    domain: &Name,
    service: &ServiceSpec,
) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = folder.join(secrets_folder(domain));
    let values = service.secrets.iter();
    let values = values.map(|(key, from)| Ok((key.clone(), secret::value(&folder, key, from)?)));
    values.collect()
}

/// Whether a generated secret of this domain is missing.
pub fn lacks_secrets(state: &KeysState, domain: &Name) -> bool {
    let folder = format!("{}/", secrets_folder(domain));
    let next = state.missing.range(folder.clone()..).next();
    next.is_some_and(|file| file.starts_with(&folder))
}

/// A certificate for a peer on this host, of the authority in `folder`, which is created at its first.
pub fn issue(folder: &Path, name: &Name) -> anyhow::Result<Certificate> {
    let path = folder.join(AUTHORITY);
    Authority::create(&path, name)?;
    let authority = Authority::load(&path)?.with_context(|| missing(&path))?;
    let names = Names {
        common: name.to_string(),
        alternative: vec![name.to_string(), "localhost".to_owned()],
        usage: Usage::Peer,
    };
    let path = folder.join(service_file(name));
    authority.renew(&path, &names)?;
    let certificate = authority.certificate(&path)?;
    certificate.with_context(|| missing(&path))
}

/// Creates every key that is missing, and signs every certificate that is missing or of another authority.
pub fn create(folder: &Path, spec: &Spec) -> anyhow::Result<()> {
    let path = folder.join(AUTHORITY);
    Authority::create(&path, &spec.name)?;
    let authority = Authority::load(&path)?.with_context(|| missing(&path))?;
    ssh::create(&folder.join(SSH), &format!("pspd@{}", spec.name))?;
    for (_, file, names) in certificates(spec) {
        authority.renew(&folder.join(file), &names)?;
    }
    for domain in spec.domains.values() {
        let name = &domain.name;
        ssh::create(&folder.join(host_key_file(name)), name.as_str())?;
        let keys = generated(domain);
        for key in keys {
            secret::create(&folder.join(secrets_folder(name)), key)?;
        }
    }
    Ok(())
}

/// Signs a certificate that replaces one with little time left.
pub fn renew(folder: &Path, spec: &Spec, owner: &CertificateOwner) -> anyhow::Result<()> {
    let path = folder.join(AUTHORITY);
    let authority = Authority::load(&path)?.with_context(|| missing(&path))?;
    let mut all = certificates(spec).into_iter();
    match all.find(|(other, ..)| other == owner) {
        Some((_, file, names)) => authority.renew(&folder.join(file), &names),
        None => Ok(()),
    }
}

/// The files of all keys that a spec needs, relative to the folder of keys.
fn needed(spec: &Spec) -> Vec<String> {
    let mut files = vec![AUTHORITY.to_owned(), SSH.to_owned()];
    files.extend(certificates(spec).into_iter().map(|(_, file, _)| file));
    for domain in spec.domains.values() {
        let name = &domain.name;
        files.push(host_key_file(name));
        let keys = generated(domain);
        files.extend(keys.map(|key| format!("{}/{key}", secrets_folder(name))));
    }
    files
}

fn generated(domain: &DomainSpec) -> impl Iterator<Item = &String> {
    let services = domain.service.iter();
    services
        .flat_map(|service| &service.secrets)
        .filter(|(_, from)| **from == SecretSource::Generate)
        .map(|(key, _)| key)
}

/// All certificates that a spec needs: whose they are, their files, and their names. A service's names are its guest's.
fn certificates(spec: &Spec) -> Vec<(CertificateOwner, String, Names)> {
    let client = Names {
        common: "pspd".to_owned(),
        alternative: vec!["pspd".to_owned()],
        usage: Usage::Peer,
    };
    let mut all = vec![(CertificateOwner::Client, CLIENT.to_owned(), client)];
    let services = spec.domains.values();
    for domain in services.filter(|domain| domain.service.is_some()) {
        let name = &domain.name;
        let names = Names {
            common: name.to_string(),
            alternative: vec![
                spec.host_name(name),
                name.to_string(),
                domain.address.to_string(),
                "localhost".to_owned(),
            ],
            usage: Usage::Peer,
        };
        let owner = CertificateOwner::Service(name.clone());
        all.push((owner, service_file(name), names));
    }
    let published = spec.domains.values().flat_map(|domain| &domain.publish);
    for publish in published.filter(|publish| publish.is_self_signed()) {
        let names = Names {
            common: spec.name.to_string(),
            alternative: publish.certificate_names().into_iter().collect(),
            usage: Usage::Server,
        };
        let owner = CertificateOwner::Front(publish.host);
        all.push((owner, front::file(publish.host), names));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use pspd_model::topology;

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

    fn created(folder: &Path, spec: &Spec) -> Identity {
        create(folder, spec).unwrap();
        Identity::load(folder).unwrap().unwrap()
    }

    #[test]
    fn keys_are_created_once_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let (spec, web) = (spec(), Name::new("web").unwrap());
        let first = created(folder.path(), &spec);
        let second = created(folder.path(), &spec);
        assert_eq!(first.client().certificate, second.client().certificate);
        assert_eq!(
            first.host_key(&web).unwrap(),
            second.host_key(&web).unwrap()
        );
        for file in needed(&spec) {
            let mode = fs::metadata(folder.path().join(&file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn looking_at_keys_creates_none_and_names_each_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, spec) = (folder.path().join("keys"), spec());
        assert!(Identity::load(&keys).unwrap().is_none());
        let missing: Vec<String> = state(&keys, &spec).unwrap().missing.into_iter().collect();
        assert_eq!(missing, ["ca.pem", "client.pem", "hosts/web", "ssh"]);
        assert!(!keys.exists());
        create(&keys, &spec).unwrap();
        assert_eq!(state(&keys, &spec).unwrap(), KeysState::default());
    }

    #[test]
    fn a_certificate_of_another_authority_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec();
        create(folder.path(), &spec).unwrap();
        fs::remove_file(folder.path().join(AUTHORITY)).unwrap();
        Authority::create(&folder.path().join(AUTHORITY), &spec.name).unwrap();
        let expiring = state(folder.path(), &spec).unwrap().expiring;
        assert_eq!(
            expiring.into_iter().collect::<Vec<_>>(),
            [CertificateOwner::Client]
        );
        renew(folder.path(), &spec, &CertificateOwner::Client).unwrap();
        assert_eq!(state(folder.path(), &spec).unwrap(), KeysState::default());
    }

    #[test]
    fn a_damaged_file_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, spec) = (folder.path(), spec());
        create(keys, &spec).unwrap();
        for file in needed(&spec) {
            let path = keys.join(&file);
            let good = fs::read(&path).unwrap();
            for damaged in [&b""[..], b"torn", b"\xff\0", &good[..good.len() / 2]] {
                fs::write(&path, damaged).unwrap();
                let error = state(keys, &spec).expect_err(&file);
                let expected = format!(
                    "`{}` is damaged. Remove it, then run `pspd up` to create a new one",
                    path.display()
                );
                assert_eq!(crate::hint::told(&error), expected);
            }
            fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn a_guest_gets_its_name_address_and_keys() {
        let folder = tempfile::tempdir().unwrap();
        let spec = spec();
        let identity = created(folder.path(), &spec);
        let strings = identity
            .oem_strings(&spec, &Name::new("web").unwrap())
            .unwrap();
        assert_eq!(strings[0], "io.systemd.credential:system.hostname=web");
        assert_eq!(
            strings[1],
            "io.systemd.credential:pspd.address=10.77.0.20/24"
        );
        let file = identity.host_key_file(&Name::new("web").unwrap());
        let key = fs::read_to_string(file).unwrap();
        assert!(key.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n") && key.ends_with('\n'));
        let body = BASE64.encode(&key);
        assert!(!strings.iter().any(|string| string.contains(&body)));
    }
}

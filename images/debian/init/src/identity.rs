//! The guest's identity: credentials from the OEM strings, secrets from QEMU's firmware configuration, and the files
//! made from them.
//!
//! The files are in `/run/pspd`, so the root file system does not contain the identity of a domain.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const TEXT: &str = "io.systemd.credential:";
const BINARY: &str = "io.systemd.credential.binary:";

/// A guest's identity; missing values are `None`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Identity {
    pub(crate) host_name: Option<String>,
    /// Address and prefix length.
    pub(crate) address: Option<(Ipv4Addr, u8)>,
    /// Default route and DNS server.
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) domain: Option<String>,
    pub(crate) host_key: Option<Vec<u8>>,
    pub(crate) authorized_keys: Option<Vec<u8>>,
}

impl Identity {
    /// Reads the known credentials from OEM strings; ignores other strings.
    pub(crate) fn from_strings(strings: &[String]) -> Result<Identity> {
        let mut identity = Identity::default();
        for string in strings {
            let Some((name, value)) = credential(string)? else {
                continue;
            };
            identity
                .set(name, value)
                .with_context(|| format!("failed to decode credential `{name}`"))?;
        }
        Ok(identity)
    }

    /// Reads the secrets from `directory`, one folder per secret. They are not OEM strings, because the host's list of
    /// processes shows those.
    pub(crate) fn with_secrets(mut self, directory: &str) -> Result<Identity> {
        let path = format!("{directory}/ssh_host_ed25519_key/raw");
        self.host_key = match fs::read(&path) {
            Ok(key) => Some(key),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("failed to read `{path}`")),
        };
        Ok(self)
    }

    fn set(&mut self, name: &str, value: Vec<u8>) -> Result<()> {
        match name {
            "system.hostname" => self.host_name = Some(String::from_utf8(value)?),
            "pspd.address" => self.address = Some(prefixed(&String::from_utf8(value)?)?),
            "pspd.gateway" => self.gateway = Some(String::from_utf8(value)?.parse()?),
            "pspd.domain" => self.domain = Some(String::from_utf8(value)?),
            "ssh.authorized_keys.root" => self.authorized_keys = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// Writes the files for sshd and the resolver. `directory` must exist.
    pub(crate) fn write_files(&self, directory: &str) -> Result<()> {
        let write = |name: &str, mode: u32, content: &[u8]| {
            let path = format!("{directory}/{name}");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(mode)
                .open(&path)
                .with_context(|| format!("failed to create `{path}`"))?;
            file.write_all(content)
                .with_context(|| format!("failed to write `{path}`"))
        };
        write("hosts", 0o644, self.hosts().as_bytes())?;
        write("resolv.conf", 0o644, self.resolv_conf().as_bytes())?;
        if let Some(key) = &self.host_key {
            write("ssh_host_ed25519_key", 0o600, key)?;
        }
        if let Some(keys) = &self.authorized_keys {
            write("authorized_keys", 0o600, keys)?;
        }
        Ok(())
    }

    fn hosts(&self) -> String {
        let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost\n");
        if let (Some((address, _)), Some(name)) = (self.address, &self.host_name) {
            let full = self
                .domain
                .iter()
                .map(|domain| format!("{name}.{domain} "))
                .collect::<String>();
            hosts.push_str(&format!("{address} {full}{name}\n"));
        }
        hosts
    }

    fn resolv_conf(&self) -> String {
        let search = self
            .domain
            .iter()
            .map(|domain| format!("search {domain}\n"));
        let server = self
            .gateway
            .iter()
            .map(|gateway| format!("nameserver {gateway}\n"));
        search.chain(server).collect()
    }
}

/// Splits `io.systemd.credential[.binary]:NAME=VALUE`, and decodes a binary value.
fn credential(string: &str) -> Result<Option<(&str, Vec<u8>)>> {
    let (text, binary) = (string.strip_prefix(TEXT), string.strip_prefix(BINARY));
    let Some((name, value)) = text.or(binary).and_then(|rest| rest.split_once('=')) else {
        return Ok(None);
    };
    let value = match binary {
        Some(_) => STANDARD
            .decode(value)
            .with_context(|| format!("failed to decode credential `{name}`"))?,
        None => value.as_bytes().to_vec(),
    };
    Ok(Some((name, value)))
}

fn prefixed(text: &str) -> Result<(Ipv4Addr, u8)> {
    let (address, prefix) = text
        .split_once('/')
        .ok_or_else(|| anyhow!("`{text}` has no prefix length"))?;
    Ok((address.parse()?, prefix.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn credentials_become_an_identity() {
        let identity = Identity::from_strings(&strings(&[
            "somebody else's",
            "io.systemd.credential:system.hostname=web",
            "io.systemd.credential:pspd.address=10.77.0.10/24",
            "io.systemd.credential:pspd.gateway=10.77.0.1",
            "io.systemd.credential:pspd.domain=pspd.internal",
            "io.systemd.credential.binary:ssh.authorized_keys.root=a2V5Cg==",
            "io.systemd.credential:tmpfiles.extra=ignored",
        ]))
        .unwrap();
        assert_eq!(
            identity,
            Identity {
                host_name: Some("web".into()),
                address: Some((Ipv4Addr::new(10, 77, 0, 10), 24)),
                gateway: Some(Ipv4Addr::new(10, 77, 0, 1)),
                domain: Some("pspd.internal".into()),
                host_key: None,
                authorized_keys: Some(b"key\n".to_vec()),
            }
        );
        assert_eq!(
            identity.hosts(),
            "127.0.0.1 localhost\n::1 localhost\n10.77.0.10 web.pspd.internal web\n"
        );
        assert_eq!(
            identity.resolv_conf(),
            "search pspd.internal\nnameserver 10.77.0.1\n"
        );
    }

    #[test]
    fn a_broken_credential_is_named() {
        for (string, name) in [
            (
                "io.systemd.credential:pspd.address=10.77.0.10",
                "pspd.address",
            ),
            ("io.systemd.credential:pspd.gateway=here", "pspd.gateway"),
            (
                "io.systemd.credential.binary:ssh.authorized_keys.root=%",
                "ssh.authorized_keys.root",
            ),
        ] {
            let error = Identity::from_strings(&strings(&[string])).unwrap_err();
            assert!(
                format!("{error:#}").contains(&format!("`{name}`")),
                "{error:#}"
            );
        }
    }
}

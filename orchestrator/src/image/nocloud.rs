//! NoCloud seeds: how a stock cloud image learns its name, address and keys.
//!
//! The volume is a small FAT file system labelled `CIDATA`
//! (<https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>). Its files are JSON, which is YAML too.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use pspd_model::spec::{Digest, Mac};
use serde_json::{Value, json};

use crate::tool;

/// What a guest learns from its seed.
#[derive(Clone, Debug)]
pub struct NoCloud<'a> {
    pub host_name: &'a str,
    pub domain: &'a str,
    pub mac: Mac,
    /// The guest's address, with the network's prefix length.
    pub address: Ipv4Net,
    /// Default route and DNS server.
    pub gateway: Ipv4Addr,
    /// OpenSSH private key file; the only host key that the guest gets.
    pub host_key: &'a str,
    /// One line of an authorized_keys file, for root.
    pub authorized_key: &'a str,
}

impl NoCloud<'_> {
    /// Writes the seed to a new file. An error leaves no file; an existing file is an error.
    pub fn write(&self, path: &Path) -> Result<()> {
        let context = || format!("failed to create the seed `{}`", path.display());
        // It holds the host's private key.
        fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(context)?;
        let written = self.fill(path).with_context(context);
        if written.is_err() {
            // The error that counts is the tool's.
            let _ = fs::remove_file(path);
        }
        written
    }

    fn fill(&self, path: &Path) -> Result<()> {
        let file = fs::File::options()
            .write(true)
            .open(path)
            .context("failed to open it")?;
        file.set_len(1 << 20).context("failed to set its size")?;
        tool::run(
            Command::new("mkfs.vfat")
                .args(["-n", "CIDATA", "--"])
                .arg(path),
            "dosfstools",
            b"",
        )?;
        for (name, content) in self.files() {
            let mut copy = Command::new("mcopy");
            copy.arg("-i").arg(path).arg("-").arg(format!("::{name}"));
            tool::run(&mut copy, "mtools", content.as_bytes())?;
        }
        Ok(())
    }

    fn files(&self) -> [(&'static str, String); 3] {
        let user_data = format!("#cloud-config\n{:#}\n", self.user_data());
        let network = format!("{:#}\n", self.network_config());
        // cloud-init applies a seed once per instance id: another seed is another instance.
        let id = Digest::of(format!("{user_data}{network}").as_bytes());
        let meta = json!({"instance-id": id.short(), "local-hostname": self.host_name});
        [
            ("user-data", user_data),
            ("meta-data", format!("{meta:#}\n")),
            ("network-config", network),
        ]
    }

    fn user_data(&self) -> Value {
        json!({
            "hostname": self.host_name,
            "fqdn": format!("{}.{}", self.host_name, self.domain),
            "manage_etc_hosts": "localhost",
            "disable_root": false,
            "ssh_pwauth": false,
            "ssh_authorized_keys": [self.authorized_key.trim()],
            "ssh_deletekeys": true,
            "ssh_keys": {"ed25519_private": self.host_key},
            "package_update": false,
        })
    }

    fn network_config(&self) -> Value {
        json!({
            "version": 2,
            "ethernets": {
                "primary": {
                    "match": {"macaddress": self.mac.to_string()},
                    "dhcp4": false,
                    "addresses": [self.address.to_string()],
                    "routes": [{"to": "0.0.0.0/0", "via": self.gateway.to_string()}],
                    "nameservers": {"search": [self.domain], "addresses": [self.gateway.to_string()]},
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> NoCloud<'static> {
        NoCloud {
            host_name: "web-server",
            domain: "pspd.internal",
            mac: Mac([0x52, 0x54, 0, 1, 2, 3]),
            address: "10.77.0.12/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 77, 0, 1),
            host_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nAA\n-----END OPENSSH PRIVATE KEY-----\n",
            authorized_key: "ssh-ed25519 AAAA pspd\n",
        }
    }

    #[test]
    fn files_of_a_seed() {
        let text: String = seed()
            .files()
            .iter()
            .map(|(name, content)| format!("== {name}\n{content}"))
            .collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn another_address_is_another_instance() {
        let [_, (_, before), _] = seed().files();
        let moved = NoCloud {
            address: "10.77.0.13/24".parse().unwrap(),
            ..seed()
        };
        let [_, (_, after), _] = moved.files();
        assert_ne!(before, after);
    }

    #[test]
    fn the_volume_holds_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed");
        seed().write(&path).unwrap();
        let output = Command::new("mtype")
            .arg("-i")
            .arg(&path)
            .arg("::user-data")
            .output()
            .unwrap();
        let [(_, user_data), ..] = seed().files();
        assert_eq!(String::from_utf8_lossy(&output.stdout), user_data);
        let label = fs::read(&path).unwrap();
        assert!(label.windows(11).any(|window| window == b"CIDATA     "));
        seed().write(&path).unwrap_err();
    }
}

//! The capabilities of a libvirt host: emulator, KVM and UEFI.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{Attempt, Malformed};
use super::{Connection, Error, Result};

/// What the host supports for x86_64 guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub emulator: PathBuf,
    /// Whether libvirt offers KVM. [`crate::accel`] tests whether guests can run with it.
    pub kvm: bool,
    /// Whether libvirt has UEFI firmware.
    pub uefi: bool,
}

impl Connection {
    pub fn capabilities(&self) -> Result<Capabilities> {
        let attempt = || format!("read the capabilities of libvirt at `{}`", self.uri());
        let host = self.raw().capabilities().attempt(attempt)?;
        let (emulator, kvm) = emulator(&host).map_err(|source| self.unreadable(source))?;
        let path = emulator.display().to_string();
        let domain = self
            .raw()
            .domain_capabilities(Some(&path), Some("x86_64"), Some("q35"), Some("qemu"), 0)
            .attempt(attempt)?;
        let uefi = offers_uefi(&domain).map_err(|source| self.unreadable(source))?;
        Ok(Capabilities {
            emulator,
            kvm,
            uefi,
        })
    }

    fn unreadable(&self, source: Malformed) -> Error {
        let subject = format!("the capabilities of `{}`", self.uri());
        Error::Report { subject, source }
    }
}

fn emulator(xml: &str) -> Result<(PathBuf, bool), Malformed> {
    #[derive(Deserialize)]
    struct Host {
        #[serde(default)]
        guest: Vec<Guest>,
    }
    #[derive(Deserialize)]
    struct Guest {
        arch: Arch,
    }
    #[derive(Deserialize)]
    struct Arch {
        #[serde(rename = "@name")]
        name: String,
        emulator: Option<PathBuf>,
        #[serde(default)]
        domain: Vec<Domain>,
    }
    #[derive(Deserialize)]
    struct Domain {
        #[serde(rename = "@type")]
        kind: String,
    }
    let host: Host = quick_xml::de::from_str(xml)?;
    let arch = host
        .guest
        .into_iter()
        .map(|guest| guest.arch)
        .find(|arch| arch.name == "x86_64");
    let missing = || Malformed::Value {
        what: "set of capabilities (no emulator for x86_64)",
        value: xml.lines().next().unwrap_or_default().to_owned(),
    };
    let arch = arch.ok_or_else(missing)?;
    let kvm = arch.domain.iter().any(|domain| domain.kind == "kvm");
    Ok((arch.emulator.ok_or_else(missing)?, kvm))
}

fn offers_uefi(xml: &str) -> Result<bool, Malformed> {
    #[derive(Deserialize)]
    struct Capabilities {
        os: Os,
    }
    #[derive(Deserialize)]
    struct Os {
        #[serde(rename = "enum", default)]
        enums: Vec<Enum>,
    }
    #[derive(Deserialize)]
    struct Enum {
        #[serde(rename = "@name")]
        name: String,
        #[serde(default)]
        value: Vec<String>,
    }
    let capabilities: Capabilities = quick_xml::de::from_str(xml)?;
    let mut enums = capabilities.os.enums.into_iter();
    let firmware = enums.find(|choice| choice.name == "firmware");
    Ok(firmware.is_some_and(|choice| choice.value.iter().any(|value| value == "efi")))
}

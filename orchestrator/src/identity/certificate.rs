//! The certificate authority and its certificates: ECDSA P-256, whose handshakes are fast in emulated guests.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use pspd_model::spec::{Digest, Name};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

use super::store;
use crate::state::write_atomically;

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_DAYS: u32 = 3650;
const DAYS: u32 = 30;
/// A certificate is renewed when less than a third of its validity is left.
const RENEW_DAYS: u32 = DAYS / 3;
/// Clocks of guests and hosts differ, and the clock of a restored guest stops for a moment.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The PEM files of an mTLS peer.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Certificate {
    /// Identifies the certificate.
    pub fn digest(&self) -> Digest {
        Digest::of(format!("{}{}", self.ca, self.certificate).as_bytes())
    }

    /// Returns the certificate in DER, as sent in TLS handshakes.
    pub fn der(&self) -> anyhow::Result<Vec<u8>> {
        let pem = Pem::iter_from_buffer(self.certificate.as_bytes()).next();
        let pem = pem.context("the PEM file contains no certificate")?;
        Ok(pem.context("failed to read a certificate")?.contents)
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) common: String,
    pub(super) alternative: Vec<String>,
    pub(super) usage: Usage,
}

/// What a certificate proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// Who calls a service, and who answers.
    Peer,
    /// Who answers: services do not accept it from a caller, with any names.
    Server,
}

#[derive(Clone, Debug)]
pub(super) struct Authority {
    certificate: String,
    key: String,
}

impl Authority {
    /// The authority in the file; `None` where it does not exist.
    pub(super) fn load(path: &Path) -> anyhow::Result<Option<Authority>> {
        let Some(text) = store::read(path)? else {
            return Ok(None);
        };
        let (certificate, key) = split(path, &text)?;
        let authority = Authority { certificate, key };
        let issuer = authority.issuer();
        issuer.map_err(|_| store::damaged(path))?;
        Ok(Some(authority))
    }

    /// Creates the authority's file unless it exists.
    pub(super) fn create(path: &Path, deployment: &Name) -> anyhow::Result<()> {
        store::read_or_create(path, || authority(deployment)).map(drop)
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The certificate in the file; `None` where it does not exist.
    pub(super) fn certificate(&self, path: &Path) -> anyhow::Result<Option<Certificate>> {
        let Some(text) = store::read(path)? else {
            return Ok(None);
        };
        let (certificate, key) = split(path, &text)?;
        Ok(Some(Certificate {
            ca: self.certificate.clone(),
            certificate,
            key,
        }))
    }

    /// Signs a certificate with these names, unless the file has one with time left.
    pub(super) fn renew(&self, path: &Path, names: &Names) -> anyhow::Result<()> {
        let sign = || self.sign(names);
        store::read_or_create(path, sign)?;
        let usable = self.certificate(path)?;
        if usable.is_none_or(|certificate| !self.is_usable(&certificate, names)) {
            write_atomically(path, sign()?.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// Whether a certificate is this authority's, has these names, and time left.
    pub(super) fn is_usable(&self, certificate: &Certificate, names: &Names) -> bool {
        self.is_good(&certificate.certificate, &names.alternative)
    }

    fn issuer(&self) -> anyhow::Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::from_pem(&self.key).context("failed to read the authority's key")?;
        Issuer::from_ca_cert_pem(&self.certificate, key)
            .context("failed to read the authority's certificate")
    }

    fn sign(&self, names: &Names) -> anyhow::Result<String> {
        let issuer = self.issuer()?;
        let mut params = CertificateParams::new(names.alternative.as_slice())
            .context("failed to set the names of a certificate")?;
        params
            .distinguished_name
            .push(DnType::CommonName, &names.common);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if names.usage == Usage::Peer {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, DAYS);
        let key = KeyPair::generate().context("failed to generate a key")?;
        let certificate = params
            .signed_by(&key, &issuer)
            .context("failed to sign a certificate")?;
        Ok(certificate.pem() + &key.serialize_pem())
    }

    /// Returns whether a certificate was signed by this authority, has these names, and does not expire soon.
    fn is_good(&self, pem: &str, names: &[String]) -> bool {
        let check = || -> Option<bool> {
            let own = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
            let issuer = Pem::iter_from_buffer(self.certificate.as_bytes())
                .next()?
                .ok()?;
            let (own, issuer) = (own.parse_x509().ok()?, issuer.parse_x509().ok()?);
            let left = own.validity().time_to_expiration()?;
            let name_count = own
                .subject_alternative_name()
                .ok()??
                .value
                .general_names
                .len();
            let named = names.iter().all(|name| has_name(&own, name)) && name_count == names.len();
            let signed = own.verify_signature(Some(issuer.public_key())).is_ok();
            Some(named && signed && left.whole_days() >= i64::from(RENEW_DAYS))
        };
        check().unwrap_or(false)
    }
}

/// Whether a certificate has exactly this name among its alternative names.
pub(super) fn has_name(certificate: &X509Certificate<'_>, name: &str) -> bool {
    names_of(certificate).iter().any(|other| other == name)
}

/// The alternative names of a certificate: host names in lower case, and addresses.
pub(super) fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let address = |bytes: &[u8]| match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice());
    let names = names.unwrap_or_default().iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => Some(address(bytes)?.to_string()),
            _ => None,
        })
        .collect()
}

fn authority(deployment: &Name) -> anyhow::Result<String> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("pspd deployment {deployment}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    let key = KeyPair::generate().context("failed to generate a key")?;
    let certificate = params
        .self_signed(&key)
        .context("failed to create the certificate authority")?;
    Ok(certificate.pem() + &key.serialize_pem())
}

fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = std::time::SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + DAY * days).into();
}

/// Splits a file into its two PEM blocks.
fn split(path: &Path, text: &str) -> anyhow::Result<(String, String)> {
    Ok(parts(text).ok_or_else(|| store::damaged(path))?)
}

/// Refuses a text that is not a certificate and its own key.
pub(super) fn check(text: &str) -> anyhow::Result<()> {
    let (certificate, key) = parts(text).context("it is not a certificate with its private key")?;
    let key = KeyPair::from_pem(&key).context("failed to read its private key")?;
    let pem = Pem::iter_from_buffer(certificate.as_bytes()).next();
    let pem = pem.context("it contains no certificate")?;
    let pem = pem.context("failed to read its certificate")?;
    let certificate = pem.parse_x509().context("failed to read its certificate")?;
    ensure!(
        certificate.public_key().raw == key.subject_public_key_info(),
        "its private key is not that of its certificate"
    );
    Ok(())
}

/// Refuses a text that is not an authority's.
pub(super) fn check_authority(text: &str) -> anyhow::Result<()> {
    check(text)?;
    let (certificate, key) = parts(text).context("it is not a certificate with its private key")?;
    Authority { certificate, key }.issuer().map(drop)
}

/// The certificate and the key of a file.
fn parts(text: &str) -> Option<(String, String)> {
    let at = text
        .find("-----BEGIN PRIVATE KEY-----")
        .filter(|_| text.starts_with("-----BEGIN CERTIFICATE-----"));
    let complete = text.trim_end().ends_with("-----END PRIVATE KEY-----");
    let at = at.filter(|_| complete)?;
    Some((text[..at].to_owned(), text[at..].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn authority_in(path: &Path) -> Authority {
        Authority::create(path, &Name::new("demo").unwrap()).unwrap();
        Authority::load(path).unwrap().unwrap()
    }

    #[test]
    fn a_certificate_is_replaced_when_its_names_or_its_authority_change() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, path) = (folder.path().join("ca.pem"), folder.path().join("web.pem"));
        let renewed = |authority: &Authority, address: &str| {
            let names = Names {
                common: "web".into(),
                alternative: names(&["web", address]),
                usage: Usage::Peer,
            };
            authority.renew(&path, &names).unwrap();
            authority.certificate(&path).unwrap().unwrap().certificate
        };
        let authority = authority_in(&ca);
        let first = renewed(&authority, "10.0.0.1");
        assert_eq!(renewed(&authority, "10.0.0.1"), first);
        let moved = renewed(&authority, "10.0.0.2");
        assert_ne!(moved, first);
        std::fs::remove_file(&ca).unwrap();
        assert_ne!(renewed(&authority_in(&ca), "10.0.0.2"), moved);
    }

    #[test]
    fn a_certificate_that_expires_soon_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority_in(&folder.path().join("ca.pem"));
        let issuer = Issuer::from_ca_cert_pem(
            &authority.certificate,
            KeyPair::from_pem(&authority.key).unwrap(),
        )
        .unwrap();
        for (days, good) in [(RENEW_DAYS - 1, false), (RENEW_DAYS + 1, true)] {
            let mut params = CertificateParams::new(names(&["web"])).unwrap();
            valid_for(&mut params, days);
            let pem = params
                .signed_by(&KeyPair::generate().unwrap(), &issuer)
                .unwrap()
                .pem();
            assert_eq!(
                authority.is_good(&pem, &names(&["web"])),
                good,
                "{days} days"
            );
        }
    }
}

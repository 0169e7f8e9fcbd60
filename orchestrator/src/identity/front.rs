//! The certificates of fronts: signed by the deployment's authority, or files of the user, which are checked.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use pspd_model::publish::{Front, FrontTls};
use pspd_model::spec::Digest;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::pem::Pem;

use super::certificate::{has_name, names_of};
use super::store;

/// A certificate and its key in one PEM text.
#[derive(Clone, Debug)]
pub struct FrontPem(pub String);

impl FrontPem {
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

/// The file of a front's own certificate in the folder of keys.
pub(super) fn file(host: SocketAddr) -> String {
    format!("fronts/{host}.pem")
}

/// The certificate that a front should have: `None` without TLS, or before it was signed. A file that cannot be used is an
/// error. `keys` is the folder of keys.
pub fn front_certificate(
    keys: &Path,
    host: SocketAddr,
    front: &Front,
) -> anyhow::Result<Option<FrontPem>> {
    Ok(match &front.tls {
        None => None,
        Some(FrontTls::SelfSigned) => store::read(&keys.join(file(host)))?.map(FrontPem),
        Some(FrontTls::Files { cert, key }) => Some(given(front, cert, key)?),
    })
}

fn given(front: &Front, cert: &Path, key: &Path) -> anyhow::Result<FrontPem> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))
    };
    let (chain, key_text) = (read(cert)?, read(key)?);
    check_key(cert, &chain, key, &key_text)?;
    check_certificate(cert, &chain, front)?;
    Ok(FrontPem(format!("{}\n{}", chain.trim_end(), key_text)))
}

fn check_key(cert: &Path, chain: &str, key: &Path, key_text: &str) -> anyhow::Result<()> {
    let (cert, key) = (cert.display(), key.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{cert}` is not a valid PEM file"))?;
    ensure!(!chain.is_empty(), "`{cert}` contains no certificate in PEM");
    let private = PrivateKeyDer::from_pem_slice(key_text.as_bytes())
        .ok()
        .with_context(|| format!("`{key}` contains no private key in PEM without a passphrase"))?;
    let private = any_supported_type(&private)
        .ok()
        .with_context(|| format!("`{key}` contains a private key that is damaged, or of a type other than RSA, ECDSA P-256, ECDSA P-384 and Ed25519"))?;
    let pair = CertifiedKey::new(chain, private);
    ensure!(
        pair.keys_match().is_ok(),
        "`{key}` is not the private key of the certificate in `{cert}`"
    );
    Ok(())
}

fn check_certificate(cert: &Path, chain: &str, front: &Front) -> anyhow::Result<()> {
    let path = cert.display();
    let pem = Pem::iter_from_buffer(chain.as_bytes()).next();
    let pem = pem.with_context(|| format!("`{path}` contains no certificate in PEM"))?;
    let pem = pem.with_context(|| format!("`{path}` is not a valid PEM file"))?;
    let own = pem
        .parse_x509()
        .with_context(|| format!("`{path}` does not begin with a valid certificate"))?;
    let validity = own.validity();
    if !validity.is_valid() {
        let now = x509_parser::time::ASN1Time::now();
        match now < validity.not_before {
            true => bail!(
                "the certificate in `{path}` is not valid before {}",
                validity.not_before
            ),
            false => bail!(
                "the certificate in `{path}` expired on {}",
                validity.not_after
            ),
        }
    }
    for host in &front.hosts {
        let wildcard = match host.parse::<IpAddr>() {
            Ok(_) => None,
            Err(_) => host
                .split_once('.')
                .map(|(_, parent)| format!("*.{parent}")),
        };
        let named = has_name(&own, host) || wildcard.is_some_and(|name| has_name(&own, &name));
        ensure!(
            named,
            "the certificate in `{path}` is not for `{host}`; its names are: {}",
            names_of(&own).join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(names: &[&str], from: SystemTime, until: SystemTime) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (from.into(), until.into());
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// What is wrong with these files for a front with these hosts, with the folder left out.
    fn fault(cert: &str, key: &str, hosts: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let tls = FrontTls::Files {
            cert: path("cert.pem", cert),
            key: path("key.pem", key),
        };
        let hosts: BTreeSet<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let front = Front {
            hosts,
            tls: Some(tls),
        };
        let host = "0.0.0.0:443".parse().unwrap();
        let error = front_certificate(folder.path(), host, &front).err()?;
        let place = format!("{}/", folder.path().display());
        Some(error.to_string().replace(&place, ""))
    }

    #[test]
    fn files_of_a_certificate_are_checked() {
        let now = SystemTime::now();
        let names = ["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"];
        let (cert, key) = certificate(&names, now - DAY, now + DAY);
        let (_, other) = certificate(&names, now - DAY, now + DAY);
        let good = ["a.example", "www.b.example", "192.0.2.1", "2001:db8::1"];
        assert_eq!(fault(&cert, &key, &good), None);
        assert_eq!(fault(&cert, &key, &[]), None);
        let is_not_for = |host: &str| {
            format!(
                "the certificate in `cert.pem` is not for `{host}`; its names are: {}",
                names.join(", ")
            )
        };
        for host in ["b.example", "c.b.example.org", "x.y.b.example", "192.0.2.2"] {
            assert_eq!(fault(&cert, &key, &[host]), Some(is_not_for(host)));
        }
        let table = [
            (
                &cert,
                &other,
                "`key.pem` is not the private key of the certificate in `cert.pem`",
            ),
            (&key, &key, "`cert.pem` contains no certificate in PEM"),
            (
                &cert,
                &cert,
                "`key.pem` contains no private key in PEM without a passphrase",
            ),
        ];
        for (cert, key, words) in table {
            assert_eq!(fault(cert, key, &[]).as_deref(), Some(words));
        }
        let (old, key) = certificate(&names, now - 2 * DAY, now - DAY);
        let said = fault(&old, &key, &[]).unwrap();
        assert!(
            said.starts_with("the certificate in `cert.pem` expired on "),
            "{said}"
        );
        let (early, key) = certificate(&names, now + DAY, now + 2 * DAY);
        let said = fault(&early, &key, &[]).unwrap();
        assert!(said.contains("`cert.pem` is not valid before "), "{said}");
    }
}

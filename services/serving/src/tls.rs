//! The service's TLS identity: the deployment's CA, its own certificate and key, checked against each other.
//!
//! Both directions are mutual TLS pinned to that one CA; public roots are never consulted.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tonic::transport::{Certificate, ClientTlsConfig, ServerTlsConfig};

/// The PEM texts of an identity that was checked.
#[derive(Clone)]
pub struct Identity {
    ca: Arc<[u8]>,
    cert: Arc<[u8]>,
    key: Arc<[u8]>,
}

/// One of the files that an identity is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    Ca,
    Cert,
    Key,
}

impl File {
    /// The environment variable that names this file.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Ca => "PSPD_TLS_CA",
            Self::Cert => "PSPD_TLS_CERT",
            Self::Key => "PSPD_TLS_KEY",
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Checks that the CA and the chain hold certificates, and that the key is the chain's.
    pub fn new(ca: Vec<u8>, cert: Vec<u8>, key: Vec<u8>) -> Result<Self, Vec<(File, String)>> {
        let mut faults = Vec::new();
        if let Err(fault) = certificates(&ca) {
            faults.push((File::Ca, fault));
        }
        let chain = certificates(&cert).map_err(|fault| faults.push((File::Cert, fault)));
        let private = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| faults.push((File::Key, format!("holds no private key: {error}"))));
        if let (Ok(chain), Ok(private)) = (chain, private)
            && let Err(error) =
                CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider())
        {
            faults.push((File::Key, format!("is not the certificate's key: {error}")));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
        })
    }

    /// Serves with this certificate, and requires one of the same CA from every caller.
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.pair())
            .client_ca_root(Certificate::from_pem(&self.ca))
            .client_auth_optional(false)
    }

    /// Presents this certificate, and trusts servers of the same CA only.
    pub fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(self.pair())
            .ca_certificate(Certificate::from_pem(&self.ca))
    }

    fn pair(&self) -> tonic::transport::Identity {
        tonic::transport::Identity::from_pem(&self.cert, &self.key)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("holds a damaged certificate: {error}"))?;
    if chain.is_empty() {
        return Err("holds no certificate".to_owned());
    }
    Ok(chain)
}

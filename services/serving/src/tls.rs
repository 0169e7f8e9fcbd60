//! The service's TLS identity: the deployment's CA, its own certificate and key, checked against each other.
//!
//! Both directions are mutual TLS pinned to that CA; public roots are never used. Each new connection checks the files
//! and reads them again if they changed, so a certificate is renewed without a restart and without a timer. Open
//! connections keep their certificate.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, KeyLogFile, RootCertStore, ServerConfig};

const HTTP2: &[u8] = b"h2";

/// One of the files of an identity.
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

/// A fault of one file.
pub type Faults = Vec<(File, String)>;

/// Where an identity's PEM files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// An identity with the current content of its files.
#[derive(Clone)]
pub struct Identity(Arc<Watched>);

struct Watched {
    files: Files,
    held: Mutex<Held>,
}

struct Held {
    stamp: Stamp,
    tls: Tls,
}

/// Changes whenever a file is replaced or written: its inode and time of modification, if it exists.
type Stamp = [Option<(u64, i64, i64)>; 3];

/// The input of both directions of TLS.
#[derive(Clone)]
struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.0.files).finish()
    }
}

impl Identity {
    /// Reads the files; checks that the CA and the chain hold certificates, and that the key is the chain's.
    pub fn load(files: Files) -> Result<Self, Faults> {
        let held = Mutex::new(Held {
            stamp: files.stamp(),
            tls: files.read()?,
        });
        Ok(Self(Arc::new(Watched { files, held })))
    }

    /// Serves with the current certificate, and requires a certificate of the same CA from every caller.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.now().server
    }

    /// Presents the current certificate, and trusts servers of the same CA only.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.now().client
    }

    /// If the files are damaged or only half replaced, the previous content stays in use.
    fn now(&self) -> Tls {
        let Watched { files, held } = &*self.0;
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = files.stamp();
        if stamp != held.stamp {
            // Before reading: the next connection sees a change that happens meanwhile.
            held.stamp = stamp;
            match files.read() {
                Ok(tls) => {
                    held.tls = tls;
                    tracing::info!(certificate = %files.cert.display(), "reloaded the certificate");
                }
                Err(faults) => {
                    let faults: Vec<String> = faults
                        .into_iter()
                        .map(|(file, fault)| format!("{} {fault}", file.variable()))
                        .collect();
                    tracing::error!(
                        ?faults,
                        "the new certificate is not usable; keeping the old one"
                    );
                }
            }
        }
        held.tls.clone()
    }
}

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.ca, &self.cert, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec()))
        })
    }

    fn read(&self) -> Result<Tls, Faults> {
        let mut faults = Faults::new();
        let mut read = |file, path: &PathBuf| match std::fs::read(path) {
            Ok(contents) => Some(contents),
            Err(error) => {
                let fault = format!("names `{}`, which is not readable: {error}", path.display());
                faults.push((file, fault));
                None
            }
        };
        let ca = read(File::Ca, &self.ca);
        let cert = read(File::Cert, &self.cert);
        let key = read(File::Key, &self.key);
        match (ca, cert, key) {
            (Some(ca), Some(cert), Some(key)) => parse(&ca, &cert, &key),
            _ => Err(faults),
        }
    }
}

fn parse(ca: &[u8], cert: &[u8], key: &[u8]) -> Result<Tls, Faults> {
    let mut faults = Faults::new();
    let roots = roots(ca).map_err(|fault| faults.push((File::Ca, fault)));
    let chain = certificates(cert).map_err(|fault| faults.push((File::Cert, fault)));
    let private = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| faults.push((File::Key, format!("has no private key: {error}"))));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    if let (Ok(chain), Ok(private)) = (&chain, &private)
        && let Err(error) = CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider)
    {
        faults.push((File::Key, format!("is not the certificate's key: {error}")));
    }
    let (true, Ok(roots), Ok(chain), Ok(private)) = (faults.is_empty(), roots, chain, private)
    else {
        return Err(faults);
    };
    let unusable = |error: &dyn fmt::Display| vec![(File::Cert, format!("is not usable: {error}"))];
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| unusable(&error))?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), private.clone_key())
        .map_err(|error| unusable(&error))?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|error| unusable(&error))?;
    server.alpn_protocols = vec![HTTP2.to_vec()];
    client.alpn_protocols = vec![HTTP2.to_vec()];
    // Logs nothing unless `SSLKEYLOGFILE` is set.
    let key_log = Arc::new(KeyLogFile::new());
    server.key_log = key_log.clone();
    client.key_log = key_log;
    Ok(Tls {
        server: Arc::new(server),
        client: Arc::new(client),
    })
}

fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("has no certificate of an authority: {error}"))?;
    }
    Ok(Arc::new(roots))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("has a damaged certificate: {error}"))?;
    if chain.is_empty() {
        return Err("has no certificate".to_owned());
    }
    Ok(chain)
}

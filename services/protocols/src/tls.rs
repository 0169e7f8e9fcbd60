//! Mutual TLS 1.3 and 1.2 with one authority, the same for every protocol.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The names of HTTP's versions in TLS (ALPN).
pub const HTTP1: &[u8] = b"http/1.1";
pub const HTTP2: &[u8] = b"h2";

/// PEM files. pspd sets the variables for services.
#[derive(Clone, Debug, clap::Args)]
pub struct Files {
    /// The authority of both sides
    #[arg(long, env = "PSPD_TLS_CA")]
    pub ca: PathBuf,
    /// This side's certificate
    #[arg(long, env = "PSPD_TLS_CERT")]
    pub cert: PathBuf,
    /// The certificate's key
    #[arg(long, env = "PSPD_TLS_KEY")]
    pub key: PathBuf,
}

/// What the files contain.
pub struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Files {
    /// Reads the files.
    pub fn read(&self) -> anyhow::Result<Identity> {
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))
        };
        Identity::parse(&read(&self.ca)?, &read(&self.cert)?, &read(&self.key)?)
    }
}

impl Identity {
    /// Parses three PEM texts.
    pub fn parse(ca: &[u8], cert: &[u8], key: &[u8]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let certificate = certificate.context("the authority's file is not PEM")?;
            roots
                .add(certificate)
                .context("the authority is not usable")?;
        }
        let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<_, _>>();
        Ok(Self {
            roots: roots.into(),
            chain: chain.context("the certificate's file is not PEM")?,
            key: PrivateKeyDer::from_pem_slice(key).context("the key's file is not PEM")?,
        })
    }

    /// Requires a certificate of the authority from every caller.
    pub(crate) fn server(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let provider = Arc::new(default_provider());
        let roots = self.roots.clone();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.build()?)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Ok(config.into())
    }

    /// Trusts servers of the authority only.
    pub(crate) fn client(&self, alpn: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
        let mut config = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config.into())
    }
}

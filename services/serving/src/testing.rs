//! What the services' tests share: a certificate authority, and servers on free loopback ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::tls::Identity;
use crate::{Dependency, Service};

/// A certificate authority of one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to reject");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("ring makes keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are valid");
        Self { issuer }
    }
}

impl Authority {
    /// The CA's certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A new certificate for `localhost` and its key, as PEM.
    pub fn issue(&self) -> (String, String) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("the names are valid");
        let key = KeyPair::generate().expect("ring makes keys");
        let cert = params
            .signed_by(&key, &self.issuer)
            .expect("the issuer is a CA");
        (cert.pem(), key.serialize_pem())
    }

    /// A new identity of this authority.
    pub fn identity(&self) -> Identity {
        let (cert, key) = self.issue();
        Identity::new(self.pem().into(), cert.into(), key.into()).expect("the identity is valid")
    }

    /// Writes a new identity's three files, and returns their variables.
    pub fn files(&self, directory: &TempDir) -> Vec<(&'static str, PathBuf)> {
        let (cert, key) = self.issue();
        [
            ("PSPD_TLS_CA", self.pem()),
            ("PSPD_TLS_CERT", cert),
            ("PSPD_TLS_KEY", key),
        ]
        .into_iter()
        .map(|(variable, pem)| {
            let path = directory.path().join(variable);
            std::fs::write(&path, pem).expect("the directory is writable");
            (variable, path)
        })
        .collect()
    }

    /// A service's settings with a new identity, and its listener on a free port.
    pub async fn service(&self, name: &str) -> (Service, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has ports");
        let listen = listener.local_addr().expect("the listener is bound");
        let service = Service {
            name: name.to_owned(),
            listen,
            identity: Some(self.identity()),
        };
        (service, listener)
    }

    /// How another service of this authority calls the one at `address`.
    pub fn dependency(&self, name: &str, address: SocketAddr) -> Dependency {
        let url = format!("https://localhost:{}", address.port());
        let mut dependency =
            Dependency::new(&url, Some(self.identity()), false).expect("the URL is valid");
        name.clone_into(&mut dependency.name);
        dependency
    }
}

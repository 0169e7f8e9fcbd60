//! For the services' tests: a certificate authority, servers on free loopback ports, and JSON texts.

mod object_text;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::callers::{ADMINISTRATOR, Callers, Owners};
use crate::tls::{File, Files, Identity};
use crate::{Dependency, Limits, Service};

pub use object_text::object_text;

/// The certificate authority of one test, and the files of the identities that it issued.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
    given: AtomicUsize,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to reject");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL treats a certificate with its issuer's name as self-signed.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("ring makes keys");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are valid");
        Self {
            issuer,
            folder: tempfile::tempdir().expect("the temporary directory is writable"),
            given: AtomicUsize::new(0),
        }
    }
}

impl Authority {
    /// The CA's certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A new certificate for `name` on this host and its key, as PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let names = [name, "localhost", "127.0.0.1"].map(str::to_owned);
        let params = CertificateParams::new(names).expect("the names are valid");
        let key = KeyPair::generate().expect("ring makes keys");
        let cert = params
            .signed_by(&key, &self.issuer)
            .expect("the issuer is a CA");
        (cert.pem(), key.serialize_pem())
    }

    /// Writes a new identity's three files into a folder, and returns their paths.
    pub fn write(&self, name: &str, folder: &Path) -> Files {
        let (cert, key) = self.issue(name);
        let write = |file: &str, pem: String| {
            let path = folder.join(file);
            std::fs::write(&path, pem).expect("the directory is writable");
            path
        };
        Files {
            ca: write("ca.pem", self.pem()),
            cert: write("cert.pem", cert),
            key: write("key.pem", key),
        }
    }

    /// A new identity of this authority.
    pub fn identity(&self, name: &str) -> Identity {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.path().join(number.to_string());
        std::fs::create_dir(&folder).expect("the directory is writable");
        Identity::load(self.write(name, &folder)).expect("the identity is valid")
    }

    /// Writes a new identity's three files, and returns their variables.
    pub fn files(&self, directory: &TempDir) -> Vec<(&'static str, PathBuf)> {
        let files = self.write("localhost", directory.path());
        vec![
            (File::Ca.variable(), files.ca),
            (File::Cert.variable(), files.cert),
            (File::Key.variable(), files.key),
        ]
    }

    /// A service's settings with a new identity, and its listener on a free port; the administrator may call it.
    pub async fn service(&self, name: &str) -> (Service, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback has ports");
        let listen = listener.local_addr().expect("the listener is bound");
        let service = Service {
            name: name.to_owned(),
            listen,
            identity: Some(self.identity(name)),
            callers: Callers::parse(""),
            owners: Owners::default(),
            collector: None,
            limits: Limits::default(),
        };
        (service, listener)
    }

    /// The dependency with which the administrator of this authority calls the service at `address`.
    pub fn dependency(&self, name: &str, address: SocketAddr) -> Dependency {
        self.dependency_of(ADMINISTRATOR, name, address)
    }

    /// The dependency with which `caller` calls the service at `address`.
    pub fn dependency_of(&self, caller: &str, name: &str, address: SocketAddr) -> Dependency {
        let url = format!("https://localhost:{}", address.port());
        let mut dependency =
            Dependency::new(&url, Some(self.identity(caller)), false).expect("the URL is valid");
        name.clone_into(&mut dependency.name);
        dependency
    }
}

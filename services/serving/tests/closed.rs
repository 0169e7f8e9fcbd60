//! Callers without permission are rejected, and certificates change while a service runs.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;

use pspd_proto::database::ReadRequest;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serving::testing::Authority;
use serving::tls::Identity;
use serving::{Callers, CancellationToken, Dependency, Service, Services, error};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(service: Service, listener: TcpListener) -> Self {
        let (address, shutdown) = (service.listen, CancellationToken::new());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            serving::serve(listener, &service, Services::default(), stop).await
        });
        Self {
            address,
            shutdown,
            task,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Calls a method that no service here has: an allowed caller gets UNIMPLEMENTED, others are rejected.
async fn read(dependency: &Dependency) -> Status {
    let mut client = DatabaseServiceClient::new(dependency.connect());
    client.read(ReadRequest::default()).await.unwrap_err()
}

/// The server certificate of a new connection.
async fn shown(address: SocketAddr, as_whom: &Identity) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(as_whom.client());
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn certificate(file: &Path) -> Vec<u8> {
    CertificateDer::from_pem_file(file).unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_admitted_by_name() {
    let authority = Authority::default();
    let (mut service, listener) = authority.service("database").await;
    service.callers = Callers::parse("ai-server,web-server");
    let running = Running::start(service, listener);
    let call = |caller| authority.dependency_of(caller, "database", running.address);
    for allowed in ["ai-server", "web-server", "pspd"] {
        assert_eq!(
            read(&call(allowed)).await.code(),
            Code::Unimplemented,
            "{allowed}"
        );
    }
    let other = call("other");
    let refused = read(&other).await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    let described = error::describe(&refused);
    assert_eq!(
        (described.reason.as_str(), described.service.as_str()),
        ("CALLER_NOT_ALLOWED", "database")
    );
    // Health is for every certificate of the deployment.
    let check = HealthClient::new(other.connect())
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    assert_eq!(check.get_ref().status, ServingStatus::Serving as i32);
    let foreign = Authority::default().dependency("database", running.address);
    assert_eq!(read(&foreign).await.code(), Code::Unavailable);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_while_the_service_runs() {
    let authority = Authority::default();
    let folder = tempfile::tempdir().unwrap();
    let files = authority.write("database", folder.path());
    let (mut service, listener) = authority.service("database").await;
    service.identity = Some(Identity::load(files.clone()).unwrap());
    let running = Running::start(service, listener);
    let pspd = authority.identity("pspd");

    let before = shown(running.address, &pspd).await;
    assert_eq!(before, certificate(&files.cert));
    let old = authority.dependency("database", running.address).connect();
    let mut watch = HealthClient::new(old.clone())
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status, ServingStatus::Serving as i32);

    authority.write("database", folder.path());
    let after = shown(running.address, &pspd).await;
    assert_ne!(after, before, "a new connection gets the new certificate");
    assert_eq!(after, certificate(&files.cert));

    // A half replaced identity leaves the previous one in use.
    std::fs::write(&files.key, "torn").unwrap();
    assert_eq!(shown(running.address, &pspd).await, after);

    // The earlier connection stays open: its watch receives everything until the service ends.
    running.shutdown.cancel();
    let last = watch.message().await.unwrap().unwrap();
    assert_eq!(last.status, ServingStatus::NotServing as i32);
    drop((watch, old));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_presents_its_new_certificate_when_it_reconnects() {
    let authority = Authority::default();
    let (service, listener) = authority.service("database").await;
    let running = Running::start(service, listener);
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::load(authority.write("other", folder.path())).unwrap();
    let url = format!("https://localhost:{}", running.address.port());
    let dependency = Dependency::new(&url, Some(identity), false).unwrap();
    assert_eq!(read(&dependency).await.code(), Code::PermissionDenied);
    authority.write("pspd", folder.path());
    assert_eq!(read(&dependency).await.code(), Code::Unimplemented);
    running.stop().await;
}

//! TLS keys are logged where the environment asks for it, and both ends of a connection log the same.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use pspd_proto::database::ReadRequest;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use serving::testing::Authority;
use serving::{CancellationToken, Services};
use tonic::Code;

const VARIABLE: &str = "SSLKEYLOGFILE";

/// One call over TLS, in a process that has the variable.
async fn call() {
    let authority = Authority::default();
    let (service, listener) = authority.service("test").await;
    let dependency = authority.dependency("test", service.listen);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let served = tokio::spawn(async move {
        serving::serve(listener, &service, Services::default(), stopped).await
    });
    let mut client = DatabaseServiceClient::new(dependency.connect());
    let answer = client.read(ReadRequest::default()).await.unwrap_err();
    assert_eq!(answer.code(), Code::Unimplemented);
    drop(client);
    stop.cancel();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn both_ends_log_the_keys_of_a_connection() {
    if std::env::var_os(VARIABLE).is_some() {
        return call().await;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("keys.log");
    // A variable of this process would be one of other tests, too.
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "both_ends_log_the_keys_of_a_connection"])
        .env(VARIABLE, &log)
        .output()
        .unwrap();
    assert!(again.status.success(), "{again:?}");
    let mode = std::fs::metadata(&log).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let text = std::fs::read_to_string(&log).unwrap();
    let mut lines = BTreeMap::<&str, u32>::new();
    for line in text.lines() {
        *lines.entry(line).or_default() += 1;
    }
    let labels = |(line, ends): (&&str, &u32)| (line.split(' ').next().unwrap().to_owned(), *ends);
    let logged: Vec<(String, u32)> = lines.iter().map(labels).collect();
    let expected = [
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
    ];
    assert_eq!(logged, expected.map(|label| (label.to_owned(), 2)));
}

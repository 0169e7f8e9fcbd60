//! A real file system without room: in a mount namespace of the service's own, so that no test needs to be root.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use tonic::Code;

use crate::server::{Server, configured};

const SCRIPT: &str = r#"
    set -e
    mount -t tmpfs -o size=3m,mode=700 pspd-test "$FOLDER"
    head -c 1500000 /dev/zero > "$FOLDER/filler"
    exec "$PROGRAM"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_reads_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.sqlite").display().to_string();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT]);
    let mut command = configured(command, &store, &[]);
    command
        .env("FOLDER", folder.path())
        .env("PROGRAM", env!("CARGO_BIN_EXE_database-server"));
    let server = Server::spawn(command).unwrap();
    let client = server.client().await;

    let document = json!({"text": "x".repeat(20_000)});
    let mut acknowledged = Vec::new();
    let refused = loop {
        match client.create("c", &document).await {
            Ok(id) => acknowledged.push(id),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 1000, "the disk is never full");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(!acknowledged.is_empty());
    for id in &acknowledged {
        assert_eq!(client.read("c", id).await.unwrap(), document);
    }
    assert_eq!(
        client.query("c", "").await.unwrap().len(),
        acknowledged.len()
    );

    // The folder as the service sees it.
    let inside = format!(
        "/proc/{}/root{}",
        server.process.id(),
        folder.path().display()
    );
    std::fs::remove_file(PathBuf::from(inside).join("filler")).unwrap();
    client.create("c", &document).await.unwrap();
    assert_eq!(
        client.query("c", "").await.unwrap().len(),
        acknowledged.len() + 1
    );
}

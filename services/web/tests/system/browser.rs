//! The client in headless Chromium, against services that stop and start again.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::stream;
use pspd_proto::business::UploadRequest;
use pspd_proto::business::business_service_client::BusinessServiceClient;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::running::{AI, DATABASE, System, WEB, data};

const MANY: usize = 10_000;

fn script(name: &str, system: &System) -> Command {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("client");
    let modules = client.join("node_modules/playwright-core");
    assert!(
        modules.is_dir(),
        "run \"make client\" first: no `{}`",
        modules.display()
    );
    let mut node = Command::new("node");
    node.arg(client.join("e2e").join(name))
        .arg(system.url("/"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    node
}

/// Executes the script's requests (`> kill NAME`, `> start NAME`), prints its output, and waits for its end.
async fn follow(mut node: Child, system: &mut System) {
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let mut answers = node.stdin.take().unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        let Some(request) = line.strip_prefix("> ") else {
            eprintln!("{line}");
            continue;
        };
        let (verb, name) = request.split_once(' ').unwrap();
        let name = [DATABASE, AI, WEB]
            .into_iter()
            .find(|known| *known == name)
            .unwrap();
        match verb {
            "kill" => system.kill(name),
            "start" => system.start_service(name).await,
            _ => panic!("unknown request of the script: `{request}`"),
        }
        answers.write_all(b"done\n").await.unwrap();
    }
    let status = node.wait().await.unwrap();
    assert!(status.success(), "the browser's checks failed: {status}");
}

/// `MANY` labelled documents, of real texts.
async fn fill(system: &System) {
    let mut rows = csv::Reader::from_path(data("train.csv")).unwrap();
    let rows: Vec<(String, String)> = rows.deserialize().collect::<Result<_, _>>().unwrap();
    let documents = (0..MANY).map(move |number| {
        let (text, label) = &rows[number % rows.len()];
        UploadRequest {
            collection: "many".to_owned(),
            data: json!({"text": format!("{number}: {text}"), "label": label}).to_string(),
            reference: String::new(),
        }
    });
    let mut business = BusinessServiceClient::new(system.dependency(WEB).connect());
    let uploaded = business.upload(stream::iter(documents)).await.unwrap();
    assert_eq!(uploaded.into_inner().stored, MANY as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_work_and_recover_from_failed_backends() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = System::start(&directory.path().join("store.sqlite")).await;
    fill(&system).await;
    let mut node = script("pages.mjs", &system);
    node.arg(data("train.csv"));
    // For work on the design: pictures of all pages.
    if let Some(folder) = std::env::var_os("SCREENSHOTS") {
        node.arg(PathBuf::from(folder));
    }
    follow(node.spawn().unwrap(), &mut system).await;
    system.stop().await;
}

/// The script that the end-to-end tests also run against virtual machines.
#[tokio::test(flavor = "multi_thread")]
async fn the_client_works_with_a_deployment() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = System::start(&directory.path().join("store.sqlite")).await;
    let mut node = script("deployment.mjs", &system);
    follow(node.arg(data("train.csv")).spawn().unwrap(), &mut system).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_signs_in() {
    const TOKEN: &str = "a-token-of-the-browser";
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.sqlite");
    let mut system = System::start_with(&store, Some(TOKEN.parse().unwrap())).await;
    let mut node = script("sign-in.mjs", &system);
    follow(node.arg(TOKEN).spawn().unwrap(), &mut system).await;
    system.stop().await;
}

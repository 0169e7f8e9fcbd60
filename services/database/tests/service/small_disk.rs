//! Every acknowledged write exists after a restart, also after faults of the disk and the process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::server::{Client, Server, configured};

/// The longest wait for a condition, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const CALLERS: usize = 64;
/// Writes to wait for before the disk's state changes.
const WRITES: usize = 200;
const ROUNDS: usize = 4;
const FILLS: usize = 2;

const MOUNT: &str = r#"
    set -e
    mount -t tmpfs -o size=64m,mode=700 pspd-test "$FOLDER"
    echo mounted
    exec sleep infinity
"#;

/// A small file system in a mount namespace of its own, which outlives the processes that use it.
struct Disk {
    folder: TempDir,
    holder: Child,
}

impl Disk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", MOUNT])
            .env("FOLDER", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(holder.stdout.take().unwrap());
        lines.read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n");
        Self { folder, holder }
    }

    /// Starts the service with its store on the disk.
    fn serve(&self) -> Server {
        let mut command = Command::new("nsenter");
        command
            .args(["--user", "--mount", "--preserve-credentials", "--target"])
            .arg(self.holder.id().to_string())
            .arg(env!("CARGO_BIN_EXE_database-server"));
        let store = self.folder.path().join("store.sqlite");
        let command = configured(command, &store.display().to_string(), &[]);
        Server::spawn(command).unwrap_or_else(|logs| panic!("it ended:\n{logs}"))
    }

    fn filler(&self) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let folder = self.folder.path().strip_prefix("/").unwrap();
        Path::new(&root).join(folder).join("filler")
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).unwrap();
        let zeros = [0; 4096];
        while filler.write_all(&zeros).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It ends only here.
        let _ended = self.holder.kill();
        let _ended = self.holder.wait();
    }
}

fn document(n: i64) -> Json {
    json!({"n": n, "text": format!("{n:0>3000}")})
}

/// What the documents may be: one state each, unless a write's outcome is not known.
#[derive(Debug, Default)]
struct Model {
    /// By id: numbers, or none where the document may be missing.
    documents: BTreeMap<String, BTreeSet<Option<i64>>>,
    /// Numbers of documents whose Create was not answered.
    unanswered: BTreeSet<i64>,
}

impl Model {
    /// Compares a store with the model; after that, the model is the store.
    async fn verify(&mut self, client: &Client) {
        let mut found: BTreeMap<String, Json> =
            client.query("c", "").await.unwrap().into_iter().collect();
        let mut lost = Vec::new();
        let mut documents = BTreeMap::new();
        for (id, states) in std::mem::take(&mut self.documents) {
            let number = match found.remove(&id) {
                None => None,
                Some(whole) => {
                    let n = whole["n"].as_i64().unwrap();
                    assert_eq!(whole, document(n));
                    Some(n)
                }
            };
            if !states.contains(&number) {
                lost.push((id.clone(), number, states));
            }
            documents.insert(id, BTreeSet::from([number]));
        }
        let all = documents.len();
        assert!(
            lost.is_empty(),
            "{} of {all} documents are not as acknowledged, such as {:?}",
            lost.len(),
            lost[0]
        );
        for (id, whole) in found {
            let n = whole["n"].as_i64().unwrap();
            assert_eq!(whole, document(n));
            assert!(self.unanswered.remove(&n), "{n} was refused, and is there");
            documents.insert(id, BTreeSet::from([Some(n)]));
        }
        self.unanswered.clear();
        self.documents = documents;
    }

    fn merge(&mut self, other: Self) {
        self.documents.extend(other.documents);
        self.unanswered.extend(other.unanswered);
    }
}

/// What all callers have seen so far.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    /// Other than by a lack of room.
    failed: Mutex<Vec<Status>>,
    stop: AtomicBool,
}

/// Writes until it is asked to stop, or gets no answer.
async fn write(client: Client, seen: Arc<Seen>, first: i64, mut random: fastrand::Rng) -> Model {
    let mut model = Model::default();
    let mut present: Vec<(String, i64)> = Vec::new();
    for n in first.. {
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
        let chosen = match random.u8(..10) {
            0..6 => None,
            _ if present.is_empty() => None,
            _ => Some(random.usize(..present.len())),
        };
        let (outcome, states) = match chosen {
            None => match client.create("c", &document(n)).await {
                Ok(id) => {
                    model.documents.insert(id.clone(), [Some(n)].into());
                    present.push((id, n));
                    (Ok(()), None)
                }
                Err(status) => (Err(status), None),
            },
            Some(index) if random.bool() => {
                let (id, old) = present[index].clone();
                let outcome = client.update("c", &id, &document(n)).await;
                if outcome.is_ok() {
                    present[index].1 = n;
                    model.documents.insert(id.clone(), [Some(n)].into());
                }
                (outcome, Some((id, old, Some(n))))
            }
            Some(index) => {
                let (id, old) = present[index].clone();
                let outcome = client.delete("c", &id).await;
                if outcome.is_ok() {
                    present.swap_remove(index);
                    model.documents.insert(id.clone(), [None].into());
                }
                (outcome, Some((id, old, None)))
            }
        };
        match outcome {
            Ok(()) => _ = seen.acknowledged.fetch_add(1, Ordering::Relaxed),
            Err(status) if refused(&status) => _ = seen.refused.fetch_add(1, Ordering::Relaxed),
            Err(status) => {
                seen.failed.lock().unwrap().push(status);
                match states {
                    None => _ = model.unanswered.insert(n),
                    Some((id, old, new)) => {
                        _ = model.documents.insert(id, [Some(old), new].into());
                    }
                }
                break;
            }
        }
    }
    model
}

/// Says that nothing was changed.
fn refused(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
}

impl Seen {
    /// Waits for more writes that are counted by `count`.
    async fn more(&self, count: &AtomicUsize) {
        let enough = count.load(Ordering::Relaxed) + WRITES;
        let began = Instant::now();
        while count.load(Ordering::Relaxed) < enough {
            assert!(began.elapsed() < LIMIT, "no more writes: {self:?}");
            let failed = self.failed.lock().unwrap().pop();
            assert!(failed.is_none(), "{failed:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_disk_that_fills_and_empties() {
    let disk = Disk::mount();
    let mut model = Model::default();
    for round in 0..ROUNDS {
        let server = disk.serve();
        let client = server.client().await;
        model.verify(&client).await;
        let seen = Arc::new(Seen::default());
        let writers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let number = round * CALLERS + caller;
                let random = fastrand::Rng::with_seed(number as u64);
                let first = number as i64 * 1_000_000;
                tokio::spawn(write(client.clone(), seen.clone(), first, random))
            })
            .collect();
        for _ in 0..FILLS {
            seen.more(&seen.acknowledged).await;
            disk.fill();
            seen.more(&seen.refused).await;
            disk.clear();
            seen.more(&seen.acknowledged).await;
        }
        let orderly = round % 2 == 0;
        if orderly {
            seen.stop.store(true, Ordering::Relaxed);
        } else {
            server.signal("-KILL");
        }
        for written in join_all(writers).await {
            model.merge(written.unwrap());
        }
        if orderly {
            model.verify(&client).await;
            server.stop();
        }
        println!("round {round}: {} documents", model.documents.len());
    }
    model.verify(&disk.serve().client().await).await;
}

//! A PostgreSQL server of the test's own, from the distribution's package, and the stories on it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use serving::testing::Authority;
use tempfile::TempDir;
use tonic::Code;

use crate::server::{Server, command, place};
use crate::{contract, errors, filters, text};

const LIMIT: Duration = Duration::from_secs(60);
/// What the server says, in its folder.
const LOG: &str = "log";

/// A server that ends with the test.
pub(crate) struct Cluster {
    folder: TempDir,
    process: Child,
    port: u16,
    binaries: PathBuf,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| Vec::new())
    }

    /// `prepare` may write into the server's folder, and gives settings, each as `name=value`.
    fn start_with(prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let binaries = binaries();
        let folder = tempfile::Builder::new()
            .prefix("pspd-postgres-")
            .tempdir()
            .unwrap();
        if root() {
            run(Command::new("chown").arg("postgres:").arg(folder.path()));
        }
        let data = folder.path().join("data");
        run(unprivileged(&binaries.join("initdb"))
            .args([
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username=test",
                "-D",
            ])
            .arg(&data));
        let settings = prepare(folder.path());
        if root() {
            run(Command::new("chown")
                .args(["-R", "postgres:"])
                .arg(folder.path()));
        }
        // As late as can be: until the server listens on it, anyone may take it.
        let port = free_port();
        let process = unprivileged(&binaries.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args(["-c", "listen_addresses=127.0.0.1", "-p", &port.to_string()])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join(LOG)).unwrap())
            .spawn()
            .unwrap();
        let cluster = Self {
            folder,
            process,
            port,
            binaries,
        };
        let began = Instant::now();
        while !cluster.psql("SELECT 1").status().unwrap().success() {
            assert!(began.elapsed() < LIMIT, "PostgreSQL does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    pub(crate) fn psql(&self, sql: &str) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.arg("-h").arg(self.folder.path());
        psql.args([
            "-p",
            &self.port.to_string(),
            "-U",
            "test",
            "-d",
            "postgres",
            "-Atqc",
            sql,
        ]);
        psql.stderr(Stdio::null());
        psql
    }

    pub(crate) fn ask(&self, sql: &str) -> String {
        String::from_utf8(run(&mut self.psql(sql)))
            .unwrap()
            .trim()
            .to_owned()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOG)).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://test@127.0.0.1:{}/postgres", self.port)
    }

    /// Creates a database whose texts are compared and sorted as people do, and returns its URL.
    fn with_icu(&self) -> String {
        self.ask("CREATE DATABASE icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
        format!("postgres://test@127.0.0.1:{}/icu", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGINT is PostgreSQL's fast shutdown; what is left of it is the folder's.
        let pid = self.process.id().to_string();
        let _ended = Command::new("kill").args(["-INT", &pid]).status();
        let _ended = self.process.wait();
    }
}

pub(crate) fn binaries() -> PathBuf {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed by `scripts/setup --test`")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .expect("a version of PostgreSQL has its programs")
}

pub(crate) fn root() -> bool {
    let id = run(Command::new("id").arg("-u"));
    id == b"0\n"
}

/// PostgreSQL refuses to run as root: then as the user of its package.
pub(crate) fn unprivileged(program: &Path) -> Command {
    if !root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
        "--",
    ]);
    command.arg(program).current_dir("/");
    command
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_stories() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url(), &[filters::INDEXES]);
    let client = server.client().await;
    contract::story(&client).await;
    filters::story(&client, true).await;
    filters::long_texts(&client).await;
    errors::story(&client).await;
    text::story(&client).await;

    // A second replica finds the schema and the indexes as they should be, and the same documents.
    let replica = Server::start(&cluster.url(), &[filters::INDEXES]);
    let seen = replica.client().await.numbers("plain", "").await;
    assert_eq!(seen, client.numbers("plain", "").await);
    assert_eq!(cluster.ask("SELECT version FROM schema_version"), "2");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'declared%'";
    assert_eq!(cluster.ask(indexes), "15");
    let text_indexes = "SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'text%'";
    assert_eq!(cluster.ask(text_indexes), "2");
    server.stop();
    replica.stop();
    let server = Server::start(&cluster.url(), &[]);
    assert_eq!(cluster.ask(indexes), "0");
    assert_eq!(cluster.ask(text_indexes), "0");
    server.stop();

    cluster.ask("ALTER DATABASE postgres SET synchronous_commit = off");
    let said = Server::spawn(command(&cluster.url(), &[]))
        .map(drop)
        .unwrap_err();
    assert!(said.contains("loses acknowledged writes"), "{said}");
}

#[test]
fn replicas_that_start_together_create_indexes_once() {
    let cluster = Cluster::start();
    Server::start(&cluster.url(), &[]).stop();
    cluster.ask(
        "INSERT INTO documents (id, collection, data)
         SELECT lpad(n::text, 12, '0'), 'indexed',
             json_build_object('tag', 'tag ' || n, 'price', n)::text
         FROM generate_series(1, 5000) n",
    );
    for round in 0..3 {
        // Other indexes each time.
        let indexes = format!("indexed:tag,price,round{round};indexed:tag:text,round{round}:text");
        let indexes = [("DATABASE_INDEXES", indexes.as_str())];
        std::thread::scope(|scope| {
            let start = || Server::start(&cluster.url(), &indexes);
            let replicas: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            for replica in replicas {
                replica.join().unwrap().stop();
            }
        });
        let count = "SELECT count(*) FROM pg_indexes WHERE indexname ~ '^(declared|text)_'";
        assert_eq!(cluster.ask(count), "11");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_indexes_are_used() {
    // The server itself reports the plan of each statement that it ran.
    let cluster = Cluster::start_with(|_| {
        let explain = [
            "shared_preload_libraries=auto_explain",
            "auto_explain.log_min_duration=0",
        ];
        explain.map(str::to_owned).to_vec()
    });
    Server::start(&cluster.url(), &[]).stop();
    cluster.ask(
        "INSERT INTO documents (id, collection, data)
         SELECT lpad(n::text, 12, '0'), 'indexed',
             json_build_object('n', n, 'tag', 'tag ' || n, 'price', n, 'plain', n)::text
         FROM generate_series(1, 20000) n",
    );
    let server = Server::start(&cluster.url(), &[filters::INDEXES]);
    let client = server.client().await;
    let cases = [
        (r#"{"tag": "tag 77"}"#, vec![77], true),
        (r#"{"price": {"$gt": 19998}}"#, vec![19999, 20000], true),
        (
            r#"{"$sort": {"price": -1}, "$limit": 1}"#,
            vec![20000],
            true,
        ),
        (r#"{"plain": 77}"#, vec![77], false),
    ];
    for (query, expected, indexed) in cases {
        let before = cluster.log().len();
        assert_eq!(client.numbers("indexed", query).await, expected, "{query}");
        let began = Instant::now();
        // The plan is reported when the statement is closed, which may be just after its last row.
        let plan = loop {
            let said = cluster.log().split_off(before);
            if said.contains("on documents") {
                break said;
            }
            assert!(began.elapsed() < LIMIT, "{query}: no plan in {said}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(plan.contains(" declared_"), indexed, "{query}: {plan}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_refusals_and_lost_connections() {
    let cluster = Cluster::start();
    let server = Server::start(&cluster.url(), &[]);
    let client = server.client().await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..64).map(|writer| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in (writer * 1_000_000..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                if n % 8 == 0 {
                    let refused = r#"{"text": "\u0000"}"#.to_owned();
                    client.create_text("c", refused).await.unwrap_err();
                }
                if client.create("c", &json!({"n": n})).await.is_ok() {
                    acknowledged.push(n);
                }
            }
            acknowledged
        })
    });
    let writers: Vec<_> = writers.collect();
    let count = || -> u64 {
        cluster
            .ask("SELECT count(*) FROM documents")
            .parse()
            .unwrap()
    };
    for _ in 0..8 {
        let (enough, began) = (count() + 200, Instant::now());
        while count() < enough {
            assert!(began.elapsed() < LIMIT, "writes do not continue");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.ask(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE application_name = 'database-server'",
        );
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = join_all(writers).await;
    let found: BTreeSet<i64> = client.numbers("c", "").await.into_iter().collect();
    for n in acknowledged.into_iter().flat_map(Result::unwrap) {
        assert!(found.contains(&n), "{n} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let (authority, other) = (Authority::default(), Authority::default());
    let cluster = Cluster::start_with(|folder| {
        let pem = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let (certificate, key) = authority.issue("postgres");
        pem("ca.pem", &authority.pem());
        pem("other.pem", &other.pem());
        pem("server.pem", &certificate);
        pem("server.key", &key);
        let (certificate, key) = authority.issue("client");
        pem("client.pem", &certificate);
        pem("client.key", &key);
        run(Command::new("chmod")
            .arg("600")
            .arg(folder.join("server.key")));
        let callers =
            "local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n";
        fs::write(folder.join("data/pg_hba.conf"), callers).unwrap();
        let file = |name: &str| folder.join(name).display().to_string();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_ca_file={}", file("ca.pem")),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
        ]
    });
    let url = |mode: &str, authority: &str, client: bool| {
        let file = |name: &str| cluster.folder.path().join(name).display().to_string();
        let mut url = format!(
            "{}?sslmode={mode}&sslrootcert={}",
            cluster.url(),
            file(authority)
        );
        if client {
            url += &format!(
                "&sslcert={}&sslkey={}",
                file("client.pem"),
                file("client.key")
            );
        }
        url
    };
    let server = Server::start(&url("verify-full", "ca.pem", true), &[]);
    contract::story(&server.client().await).await;
    let encrypted =
        "SELECT count(*) > 0 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'database-server'";
    assert_eq!(cluster.ask(encrypted), "t");
    server.stop();
    // With several servers, each is connected to in the same way.
    let several = url("verify-full", "ca.pem", true).replace("@127", "@127.0.0.1:1,127");
    let server = Server::start(&several, &[]);
    let client = server.client().await;
    client.create("tls", &json!({"n": 1})).await.unwrap();
    assert_eq!(cluster.ask(encrypted), "t");
    server.stop();
    for (url, expected) in [
        (
            url("verify-full", "other.pem", true),
            "invalid peer certificate",
        ),
        (
            url("verify-full", "ca.pem", false),
            "requires a valid client certificate",
        ),
        (url("disable", "ca.pem", false), "no pg_hba.conf entry"),
    ] {
        let said = Server::spawn(command(&url, &[])).map(drop).unwrap_err();
        assert!(said.contains(expected), "{url}: {said}");
    }
}

/// Values that engines by themselves compare, sort or read in different ways.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0.0",
    "1",
    "1.0",
    "9223372036854775808",
    "9223372036854775807",
    "1e300",
    "-5",
    "\"\"",
    "\"a\"",
    "\"B\"",
    "\"ä\"",
    "\"10\"",
    "[]",
    "[1, \"a\"]",
    "[[]]",
    "{}",
    "{\"b\": 1, \"b\": 2}",
    "[{\"b\": 1}, {\"b\": \"a\"}]",
    "{\"0\": 1}",
];

#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_the_same_answers_with_all_engines_and_collations() {
    let cluster = Cluster::start();
    let (_folder, store) = place();
    let indexes = format!("c:a,a.b;{}", text::INDEXES);
    let index = [("DATABASE_INDEXES", indexes.as_str())];
    let servers = [
        Server::start(&store, &index),
        Server::start(&cluster.url(), &index),
        Server::start(&cluster.with_icu(), &index),
    ];
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(server.client().await);
    }
    text::random(&clients).await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut value = || VALUES[random.usize(..VALUES.len())];
    for n in 0..60 {
        let data = format!(r#"{{"n": {n}, "a": {}, "c": {}}}"#, value(), value());
        for client in &clients {
            client.create_text("c", data.clone()).await.unwrap();
        }
    }
    for n in 0..600 {
        let field = ["a", "c", "a.b", "a.0", "c.b"][n % 5];
        let operator = ["$eq", "$ne", "$gt", "$lte", "$lt", "$gte"][n % 6];
        let other = ["c", "a", "a.b"][n % 3];
        let query = match n % 4 {
            0 => format!(r#"{{"$sort": {{"{field}": 1, "{other}": -1}}}}"#),
            1 => format!(r#"{{"$sort": {{"{field}": -1}}, "$limit": 20}}"#),
            _ => format!(r#"{{"{field}": {{"{operator}": {}}}}}"#, value()),
        };
        let answers = clients.iter().map(|client| async {
            let found = client.query_texts("c", &query).await;
            let found = found.map_err(|status| status.code())?.into_iter();
            Ok::<_, Code>(found.map(|(_, data)| data).collect::<Vec<_>>())
        });
        let answers = join_all(answers).await;
        for answer in &answers[1..] {
            assert_eq!(answer, &answers[0], "{query}");
        }
    }
}

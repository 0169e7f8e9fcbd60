//! PostgreSQL servers that follow each other: real processes that can be killed, frozen, promoted and started again.
//!
//! Each has a loopback address of its own, so that nothing else takes its port while it is down.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::{binaries, root, run, unprivileged};

const LIMIT: Duration = Duration::from_secs(120);
const PORT: u16 = 5432;

/// A server, running or not; it ends with the test.
pub(crate) struct Node {
    folder: TempDir,
    address: String,
    process: Option<Child>,
}

impl Node {
    /// Starts a server with an empty database.
    pub(crate) fn primary() -> Self {
        let mut node = Self::new();
        run(unprivileged(&binaries().join("initdb"))
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C"])
            .args(["--username=test", "-D"])
            .arg(node.data()));
        node.start();
        node
    }

    /// Starts a server that follows this one, and waits until it does.
    pub(crate) fn standby(&self) -> Self {
        let mut node = Self::new();
        run(unprivileged(&binaries().join("pg_basebackup"))
            .args(["-h", &self.address, "-p", &PORT.to_string(), "-U", "test"])
            .args(["-R", "-c", "fast", "-X", "stream", "-D"])
            .arg(node.data()));
        node.start();
        self.wait_for(
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'",
            "1",
        );
        node
    }

    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("pspd-postgres-")
            .tempdir()
            .unwrap();
        if root() {
            run(Command::new("chown").arg("postgres:").arg(folder.path()));
        }
        let [a, b, c] = [1, 0, 1].map(|least| fastrand::u8(least..255));
        Self {
            folder,
            address: format!("127.{}.{b}.{c}", a.max(2)),
            process: None,
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&mut self) {
        let mut log = File::options();
        log.create(true).append(true);
        let log = log.open(self.folder.path().join("log")).unwrap();
        let process = unprivileged(&binaries().join("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-p", &PORT.to_string()])
            .args(["-c", &format!("listen_addresses={}", self.address)])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        self.wait_for("SELECT 1", "1");
    }

    /// Lets it follow another server from its next start on.
    pub(crate) fn follow(&self, other: &Self) {
        let settings = format!(
            "primary_conninfo = 'host={} port={PORT} user=test'\nrecovery_target_timeline = 'latest'\n",
            other.address
        );
        let configuration = self.data().join("postgresql.auto.conf");
        fs::write(&configuration, settings).unwrap();
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "").unwrap();
        if root() {
            run(Command::new("chown")
                .arg("postgres:")
                .args([&signal, &configuration]));
        }
    }

    /// Has commits wait for the standby.
    pub(crate) fn synchronous(&self) {
        self.ask("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.ask("SELECT pg_reload_conf()");
        self.wait_for(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
            "1",
        );
    }

    pub(crate) fn promote(&self) {
        self.control(&["promote", "--wait", "--timeout=120"]);
    }

    /// Ends it in order; a standby has all of it then.
    pub(crate) fn stop(&mut self) {
        self.control(&["stop", "--mode=fast", "--timeout=120"]);
        self.reap();
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let children = self.children();
        self.signal("-KILL", &[self.id()]);
        self.reap();
        // They end when they notice, and keep the server from starting again until then.
        let began = Instant::now();
        for child in children {
            while Path::new("/proc").join(&child).exists() {
                assert!(began.elapsed() < LIMIT, "{child} does not end");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Has it accept connections and answer nothing, or continue.
    pub(crate) fn signal_all(&self, signal: &str) {
        let all: Vec<String> = [vec![self.id()], self.children()].concat();
        self.signal(signal, &all);
    }

    fn children(&self) -> Vec<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.id());
        let children = fs::read_to_string(children).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    fn id(&self) -> String {
        self.process.as_ref().unwrap().id().to_string()
    }

    fn signal(&self, signal: &str, ids: &[String]) {
        // A child may have ended meanwhile.
        let _some = Command::new("kill")
            .arg(signal)
            .args(ids)
            .stderr(Stdio::null())
            .status();
    }

    fn reap(&mut self) {
        self.process.take().unwrap().wait().unwrap();
    }

    fn control(&self, arguments: &[&str]) {
        run(unprivileged(&binaries().join("pg_ctl"))
            .args(arguments)
            .arg("-D")
            .arg(self.data()));
    }

    /// Its place in a URL.
    pub(crate) fn host(&self) -> String {
        format!("{}:{PORT}", self.address)
    }

    pub(crate) fn psql(&self, sql: &str) -> Command {
        let mut psql = Command::new(binaries().join("psql"));
        psql.arg("-h").arg(self.folder.path());
        psql.args([
            "-p",
            &PORT.to_string(),
            "-U",
            "test",
            "-d",
            "postgres",
            "-Atqc",
            sql,
        ]);
        psql
    }

    pub(crate) fn ask(&self, sql: &str) -> String {
        let answer = String::from_utf8(run(&mut self.psql(sql)));
        answer.unwrap().trim().to_owned()
    }

    /// Waits until it answers as it should.
    pub(crate) fn wait_for(&self, sql: &str, expected: &str) {
        let began = Instant::now();
        loop {
            let output = self.psql(sql).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            if said.trim() == expected {
                return;
            }
            let log = fs::read_to_string(self.folder.path().join("log"));
            assert!(began.elapsed() < LIMIT, "{sql}: {output:?}\n{log:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal_all("-CONT");
        }
        if let Some(process) = &mut self.process {
            // SIGQUIT is PostgreSQL's immediate shutdown; what is left of it is the folder's.
            let id = process.id().to_string();
            let _ended = Command::new("kill").args(["-QUIT", &id]).status();
            let _ended = process.wait();
        }
    }
}

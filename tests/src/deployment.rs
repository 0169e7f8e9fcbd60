//! One deployment of a test: its own topology file, state directory and lab; the image cache is shared.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

/// The longest that any one `pspd` of a test may take.
const LIMIT: Duration = Duration::from_secs(420);
/// The same for one that builds an image or a ROM.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

pub struct Deployment {
    folder: TempDir,
    pub name: String,
    pub file: PathBuf,
    /// The published port on loopback.
    pub port: u16,
    user: Option<String>,
}

/// A finished `pspd`.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

impl Ran {
    /// Fails with both outputs unless the exit code is `code`.
    pub fn expect(self, code: i32) -> anyhow::Result<Ran> {
        ensure!(
            self.code == code,
            "`{}`: exit code {}, expected {code}\nstdout:\n{}\nstderr:\n{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }

    /// Fails unless stderr has `text`.
    pub fn says(self, text: &str) -> anyhow::Result<Ran> {
        ensure!(
            self.stderr.contains(text),
            "`{}`: stderr lacks `{text}`:\n{}",
            self.command,
            self.stderr
        );
        Ok(self)
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}

/// The program under test: `PSPD`, else the release build.
pub fn pspd() -> PathBuf {
    std::env::var_os("PSPD").map_or_else(|| root().join("target/release/pspd"), PathBuf::from)
}

pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Deployment {
    /// The reference deployment under a name, a port and a state directory of its own.
    pub fn reference() -> anyhow::Result<Deployment> {
        let deployment = Deployment::empty()?;
        let text = fs::read_to_string(root().join("topology.yaml"))?
            .replace("name: reference", &format!("name: {}", deployment.name))
            .replace(
                "127.0.0.1:8080:8080",
                &format!("127.0.0.1:{}:8080", deployment.port),
            );
        deployment.write(&text)?;
        deployment.complete()?;
        deployment.build(&["coreboot"])?;
        Ok(deployment)
    }

    /// An example of the project under a name, a port and a state directory of its own.
    pub fn example(name: &str, published: u16) -> anyhow::Result<Deployment> {
        let deployment = Deployment::empty()?;
        let examples = root().join("examples");
        let text = fs::read_to_string(examples.join(format!("{name}.yaml")))?
            .replace(
                &format!("\nname: {name}\n"),
                &format!("\nname: {}\n", deployment.name),
            )
            .replace(
                &format!("127.0.0.1:{published}:"),
                &format!("127.0.0.1:{}:", deployment.port),
            )
            .replace("../target", "target")
            .replace("../images", "images")
            .replace(
                "binary: postgres/",
                &format!("binary: {}/postgres/", examples.display()),
            );
        deployment.write(&text)?;
        deployment.complete()?;
        Ok(deployment)
    }

    /// One small domain with the database service; `domain` adds lines to it.
    pub fn single(domain: &str) -> anyhow::Result<Deployment> {
        let deployment = Deployment::empty()?;
        deployment.write(&format!(
            "name: {}\n\
             images: {{debian: {{recipe: images/debian}}}}\n\
             domains:\n\
             \x20 store:\n\
             \x20   image: debian\n\
             \x20   memory: 384 MiB\n\
             \x20   disks:\n\
             \x20     data: {{size: 256 MiB, mount: /var/lib/store}}\n\
             \x20   service:\n\
             \x20     binary: target/services/database-server\n\
             \x20     port: 50051\n\
             \x20     health: database.DatabaseService\n\
             \x20     environment: {{DATABASE_STORE: /var/lib/store/store.sqlite}}\n\
             \x20   publish: [\"127.0.0.1:{}:50051\"]\n{domain}",
            deployment.name, deployment.port
        ))?;
        deployment.complete()?;
        Ok(deployment)
    }

    fn empty() -> anyhow::Result<Deployment> {
        let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
        let name = format!("test-{:08x}", rand(folder.path()));
        let file = folder.path().join("topology.yaml");
        Ok(Deployment {
            name,
            file,
            port: free_port()?,
            folder,
            user: None,
        })
    }

    /// Runs every later `pspd` as `user`, who gets a copy of all that it reads: the clone may be closed to others.
    pub fn run_as(&mut self, user: &str) -> anyhow::Result<()> {
        let folder = self.folder.path();
        let text = |path: &Path| path.display().to_string();
        sh("cp", [text(&pspd()), text(&folder.join("pspd"))])?;
        sh(
            "cp",
            [
                "-r".into(),
                text(&root().join("images/debian")),
                text(&folder.join("recipe")),
            ],
        )?;
        self.set_image(&format!("{{recipe: {}}}", text(&folder.join("recipe"))))?;
        sh(
            "cp",
            ["-r", "/var/cache/pspd", &text(&folder.join("cache"))],
        )
        .context("root's cache has the image")?;
        sh("chown", ["-R", user, &text(folder)])?;
        self.user = Some(user.to_owned());
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The deployment's own folder in the state directory.
    pub fn home(&self) -> PathBuf {
        self.state().join("deployments").join(&self.name)
    }

    /// A service's binary, a copy that the test may change.
    pub fn binary(&self, service: &str) -> PathBuf {
        self.folder.path().join("services").join(service)
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        let root = root();
        let text = text.replace(
            "images/debian",
            &root.join("images/debian").display().to_string(),
        );
        Ok(fs::write(&self.file, text)?)
    }

    /// Makes what the topology names. Its images are built here, so that they take none of a later command's time.
    fn complete(&self) -> anyhow::Result<()> {
        self.own_services()?;
        self.build(&[])
    }

    /// Builds the topology's images, or what else `pspd image build` can, unless it is cached.
    pub fn build(&self, what: &[&str]) -> anyhow::Result<()> {
        let mut building = self.spawn(&[&["image", "build"], what].concat())?;
        building.limit = BUILD_LIMIT;
        building.wait()?.expect(0).map(drop)
    }

    /// Points the topology at copies of the services, so that a test can change them.
    fn own_services(&self) -> anyhow::Result<()> {
        let folder = self.folder.path().join("services");
        fs::create_dir_all(&folder)?;
        for service in ["database-server", "ai-server", "web-server"] {
            fs::copy(
                root().join("target/services").join(service),
                folder.join(service),
            )
            .with_context(|| format!("`{service}` is not built; run `make build`"))?;
        }
        self.edit("target/services", &folder.display().to_string())
    }

    /// Replaces text in the topology; it must be there.
    pub fn edit(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let text = fs::read_to_string(&self.file)?;
        ensure!(text.contains(from), "the topology has no `{from}`");
        Ok(fs::write(&self.file, text.replace(from, to))?)
    }

    /// Replaces the image's source, as YAML.
    pub fn set_image(&self, source: &str) -> anyhow::Result<()> {
        let recipe = format!("{{recipe: {}}}", root().join("images/debian").display());
        self.edit(&recipe, source)
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        // What a shell starts in the background ignores SIGINT, and all that it starts does, too.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,QUIT");
        match &self.user {
            None => {
                command.arg(pspd());
            }
            Some(user) => {
                command
                    .args(["runuser", "-u", user, "--"])
                    .arg(self.folder.path().join("pspd"));
                command
                    .arg("--cache-dir")
                    .arg(self.folder.path().join("cache"));
            }
        }
        command
            .arg("--file")
            .arg(&self.file)
            .arg("--state-dir")
            .arg(self.state())
            .args(args);
        command
            .stdin(Stdio::null())
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(self.folder.path());
        command
    }

    /// Runs `pspd ARGS` to its end.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Ran> {
        self.spawn(args)?.wait()
    }

    /// Starts `pspd ARGS`, its outputs going to files.
    pub fn spawn(&self, args: &[&str]) -> anyhow::Result<Running> {
        let out = tempfile::NamedTempFile::new()?;
        let err = tempfile::NamedTempFile::new()?;
        let child = self
            .command(args)
            .stdout(out.reopen()?)
            .stderr(err.reopen()?)
            .spawn()
            .context("failed to run `env`")?;
        Ok(Running {
            command: args.join(" "),
            child,
            out,
            err,
            started: Instant::now(),
            limit: LIMIT,
        })
    }

    /// An address of the published web server.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// An HTTP client with a deadline that suits emulated guests.
    pub fn agent(&self) -> ureq::Agent {
        ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .into()
    }

    /// `status --json`, whatever its exit code.
    pub fn status(&self) -> anyhow::Result<Value> {
        let ran = self.run(&["status", "--json"])?;
        serde_json::from_str(&ran.stdout)
            .with_context(|| format!("status is no JSON:\n{}\n{}", ran.stdout, ran.stderr))
    }

    /// Runs a command in a guest and gives its output.
    pub fn ssh(&self, domain: &str, command: &str) -> anyhow::Result<String> {
        let ran = self.run(&["ssh", domain, "--", command])?.expect(0)?;
        Ok(ran.stdout.trim().to_owned())
    }

    /// Takes it away for good and checks that nothing is left: no process of its, no file but the journal's folder.
    pub fn remove(&self) -> anyhow::Result<()> {
        self.run(&["down", "--volumes"])?.expect(0)?;
        let left = processes_naming(&self.home().display().to_string())?;
        ensure!(left.is_empty(), "processes are left after down: {left:?}");
        let disks = self.home().join("disks");
        let files: Vec<_> = fs::read_dir(&disks)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        ensure!(files.is_empty(), "disks are left after down: {files:?}");
        Ok(())
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // A failed test's deployment must not outlive it; a removed one answers at once.
        let _ = self.run(&["down", "--volumes"]);
    }
}

/// A `pspd` that runs.
pub struct Running {
    command: String,
    pub child: Child,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
    started: Instant,
    limit: Duration,
}

impl Running {
    pub fn wait(mut self) -> anyhow::Result<Ran> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if self.started.elapsed() > self.limit {
                self.child.kill()?;
                self.child.wait()?;
                bail!(
                    "`{}` took longer than {:?}:\n{}{}",
                    self.command,
                    self.limit,
                    self.stdout()?,
                    self.stderr()?
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ok(Ran {
            command: self.command,
            code: status.code().unwrap_or(-1),
            stdout: fs::read_to_string(self.out.path())?,
            stderr: fs::read_to_string(self.err.path())?,
            elapsed: self.started.elapsed(),
        })
    }

    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        sh(
            "kill",
            [&format!("-{signal}"), &self.child.id().to_string()],
        )
    }

    pub fn stdout(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.out.path())?)
    }

    pub fn stderr(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.err.path())?)
    }
}

/// Processes whose command line has `text`, other than this one's.
pub fn processes_naming(text: &str) -> anyhow::Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(command) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if pid != std::process::id() && command.contains(text) {
            found.push((pid, command));
        }
    }
    Ok(found)
}

/// Polls `condition` until it holds.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition()? {
        ensure!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a program that must succeed.
pub fn sh<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
    output(Command::new(program).args(args)).map(drop)
}

/// Runs a command that must succeed and gives its stdout.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

/// A number that differs between runs: the temporary folder's name does.
fn rand(path: &Path) -> u32 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() as u32
}

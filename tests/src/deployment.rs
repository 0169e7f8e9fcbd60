//! A deployment for one test, with its own topology file, state directory and lab; the image cache is shared.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::loopback::free_port;
use crate::process::{Ran, Running, processes_naming, sh};
use crate::{pspd, root, wait};

/// The limit of one `pspd` command.
const LIMIT: Duration = Duration::from_secs(420);
/// The limit of a command that builds an image or a ROM.
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

pub struct Deployment {
    folder: TempDir,
    pub name: String,
    pub file: PathBuf,
    /// The published port on loopback.
    pub port: u16,
    user: Option<String>,
    /// Of the state directory, in the folder.
    state: &'static str,
}

impl Deployment {
    /// The reference deployment under a new name, with a free port.
    pub fn reference() -> anyhow::Result<Deployment> {
        let deployment = Deployment::example("reference", Some(8080))?;
        deployment.build(&["coreboot"])?;
        Ok(deployment)
    }

    /// What `pspd init` writes, untouched: the deployment has the name of its folder.
    pub fn demo() -> anyhow::Result<Deployment> {
        let mut deployment = Deployment::empty()?;
        deployment.run(&["init"])?.expect(0)?;
        let folder = deployment.folder().file_name().context("a folder")?;
        deployment.name = folder.to_string_lossy().to_lowercase();
        deployment.build(&[])?;
        Ok(deployment)
    }

    /// What the commands of the tutorial make: a deployment in a folder of its own.
    pub fn tutorial() -> anyhow::Result<Deployment> {
        let mut deployment = Deployment::empty()?;
        deployment.name = "shop".into();
        deployment.file = deployment.folder().join("shop/topology.yaml");
        Ok(deployment)
    }

    /// Runs the lines of a shell script in the deployment's folder, each with success, and returns what they print.
    pub fn script(&self, lines: &str) -> anyhow::Result<Ran> {
        let programs = self.folder().join("bin");
        fs::create_dir(&programs)?;
        std::os::unix::fs::symlink(pspd(), programs.join("pspd"))?;
        let path = std::env::var("PATH")?;
        let mut bash = Command::new("bash");
        bash.args(["-eu", "-o", "pipefail", "-v", "-c", lines])
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("PSPD_STATE_DIR", self.state())
            .env_remove("XDG_RUNTIME_DIR")
            .stdin(Stdio::null())
            .current_dir(self.folder());
        Running::start(&mut bash, "a script".into(), BUILD_LIMIT)?.wait()
    }

    /// An example, as `pspd init` writes it, under a new name and with a free port.
    pub fn example(name: &str, published: Option<u16>) -> anyhow::Result<Deployment> {
        Deployment::example_with(name, published, |_| Ok(()))
    }

    /// [`Deployment::example`]; `build` makes in its folder what `init` does not write.
    pub fn example_with(
        name: &str,
        published: Option<u16>,
        build: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Deployment> {
        let deployment = Deployment::empty()?;
        deployment.run(&["init", "--example", name])?.expect(0)?;
        deployment.edit(
            &format!("\nname: {name}\n"),
            &format!("\nname: {}\n", deployment.name),
        )?;
        if let Some(published) = published {
            deployment.edit(
                &format!("127.0.0.1:{published}:"),
                &format!("127.0.0.1:{}:", deployment.port),
            )?;
        }
        build(deployment.folder())?;
        deployment.build(&[])?;
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

    /// A deployment whose topology has `text`, with copies of the services to name in it.
    pub fn of(text: impl FnOnce(&Deployment) -> String) -> anyhow::Result<Deployment> {
        let deployment = Deployment::empty()?;
        deployment.copy_services()?;
        deployment.write(&text(&deployment))?;
        deployment.build(&[])?;
        Ok(deployment)
    }

    /// A folder without a topology.
    pub fn empty() -> anyhow::Result<Deployment> {
        let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
        let name = format!("test-{:08x}", rand(folder.path()));
        let file = folder.path().join("topology.yaml");
        Ok(Deployment {
            name,
            file,
            port: free_port()?,
            folder,
            user: None,
            state: "state",
        })
    }

    /// Runs every later `pspd` as `user`, with copies of all files that it reads: the clone may be private to root.
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
        .context("failed to copy root's cache")?;
        sh("chown", ["-R", user, &text(folder)])?;
        self.user = Some(user.to_owned());
        Ok(())
    }

    /// Gives the state directory a name with what URIs, configuration files, shells and `ssh` treat in their own way.
    pub fn name_state_oddly(&mut self) {
        self.state = r"a b%41#?;[x]\ä:=$HOME";
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join(self.state)
    }

    /// The deployment's own folder in the state directory.
    pub fn home(&self) -> PathBuf {
        self.state().join("deployments").join(&self.name)
    }

    /// The binary of a service: a copy that the test can change.
    pub fn binary(&self, service: &str) -> PathBuf {
        self.folder.path().join("services").join(service)
    }

    /// Replaces the topology.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        let root = root();
        let text = text.replace(
            "images/debian",
            &root.join("images/debian").display().to_string(),
        );
        Ok(fs::write(&self.file, text)?)
    }

    /// Creates what the topology names. Images are built here, so that no later command spends time on them.
    fn complete(&self) -> anyhow::Result<()> {
        self.own_services()?;
        self.build(&[]).map(drop)
    }

    /// Builds the topology's images, or the named image, unless cached.
    pub fn build(&self, what: &[&str]) -> anyhow::Result<Ran> {
        let building = self.start(&[&["image", "build"], what].concat(), BUILD_LIMIT)?;
        building.wait()?.expect(0)
    }

    /// Points the topology to copies of the services, so that a test can change them.
    fn own_services(&self) -> anyhow::Result<()> {
        self.copy_services()?;
        let folder = self.folder.path().join("services");
        self.edit("target/services", &folder.display().to_string())
    }

    fn copy_services(&self) -> anyhow::Result<()> {
        let folder = self.folder.path().join("services");
        fs::create_dir_all(&folder)?;
        for service in ["database-server", "ai-server", "web-server"] {
            fs::copy(
                root().join("target/services").join(service),
                folder.join(service),
            )
            .with_context(|| format!("`{service}` is not built; run `make build`"))?;
        }
        Ok(())
    }

    /// Replaces text in the topology; fails without it.
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
        // A command that a shell starts in the background ignores SIGINT, and so do its children.
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

    /// Starts `pspd ARGS`.
    pub fn spawn(&self, args: &[&str]) -> anyhow::Result<Running> {
        self.start(args, LIMIT)
    }

    fn start(&self, args: &[&str], limit: Duration) -> anyhow::Result<Running> {
        Running::start(&mut self.command(args), args.join(" "), limit)
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

    /// `status --json`, with any exit code.
    pub fn status(&self) -> anyhow::Result<Value> {
        self.run(&["status", "--json"])?.json()
    }

    /// Runs a command in a guest and returns its output.
    pub fn ssh(&self, domain: &str, command: &str) -> anyhow::Result<String> {
        let ran = self.run(&["ssh", domain, "--", command])?.expect(0)?;
        Ok(ran.stdout.trim().to_owned())
    }

    /// Removes the deployment with its volumes and snapshots, and checks that no process and no disk is left.
    pub fn remove(&self) -> anyhow::Result<()> {
        self.run(&["down", "--volumes", "--snapshots"])?.expect(0)?;
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
        // A failed test's deployment must not outlive it, nor the test's deadline keep it; once removed, this is quick.
        wait::lift_deadline();
        let _ = self.run(&["down", "--volumes", "--snapshots"]);
    }
}

/// A number that differs between runs, like the temporary folder's name.
fn rand(path: &Path) -> u32 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish() as u32
}

//! Other machines, as far as SSH and pspd can tell: a server on loopback, in namespaces of its own.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::loopback::free_port;
use crate::process::{Running, output};
use crate::wait::eventually;

/// With a home and a state directory of its own. The cache of images is that of this machine.
const SERVE: &str = r#"
mount --bind "$1/home" /root
mkdir -p /var/lib/pspd
mount --bind "$1/state" /var/lib/pspd
exec /usr/sbin/dropbear -F -s -r "$1/host_key" -P "$1/dropbear.pid" -p "127.0.0.1:$2"
"#;
/// For the longest scenario.
const LIMIT: Duration = Duration::from_secs(3600);

/// A machine with an SSH server that accepts one key; dropping it ends all of its processes.
pub struct Machine {
    server: Option<Running>,
    /// The server's public key.
    key: String,
    port: u16,
    folder: TempDir,
}

impl Machine {
    /// Its server's key is not known yet.
    pub fn start() -> anyhow::Result<Machine> {
        let folder = tempfile::Builder::new().prefix("pspd-test-").tempdir()?;
        let port = free_port()?;
        let key = prepare(folder.path())?;
        let mut machine = Machine {
            server: None,
            key,
            port,
            folder,
        };
        machine.serve()?;
        Ok(machine)
    }

    /// Starts its server, at first or after [`Machine::cut`].
    pub fn serve(&mut self) -> anyhow::Result<()> {
        let mut server = Command::new("unshare");
        server.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        server.args(["sh", "-ec", SERVE, "sh"]);
        server.arg(self.folder.path()).arg(self.port.to_string());
        self.server = Some(Running::start(&mut server, "an SSH server".into(), LIMIT)?);
        let port = self.port;
        eventually("the SSH server", Duration::from_secs(60), || {
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })
    }

    /// Ends all of its processes at once, as if its power were cut.
    pub fn cut(&mut self) {
        self.server = None;
    }

    /// What a topology says of it.
    pub fn keys(&self) -> String {
        let config = self.folder.path().join("ssh_config");
        format!(
            "{{ssh: root@127.0.0.1, port: {}, config: {}}}",
            self.port,
            config.display()
        )
    }

    /// Makes the server's key known.
    pub fn trust(&self) -> anyhow::Result<()> {
        self.trust_key(&self.key)
    }

    /// Makes another key known as the server's.
    pub fn trust_another(&self) -> anyhow::Result<()> {
        self.trust_key(&fs::read_to_string(self.folder.path().join("key.pub"))?)
    }

    fn trust_key(&self, key: &str) -> anyhow::Result<()> {
        let known = format!("[127.0.0.1]:{} {key}", self.port);
        Ok(fs::write(self.folder.path().join("known_hosts"), known)?)
    }

    /// `ssh` to it, with a line for its shell.
    pub fn shell(&self, line: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(self.folder.path().join("ssh_config"));
        ssh.args(["-p", &self.port.to_string(), "root@127.0.0.1", line]);
        ssh
    }

    /// The directory of pspd's state.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

/// Prepares the machine and how `ssh` reaches it, and returns its public key.
fn prepare(folder: &Path) -> anyhow::Result<String> {
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["home/.ssh", "state"] {
        fs::create_dir_all(folder.join(name))?;
    }
    output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path("key")]))?;
    fs::copy(
        folder.join("key.pub"),
        folder.join("home/.ssh/authorized_keys"),
    )?;
    let key = ["-t", "ed25519", "-f", &path("host_key")];
    let printed = output(Command::new("dropbearkey").args(key))?;
    let public = printed.lines().find(|line| line.starts_with("ssh-"));
    let known_hosts = path("known_hosts");
    File::create(&known_hosts)?;
    let config = format!(
        "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {known_hosts}\nGlobalKnownHostsFile /dev/null\n",
        path("key"),
    );
    fs::write(folder.join("ssh_config"), config)?;
    Ok(public.context("dropbearkey prints no key")?.to_owned())
}

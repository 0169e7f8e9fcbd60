//! The systemd unit that starts a deployment with its host, and takes it down with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use pspd_model::spec::{Connection, Name};

use crate::guest::unit_argument;
use crate::state::{Paths, read_if_there, remove_if_there, write_atomically};

/// Which of the host's managers runs a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    System,
    User,
}

/// What a manager knows of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// systemd's words, such as `enabled` and `active`; `None` where no manager answers.
    pub enabled: Option<String>,
    pub active: Option<String>,
}

/// The unit of one deployment.
#[derive(Clone, Debug)]
pub struct Unit {
    manager: Manager,
    /// With its suffix.
    name: String,
    text: String,
}

impl Manager {
    /// The system's manager for root, and the user's own for everybody else.
    pub fn of_this_user() -> Manager {
        if rustix::process::geteuid().is_root() {
            Manager::System
        } else {
            Manager::User
        }
    }

    fn folder(self) -> anyhow::Result<PathBuf> {
        if self == Manager::System {
            return Ok("/etc/systemd/system".into());
        }
        let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let configuration = given("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(given("HOME")?.join(".config")));
        let configuration = configuration.context("neither HOME nor XDG_CONFIG_HOME is set")?;
        Ok(configuration.join("systemd/user"))
    }

    /// The start of its command line.
    pub fn command(self) -> &'static str {
        match self {
            Manager::System => "systemctl",
            Manager::User => "systemctl --user",
        }
    }

    fn systemctl(self, arguments: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        command.args((self == Manager::User).then_some("--user"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Whether it answers; a container or a chroot has none.
    fn answers(self) -> bool {
        let shown = self.systemctl(&["show", "--property=Version"]).output();
        shown.is_ok_and(|shown| shown.status.success())
    }

    fn run(self, arguments: &[&str]) -> anyhow::Result<()> {
        let shown = format!("{} {}", self.command(), arguments.join(" "));
        let output = self
            .systemctl(arguments)
            .output()
            .with_context(|| format!("failed to run `{shown}`"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`{shown}` failed: {}", said.trim());
        }
        Ok(())
    }

    /// One word about a unit, such as `is-enabled` prints it.
    fn word(self, question: &str, unit: &str) -> Option<String> {
        let output = self.systemctl(&[question, unit]).output().ok()?;
        let word = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (!word.is_empty()).then_some(word)
    }
}

impl Unit {
    /// The unit that runs `program` for a deployment.
    pub fn new(
        manager: Manager,
        program: &Path,
        paths: &Paths,
        deployment: &Name,
        connection: &Connection,
    ) -> Unit {
        Unit {
            manager,
            name: file_name(deployment),
            text: text(manager, program, paths, deployment, connection),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn manager(&self) -> Manager {
        self.manager
    }

    pub fn path(&self) -> anyhow::Result<PathBuf> {
        Ok(self.manager.folder()?.join(&self.name))
    }

    /// The text of the installed file; `None` if it is not installed.
    pub fn installed(&self) -> anyhow::Result<Option<String>> {
        let text = read_if_there(&self.path()?)?;
        Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    }

    /// Writes the file, and enables the unit where a manager answers; says whether one did.
    pub fn install(&self) -> anyhow::Result<bool> {
        let folder = self.manager.folder()?;
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("failed to create `{}`", folder.display()))?;
        write_atomically(&self.path()?, self.text.as_bytes(), 0o644)?;
        if !self.manager.answers() {
            return Ok(false);
        }
        self.manager.run(&["daemon-reload"])?;
        self.manager.run(&["enable", "--quiet", &self.name])?;
        Ok(true)
    }

    /// Disables the unit and removes its file. What the unit started keeps running.
    pub fn uninstall(&self) -> anyhow::Result<()> {
        let answers = self.manager.answers();
        if answers {
            self.manager.run(&["disable", "--quiet", &self.name])?;
        }
        remove_if_there(&self.path()?)?;
        if answers {
            self.manager.run(&["daemon-reload"])?;
        }
        Ok(())
    }

    pub fn state(&self) -> State {
        if !self.manager.answers() {
            return State {
                enabled: None,
                active: None,
            };
        }
        State {
            enabled: self.manager.word("is-enabled", &self.name),
            active: self.manager.word("is-active", &self.name),
        }
    }
}

/// Whether a unit starts this deployment, as far as this user's manager goes.
pub fn starts(deployment: &Name) -> bool {
    let folder = Manager::of_this_user().folder();
    folder.is_ok_and(|folder| folder.join(file_name(deployment)).exists())
}

fn file_name(deployment: &Name) -> String {
    format!("pspd-{deployment}.service")
}

fn text(
    manager: Manager,
    program: &Path,
    paths: &Paths,
    deployment: &Name,
    connection: &Connection,
) -> String {
    let command = |words: &[&str]| {
        let global = [
            &program.display().to_string(),
            "--state-dir",
            &paths.state.display().to_string(),
            "--cache-dir",
            &paths.cache.display().to_string(),
            "--deployment",
            deployment.as_str(),
        ];
        let all = global.iter().chain(words);
        let quoted: Vec<String> = all.map(|word| unit_argument(word)).collect();
        quoted.join(" ")
    };
    let (after, stop) = match connection {
        // Guests keep running while libvirtd stops; the host's `libvirt-guests` takes care of them.
        Connection::Uri(_) => ("libvirtd.service virtqemud.service", String::new()),
        Connection::Lab => (
            "network.target",
            format!("ExecStop={}\n", command(&["down", "--save"])),
        ),
    };
    let wanted_by = match manager {
        Manager::System => "multi-user.target",
        Manager::User => "default.target",
    };
    format!(
        "# Written by `pspd service install`, which replaces it.\n\
         [Unit]\n\
         Description=pspd deployment {deployment}\n\
         After={after}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         # A deployment of which a part is not healthy is to be saved when the host stops, like any other.\n\
         ExecStart=-{}\n\
         {stop}\
         TimeoutStartSec=infinity\n\
         TimeoutStopSec=10min\n\
         \n\
         [Install]\n\
         WantedBy={wanted_by}\n",
        command(&["up"])
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn unit(manager: Manager, state: &str, connection: &Connection) -> Unit {
        let paths = Paths::resolve(Some(state.into()), Some("/var/cache/pspd".into())).unwrap();
        let deployment = Name::new("reference").unwrap();
        let program = Path::new("/usr/local/bin/pspd");
        Unit::new(manager, program, &paths, &deployment, connection)
    }

    #[test]
    fn a_lab_is_saved_when_its_host_stops() {
        let unit = unit(Manager::System, "/var/lib/pspd", &Connection::Lab);
        insta::assert_snapshot!(unit.text(), @r#"
        # Written by `pspd service install`, which replaces it.
        [Unit]
        Description=pspd deployment reference
        After=network.target

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        # A deployment of which a part is not healthy is to be saved when the host stops, like any other.
        ExecStart=-"/usr/local/bin/pspd" "--state-dir" "/var/lib/pspd" "--cache-dir" "/var/cache/pspd" "--deployment" "reference" "up"
        ExecStop="/usr/local/bin/pspd" "--state-dir" "/var/lib/pspd" "--cache-dir" "/var/cache/pspd" "--deployment" "reference" "down" "--save"
        TimeoutStartSec=infinity
        TimeoutStopSec=10min

        [Install]
        WantedBy=multi-user.target
        "#);
    }

    #[test]
    fn systemd_accepts_the_units() {
        let uri = Connection::Uri("qemu:///system".into());
        let folder = tempfile::tempdir().unwrap();
        // The program must exist for it.
        let program = folder.path().join("a b%n;");
        fs::copy("/bin/true", &program).unwrap();
        let odd = folder.path().join("a b%n$HOME;\\");
        let paths = Paths::resolve(Some(odd.clone()), Some(odd)).unwrap();
        let deployment = Name::new("reference").unwrap();
        for manager in [Manager::System, Manager::User] {
            for connection in [&Connection::Lab, &uri] {
                let unit = Unit::new(manager, &program, &paths, &deployment, connection);
                let file = folder.path().join(unit.name());
                fs::write(&file, unit.text()).unwrap();
                let verify = Command::new("systemd-analyze")
                    .args(["verify", "--man=no", "--recursive-errors=no"])
                    .arg(&file)
                    .output();
                match verify {
                    Err(error) => eprintln!("skipped: systemd-analyze: {error}"),
                    Ok(output) => {
                        let said = String::from_utf8_lossy(&output.stderr);
                        assert!(!said.contains(unit.name()), "{said}\n{}", unit.text());
                    }
                }
            }
        }
    }
}

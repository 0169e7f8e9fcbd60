//! `pspd ls`: the deployments of this host.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pspd_model::spec::{Connection, Name, Size, Spec};
use serde_json::json;

use super::context::Context;
use super::exit::Exit;
use crate::hint::told;
use crate::observe::Host;
use crate::report::columns;
use crate::state::{Home, Paths};
use crate::terminal;

/// How long a libvirt daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  pspd ls\n\nCommands take a deployment by `--deployment NAME`, from any directory."
)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is known of a deployment.
struct Listed {
    name: String,
    domains: usize,
    state: State,
    connection: Option<Connection>,
    topology: Option<PathBuf>,
    /// On the host's disk.
    size: Size,
}

enum State {
    Running(usize),
    Down,
    Saved,
    /// On other machines, which are not asked.
    Elsewhere(Vec<Name>),
    /// Its `up` or `import` did not get as far as a record.
    Unfinished,
    Unknown(String),
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            State::Running(_) => "running",
            State::Down => "down",
            State::Saved => "saved",
            State::Elsewhere(_) => "elsewhere",
            State::Unfinished => "unfinished",
            State::Unknown(_) => "unknown",
        }
    }
}

impl Listed {
    fn shown(&self) -> String {
        match &self.state {
            State::Running(running) if *running == self.domains => format!("{running} running"),
            State::Running(running) => format!("{running} of {} running", self.domains),
            State::Elsewhere(hosts) => {
                let hosts: Vec<&str> = hosts.iter().map(Name::as_str).collect();
                format!("on {}", hosts.join(", "))
            }
            state => state.word().to_owned(),
        }
    }
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<Exit> {
    let listed = all(&context.paths)?;
    let mut out = terminal::out();
    if args.json {
        let listed: Vec<_> = listed.iter().map(object).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&listed)?)?;
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        writeln!(
            terminal::err(),
            "no deployments on this host. Run `pspd init` and `pspd up` to create one"
        )?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    let head = ["deployment", "state", "connection", "size", "topology"];
    write!(out, "{}", columns(&head, &rows, terminal::out_width()))?;
    for one in &listed {
        if let State::Unknown(reason) = &one.state {
            writeln!(terminal::err(), "{}: {reason}", one.name)?;
        }
    }
    Ok(Exit::Done)
}

fn object(one: &Listed) -> serde_json::Value {
    let running = match one.state {
        State::Running(running) => Some(running),
        State::Down | State::Saved => Some(0),
        State::Elsewhere(_) | State::Unfinished | State::Unknown(_) => None,
    };
    json!({
        "name": one.name, "state": one.state.word(), "running": running, "domains": one.domains,
        "connection": one.connection.as_ref().map(Connection::to_string), "topology": one.topology, "size": one.size.0,
    })
}

fn row(one: &Listed) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        one.name.clone(),
        one.shown(),
        or_dash(one.connection.as_ref().map(Connection::to_string)),
        one.size.to_string(),
        or_dash(one.topology.as_ref().map(|path| path.display().to_string())),
    ]
}

/// All deployments by name. Those whose daemon does not answer hold up no other.
fn all(paths: &Paths) -> anyhow::Result<Vec<Listed>> {
    let (sender, receiver) = mpsc::channel();
    let mut listed = Vec::new();
    for home in paths.deployments()? {
        let spec = home.recorded_spec();
        if !home.exists() || matches!(spec, Ok(None)) && is_empty(&home) {
            continue;
        }
        let at = listed.len();
        let mut one = Listed {
            name: home.deployment(),
            domains: 0,
            state: State::Unfinished,
            connection: None,
            topology: home.origin().ok().flatten(),
            size: Size(size(home.path())),
        };
        match spec {
            Ok(None) => {}
            Err(error) => one.state = State::Unknown(told(&error)),
            Ok(Some(spec)) => {
                one.domains = spec.domains.len();
                one.connection = Some(spec.connection.clone());
                if !spec.hosts.is_empty() {
                    one.state = State::Elsewhere(spec.hosts.into_keys().collect());
                    listed.push(one);
                    continue;
                }
                one.state = State::Unknown(format!(
                    "libvirt did not answer within {} s",
                    ANSWER.as_secs()
                ));
                let (paths, sender) = (paths.clone(), sender.clone());
                thread::spawn(move || {
                    let state =
                        state(&paths, &spec).unwrap_or_else(|error| State::Unknown(told(&error)));
                    // Nobody waits for one that is late.
                    let _ = sender.send((at, state));
                });
            }
        }
        listed.push(one);
    }
    drop(sender);
    let until = Instant::now() + ANSWER;
    while let Ok((at, state)) =
        receiver.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        listed[at].state = state;
    }
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

fn state(paths: &Paths, spec: &Spec) -> anyhow::Result<State> {
    let host = Host::attach_blocking(paths, spec)?;
    let mut running = 0;
    let names = || spec.domains.keys();
    if let Some(connection) = &host.connection {
        for name in names() {
            let domain = connection.domain(&spec.name, name.as_str())?;
            let power = domain.map(|domain| domain.power()).transpose()?;
            running += usize::from(power.is_some_and(|power| power.has_process()));
        }
    }
    let is_saved = |name: &Name| host.home.memory_record(name).is_ok_and(|it| it.is_some());
    Ok(match running {
        0 if names().any(is_saved) => State::Saved,
        0 => State::Down,
        running => State::Running(running),
    })
}

/// A command that was refused leaves no more than its lock.
fn is_empty(home: &Home) -> bool {
    let entries = fs::read_dir(home.path());
    entries.is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == *"lock"))
}

/// The room that a folder takes, in bytes.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(file) if file.is_dir() => size(&entry.path()),
        // In units of 512 bytes on all file systems.
        Ok(file) => file.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use pspd_model::spec::HostSpec;
    use pspd_model::topology::{Found, parse};

    use super::*;

    #[test]
    fn every_deployment_is_listed_once_with_what_is_known_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            state: folder.path().join("state"),
            cache: folder.path().join("cache"),
        };
        assert!(all(&paths).unwrap().is_empty());
        let home = |name: &str| {
            let home = paths.deployment(&Name::new(name).unwrap());
            home.create().unwrap();
            home
        };
        let text = "name: web\nimages: {debian: {recipe: recipe}}\ndomains: {a: {image: debian}, b: {image: debian}}\n";
        let spec = parse(text, Path::new("/"), &|_| Found::Folder).unwrap();
        let web = home("web");
        web.record_spec(&spec).unwrap();
        web.record_origin(Path::new("/srv/topology.yaml")).unwrap();
        fs::write(web.disk(&Name::new("a").unwrap()), vec![1; 1 << 20]).unwrap();
        let mut spec = spec;
        let host = HostSpec {
            ssh: "alpha".to_owned(),
            port: None,
            config: None,
            gateway: None,
        };
        spec.hosts.insert(Name::new("alpha").unwrap(), host);
        home("sent").record_spec(&spec).unwrap();
        home("started");
        fs::write(home("damaged").path().join("spec.json"), "{").unwrap();
        let refused = paths.deployment(&Name::new("refused").unwrap());
        fs::create_dir(refused.path()).unwrap();
        fs::write(refused.lock_file(), "").unwrap();

        let listed = all(&paths).unwrap();
        let shown: Vec<_> = listed
            .iter()
            .map(|one| (one.name.as_str(), one.shown(), one.domains))
            .collect();
        let expected = [
            ("damaged", "unknown", 0),
            ("sent", "on alpha", 2),
            ("started", "unfinished", 0),
            ("web", "down", 2),
        ];
        let expected = expected.map(|(name, state, domains)| (name, state.to_owned(), domains));
        assert_eq!(shown, expected);
        let web = &listed[3];
        assert!(web.size >= Size::mib(1) && web.size < Size::mib(2));
        assert_eq!(
            web.topology.as_deref(),
            Some(Path::new("/srv/topology.yaml"))
        );
        assert_eq!(object(web)["running"], 0);
        assert_eq!(object(&listed[2])["running"], serde_json::Value::Null);
    }
}

//! The connections between the labs of several hosts: a process of this machine, which outlives the command that starts it.
//!
//! ```text
//! lab on alpha                    this machine                     lab on beta
//! bridge ── tap ── uplink ═══════ ssh ── switch ── ssh ═══════ uplink ── tap ── bridge
//! ```
//! Its folder has what it serves and how each connection is:
//!
//! ```text
//! lock            held while it lives; has its process id
//! served.json     the hosts, and the program
//! host-NAME.json  since when a host is connected, or why it is not
//! cut.json        the hosts that it cuts off from the others
//! log             what it printed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use pspd_model::spec::{Digest, HostSpec, Name, Spec};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::TOPOLOGY;
use super::cuts;
use super::program::{self, find};
use super::ssh::Ssh;
use super::switch::Switch;
use super::uplink::{READY, REPLACED};
use crate::hint::{self, told};
use crate::state::{Home, Paths, create_private, read_if_there, write_atomically};

/// The hidden command that is this process.
pub(crate) const COMMAND: &str = "links";
/// From one attempt to connect to the next.
const RETRY: Duration = Duration::from_secs(2);
/// For the process to take its lock, or to end.
const SOON: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Of the pipes to and from `ssh`, in bytes.
const PIPE: usize = 1 << 20;

/// How a host's lab is connected to those of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Link {
    /// RFC 3339.
    pub since: String,
    /// Why it is not connected; `None` if it is.
    pub fault: Option<String>,
}

/// What a process serves, and which program it is.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Served {
    hosts: BTreeMap<Name, HostSpec>,
    program: Digest,
}

impl Served {
    /// By this program.
    fn of(spec: &Spec) -> Result<Served> {
        Ok(Served {
            hosts: spec.hosts.clone(),
            program: program::own_digest()?,
        })
    }
}

/// The process's folder.
struct Folder(PathBuf);

impl Folder {
    fn of(home: &Home) -> Folder {
        Folder(home.switch())
    }

    fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    fn served(&self) -> PathBuf {
        self.0.join("served.json")
    }

    fn cut(&self) -> PathBuf {
        self.0.join("cut.json")
    }

    fn link(&self, host: &Name) -> PathBuf {
        self.0.join(format!("host-{host}.json"))
    }

    /// The id of the process that holds the lock, if there is one.
    fn holder(&self) -> Result<Option<Pid>> {
        let mut file = match File::open(self.lock()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        if file.try_lock_shared().is_ok() {
            return Ok(None);
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text.trim().parse().ok().and_then(Pid::from_raw))
    }

    /// Records and logs how a host is, where that is not as it was.
    fn tell(&self, host: &Name, last: &mut Option<Option<String>>, fault: Option<String>) {
        if last.as_ref() == Some(&fault) {
            return;
        }
        let text = fault.as_deref().unwrap_or("connected");
        crate::report::say(format_args!("{} {host}: {text}\n", Timestamp::now()));
        if let Err(error) = self.record(host, fault.clone()) {
            // The folder is removed before the process ends.
            crate::report::say(format_args!("{}\n", told(&error)));
        }
        *last = Some(fault);
    }

    fn record(&self, host: &Name, fault: Option<String>) -> Result<()> {
        let link = Link {
            since: Timestamp::now().to_string(),
            fault,
        };
        write_atomically(&self.link(host), &serde_json::to_vec(&link)?, 0o600)
    }
}

/// Starts the process, unless one runs that serves these hosts; returns whether it was started.
pub(crate) fn start(paths: &Paths, spec: &Spec) -> Result<bool> {
    let home = paths.deployment(&spec.name);
    let folder = Folder::of(&home);
    let served = read_if_there(&folder.served())?;
    let served: Option<Served> = served.and_then(|served| serde_json::from_slice(&served).ok());
    if folder.holder()?.is_some() && served == Some(Served::of(spec)?) {
        return Ok(false);
    }
    stop(&home)?;
    create_private(&folder.0)?;
    for host in spec.hosts.keys() {
        folder.record(host, Some("not connected yet".to_owned()))?;
    }
    let program = std::env::current_exe().context("failed to find the path of the pspd program")?;
    let log = File::create(folder.0.join("log"))?;
    // In a session of its own, so that it outlives this process and its terminal.
    let mut child = Command::new("setsid")
        .arg("--fork")
        .arg(program)
        .arg("--state-dir")
        .arg(&paths.state)
        .args(["--deployment", spec.name.as_str(), COMMAND])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("failed to run `setsid`")?;
    child.wait().context("failed to wait for `setsid`")?;
    let deadline = Instant::now() + SOON;
    while folder.holder()?.is_none() {
        if Instant::now() > deadline {
            let log = fs::read_to_string(folder.0.join("log")).unwrap_or_default();
            bail!(
                "the process that connects the hosts did not start: {}",
                log.trim()
            );
        }
        thread::sleep(POLL);
    }
    Ok(true)
}

/// Ends the process, if it runs.
pub(crate) fn stop(home: &Home) -> Result<()> {
    let folder = Folder::of(home);
    let deadline = Instant::now() + SOON;
    while let Some(holder) = folder.holder()? {
        ensure!(
            Instant::now() < deadline,
            "the process that connects the hosts does not end: process {holder:?}"
        );
        // With its connections.
        let _ended_meanwhile = kill_process_group(holder, Signal::TERM);
        thread::sleep(POLL);
    }
    crate::folder::remove(&folder.0)
}

/// How each host is connected, by the process's own record; `None` where it does not run.
pub(crate) fn state(
    home: &Home,
    hosts: &BTreeMap<Name, HostSpec>,
) -> Result<Option<BTreeMap<Name, Link>>> {
    let folder = Folder::of(home);
    if folder.holder()?.is_none() {
        return Ok(None);
    }
    let mut links = BTreeMap::new();
    for host in hosts.keys() {
        if let Some(text) = read_if_there(&folder.link(host))? {
            links.insert(host.clone(), serde_json::from_slice(&text)?);
        }
    }
    Ok(Some(links))
}

/// Waits until all hosts are connected, and returns those that are not in time, each with the reason.
pub(crate) async fn connected(
    home: &Home,
    hosts: &BTreeMap<Name, HostSpec>,
    within: Duration,
) -> Result<Vec<(Name, String)>> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        let links = state(home, hosts)?.unwrap_or_default();
        let fault = |name: &Name| match links.get(name) {
            Some(link) => link.fault.clone(),
            None => Some("the process that connects the hosts does not run".to_owned()),
        };
        let faults = hosts
            .keys()
            .filter_map(|name| Some((name.clone(), fault(name)?)));
        let faults: Vec<_> = faults.collect();
        if faults.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(faults);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The process: connects all hosts, and each again when its connection ended. Ends by a signal, or with an error where
/// another process serves the deployment.
pub(crate) fn run(paths: &Paths, spec: &Spec) -> Result<()> {
    let folder = Folder::of(&paths.deployment(&spec.name));
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.lock())?;
    let deadline = Instant::now() + SOON;
    // Who looks for the holder has it for a moment.
    while let Err(error) = lock.try_lock() {
        if Instant::now() > deadline {
            return Err(error).context("another process connects these hosts");
        }
        thread::sleep(POLL);
    }
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())?;
    let served = serde_json::to_vec(&Served::of(spec)?)?;
    write_atomically(&folder.served(), &served, 0o600)?;
    let switch = Switch::default();
    let home = paths.deployment(&spec.name);
    thread::scope(|scope| {
        scope.spawn(|| cut_off(&home, &folder, &switch));
        for (name, host) in &spec.hosts {
            let ssh = Ssh::to(name, host);
            let (switch, folder) = (&switch, &folder);
            scope.spawn(move || keep(&ssh, &spec.name, switch, folder));
        }
    });
    Ok(())
}

/// Cuts off the hosts that faults say, again and again.
fn cut_off(home: &Home, folder: &Folder, switch: &Switch) {
    let mut last = None;
    loop {
        let told = cuts::active(home).and_then(|cuts| {
            let cut: BTreeSet<Name> = cuts.into_keys().collect();
            if last.as_ref() != Some(&cut) {
                switch.cut_off(cut.clone());
                write_atomically(&folder.cut(), &serde_json::to_vec(&cut)?, 0o600)?;
                last = Some(cut);
            }
            Ok(())
        });
        if let Err(error) = told {
            // The folder is removed before the process ends.
            crate::report::say(format_args!("{}\n", hint::told(&error)));
            thread::sleep(RETRY);
        }
        thread::sleep(POLL);
    }
}

/// Waits until the process, if it runs, cuts off the hosts that faults say.
pub(crate) async fn follow_cuts(home: &Home) -> Result<()> {
    let folder = Folder::of(home);
    let deadline = tokio::time::Instant::now() + SOON;
    while folder.holder()?.is_some() {
        let cut = read_if_there(&folder.cut())?;
        let cut: Option<BTreeSet<Name>> = cut.and_then(|cut| serde_json::from_slice(&cut).ok());
        if cut == Some(cuts::active(home)?.into_keys().collect()) {
            break;
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the process that connects the hosts does not answer"
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Connects a host, again and again.
fn keep(ssh: &Ssh, deployment: &Name, switch: &Switch, folder: &Folder) {
    let mut last = None;
    loop {
        let fault = match connect(ssh, deployment, switch, folder, &mut last) {
            Ok(()) => "the connection ended".to_owned(),
            Err(error) => told(&error),
        };
        let replaced = fault.contains(REPLACED);
        folder.tell(&ssh.name, &mut last, Some(fault));
        if replaced {
            // Another machine took the deployment over.
            std::process::exit(1);
        }
        thread::sleep(RETRY);
    }
}

/// Connects a host until its connection ends.
fn connect(
    ssh: &Ssh,
    deployment: &Name,
    switch: &Switch,
    folder: &Folder,
    last: &mut Option<Option<String>>,
) -> Result<()> {
    let program = find(ssh)?;
    let script = format!(
        "exec {} --sent={deployment}/{TOPOLOGY} --site={} lab uplink",
        program.path, ssh.name
    );
    let mut child = ssh.piped(&script).spawn().context("failed to run `ssh`")?;
    let connected = || folder.tell(&ssh.name, last, None);
    let served = serve(&mut child, &ssh.name, switch, connected);
    // It ends with its streams.
    let output = child
        .wait_with_output()
        .context("failed to wait for `ssh`")?;
    served?;
    ssh.printed(output).map(drop)
}

fn serve(child: &mut Child, host: &Name, switch: &Switch, connected: impl FnOnce()) -> Result<()> {
    let to = child.stdin.take().context("`ssh` has no input")?;
    let from = child.stdout.take().context("`ssh` has no output")?;
    for pipe in [to.as_fd(), from.as_fd()] {
        // Where the system allows it, so that neither end waits for each frame.
        let _smaller = fcntl_setpipe_size(pipe, PIPE);
    }
    let mut from = BufReader::new(from);
    let mut first = String::new();
    from.by_ref()
        .take(READY.len() as u64)
        .read_line(&mut first)?;
    if first != READY {
        // What it printed as its error says more.
        return Ok(());
    }
    connected();
    switch.serve(host, from, to).context("the connection broke")
}

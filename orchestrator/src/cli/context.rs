//! The input of every command: the paths, and the spec of the deployment.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use pspd_lab::Lab;
use pspd_model::hint::Hinted;
use pspd_model::plan::PlanError;
use pspd_model::similar::meant;
use pspd_model::spec::{Name, Spec};
use pspd_model::topology::Faults;
use tokio_util::sync::CancellationToken;

use super::Global;
use super::exit::{Coded, Exit};
use crate::guest::shell_word;
use crate::identity::Identity;
use crate::libvirt::Connection;
use crate::observe::Host;
use crate::other_hosts;
use crate::reach::Reach;
use crate::state::{self, Paths};
use crate::topology;

pub(super) struct Context {
    pub file: PathBuf,
    pub paths: Paths,
    deployment: Option<String>,
    /// Whether the topology is one that another machine sent.
    is_sent: bool,
    /// Which of the topology's hosts this machine is.
    site: Option<Name>,
}

impl Context {
    pub(super) fn new(global: Global) -> anyhow::Result<Context> {
        let paths = Paths::resolve(global.state_dir, global.cache_dir)?;
        let sent = global.sent.map(|file| paths.all_sent().join(file));
        Ok(Context {
            is_sent: sent.is_some(),
            site: global.site,
            file: sent.unwrap_or(global.file),
            paths,
            deployment: global.deployment,
        })
    }

    /// Whether there is a topology file, or a deployment is named.
    pub(super) fn has_spec(&self) -> bool {
        self.deployment.is_some() || self.file.exists()
    }

    /// The deployment of another machine that sent no topology yet, or took it down with its data.
    pub(super) fn never_sent(&self) -> Option<Cow<'_, str>> {
        let folder = self
            .file
            .parent()
            .filter(|_| self.is_sent && !self.file.exists());
        folder
            .and_then(Path::file_name)
            .map(|name| name.to_string_lossy())
    }

    /// Whether another machine runs this command on several hosts at the same time.
    pub(super) fn is_one_of_several(&self) -> bool {
        self.site.is_some()
    }

    /// A fault's id for people: over several hosts, each begins with its host.
    pub(super) fn shown_fault(&self, id: &Name) -> String {
        match &self.site {
            Some(site) => format!("{site}:{id}"),
            None => id.to_string(),
        }
    }

    /// The spec of the topology file, which `up` and `plan` use.
    pub(super) fn spec(&self) -> anyhow::Result<Spec> {
        if self.deployment.is_some() {
            return self.recorded();
        }
        if let Some(name) = self.never_sent() {
            let message = format!("deployment `{name}` does not exist on this host");
            bail!(Hinted::new(message, "Run `pspd up` first"));
        }
        match &self.site {
            // What other hosts need was not sent.
            Some(site) => topology::load_before_build(&self.file).map(|spec| spec.on(site)),
            None => topology::load(&self.file),
        }
        .map_err(invalid)
    }

    /// Like [`Self::spec`], for commands that read no file of a service: those need not exist yet.
    pub(super) fn spec_before_build(&self) -> anyhow::Result<Spec> {
        if self.deployment.is_some() {
            return self.recorded();
        }
        topology::load_before_build(&self.file).map_err(invalid)
    }

    /// The spec that the last `up` recorded, or else that of the topology file. A topology that names a recorded
    /// deployment need not be valid, and the files that it names need not exist.
    pub(super) fn deployed_spec(&self) -> anyhow::Result<Spec> {
        if self.deployment.is_some() {
            return self.recorded();
        }
        let recorded = topology::name(&self.file)
            .map(|name| self.paths.deployment(&name).recorded_spec())
            // With a damaged record, the topology file still allows the command to work.
            .and_then(|recorded| recorded.ok().flatten());
        match recorded {
            Some(spec) => Ok(spec),
            None => self.spec().map_err(|error| self.name_deployments(error)),
        }
    }

    /// [`Self::deployed_spec`] of a deployment that exists on this host and came from this directory.
    pub(super) fn existing_spec(&self) -> anyhow::Result<Spec> {
        let spec = self.deployed_spec()?;
        let hint = format!("Pass `--deployment {}` for that one", spec.name);
        self.refuse_other_origin(&spec, hint)?;
        ensure!(
            self.paths.deployment(&spec.name).exists(),
            Hinted::new(
                format!("deployment `{}` does not exist on this host", spec.name),
                "Run `pspd up` first",
            )
        );
        Ok(spec)
    }

    /// Refuses what needs all domains where this machine is one of several hosts.
    pub(super) fn refuse_part(spec: &Spec) -> anyhow::Result<()> {
        let other = spec.elsewhere.values().next();
        let other = other.map(|domain| (&domain.name, domain.host.as_ref()));
        let Some((domain, Some(host))) = other else {
            return Ok(());
        };
        bail!(
            "`{}` is on several hosts, and this command needs all of them: `{domain}` is on `{host}`",
            spec.name
        )
    }

    /// Adds to an error of the topology how to do without it.
    fn name_deployments(&self, error: anyhow::Error) -> anyhow::Error {
        let here = match self.names_from_here() {
            Ok(Some(names)) => format!(". Deployments of this file: {names}"),
            _ => String::new(),
        };
        let hint = format!("Pass `--deployment NAME` to run this command without a topology{here}");
        match error.downcast::<Coded>() {
            Ok(coded) => Coded {
                hint: Some(hint),
                ..coded
            }
            .into(),
            Err(error) => error,
        }
    }

    /// The topology file's absolute path, where the command takes the spec from it.
    pub(super) fn origin(&self) -> Option<PathBuf> {
        match self.deployment {
            Some(_) => None,
            None => state::resolved_origin(&self.file),
        }
    }

    /// The deployments that came from this topology file, for people; `None` if there is none.
    pub(super) fn names_from_here(&self) -> anyhow::Result<Option<String>> {
        let Some(here) = self.origin() else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for home in self.paths.deployments()? {
            if home.origin()?.as_ref() == Some(&here) {
                let name = home.path().file_name().unwrap_or_default();
                names.push(format!("`{}`", name.to_string_lossy()));
            }
        }
        names.sort();
        Ok((!names.is_empty()).then(|| names.join(", ")))
    }

    /// Fails with this hint where the topology is in another directory than the one that the deployment came from: somebody else may
    /// use the same name.
    pub(super) fn refuse_other_origin(
        &self,
        spec: &Spec,
        hint: impl Into<Cow<'static, str>>,
    ) -> anyhow::Result<()> {
        let home = self.paths.deployment(&spec.name);
        home.refuse_foreign()?;
        let came_from = home.origin()?;
        let (Some(came_from), Some(here)) = (came_from, self.origin()) else {
            return Ok(());
        };
        ensure!(
            came_from.parent() == here.parent(),
            Hinted::new(
                format!(
                    "deployment `{}` came from `{}`, and `{}` has the same name",
                    spec.name,
                    came_from.display(),
                    here.display()
                ),
                hint,
            )
        );
        Ok(())
    }

    fn recorded(&self) -> anyhow::Result<Spec> {
        let name = Name::new(self.deployment.as_deref().unwrap_or_default())?;
        self.paths
            .deployment(&name)
            .recorded_spec()?
            .with_context(|| {
                format!(
                    "deployment `{name}` does not exist on this host (no record in `{}`)",
                    self.paths.state.display()
                )
            })
    }

    pub(super) fn host(&self, spec: &Spec) -> anyhow::Result<Host> {
        Host::attach_blocking(&self.paths, spec)
    }

    /// The running lab of the deployment.
    pub(super) fn lab(&self, spec: &Spec) -> anyhow::Result<Lab> {
        running(
            spec,
            Lab::running(&self.paths.deployment(&spec.name).lab())?,
        )
    }

    pub(super) fn connection(&self, spec: &Spec) -> anyhow::Result<Connection> {
        running(spec, self.host(spec)?.connection)
    }

    pub(super) fn reach(&self, spec: &Spec) -> anyhow::Result<Reach> {
        running(spec, self.host(spec)?.reach(spec))
    }

    /// A shell command that connects stdin and stdout to a guest's port through the lab.
    pub(super) fn dial_command(
        &self,
        spec: &Spec,
        to: std::net::SocketAddr,
    ) -> anyhow::Result<String> {
        let program =
            std::env::current_exe().context("failed to find the path of the pspd program")?;
        let quote = |path: &std::path::Path| shell_word(&path.display().to_string()).into_owned();
        Ok(format!(
            "{} --state-dir {} --deployment {} lab dial {to}",
            quote(&program),
            quote(&self.paths.state),
            spec.name
        ))
    }

    pub(super) fn identity(&self, spec: &Spec) -> anyhow::Result<Identity> {
        let keys = self.paths.deployment(&spec.name).keys();
        let deployment = spec.name.clone();
        let no_keys = PlanError::NoKeys { deployment };
        Ok(Identity::load(&keys)?.ok_or(no_keys)?)
    }
}

/// What only a running lab has.
fn running<T>(spec: &Spec, found: Option<T>) -> anyhow::Result<T> {
    Ok(found.ok_or_else(|| {
        let message = format!("the lab of `{}` is not running", spec.name);
        Hinted::new(message, "Run `pspd up` to start it")
    })?)
}

fn invalid(faults: Faults) -> anyhow::Error {
    Coded {
        exit: Exit::InvalidTopology,
        message: faults.to_string(),
        hint: None,
    }
    .into()
}

/// A domain of the spec by name.
pub(super) fn domain(spec: &Spec, name: &str) -> anyhow::Result<Name> {
    let found = spec.domains.keys().find(|known| known.as_str() == name);
    if let Some(name) = found {
        return Ok(name.clone());
    }
    let known: Vec<&str> = spec.domains.keys().map(Name::as_str).collect();
    bail!(
        "deployment `{}` has no domain `{name}`: {}",
        spec.name,
        meant(name, &known)
    )
}

/// The name of a domain of this host or another.
pub(super) fn domain_anywhere(spec: &Spec, name: &str) -> anyhow::Result<Name> {
    let elsewhere = spec.elsewhere.keys();
    let found = elsewhere.into_iter().find(|known| known.as_str() == name);
    found.map_or_else(|| domain(spec, name), |name| Ok(name.clone()))
}

/// Runs one command: one thread for asynchronous work and signals, others for blocking calls. A blocking call that does
/// not return does not keep the command from ending.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the asynchronous runtime")?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Interrupts this process when its standard input ends: it runs for one on another machine.
pub(super) fn end_with_input() {
    std::thread::spawn(|| {
        other_hosts::listen(std::io::stdin().lock());
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT);
    });
}

/// Returns a token that the first Ctrl-C or SIGTERM cancels; the second ends the process immediately. Must be called
/// in a runtime.
pub(super) fn cancelled_by_signals() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    tokio::spawn(async move {
        for second in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if second {
                // Without stderr, the exit code is the only way to say it.
                let _ = writeln!(
                    crate::terminal::err(),
                    "interrupted again; not everything was undone. Run `pspd up` to continue, or `pspd down` to clean up"
                );
                super::exit::end(Exit::Interrupted);
            }
            token.cancel();
        }
    });
    Ok(cancel)
}

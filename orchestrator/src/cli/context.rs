//! What every command starts from: the paths, and the spec that it is about.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::Global;
use super::exit::{Coded, Exit};
use crate::identity::Identity;
use crate::lab::Lab;
use crate::libvirt::Connection;
use crate::observe::Host;
use crate::reach::Reach;
use crate::spec::{Name, Spec};
use crate::state::Paths;
use crate::topology;

pub struct Context {
    pub file: PathBuf,
    pub paths: Paths,
    deployment: Option<String>,
}

impl Context {
    pub fn new(global: Global) -> anyhow::Result<Context> {
        let paths = Paths::resolve(global.state_dir, global.cache_dir)?;
        Ok(Context {
            file: global.file,
            paths,
            deployment: global.deployment,
        })
    }

    /// The spec that a topology file makes: what `up` and `plan` need.
    pub fn spec(&self) -> anyhow::Result<Spec> {
        if self.deployment.is_some() {
            return self.recorded();
        }
        topology::load(&self.file).map_err(|faults| {
            Coded {
                exit: Exit::InvalidTopology,
                message: faults.to_string(),
            }
            .into()
        })
    }

    /// The spec of what is there: as the last `up` recorded it, else the topology file's.
    pub fn deployed_spec(&self) -> anyhow::Result<Spec> {
        if self.deployment.is_some() {
            return self.recorded();
        }
        let spec = self.spec()?;
        let recorded = self.paths.deployment(&spec.name).recorded_spec();
        // A damaged record is no reason to leave what is there alone.
        Ok(recorded.ok().flatten().unwrap_or(spec))
    }

    fn recorded(&self) -> anyhow::Result<Spec> {
        let name = Name::new(self.deployment.as_deref().unwrap_or_default())?;
        self.paths
            .deployment(&name)
            .recorded_spec()?
            .with_context(|| {
                format!(
                    "no deployment `{name}` was brought up here (`{}` has none)",
                    self.paths.state.display()
                )
            })
    }

    pub fn host(&self, spec: &Spec) -> anyhow::Result<Host> {
        Host::attach(&self.paths, spec)
    }

    /// The running lab of the deployment.
    pub fn lab(&self, spec: &Spec) -> anyhow::Result<Lab> {
        Lab::running(&self.paths.deployment(&spec.name).lab())?.with_context(|| {
            format!(
                "the lab of `{}` does not run; `pspd up` starts it",
                spec.name
            )
        })
    }

    pub fn connection(&self, spec: &Spec) -> anyhow::Result<Connection> {
        self.host(spec)?.connection.with_context(|| {
            format!(
                "the lab of `{}` does not run; `pspd up` starts it",
                spec.name
            )
        })
    }

    pub fn reach(&self, spec: &Spec) -> anyhow::Result<Reach> {
        self.host(spec)?.reach(spec).with_context(|| {
            format!(
                "the lab of `{}` does not run; `pspd up` starts it",
                spec.name
            )
        })
    }

    /// A command line that connects to a guest's port through the lab, for a shell to run.
    pub fn dial_command(&self, spec: &Spec, to: std::net::SocketAddr) -> anyhow::Result<String> {
        let program = std::env::current_exe().context("failed to find this program's own path")?;
        let quote = |text: &std::path::Path| {
            format!("'{}'", text.display().to_string().replace('\'', r"'\''"))
        };
        Ok(format!(
            "{} --state-dir {} --deployment {} lab dial {to}",
            quote(&program),
            quote(&self.paths.state),
            spec.name
        ))
    }

    pub fn identity(&self, spec: &Spec) -> anyhow::Result<Identity> {
        let keys = self.paths.deployment(&spec.name).keys();
        Identity::load(&keys)?
            .with_context(|| format!("`{}` has no keys yet; run `pspd up` first", spec.name))
    }
}

/// A domain of the spec by name.
pub fn domain(spec: &Spec, name: &str) -> anyhow::Result<Name> {
    let found = spec.domains.keys().find(|known| known.as_str() == name);
    if let Some(name) = found {
        return Ok(name.clone());
    }
    let known: Vec<&str> = spec.domains.keys().map(Name::as_str).collect();
    bail!(
        "`{}` has no domain `{name}`; it has: {}",
        spec.name,
        known.join(", ")
    )
}

/// A runtime for one command: its own thread for the network, others for what blocks.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the asynchronous runtime")
}

/// Cancelled at the first Ctrl-C or SIGTERM; a second one ends the process at once. Must be called on a runtime.
pub fn cancelled_by_signals() -> anyhow::Result<CancellationToken> {
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
                std::process::exit(Exit::Interrupted as i32);
            }
            token.cancel();
        }
    });
    Ok(cancel)
}

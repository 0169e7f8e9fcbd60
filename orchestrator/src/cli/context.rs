//! The input of every command: the paths, and the spec of the deployment.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use pspd_lab::Lab;
use pspd_model::spec::{Name, Spec};
use tokio_util::sync::CancellationToken;

use super::Global;
use super::exit::{Coded, Exit};
use crate::identity::Identity;
use crate::libvirt::Connection;
use crate::observe::Host;
use crate::reach::Reach;
use crate::state::Paths;
use crate::topology;

pub(super) struct Context {
    pub file: PathBuf,
    pub paths: Paths,
    deployment: Option<String>,
}

impl Context {
    pub(super) fn new(global: Global) -> anyhow::Result<Context> {
        let paths = Paths::resolve(global.state_dir, global.cache_dir)?;
        Ok(Context {
            file: global.file,
            paths,
            deployment: global.deployment,
        })
    }

    /// The spec of the topology file, which `up` and `plan` use.
    pub(super) fn spec(&self) -> anyhow::Result<Spec> {
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

    /// The spec that the last `up` recorded, or else that of the topology file.
    pub(super) fn deployed_spec(&self) -> anyhow::Result<Spec> {
        if self.deployment.is_some() {
            return self.recorded();
        }
        let spec = self.spec()?;
        let recorded = self.paths.deployment(&spec.name).recorded_spec();
        // With a damaged record, the topology file still allows the command to work.
        Ok(recorded.ok().flatten().unwrap_or(spec))
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
        Host::attach(&self.paths, spec)
    }

    /// The running lab of the deployment.
    pub(super) fn lab(&self, spec: &Spec) -> anyhow::Result<Lab> {
        Lab::running(&self.paths.deployment(&spec.name).lab())?.with_context(|| {
            format!(
                "the lab of `{}` is not running. Run `pspd up` to start it",
                spec.name
            )
        })
    }

    pub(super) fn connection(&self, spec: &Spec) -> anyhow::Result<Connection> {
        self.host(spec)?.connection.with_context(|| {
            format!(
                "the lab of `{}` is not running. Run `pspd up` to start it",
                spec.name
            )
        })
    }

    pub(super) fn reach(&self, spec: &Spec) -> anyhow::Result<Reach> {
        self.host(spec)?.reach(spec).with_context(|| {
            format!(
                "the lab of `{}` is not running. Run `pspd up` to start it",
                spec.name
            )
        })
    }

    /// A shell command that connects stdin and stdout to a guest's port through the lab.
    pub(super) fn dial_command(
        &self,
        spec: &Spec,
        to: std::net::SocketAddr,
    ) -> anyhow::Result<String> {
        let program =
            std::env::current_exe().context("failed to find the path of the pspd program")?;
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

    pub(super) fn identity(&self, spec: &Spec) -> anyhow::Result<Identity> {
        let keys = self.paths.deployment(&spec.name).keys();
        Identity::load(&keys)?
            .with_context(|| format!("`{}` has no keys yet; run `pspd up` first", spec.name))
    }
}

/// A domain of the spec by name.
pub(super) fn domain(spec: &Spec, name: &str) -> anyhow::Result<Name> {
    let found = spec.domains.keys().find(|known| known.as_str() == name);
    if let Some(name) = found {
        return Ok(name.clone());
    }
    let known: Vec<&str> = spec.domains.keys().map(Name::as_str).collect();
    bail!(
        "deployment `{}` has no domain `{name}`. Its domains: {}",
        spec.name,
        known.join(", ")
    )
}

/// Creates the runtime of one command: one thread for asynchronous work, others for blocking calls.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the asynchronous runtime")
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
                std::process::exit(Exit::Interrupted as i32);
            }
            token.cancel();
        }
    });
    Ok(cancel)
}

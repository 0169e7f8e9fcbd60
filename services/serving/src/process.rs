//! A service's process: logs, runtime, signals and exit codes.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use crate::call_log;
use crate::memory;
use crate::settings::{ConfigError, Settings};

/// `EX_CONFIG` of sysexits.h: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// Configures a service and runs it until a signal: the whole `main` of each service.
pub fn run<C, F>(
    configure: impl FnOnce(Settings) -> Result<C, ConfigError>,
    service: impl FnOnce(C, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut settings = Settings::from_process();
    let level = settings.log_level();
    let configuration = match configure(settings) {
        Ok(configuration) => configuration,
        Err(error) => {
            report(&format!("the configuration is wrong:\n{error}"));
            return ExitCode::from(EX_CONFIG);
        }
    };
    let started = logs(level).and_then(|writer| Ok((writer, scheduler()?)));
    let (_written_until_the_end, runtime) = match started {
        Ok(started) => started,
        Err(error) => {
            report(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    allow_connections();
    let outcome = runtime.block_on(async {
        let shutdown = shutdown_signal()?;
        tokio::select! {
            outcome = service(configuration, shutdown) => outcome,
            never = memory::give_back() => match never {},
        }
    });
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime of all calls. A task that another task wakes runs after the tasks that were woken before it, so all
/// responses of a batch leave their connection together. By default, tokio would run the connection after each one.
fn scheduler() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    #[cfg(tokio_unstable)]
    builder.disable_lifo_slot();
    builder
        .enable_all()
        .build()
        .context("failed to start the runtime")
}

/// Raises the limit of open files, which bounds connections, as far as the system allows. By default it is 1024, for the
/// sake of programs that use `select`.
fn allow_connections() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
}

/// Writes JSON log lines to stdout; a thread writes the lines of calls.
fn logs(level: LevelFilter) -> anyhow::Result<call_log::Writer> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(level)
        .init();
    call_log::start(level)
}

/// Returns a token that SIGTERM or SIGINT cancels.
pub fn shutdown_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        cancel.cancel();
    });
    Ok(token)
}

fn report(message: &str) {
    // If stderr is closed too, there is nowhere to report it.
    let _ = writeln!(std::io::stderr(), "{message}");
}

//! A service's process: logs, runtime, signals and exit codes.

use std::future::Future;
use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;

use crate::memory;
use crate::settings::{ConfigError, Settings};

/// `EX_CONFIG` of sysexits.h: what is wrong is the configuration.
const EX_CONFIG: u8 = 78;
/// Log lines that wait to be written; more make their writers wait.
const LINES: usize = 4096;
/// Of lines that are written together, in bytes.
const LOG_BUFFER: usize = 64 << 10;

/// Configures and runs a service until a signal ends it; the whole `main` of each of them.
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
    let returned = memory::return_large_blocks();
    let _written_until_the_end = logs(level);
    if !returned {
        tracing::warn!("the allocator keeps large blocks");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&format!("can't start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let shutdown = shutdown_signal()?;
        service(configuration, shutdown).await
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

/// Writes JSON log lines to stdout, on a thread of its own, so that calls share what writing costs; those that wait when the
/// guard is dropped are written first.
fn logs(level: LevelFilter) -> WorkerGuard {
    let stdout = BufWriter::with_capacity(LOG_BUFFER, stdout());
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(false)
        .buffered_lines_limit(LINES)
        .thread_name("logs")
        .finish(stdout);
    // A second subscriber (tests start several services in one process) changes nothing.
    let _already_set = tracing_subscriber::fmt()
        .with_writer(writer)
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_max_level(level)
        .try_init();
    guard
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
    // Nothing is left to tell where stderr is closed too.
    let _closed = writeln!(std::io::stderr(), "{message}");
}

//! The load of an experiment: it is sent from a thread of its own, until it is stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::load::{Client, Documents, Line, Load, Measured, traced};
use crate::reflection::Target;

/// What is sent.
#[derive(Clone)]
pub enum Payload {
    /// So many shared documents, in a collection of this name.
    Documents(String, usize),
    Grpc {
        method: String,
        lines: Vec<Line>,
    },
    Http {
        path: Line,
        bodies: Vec<Line>,
    },
}

/// Where it is sent, and how.
#[derive(Clone)]
pub struct Sending {
    pub target: Target,
    pub payload: Payload,
    pub load: Load,
    pub connections: usize,
}

/// A load that is being sent.
pub(super) struct Running {
    /// When its time began.
    pub begin: Instant,
    pub documents: Option<Arc<Documents>>,
    thread: JoinHandle<anyhow::Result<Measured>>,
    stop: CancellationToken,
}

struct Started {
    begin: Instant,
    documents: Option<Arc<Documents>>,
}

impl Running {
    /// Opens the connections, sends one call, and begins.
    pub(super) async fn start(
        sending: Sending,
        cancel: &CancellationToken,
    ) -> anyhow::Result<Running> {
        let stop = CancellationToken::new();
        let (ready, started) = oneshot::channel();
        let (stopped, cancel) = (stop.clone(), cancel.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(send(sending, ready, &stopped, &cancel))
        });
        match started.await {
            Ok(Started { begin, documents }) => Ok(Running {
                begin,
                documents,
                thread,
                stop,
            }),
            Err(_) => match thread.await? {
                Ok(_) => anyhow::bail!("the load ended before it began"),
                Err(error) => Err(error).context("failed to begin the load"),
            },
        }
    }

    /// Sends no more, and waits for the answers of what was sent.
    pub(super) async fn end(self) -> anyhow::Result<Measured> {
        self.stop.cancel();
        self.thread.await?
    }
}

async fn send(
    sending: Sending,
    ready: oneshot::Sender<Started>,
    stop: &CancellationToken,
    cancel: &CancellationToken,
) -> anyhow::Result<Measured> {
    let Sending {
        target,
        payload,
        load,
        connections,
    } = sending;
    let prepared = async {
        let mut documents = None;
        let client = match payload {
            Payload::Documents(collection, count) => {
                let opened = Documents::open(&target, collection, count, connections, load.limit);
                let opened = opened.await?;
                documents = Some(opened.clone());
                Client::Documents(opened)
            }
            Payload::Grpc { method, lines } => {
                Client::grpc(&target, &method, &lines, connections).await?
            }
            Payload::Http { path, bodies } => {
                Client::http(&target, path, bodies, connections).await?
            }
        };
        if documents.is_none() {
            client.first(load.limit).await?;
        }
        anyhow::Ok((client, documents))
    };
    let (client, documents) = tokio::select! {
        prepared = prepared => prepared?,
        () = cancel.cancelled() => anyhow::bail!("interrupted before the load began"),
    };
    let begin = Instant::now();
    // The receiver is dropped where nobody waits for it.
    let _ = ready.send(Started { begin, documents });
    Ok(traced(&load, client, stop, cancel).await?)
}

/// Longer than any experiment: it is stopped.
pub(super) const ENDLESS: Duration = Duration::from_secs(30 * 24 * 60 * 60);

//! The thread that does all learning: it has a lower priority than the threads that answer calls, and one job at a
//! time, so training does not slow down predictions.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;

use serving::{Problem, memory};
use tokio::sync::oneshot;
use tonic::Status;

/// Added to the process's niceness, of at most 19.
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the thread, which ends with the handle.
#[derive(Debug)]
pub(crate) struct Learning {
    jobs: Sender<Job>,
}

impl Learning {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        thread::Builder::new()
            .name("learning".into())
            .spawn(move || {
                // On Linux this changes the calling thread only: sched(7).
                if let Err(error) = rustix::process::nice(NICENESS) {
                    tracing::warn!(%error, "failed to lower the priority of the learning thread");
                }
                loop {
                    match queue.recv_timeout(memory::PAUSE) {
                        Ok(job) => job(),
                        // Models that it made may have been replaced.
                        Err(RecvTimeoutError::Timeout) => memory::collect(),
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    /// Runs a job when the thread is free, and returns its result.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have stopped waiting.
            let _ = answer.send(work());
        });
        let gone = |_| Status::from(Problem::internal("learning failed", "the thread ended"));
        self.jobs.send(job).map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))
    }
}

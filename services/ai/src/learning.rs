//! The one thread on which all learning happens: it has a lower priority than those that answer calls, and one job at
//! a time, so that training takes neither the processor nor the workers away from predictions.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use serving::Problem;
use tokio::sync::oneshot;
use tonic::Status;

/// Added to the process's niceness, of at most 19.
const NICENESS: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// A handle to the thread, which ends with it.
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
                // On Linux this concerns the calling thread alone: sched(7).
                if let Err(error) = rustix::process::nice(NICENESS) {
                    tracing::warn!(%error, "learning goes on with the usual priority");
                }
                for job in queue {
                    // Whoever waits for it sees that its answer is gone.
                    let _panicked = catch_unwind(AssertUnwindSafe(job));
                }
            })?;
        Ok(Self { jobs })
    }

    /// Does the work when its turn comes, and waits for what it yields.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have gone away meanwhile.
            let _unheard = answer.send(work());
        });
        let gone = |_| Status::from(Problem::internal("learning failed", "its thread is gone"));
        self.jobs.send(job).map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_no_other_with_it() {
        let learning = Learning::start().unwrap();
        assert!(learning.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(learning.run(|| 1 + 1).await.unwrap(), 2);
    }
}

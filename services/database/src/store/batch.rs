//! Batching: concurrent calls that wait are run together and share what is costly (a transaction and its sync, a round
//! trip to the engine). A batch never waits for more calls, but takes along those that arrive while it runs.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::Fault;

/// Calls that wait in the queue; more callers wait to enter it.
const QUEUE: usize = 1024;

type Waiting<J, A> = (J, oneshot::Sender<Result<A, Fault>>);

type Queue<J, A> = Arc<Mutex<mpsc::Receiver<Waiting<J, A>>>>;

/// Where callers leave jobs for batches.
#[derive(Debug)]
pub(super) struct Batcher<J, A> {
    queue: mpsc::Sender<Waiting<J, A>>,
}

impl<J, A> Clone for Batcher<J, A> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<J: Send + 'static, A: Send + 'static> Batcher<J, A> {
    /// Starts `workers` tasks; each takes at most `most` waiting jobs, and `run` answers them in their order.
    pub(super) fn open<F, R>(workers: usize, most: usize, run: F) -> Self
    where
        F: Fn(Batch<J, A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..workers {
            tokio::spawn(work(waiting.clone(), most, run.clone()));
        }
        Self { queue }
    }

    /// Leaves a job and waits for its answer.
    pub(super) async fn call(&self, job: J) -> Result<A, Fault> {
        let closed = || Fault::Unreachable("the store is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send((job, answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// Jobs that are done together.
#[derive(Debug)]
pub(super) struct Batch<J, A> {
    queue: Queue<J, A>,
    most: usize,
    pub(super) jobs: Vec<J>,
    callers: Vec<oneshot::Sender<Result<A, Fault>>>,
}

impl<J, A> Batch<J, A> {
    fn add(&mut self, (job, caller): Waiting<J, A>) {
        self.jobs.push(job);
        self.callers.push(caller);
    }

    /// Takes along the jobs that arrived meanwhile: callers that were just answered often call again at once.
    pub(super) fn take_more(&mut self) {
        // Another worker that waits for jobs takes them.
        let Ok(mut queue) = self.queue.clone().try_lock_owned() else {
            return;
        };
        while self.jobs.len() < self.most
            && let Ok(next) = queue.try_recv()
        {
            self.add(next);
        }
    }

    /// Answers the jobs in their order.
    pub(super) fn answer(self, answers: impl IntoIterator<Item = Result<A, Fault>>) {
        for (answer, caller) in answers.into_iter().zip(self.callers) {
            // The caller may have gone away.
            let _gone = caller.send(answer);
        }
    }
}

async fn work<J, A, F, R>(queue: Queue<J, A>, most: usize, run: F)
where
    F: Fn(Batch<J, A>) -> R,
    R: Future<Output = ()>,
{
    loop {
        let mut taken = Vec::new();
        if queue.lock().await.recv_many(&mut taken, most).await == 0 {
            return;
        }
        let mut batch = Batch {
            queue: queue.clone(),
            most,
            jobs: Vec::with_capacity(taken.len()),
            callers: Vec::with_capacity(taken.len()),
        };
        taken.into_iter().for_each(|one| batch.add(one));
        run(batch).await;
    }
}

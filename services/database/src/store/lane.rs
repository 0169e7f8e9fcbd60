//! Lanes: concurrent calls that are taken together, as many as wait, so that they share what is costly (a transaction
//! and its sync, a trip to the engine). A lane never waits for more to come, but takes those that came meanwhile along.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::Fault;

/// More callers than this wait to be let in.
const QUEUE: usize = 1024;

type Waiting<J, A> = (J, oneshot::Sender<Result<A, Fault>>);

type Queue<J, A> = Arc<Mutex<mpsc::Receiver<Waiting<J, A>>>>;

/// Where callers leave jobs.
#[derive(Debug)]
pub(super) struct Lane<J, A> {
    queue: mpsc::Sender<Waiting<J, A>>,
}

impl<J, A> Clone for Lane<J, A> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<J: Send + 'static, A: Send + 'static> Lane<J, A> {
    /// Runs `loops` tasks; each takes at most `most` waiting jobs, and `run` answers them in their order.
    pub(super) fn open<F, R>(loops: usize, most: usize, run: F) -> Self
    where
        F: Fn(Batch<J, A>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..loops {
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

    /// Takes along what came meanwhile: those who were answered a moment ago are often back by then.
    pub(super) fn take_more(&mut self) {
        // Another lane that waits for jobs takes them.
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
            // A caller that has gone away wants no answer.
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

//! Streams that are polled after their request's handler has returned, and belong to its trace all the same.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use serving::trace;
use tonic::Status;

/// The answer of a method that streams.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Boxes a stream so that everything it does has the current trace.
pub(crate) fn in_trace<T: 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Answers<T> {
    let context = trace::current();
    let mut answers = Box::pin(answers);
    let polled =
        stream::poll_fn(move |poller| context.clone().enter(|| answers.poll_next_unpin(poller)));
    Box::pin(polled)
}

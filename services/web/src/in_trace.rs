//! Streams that are polled after their handler has returned, but belong to the request's trace.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use serving::trace;
use tonic::Status;

/// The response of a streaming method.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Boxes a stream and polls it within the current trace.
pub(crate) fn in_trace<T: 'static>(
    answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Answers<T> {
    let context = trace::current();
    let mut answers = Box::pin(answers);
    let polled =
        stream::poll_fn(move |poller| context.clone().enter(|| answers.poll_next_unpin(poller)));
    Box::pin(polled)
}

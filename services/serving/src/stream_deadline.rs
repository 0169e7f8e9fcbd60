//! The caller's deadline, for streams of responses: the gRPC library stops at it only until the response begins.
//!
//! At the deadline the stream and the work behind it are dropped, also while the caller takes nothing: HTTP does not ask a
//! body for more then. The caller gets DEADLINE_EXCEEDED as soon as it takes what was sent before.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Poller, Poll, Waker};
use std::time::Duration;

use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};
use prost::bytes::Bytes;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error::Problem;

/// The header of a call that has how long its caller waits.
const TIMEOUT: &str = "grpc-timeout";

/// When the caller stops waiting, if it says so.
pub(crate) fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let timeout = headers.get(TIMEOUT)?.to_str().ok()?;
    Instant::now().checked_add(parse(timeout)?)
}

/// Reads at most 8 digits and a unit, as the protocol of gRPC over HTTP/2 has it.
fn parse(timeout: &str) -> Option<Duration> {
    let (unit, digits) = timeout.as_bytes().split_last()?;
    let number: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let unit = match unit {
        b'H' => Duration::from_secs(3600),
        b'M' => Duration::from_secs(60),
        b'S' => Duration::from_secs(1),
        b'm' => Duration::from_millis(1),
        b'u' => Duration::from_micros(1),
        b'n' => Duration::from_nanos(1),
        _ => return None,
    };
    unit.checked_mul(number)
}

/// Ends a response's stream at a deadline.
pub(crate) fn end_at(deadline: Instant, response: Response<Body>) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    let message = "the caller's deadline passed before the last response";
    let status = Problem::new(Code::DeadlineExceeded, "DEADLINE_PASSED", message).into();
    response.map(|body| {
        let running = Arc::new(Mutex::new((Some(body), None::<Waker>)));
        let ending = running.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(deadline).await;
            let mut running = ending.lock().unwrap_or_else(PoisonError::into_inner);
            let (body, reader) = std::mem::take(&mut *running);
            // The work may end in code that takes a while.
            drop(running);
            drop(body);
            if let Some(reader) = reader {
                reader.wake();
            }
        });
        Body::new(Ending {
            running,
            status: Some(status),
            _timer: AbortOnDropHandle::new(timer),
        })
    })
}

/// A stream, until its deadline takes it, and who waits for it.
type Running = Arc<Mutex<(Option<Body>, Option<Waker>)>>;

struct Ending {
    running: Running,
    /// How the stream ends at its deadline.
    status: Option<Status>,
    _timer: AbortOnDropHandle<()>,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        poller: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let mut running = this.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (body, reader) = &mut *running;
        if let Some(body) = body {
            *reader = Some(poller.waker().clone());
            return Pin::new(body).poll_frame(poller);
        }
        let Some(status) = this.status.take() else {
            return Poll::Ready(None);
        };
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_has_them() {
        let table = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("250u", Some(Duration::from_micros(250))),
            ("250n", Some(Duration::from_nanos(250))),
            ("250", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1é", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}

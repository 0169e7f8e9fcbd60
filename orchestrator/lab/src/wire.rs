//! The protocol of a supervisor's control socket: one request and one reply per connection, each a line of JSON with at
//! most one file descriptor.

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use pspd_model::hint::{self, Hinted};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::holder::{Holder, State};

/// The maximum size of a message: more than the addresses that a host can realistically publish.
const LONGEST: usize = 256 * 1024;

/// What a supervisor reports to its parent process, as one line on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "supervisor", rename_all = "kebab-case")]
pub(super) enum Announcement {
    Ready,
    Failed { error: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(super) enum Request {
    Status,
    /// Answered by [`Reply::Done`] with the connected socket.
    Dial {
        to: SocketAddr,
        timeout: Duration,
    },
    /// Sent with the listening socket, unless `host` is already published and only `guest` changes.
    Publish {
        host: SocketAddr,
        guest: SocketAddr,
    },
    /// Sent with the listening socket, unless `host` is a front already. Answered when its process has accepted it.
    Front {
        host: SocketAddr,
        settings: FrontSettings,
        /// The certificate and its key.
        pem: Option<String>,
    },
    Unpublish {
        host: SocketAddr,
    },
    /// The supervisor replies, then ends.
    Stop,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub(super) enum Reply {
    Done,
    Status(Status),
    Failed {
        message: String,
        /// Absent in versions that had it in the message.
        #[serde(default)]
        hint: Option<String>,
        errno: Option<i32>,
    },
}

/// The status of a supervisor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Status {
    pub published: Vec<(SocketAddr, SocketAddr)>,
    /// All fronts; `published` has those that answer.
    #[serde(default)]
    pub fronts: Vec<FrontStatus>,
    pub notes: Vec<String>,
}

/// What a front answers, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontSettings {
    pub guest: SocketAddr,
    /// In lower case; all host names if empty.
    pub hosts: BTreeSet<String>,
    /// The caller's name for the certificate, by which it knows it again; `None` without TLS.
    pub certificate: Option<String>,
}

/// A front that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontStatus {
    pub host: SocketAddr,
    pub settings: FrontSettings,
    /// Whether a process answers, or will soon.
    pub answers: bool,
}

impl From<io::Error> for Reply {
    fn from(error: io::Error) -> Reply {
        Reply::Failed {
            errno: error.raw_os_error(),
            message: error.to_string(),
            hint: hint::of(&error).map(Into::into),
        }
    }
}

impl Reply {
    pub(super) fn into_result(self) -> io::Result<Reply> {
        match self {
            Reply::Failed {
                errno: Some(errno), ..
            } => Err(io::Error::from_raw_os_error(errno)),
            Reply::Failed {
                message,
                hint: Some(hint),
                ..
            } => Err(io::Error::other(Hinted::new(message, hint))),
            Reply::Failed { message, .. } => Err(io::Error::other(message)),
            reply => Ok(reply),
        }
    }
}

/// Sends a request to the supervisor on `socket` and returns its reply; a failure reply becomes an error.
pub(super) fn call(
    socket: &Path,
    request: &Request,
    pass: Option<BorrowedFd<'_>>,
    limit: Duration,
) -> io::Result<(Reply, Option<OwnedFd>)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    refuse_stopped(&stream)?;
    send(stream.as_fd(), request, pass).map_err(|error| silent(&stream, error))?;
    let mut incoming = Incoming::default();
    while !incoming
        .receive(stream.as_fd())
        .map_err(|error| silent(&stream, error))?
    {}
    let (reply, passed) = incoming.parse::<Reply>()?;
    Ok((reply.into_result()?, passed))
}

/// Fails at once where the process that listens is stopped: the kernel would still accept the connection for it.
fn refuse_stopped(stream: &UnixStream) -> io::Result<()> {
    match Holder::listening(stream) {
        Some(holder) if holder.state == State::Stopped => {
            Err(io::Error::new(io::ErrorKind::TimedOut, holder.silent()))
        }
        _ => Ok(()),
    }
}

/// Says of a timed out read or write which process did not answer.
fn silent(stream: &UnixStream, error: io::Error) -> io::Error {
    match Holder::listening(stream) {
        Some(holder) if error.kind() == io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, holder.silent())
        }
        // Versions that did not know a request gave no answer to it.
        _ if error.kind() == io::ErrorKind::UnexpectedEof => io::Error::new(
            error.kind(),
            Hinted::new(
                "the lab's supervisor did not answer: it ended, or is from an earlier version of pspd",
                "Run `pspd down`, then `pspd up`",
            ),
        ),
        _ => error,
    }
}

/// Sends one message. A new socket's buffer is large enough, so that a partial write is an error.
pub(super) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    pass: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = pass.into_iter().collect();
    if !fds.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for a file descriptor"));
    }
    let line_only = [IoSlice::new(&line)];
    // A time limit on a socket ends these calls at a signal, such as that of an ended child, whatever its handler asks.
    let sent = retry_on_intr(|| sendmsg(socket, &line_only, &mut beside, SendFlags::NOSIGNAL))?;
    if sent == line.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("{sent} of {} bytes sent", line.len()),
        ))
    }
}

/// A message that is being received.
#[derive(Default)]
pub(super) struct Incoming {
    line: Vec<u8>,
    passed: Option<OwnedFd>,
}

impl Incoming {
    /// Reads once; returns whether the message is complete.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut chunk)];
        let message =
            retry_on_intr(|| recvmsg(socket, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC))?;
        for part in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.passed = fds.last().or(self.passed.take());
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "a file descriptor was lost in transmission",
            ));
        }
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.line.extend_from_slice(&chunk[..message.bytes]);
        if self.line.len() > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the message is too long",
            ));
        }
        Ok(self.line.ends_with(b"\n"))
    }

    pub(super) fn parse<T: for<'de> Deserialize<'de>>(self) -> io::Result<(T, Option<OwnedFd>)> {
        Ok((serde_json::from_slice(&self.line)?, self.passed))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_message_carries_a_socket_and_may_arrive_in_parts() {
        let (near, far) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let status = Status {
            notes: vec!["n".repeat(10_000)],
            ..Status::default()
        };
        send(near.as_fd(), &Reply::Status(status), Some(listener.as_fd())).unwrap();

        let mut incoming = Incoming::default();
        let mut parts = 1;
        while !incoming.receive(far.as_fd()).unwrap() {
            parts += 1;
        }
        assert!(parts > 1);
        let (reply, passed) = incoming.parse::<Reply>().unwrap();
        assert!(matches!(reply, Reply::Status(s) if s.notes[0].len() == 10_000));

        let passed = TcpListener::from(passed.unwrap());
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let (mut accepted, _) = passed.accept().unwrap();
        assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_failure_reply_keeps_the_error_kind() {
        let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        let error = Reply::from(refused).into_result().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_failure_reply_keeps_the_hint_and_earlier_versions_had_none() {
        let missing = || io::Error::other(Hinted::new("`haproxy` is missing", "Install it"));
        let reply = serde_json::to_string(&Reply::from(missing())).unwrap();
        let reply: Reply = serde_json::from_str(&reply).unwrap();
        let error = reply.into_result().unwrap_err();
        assert_eq!(error.to_string(), "`haproxy` is missing");
        assert_eq!(hint::of(&error).unwrap(), "Install it");
        let earlier = r#"{"reply": "failed", "message": "no. Try again", "errno": null}"#;
        let earlier: Reply = serde_json::from_str(earlier).unwrap();
        let error = earlier.into_result().unwrap_err();
        assert_eq!(error.to_string(), "no. Try again");
        assert_eq!(hint::of(&error), None);
    }

    #[test]
    fn a_supervisor_that_does_not_know_a_request_is_replaced_by_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let earlier = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut incoming = Incoming::default();
            while !incoming.receive(stream.as_fd()).unwrap() {}
        });
        let error = call(&path, &Request::Status, None, Duration::from_secs(20)).unwrap_err();
        earlier.join().unwrap();
        assert!(
            error.to_string().contains("an earlier version of pspd"),
            "{error}"
        );
    }

    #[test]
    fn a_signal_does_not_end_a_call() {
        use rustix::process::{Signal, kill_process};
        use tokio::signal::unix::{SignalKind, signal};

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _handled = runtime.block_on(async { signal(SignalKind::user_defined1()).unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (announce, thread) = std::sync::mpsc::channel();
        let caller = std::thread::spawn(move || {
            announce.send(rustix::thread::gettid()).unwrap();
            call(&path, &Request::Status, None, Duration::from_secs(60)).map(|_| ())
        });
        let (stream, _) = listener.accept().unwrap();
        let mut incoming = Incoming::default();
        while !incoming.receive(stream.as_fd()).unwrap() {}
        let thread = thread.recv().unwrap();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(10));
            // With the id of a thread, Linux gives the signal to that one. It may have ended with its error.
            let _ = kill_process(thread, Signal::USR1);
        }
        let _ = send(stream.as_fd(), &Reply::Done, None);
        caller.join().unwrap().unwrap();
    }

    #[test]
    fn a_closed_socket_is_an_error() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(near);
        let error = Incoming::default().receive(far.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! Waits until an instant, to some ten microseconds: tokio's timer has milliseconds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::task::yield_now;

/// Less than what a timer takes: the calls in flight go on meanwhile.
const SHORT: Duration = Duration::from_micros(50);

/// The timer's file descriptor and a copy of it that the runtime waits for, as if it were a pipe: it is read in the same way.
pub(super) struct Pacer {
    timer: OwnedFd,
    expired: Receiver,
}

impl Pacer {
    /// Must be called in a runtime.
    pub(super) fn new() -> io::Result<Pacer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let expired = Receiver::from_owned_fd_unchecked(timer.try_clone()?)?;
        Ok(Pacer { timer, expired })
    }

    /// Never returns too early.
    pub(super) async fn until(&self, at: Instant) -> io::Result<()> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if left < SHORT {
                yield_now().await;
                continue;
            }
            let time = Itimerspec {
                it_interval: timespec(Duration::ZERO),
                it_value: timespec(left),
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time)?;
            let mut expirations = [0; 8];
            loop {
                self.expired.readable().await?;
                match self.expired.try_read(&mut expirations) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => break read.map(drop)?,
                }
            }
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

//! The common part of the three services: configuration from the environment, mutual TLS, the table of callers, health,
//! reflection, limits, draining, structured errors, metrics, logs and traces.
//!
//! This crate does not know any service's protocol and has no state of its own: process-wide values (service name,
//! trace) are passed in [`trace::Context`].

mod activity;
mod answer;
mod call_log;
pub mod callers;
pub mod channel;
mod described;
pub mod error;
mod established;
pub mod export;
mod health;
mod incoming;
pub mod json;
pub mod memory;
pub mod metrics;
mod observe;
mod oversized;
mod process;
mod serve;
pub mod settings;
mod stream_deadline;
#[cfg(feature = "testing")]
pub mod testing;
mod time_limits;
pub mod tls;
pub mod trace;
mod waiting;
pub mod windows;

/// What a service's program allocates with. A call allocates some dozens of small blocks, often on another thread than frees
/// them: glibc's allocator took a sixth of a service's time.
pub use mimalloc::MiMalloc as Allocator;

pub use answer::answer;
pub use callers::{Callers, Owners};
pub use channel::{Dependency, Link};
pub use error::Problem;
pub use established::Limits;
pub use metrics::Metrics;
pub use oversized::refuse_oversized;
pub use process::{run, shutdown_signal};
pub use serve::{Services, serve};
pub use settings::{ConfigError, Service, Settings};
pub use tokio_util::sync::CancellationToken;
pub use waiting::{FIRST_BYTE, Waiting};

/// The largest message that a service receives or sends, in bytes.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

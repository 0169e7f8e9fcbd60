//! The service over a real database service, both with real TLS: answers, errors and restarts.

#![allow(clippy::unwrap_used)]

mod answers;
mod stored;
mod system;
mod trainings;

//! What the end-to-end tests and the benchmarks share: deployments of their own, servers on loopback, and polling.

pub mod deployment;
pub mod loopback;

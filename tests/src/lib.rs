//! What the end-to-end tests and the benchmarks share: deployments of their own, and polling.

pub mod deployment;

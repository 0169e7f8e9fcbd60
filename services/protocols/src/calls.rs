//! What a caller does, over any protocol.

use anyhow::bail;

use crate::records::{Record, Summary};

/// One caller. Callers of a protocol may share connections.
#[tonic::async_trait]
pub trait Calls: Send {
    /// Sends a record, and returns what comes back.
    async fn echo(&mut self, record: Record) -> anyhow::Result<Record>;

    /// Asks for `count` records.
    async fn list(&mut self, count: u32) -> anyhow::Result<Vec<Record>>;

    /// Sends records.
    async fn upload(&mut self, records: Vec<Record>) -> anyhow::Result<Summary>;

    /// Sends records over one stream, each when the one before came back.
    async fn chat(&mut self, records: Vec<Record>) -> anyhow::Result<Vec<Record>> {
        drop(records);
        bail!("the protocol has no bidirectional stream")
    }
}

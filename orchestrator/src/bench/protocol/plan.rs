//! What is measured.

use std::time::Duration;

/// What is measured: every protocol and operation, with each number of callers.
#[derive(Clone, Debug)]
pub struct Plan {
    pub rounds: usize,
    /// Of each case in each round.
    pub time: Duration,
    /// Numbers of concurrent callers.
    pub callers: Vec<usize>,
}

impl Plan {
    /// The arguments of the caller for a server, whose certificate has this name.
    pub(super) fn arguments(&self, server: &str, name: &str) -> Vec<String> {
        let callers: Vec<String> = self.callers.iter().map(usize::to_string).collect();
        [
            "call",
            "--server",
            server,
            "--name",
            name,
            "--rounds",
            &self.rounds.to_string(),
            "--milliseconds",
            &self.time.as_millis().to_string(),
            "--callers",
            &callers.join(","),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

//! What can go wrong in a store, with any engine.

use sea_orm::{DbErr, RuntimeErr, sqlx};

/// Why a store's operation failed; nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    #[error("no space is left: {0}")]
    Full(String),
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The server takes no writes: it is a standby now, or was made read-only.
    #[error("the server is read-only: {0}")]
    ReadOnly(String),
    #[error("the store is locked: {0}")]
    Busy(String),
    #[error("timed out: {0}")]
    Slow(String),
    /// The engine cannot store or evaluate the value.
    #[error("refused: {0}")]
    Refused(String),
    #[error("the data is damaged: {0}")]
    Damaged(String),
    /// Some documents are damaged, and no others; no ids where they are not known yet.
    #[error("documents are damaged ({}): {cause}", ids.join(", "))]
    Documents { ids: Vec<String>, cause: String },
    /// The store's files are no longer those that were opened.
    #[error("{0}")]
    Moved(String),
    #[error("{0}")]
    Failed(String),
}

impl From<DbErr> for Fault {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        match &error {
            DbErr::ConnectionAcquire(_) => Self::Unreachable(text),
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => driver(cause, text),
            _ => Self::Failed(text),
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        driver(&error, error.to_string())
    }
}

fn driver(error: &sqlx::Error, text: String) -> Fault {
    match error {
        sqlx::Error::Database(cause) => {
            let code = cause.code().unwrap_or_default();
            match code.len() {
                5 => postgres(&code, text),
                _ => sqlite(&code, text),
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Fault::Unreachable(text),
        sqlx::Error::ColumnDecode { .. } => Fault::document(text),
        _ => Fault::Failed(text),
    }
}

impl Fault {
    /// That a document is damaged whose id is not known yet.
    fn document(cause: String) -> Self {
        Self::Documents {
            ids: Vec::new(),
            cause,
        }
    }

    /// Names the document that it is about.
    pub(super) fn of(self, id: &str) -> Self {
        match self {
            Self::Documents { cause, .. } => Self::Documents {
                ids: vec![id.to_owned()],
                cause,
            },
            other => other,
        }
    }
}

/// SQLITE_IOERR_SHMSIZE: the index of the log cannot grow.
const SHM_SIZE: u32 = 10 | 19 << 8;
/// SQLITE_IOERR_READ, _SHORT_READ, _DATA and _CORRUPTFS: the file does not hold what was written.
const UNREADABLE: [u32; 4] = [10 | 1 << 8, 10 | 2 << 8, 10 | 32 << 8, 10 | 33 << 8];

/// By the result code, whose low byte is the primary one: <https://sqlite.org/rescode.html>.
fn sqlite(code: &str, text: String) -> Fault {
    let code = code.parse::<u32>().unwrap_or_default();
    match code & 0xff {
        // What its JSON functions say of a text that was JSON when it was stored.
        1 if text.contains("malformed JSON") => Fault::document(text),
        5 | 6 => Fault::Busy(text),
        10 if code == SHM_SIZE => Fault::Full(text),
        10 if UNREADABLE.contains(&code) => Fault::Damaged(text),
        11 | 26 => Fault::Damaged(text),
        13 => Fault::Full(text),
        _ => Fault::Failed(text),
    }
}

/// By the class of the SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres(code: &str, text: String) -> Fault {
    match (&code[..2], code) {
        (_, "25006") => Fault::ReadOnly(text),
        (_, "57014") => Fault::Slow(text),
        ("08" | "57", _) => Fault::Unreachable(text),
        ("22" | "54", _) => Fault::Refused(text),
        ("40" | "55", _) => Fault::Busy(text),
        ("53", "53300") => Fault::Unreachable(text),
        ("53", _) => Fault::Full(text),
        ("XX", _) => Fault::Damaged(text),
        _ => Fault::Failed(text),
    }
}

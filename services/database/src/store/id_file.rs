//! The ids of a query's results in their order, in a temporary file, so that memory does not grow with them.
//!
//! All ids are collected first, and their documents fetched as the caller takes them: a slow caller holds no
//! transaction open.

use std::path::Path;
use std::pin::pin;

use futures::{Stream, TryStreamExt as _};
use tokio::fs::File;
use tokio::io::{
    AsyncBufReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufReader, BufWriter,
};

use super::Fault;

/// A file that is being read: lines of an id and its document's size.
#[derive(Debug)]
pub(super) struct IdFile {
    lines: BufReader<File>,
    /// Read, and left for the next time.
    next: Option<(String, usize)>,
}

impl IdFile {
    /// Writes all ids, each with its document's size in bytes.
    pub(super) async fn write(
        folder: &Path,
        ids: impl Stream<Item = Result<(String, i64), sea_orm::DbErr>>,
    ) -> Result<Self, Fault> {
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        let mut file = BufWriter::new(File::from_std(file));
        let mut ids = pin!(ids);
        while let Some((id, size)) = ids.try_next().await? {
            let line = format!("{id} {size}\n");
            file.write_all(line.as_bytes()).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.rewind().await.map_err(failed)?;
        Ok(Self {
            lines: BufReader::new(file.into_inner()),
            next: None,
        })
    }

    /// Reads what was written as lines of an id and a size.
    pub(super) fn of(file: std::fs::File) -> Self {
        Self {
            lines: BufReader::new(File::from_std(file)),
            next: None,
        }
    }

    /// The next ids: at most `most`, and of documents that take about `bytes` at most, but one at least.
    pub(super) async fn take(&mut self, most: usize, bytes: usize) -> Result<Vec<String>, Fault> {
        let (mut ids, mut taken) = (Vec::new(), 0);
        while ids.len() < most {
            let Some((id, size)) = (match self.next.take() {
                Some(next) => Some(next),
                None => self.line().await?,
            }) else {
                break;
            };
            if !ids.is_empty() && taken + size > bytes {
                self.next = Some((id, size));
                break;
            }
            taken += size;
            ids.push(id);
        }
        Ok(ids)
    }

    async fn line(&mut self) -> Result<Option<(String, usize)>, Fault> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).await.map_err(failed)? == 0 {
            return Ok(None);
        }
        let parsed = line.trim_end().rsplit_once(' ');
        let parsed = parsed.and_then(|(id, size)| Some((id.to_owned(), size.parse().ok()?)));
        parsed.map(Some).ok_or_else(|| {
            Fault::Failed("the temporary file of ids has an invalid line".to_owned())
        })
    }
}

pub(super) fn failed(error: std::io::Error) -> Fault {
    let text = format!("failed to use the temporary file of ids: {error}");
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Fault::Full(text),
        _ => Fault::Failed(text),
    }
}

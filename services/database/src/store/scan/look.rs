//! Which documents of a slice match: other tasks have their turns meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Document, Rest, Scan};
use crate::query::Filter;
use crate::query::value::Value;
use crate::store::Fault;

/// How long documents are looked at before other tasks get their turn.
const TURN: Duration = Duration::from_millis(1);
/// The bytes of a document that is looked at in a task; a longer one alone could take more than a turn.
const SHORT: usize = 64 << 10;

/// The members that are wanted of a document that matches; an error if it is damaged.
type Looked = serde_json::Result<Option<Value>>;

impl Scan {
    /// Those documents of the next slice that match, with the members that are wanted; none at the end.
    pub(super) async fn matching(&mut self) -> Result<Option<Vec<(String, Value, String)>>, Fault> {
        if matches!(self.rest, Rest::Nothing | Rest::Counted(_)) {
            return Ok(None);
        }
        // The server may be another one than that of the last slice.
        let pools = self.store.connections.current()?;
        self.pools = pools.clone();
        let documents = pools.run(self.documents_of_slice()).await?;
        let mut found = Vec::new();
        let mut began = Instant::now();
        for document in documents {
            let (document, looked) = match document.1.len() <= SHORT {
                true => {
                    let looked = look(&self.query.filter, &self.wanted, &document);
                    (document, looked)
                }
                false => self.look_aside(document).await?,
            };
            let (id, data) = document;
            match looked {
                Ok(Some(members)) => found.push((id, members, data)),
                Ok(None) => {}
                Err(_) => self.note(id),
            }
            if began.elapsed() > TURN {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
        }
        Ok(Some(found))
    }

    async fn documents_of_slice(&mut self) -> Result<Vec<Document>, Fault> {
        match self.rest {
            Rest::Nothing | Rest::Counted(_) => Ok(Vec::new()),
            Rest::Slices(_) => self.slice().await,
            Rest::Listed(_) => self.page_by_list().await,
        }
    }

    async fn look_aside(&self, document: Document) -> Result<(Document, Looked), Fault> {
        let (filter, wanted) = (self.query.filter.clone(), self.wanted.clone());
        let looking = move || {
            let looked = look(&filter, &wanted, &document);
            (document, looked)
        };
        let looked = tokio::task::spawn_blocking(looking).await;
        looked.map_err(|error| Fault::Failed(format!("failed to look at a document: {error}")))
    }
}

fn look(filter: &Filter, wanted: &BTreeSet<String>, (id, data): &Document) -> Looked {
    let members = Value::members(data, wanted)?;
    Ok(filter.matches(id, &members).then_some(members))
}

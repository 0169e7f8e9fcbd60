//! The number of documents in a collection, by label, which the database counts.
//!
//! All callers share a count, which continues if they stop waiting. It stays valid for a time that grows with the time it
//! took, so counting stays a small part of the database's load for any size of collection. A failed count is soon
//! repeated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serving::{Problem, trace};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use crate::backends::Backends;

/// The shortest time that a count is valid.
const SHORTEST: Duration = Duration::from_secs(1);
/// A count is valid for this many times the time it took, unless it failed.
const FACTOR: u32 = 20;
/// The most labels; documents with further labels are counted without them.
const LABELS: usize = 1000;
/// The most collections whose counts are kept.
const COLLECTIONS: usize = 64;

/// The result of a count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) documents: u64,
    pub(crate) by_label: HashMap<String, u64>,
}

/// Counts collections, and keeps their counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter {
    collections: Arc<Mutex<HashMap<String, Counting>>>,
}

/// One collection's count, in progress or finished.
#[derive(Debug, Clone)]
struct Counting {
    ended: watch::Receiver<Option<Ended>>,
    /// The previous result.
    before: Option<Arc<Counts>>,
}

#[derive(Debug, Clone)]
struct Ended {
    counts: Result<Arc<Counts>, Status>,
    valid_until: Instant,
}

impl Counting {
    fn is_valid(&self) -> bool {
        match &*self.ended.borrow() {
            Some(ended) => Instant::now() < ended.valid_until,
            None => self.ended.has_changed().is_ok(),
        }
    }

    fn last(&self) -> Option<Arc<Counts>> {
        match &*self.ended.borrow() {
            Some(ended) => ended.counts.clone().ok(),
            None => self.before.clone(),
        }
    }
}

impl Counter {
    /// The collection's counts: valid ones, or new ones. The previous counts if counting takes longer than `limit`;
    /// `None` if the database fails.
    pub(crate) async fn of(
        &self,
        backends: &Backends,
        collection: &str,
        limit: Duration,
    ) -> Option<Arc<Counts>> {
        let Counting { mut ended, before } = self.current(backends, collection);
        let ended = timeout(limit, ended.wait_for(Option::is_some)).await;
        match ended {
            Ok(ended) => ended.ok()?.as_ref()?.counts.clone().ok(),
            Err(_) => before,
        }
    }

    fn current(&self, backends: &Backends, collection: &str) -> Counting {
        let mut collections = self
            .collections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = collections.get(collection).filter(|count| count.is_valid()) {
            return count.clone();
        }
        let before = collections.get(collection).and_then(Counting::last);
        if collections.len() >= COLLECTIONS {
            collections.retain(|_, count| count.is_valid());
        }
        let (done, ended) = watch::channel(None);
        let count = Counting { ended, before };
        collections.insert(collection.to_owned(), count.clone());
        let (backends, collection) = (backends.clone(), collection.to_owned());
        let counting = async move {
            let began = Instant::now();
            let counts = count_all(&backends, &collection).await.map(Arc::new);
            let valid_until = Instant::now() + valid_for(counts.is_ok(), began.elapsed());
            done.send_replace(Some(Ended {
                counts,
                valid_until,
            }));
        };
        tokio::spawn(trace::current().scope(counting));
        count
    }
}

fn valid_for(counted: bool, took: Duration) -> Duration {
    if counted {
        (took * FACTOR).max(SHORTEST)
    } else {
        SHORTEST
    }
}

/// A value of the field that is not a text is not a label.
const BY_LABEL: &str = r#"{"$group": {"_id": "$label", "documents": {"$count": {}}}}"#;
const ALL: &str = r#"{"$count": "documents"}"#;

#[derive(Deserialize)]
struct Group {
    #[serde(rename = "_id", default)]
    label: Value,
    documents: u64,
}

async fn count_all(backends: &Backends, collection: &str) -> Result<Counts, Status> {
    match count(backends, collection, BY_LABEL).await {
        // There are more labels than the database groups by.
        Err(status) if status.code() == Code::InvalidArgument => {
            count(backends, collection, ALL).await
        }
        counted => counted,
    }
}

async fn count(backends: &Backends, collection: &str, query: &str) -> Result<Counts, Status> {
    let mut groups = backends.query(collection, query.to_owned()).await?;
    let mut counts = Counts::default();
    while let Some(group) = groups.next().await? {
        let group: Group = serde_json::from_str(&group.data)
            .map_err(|error| Problem::internal("failed to read a group of documents", error))?;
        counts.documents += group.documents;
        if let Value::String(label) = group.label
            && counts.by_label.len() < LABELS
        {
            counts.by_label.insert(label, group.documents);
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_count_is_valid_for_longer_unless_it_failed() {
        let short = Duration::from_millis(1);
        let long = Duration::from_secs(10);
        assert_eq!(valid_for(true, short), SHORTEST);
        assert_eq!(valid_for(true, long), long * FACTOR);
        assert_eq!(valid_for(false, long), SHORTEST);
    }
}

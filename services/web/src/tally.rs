//! How many documents a collection has, by label: counted by reading all of them, because the database's contract has
//! no counting.
//!
//! A count is shared by all who ask, goes on where they don't wait for its end, and is used for a while that grows with
//! the time it took: counting stays a small part of the database's load however large the collection is. One that failed is
//! soon begun anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serving::trace;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::backends::Backends;

/// A count is good for this long at least.
const FRESH: Duration = Duration::from_secs(1);
/// And for this many times the time it took, unless it failed.
const PATIENCE: u32 = 20;
/// Labels beyond these are counted as documents only.
const LABELS: usize = 1000;
/// Collections whose counts are kept.
const COLLECTIONS: usize = 64;

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) documents: u64,
    pub(crate) by_label: HashMap<String, u64>,
}

/// The counts of this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallies {
    counts: Arc<Mutex<HashMap<String, Count>>>,
}

/// One collection's count, which runs or has ended.
#[derive(Debug, Clone)]
struct Count {
    ended: watch::Receiver<Option<Ended>>,
    /// What the count before said.
    before: Option<Arc<Tally>>,
}

#[derive(Debug, Clone)]
struct Ended {
    tally: Result<Arc<Tally>, Status>,
    good_until: Instant,
}

impl Count {
    fn serves(&self) -> bool {
        match &*self.ended.borrow() {
            Some(ended) => Instant::now() < ended.good_until,
            None => self.ended.has_changed().is_ok(),
        }
    }

    fn last(&self) -> Option<Arc<Tally>> {
        match &*self.ended.borrow() {
            Some(ended) => ended.tally.clone().ok(),
            None => self.before.clone(),
        }
    }
}

impl Tallies {
    /// The collection's count: a recent one, or one that is begun now. The count before it, if that takes longer than
    /// `limit`; nothing, if the database fails.
    pub(crate) async fn of(
        &self,
        backends: &Backends,
        collection: &str,
        limit: Duration,
    ) -> Option<Arc<Tally>> {
        let Count { mut ended, before } = self.current(backends, collection);
        let ended = timeout(limit, ended.wait_for(Option::is_some)).await;
        match ended {
            Ok(ended) => ended.ok()?.as_ref()?.tally.clone().ok(),
            Err(_) => before,
        }
    }

    fn current(&self, backends: &Backends, collection: &str) -> Count {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(collection).filter(|count| count.serves()) {
            return count.clone();
        }
        let before = counts.get(collection).and_then(Count::last);
        if counts.len() >= COLLECTIONS {
            counts.retain(|_, count| count.serves());
        }
        let (tell, ended) = watch::channel(None);
        let count = Count { ended, before };
        counts.insert(collection.to_owned(), count.clone());
        let (backends, collection) = (backends.clone(), collection.to_owned());
        let counting = async move {
            let began = Instant::now();
            let tally = count_all(&backends, &collection).await.map(Arc::new);
            let good_until = Instant::now() + good_for(tally.is_ok(), began.elapsed());
            tell.send_replace(Some(Ended { tally, good_until }));
        };
        tokio::spawn(trace::current().scope(counting));
        count
    }
}

fn good_for(counted: bool, took: Duration) -> Duration {
    match counted {
        true => (took * PATIENCE).max(FRESH),
        false => FRESH,
    }
}

#[derive(Deserialize)]
struct Labelled {
    label: Option<String>,
}

async fn count_all(backends: &Backends, collection: &str) -> Result<Tally, Status> {
    let mut documents = backends.query(collection, String::new()).await?;
    let mut tally = Tally::default();
    while let Some(document) = documents.next().await? {
        tally.documents += 1;
        let Ok(Labelled { label: Some(label) }) = serde_json::from_str(&document.data) else {
            continue;
        };
        if tally.by_label.len() < LABELS || tally.by_label.contains_key(&label) {
            *tally.by_label.entry(label).or_default() += 1;
        }
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_long_is_good_for_long_unless_it_failed() {
        let short = Duration::from_millis(1);
        let long = Duration::from_secs(10);
        assert_eq!(good_for(true, short), FRESH);
        assert_eq!(good_for(true, long), long * PATIENCE);
        assert_eq!(good_for(false, long), FRESH);
    }
}

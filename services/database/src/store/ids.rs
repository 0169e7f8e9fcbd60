//! Ids of new documents: UUIDs of version 7, each after all that exist, even if the clock goes back.

use std::fmt;
use std::sync::{Arc, Mutex};

use uuid::{ContextV7, Timestamp, Uuid};

/// Creates ids in increasing order.
#[derive(Clone)]
pub(super) struct Ids {
    /// The latest time that it has seen is its present, until the clock has passed it.
    context: Arc<Mutex<ContextV7>>,
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ids")
    }
}

impl Ids {
    /// Continues after `newest`, the greatest id of the store.
    pub(super) fn after(newest: Option<&str>) -> Self {
        let ids = Self {
            context: Arc::new(Mutex::new(ContextV7::new())),
        };
        let newest = newest.and_then(|id| Uuid::parse_str(id).ok());
        if let Some(newest) = newest.and_then(|id| id.get_timestamp()) {
            let (seconds, nanoseconds) = newest.to_unix();
            // The next millisecond: within the same one, the order is that of random bits.
            let next = std::time::Duration::new(seconds, nanoseconds)
                + std::time::Duration::from_millis(1);
            ids.at(next.as_secs(), next.subsec_nanos());
        }
        ids
    }

    pub(super) fn next(&self) -> String {
        let now = Timestamp::now(uuid::NoContext);
        let (seconds, nanoseconds) = now.to_unix();
        self.at(seconds, nanoseconds).to_string()
    }

    fn at(&self, seconds: u64, nanoseconds: u32) -> Uuid {
        Uuid::new_v7(Timestamp::from_unix(&*self.context, seconds, nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_after_the_newest_at_any_clock() {
        let newest = [
            None,
            Some("no uuid"),
            Some("019936a4-0000-7fff-bfff-ffffffffffff"),
            // In the year 2262.
            Some("0863ac6a-ffff-7fff-bfff-ffffffffffff"),
        ];
        for newest in newest {
            let ids = Ids::after(newest);
            let created: Vec<String> = (0..5000).map(|_| ids.next()).collect();
            assert!(created.is_sorted(), "{newest:?}");
            if let Some(newest) = newest.filter(|newest| newest.len() == 36) {
                assert!(created[0].as_str() > newest, "{newest}: {}", created[0]);
            }
        }
    }
}

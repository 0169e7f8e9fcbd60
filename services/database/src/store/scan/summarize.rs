//! Numbers, distinct values and groups of documents.

use super::{Fault, Rest, Scan};
use crate::query::Summary;
use crate::query::summary::{self, Groups};

/// The most groups or distinct values: they are kept in memory.
const MOST_GROUPS: usize = 100_000;

impl Scan {
    /// Puts a summary of the documents in the place of the documents.
    pub(super) async fn summarize(&mut self, summary: &Summary) -> Result<(), Fault> {
        let skip = std::mem::take(&mut self.skip);
        let left = std::mem::replace(&mut self.left, u64::MAX);
        let results = match summary {
            Summary::Count(name) => {
                let number = self.count().await?.saturating_sub(skip);
                vec![summary::count(name, std::cmp::min(number, left))]
            }
            summary => {
                let mut groups = Groups::default();
                while let Some(documents) = self.matching().await? {
                    for (id, members, _) in documents {
                        groups.add(summary, &id, &members);
                    }
                    if groups.len() > MOST_GROUPS {
                        let cause = format!("there are more than {MOST_GROUPS} groups");
                        return Err(Fault::Refused(cause));
                    }
                }
                let results = groups.results(summary).into_iter();
                let results = results.skip(skip as usize);
                results.take(left as usize).collect()
            }
        };
        self.rest = Rest::Nothing;
        let results = results.into_iter();
        self.page = results.map(|data| (String::new(), data)).collect();
        Ok(())
    }

    async fn count(&mut self) -> Result<u64, Fault> {
        if let Rest::Counted(number) = self.rest {
            return Ok(number);
        }
        let mut number = 0;
        while let Some(documents) = self.matching().await? {
            number += documents.len() as u64;
        }
        Ok(number)
    }
}

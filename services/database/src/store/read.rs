//! Reads by id: those that wait are answered by one statement, because a round trip to the engine costs more than a row.

use std::collections::HashMap;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::batch::Batch;
use super::connections::Connections;
use super::{Fault, document};

/// Numbers of ids in a statement: few, so that the engine has each prepared.
const SIZES: [usize; 4] = [1, 4, 16, MOST];
/// The most reads that are answered together.
pub(super) const MOST: usize = 64;

/// Which document is asked for.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) collection: String,
    pub(super) id: String,
}

/// Answers reads with the data of each document that exists.
pub(super) async fn together(connections: Connections, batch: Batch<Read, Option<String>>) {
    let found = find(&connections, &batch.jobs).await;
    let mut answers = Vec::with_capacity(batch.jobs.len());
    for read in &batch.jobs {
        answers.push(match &found {
            // One of them is damaged: the others have their answers.
            Err(Fault::Documents { .. }) => {
                let found = find(&connections, std::slice::from_ref(read)).await;
                answer(read, found.as_ref())
            }
            found => answer(read, found.as_ref()),
        });
    }
    batch.answer(answers);
}

fn answer(
    read: &Read,
    found: Result<&HashMap<String, document::Model>, &Fault>,
) -> Result<Option<String>, Fault> {
    let document = found
        .map_err(|fault| fault.clone().of(&read.id))?
        .get(&read.id)
        .filter(|found| found.collection == read.collection);
    match document {
        Some(document) => document.checked().map(|()| Some(document.data.clone())),
        None => Ok(None),
    }
}

async fn find(
    connections: &Connections,
    reads: &[Read],
) -> Result<HashMap<String, document::Model>, Fault> {
    let size = SIZES.into_iter().find(|size| *size >= reads.len());
    let ids = reads.iter().map(|read| read.id.as_str());
    // Filled up with the last id.
    let last = reads.last().map(|read| read.id.as_str());
    let ids = ids
        .chain(last.into_iter().cycle())
        .take(size.unwrap_or(reads.len()));
    let documents = document::Entity::find().filter(document::Column::Id.is_in(ids));
    let pools = connections.current()?;
    let documents = pools
        .run(async { Ok(documents.all(&pools.reads).await?) })
        .await?;
    Ok(documents
        .into_iter()
        .map(|document| (document.id.clone(), document))
        .collect())
}

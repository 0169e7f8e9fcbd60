//! Group commit: the writes that wait share one transaction and one sync, and are acknowledged after it.
//!
//! ```text
//! waiting writes -> BEGIN, all of them, those that came meanwhile, COMMIT -> acknowledged
//!                   one fails: all undone -> each alone in a transaction of its own, so that it fails alone
//!                   the store fails: all undone, and all callers get the error
//! ```

use std::fmt::Write as _;

use sea_orm::DbBackend;

use super::batch::Batch;
use super::connections::Connections;
use super::engine::Pools;
use super::integrity::Integrity;
use super::text::Words;
use super::transaction::Transaction;
use super::{Fault, document};

/// Rows of one INSERT at most. The statement for each number stays prepared: of a hundred, sqlx forgets none.
const ROWS: usize = 64;
/// Of one INSERT's documents, in bytes: they are copied into the statement.
const BYTES: usize = 1 << 20;

/// A change of one document.
#[derive(Debug)]
pub(super) enum Write {
    Create(document::Model, Option<Words>),
    Update(document::Model, Option<Words>),
    Delete { collection: String, id: String },
}

impl Write {
    fn id(&self) -> &str {
        match self {
            Self::Create(document, _) | Self::Update(document, _) => &document.id,
            Self::Delete { id, .. } => id,
        }
    }
}

/// Where writes go.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) connections: Connections,
    pub(super) integrity: Integrity,
}

impl Writer {
    /// Applies writes durably; each answer says whether its document is (or, removed, was) there.
    pub(super) async fn together(self, mut batch: Batch<Write, bool>) {
        let found = self.commit(&mut batch).await;
        let answers = match found {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(fault) if self.is_shared(&fault) => vec![Err(fault); batch.jobs.len()],
            Err(fault) if batch.jobs.len() == 1 => vec![Err(fault.of(batch.jobs[0].id()))],
            Err(_) => {
                let mut answers = Vec::with_capacity(batch.jobs.len());
                for write in &batch.jobs {
                    answers.push(self.alone(write).await);
                }
                answers
            }
        };
        batch.answer(answers);
    }

    /// Whether each write alone would meet the same, after as long a wait.
    fn is_shared(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Unreachable(_) | Fault::ReadOnly(_) | Fault::Slow(_) | Fault::Moved(_) => true,
            // SQLite has one lock, which another process holds; PostgreSQL's transactions can conflict with each other.
            Fault::Busy(_) => self.connections.engine() == DbBackend::Sqlite,
            _ => false,
        }
    }

    async fn commit(&self, batch: &mut Batch<Write, bool>) -> Result<Vec<bool>, Fault> {
        let pools = self.connections.current()?;
        pools.run(self.commit_to(&pools, batch)).await
    }

    async fn commit_to(
        &self,
        pools: &Pools,
        batch: &mut Batch<Write, bool>,
    ) -> Result<Vec<bool>, Fault> {
        let mut transaction = self.begin(pools).await?;
        let mut found = Vec::with_capacity(batch.jobs.len());
        while found.len() < batch.jobs.len() {
            match apply(&mut transaction, &batch.jobs[found.len()..]).await {
                Ok(more) => found.extend(more),
                Err(fault) => {
                    transaction.undo(&fault).await;
                    return Err(fault);
                }
            }
            batch.take_more();
        }
        self.end(transaction).await?;
        Ok(found)
    }

    async fn alone(&self, write: &Write) -> Result<bool, Fault> {
        let pools = self.connections.current()?;
        pools.run(self.alone_to(&pools, write)).await
    }

    async fn alone_to(&self, pools: &Pools, write: &Write) -> Result<bool, Fault> {
        let mut transaction = self.begin(pools).await?;
        match apply(&mut transaction, std::slice::from_ref(write)).await {
            Ok(found) => {
                self.end(transaction).await?;
                Ok(found == [true])
            }
            Err(fault) => {
                transaction.undo(&fault).await;
                Err(fault.of(write.id()))
            }
        }
    }

    async fn begin(&self, pools: &Pools) -> Result<Transaction, Fault> {
        self.integrity.admit()?;
        Transaction::begin(&pools.writes).await
    }

    async fn end(&self, transaction: Transaction) -> Result<(), Fault> {
        // The file may have been removed since; the transaction is undone then.
        self.integrity.admit()?;
        transaction.commit().await
    }
}

async fn apply(transaction: &mut Transaction, writes: &[Write]) -> Result<Vec<bool>, Fault> {
    // Nobody knows a new document's id yet, so that nothing in here can depend on its place.
    let new: Vec<_> = writes.iter().filter_map(new).collect();
    insert(transaction, &new).await?;
    let mut found = Vec::with_capacity(writes.len());
    for write in writes {
        found.push(match write {
            Write::Create(document, words) => {
                index(transaction, &document.id, words.as_ref()).await?;
                true
            }
            Write::Update(document, words) => {
                let found = update(transaction, document).await?;
                if found {
                    index(transaction, &document.id, words.as_ref()).await?;
                }
                found
            }
            Write::Delete { collection, id } => delete(transaction, collection, id).await?,
        });
    }
    Ok(found)
}

fn new(write: &Write) -> Option<&document::Model> {
    match write {
        Write::Create(document, _) => Some(document),
        Write::Update(..) | Write::Delete { .. } => None,
    }
}

async fn insert(
    transaction: &mut Transaction,
    mut documents: &[&document::Model],
) -> Result<(), Fault> {
    while !documents.is_empty() {
        let (chunk, rest) = documents.split_at(fitting(documents));
        let texts: Vec<&str> = chunk
            .iter()
            .flat_map(|document| [&*document.id, &*document.collection, &*document.data])
            .collect();
        transaction.execute(&insertion(chunk.len()), &texts).await?;
        documents = rest;
    }
    Ok(())
}

fn insertion(rows: usize) -> String {
    let mut sql = "INSERT INTO documents (id, collection, data) VALUES ".to_owned();
    for row in 0..rows {
        let comma = if row == 0 { "" } else { ", " };
        let [id, collection, data] = [1, 2, 3].map(|column| row * 3 + column);
        let _infallible = write!(sql, "{comma}(${id}, ${collection}, ${data})");
    }
    sql
}

/// How many documents go into one INSERT; one always does.
fn fitting(documents: &[&document::Model]) -> usize {
    let mut bytes = 0;
    let fits = |document: &&&document::Model| {
        bytes += document.data.len();
        bytes <= BYTES
    };
    documents.iter().take(ROWS).take_while(fits).count().max(1)
}

async fn update(transaction: &mut Transaction, document: &document::Model) -> Result<bool, Fault> {
    let document::Model {
        id,
        collection,
        data,
    } = document;
    let sql = "UPDATE documents SET data = $3 WHERE id = $1 AND collection = $2";
    Ok(transaction.execute(sql, &[id, collection, data]).await? > 0)
}

async fn index(
    transaction: &mut Transaction,
    id: &str,
    words: Option<&Words>,
) -> Result<(), Fault> {
    match words {
        Some(words) => words.write(transaction, id).await,
        None => Ok(()),
    }
}

async fn delete(transaction: &mut Transaction, collection: &str, id: &str) -> Result<bool, Fault> {
    let sql = "DELETE FROM documents WHERE id = $1 AND collection = $2";
    Ok(transaction.execute(sql, &[id, collection]).await? > 0)
}

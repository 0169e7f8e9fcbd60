//! Group commit: the writes that wait share one transaction and one sync, and are acknowledged after it.
//!
//! ```text
//! waiting writes -> BEGIN, all of them, those that came meanwhile, COMMIT -> acknowledged
//!                   one fails: all undone -> each alone in a transaction of its own, so that it fails alone
//!                   the store fails: all undone, and all are told
//! ```

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction,
    DbBackend, EntityTrait, QueryFilter, TransactionTrait,
};

use super::lane::Batch;
use super::{Fault, document};

/// Rows of one INSERT at most. The statement for each number stays prepared: of a hundred, sqlx forgets none.
const ROWS: usize = 64;
/// Of one INSERT's documents, in bytes: they are copied into the statement.
const BYTES: usize = 1 << 20;

/// A change of one document.
#[derive(Debug)]
pub(super) enum Write {
    Create(document::Model),
    Update(document::Model),
    Delete { collection: String, id: String },
}

/// Applies writes durably; each answer says whether its document is (or, removed, was) there.
pub(super) async fn together(connection: DatabaseConnection, mut batch: Batch<Write, bool>) {
    let found = commit(&connection, &mut batch).await;
    let answers = match found {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(fault) if batch.jobs.len() == 1 || is_shared(&fault, &connection) => {
            vec![Err(fault); batch.jobs.len()]
        }
        Err(_) => {
            let mut answers = Vec::with_capacity(batch.jobs.len());
            for write in &batch.jobs {
                answers.push(alone(&connection, write).await);
            }
            answers
        }
    };
    batch.answer(answers);
}

/// Whether each write alone would meet the same, after as long a wait.
fn is_shared(fault: &Fault, connection: &DatabaseConnection) -> bool {
    match fault {
        Fault::Unreachable(_) | Fault::Slow(_) => true,
        // SQLite has one lock, which another process holds; PostgreSQL's transactions can be in each other's way.
        Fault::Busy(_) => connection.get_database_backend() == DbBackend::Sqlite,
        _ => false,
    }
}

async fn commit(
    connection: &DatabaseConnection,
    batch: &mut Batch<Write, bool>,
) -> Result<Vec<bool>, Fault> {
    let transaction = connection.begin().await?;
    let mut found = Vec::with_capacity(batch.jobs.len());
    while found.len() < batch.jobs.len() {
        found.extend(apply(&transaction, &batch.jobs[found.len()..]).await?);
        batch.take_more();
    }
    transaction.commit().await?;
    Ok(found)
}

async fn alone(connection: &DatabaseConnection, write: &Write) -> Result<bool, Fault> {
    let transaction = connection.begin().await?;
    let found = apply(&transaction, std::slice::from_ref(write)).await?;
    transaction.commit().await?;
    Ok(found == [true])
}

async fn apply(transaction: &DatabaseTransaction, writes: &[Write]) -> Result<Vec<bool>, Fault> {
    // Nobody knows a new document's id yet, so that nothing in here can depend on its place.
    let new: Vec<_> = writes.iter().filter_map(new).collect();
    insert(transaction, &new).await?;
    let mut found = Vec::with_capacity(writes.len());
    for write in writes {
        found.push(match write {
            Write::Create(_) => true,
            Write::Update(document) => update(transaction, document).await?,
            Write::Delete { collection, id } => delete(transaction, collection, id).await?,
        });
    }
    Ok(found)
}

fn new(write: &Write) -> Option<&document::Model> {
    match write {
        Write::Create(document) => Some(document),
        Write::Update(_) | Write::Delete { .. } => None,
    }
}

async fn insert(
    transaction: &DatabaseTransaction,
    mut documents: &[&document::Model],
) -> Result<(), Fault> {
    while !documents.is_empty() {
        let (chunk, rest) = documents.split_at(fitting(documents));
        let rows = chunk.iter().map(|document| document::ActiveModel {
            id: Set(document.id.clone()),
            collection: Set(document.collection.clone()),
            data: Set(document.data.clone()),
        });
        document::Entity::insert_many(rows)
            .exec_without_returning(transaction)
            .await?;
        documents = rest;
    }
    Ok(())
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

async fn update(
    transaction: &impl ConnectionTrait,
    document: &document::Model,
) -> Result<bool, Fault> {
    let outcome = document::Entity::update_many()
        .col_expr(document::Column::Data, document.data.clone().into())
        .filter(document::Column::Id.eq(&document.id))
        .filter(document::Column::Collection.eq(&document.collection))
        .exec(transaction)
        .await?;
    Ok(outcome.rows_affected > 0)
}

async fn delete(
    transaction: &impl ConnectionTrait,
    collection: &str,
    id: &str,
) -> Result<bool, Fault> {
    let outcome = document::Entity::delete_many()
        .filter(document::Column::Id.eq(id))
        .filter(document::Column::Collection.eq(collection))
        .exec(transaction)
        .await?;
    Ok(outcome.rows_affected > 0)
}

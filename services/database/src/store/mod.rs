//! Documents in SQLite or PostgreSQL: what is acknowledged is on stable storage. It knows nothing of gRPC, and does not
//! interpret ids and data.

mod backup;
mod batch;
mod candidates;
mod checkpoint;
mod connections;
mod engine;
mod fault;
mod id_file;
mod ids;
mod indexes;
mod integrity;
mod leader;
mod location;
mod read;
mod scan;
mod schema;
mod slices;
mod sorter;
mod text;
mod transaction;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use anyhow::Context as _;
use sea_orm::{
    DatabaseConnection, DbBackend, DbErr, EntityTrait as _, QueryOrder as _, QuerySelect as _,
};

pub use backup::backup;
pub use checkpoint::checkpoint;
pub use fault::Fault;
pub use location::Location;

use batch::Batcher;
use connections::Connections;
use engine::Pools;
use ids::Ids;
use integrity::Integrity;
use read::Read;
use text::Words;
use write::{Write, Writer};

use crate::indexes::Indexes;

/// The most writes that share a transaction.
const MOST_WRITES: usize = 256;

/// The table of documents.
#[allow(unreachable_pub, reason = "SeaORM's macros make the entity public")]
pub(crate) mod document {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "documents")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub collection: String,
        pub data: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    impl Model {
        /// Refuses data that is no longer what was stored: it was a JSON object.
        pub(crate) fn checked(&self) -> Result<(), super::Fault> {
            match serde_json::from_str::<crate::json::Object>(&self.data) {
                Ok(_) => Ok(()),
                Err(error) => Err(super::Fault::Documents {
                    ids: vec![self.id.clone()],
                    cause: error.to_string(),
                }),
            }
        }
    }
}

/// An open database.
#[derive(Debug, Clone)]
pub struct Store {
    engine: DbBackend,
    connections: Connections,
    integrity: Integrity,
    indexes: Arc<Indexes>,
    ids: Ids,
    /// How many queries are open.
    open: Arc<AtomicUsize>,
    /// Where long lists of ids are written.
    folder: PathBuf,
    reads: Batcher<Read, Option<String>>,
    writes: Batcher<Write, bool>,
}

impl Store {
    /// Opens a store, checks it, and brings its schema and its indexes up to date.
    pub async fn open(location: &Location, indexes: Indexes) -> anyhow::Result<Self> {
        location
            .create()
            .with_context(|| format!("failed to create the store `{location}`"))?;
        let connections = Connections::open(location)
            .await
            .with_context(|| format!("failed to open the store `{location}`"))?;
        let pools = connections.current()?;
        let prepared = pools.run(async { Ok(prepare(&pools, location, &indexes).await) });
        let newest = prepared
            .await
            .with_context(|| format!("failed to prepare the store `{location}`"))??;
        let integrity = Integrity::watch(location)
            .with_context(|| format!("failed to find the files of the store `{location}`"))?;
        let folder = match location {
            Location::File(path) => path.parent().map(ToOwned::to_owned),
            Location::Postgres(_) | Location::Servers(..) => Some(std::env::temp_dir()),
        };
        let workers = connections.parallel();
        let reading = connections.clone();
        let writer = Writer {
            connections: connections.clone(),
            integrity: integrity.clone(),
        };
        Ok(Self {
            engine: connections.engine(),
            indexes: Arc::new(indexes),
            ids: Ids::after(newest.as_deref()),
            open: Arc::default(),
            folder: folder
                .filter(|folder| folder.is_dir())
                .unwrap_or_else(|| ".".into()),
            reads: Batcher::open(workers, read::MOST, move |reads| {
                read::together(reading.clone(), reads)
            }),
            writes: Batcher::open(workers, MOST_WRITES, move |writes| {
                writer.clone().together(writes)
            }),
            connections,
            integrity,
        })
    }

    /// Closes every connection.
    pub async fn close(self) -> Result<(), Fault> {
        self.integrity.end().await;
        self.connections.close().await
    }

    /// Stores a new document and returns its id: ids sort by age.
    pub async fn create(&self, collection: String, data: String) -> Result<String, Fault> {
        let words = Words::of(&self.indexes, &collection, &data).await?;
        let id = self.ids.next();
        let document = document::Model {
            id: id.clone(),
            collection,
            data,
        };
        self.write(Write::Create(document, words)).await?;
        Ok(id)
    }

    /// Returns a document's data if it exists.
    pub async fn read(&self, collection: String, id: String) -> Result<Option<String>, Fault> {
        if is_foreign(&id) {
            return Ok(None);
        }
        let read = self.reads.call(Read { collection, id }).await;
        read.inspect_err(|fault| self.integrity.consider(fault))
    }

    /// Replaces a document's data; returns whether it exists.
    pub async fn update(
        &self,
        collection: String,
        id: String,
        data: String,
    ) -> Result<bool, Fault> {
        if is_foreign(&id) {
            return Ok(false);
        }
        let words = Words::of(&self.indexes, &collection, &data).await?;
        let document = document::Model {
            id,
            collection,
            data,
        };
        self.write(Write::Update(document, words)).await
    }

    /// Removes a document; returns whether it existed.
    pub async fn delete(&self, collection: String, id: String) -> Result<bool, Fault> {
        if is_foreign(&id) {
            return Ok(false);
        }
        self.write(Write::Delete { collection, id }).await
    }

    async fn write(&self, write: Write) -> Result<bool, Fault> {
        let written = self.writes.call(write).await;
        written.inspect_err(|fault| self.integrity.consider(fault))
    }

    /// The indexes that queries can use.
    pub(crate) fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Why writes are refused, if they are.
    pub fn fault(&self) -> Option<Fault> {
        let refused = self.integrity.admit().err();
        refused.or_else(|| self.connections.fault())
    }
}

/// Checks a store, brings its schema and its indexes up to date, and returns its newest id.
async fn prepare(
    pools: &Pools,
    location: &Location,
    indexes: &Indexes,
) -> anyhow::Result<Option<String>> {
    let writes = &pools.writes;
    schema::check(writes).await.with_context(|| {
        format!(
            "the store `{location}` is damaged; keep the file, and replace it by a copy that \
             `database-server backup` made, or by what `sqlite3 FILE .recover` saves"
        )
    })?;
    schema::migrate(writes)
        .await
        .with_context(|| format!("failed to update the schema of the store `{location}`"))?;
    indexes::apply(writes, indexes).await.with_context(|| {
        format!("failed to create the declared indexes of the store `{location}`")
    })?;
    text::apply(writes, indexes).await.with_context(|| {
        format!("failed to create the declared text indexes of the store `{location}`")
    })?;
    newest(writes)
        .await
        .with_context(|| format!("failed to read the newest id of the store `{location}`"))
}

/// Whether no document has such an id. PostgreSQL refuses texts with U+0000, and with them all of a batch.
fn is_foreign(id: &str) -> bool {
    id.contains('\0')
}

/// The greatest id of all collections.
async fn newest(connection: &DatabaseConnection) -> Result<Option<String>, DbErr> {
    document::Entity::find()
        .select_only()
        .column(document::Column::Id)
        .order_by_desc(document::Column::Id)
        .limit(1)
        .into_tuple()
        .one(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As after a restart with a clock that went backwards.
    #[tokio::test]
    async fn new_documents_sort_after_those_of_a_later_clock() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("store.sqlite"));
        let store = Store::open(&location, Indexes::default()).await.unwrap();
        let later = "0863ac6a-0000-7fff-bfff-ffffffffffff";
        let document = document::Model {
            id: later.to_owned(),
            collection: "c".to_owned(),
            data: "{}".to_owned(),
        };
        store.write(Write::Create(document, None)).await.unwrap();
        store.close().await.unwrap();
        let store = Store::open(&location, Indexes::default()).await.unwrap();
        let new = store.create("d".to_owned(), "{}".to_owned()).await.unwrap();
        assert!(new.as_str() > later, "{new}");
        store.close().await.unwrap();
    }

    /// Earlier versions stored them.
    #[tokio::test]
    async fn documents_with_a_nul_are_read_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("store.sqlite"));
        let indexes: Indexes = "c:a".parse().unwrap();
        let store = Store::open(&location, indexes.clone()).await.unwrap();
        let data = r#"{"a": "b\u0000c", "\u0000": 1}"#;
        let id = store.create("c".to_owned(), data.to_owned()).await.unwrap();
        store.close().await.unwrap();
        let store = Store::open(&location, indexes).await.unwrap();
        let read = store.read("c".to_owned(), id.clone()).await.unwrap();
        assert_eq!(read.as_deref(), Some(data));
        for (query, number) in [
            ("", 1),
            (r#"{"a": "b\u0000c"}"#, 1),
            (r#"{"a": "b"}"#, 0),
            (r#"{"a": {"$gte": "b\u0000"}}"#, 1),
            (r#"{"a": {"$lte": "b"}}"#, 0),
            (r#"{"$sort": {"a": 1}}"#, 1),
        ] {
            let query = crate::query::Query::parse(query).unwrap();
            let mut scan = store.scan("c", query.clone()).await.unwrap();
            let mut found = 0;
            while scan.next().await.unwrap().is_some() {
                found += 1;
            }
            assert_eq!(found, number, "{query:?}");
        }
        assert!(store.delete("c".to_owned(), id).await.unwrap());
        store.close().await.unwrap();
    }
}

//! Documents in SQLite, through SeaORM: write-ahead log, `synchronous = FULL`, so that what is acknowledged is on
//! the disk. It knows nothing of gRPC, and takes ids and data as they are.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectOptions, ConnectionTrait, Database,
    DatabaseConnection, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TransactionTrait,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::filter::Filter;

const CONNECTIONS: u32 = 4;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each entry brings the schema one version on; `user_version` counts those that were applied.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE documents (id TEXT PRIMARY KEY, collection TEXT NOT NULL, data TEXT NOT NULL);
     CREATE INDEX documents_by_collection ON documents (collection, id);",
];

/// The table of documents.
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
}

/// An open database.
#[derive(Debug, Clone)]
pub struct Store {
    connection: DatabaseConnection,
    /// SQLite has one writer; waiting here is fair and costs no polling.
    writer: Arc<Mutex<()>>,
}

impl Store {
    /// Opens the file, making it where it is missing, and brings its schema up to date.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let file = path.to_owned();
        let mut options = ConnectOptions::new("sqlite://");
        options
            .max_connections(CONNECTIONS)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(move |sqlite| {
                sqlite
                    .filename(&file)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(BUSY_TIMEOUT)
            });
        let connection = Database::connect(options)
            .await
            .with_context(|| format!("can't open the store `{}`", path.display()))?;
        migrate(&connection)
            .await
            .with_context(|| format!("can't bring the store `{}` up to date", path.display()))?;
        Ok(Self {
            connection,
            writer: Arc::default(),
        })
    }

    /// Closes every connection; the log is folded into the file.
    pub async fn close(self) -> Result<(), DbErr> {
        self.connection.close().await
    }

    /// Stores a new document and returns its id, a UUIDv7: ids sort by age.
    pub(crate) async fn create(&self, collection: String, data: String) -> Result<String, DbErr> {
        let id = Uuid::now_v7().to_string();
        let document = document::ActiveModel {
            id: Set(id.clone()),
            collection: Set(collection),
            data: Set(data),
        };
        let _writer = self.writer.lock().await;
        document.insert(&self.connection).await?;
        Ok(id)
    }

    /// Returns a document's data if it exists.
    pub(crate) async fn read(&self, collection: &str, id: &str) -> Result<Option<String>, DbErr> {
        let document = document::Entity::find_by_id(id)
            .filter(document::Column::Collection.eq(collection))
            .one(&self.connection)
            .await?;
        Ok(document.map(|document| document.data))
    }

    /// Replaces a document's data; returns whether it exists.
    pub(crate) async fn update(
        &self,
        collection: &str,
        id: &str,
        data: String,
    ) -> Result<bool, DbErr> {
        let _writer = self.writer.lock().await;
        let outcome = document::Entity::update_many()
            .col_expr(document::Column::Data, data.into())
            .filter(document::Column::Id.eq(id))
            .filter(document::Column::Collection.eq(collection))
            .exec(&self.connection)
            .await?;
        Ok(outcome.rows_affected > 0)
    }

    /// Removes a document; returns whether it existed.
    pub(crate) async fn delete(&self, collection: &str, id: &str) -> Result<bool, DbErr> {
        let _writer = self.writer.lock().await;
        let outcome = document::Entity::delete_many()
            .filter(document::Column::Id.eq(id))
            .filter(document::Column::Collection.eq(collection))
            .exec(&self.connection)
            .await?;
        Ok(outcome.rows_affected > 0)
    }

    /// Returns the next documents after `last` (or from the start) in the order of ids.
    ///
    /// Pages keep no connection or read transaction open while a caller takes its time.
    pub(crate) async fn page(
        &self,
        collection: &str,
        filter: &Filter,
        last: Option<&str>,
        size: u64,
    ) -> Result<Vec<document::Model>, DbErr> {
        let mut select = document::Entity::find()
            .filter(document::Column::Collection.eq(collection))
            .filter(filter.condition.clone());
        select = match last {
            Some(last) => select.filter(document::Column::Id.gt(last)),
            None => select.offset(filter.skip),
        };
        select
            .order_by_asc(document::Column::Id)
            .limit(size)
            .all(&self.connection)
            .await
    }
}

async fn migrate(connection: &DatabaseConnection) -> anyhow::Result<()> {
    let row = connection
        .query_one_raw(sea_orm::Statement::from_string(
            connection.get_database_backend(),
            "PRAGMA user_version",
        ))
        .await?
        .context("the schema's version can't be read")?;
    let version: i32 = row.try_get_by_index(0)?;
    let applied = usize::try_from(version)?;
    ensure!(
        applied <= MIGRATIONS.len(),
        "its schema has version {version}, newer than this program's {}: use a newer program",
        MIGRATIONS.len()
    );
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(applied) {
        let transaction = connection.begin().await?;
        transaction.execute_unprepared(migration).await?;
        transaction
            .execute_unprepared(&format!("PRAGMA user_version = {}", index + 1))
            .await?;
        transaction.commit().await?;
    }
    Ok(())
}

//! The connections of a store, whichever engine it has: to its file, to its server, or to that one of its servers that can
//! be written to.

use std::sync::Arc;

use sea_orm::DbBackend;

use super::Fault;
use super::engine::{Pools, parallel};
use super::leader::Leader;
use super::location::Location;

/// Where operations get their connections from.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    engine: DbBackend,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Fixed(Arc<Pools>),
    Led(Arc<Leader>),
}

impl Connections {
    /// Connects to a store that exists.
    pub(super) async fn open(location: &Location) -> anyhow::Result<Self> {
        let fixed = |pools| Source::Fixed(Arc::new(pools));
        let (engine, source) = match location {
            Location::File(path) => (DbBackend::Sqlite, fixed(Pools::of_file(path).await?)),
            Location::Postgres(url) => (DbBackend::Postgres, fixed(Pools::of_server(url).await?)),
            Location::Servers(_, servers) => {
                let leader = Leader::find(servers).await?;
                (DbBackend::Postgres, Source::Led(Arc::new(leader)))
            }
        };
        Ok(Self { engine, source })
    }

    pub(super) fn engine(&self) -> DbBackend {
        self.engine
    }

    /// How many batches the engine runs at once.
    pub(super) fn parallel(&self) -> usize {
        parallel(self.engine) as usize
    }

    /// Those of now: one operation, or one step of it, uses the same from its beginning to its end.
    pub(super) fn current(&self) -> Result<Arc<Pools>, Fault> {
        match &self.source {
            Source::Fixed(pools) => Ok(pools.clone()),
            Source::Led(leader) => leader.current(),
        }
    }

    /// Why there are none, if so.
    pub(super) fn fault(&self) -> Option<Fault> {
        match &self.source {
            Source::Fixed(_) => None,
            Source::Led(leader) => leader.current().err(),
        }
    }

    /// Closes all.
    pub(super) async fn close(&self) -> Result<(), Fault> {
        match &self.source {
            Source::Fixed(pools) => Ok(pools.close().await?),
            Source::Led(leader) => {
                leader.close().await;
                Ok(())
            }
        }
    }
}

//! A consistent copy of a store that is in use.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use sea_orm::{ConnectionTrait as _, DbBackend, EntityTrait as _, PaginatorTrait as _, Statement};

use super::engine::Pools;
use super::location::Location;
use super::{document, schema};

/// Copies the store to the file `to`, which must not exist, and returns the number of its documents.
///
/// The copy is of one moment, whatever is written meanwhile, and needs no log beside it. It appears under its name
/// when it is checked and on stable storage.
pub async fn backup(from: &Location, to: &Path) -> anyhow::Result<u64> {
    let Location::File(source) = from else {
        bail!("the store `{from}` is PostgreSQL's: copy it with `pg_dump`");
    };
    ensure!(source.is_file(), "the store `{from}` does not exist");
    ensure!(
        !to.exists(),
        "`{}` already exists; remove it or choose another name",
        to.display()
    );
    let mut partial = OsString::from(to);
    partial.push(".partial");
    let partial = Path::new(&partial);
    let copied = copy(source, partial).await;
    let kept = match copied {
        Ok(documents) => std::fs::rename(partial, to)
            .and_then(|()| sync(to.parent().unwrap_or(Path::new("."))))
            .context("failed to rename the copy")
            .map(|()| documents),
        Err(error) => Err(error),
    };
    if kept.is_err() {
        // The copy's error is returned; the file may not exist.
        let _none = std::fs::remove_file(partial);
    }
    kept.with_context(|| format!("failed to copy the store `{from}` to `{}`", to.display()))
}

async fn copy(from: &Path, partial: &Path) -> anyhow::Result<u64> {
    if partial.exists() {
        std::fs::remove_file(partial).context("failed to remove an earlier partial copy")?;
    }
    let name = partial
        .to_str()
        .context("the copy's path is not UTF-8")?
        .to_owned();
    let source = Pools::of_file(from).await?;
    let vacuum = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [name.into()]);
    let vacuumed = source.scans.execute_raw(vacuum).await;
    source.close().await?;
    vacuumed?;
    sync(partial)?;
    let copy = Pools::of_file(partial).await?;
    let checked = schema::check(&copy.reads).await;
    let documents = document::Entity::find().count(&copy.reads).await;
    copy.close().await?;
    checked.context("the copy is damaged")?;
    Ok(documents?)
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    })?
    .sync_all()
}

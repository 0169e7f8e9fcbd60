//! The services against those of another build, such as of the commit before: its folder is in the variable `BASELINE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use pspd_tests::root;

use super::compare::{CALLERS, Target, compare};
use super::load::load_runtime;
use super::loopback::Server;
use super::{ai, database, say};

pub(crate) fn measure() -> anyhow::Result<()> {
    let Some(other) = std::env::var_os("BASELINE").map(PathBuf::from) else {
        say("skipped: BASELINE names no folder with the services of another build");
        return Ok(());
    };
    let folders = [root().join("target/services"), other];
    sizes(&folders)?;
    load_runtime()?.block_on(beside(&folders))
}

fn sizes(folders: &[PathBuf; 2]) -> anyhow::Result<()> {
    for name in ["database-server", "ai-server", "web-server"] {
        let size = |folder: &Path| -> anyhow::Result<u64> {
            let file = folder.join(name);
            let metadata = file.metadata();
            let metadata =
                metadata.with_context(|| format!("failed to find `{}`", file.display()))?;
            Ok(metadata.len())
        };
        let [ours, theirs] = [size(&folders[0])?, size(&folders[1])?];
        let ratio = ours as f64 / theirs as f64;
        say(&format!("{name}: {ours} and {theirs} bytes: {ratio:.2}"));
    }
    Ok(())
}

async fn beside(folders: &[PathBuf; 2]) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let stores = ["ours.sqlite", "theirs.sqlite"].map(|name| home.path().join(name));
    let [ours, theirs] = [0, 1].map(|side| start(&folders[side], &stores[side]));
    let (ours, theirs) = (ours?, theirs?);

    let read = [
        Target::open(
            &ours.database,
            database::READ,
            database::reads(&ours.database).await?,
        )
        .await?,
        Target::open(
            &theirs.database,
            database::READ,
            database::reads(&theirs.database).await?,
        )
        .await?,
    ];
    let documents: Arc<[_]> = (0..database::STORED).map(database::create).collect();
    let create = [
        Target::open(&ours.database, database::CREATE, documents.clone()).await?,
        Target::open(&theirs.database, database::CREATE, documents).await?,
    ];
    let learned = ai::rows(&root().join("tests/data/train.csv"))?;
    for server in [&ours.ai, &theirs.ai] {
        ai::train(&ai::client(server).await?, &learned).await?;
    }
    let asked = ai::rows(&root().join("tests/data/held-out.csv"))?;
    let texts: Arc<[_]> = asked.into_iter().map(|(text, _)| ai::ask(text)).collect();
    let predict = [
        Target::open(&ours.ai, ai::PREDICT, texts.clone()).await?,
        Target::open(&theirs.ai, ai::PREDICT, texts).await?,
    ];
    for callers in CALLERS {
        compare("Read", callers, read.each_ref()).await?;
        compare("Create", callers, create.each_ref()).await?;
        compare("Predict", callers, predict.each_ref()).await?;
    }
    Ok(())
}

struct Services {
    database: Server,
    ai: Server,
}

fn start(folder: &Path, store: &Path) -> anyhow::Result<Services> {
    let store = store.to_str().context("the path is UTF-8")?;
    let database = Server::service_of(folder, "database-server", &[("DATABASE_STORE", store)])?;
    let url = database.url();
    let ai = Server::service_of(folder, "ai-server", &[("AI_DATABASE", &url)])?;
    Ok(Services { database, ai })
}

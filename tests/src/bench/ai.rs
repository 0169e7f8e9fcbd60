//! The AI service beside the same contract in Python (grpcio, scikit-learn): predictions under load, training, memory.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use pspd_proto::ai::ai_service_client::AiServiceClient;
use pspd_proto::ai::{PredictRequest, TrainingData, TrainingStatus};
use pspd_tests::process::output;
use pspd_tests::root;
use tempfile::TempDir;
use tonic::Request;
use tonic::transport::Channel;

use super::compare::{CALLERS, Target, compare};
use super::load::load_runtime;
use super::loopback::Server;
use super::say;
use super::wire::framed;

pub(crate) const PREDICT: &str = "/ai.AiService/Predict";
const BASELINE: &str = "tests/baselines/ai-python";
/// The most memory that an idle service may use, in MiB.
const IDLE: f64 = 64.0;

pub(crate) fn measure() -> anyhow::Result<()> {
    let venv = prepare()?;
    load_runtime()?.block_on(measure_on(&venv))
}

async fn measure_on(venv: &Path) -> anyhow::Result<()> {
    let folder = TempDir::new()?;
    let (_database, ours) = services(&folder)?;
    let theirs = baseline(venv)?;
    let idle = [ours.memory()?, theirs.memory()?];
    say(&format!(
        "memory at start: service {:.0} MiB, baseline {:.0} MiB",
        idle[0], idle[1]
    ));
    ensure!(idle[0] < IDLE, "the idle service uses {:.0} MiB", idle[0]);

    let learned = rows(&root().join("tests/data/train.csv"))?;
    let asked = rows(&root().join("tests/data/held-out.csv"))?;
    for (name, server) in [("service", &ours), ("baseline", &theirs)] {
        let began = Instant::now();
        train(&client(server).await?, &learned).await?;
        let rate = learned.len() as f64 / began.elapsed().as_secs_f64();
        say(&format!(
            "{name} learns {rate:.0} examples/s of {}",
            learned.len()
        ));
    }
    let messages: Arc<[_]> = asked.into_iter().map(|(text, _)| ask(text)).collect();
    let service = Target::open(&ours, PREDICT, messages.clone()).await?;
    let baseline = Target::open(&theirs, PREDICT, messages).await?;
    for callers in CALLERS {
        compare("Predict", callers, [&service, &baseline]).await?;
    }
    say(&format!(
        "memory afterwards: service {:.0} MiB, baseline {:.0} MiB",
        ours.memory()?,
        theirs.memory()?
    ));
    Ok(())
}

pub(crate) fn ask(text: String) -> Bytes {
    framed(&PredictRequest {
        input_data: text,
        model_id: String::new(),
    })
}

/// Starts the database service and the AI service on it.
pub(crate) fn services(folder: &TempDir) -> anyhow::Result<(Server, Server)> {
    let store = folder.path().join("store");
    let store = store.to_str().context("the path is UTF-8")?;
    let database = Server::service("database-server", &[("DATABASE_STORE", store)])?;
    let ai = Server::service("ai-server", &[("AI_DATABASE", &database.url())])?;
    Ok((database, ai))
}

fn baseline(venv: &Path) -> anyhow::Result<Server> {
    Server::start("the Python baseline", |port| {
        let mut command = Command::new(venv.join("bin/python"));
        command
            .arg(root().join(BASELINE).join("server.py"))
            .arg(venv.join("stubs"))
            .arg(port.to_string());
        command
    })
}

pub(crate) async fn client(server: &Server) -> anyhow::Result<AiServiceClient<Channel>> {
    Ok(AiServiceClient::connect(server.url()).await?)
}

/// Trains the default model.
pub(crate) async fn train(
    client: &AiServiceClient<Channel>,
    rows: &[(String, String)],
) -> anyhow::Result<TrainingStatus> {
    let examples: Vec<TrainingData> = rows
        .iter()
        .map(|(input, expected_output)| TrainingData {
            input: input.clone(),
            expected_output: expected_output.clone(),
        })
        .collect();
    let request = Request::new(futures::stream::iter(examples));
    Ok(client.clone().train_model(request).await?.into_inner())
}

/// Reads texts and labels.
pub(crate) fn rows(path: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_path(path)
        .with_context(|| format!("failed to read `{}`", path.display()))?;
    reader
        .records()
        .map(|row| {
            let row = row?;
            let field = |index| {
                row.get(index)
                    .map(str::to_owned)
                    .context("a field is missing")
            };
            Ok((field(0)?, field(1)?))
        })
        .collect()
}

/// Creates the baseline's Python environment and its stubs if they do not exist yet.
pub(crate) fn prepare() -> anyhow::Result<std::path::PathBuf> {
    let venv = root().join("target/baselines/ai-python");
    let wanted = root().join(BASELINE).join("requirements.txt");
    let made = venv.join("requirements.txt");
    if std::fs::read(&made).ok() == Some(std::fs::read(&wanted)?) {
        return Ok(venv);
    }
    say("preparing the Python baseline");
    output(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv),
    )?;
    let pip = ["-m", "pip", "install", "--quiet", "-r"];
    output(Command::new(venv.join("bin/python")).args(pip).arg(&wanted))?;
    let stubs = venv.join("stubs");
    std::fs::create_dir_all(&stubs)?;
    output(
        Command::new(venv.join("bin/python"))
            .args(["-m", "grpc_tools.protoc", "-I"])
            .arg(root().join("proto"))
            .arg(format!("--python_out={}", stubs.display()))
            .arg(format!("--grpc_python_out={}", stubs.display()))
            .arg("ai_service.proto"),
    )?;
    std::fs::copy(wanted, made)?;
    Ok(venv)
}

/// Runs a script of the baseline and returns what it prints.
pub(crate) fn script(venv: &Path, name: &str, arguments: &[&Path]) -> anyhow::Result<String> {
    output(
        Command::new(venv.join("bin/python"))
            .arg(root().join(BASELINE).join(name))
            .args(arguments),
    )
}

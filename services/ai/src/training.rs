//! One training: reads its stream block by block, learns each block, and stores the model. After any error the previous
//! version stays in use.

use std::sync::Arc;
use std::time::Duration;

use pspd_proto::ai::TrainingData;
use serving::Problem;
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::format;
use crate::learning::Learning;
use crate::model::{LABELS, Labelled, Model, TooManyLabels};
use crate::model_store::{ModelStore, Saved, Stored};
use crate::registry::Training;
use crate::request::{check_label, check_text};

/// How much of a stream is learned at a time, in bytes of text and labels; limits a training's memory.
const BLOCK: usize = 4 * 1024 * 1024;
/// The longest pause of a stream: other trainings may wait for the same model.
const PAUSE: Duration = Duration::from_secs(30);
/// The most attempts to train a model that other replicas keep replacing.
const ATTEMPTS: usize = 5;

/// Learns a whole stream; returns the new version, which is then in use.
pub(crate) async fn train(
    id: &str,
    training: &Training,
    learning: &Learning,
    store: &ModelStore,
    mut stream: Streaming<TrainingData>,
) -> Result<Arc<Stored>, Status> {
    let mut block = read(&mut stream).await?;
    if block.is_empty() {
        let message = "the training stream has no examples";
        return Err(Problem::invalid("input", "NO_EXAMPLES", message).into());
    }
    let _turn = training.turn().await?;
    let (mut model, mut base) = copy(training);
    let mut blocks = 1;
    loop {
        (model, block) = learn(learning, model, block).await?;
        let next = read(&mut stream).await?;
        if next.is_empty() {
            break;
        }
        block = next;
        blocks += 1;
    }
    for _ in 0..ATTEMPTS {
        let (settled, bytes) = encode(learning, model).await?;
        model = settled;
        match store.save(id, &bytes, base).await? {
            Saved::Version(version) => {
                let (examples, bytes) = (model.examples, bytes.len());
                tracing::info!(model = id, version, examples, bytes, "trained");
                return Ok(training.entry.replace(Stored { model, version }));
            }
            // Only the last block is still in memory.
            Saved::Behind if blocks > 1 => break,
            Saved::Behind => {
                training.refresh().await?;
                (model, base) = copy(training);
                (model, block) = learn(learning, model, block).await?;
            }
        }
    }
    let message =
        format!("another replica trained model `{id}` meanwhile: send the examples again");
    Err(Problem::new(Code::Aborted, "MODEL_CHANGED", message)
        .retry_after(Duration::from_secs(1))
        .into())
}

/// A copy of the version in use, and its number.
fn copy(training: &Training) -> (Model, u64) {
    training
        .entry
        .current()
        .map_or_else(Default::default, |stored| {
            (stored.model.clone(), stored.version)
        })
}

async fn learn(
    learning: &Learning,
    mut model: Model,
    block: Vec<Labelled>,
) -> Result<(Model, Vec<Labelled>), Status> {
    let learned = learning
        .run(move || model.learn(&block).map(|()| (model, block)))
        .await?;
    learned.map_err(|TooManyLabels| {
        let message = format!("a model can have at most {LABELS} labels");
        Problem::invalid("expected_output", "TOO_MANY_LABELS", message).into()
    })
}

async fn encode(learning: &Learning, mut model: Model) -> Result<(Model, Vec<u8>), Status> {
    let encoded = learning
        .run(move || {
            format::settle(&mut model);
            format::encode(&model).map(|bytes| (model, bytes))
        })
        .await?;
    encoded.map_err(|error| Problem::internal("failed to encode the model", error).into())
}

/// Reads up to one block of examples; empty at the end of the stream.
async fn read(stream: &mut Streaming<TrainingData>) -> Result<Vec<Labelled>, Status> {
    let mut block = Vec::new();
    let mut size = 0;
    while size < BLOCK {
        let example = timeout(PAUSE, stream.message()).await.map_err(|_| {
            let message = format!("received no example for {} s", PAUSE.as_secs());
            Status::from(Problem::new(
                Code::DeadlineExceeded,
                "TRAINING_STALLED",
                message,
            ))
        })??;
        let Some(TrainingData {
            input,
            expected_output,
        }) = example
        else {
            break;
        };
        check_text("input", &input)?;
        check_label(&expected_output)?;
        size += input.len() + expected_output.len();
        block.push((input, expected_output));
    }
    Ok(block)
}

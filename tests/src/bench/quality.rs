//! The accuracy of the AI service against scikit-learn's (TF-IDF, the better of two linear models) on the same split of
//! two public data sets, and how well its confidence is calibrated.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Context as _;
use pspd_proto::ai::PredictRequest;
use pspd_tests::root;
use tempfile::TempDir;

use super::ai::{client, prepare, rows, script, services, train};
use super::load::{Until, run};
use super::say;

const SETS: [&str; 2] = ["packages", "news"];
const CALLERS: usize = 16;
const BINS: usize = 15;

pub(crate) fn measure() -> anyhow::Result<()> {
    let venv = prepare()?;
    let data = root().join("target/baselines/data");
    say(script(&venv, "datasets.py", &[&data])?.trim());
    for set in SETS {
        let part = |part: &str| data.join(format!("{set}-{part}.csv"));
        let theirs = script(&venv, "quality.py", &[&part("train"), &part("test")])?;
        let ours = Quality::measure(&rows(&part("train"))?, &rows(&part("test"))?)?;
        let best = theirs
            .split_whitespace()
            .filter_map(|word| word.parse::<f64>().ok())
            .fold(f64::NAN, f64::max);
        say(&format!(
            "{set}: service {:.2} %, scikit-learn: {}",
            ours.accuracy,
            theirs.trim().replace('\n', ", ")
        ));
        say(&format!(
            "{set}: {:+.2} points against the better; the training's own estimate {:.2} %, expected calibration error \
             {:.3}; learned at {:.0} examples/s, memory then {:.0} MiB",
            ours.accuracy - best,
            ours.estimate,
            ours.calibration,
            ours.rate,
            ours.memory
        ));
    }
    Ok(())
}

struct Quality {
    /// In percent, like `estimate`.
    accuracy: f64,
    estimate: f64,
    calibration: f64,
    rate: f64,
    memory: f64,
}

impl Quality {
    fn measure(learn: &[(String, String)], test: &[(String, String)]) -> anyhow::Result<Quality> {
        tokio::runtime::Runtime::new()?.block_on(async {
            let folder = TempDir::new()?;
            let (_database, server) = services(&folder)?;
            let client = client(&server).await?;
            let began = Instant::now();
            let status = train(&client, learn).await?;
            let rate = learn.len() as f64 / began.elapsed().as_secs_f64();

            let answers = Arc::new(Mutex::new(Vec::new()));
            let (asked, noted) = (test.to_vec(), answers.clone());
            run(
                CALLERS,
                Until::Calls(test.len() as u64),
                move |_, number| {
                    let mut client = client.clone();
                    let (text, label) = asked[number as usize].clone();
                    let noted = noted.clone();
                    async move {
                        let request = PredictRequest {
                            input_data: text,
                            model_id: String::new(),
                        };
                        let answer = client.predict(request).await?.into_inner();
                        if let Ok(mut noted) = noted.lock() {
                            noted.push((f64::from(answer.confidence), answer.prediction == label));
                        }
                        Ok::<_, tonic::Status>(())
                    }
                },
            )
            .await?;
            let answers = answers.lock().ok().context("no caller panicked")?;
            let right = answers.iter().filter(|(_, right)| *right).count();
            Ok(Quality {
                accuracy: 100.0 * right as f64 / test.len() as f64,
                estimate: 100.0 * f64::from(status.accuracy),
                calibration: calibration(&answers),
                rate,
                memory: server.memory()?,
            })
        })
    }
}

/// The expected calibration error: the difference between confidence and accuracy, over bins of confidence.
fn calibration(answers: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for &(confidence, right) in answers {
        let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(right));
    }
    let off: f64 = bins.iter().map(|(said, was)| (said - was).abs()).sum();
    off / answers.len() as f64
}

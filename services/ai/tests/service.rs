//! The service over a real database service, both with real TLS: answers, errors and restarts.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use database_server::{Indexes, Location, Store};
use futures::StreamExt as _;
use pspd_proto::ai::ai_service_client::AiServiceClient;
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{CreateRequest, DeleteRequest, QueryRequest};
use serving::testing::Authority;
use serving::{CancellationToken, Dependency, Link};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

const LIMIT: Duration = Duration::from_secs(60);

type Client = AiServiceClient<Link>;
type Training = JoinHandle<Result<Response<TrainingStatus>, Status>>;

/// A database service, and the settings of replicas of this service.
struct System {
    _folder: tempfile::TempDir,
    authority: Authority,
    database: Dependency,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl System {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::default();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (service, listener) = authority.service("database-server").await;
        let database = authority.dependency("database-server", service.listen);
        let store: &Path = &folder.path().join("store");
        let store = Store::open(&Location::File(store.to_owned()), Indexes::default())
            .await
            .unwrap();
        let stop = shutdown.clone();
        tasks.spawn(async move { database_server::serve(listener, &service, store, stop).await });
        Self {
            _folder: folder,
            authority,
            database,
            shutdown,
            tasks,
        }
    }

    async fn replica(&self) -> Replica {
        self.replica_with(ai_server::IDLE).await
    }

    /// A replica whose models leave memory after they were not used for `idle`.
    async fn replica_with(&self, idle: Duration) -> Replica {
        let (service, listener) = self.authority.service("ai-server").await;
        let dependency = self.authority.dependency("ai-server", service.listen);
        let config = ai_server::Config {
            service,
            database: self.database.clone(),
            idle,
        };
        let shutdown = self.shutdown.child_token();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { ai_server::serve(listener, &config, stop).await });
        Replica {
            client: AiServiceClient::new(dependency.connect()),
            shutdown,
            task,
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(outcome) = self.tasks.join_next().await {
            outcome.unwrap().unwrap();
        }
    }
}

struct Replica {
    client: Client,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn example(input: &str, label: &str) -> TrainingData {
    TrainingData {
        input: input.to_owned(),
        expected_output: label.to_owned(),
    }
}

fn news(rounds: usize) -> Vec<TrainingData> {
    let both = || {
        [
            example("the striker scored a late goal", "sport"),
            example("parliament passed the budget bill", "politics"),
        ]
    };
    (0..rounds).flat_map(|_| both()).collect()
}

fn training<S>(model: &str, stream: S) -> Request<S> {
    let mut request = Request::new(stream);
    let model = model.parse().unwrap();
    request.metadata_mut().insert("model-id", model);
    request
}

async fn train(
    client: &Client,
    model: &str,
    examples: Vec<TrainingData>,
) -> Result<TrainingStatus, Status> {
    let request = training(model, tokio_stream::iter(examples));
    Ok(client.clone().train_model(request).await?.into_inner())
}

/// Begins a training whose examples are sent later.
fn begin(client: &Client, model: &'static str) -> (mpsc::Sender<TrainingData>, Training) {
    let (examples, stream) = mpsc::channel(4);
    let mut client = client.clone();
    let call = tokio::spawn(async move {
        let request = training(model, ReceiverStream::new(stream));
        client.train_model(request).await
    });
    (examples, call)
}

async fn predict(client: &Client, model: &str, text: &str) -> Result<PredictResponse, Status> {
    let request = PredictRequest {
        input_data: text.to_owned(),
        model_id: model.to_owned(),
    };
    Ok(client.clone().predict(request).await?.into_inner())
}

async fn monitor(
    client: &Client,
    model: &str,
    interval: &str,
) -> Result<Streaming<ModelMetrics>, Status> {
    let mut request = Request::new(ModelIdentifier {
        model_id: model.to_owned(),
    });
    let interval = interval.parse().unwrap();
    request.metadata_mut().insert("interval-ms", interval);
    Ok(client.clone().monitor_model(request).await?.into_inner())
}

/// A status's code, and the reason of its ErrorInfo.
fn described(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["service"], "ai-server");
    (status.code(), info.reason)
}

/// Repeats a call until it returns the wanted answer.
async fn eventually<T, F: Future<Output = T>>(
    mut ask: impl FnMut() -> F,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let began = Instant::now();
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "timed out after {LIMIT:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_input_is_rejected_with_its_reason() {
    let system = System::start().await;
    let replica = system.replica().await;
    let client = &replica.client;
    train(client, "known", news(5)).await.unwrap();

    let long = "word ".repeat(30_000);
    let invalid = |reason: &str| (Code::InvalidArgument, reason.to_owned());
    let missing = (Code::NotFound, "MODEL_NOT_FOUND".to_owned());
    let asked = [
        ("nothing", "text", missing.clone()),
        ("known", " \n", invalid("TEXT_EMPTY")),
        ("known", &long, invalid("TEXT_TOO_LONG")),
        ("k/n", "text", invalid("MODEL_ID_INVALID")),
    ];
    for (model, text, expected) in asked {
        let status = predict(client, model, text).await.unwrap_err();
        assert_eq!(described(&status), expected);
    }

    let many = (0..65).map(|label| example("text", &format!("label {label}")));
    let trained = [
        (vec![], "NO_EXAMPLES"),
        (vec![example("", "sport")], "TEXT_EMPTY"),
        (vec![example(&long, "sport")], "TEXT_TOO_LONG"),
        (vec![example("text", " ")], "LABEL_INVALID"),
        (many.collect(), "TOO_MANY_LABELS"),
    ];
    for (examples, reason) in trained {
        let status = train(client, "other", examples).await.unwrap_err();
        assert_eq!(described(&status), invalid(reason));
    }

    let status = monitor(client, "known", "5").await.unwrap_err();
    assert_eq!(described(&status), invalid("INTERVAL_INVALID"));
    let status = monitor(client, "other", "1000").await.unwrap_err();
    assert_eq!(described(&status), missing);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_untrained_until_its_first_training_ends() {
    let system = System::start().await;
    let replica = system.replica().await;
    let client = &replica.client;

    let (examples, call) = begin(client, "new");
    examples.send(news(1).remove(0)).await.unwrap();
    let status = eventually(
        || predict(client, "new", "goal"),
        |answer| matches!(answer, Err(status) if status.code() == Code::FailedPrecondition),
    )
    .await
    .unwrap_err();
    assert_eq!(described(&status).1, "MODEL_UNTRAINED");

    for example in news(10) {
        examples.send(example).await.unwrap();
    }
    drop(examples);
    let status = call.await.unwrap().unwrap().into_inner();
    assert_eq!((status.model_id.as_str(), status.iterations), ("new", 21));
    let prediction = predict(client, "new", "a late goal").await.unwrap();
    assert_eq!(prediction.prediction, "sport");
    assert!(
        (0.5..1.0).contains(&prediction.confidence),
        "{prediction:?}"
    );
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_stream_leaves_the_last_good_model() {
    let system = System::start().await;
    let replica = system.replica().await;
    let client = &replica.client;
    train(client, "good", news(10)).await.unwrap();
    let before = predict(client, "good", "a late goal").await.unwrap();

    for model in ["good", "never"] {
        // The caller disconnects half way.
        let (examples, call) = begin(client, model);
        for _ in 0..50 {
            let wrong = example("a late goal", "politics");
            examples.send(wrong).await.unwrap();
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        // Another one sends an invalid example after many valid ones.
        let mut bad = vec![example("a late goal", "politics"); 50];
        bad.push(example("", "politics"));
        let status = train(client, model, bad).await.unwrap_err();
        assert_eq!(described(&status).1, "TEXT_EMPTY");
    }

    assert_eq!(
        predict(client, "good", "a late goal").await.unwrap(),
        before
    );
    let status = train(client, "good", news(1)).await.unwrap();
    assert_eq!(status.iterations, 22);
    eventually(
        || predict(client, "never", "a late goal"),
        |answer| matches!(answer, Err(status) if status.code() == Code::NotFound),
    )
    .await
    .unwrap_err();
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_are_answered_during_a_training() {
    let system = System::start().await;
    let replica = system.replica().await;
    let client = replica.client.clone();
    train(&client, "busy", news(10)).await.unwrap();

    let mut random = fastrand::Rng::with_seed(7);
    let examples: Vec<TrainingData> = (0..6000)
        .map(|_| {
            let words: Vec<String> = (0..12)
                .map(|_| format!("w{}", random.u32(..5000)))
                .collect();
            example(&words.join(" "), &format!("label {}", random.u32(..20)))
        })
        .collect();
    let call = tokio::spawn({
        let client = client.clone();
        async move { train(&client, "busy", examples).await }
    });
    let mut answered = 0;
    while !call.is_finished() {
        let prediction = predict(&client, "busy", "a late goal").await.unwrap();
        if !call.is_finished() {
            assert_eq!(prediction.prediction, "sport");
            answered += 1;
        }
    }
    assert_eq!(call.await.unwrap().unwrap().iterations, 6020);
    assert!(answered >= 20, "{answered} predictions were answered");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_reports_until_its_client_disconnects() {
    let system = System::start().await;
    let replica = system.replica().await;
    let client = replica.client.clone();
    let trained = train(&client, "watched", news(20)).await.unwrap();
    let watch = || async { monitor(&client, "watched", "100").await.unwrap() };

    let mut metrics = watch().await;
    let first = metrics.next().await.unwrap().unwrap();
    assert_eq!(first.current_accuracy, trained.accuracy);
    assert_eq!((first.predictions_made, first.average_confidence), (0, 0.0));
    let mut confidence = 0.0;
    for text in ["a late goal", "the budget bill", "goal"] {
        confidence += predict(&client, "watched", text).await.unwrap().confidence / 3.0;
    }
    let mut last = first.clone();
    while last.predictions_made < 3 {
        let next = timeout(LIMIT, metrics.next()).await.unwrap();
        last = next.unwrap().unwrap();
    }
    assert_eq!(last.predictions_made, 3);
    assert!(
        (last.average_confidence - confidence).abs() < 1e-4,
        "{last:?}"
    );
    assert!(last.timestamp > first.timestamp, "{last:?}");
    drop(metrics);

    // Streams of disconnected clients leave no task behind.
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let mut watches = Vec::new();
    for _ in 0..20 {
        let mut metrics = watch().await;
        metrics.next().await.unwrap().unwrap();
        watches.push(metrics);
    }
    assert!(tasks() >= before + 15, "{} of {before}", tasks());
    drop(watches);
    eventually(|| async { tasks() }, |tasks| *tasks <= before).await;

    // When the service stops, the stream ends without an error.
    let mut metrics = watch().await;
    metrics.next().await.unwrap().unwrap();
    replica.stop().await;
    let rest: Vec<_> = metrics.collect().await;
    assert!(rest.iter().all(Result::is_ok), "{rest:?}");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_survive_a_restart_and_improve() {
    let system = System::start().await;
    let replica = system.replica().await;
    train(&replica.client, "kept", news(10)).await.unwrap();
    let before = predict(&replica.client, "kept", "a late goal")
        .await
        .unwrap();
    replica.stop().await;

    let replica = system.replica().await;
    let client = &replica.client;
    let after = predict(client, "kept", "a late goal").await.unwrap();
    assert_eq!(after, before);
    let status = train(client, "kept", news(30)).await.unwrap();
    assert_eq!(status.iterations, 80);
    assert!(status.accuracy > 0.9, "{status:?}");
    let better = predict(client, "kept", "a late goal").await.unwrap();
    assert!(
        better.confidence > before.confidence,
        "{better:?}, {before:?}"
    );
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_use_and_train_the_same_model() {
    let system = System::start().await;
    let (one, other) = (system.replica().await, system.replica().await);
    let (one, other) = (&one.client, &other.client);
    train(one, "shared", news(10)).await.unwrap();
    let here = predict(one, "shared", "a late goal").await.unwrap();
    assert_eq!(predict(other, "shared", "a late goal").await.unwrap(), here);

    // The other replica has the model in memory now, and notices a newer version.
    let weather = vec![example("rain and wind from the west", "weather"); 10];
    train(one, "shared", weather).await.unwrap();
    let here = predict(one, "shared", "wind and rain").await.unwrap();
    assert_eq!(here.prediction, "weather");
    eventually(
        || predict(other, "shared", "wind and rain"),
        |there| there.as_ref().is_ok_and(|there| *there == here),
    )
    .await
    .unwrap();

    // Of two concurrent trainings neither is lost, the first one of a model or a later one.
    for round in 1..=4 {
        let (here, there) = tokio::join!(
            train(one, "contended", news(15)),
            train(other, "contended", news(20)),
        );
        let totals = [here.unwrap().iterations, there.unwrap().iterations];
        assert_eq!(totals.into_iter().max(), Some(round * 70));
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_are_not_used_leave_memory_until_their_next_use() {
    const HEADS: &str = "ai-models";
    let system = System::start().await;
    let replica = system.replica_with(Duration::from_secs(1)).await;
    let client = &replica.client;
    for model in ["left", "used", "watched"] {
        train(client, model, news(10)).await.unwrap();
    }
    let before = predict(client, "left", "a late goal").await.unwrap();
    let mut watched = monitor(client, "watched", "100").await.unwrap();

    // What is not in memory is not found while it is not in the store either.
    let mut database = DatabaseServiceClient::new(system.database.connect());
    let request = QueryRequest {
        collection: HEADS.to_owned(),
        query: String::new(),
    };
    let heads = database.query(request).await.unwrap().into_inner();
    let heads: Vec<_> = heads.map(Result::unwrap).collect().await;
    assert_eq!(heads.len(), 3);
    for head in &heads {
        let request = DeleteRequest {
            collection: HEADS.to_owned(),
            id: head.id.clone(),
        };
        database.delete(request).await.unwrap();
    }
    let began = Instant::now();
    let status = loop {
        // To ask for the model is a use, so this is done seldom; the others are in use meanwhile.
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(5) {
            let metrics = timeout(LIMIT, watched.next()).await.unwrap();
            assert!(metrics.unwrap().unwrap().current_accuracy > 0.0);
            let used = predict(client, "used", "a late goal").await.unwrap();
            assert_eq!(used, before);
        }
        match predict(client, "left", "a late goal").await {
            Err(status) => break status,
            Ok(_) => assert!(began.elapsed() < LIMIT, "it does not leave"),
        }
    };
    assert_eq!(described(&status).1, "MODEL_NOT_FOUND");

    for head in heads {
        let request = CreateRequest {
            collection: HEADS.to_owned(),
            data: head.data,
        };
        database.create(request).await.unwrap();
    }
    let after = predict(client, "left", "a late goal").await.unwrap();
    assert_eq!(after, before);
    let mut metrics = monitor(client, "left", "100").await.unwrap();
    let metrics = metrics.next().await.unwrap().unwrap();
    assert!(metrics.predictions_made >= 2, "{metrics:?}");
    system.stop().await;
}

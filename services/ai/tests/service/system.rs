//! The services under test, and calls of theirs.

use std::path::Path;
use std::time::Duration;

use database_server::{Indexes, Location, Store};
use pspd_proto::ai::ai_service_client::AiServiceClient;
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use serving::testing::Authority;
use serving::{CancellationToken, Dependency, Link};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::StatusExt as _;

/// The longest that an answer is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) type Client = AiServiceClient<Link>;
type Training = JoinHandle<Result<Response<TrainingStatus>, Status>>;

/// A database service, and the settings of replicas of this service.
pub(crate) struct System {
    _folder: tempfile::TempDir,
    authority: Authority,
    pub(crate) database: Dependency,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl System {
    pub(crate) async fn start() -> Self {
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

    pub(crate) async fn replica(&self) -> Replica {
        self.replica_with(ai_server::IDLE).await
    }

    /// A replica whose models leave memory after they were not used for `idle`.
    pub(crate) async fn replica_with(&self, idle: Duration) -> Replica {
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

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(outcome) = self.tasks.join_next().await {
            outcome.unwrap().unwrap();
        }
    }
}

pub(crate) struct Replica {
    pub(crate) client: Client,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn example(input: &str, label: &str) -> TrainingData {
    TrainingData {
        input: input.to_owned(),
        expected_output: label.to_owned(),
    }
}

pub(crate) fn news(rounds: usize) -> Vec<TrainingData> {
    let both = || {
        [
            example("the striker scored a late goal", "sport"),
            example("parliament passed the budget bill", "politics"),
        ]
    };
    (0..rounds).flat_map(|_| both()).collect()
}

pub(crate) fn training<S>(model: &str, stream: S) -> Request<S> {
    let mut request = Request::new(stream);
    let model = model.parse().unwrap();
    request.metadata_mut().insert("model-id", model);
    request
}

pub(crate) async fn train(
    client: &Client,
    model: &str,
    examples: Vec<TrainingData>,
) -> Result<TrainingStatus, Status> {
    let request = training(model, tokio_stream::iter(examples));
    Ok(client.clone().train_model(request).await?.into_inner())
}

/// Begins a training whose examples are sent later.
pub(crate) fn begin(
    client: &Client,
    model: &'static str,
) -> (mpsc::Sender<TrainingData>, Training) {
    let (examples, stream) = mpsc::channel(4);
    let mut client = client.clone();
    let call = tokio::spawn(async move {
        let request = training(model, ReceiverStream::new(stream));
        client.train_model(request).await
    });
    (examples, call)
}

pub(crate) async fn predict(
    client: &Client,
    model: &str,
    text: &str,
) -> Result<PredictResponse, Status> {
    let request = PredictRequest {
        input_data: text.to_owned(),
        model_id: model.to_owned(),
    };
    Ok(client.clone().predict(request).await?.into_inner())
}

pub(crate) async fn monitor(
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
pub(crate) fn described(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["service"], "ai-server");
    (status.code(), info.reason)
}

/// Repeats a call until it returns the wanted answer.
pub(crate) async fn eventually<T, F: Future<Output = T>>(
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

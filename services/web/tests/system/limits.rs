//! Limits between callers and backends: deadlines, cancellation, retries, slowness, flow control.
//!
//! The AI service is an implementation of this test, because it has to be slow, unavailable or observed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use futures::{StreamExt as _, stream};
use pspd_proto::ai::ai_service_server::{AiService, AiServiceServer};
use pspd_proto::ai::{
    ModelIdentifier, ModelMetrics, PredictRequest, PredictResponse, TrainingData, TrainingStatus,
};
use pspd_proto::business::business_service_client::BusinessServiceClient;
use pspd_proto::business::{ClassifyRequest, Example, Examples, LearnRequest, learn_request};
use serde_json::{Value, json};
use serving::testing::Authority;
use serving::{CancellationToken, Services};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::running::{System, WEB};

const TIMEOUT: Duration = Duration::from_secs(30);

/// An event of a call at the AI service.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// With its deadline.
    Came(Option<String>),
    /// Its handler was dropped without an answer.
    Dropped,
}

struct Call(UnboundedSender<Event>);

impl Drop for Call {
    fn drop(&mut self) {
        // The test may have ended.
        let _ = self.0.send(Event::Dropped);
    }
}

#[derive(Clone, Copy)]
enum Manner {
    /// Never answers.
    Hangs,
    /// Returns UNAVAILABLE this many times, then answers.
    Fails(usize),
}

struct OddAi {
    manner: Manner,
    calls: Arc<AtomicUsize>,
    events: UnboundedSender<Event>,
}

impl OddAi {
    async fn behave<T>(&self, request: Request<T>) -> Result<(), Status> {
        let deadline = request.metadata().get("grpc-timeout");
        let deadline = deadline.map(|value| value.to_str().unwrap().to_owned());
        let _ = self.events.send(Event::Came(deadline));
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        match self.manner {
            Manner::Hangs => {
                let _call = Call(self.events.clone());
                std::future::pending().await
            }
            Manner::Fails(times) if number < times => Err(Status::unavailable("not now")),
            Manner::Fails(_) => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl AiService for OddAi {
    async fn predict(
        &self,
        request: Request<PredictRequest>,
    ) -> Result<Response<PredictResponse>, Status> {
        self.behave(request).await?;
        Ok(Response::new(PredictResponse {
            prediction: "label".to_owned(),
            confidence: 1.0,
        }))
    }

    async fn train_model(
        &self,
        request: Request<Streaming<TrainingData>>,
    ) -> Result<Response<TrainingStatus>, Status> {
        self.behave(request).await?;
        Ok(Response::new(TrainingStatus::default()))
    }

    type MonitorModelStream = stream::Empty<Result<ModelMetrics, Status>>;

    async fn monitor_model(
        &self,
        _: Request<ModelIdentifier>,
    ) -> Result<Response<Self::MonitorModelStream>, Status> {
        // The history samples the model at any time: no call of these tests.
        Err(Status::not_found("no model"))
    }
}

struct Odd {
    system: System,
    calls: Arc<AtomicUsize>,
    events: UnboundedReceiver<Event>,
    _store: tempfile::TempDir,
}

impl Odd {
    async fn start(manner: Manner) -> Self {
        let store = tempfile::tempdir().unwrap();
        let (tell, events) = unbounded_channel();
        let calls = Arc::new(AtomicUsize::new(0));
        let ai = OddAi {
            manner,
            calls: calls.clone(),
            events: tell,
        };
        let authority = Authority::default();
        let (service, listener) = authority.service("ai-server").await;
        let address = service.listen;
        let services = Services::default().with(AiServiceServer::new(ai));
        tokio::spawn(async move {
            serving::serve(listener, &service, services, CancellationToken::new()).await
        });
        let store_file = store.path().join("store.sqlite");
        let system = System::start_before(&store_file, authority, address).await;
        Self {
            system,
            calls,
            events,
            _store: store,
        }
    }

    async fn next(&mut self) -> Event {
        timeout(TIMEOUT, self.events.recv()).await.unwrap().unwrap()
    }

    fn business(&self) -> BusinessServiceClient<serving::Link> {
        BusinessServiceClient::new(self.system.dependency(WEB).connect())
    }
}

fn text(text: &str) -> ClassifyRequest {
    ClassifyRequest {
        text: text.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_deadline_reaches_the_backend() {
    let mut odd = Odd::start(Manner::Hangs).await;
    let mut request = Request::new(text("x"));
    request.set_timeout(Duration::from_secs(5));
    let began = Instant::now();
    let refused = odd.business().classify(request).await.unwrap_err();
    assert!(
        matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{refused}"
    );
    assert!(began.elapsed() < TIMEOUT);
    let Event::Came(Some(timeout)) = odd.next().await else {
        panic!("the backend received no deadline");
    };
    let left: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..5_000_000).contains(&left), "{timeout}");
    assert_eq!(odd.next().await, Event::Dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_disconnects_cancels_the_backends_call() {
    let mut odd = Odd::start(Manner::Hangs).await;
    let mut business = odd.business();
    let call = tokio::spawn(async move { business.classify(text("x")).await });
    assert!(matches!(odd.next().await, Event::Came(Some(_))));
    call.abort();
    assert_eq!(odd.next().await, Event::Dropped);

    let request = format!(
        "POST /api/v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: 12\r\n\r\n{}",
        json!({"text": "x"})
    );
    let mut browser = tokio::net::TcpStream::connect(odd.system.http)
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut browser, request.as_bytes())
        .await
        .unwrap();
    assert!(matches!(odd.next().await, Event::Came(Some(_))));
    drop(browser);
    assert_eq!(odd.next().await, Event::Dropped);

    let source = learn_request::Source::Examples(Examples {
        examples: vec![Example::default()],
    });
    let request = LearnRequest {
        source: Some(source),
        ..Default::default()
    };
    let progress = odd.business().learn(request).await.unwrap();
    assert!(matches!(odd.next().await, Event::Came(Some(_))));
    drop(progress);
    assert_eq!(odd.next().await, Event::Dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_idempotent_calls_are_repeated() {
    let odd = Odd::start(Manner::Fails(2)).await;
    let document = odd
        .business()
        .classify(text("x"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(document.label, "label");
    assert_eq!(odd.calls.load(Ordering::SeqCst), 3);

    let odd = Odd::start(Manner::Fails(2)).await;
    let examples = json!({"examples": [{"text": "a", "label": "b"}]});
    let (status, problem) = odd.system.json("POST", "/models/m/train", examples).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert_eq!(problem["reason"], "DEPENDENCY_UNREACHABLE");
    assert_eq!(odd.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_does_not_delay_calls_to_the_other() {
    const HANGING: usize = 200;
    let mut odd = Odd::start(Manner::Hangs).await;
    let business = odd.business();
    let hanging: Vec<_> = (0..HANGING)
        .map(|_| {
            let mut business = business.clone();
            tokio::spawn(async move { business.classify(text("x")).await })
        })
        .collect();
    for _ in 0..HANGING {
        assert!(matches!(odd.next().await, Event::Came(_)));
    }
    let path = "/collections/notes/documents";
    let stored = odd.system.json("POST", path, json!({"a": 1}));
    let (status, stored) = timeout(TIMEOUT, stored).await.unwrap();
    assert_eq!(status, StatusCode::CREATED);
    let path = format!("{path}/{}", stored["id"].as_str().unwrap());
    let read = timeout(TIMEOUT, odd.system.json("GET", &path, Value::Null));
    assert_eq!(read.await.unwrap().0, StatusCode::OK);
    assert!(hanging.iter().all(|call| !call.is_finished()));
    // The dashboard still shows the values of the other backend.
    let mut business = odd.business();
    let request = pspd_proto::business::SummaryRequest {
        collection: "notes".to_owned(),
        ..Default::default()
    };
    let summaries = timeout(TIMEOUT, business.watch_summary(request))
        .await
        .unwrap();
    let mut summaries = summaries.unwrap().into_inner();
    let summary = timeout(TIMEOUT, summaries.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!((summary.documents, summary.model_accuracy), (Some(1), None));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_reads_no_results_limits_what_is_read_from_it() {
    const DOCUMENTS: usize = 400;
    const SIZE: usize = 64 * 1024;
    let odd = Odd::start(Manner::Fails(0)).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let documents = stream::iter(0..DOCUMENTS).map(move |number| {
        counter.fetch_add(1, Ordering::SeqCst);
        ClassifyRequest {
            reference: number.to_string(),
            ..text(&"x".repeat(SIZE))
        }
    });
    let results = odd.business().ingest(documents).await.unwrap();

    let mut seen = (sent.load(Ordering::SeqCst), Instant::now());
    let deadline = Instant::now() + Duration::from_secs(60);
    // Stalled: nothing more was sent for a second.
    while seen.1.elapsed() < Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "the sender never stalled");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = sent.load(Ordering::SeqCst);
        if now != seen.0 {
            seen = (now, Instant::now());
        }
    }
    let (stalled, worked_on) = (seen.0, odd.calls.load(Ordering::SeqCst));
    eprintln!("stopped after {stalled} of {DOCUMENTS} documents, {worked_on} of them worked on");
    assert!(stalled < DOCUMENTS / 2 && worked_on <= stalled);

    let results = results.into_inner();
    let mut references: Vec<_> = results
        .map(|result| result.unwrap().reference.parse::<usize>().unwrap())
        .collect()
        .await;
    references.sort_unstable();
    assert_eq!(references, (0..DOCUMENTS).collect::<Vec<_>>());
}

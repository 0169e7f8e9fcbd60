//! `business.BusinessService` over the real services: upload, learning with progress, collections, the dashboard.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use pspd_proto::business::business_service_client::BusinessServiceClient;
use pspd_proto::business::{
    HistoryRequest, HistorySample, LearnRequest, ListCollectionsRequest, Summary, SummaryRequest,
    UploadBatchRequest, UploadRequest, learn_request,
};
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use crate::running::{DATABASE, System, WEB, data};

/// A count is valid for twenty times as long as it took.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Reads the feed up to the wanted summary: a value that a backend does not report in time comes with a later one.
async fn until(feed: &mut Streaming<Summary>, wanted: impl Fn(&Summary) -> bool) -> Summary {
    let mut last = None;
    let read = async {
        loop {
            let summary = feed.next().await.unwrap().unwrap();
            if wanted(&summary) {
                break summary;
            }
            last = Some(summary);
        }
    };
    let read = timeout(TIMEOUT, read).await;
    read.unwrap_or_else(|_| panic!("the last summary was {last:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaded_documents_are_counted_listed_and_learned() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = System::start(&directory.path().join("store.sqlite")).await;
    let mut business = BusinessServiceClient::new(system.dependency(WEB).connect());

    let mut rows = csv::Reader::from_path(data("train.csv")).unwrap();
    let rows: Vec<(String, String)> = rows.deserialize().collect::<Result<_, _>>().unwrap();
    let documents = rows.len() as u64;
    let upload = |data: String, reference: &str| UploadRequest {
        collection: "examples".to_owned(),
        data,
        reference: reference.to_owned(),
    };
    let mut requests: Vec<_> = rows
        .iter()
        .map(|(text, label)| upload(json!({"text": text, "label": label}).to_string(), ""))
        .collect();
    requests.insert(3, upload("no json".to_owned(), "third"));
    let uploaded = business
        .upload(stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((uploaded.stored, uploaded.failed), (documents, 1));
    let failure = &uploaded.failures[0];
    assert_eq!(failure.reference, "third");
    let code = failure.failure.as_ref().unwrap().code;
    assert_eq!(Code::from_i32(code), Code::InvalidArgument);

    let request = LearnRequest {
        model_id: "m".to_owned(),
        source: Some(learn_request::Source::Collection("examples".to_owned())),
    };
    let progress = business.learn(request).await.unwrap().into_inner();
    let progress: Vec<_> = progress.map(Result::unwrap).collect().await;
    let counts: Vec<_> = progress.iter().map(|progress| progress.examples).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    let last = progress.last().unwrap();
    let result = last.result.as_ref().unwrap();
    assert_eq!(
        (last.examples as u64, result.model_id.as_str()),
        (documents, "m")
    );
    assert!(result.accuracy > 0.5, "{result:?}");

    // A collection is recorded in the background.
    let noted = async {
        loop {
            let list = business
                .list_collections(ListCollectionsRequest {})
                .await
                .unwrap();
            if list.into_inner().collections == ["examples"] {
                break;
            }
        }
    };
    timeout(TIMEOUT, noted).await.unwrap();

    let request = SummaryRequest {
        collection: "examples".to_owned(),
        model_id: "m".to_owned(),
        interval_milliseconds: 200,
    };
    let mut feed = business.watch_summary(request).await.unwrap().into_inner();
    let summary = until(&mut feed, |summary| {
        summary.documents.is_some()
            && summary.model_accuracy.is_some()
            && summary.backends.iter().all(|state| state.serving)
    })
    .await;
    let sum: u64 = summary.documents_by_label.values().sum();
    assert_eq!((summary.documents, sum), (Some(documents), documents));
    assert!(summary.model_accuracy.unwrap() > 0.5);

    // The feed survives a restart of the database.
    let serves = |summary: &Summary| {
        let mut states = summary.backends.iter();
        states.find(|state| state.name == DATABASE).unwrap().serving
    };
    system.kill(DATABASE);
    until(&mut feed, |summary| {
        !serves(summary) && summary.documents.is_none()
    })
    .await;
    system.start_service(DATABASE).await;
    until(&mut feed, |summary| {
        serves(summary) && summary.documents == Some(documents)
    })
    .await;
    system.stop().await;
}

/// The texts of numbers are those of the caller, also the ones that no float has.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_stored_as_it_is_and_names_what_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let mut business = BusinessServiceClient::new(system.dependency(WEB).connect());
    let exact = r#"{"z": 12345678901234567, "a": 1.10, "n": 12345678901234567890123}"#;
    let request = UploadBatchRequest {
        collection: "batch".to_owned(),
        documents: ["no json", exact, "[1]"].map(str::to_owned).to_vec(),
    };
    let uploaded = business.upload_batch(request).await.unwrap().into_inner();
    assert_eq!((uploaded.stored, uploaded.failed), (1, 2));
    let mut failures: Vec<_> = uploaded
        .failures
        .into_iter()
        .map(|failed| (failed.reference, failed.failure.unwrap().code))
        .collect();
    failures.sort();
    let invalid = i32::from(Code::InvalidArgument);
    assert_eq!(
        failures,
        [("0".to_owned(), invalid), ("2".to_owned(), invalid)]
    );
    let (_, listed) = system
        .text("GET", "/collections/batch/documents", String::new())
        .await;
    assert!(
        listed.ends_with(&format!("\"data\":{exact}}}]}}")),
        "{listed}"
    );
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_kept_while_nobody_watches() {
    let directory = tempfile::tempdir().unwrap();
    let mut system = System::start(&directory.path().join("store.sqlite")).await;
    let mut business = BusinessServiceClient::new(system.dependency(WEB).connect());
    let samples = async |business: &mut BusinessServiceClient<_>, model: &str| {
        let model_id = model.to_owned();
        let history = business.history(HistoryRequest { model_id }).await.unwrap();
        history.into_inner().samples
    };
    system.kill(DATABASE);
    // `other` is sampled from its first question on, `default` always.
    let (mut other, mut default) = (Vec::new(), Vec::<HistorySample>::new());
    let sampled = async {
        while other.is_empty() || !default.iter().any(|sample| !sample.serving[DATABASE]) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            other = samples(&mut business, "other").await;
            default = samples(&mut business, "").await;
        }
    };
    timeout(TIMEOUT, sampled).await.unwrap();
    assert!(default.len() >= other.len());
    let ages: Vec<_> = default
        .iter()
        .map(|sample| sample.age_milliseconds)
        .collect();
    assert!(ages.is_sorted_by(|older, newer| older > newer), "{ages:?}");
    for sample in &default {
        assert!(
            sample.serving[WEB] && sample.serving.len() == 3,
            "{sample:?}"
        );
    }
    system.stop().await;
}

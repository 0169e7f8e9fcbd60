//! Answers of predictions and monitors, and errors with their reasons.

use futures::StreamExt as _;
use pspd_proto::ai::TrainingData;
use tokio::time::timeout;
use tonic::Code;

use crate::system::{LIMIT, System, described, eventually, example, monitor, news, predict, train};

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

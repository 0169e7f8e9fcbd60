//! Models in the database: after a restart, of two replicas, and while they are not in memory.

use std::time::Duration;

use futures::StreamExt as _;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{CreateRequest, DeleteRequest, QueryRequest};
use tokio::time::{Instant, timeout};

use crate::system::{LIMIT, System, described, eventually, example, monitor, news, predict, train};

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

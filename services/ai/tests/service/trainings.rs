//! Models from their first example on, and what an interrupted training leaves.

use tonic::Code;

use crate::system::{System, begin, described, eventually, example, news, predict, train};

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

//! Health of a service whose dependency starts, stops and starts again.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use serving::testing::Authority;
use serving::{CancellationToken, Dependency, Service, Services};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Far more than needed, for a busy machine.
const BACK: Duration = Duration::from_secs(30);
/// As documented.
const GONE: Duration = Duration::from_secs(6);

fn start(
    service: Service,
    listener: TcpListener,
    services: Services,
) -> (CancellationToken, JoinHandle<anyhow::Result<()>>) {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let task =
        tokio::spawn(async move { serving::serve(listener, &service, services, stop).await });
    (shutdown, task)
}

async fn status(of: &Dependency) -> i32 {
    let mut client = HealthClient::new(of.connect());
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    answer.get_ref().status
}

/// Returns how long it took until health was `wanted`.
async fn until(of: &Dependency, wanted: ServingStatus, limit: Duration) -> Duration {
    let began = Instant::now();
    while status(of).await != wanted as i32 {
        assert!(
            began.elapsed() < limit,
            "timed out after {limit:?} waiting for {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_a_dependency() {
    let authority = Authority::default();
    let (database, listener) = authority.service("database").await;
    let at = database.listen;
    drop(listener);
    // The empty name stands for the database as a whole.
    let needed = authority.dependency("database", at);
    let (ai, ai_listener) = authority.service("ai").await;
    let asked = authority.dependency("ai", ai.listen);
    let services = Services::default().needing(&needed, "");
    let (ai_shutdown, ai_task) = start(ai, ai_listener, services);
    assert_eq!(status(&asked).await, ServingStatus::NotServing as i32);

    let mut took = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind(at).await.unwrap();
        let (shutdown, task) = start(database.clone(), listener, Services::default());
        took.push(until(&asked, ServingStatus::Serving, BACK).await);
        shutdown.cancel();
        task.await.unwrap().unwrap();
        took.push(until(&asked, ServingStatus::NotServing, GONE).await);
    }
    eprintln!("back, gone, back, gone took {took:?}");
    ai_shutdown.cancel();
    ai_task.await.unwrap().unwrap();
}

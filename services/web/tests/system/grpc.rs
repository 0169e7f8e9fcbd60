//! What gRPC clients and monitoring expect of all three services.

use std::collections::BTreeMap;

use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use pspd_proto::database::database_service_client::DatabaseServiceClient;
use pspd_proto::database::{CreateRequest, ReadRequest};
use pspd_proto::health::HealthListRequest;
use pspd_proto::health::health_client::HealthClient;
use tonic::Code;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tower::ServiceExt as _;

use crate::running::{AI, DATABASE, System, WEB};

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_compressed_for_clients_that_accept_it() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    let mut client = DatabaseServiceClient::new(system.dependency(DATABASE).connect())
        .send_compressed(Gzip)
        .accept_compressed(Gzip);
    let text = "a".repeat(100_000);
    let collection = "compressed".to_owned();
    let document = |text: &str| CreateRequest {
        collection: collection.clone(),
        data: format!(r#"{{"text":"{text}"}}"#),
    };
    let created = client.create(document(&text)).await.unwrap().into_inner();
    let read = ReadRequest {
        collection: collection.clone(),
        id: created.id,
    };
    let answer = client.read(read).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert!(answer.into_inner().data.contains(&text));

    for (text, compressed) in [("short", 0), (&*text, 1)] {
        assert_eq!(
            first_byte_of_an_answer(&system, document(text)).await,
            compressed
        );
    }

    let bomb = "a".repeat(2 * serving::MESSAGE_LIMIT);
    let refused = client.create(document(&bomb)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        serving::error::describe(&refused).reason,
        "MESSAGE_TOO_LARGE"
    );
    system.stop().await;
}

/// Creates a document, reads it as a client that accepts gzip, and returns whether the answer's message is compressed.
async fn first_byte_of_an_answer(system: &System, document: CreateRequest) -> u8 {
    let channel = system.dependency(DATABASE).connect();
    let mut client = DatabaseServiceClient::new(channel.clone());
    let collection = document.collection.clone();
    let id = client.create(document).await.unwrap().into_inner().id;
    let message = ReadRequest { collection, id }.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let request = Request::post("/database.DatabaseService/Read")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-accept-encoding", "identity,gzip")
        .body(Body::new(Full::from(framed)))
        .unwrap();
    let answer = channel.oneshot(request).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_lists_its_health_and_shows_metrics_of_its_methods() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::start(&directory.path().join("store.sqlite")).await;
    for (service, name) in [
        (DATABASE, "database.DatabaseService"),
        (AI, "ai.AiService"),
        (WEB, "business.BusinessService"),
    ] {
        let channel = system.dependency(service).connect();
        let listed = HealthClient::new(channel.clone())
            .list(HealthListRequest {})
            .await
            .unwrap();
        let listed: BTreeMap<_, _> = listed.into_inner().statuses.into_iter().collect();
        assert_eq!(listed.keys().collect::<Vec<_>>(), ["", name], "{service}");

        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = channel.oneshot(request).await.unwrap();
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let list = r#"{grpc_service="grpc.health.v1.Health",grpc_method="List""#;
        assert!(
            text.contains(&format!(
                "grpc_server_handled_total{list},grpc_code=\"OK\"}} 1"
            )),
            "{service}: {text}"
        );
        assert!(
            text.contains(&format!("grpc_server_handling_seconds_count{list}}} 1")),
            "{service}: {text}"
        );
    }
    system.stop().await;
}

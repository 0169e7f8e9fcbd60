//! Every protocol against one server on loopback, with real TLS.

#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
use protocol_bench::calls::Calls;
use protocol_bench::connector::Target;
use protocol_bench::handler;
use protocol_bench::measure::{self, Case, LARGE, Line, Operation, Plan};
use protocol_bench::protocol::{Kind, Protocol};
use protocol_bench::records::{Record, Summary};
use protocol_bench::server::Server;
use protocol_bench::tls::Identity;
use tokio::runtime::Runtime;

/// A server on a thread of its own, for all tests.
fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let identity = identity();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let server = Server::bind("127.0.0.1:0".parse().unwrap(), &identity);
                let server = server.await.unwrap();
                let address = server.address().unwrap();
                let target = Target::new(address, "localhost".to_owned(), &identity).unwrap();
                sender.send(target).unwrap();
                server.serve().await.unwrap();
            });
        });
        receiver.recv().unwrap()
    })
}

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

/// One certificate that is its own authority, for both sides.
fn identity() -> Identity {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::CertifiedIssuer::self_signed(params, authority).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let cert = names.signed_by(&key, &issuer).unwrap();
    let (ca, cert, key) = (issuer.pem(), cert.pem(), key.serialize_pem());
    Identity::parse(ca.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
}

fn caller(protocol: Protocol) -> Box<dyn Calls> {
    let (_, mut callers) = protocol.callers(target(), 1).unwrap();
    callers.remove(0)
}

/// Texts of the characters that XML has, with many of those that it escapes or normalizes.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "<",
        ">",
        "&",
        "\"",
        "'",
        "\r",
        "\n",
        "\r\n",
        "\t",
        " ",
        "]]>",
        "&amp;",
        "\\",
        "\u{85}",
        "\u{2028}",
        "\u{1f980}",
        "é",
    ]);
    let any = any::<char>().prop_filter("XML has no such character", |&one| {
        one >= ' ' && !matches!(one, '\u{fffe}' | '\u{ffff}')
    });
    let part = prop_oneof![special.prop_map(str::to_owned), any.prop_map(String::from)];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

fn record() -> impl Strategy<Value = Record> {
    let data = prop::collection::vec(any::<u8>(), 0..200);
    (text(), text(), any::<u32>(), data).prop_map(|(key, text, number, data)| Record {
        key,
        text,
        number,
        data,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_protocol_gives_the_same_answers(records in prop::collection::vec(record(), 0..5)) {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        let bytes = records.iter().map(|record| record.data.len() as u64).sum();
        let summary = Summary { records: records.len() as u32, bytes };
        RUNTIME.get_or_init(runtime).block_on(async {
            for protocol in Protocol::ALL {
                let mut calls = caller(protocol);
                for record in &records {
                    let answer = calls.echo(record.clone()).await.unwrap();
                    assert_eq!(&answer, record, "{protocol:?}");
                }
                let answer = calls.upload(records.clone()).await.unwrap();
                assert_eq!(answer, summary, "{protocol:?}");
                if protocol.has(Kind::Bidirectional) {
                    let answer = calls.chat(records.clone()).await.unwrap();
                    assert_eq!(answer, records, "{protocol:?}");
                }
            }
        });
    }
}

#[test]
fn every_protocol_lists_the_same_records() {
    runtime().block_on(async {
        for count in [0, 1, 1000] {
            let expected: Vec<Record> = (0..count).map(handler::record).collect();
            for protocol in Protocol::ALL {
                let answer = caller(protocol).list(count).await.unwrap();
                assert_eq!(answer, expected, "{protocol:?}");
            }
        }
    });
}

#[test]
fn a_refusal_reaches_the_caller_and_the_connection_stays_usable() {
    runtime().block_on(async {
        for protocol in Protocol::ALL {
            let mut calls = caller(protocol);
            let error = calls.list(handler::LIST_LIMIT + 1).await.unwrap_err();
            let error = format!("{error:#}");
            assert!(
                error.contains("longer than 100000"),
                "{protocol:?}: {error}"
            );
            assert_eq!(calls.list(2).await.unwrap().len(), 2, "{protocol:?}");
        }
    });
}

#[test]
fn only_soap_has_no_control_characters() {
    let mut record = handler::record(0);
    record.text = "a\u{1}b".to_owned();
    runtime().block_on(async {
        for protocol in Protocol::ALL {
            let answer = caller(protocol).echo(record.clone()).await;
            match protocol {
                Protocol::Soap => {
                    let error = answer.unwrap_err().to_string();
                    assert!(error.contains("XML has no character '\\u{1}'"), "{error}");
                }
                _ => assert_eq!(answer.unwrap(), record, "{protocol:?}"),
            }
        }
    });
}

#[test]
fn what_a_protocol_cannot_do_is_an_error() {
    runtime().block_on(async {
        for protocol in Protocol::ALL {
            let answer = caller(protocol).chat(vec![handler::record(0)]).await;
            assert_eq!(
                answer.is_ok(),
                protocol.has(Kind::Bidirectional),
                "{protocol:?}"
            );
        }
    });
}

#[test]
fn a_run_measures_every_case() {
    let plan = Plan {
        rounds: 2,
        time: Duration::from_millis(20),
        callers: vec![1, 3],
    };
    let (mut steps, mut cases) = (0, Vec::new());
    runtime()
        .block_on(measure::run(target(), &plan, |line| {
            match line {
                Line::Progress { done, total, .. } => {
                    assert_eq!((done, total), (steps, 2 * 2 * 27));
                    steps += 1;
                }
                Line::Cases(results) => cases = results,
            }
            Ok(())
        }))
        .unwrap();
    assert_eq!((steps, cases.len()), (2 * 2 * 27, 2 * 27));
    for case in &cases {
        assert!(case.calls >= 2 * case.callers as u64, "{case:?}");
        assert_eq!(case.throughput.len(), 2, "{case:?}");
        assert!(case.throughput.iter().all(|&rate| rate > 0.0), "{case:?}");
        assert!(0.0 < case.p50_ms && case.p50_ms <= case.p90_ms, "{case:?}");
        assert!(
            case.p90_ms <= case.p99_ms && case.p99_ms <= case.maximum_ms * 1.001,
            "{case:?}"
        );
        assert!(
            case.caller_cpu_seconds > 0.0 && case.server_cpu_seconds > 0.0,
            "{case:?}"
        );
        let (connections, callers) = (case.connections, case.callers as u64);
        assert!(
            match case.protocol {
                Protocol::Grpc | Protocol::RestHttp2 => connections == 1,
                // A pool may open more than it needs at once.
                Protocol::RestHttp1 | Protocol::Soap => connections >= 1,
                Protocol::WebsocketJson | Protocol::WebsocketProtobuf => connections == callers,
            },
            "{case:?}"
        );
    }
    bytes_are_those_of_the_encodings(&cases);
}

fn bytes_are_those_of_the_encodings(cases: &[Case]) {
    let large = |protocol| {
        let mut cases = cases.iter();
        let case = cases.find(|case| {
            case.protocol == protocol
                && case.operation == Operation::UnaryLarge
                && case.callers == 1
        });
        case.unwrap()
    };
    let size = LARGE as f64;
    for protocol in Protocol::ALL {
        let case = large(protocol);
        let base64 = !matches!(protocol, Protocol::Grpc | Protocol::WebsocketProtobuf);
        let least = if base64 { size * 4.0 / 3.0 } else { size };
        for bytes in [case.sent_bytes, case.received_bytes] {
            // TLS, HTTP and the frames add less than 4 %.
            assert!(least < bytes && bytes < least * 1.04, "{case:?}");
        }
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let target = Target::new(address, "localhost".to_owned(), &identity()).unwrap();
    let plan = Plan {
        rounds: 1,
        time: Duration::from_millis(1),
        callers: vec![1],
    };
    let error = runtime()
        .block_on(measure::run(&target, &plan, |_| Ok(())))
        .unwrap_err();
    assert!(
        format!("{error:#}").starts_with("gRPC: small unary, 1 caller: "),
        "{error:#}"
    );
}

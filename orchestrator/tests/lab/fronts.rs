//! Published HTTP servers: HAProxy between clients and servers of the host, without a lab. `main` has one in a lab.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use pspd_lab::{FrontSettings, Lab, Relay};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::servers::listening_inside;
use super::{free_address, poll, program};

/// Longer than any answer takes, also while a server is restarted.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// An HTTP server of the host: it answers with the head of each request.
struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Each lets one stream of events go on.
    go_on: mpsc::Sender<()>,
}

impl HttpServer {
    fn at(address: SocketAddr) -> HttpServer {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (go_on, may_go_on) = mpsc::channel();
        let may_go_on = Arc::new(Mutex::new(may_go_on));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let may_go_on = may_go_on.clone();
                        std::thread::spawn(move || answer(stream, &may_go_on));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        HttpServer {
            address,
            stop,
            thread: Some(thread),
            go_on,
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Reads one head.
fn head(stream: &mut TcpStream) -> String {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

fn answer(mut stream: TcpStream, may_go_on: &Mutex<mpsc::Receiver<()>>) {
    let asked = head(&mut stream);
    let path = asked.split(' ').nth(1).unwrap_or_default();
    // Clients may be gone: the tests say so then.
    let _ = match path {
        "/events" => {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: 1\n\n",
            );
            may_go_on.lock().unwrap().recv().unwrap();
            stream.write_all(b"data: 2\n\n")
        }
        "/upgrade" => {
            let _ = stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            );
            let mut echo = stream.try_clone().unwrap();
            std::io::copy(&mut stream, &mut echo).map(drop)
        }
        _ => write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{asked}",
            asked.len()
        ),
    };
}

fn open(front: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The answer to a request with further header lines.
fn get(front: SocketAddr, host: &str, lines: &str) -> String {
    let request = format!("GET /head HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
    let mut answer = String::new();
    open(front, &request).read_to_string(&mut answer).unwrap();
    answer
}

/// Reads until the text ends with this.
fn read_to(stream: &mut TcpStream, end: &str) {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(end.as_bytes()) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed before `{end}`");
        text.push(byte[0]);
    }
}

fn settings(guest: SocketAddr, hosts: &[&str]) -> FrontSettings {
    FrontSettings {
        guest,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        certificate: None,
    }
}

/// A certificate for `a.example`, and its key.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let both = pem.clone() + &key.serialize_pem();
    (pem, both)
}

/// The processes that serve a front.
fn processes(front: SocketAddr) -> Vec<Pid> {
    let config = front.to_string().replace(':', "_");
    let found = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let serves =
                line.starts_with("/") && line.contains("haproxy") && line.contains(&config);
            let pid = entry.file_name().to_str()?.parse().ok()?;
            serves.then(|| Pid::from_raw(pid))?
        });
    found.collect()
}

struct Front {
    relay: Option<Relay>,
    address: SocketAddr,
    home: tempfile::TempDir,
}

impl Front {
    fn new() -> Front {
        let home = tempfile::tempdir().unwrap();
        Front {
            relay: Some(Relay::start_with(&program(), home.path()).unwrap()),
            address: free_address(),
            home,
        }
    }

    fn serve(&self, settings: FrontSettings) {
        self.relay().front(self.address, settings, None).unwrap();
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap()
    }

    fn folder(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.stop().unwrap();
        }
        assert_eq!(processes(self.address), [], "left by the relay");
    }
}

#[test]
fn a_front_says_who_asks_and_believes_no_client() {
    let (front, server) = (Front::new(), HttpServer::at(free_address()));
    front.serve(settings(server.address, &[]));
    let forged = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-proto: https\r\nX-Real-Ip: 6.6.6.6\r\n\
        X-Forwarded-Host: evil.example\r\nForwarded: for=6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\
        X-Forwarded-Prefix: /evil\r\nX-Forwarded: 6.6.6.6\r\nX-Other: kept\r\n";
    let answer = get(front.address, "a.example:8080", forged);
    let (_, asked) = answer.split_once("\r\n\r\n").unwrap();
    let lines: BTreeSet<&str> = asked.trim_end().lines().skip(1).collect();
    let expected = [
        "connection: close",
        "host: a.example:8080",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.example:8080",
        "x-forwarded-proto: http",
        "x-other: kept",
        "x-real-ip: 127.0.0.1",
    ];
    assert_eq!(lines, BTreeSet::from(expected), "{answer}");
}

#[test]
fn other_host_names_are_misdirected() {
    let (front, server) = (Front::new(), HttpServer::at(free_address()));
    front.serve(settings(server.address, &["a.example", "2001:db8::1"]));
    for (host, status) in [
        ("a.example", 200),
        ("A.Example:8080", 200),
        ("[2001:db8::1]:80", 200),
        ("b.example", 421),
        ("a.example.org", 421),
        ("a.example.", 421),
        ("127.0.0.1", 421),
    ] {
        let answer = get(front.address, host, "");
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{host}: {answer}");
    }
}

#[test]
fn a_change_refuses_no_connection_and_breaks_no_stream() {
    let (front, server) = (Front::new(), HttpServer::at(free_address()));
    front.serve(settings(server.address, &[]));
    let upgrade = "GET /upgrade HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut socket = open(front.address, upgrade);
    let switched = head(&mut socket);
    assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
    let mut events = open(
        front.address,
        "GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n",
    );
    read_to(&mut events, "data: 1\n\n");

    // Every client of every moment is answered.
    let done = AtomicBool::new(false);
    let answered = std::thread::scope(|threads| {
        let clients = [0, 1].map(|_| {
            threads.spawn(|| {
                let mut answered = 0;
                while !done.load(Ordering::SeqCst) {
                    let answer = get(front.address, "a.example", "");
                    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                    answered += 1;
                }
                answered
            })
        });
        for hosts in [&["a.example"][..], &["a.example", "b.example"], &[]] {
            front.serve(settings(server.address, hosts));
        }
        done.store(true, Ordering::SeqCst);
        clients.map(|client| client.join().unwrap())
    });
    assert!(answered.iter().all(|count| *count > 0), "{answered:?}");

    socket.write_all(b"echo").unwrap();
    read_to(&mut socket, "echo");
    server.go_on.send(()).unwrap();
    read_to(&mut events, "data: 2\n\n");
    drop(events);
    front.relay().unpublish(front.address).unwrap();
    // A reset is an end, too.
    assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(front.address).is_err());
    poll("the processes to end", || {
        processes(front.address).is_empty()
    });
}

#[test]
fn a_front_that_is_killed_comes_back() {
    let (front, server) = (Front::new(), HttpServer::at(free_address()));
    front.serve(settings(server.address, &[]));
    for _ in 0..3 {
        let [before] = processes(front.address)[..] else {
            panic!("not one process");
        };
        kill_process(before, Signal::KILL).unwrap();
        let answer = get(front.address, "a.example", "");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        poll(
            "another process",
            || matches!(processes(front.address)[..], [now] if now != before),
        );
    }
    // The process of a change replaces the restarted one, which has no request left.
    front.serve(settings(server.address, &["a.example"]));
    poll("one process", || processes(front.address).len() == 1);
    assert!(get(front.address, "b.example", "").starts_with("HTTP/1.1 421 "));
}

#[test]
fn a_request_waits_for_a_server_that_is_restarted() {
    let (front, server) = (Front::new(), HttpServer::at(free_address()));
    front.serve(settings(server.address, &[]));
    let guest = server.address;
    drop(server);
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| get(front.address, "a.example", ""));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished());
        let _server = HttpServer::at(guest);
        let answer = waiting.join().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

#[tokio::test]
async fn grpc_passes_over_tls_and_http2() {
    let guest = free_address();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("demo.Demo", tonic_health::ServingStatus::Serving)
        .await;
    tokio::spawn(Server::builder().add_service(service).serve(guest));
    let front = Front::new();
    let (trusted, pem) = certificate();
    let own = FrontSettings {
        certificate: Some("first".into()),
        ..settings(guest, &["a.example"])
    };
    front
        .relay()
        .front(front.address, own.clone(), Some(pem))
        .unwrap();
    let status = front.relay().fronts().unwrap();
    assert_eq!(status.len(), 1);
    assert_eq!((status[0].host, &status[0].settings), (front.address, &own));
    closed_to_others(&front.folder().join("front"));

    // The client speaks HTTP/2 only.
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusted))
        .domain_name("a.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", front.address)).unwrap();
    let endpoint = endpoint.origin("https://a.example".parse().unwrap());
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let asked = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let answer = client.check(asked("demo.Demo")).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);
    // A status is in the trailers.
    let refused = client.check(asked("other")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let mut stream = client.watch(asked("demo.Demo")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    reporter
        .set_service_status("demo.Demo", tonic_health::ServingStatus::NotServing)
        .await;
    assert_eq!(stream.message().await.unwrap().unwrap().status, 2);
}

fn closed_to_others(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let files = fs::read_dir(folder).unwrap().flatten();
    let keys: Vec<_> = files
        .filter(|file| file.path().extension().is_some_and(|it| it == "pem"))
        .collect();
    assert_eq!(keys.len(), 1);
    let mode = keys[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_change_that_haproxy_does_not_accept_leaves_the_front() {
    let (front, server) = (Front::new(), HttpServer::at(free_address()));
    let bad = || FrontSettings {
        certificate: Some("bad".into()),
        ..settings(server.address, &[])
    };
    let refused = || {
        let pem = Some("no certificate".to_owned());
        let error = front.relay().front(front.address, bad(), pem).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("HAProxy does not start: "), "{error}");
        assert!(error.contains("unable to load"), "{error}");
    };
    refused();
    assert!(TcpStream::connect(front.address).is_err());
    front.serve(settings(server.address, &["a.example"]));
    refused();
    let hosts = &front.relay().fronts().unwrap()[0].settings.hosts;
    assert_eq!(hosts.len(), 1);
    assert!(get(front.address, "a.example", "").starts_with("HTTP/1.1 200 "));
    assert!(get(front.address, "b.example", "").starts_with("HTTP/1.1 421 "));
}

/// A front of a server in a lab, which the server sees as the lab's own address.
pub(crate) fn front_reaches_the_lab(lab: &Lab, guest: SocketAddr) {
    let script = format!(
        "from http.server import BaseHTTPRequestHandler, HTTPServer\n\
         class Say(BaseHTTPRequestHandler):\n\
         \x20 def do_GET(self):\n\
         \x20   said = self.client_address[0] + ' for ' + self.headers['X-Real-IP']\n\
         \x20   self.send_response(200); self.end_headers(); self.wfile.write(said.encode())\n\
         \x20 def log_message(self, *args): pass\n\
         server = HTTPServer(('{}', {}), Say)\n\
         print('listening', flush=True)\n\
         server.serve_forever()\n",
        guest.ip(),
        guest.port()
    );
    let _server = listening_inside(lab, &script);
    let front = free_address();
    lab.relay()
        .front(front, settings(guest, &[]), None)
        .unwrap();
    let answer = get(front, "a.example", "");
    let expected = format!("\r\n\r\n{} for 127.0.0.1", guest.ip());
    assert!(answer.ends_with(&expected), "{answer}");
    assert_eq!(lab.published().unwrap(), [(front, guest)]);
    lab.unpublish(front).unwrap();
    assert!(TcpStream::connect(front).is_err());
}

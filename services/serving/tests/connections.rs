//! The limits of open connections, and that silent ones are closed, with TLS and without.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use rustls::pki_types::ServerName;
use serving::testing::Authority;
use serving::tls::Identity;
use serving::{Callers, CancellationToken, Limits, Services};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(30);

struct Server {
    address: std::net::SocketAddr,
    /// None without TLS.
    caller: Option<Identity>,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Requests = h2::client::SendRequest<Bytes>;

impl Server {
    async fn start(tls: bool, limits: Limits) -> Self {
        let authority = Authority::default();
        let (mut service, listener) = authority.service("database").await;
        service.limits = limits;
        let (address, caller) = (service.listen, tls.then(|| authority.identity("pspd")));
        if !tls {
            service.identity = None;
            service.callers = Callers::Anyone;
        }
        tokio::spawn(async move {
            let services = Services::default();
            serving::serve(listener, &service, services, CancellationToken::new()).await
        });
        Self { address, caller }
    }

    async fn stream(&self) -> Box<dyn Io> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        match &self.caller {
            None => Box::new(stream),
            Some(identity) => {
                let connector = tokio_rustls::TlsConnector::from(identity.client());
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(connector.connect(name, stream).await.unwrap())
            }
        }
    }

    /// A connection that was answered, or why it was not.
    async fn connect(&self) -> Result<(Requests, String), h2::Error> {
        let (requests, connection) = h2::client::handshake(self.stream().await).await?;
        let ended = tokio::spawn(connection);
        let mut requests = match requests.ready().await {
            Ok(requests) => requests,
            Err(error) => return Err(ended.await.unwrap().err().unwrap_or(error)),
        };
        match self.metrics(&mut requests).await {
            Ok(metrics) => Ok((requests, metrics)),
            Err(error) => Err(ended.await.unwrap().err().unwrap_or(error)),
        }
    }

    async fn metrics(&self, requests: &mut Requests) -> Result<String, h2::Error> {
        let scheme = if self.caller.is_some() {
            "https"
        } else {
            "http"
        };
        let request = http::Request::get(format!("{scheme}://{}/metrics", self.address));
        let (response, _) = requests.send_request(request.body(()).unwrap(), true)?;
        let mut body = response.await?.into_body();
        let mut text = Vec::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            text.extend_from_slice(&data);
        }
        Ok(String::from_utf8(text).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_a_limit_is_refused_and_the_others_continue() {
    for (tls, all, of_source) in [(false, 10, 2), (true, 10, 2), (false, 2, 10)] {
        let server = Server::start(tls, Limits { all, of_source }).await;
        let (mut first, _) = server.connect().await.unwrap();
        let (second, _) = server.connect().await.unwrap();
        let refused = server.connect().await.unwrap_err();
        assert!(refused.is_go_away() && refused.is_remote(), "{refused:?}");
        assert_eq!(refused.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
        let text = format!("{refused:?}");
        let expected = match of_source {
            2 => "2 connections of 127.0.0.1 are open",
            _ => "2 connections are open",
        };
        assert!(text.contains(expected), "{text}");

        let metrics = server.metrics(&mut first).await.unwrap();
        let line = "grpc_server_connections_refused_total 1";
        assert!(metrics.lines().any(|one| one == line), "{metrics}");
        drop(second);
        let began = Instant::now();
        while let Err(error) = server.connect().await {
            assert!(began.elapsed() < LIMIT, "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_before_the_longest_handshake() {
    const LIMIT: Duration = Duration::from_secs(15);
    for tls in [false, true] {
        let server = Server::start(tls, Limits::default()).await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        let closed = tokio::time::timeout(LIMIT, silent.read(&mut [0; 1])).await;
        assert_eq!(closed.unwrap().unwrap(), 0, "TLS: {tls}");
    }
}

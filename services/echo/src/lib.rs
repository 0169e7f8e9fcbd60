//! `echo.EchoService`: echoes each message. `pspd init` puts it into a new deployment, which so needs no compiler.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use pspd_proto::echo::echo_service_server::{EchoService, EchoServiceServer};
use pspd_proto::echo::{EchoRequest, EchoResponse};
use serving::{CancellationToken, ConfigError, MESSAGE_LIMIT, Service, Services, Settings};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, Streaming};

/// Reads the settings of every service; this one has none of its own.
pub fn configure(mut settings: Settings) -> Result<Service, ConfigError> {
    let service = settings.service();
    settings.finish(|| service)
}

/// Binds and serves until `shutdown`.
pub async fn run(service: Service, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(service.listen)
        .await
        .with_context(|| format!("failed to listen on `{}`", service.listen))?;
    serve(listener, &service, shutdown).await
}

/// Serves on a listener until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    service: &Service,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let echo = Echo {
        answers: Arc::new(Answers {
            server: service.name.clone(),
            count: AtomicU64::new(0),
        }),
        shutdown: shutdown.clone(),
    };
    let echo = EchoServiceServer::new(echo)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    serving::serve(listener, service, Services::default().with(echo), shutdown).await
}

struct Echo {
    answers: Arc<Answers>,
    shutdown: CancellationToken,
}

struct Answers {
    server: String,
    count: AtomicU64,
}

impl Answers {
    fn next(&self, request: EchoRequest) -> EchoResponse {
        EchoResponse {
            text: request.text,
            server: self.server.clone(),
            count: self.count.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        Ok(Response::new(self.answers.next(request.into_inner())))
    }

    type EchoStreamStream = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

    async fn echo_stream(
        &self,
        requests: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Self::EchoStreamStream>, Status> {
        let answers = Arc::clone(&self.answers);
        let responses = requests
            .into_inner()
            .map(move |request| request.map(|request| answers.next(request)))
            .take_until(self.shutdown.clone().cancelled_owned());
        Ok(Response::new(Box::pin(responses)))
    }
}

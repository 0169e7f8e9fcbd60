//! `protocol-bench serve` and `protocol-bench call`: the two sides of `pspd bench protocol`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use protocol_bench::connector::Target;
use protocol_bench::measure::{self, Plan};
use protocol_bench::server::Server;
use protocol_bench::tls;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the same operations over gRPC, REST, SOAP and WebSocket
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve all protocols on one port
    Serve {
        #[arg(long, env = "PSPD_LISTEN")]
        listen: SocketAddr,
        /// End when stdin is closed, as it is when the process that started this one ends
        #[arg(long)]
        until_stdin_closes: bool,
        #[command(flatten)]
        files: tls::Files,
    },
    /// Call a server, and print progress and results as lines of JSON
    Call {
        #[arg(long)]
        server: SocketAddr,
        /// The name on the server's certificate
        #[arg(long)]
        name: String,
        #[arg(long)]
        rounds: usize,
        /// Of each case in each round
        #[arg(long)]
        milliseconds: u64,
        #[arg(long, value_delimiter = ',')]
        callers: Vec<usize>,
        #[command(flatten)]
        files: tls::Files,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve {
            listen,
            until_stdin_closes,
            files,
        } => {
            let server = Server::bind(listen, &files.read()?).await?;
            print(&format!("listening on {}", server.address()?))?;
            match until_stdin_closes {
                true => tokio::select! {
                    ended = server.serve() => ended,
                    _ = tokio::task::spawn_blocking(stdin_closed) => Ok(()),
                },
                false => server.serve().await,
            }
        }
        Command::Call {
            server,
            name,
            rounds,
            milliseconds,
            callers,
            files,
        } => {
            let target = Target::new(server, name, &files.read()?)?;
            let plan = Plan {
                rounds,
                time: Duration::from_millis(milliseconds),
                callers,
            };
            measure::run(&target, &plan, |line| print(&serde_json::to_string(&line)?)).await
        }
    }
}

/// Waits for the end of stdin; an error is one.
fn stdin_closed() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// Prints a line at once, also into a pipe.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.context("failed to write to stdout")
}

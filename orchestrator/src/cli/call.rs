//! `pspd call`: calls a method of a domain's service.

use std::io::{Cursor, Read, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use prost_reflect::MethodDescriptor;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::completions;
use super::context::{self, Context, block_on, cancelled_by_signals};
use super::exit::Exit;
use super::fault::duration;
use crate::reflection::{Header, Service, Target, describe_method, json, read, signature};
use crate::terminal;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  pspd call database-server\n  pspd call database-server Create '{\"collection\": \"notes\", \"data\": \"{}\"}'\n  pspd call database-server Query --describe\n  pspd call store Read '{\"id\": \"7\"}' -H 'x-request-id: 7' --timeout 5s\n  pspd call ai-server TrainModel - <examples.jsonl\n\nMessages are JSON. A method that takes a stream gets each value as one message. Each answer of a stream is a line."
)]
pub(super) struct Args {
    /// The domain whose service is called
    #[arg(add = completions::domains())]
    pub(super) name: String,
    /// `Method`, or `package.Service/Method` [default: list the methods]
    method: Option<String>,
    /// The message as JSON, or several; `-` reads them from stdin [default: the empty message]
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    message: Option<String>,
    /// Show the method and its messages instead of calling it
    #[arg(long, requires = "method", conflicts_with = "message")]
    describe: bool,
    /// Send metadata, such as `authorization: Bearer TOKEN`; base64 for keys that end in `-bin`. May be repeated
    #[arg(short = 'H', long, value_name = "KEY: VALUE", requires = "method")]
    header: Vec<Header>,
    /// List services and methods instead of calling one
    #[arg(long, conflicts_with_all = ["method", "describe"])]
    list: bool,
    /// The time that the call may take
    #[arg(long, visible_alias = "time-limit", value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

impl Args {
    /// Whether it takes messages from standard input.
    pub(super) fn reads(&self) -> bool {
        self.message.as_deref() == Some("-")
    }
}

pub(super) fn run(context: &Context, args: Args) -> anyhow::Result<Exit> {
    let spec = context.existing_spec()?;
    let domain = context::domain(&spec, &args.name)?;
    let identity = context.identity(&spec)?;
    let target = Target::service(context.reach(&spec)?, &spec, &domain, &identity)?;
    block_on(async {
        let cancel = cancelled_by_signals()?;
        tokio::select! {
            ended = called(&target, args) => ended,
            () = CancellationToken::cancelled(&cancel) => Ok(Exit::Interrupted),
        }
    })
}

async fn called(target: &Target, args: Args) -> anyhow::Result<Exit> {
    let service = Service::open(target).await?;
    // Without a method, a list is the default.
    let Some(wanted) = args.method.as_ref().filter(|_| !args.list) else {
        list(&service.methods())?;
        return Ok(Exit::Done);
    };
    let method = service.method(wanted)?;
    if args.describe {
        write!(terminal::out(), "{}", describe_method(&method))?;
        return Ok(Exit::Done);
    }
    let (from, place): (Box<dyn Read + Send>, _) = match args.message {
        Some(text) if text == "-" => (Box::new(std::io::stdin()), "failed to read stdin"),
        text => (
            Box::new(Cursor::new(text.unwrap_or_default())),
            "failed to read the message",
        ),
    };
    let input = read(from, place, &method);
    let mut metadata = MetadataMap::new();
    for header in args.header {
        header.add(&mut metadata);
    }
    tokio::select! {
        biased;
        Ok(fault) = input.fault => Err(fault),
        ended = answers(&service, &method, input.messages, (metadata, args.timeout)) => match ended {
            Ok(()) => Ok(Exit::Done),
            Err(Failure::Status(status)) => {
                explain(&status)?;
                Ok(Exit::Failed)
            }
            Err(Failure::Output(error)) => Err(error),
        },
    }
}

enum Failure {
    Status(Status),
    Output(anyhow::Error),
}

/// Prints each answer when it arrives.
async fn answers(
    service: &Service,
    method: &MethodDescriptor,
    messages: impl futures::Stream<Item = prost_reflect::DynamicMessage> + Send + 'static,
    (metadata, limit): (MetadataMap, Option<Duration>),
) -> Result<(), Failure> {
    let answers = service.call(method, messages, metadata, limit).await;
    let mut answers = answers.map_err(Failure::Status)?;
    while let Some(answer) = answers.message().await.map_err(Failure::Status)? {
        let text = json(&answer, !method.is_server_streaming());
        let printed = text.and_then(|text| {
            let mut out = terminal::out();
            writeln!(out, "{text}")?;
            out.flush().context("failed to write to stdout")
        });
        printed.map_err(Failure::Output)?;
    }
    Ok(())
}

fn list(methods: &[MethodDescriptor]) -> anyhow::Result<()> {
    let mut out = terminal::out();
    let mut last = None;
    for method in methods {
        let service = method.parent_service().full_name().to_owned();
        if last.as_ref() != Some(&service) {
            writeln!(out, "{service}")?;
            last = Some(service);
        }
        writeln!(out, "  {}", signature(method))?;
    }
    Ok(())
}

/// Shows a status with what its details say.
fn explain(status: &Status) -> anyhow::Result<()> {
    let mut err = terminal::err();
    let code = code(status.code());
    writeln!(err, "error: {code}: {}", status.message())?;
    let details = status.get_error_details();
    for violation in details
        .bad_request()
        .into_iter()
        .flat_map(|bad| &bad.field_violations)
    {
        writeln!(err, "  `{}`: {}", violation.field, violation.description)?;
    }
    if let Some(info) = details.error_info() {
        writeln!(err, "  reason: {}", info.reason)?;
        for (key, value) in info
            .metadata
            .iter()
            .collect::<std::collections::BTreeMap<_, _>>()
        {
            writeln!(err, "  {key}: {value}")?;
        }
    }
    if let Some(retry) = details.retry_info().and_then(|retry| retry.retry_delay) {
        writeln!(err, "  retry after: {:.1} s", retry.as_secs_f64())?;
    }
    Ok(())
}

/// As the specification of gRPC has it, such as `NOT_FOUND`.
fn code(code: Code) -> String {
    let mut text = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_names_of_the_specification() {
        assert_eq!(code(Code::NotFound), "NOT_FOUND");
        assert_eq!(code(Code::Ok), "OK");
        assert_eq!(code(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}

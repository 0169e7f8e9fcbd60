//! Reads and writes of documents of `database.DatabaseService`, each of which is recorded: what was asked, when, and what
//! was answered. Each write has a value of its own.
//!
//! A collection that nobody else uses has a few shared documents, which all calls read and update, and those that calls
//! create. What the records mean is not decided here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::{Buf as _, Bytes};
use http::Request;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use pspd_model::history::Action;
use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::call::{Failure, Status};
use super::connection::{Answer, Connections};
use super::grpc::{encode, request};
use crate::reflection::{self, Target};

const SERVICE: &str = "database.DatabaseService";
/// Calls repeat: this many reads, then updates, and one creation.
const ROUND: u64 = 8;
const READS: u64 = 4;
/// The pause between two tries to read all documents.
const PAUSE: Duration = Duration::from_millis(500);

/// A collection of documents, and the record of all calls on them.
pub struct Documents {
    connections: Connections,
    create: Method,
    read: Method,
    update: Method,
    query: Method,
    collection: String,
    /// The ids of the shared documents.
    shared: Vec<String>,
    epoch: Instant,
    calls: Mutex<Vec<Recorded>>,
}

/// One call on one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub document: Document,
    /// Since the documents were opened.
    pub invoked: Duration,
    pub returned: Duration,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Document {
    /// By index.
    Shared(usize),
    /// By the value that it was created with.
    Created(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(Action),
    /// Without an answer, or with one that says nothing about the write.
    Unknown(Action),
    /// The service refused the write, or it was never sent.
    Refused(Action),
    /// A read without an answer.
    Nothing,
}

/// A document that is found at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub shared: Option<usize>,
    /// `None` if it has no value that a call can have written.
    pub value: Option<u64>,
}

struct Method {
    request: Request<()>,
    input: MessageDescriptor,
    output: MessageDescriptor,
}

impl Documents {
    /// Finds the methods by reflection, and creates the shared documents.
    pub async fn open(
        target: &Target,
        collection: String,
        count: usize,
        connections: usize,
        limit: Duration,
    ) -> anyhow::Result<Arc<Documents>> {
        let method = reflection::method(target, &format!("{SERVICE}/Create")).await;
        let create = method.context("`documents` needs a service that is a database")?;
        let named = |name: &str| Method::of(target, &create, name);
        let mut documents = Documents {
            connections: Connections::open(target, connections).await?,
            create: named("Create")?,
            read: named("Read")?,
            update: named("Update")?,
            query: named("Query")?,
            collection,
            shared: Vec::new(),
            epoch: Instant::now(),
            calls: Mutex::default(),
        };
        for index in 0..count {
            let value = index as u64;
            let call = documents.begin(Document::Shared(index), Action::Write(value));
            let created = timeout(limit, documents.created(0, value)).await;
            let id = match created {
                Ok(Ok(id)) => id,
                Ok(Err(failure)) => {
                    bail!(
                        "failed to create a document: {}: {}",
                        failure.status,
                        failure.message
                    )
                }
                Err(_) => bail!("failed to create a document: no answer in time"),
            };
            documents.end(call, Outcome::Answered(Action::Write(value)));
            documents.shared.push(id);
        }
        Ok(Arc::new(documents))
    }

    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// All calls so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.calls().clone()
    }

    /// Since the documents were opened.
    pub fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Reads all documents, after the load ended, and tries again until it has them or the time is over.
    pub async fn found(&self, limit: Duration) -> anyhow::Result<Vec<Found>> {
        self.connections.renew();
        let end = Instant::now() + limit;
        let mut number = 0;
        loop {
            number += 1;
            let message = json!({"collection": self.collection, "query": ""});
            let left = end.saturating_duration_since(Instant::now());
            let answer = timeout(left, self.exchange(number, &self.query, &message)).await;
            let failure = match answer {
                Ok(Ok(messages)) => return self.documents(messages),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::timed_out(limit),
            };
            if Instant::now() + PAUSE >= end {
                bail!("{}: {}", failure.status, failure.message);
            }
            sleep(PAUSE).await;
        }
    }

    fn documents(&self, mut messages: Bytes) -> anyhow::Result<Vec<Found>> {
        let mut found = Vec::new();
        while !messages.is_empty() {
            let message = self.query.decode(&mut messages)?;
            let (id, data) = (text(&message, "id"), text(&message, "data"));
            let shared = self.shared.iter().position(|known| *known == id);
            let value = value(&data);
            found.push(Found { shared, value });
        }
        Ok(found)
    }

    pub(super) fn room(&self) -> usize {
        self.connections.room()
    }

    /// Sends the call with this running number, counted from 1, and records it.
    pub(super) async fn call(&self, number: u64) -> Result<(), Failure> {
        let value = self.shared.len() as u64 + number;
        let index = fastrand::usize(..self.shared.len());
        match number % ROUND {
            0 => {
                let action = Action::Write(value);
                let call = self.begin(Document::Created(value), action);
                let created = self.created(number, value).await;
                self.end(call, outcome(action, created.as_ref().map(drop)));
                created.map(drop)
            }
            turn if turn <= READS => self.read(number, index).await,
            _ => {
                let action = Action::Update(value);
                let call = self.begin(Document::Shared(index), action);
                let message = json!({"collection": self.collection, "id": self.shared[index], "data": data(value)});
                let updated = self.exchange(number, &self.update, &message).await;
                self.end(call, outcome(action, updated.as_ref().map(drop)));
                updated.map(drop)
            }
        }
    }

    async fn read(&self, number: u64, index: usize) -> Result<(), Failure> {
        let call = self.begin(Document::Shared(index), Action::Read(None));
        let message = json!({"collection": self.collection, "id": self.shared[index]});
        let read = self.exchange(number, &self.read, &message).await;
        let read = read.and_then(|mut messages| {
            let message = self.read.decode(&mut messages);
            message.map_err(|error| Failure::new(Status::Lost, format!("{error:#}")))
        });
        let outcome = match &read {
            // What nobody wrote is not a value of a write either.
            Ok(message) => {
                let value = value(&text(message, "data")).unwrap_or(u64::MAX);
                Outcome::Answered(Action::Read(Some(value)))
            }
            Err(failure) if is(failure, Code::NotFound) => Outcome::Answered(Action::Read(None)),
            Err(_) => Outcome::Nothing,
        };
        self.end(call, outcome);
        read.map(drop)
    }

    async fn created(&self, number: u64, value: u64) -> Result<String, Failure> {
        let message = json!({"collection": self.collection, "data": data(value)});
        let mut messages = self.exchange(number, &self.create, &message).await?;
        let message = self.create.decode(&mut messages);
        let message = message.map_err(|error| Failure::new(Status::Lost, format!("{error:#}")))?;
        Ok(text(&message, "id"))
    }

    async fn exchange(
        &self,
        number: u64,
        method: &Method,
        message: &serde_json::Value,
    ) -> Result<Bytes, Failure> {
        let message = encode(&method.input, &message.to_string());
        let message =
            message.map_err(|error| Failure::new(Status::Payload, format!("{error:#}")))?;
        let call = self
            .connections
            .call(number, &method.request, message, Answer::Kept);
        call.await
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call before it is sent. If it is never ended, it got no answer.
    fn begin(&self, document: Document, action: Action) -> usize {
        let mut calls = self.calls();
        let outcome = match action {
            Action::Read(_) => Outcome::Nothing,
            _ => Outcome::Unknown(action),
        };
        calls.push(Recorded {
            document,
            invoked: self.epoch.elapsed(),
            returned: Duration::MAX,
            outcome,
        });
        calls.len() - 1
    }

    fn end(&self, call: usize, outcome: Outcome) {
        let now = self.epoch.elapsed();
        let call = &mut self.calls()[call];
        (call.returned, call.outcome) = (now, outcome);
    }
}

/// What is known of a write after its answer.
fn outcome(action: Action, answer: Result<(), &Failure>) -> Outcome {
    let refused = |code| {
        matches!(
            code,
            Code::InvalidArgument
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated
        )
    };
    match answer {
        Ok(()) => Outcome::Answered(action),
        Err(failure) => match failure.status {
            Status::NotConnected => Outcome::Refused(action),
            Status::Grpc(code) if Code::from_i32(code) == Code::NotFound => {
                Outcome::Answered(Action::Read(None))
            }
            Status::Grpc(code) if refused(Code::from_i32(code)) => Outcome::Refused(action),
            _ => Outcome::Unknown(action),
        },
    }
}

fn is(failure: &Failure, code: Code) -> bool {
    failure.status == Status::Grpc(code as i32)
}

fn data(value: u64) -> String {
    json!({ "value": value }).to_string()
}

fn value(data: &str) -> Option<u64> {
    let data: serde_json::Value = serde_json::from_str(data).ok()?;
    data.get("value")?.as_u64()
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let field = message.get_field_by_name(field);
    let text = field.as_deref().and_then(prost_reflect::Value::as_str);
    text.unwrap_or_default().to_owned()
}

impl Method {
    /// A method of the same service.
    fn of(target: &Target, sibling: &MethodDescriptor, name: &str) -> anyhow::Result<Method> {
        let service = sibling.parent_service();
        let method = service.methods().find(|method| method.name() == name);
        let method = method.with_context(|| format!("the service has no method `{name}`"))?;
        Ok(Method {
            request: request(target, &method)?,
            input: method.input(),
            output: method.output(),
        })
    }

    /// Takes the next message with its prefix: whether it is compressed, and its length.
    fn decode(&self, messages: &mut Bytes) -> anyhow::Result<DynamicMessage> {
        ensure!(messages.len() >= 5, "an answer without a message");
        ensure!(messages.get_u8() == 0, "a compressed answer");
        let length = messages.get_u32() as usize;
        ensure!(messages.len() >= length, "an answer that is cut off");
        Ok(DynamicMessage::decode(
            self.output.clone(),
            messages.split_to(length),
        )?)
    }
}

//! SOAP 1.2: XML over HTTP/1.1. It has no streams: a list is one envelope. XML has no control characters (XML 1.0, 2.2), so
//! texts with them are refused by the side that would send them.

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};

use crate::calls::Calls;
use crate::connector::Connector;
use crate::handler::{self, Refused};
use crate::pool::{Pool, pool};
use crate::records::{ListRequest, Record, Summary};

const PATH: &str = "/soap";
const ENVELOPE: &str = "http://www.w3.org/2003/05/soap-envelope";
const MESSAGES: &str = "urn:pspd:records:v1";

#[derive(Serialize, Deserialize)]
#[serde(rename = "soap:Envelope")]
struct Envelope<M> {
    #[serde(rename = "@xmlns:soap")]
    soap: String,
    #[serde(rename = "@xmlns:m")]
    messages: String,
    #[serde(rename(serialize = "soap:Body", deserialize = "Body"))]
    body: Content<M>,
}

#[derive(Serialize, Deserialize)]
struct Content<M> {
    #[serde(rename = "$value")]
    message: M,
}

#[derive(Serialize, Deserialize)]
enum Message {
    #[serde(rename(serialize = "m:Echo", deserialize = "Echo"))]
    Echo(Record),
    #[serde(rename(serialize = "m:List", deserialize = "List"))]
    List(ListRequest),
    #[serde(rename(serialize = "m:Records", deserialize = "Records"))]
    Records(Records),
    #[serde(rename(serialize = "m:Summary", deserialize = "Summary"))]
    Summary(Summary),
    #[serde(rename(serialize = "soap:Fault", deserialize = "Fault"))]
    Fault(Fault),
}

#[derive(Serialize, Deserialize)]
struct Records {
    #[serde(default, rename(serialize = "m:Record", deserialize = "Record"))]
    records: Vec<Record>,
}

#[derive(Serialize, Deserialize)]
struct Fault {
    #[serde(rename(serialize = "soap:Code", deserialize = "Code"))]
    code: Code,
    #[serde(rename(serialize = "soap:Reason", deserialize = "Reason"))]
    reason: Reason,
}

#[derive(Serialize, Deserialize)]
struct Code {
    #[serde(rename(serialize = "soap:Value", deserialize = "Value"))]
    value: String,
}

#[derive(Serialize, Deserialize)]
struct Reason {
    #[serde(rename(serialize = "soap:Text", deserialize = "Text"))]
    text: Text,
}

#[derive(Serialize, Deserialize)]
struct Text {
    #[serde(rename(serialize = "@xml:lang", deserialize = "@xml:lang"))]
    language: String,
    #[serde(rename = "$text")]
    text: String,
}

fn write(message: Message) -> anyhow::Result<String> {
    let envelope = Envelope {
        soap: ENVELOPE.to_owned(),
        messages: MESSAGES.to_owned(),
        body: Content { message },
    };
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned();
    quick_xml::se::to_writer(&mut text, &envelope)?;
    let outside = text.chars().find(|&character| !is_xml(character));
    ensure!(
        outside.is_none(),
        "XML has no character {:?}",
        outside.unwrap_or_default()
    );
    Ok(text)
}

/// Whether XML 1.0 has the character. Source: <https://www.w3.org/TR/xml/#charsets>.
fn is_xml(character: char) -> bool {
    !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

fn read(text: &str) -> anyhow::Result<Message> {
    let envelope: Envelope<Message> =
        quick_xml::de::from_str(text).context("the message is not a known envelope")?;
    ensure!(envelope.soap == ENVELOPE, "the envelope is not of SOAP 1.2");
    Ok(envelope.body.message)
}

pub(crate) fn routes() -> axum::Router {
    axum::Router::new().route(PATH, post(serve))
}

async fn serve(request: String) -> Response {
    let answer = answer(&request).and_then(write);
    let (status, text) = match answer {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => {
            let reason: String = format!("{error:#}")
                .chars()
                .filter(|&one| is_xml(one))
                .collect();
            // A fault has no control characters, nor anything else that could fail.
            (
                StatusCode::BAD_REQUEST,
                write(fault(reason)).unwrap_or_default(),
            )
        }
    };
    (status, [(CONTENT_TYPE, KIND)], text).into_response()
}

const KIND: &str = "application/soap+xml; charset=utf-8";

fn fault(text: String) -> Message {
    Message::Fault(Fault {
        code: Code {
            value: "soap:Sender".to_owned(),
        },
        reason: Reason {
            text: Text {
                language: "en".to_owned(),
                text,
            },
        },
    })
}

fn answer(request: &str) -> anyhow::Result<Message> {
    Ok(match read(request)? {
        Message::Echo(record) => Message::Echo(handler::echo(record)),
        Message::List(request) => {
            let records = handler::list(request.count);
            let records = records.map_err(|Refused(reason)| anyhow::Error::msg(reason))?;
            Message::Records(Records {
                records: records.collect(),
            })
        }
        Message::Records(Records { records }) => {
            let mut summary = Summary::default();
            records
                .iter()
                .for_each(|record| handler::take(&mut summary, record));
            Message::Summary(summary)
        }
        Message::Summary(_) | Message::Fault(_) => bail!("the message is an answer"),
    })
}

/// The caller's side.
#[derive(Clone)]
pub(crate) struct Caller {
    pool: Pool,
    address: String,
}

impl Caller {
    pub(crate) fn new(connector: &Connector) -> Self {
        Self {
            pool: pool(connector),
            address: format!("https://{}{PATH}", connector.target.name),
        }
    }

    async fn send(&self, action: &str, message: Message) -> anyhow::Result<Message> {
        let request = Request::post(&self.address)
            .header(
                CONTENT_TYPE,
                format!("{KIND}; action=\"{MESSAGES}:{action}\""),
            )
            .body(Body::from(write(message)?))?;
        let response = self.pool.request(request).await?;
        let body = response.into_body().collect().await?.to_bytes();
        match read(std::str::from_utf8(&body)?)? {
            Message::Fault(fault) => bail!("{}: {}", fault.code.value, fault.reason.text.text),
            message => Ok(message),
        }
    }
}

#[tonic::async_trait]
impl Calls for Caller {
    async fn echo(&mut self, record: Record) -> anyhow::Result<Record> {
        match self.send("Echo", Message::Echo(record)).await? {
            Message::Echo(record) => Ok(record),
            _ => bail!("the answer is of another kind"),
        }
    }

    async fn list(&mut self, count: u32) -> anyhow::Result<Vec<Record>> {
        match self
            .send("List", Message::List(ListRequest { count }))
            .await?
        {
            Message::Records(list) => Ok(list.records),
            _ => bail!("the answer is of another kind"),
        }
    }

    async fn upload(&mut self, records: Vec<Record>) -> anyhow::Result<Summary> {
        match self
            .send("Records", Message::Records(Records { records }))
            .await?
        {
            Message::Summary(summary) => Ok(summary),
            _ => bail!("the answer is of another kind"),
        }
    }
}

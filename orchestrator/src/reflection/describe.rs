//! A method and its messages as a `.proto` file has them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};

/// Such as `rpc Query (QueryRequest) returns (stream QueryResponse);`.
pub fn signature(method: &MethodDescriptor) -> String {
    let stream = |streams: bool| if streams { "stream " } else { "" };
    format!(
        "rpc {} ({}{}) returns ({}{});",
        method.name(),
        stream(method.is_client_streaming()),
        method.input().name(),
        stream(method.is_server_streaming()),
        method.output().name(),
    )
}

/// The method, and all types that its messages are made of.
pub fn method(method: &MethodDescriptor) -> String {
    let service = method.parent_service().full_name().to_owned();
    let mut text = format!("// {service}\n{}\n", signature(method));
    let mut types = Types::default();
    for message in [method.input(), method.output()] {
        types.message(&message);
    }
    for shown in types.texts {
        text.push('\n');
        text.push_str(&shown);
    }
    text
}

/// Types in the order in which they are met, each once.
#[derive(Default)]
struct Types {
    seen: BTreeSet<String>,
    texts: Vec<String>,
}

impl Types {
    fn message(&mut self, message: &MessageDescriptor) {
        if !self.seen.insert(message.full_name().to_owned()) {
            return;
        }
        let mut text = format!("message {} {{\n", message.name());
        for field in message.fields().filter(|field| real_oneof(field).is_none()) {
            let _ = writeln!(text, "  {}", line(&field));
        }
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let _ = writeln!(text, "  oneof {} {{", oneof.name());
            for field in oneof.fields() {
                let _ = writeln!(text, "    {}", line(&field));
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
        self.texts.push(text);
        for field in message.fields() {
            self.kind(&field.kind());
        }
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Message(message) if message.is_map_entry() => {
                self.kind(&message.map_entry_value_field().kind());
            }
            Kind::Message(message) => self.message(message),
            Kind::Enum(values) => self.values(values),
            _ => {}
        }
    }

    fn values(&mut self, of: &EnumDescriptor) {
        if !self.seen.insert(of.full_name().to_owned()) {
            return;
        }
        let mut text = format!("enum {} {{\n", of.name());
        for value in of.values() {
            let _ = writeln!(text, "  {} = {};", value.name(), value.number());
        }
        text.push_str("}\n");
        self.texts.push(text);
    }
}

/// The `oneof` that a field was written in; `optional` makes one of its own.
fn real_oneof(field: &FieldDescriptor) -> Option<String> {
    let oneof = field.containing_oneof()?;
    (!oneof.is_synthetic()).then(|| oneof.name().to_owned())
}

fn line(field: &FieldDescriptor) -> String {
    let optional = field.containing_oneof().is_some() && real_oneof(field).is_none();
    let kind = match field.kind() {
        Kind::Message(entry) if entry.is_map_entry() => format!(
            "map<{}, {}>",
            name(&entry.map_entry_key_field().kind()),
            name(&entry.map_entry_value_field().kind())
        ),
        kind if field.cardinality() == Cardinality::Repeated => format!("repeated {}", name(&kind)),
        kind if optional => format!("optional {}", name(&kind)),
        kind => name(&kind),
    };
    format!("{kind} {} = {};", field.name(), field.number())
}

fn name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(values) => values.name().to_owned(),
        scalar => format!("{scalar:?}").to_ascii_lowercase(),
    }
}

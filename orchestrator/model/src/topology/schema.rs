//! Generates the JSON Schema of a topology from the table of keys.

use serde_json::{Map, Value, json};

use super::keys::{Kind, Object, TOPOLOGY};

/// Returns the JSON Schema (2020-12), pretty-printed, for editors that complete and check YAML.
pub fn schema() -> String {
    schema_of(&TOPOLOGY, "pspd topology")
}

pub(crate) fn schema_of(root: &Object, title: &str) -> String {
    let mut schema = object(root);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value is serialisable");
    text.push('\n');
    text
}

fn object(object: &Object) -> Value {
    let properties: Map<String, Value> = object
        .keys
        .iter()
        .map(|key| {
            let mut schema = kind(&key.kind);
            schema["description"] = json!(key.about);
            (key.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = object
        .keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn kind(of: &Kind) -> Value {
    match of {
        Kind::Text { example } => json!({"type": "string", "examples": [example]}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Number { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::Size => {
            json!({"type": "string", "pattern": r"^([0-9]+\.?[0-9]*|\.[0-9]+) *[KkMmGgTt][Ii]?[Bb]$", "examples": ["512 MiB"]})
        }
        Kind::Duration => {
            json!({"type": "string", "pattern": "^[0-9]+ *(s|m|min)$", "examples": ["30s"]})
        }
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Scalar => json!({"type": ["string", "number", "boolean"]}),
        Kind::List(item) => json!({"type": "array", "items": kind(item)}),
        Kind::Named(item) => json!({"type": "object", "additionalProperties": kind(item)}),
        Kind::Object(fields) => object(fields),
        Kind::Either(kinds) => json!({"anyOf": kinds.iter().map(kind).collect::<Vec<_>>()}),
    }
}

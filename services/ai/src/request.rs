//! The limits of ids, texts, labels and intervals in requests, and the errors of requests beyond them.

use std::time::Duration;

use serving::Problem;
use tonic::Status;
use tonic::metadata::MetadataMap;

const DEFAULT_MODEL: &str = "default";
const LONGEST_ID: usize = 64;
const LONGEST_LABEL: usize = 128;
/// In bytes: about twenty thousand words.
pub(crate) const LONGEST_TEXT: usize = 128 * 1024;

/// The model that a request names, or the default model.
pub(crate) fn model_id(id: &str) -> Result<&str, Status> {
    let valid = id.len() <= LONGEST_ID
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    match (id, valid) {
        ("", _) => Ok(DEFAULT_MODEL),
        (id, true) => Ok(id),
        (id, false) => {
            let message = format!(
                "`{id}` is not a valid model id: use 1 to {LONGEST_ID} letters, digits, `_`, `-` and `.`"
            );
            Err(Problem::invalid("model_id", "MODEL_ID_INVALID", message).into())
        }
    }
}

/// The model that a training's metadata names, or the default model.
pub(crate) fn training_model_id(metadata: &MetadataMap) -> Result<&str, Status> {
    model_id(value(metadata, "model-id")?.unwrap_or_default())
}

/// The interval in a monitor's metadata, or one second.
pub(crate) fn interval(metadata: &MetadataMap) -> Result<Duration, Status> {
    let milliseconds = value(metadata, "interval-ms")?.map_or(Ok(1000), str::parse::<u64>);
    match milliseconds {
        Ok(milliseconds @ 100..=60_000) => Ok(Duration::from_millis(milliseconds)),
        _ => {
            let message = "`interval-ms` must be a number from 100 to 60000";
            Err(Problem::invalid("interval-ms", "INTERVAL_INVALID", message).into())
        }
    }
}

/// Checks a text to classify or learn.
pub(crate) fn check_text(field: &str, text: &str) -> Result<(), Status> {
    if text.trim().is_empty() {
        return Err(Problem::invalid(field, "TEXT_EMPTY", "the text is empty").into());
    }
    if text.len() > LONGEST_TEXT {
        let message = format!(
            "the text has {} bytes; at most {LONGEST_TEXT} are allowed",
            text.len()
        );
        return Err(Problem::invalid(field, "TEXT_TOO_LONG", message).into());
    }
    Ok(())
}

/// Checks a label to learn.
pub(crate) fn check_label(label: &str) -> Result<(), Status> {
    if label.trim().is_empty() || label.len() > LONGEST_LABEL {
        let message = format!("the label must have 1 to {LONGEST_LABEL} bytes");
        return Err(Problem::invalid("expected_output", "LABEL_INVALID", message).into());
    }
    Ok(())
}

fn value<'a>(metadata: &'a MetadataMap, key: &str) -> Result<Option<&'a str>, Status> {
    let value = metadata.get(key).map(|value| value.to_str()).transpose();
    value.map_err(|_| {
        Problem::invalid(key, "METADATA_MALFORMED", format!("`{key}` is not text")).into()
    })
}

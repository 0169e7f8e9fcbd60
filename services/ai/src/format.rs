//! A model as bytes, compressed with zstd: a JSON header, then
//!
//! - the grams in the order of their numbers: distance from the one before, row, occurrences;
//! - the weights by row, as the upper halves of f32 (bfloat16);
//! - the kept examples: label, priority, features (rows by their distance, values), alphas.
//!
//! Whole numbers are LEB128. Weights are rounded when a model is [`settle`]d, so a model is the same before it is
//! stored and after it is loaded.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::machine::{Example, Weights};
use crate::model::{LABELS, Model};
use crate::reservoir::{ROOM, Reservoir};
use crate::validation::Validation;
use crate::vocabulary::Vocabulary;

const LEVEL: i32 = 1;
const VERSION: u32 = 2;
/// The largest decoded size that is accepted, more than any model has: guards against a damaged document.
const LARGEST: usize = 128 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    labels: Vec<String>,
    examples: u32,
    #[serde(rename = "trials")]
    validation: Validation,
    texts: u32,
    grams: u32,
    remembered: u32,
    lowest_lot: u32,
}

/// Rounds a model to the precision of its bytes.
pub(crate) fn settle(model: &mut Model) {
    for weight in &mut model.weights.values {
        *weight = whole(half(*weight));
    }
}

/// Writes a model.
pub(crate) fn encode(model: &Model) -> anyhow::Result<Vec<u8>> {
    let grams = model.vocabulary.grams();
    let header = serde_json::to_vec(&Header {
        version: VERSION,
        labels: model.labels.clone(),
        examples: model.examples,
        validation: model.validation.clone(),
        texts: model.vocabulary.texts(),
        grams: u32::try_from(grams.len())?,
        remembered: u32::try_from(model.reservoir.examples.len())?,
        lowest_lot: model.reservoir.lowest,
    })?;
    let mut bytes = Vec::with_capacity(model.weights.values.len() * 2);
    put(&mut bytes, u32::try_from(header.len())?);
    bytes.extend(header);
    let mut sorted: Vec<(u32, u32, u32)> = (1..)
        .zip(grams)
        .map(|(row, (gram, occurrences))| (gram, row, occurrences))
        .collect();
    sorted.sort_unstable();
    let mut last = 0;
    for (gram, row, occurrences) in sorted {
        put(&mut bytes, gram - last);
        put(&mut bytes, row);
        put(&mut bytes, occurrences);
        last = gram;
    }
    for weight in &model.weights.values {
        bytes.extend(half(*weight));
    }
    for example in &model.reservoir.examples {
        put_example(&mut bytes, example);
    }
    zstd::bulk::compress(&bytes, LEVEL).context("failed to compress the model")
}

/// Reads a model.
pub(crate) fn decode(compressed: &[u8]) -> anyhow::Result<Model> {
    let bytes =
        zstd::bulk::decompress(compressed, LARGEST).context("failed to decompress the model")?;
    let mut rest = bytes.as_slice();
    let length = take_number(&mut rest)? as usize;
    let header = take(&mut rest, length)?;
    let version: Versioned = serde_json::from_slice(header).context("the header is damaged")?;
    ensure!(
        version.version == VERSION,
        "unknown format {}",
        version.version
    );
    let header: Header = serde_json::from_slice(header).context("the header is damaged")?;
    let labels = header.labels.len();
    ensure!(labels <= LABELS, "too many labels");
    let rows = header.grams as usize + 1;
    let vocabulary = take_vocabulary(&mut rest, &header)?;
    ensure!(vocabulary.rows() == rows, "duplicate gram");
    let values = take(&mut rest, rows * labels * 2)?
        .chunks_exact(2)
        .map(|bytes| whole([bytes[0], bytes[1]]))
        .collect();
    let examples: Vec<Example> = (0..header.remembered)
        .map(|_| take_example(&mut rest, rows, labels))
        .collect::<anyhow::Result<_>>()?;
    ensure!(rest.is_empty(), "unexpected bytes after the end");
    Ok(Model {
        labels: header.labels,
        vocabulary,
        weights: Weights { labels, values },
        reservoir: Reservoir {
            examples,
            lowest: header.lowest_lot,
        },
        validation: header.validation,
        examples: header.examples,
    })
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn take_vocabulary(rest: &mut &[u8], header: &Header) -> anyhow::Result<Vocabulary> {
    let mut grams = vec![(0, 0); header.grams as usize];
    let mut gram = 0_u32;
    for _ in 0..header.grams {
        gram = gram.wrapping_add(take_number(rest)?);
        let row = take_number(rest)? as usize;
        let place = row.checked_sub(1).and_then(|place| grams.get_mut(place));
        *place.context("a gram has an invalid row")? = (gram, take_number(rest)?);
    }
    Ok(Vocabulary::new(header.texts, grams))
}

fn put_example(bytes: &mut Vec<u8>, example: &Example) {
    bytes.push(example.label);
    put(bytes, example.priority);
    put(bytes, example.features.len() as u32);
    for (row, value) in &example.features {
        put(bytes, *row);
        bytes.extend(value.to_le_bytes());
    }
    put(bytes, example.alphas.len() as u32);
    for (label, alpha) in &example.alphas {
        bytes.push(*label);
        bytes.extend(alpha.to_le_bytes());
    }
}

fn take_example(rest: &mut &[u8], rows: usize, labels: usize) -> anyhow::Result<Example> {
    let label = take_label(rest, labels)?;
    let priority = take_number(rest)?;
    let features = take_number(rest)? as usize;
    ensure!(features <= ROOM.max(rows), "an example is too long");
    let features = (0..features)
        .map(|_| {
            let row = take_number(rest)?;
            ensure!((row as usize) < rows, "an example has an invalid row");
            Ok((row, take_float(rest)?))
        })
        .collect::<anyhow::Result<_>>()?;
    let alphas = (0..take_number(rest)?)
        .map(|_| Ok((take_label(rest, labels)?, take_float(rest)?)))
        .collect::<anyhow::Result<_>>()?;
    Ok(Example {
        label,
        features,
        alphas,
        priority,
    })
}

fn take_label(rest: &mut &[u8], labels: usize) -> anyhow::Result<u8> {
    let label = take(rest, 1)?[0];
    ensure!(
        usize::from(label) < labels,
        "an example has an invalid label"
    );
    Ok(label)
}

fn put(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> anyhow::Result<u32> {
    let mut number = 0;
    for shift in (0..32).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    anyhow::bail!("invalid number")
}

fn take_float(rest: &mut &[u8]) -> anyhow::Result<f32> {
    let bytes = take(rest, 4)?;
    Ok(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn half(value: f32) -> [u8; 2] {
    let rounded = value.to_bits().saturating_add(0x8000);
    ((rounded >> 16) as u16).to_le_bytes()
}

fn whole(half: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> anyhow::Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).context("unexpected end")?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::news;

    #[test]
    fn a_settled_model_equals_its_decoded_bytes() {
        let mut model = Model::default();
        model.learn(&news(20)).unwrap();
        settle(&mut model);
        let bytes = encode(&model).unwrap();
        assert_eq!(decode(&bytes).unwrap(), model);
    }

    /// Stored models outlive versions of this service, and every replica must read them.
    #[test]
    fn the_header_keeps_its_keys() {
        let bytes = encode(&Model::default()).unwrap();
        let plain = zstd::bulk::decompress(&bytes, LARGEST).unwrap();
        let mut rest = plain.as_slice();
        let length = take_number(&mut rest).unwrap() as usize;
        let header: serde_json::Value =
            serde_json::from_slice(take(&mut rest, length).unwrap()).unwrap();
        let validation = serde_json::json!({
            "total": 0.0,
            "count": 0.0,
            "correct": 0.0,
            "curve": [4.0, -2.0],
            "held": [[1.0, 0.0], [0.0, 1.0]],
        });
        assert_eq!(
            header,
            serde_json::json!({
                "version": VERSION,
                "labels": [],
                "examples": 0,
                "trials": validation,
                "texts": 0,
                "grams": 0,
                "remembered": 0,
                "lowest_lot": 0,
            })
        );
    }

    #[test]
    fn a_damaged_model_is_an_error() {
        let mut model = Model::default();
        model.learn(&news(2)).unwrap();
        let bytes = encode(&model).unwrap();
        assert!(decode(&bytes[..bytes.len() / 2]).is_err());
        let plain = zstd::bulk::decompress(&bytes, LARGEST).unwrap();
        for length in 0..plain.len() {
            let cut = zstd::bulk::compress(&plain[..length], LEVEL).unwrap();
            assert!(decode(&cut).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn another_format_is_an_error() {
        let header = br#"{"version":1,"labels":[]}"#;
        let mut bytes = vec![header.len() as u8];
        bytes.extend(header);
        let bytes = zstd::bulk::compress(&bytes, LEVEL).unwrap();
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "unknown format 1");
    }
}

//! A model as bytes: a JSON header, then each bucket in use as its distance from the one before, its occurrences,
//! and its squares and weights as the upper halves of f32 (bfloat16); all of it compressed with zstd.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::features::BUCKETS;
use crate::model::{LABELS, Model};

const LEVEL: i32 = 1;
const VERSION: u32 = 1;
/// More than any model's decoded size: guards against a damaged document.
const LARGEST: usize = BUCKETS * (2 * LABELS + 16) + 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    labels: Vec<String>,
    examples: u32,
    correct: u32,
}

/// Writes a model.
pub(crate) fn encode(model: &Model) -> anyhow::Result<Vec<u8>> {
    let header = serde_json::to_vec(&Header {
        version: VERSION,
        labels: model.labels.clone(),
        examples: model.examples,
        correct: model.correct,
    })?;
    let mut bytes = Vec::new();
    put(&mut bytes, u32::try_from(header.len())?);
    bytes.extend(header);
    let mut last = 0;
    for bucket in (0..BUCKETS).filter(|bucket| model.occurrences[*bucket] > 0) {
        put(&mut bytes, u32::try_from(bucket - last)?);
        put(&mut bytes, model.occurrences[bucket]);
        bytes.extend(half(model.squares[bucket]));
        for weights in &model.weights {
            bytes.extend(half(weights[bucket]));
        }
        last = bucket;
    }
    zstd::bulk::compress(&bytes, LEVEL).context("can't compress the model")
}

/// Reads a model back.
pub(crate) fn decode(compressed: &[u8]) -> anyhow::Result<Model> {
    let bytes =
        zstd::bulk::decompress(compressed, LARGEST).context("can't decompress the model")?;
    let mut rest = bytes.as_slice();
    let length = take_number(&mut rest)? as usize;
    let header: Header =
        serde_json::from_slice(take(&mut rest, length)?).context("its header is damaged")?;
    ensure!(
        header.version == VERSION,
        "its format {} is not known here",
        header.version
    );
    ensure!(header.labels.len() <= LABELS, "it has too many labels");
    let mut model = Model {
        weights: vec![vec![0.0; BUCKETS]; header.labels.len()],
        labels: header.labels,
        examples: header.examples,
        correct: header.correct,
        ..Model::default()
    };
    let mut bucket = 0;
    while !rest.is_empty() {
        bucket += take_number(&mut rest)? as usize;
        ensure!(bucket < BUCKETS, "it has a bucket too many");
        model.occurrences[bucket] = take_number(&mut rest)?;
        model.squares[bucket] = take_half(&mut rest)?;
        for weights in &mut model.weights {
            weights[bucket] = take_half(&mut rest)?;
        }
    }
    Ok(model)
}

/// LEB128.
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
    anyhow::bail!("it has a number too long")
}

fn half(value: f32) -> [u8; 2] {
    let rounded = value.to_bits().saturating_add(0x8000);
    ((rounded >> 16) as u16).to_le_bytes()
}

fn take_half(rest: &mut &[u8]) -> anyhow::Result<f32> {
    let bytes = take(rest, 2)?;
    let upper = u16::from_le_bytes([bytes[0], bytes[1]]);
    Ok(f32::from_bits(u32::from(upper) << 16))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> anyhow::Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length).context("it ends too early")?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_survives_its_bytes() {
        let mut model = Model::default();
        for _ in 0..20 {
            model
                .learn("the striker scored a late goal", "sport")
                .unwrap();
            model
                .learn("parliament passed the budget bill", "politics")
                .unwrap();
        }
        let bytes = encode(&model).unwrap();
        let read = decode(&bytes).unwrap();
        assert_eq!(read.occurrences, model.occurrences);
        assert_eq!(
            (read.examples, read.correct, &read.labels),
            (40, 37, &model.labels)
        );
        let (one, other) = (
            model.predict("late goal").unwrap(),
            read.predict("late goal").unwrap(),
        );
        assert_eq!(one.label, other.label);
        assert!((one.confidence - other.confidence).abs() < 0.01);
        assert_eq!(encode(&read).unwrap(), bytes);
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = encode(&Model::default()).unwrap();
        assert!(decode(&bytes[..bytes.len() / 2]).is_err());
        assert!(decode(&zstd::bulk::compress(&[0xff; 9], 1).unwrap()).is_err());
    }
}

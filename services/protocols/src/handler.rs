//! What the operations do. Every protocol's server calls these functions and nothing else.

use crate::records::{Record, Summary};

/// The longest list, in records.
pub const LIST_LIMIT: u32 = 100_000;

/// Why a request is refused: it is the caller's fault.
#[derive(Debug)]
pub struct Refused(pub String);

/// Returns the record.
pub fn echo(record: Record) -> Record {
    record
}

/// Returns `count` records, made one by one as they are taken.
pub fn list(count: u32) -> Result<impl Iterator<Item = Record> + Send + 'static, Refused> {
    match count {
        0..=LIST_LIMIT => Ok((0..count).map(record)),
        _ => Err(Refused(format!(
            "a list of {count} records is longer than {LIST_LIMIT}"
        ))),
    }
}

/// Counts one more uploaded record.
pub fn take(summary: &mut Summary, record: &Record) {
    summary.records += 1;
    summary.bytes += record.data.len() as u64;
}

/// A small record: its text has what JSON and XML escape, and its data is 32 bytes.
pub fn record(number: u32) -> Record {
    Record {
        key: format!("record-{number:06}"),
        text: "Grüße, \"Anna\" & <Bob>".to_owned(),
        number,
        data: bytes(number.into(), 32),
    }
}

/// Bytes that do not compress, the same ones for the same seed (xorshift).
pub fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

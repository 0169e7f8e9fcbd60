//! The extensions of a header: kind, length and content of each, up to the name of the backing file or the end of the
//! first cluster.

use anyhow::{Context as _, Result, ensure};

use super::number;

const END: u32 = 0;
const BACKING_FORMAT: u32 = super::BACKING_FORMAT;
/// Names of feature bits, for messages. qemu-img writes them into every file of version 3.
const FEATURE_NAMES: u32 = 0x6803_f857;
/// pspd's own, in disks of domains.
pub(super) const STAMP: u32 = u32::from_be_bytes(*b"pspd");
/// QEMU's limit for the name of a format, in bytes.
const LONGEST_BACKING_FORMAT: usize = 15;

/// What extensions say.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// Of several, the last one, as in QEMU.
    pub(super) backing_format: Option<String>,
    /// The first kind that is none of those above.
    pub(super) other: Option<u32>,
}

impl Extensions {
    /// Reads all of them. QEMU refuses the same lengths.
    pub(super) fn read(bytes: &[u8]) -> Result<Extensions> {
        let mut found = Extensions::default();
        let mut next = 0;
        while next < bytes.len() {
            let head = bytes
                .get(next..next + 8)
                .context("a header extension is truncated")?;
            let (kind, length) = (number(head, 0, 4) as u32, number(head, 4, 4) as usize);
            let content = bytes[next + 8..]
                .get(..length)
                .with_context(|| format!("a header extension has {length} bytes, too many"))?;
            match kind {
                END => break,
                BACKING_FORMAT => {
                    ensure!(
                        length <= LONGEST_BACKING_FORMAT,
                        "invalid backing format name of {length} bytes"
                    );
                    found.backing_format = Some(String::from_utf8(content.to_vec())?);
                }
                FEATURE_NAMES => {}
                other => _ = found.other.get_or_insert(other),
            }
            next += 8 + length.next_multiple_of(8);
        }
        Ok(found)
    }
}

//! Reads arguments and values of variables: one line each, of a length that Linux takes.

use super::super::read::Reader;
use super::super::tree::Node;

/// In bytes: Linux refuses longer arguments and variables (`MAX_ARG_STRLEN`).
const LONGEST_LINE: usize = 100 << 10;

/// Reads a string that can be used in a unit file.
pub(super) fn one_line(reader: &Reader, node: &Node, what: &str) -> Option<String> {
    reader.parsed(node, what, |text| {
        fits(text, what).map(|()| text.to_owned())
    })
}

/// Checks the length of an argument or a variable.
pub(super) fn fits(text: &str, what: &str) -> Result<(), String> {
    match text.len() {
        length if length > LONGEST_LINE => Err(format!(
            "{what} has {length} bytes; the maximum is {LONGEST_LINE}"
        )),
        _ => Ok(()),
    }
}

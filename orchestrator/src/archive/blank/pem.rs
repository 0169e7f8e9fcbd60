//! Private keys in PEM, also inside JSON, YAML and scripts, and with headers.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// What is between the lines of a key: line ends, escaped line ends, quotes and indents.
const BREAK: &str = r#"(?:[\s"']|\\+[nrt]|\\+u000[aAdD]|\\\r?\n)+"#;
/// A line of a key's body. Programs contain the first line of PEM without a body.
const LINE: &str = "[A-Za-z0-9+/=]{40,}";
/// A header of an encrypted key.
const HEADER: &str = r"[A-Za-z][A-Za-z0-9-]*: [^\r\n\\]{1,200}";
const BEGIN: &str = "-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----";
const END: &str = "-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----";

/// Matches a private key, with or without its end.
pub(super) static PRIVATE_KEY: LazyLock<Regex> = LazyLock::new(|| {
    let closed = format!(r#"[A-Za-z0-9+/=\s"'\\]{{40,}}{END}"#);
    let open = format!("{LINE}(?:{BREAK}{LINE})*");
    let pattern = format!("(?-u){BEGIN}{BREAK}(?:{HEADER}{BREAK})*(?:{closed}|{open})");
    Regex::new(&pattern).expect("the pattern is constant")
});

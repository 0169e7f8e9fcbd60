//! Metadata of a call, as `curl` and `grpcurl` take headers: `key: value`, with base64 for keys that end in `-bin`.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap,
};

/// gRPC allows base64 with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One `key: value`.
#[derive(Clone, Debug)]
pub enum Header {
    Text(AsciiMetadataKey, AsciiMetadataValue),
    Binary(BinaryMetadataKey, BinaryMetadataValue),
}

impl Header {
    pub fn add(self, to: &mut MetadataMap) {
        // A key may come several times.
        match self {
            Header::Text(key, value) => _ = to.append(key, value),
            Header::Binary(key, value) => _ = to.append_bin(key, value),
        }
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        let (key, value) = text.split_once(':').ok_or("write it like `key: value`")?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let invalid_key =
            || format!("`{key}` is not a valid key: it has letters, digits, `-`, `_` and `.` only");
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if key.is_empty() || !key.bytes().all(is_key) {
            return Err(invalid_key());
        }
        if key.starts_with("grpc-") || RESERVED.contains(&key.as_str()) {
            return Err(format!("`{key}` is set by gRPC itself"));
        }
        if key.ends_with("-bin") {
            let bytes = BASE64.decode(value).map_err(|error| {
                let example = STANDARD.encode("text");
                format!("the value of `{key}` must be base64, such as `{example}`: {error}")
            })?;
            let key = BinaryMetadataKey::from_bytes(key.as_bytes()).map_err(|_| invalid_key())?;
            return Ok(Header::Binary(key, BinaryMetadataValue::from_bytes(&bytes)));
        }
        let written = AsciiMetadataValue::try_from(value).ok();
        let written = written.filter(|_| value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        let value = written.ok_or_else(|| {
            format!("the value of `{key}` must be printable ASCII; use a key that ends in `-bin` for other bytes")
        })?;
        let key = AsciiMetadataKey::from_bytes(key.as_bytes()).map_err(|_| invalid_key())?;
        Ok(Header::Text(key, value))
    }
}

/// Headers of HTTP/2 that belong to the call's transport.
const RESERVED: [&str; 5] = ["te", "content-type", "host", "connection", "user-agent"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_or_the_error_says_what_is_wrong() {
        for (text, problem) in [
            ("authorization: Bearer a:b", None),
            ("X-Tenant:  one  ", None),
            ("empty:", None),
            ("trace-bin: AAEC/w==", None),
            ("trace-bin: AAEC/w", None),
            ("no colon", Some("write it like `key: value`")),
            (": value", Some("`` is not a valid key")),
            ("a b: value", Some("`a b` is not a valid key")),
            (
                "grpc-timeout: 1S",
                Some("`grpc-timeout` is set by gRPC itself"),
            ),
            (
                "Content-Type: x",
                Some("`content-type` is set by gRPC itself"),
            ),
            (
                "trace-bin: ?",
                Some("the value of `trace-bin` must be base64, such as `dGV4dA==`"),
            ),
            ("key: \u{e4}", Some("must be printable ASCII")),
            ("key: a\nb", Some("must be printable ASCII")),
        ] {
            match (text.parse::<Header>(), problem) {
                (Ok(_), None) => {}
                (Err(error), Some(problem)) => assert!(error.contains(problem), "{text}: {error}"),
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }
}

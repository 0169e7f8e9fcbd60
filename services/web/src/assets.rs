//! The client's files, which are embedded in the program.

use std::ops::Range;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "client/dist/client/browser"]
struct Client;

const ENTRY: &str = "index.html";
/// Where the client's own routes do not begin.
const API: &str = "/api";

/// Serves a file, or the entry page for the client's own routes (paths without an extension).
pub(crate) async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    if path == API || path.starts_with("/api/") {
        return crate::edge::unknown().await.into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allowed = [(header::ALLOW, "GET, HEAD")];
        return (StatusCode::METHOD_NOT_ALLOWED, allowed).into_response();
    }
    let path = path.trim_start_matches('/');
    let name = if path.contains('.') { path } else { ENTRY };
    let Some(file) = Client::get(name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = tag(&file.metadata.sha256_hash());
    let asked = request.headers();
    let headers = [
        (header::CACHE_CONTROL, lifetime(name).to_owned()),
        (header::ETAG, tag.clone()),
    ];
    if names(asked, &tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let kind = [
        (header::CONTENT_TYPE, kind(name)),
        (header::ACCEPT_RANGES, "bytes"),
    ];
    let size = file.data.len();
    match range(asked, size) {
        Asked::Whole => (headers, kind, file.data).into_response(),
        Asked::Part(part) => {
            let place = format!("bytes {}-{}/{size}", part.start, part.end - 1);
            let place = [(header::CONTENT_RANGE, place)];
            let part = file.data[part].to_vec();
            (StatusCode::PARTIAL_CONTENT, headers, kind, place, part).into_response()
        }
        Asked::Nothing => {
            let place = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            (StatusCode::RANGE_NOT_SATISFIABLE, place).into_response()
        }
    }
}

/// Weak, because the same file is also sent compressed.
fn tag(digest: &[u8; 32]) -> String {
    let digits: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("W/\"{digits}\"")
}

/// Whether the caller has the file already. Source: RFC 9110, 13.1.2.
fn names(asked: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tags = asked.get_all(header::IF_NONE_MATCH).iter();
    tags.filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(','))
        .any(|one| one.trim() == "*" || opaque(one) == opaque(tag))
}

/// A name that contains a digest of the content never means another content.
fn lifetime(name: &str) -> &'static str {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digest = stem.rsplit_once('-').map_or("", |(_, digest)| digest);
    if digest.len() == 8
        && digest
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<usize>),
    Nothing,
}

/// One range of bytes; several, other units and malformed ones are ignored. Source: RFC 9110, 14.2.
fn range(asked: &HeaderMap, size: usize) -> Asked {
    // A weak tag and a date never confirm a range.
    if asked.contains_key(header::IF_RANGE) {
        return Asked::Whole;
    }
    let text = asked.get(header::RANGE).map(HeaderValue::to_str);
    let Some((first, last)) = text
        .and_then(Result::ok)
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Asked::Whole;
    };
    let part = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(last)) if first.is_empty() => size - size.min(last)..size,
        _ => return Asked::Whole,
    };
    if part.is_empty() {
        Asked::Nothing
    } else {
        Asked::Part(part)
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_in_the_standard() {
        let table = [
            ("bytes=0-3", Asked::Part(0..4)),
            ("bytes=8-", Asked::Part(8..10)),
            ("bytes=8-99", Asked::Part(8..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=3-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("lines=0-3", Asked::Whole),
        ];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(range(&headers, 10), expected, "{text}");
        }
    }

    #[test]
    fn only_names_with_a_digest_last() {
        for (name, lasts) in [
            ("main-UWKMXSSU.js", true),
            ("chunk-CX66vSin.js", true),
            ("index.html", false),
            ("favicon.svg", false),
        ] {
            assert_eq!(lifetime(name).contains("immutable"), lasts, "{name}");
        }
    }
}

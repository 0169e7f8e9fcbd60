//! What the pages of results have in common.

const STYLE: &str = include_str!("page.css");

/// Text as HTML and SVG contain it: `text` may be what a guest printed.
pub(crate) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

/// A self-contained page: `body` follows the heading.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// A table that scrolls where it is wider than the page; `rows` is HTML.
pub(crate) fn table(head: &[&str], rows: &str) -> String {
    let head: String = head.iter().map(|word| format!("<th>{word}</th>")).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

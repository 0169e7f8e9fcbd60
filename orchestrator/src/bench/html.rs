//! Text as HTML and SVG contain it.

/// `text` may be what a guest printed.
pub(super) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

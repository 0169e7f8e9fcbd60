//! Writes trees of XML elements. quick-xml escapes all text; XML is never built from strings.

use std::fmt;
use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};

/// An element with either children or text.
#[derive(Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Element>,
    text: Option<String>,
}

impl Element {
    pub(super) fn new(name: &'static str) -> Element {
        Element {
            name,
            attributes: Vec::new(),
            children: Vec::new(),
            text: None,
        }
    }

    /// Returns an element that contains only text.
    pub(super) fn text(name: &'static str, text: impl fmt::Display) -> Element {
        let text = Some(text.to_string());
        Element {
            text,
            ..Element::new(name)
        }
    }

    /// Returns an element that contains only a path.
    pub(super) fn path(name: &'static str, path: &Path) -> Element {
        Element::text(name, path.display())
    }

    pub(super) fn attribute(mut self, name: &'static str, value: impl fmt::Display) -> Element {
        self.attributes.push((name, value.to_string()));
        self
    }

    pub(super) fn child(mut self, child: Element) -> Element {
        self.children.push(child);
        self
    }

    pub(super) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Element {
        self.children.extend(children);
        self
    }

    /// Returns the document, indented by two spaces.
    pub(super) fn to_xml(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer)
            .expect("writing to memory does not fail");
        String::from_utf8(writer.into_inner()).expect("a writer of strings writes UTF-8")
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let mut start = BytesStart::new(self.name);
        for (name, value) in &self.attributes {
            start.push_attribute((*name, value.as_str()));
        }
        if self.children.is_empty() && self.text.is_none() {
            return writer.write_event(Event::Empty(start));
        }
        writer.write_event(Event::Start(start))?;
        if let Some(text) = &self.text {
            writer.write_event(Event::Text(BytesText::new(text)))?;
        }
        for child in &self.children {
            child.write(writer)?;
        }
        writer.write_event(Event::End(BytesEnd::new(self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_escaped() {
        let element = Element::new("a")
            .attribute("b", "'\"<&>")
            .child(Element::text("c", "</c><d>&"));
        assert_eq!(
            element.to_xml(),
            "<a b=\"&apos;&quot;&lt;&amp;&gt;\">\n  <c>&lt;/c&gt;&lt;d&gt;&amp;</c>\n</a>"
        );
    }
}

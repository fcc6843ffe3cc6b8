//! Writes HTML and SVG. Whatever is text goes through here and is escaped; tags close in the order in which they were opened.
//! It knows nothing of what a page says.

use std::fmt::{Display, Write as _};

/// A document that is being written.
#[derive(Debug, Default)]
pub(super) struct Markup {
    text: String,
    open: Vec<&'static str>,
}

/// Attributes of an element.
pub(super) type Attributes<'a> = [(&'static str, &'a dyn Display)];

impl Markup {
    /// A tag whose content comes next.
    pub(super) fn open(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        self.tag(tag, attributes);
        self.text.push('>');
        self.open.push(tag);
    }

    /// The end of the tag that was opened last.
    pub(super) fn close(&mut self) {
        if let Some(tag) = self.open.pop() {
            let _infallible = write!(self.text, "</{tag}>");
            if matches!(tag, "section" | "svg" | "table" | "tr" | "g" | "p" | "div" | "head") {
                self.text.push('\n');
            }
        }
    }

    /// Text, escaped.
    pub(super) fn say(&mut self, text: impl Display) {
        escape(&mut self.text, &text.to_string());
    }

    /// An element that holds text and nothing else.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: &Attributes<'_>, text: impl Display) {
        self.open(tag, attributes);
        self.say(text);
        self.close();
    }

    /// An element of SVG without content.
    pub(super) fn shape(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        self.tag(tag, attributes);
        self.text.push_str("/>");
    }

    /// An element of HTML that has no content and no end.
    pub(super) fn void(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        self.tag(tag, attributes);
        self.text.push('>');
    }

    /// An element of SVG that tells more to whoever points at it.
    pub(super) fn hint(&mut self, tag: &'static str, attributes: &Attributes<'_>, title: impl Display) {
        self.open(tag, attributes);
        self.leaf("title", &[], title);
        self.close();
    }

    /// A text that tells more to whoever points at it.
    pub(super) fn hint_text(&mut self, attributes: &Attributes<'_>, text: impl Display, title: impl Display) {
        self.open("text", attributes);
        self.leaf("title", &[], title);
        self.say(text);
        self.close();
    }

    /// What is written by this program itself and holds no text of others: the style sheet, the document's type.
    pub(super) fn own(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// The whole, with everything closed.
    pub(super) fn end(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }

    fn tag(&mut self, tag: &'static str, attributes: &Attributes<'_>) {
        let _infallible = write!(self.text, "<{tag}");
        for (name, value) in attributes {
            let _infallible = write!(self.text, " {name}=\"");
            escape(&mut self.text, &value.to_string());
            self.text.push('"');
        }
    }
}

/// Characters that HTML does not know stay out of it, as well as those that would end a text or an attribute.
fn escape(to: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            c if c.is_control() && c != '\n' => to.push('\u{fffd}'),
            c => to.push(c),
        }
    }
}

/// A coordinate, to a tenth.
pub(super) fn px(at: f64) -> String {
    let text = format!("{at:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_cannot_become_markup() {
        let mut page = Markup::default();
        page.open("p", &[("title", &"\"><script>")]);
        page.say("<b>'&\u{1}\n");
        assert_eq!(page.end(), "<p title=\"&quot;&gt;&lt;script&gt;\">&lt;b&gt;&#39;&amp;\u{fffd}\n</p>\n");
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!((px(3.0), px(3.04), px(-0.25)), ("3".to_owned(), "3".to_owned(), "-0.2".to_owned()));
    }
}

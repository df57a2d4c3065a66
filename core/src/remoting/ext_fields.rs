//! The extFields of a command: a small map of strings in one shared text.
//!
//! Decoding copies the header once and notes where each name and value lies, so a field costs no allocation.
//!
//! Invariant: names are unique. Invariant: spans lie in `text`, on character boundaries.

use std::fmt::{self, Display, Write};

/// An ordered map of strings. Two are equal when they hold the same pairs: Java's order is that of a hash map.
#[derive(Clone, Default)]
pub struct ExtFields {
    text: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    name: Span,
    value: Span,
}

/// A range of `text`. A header has 24 bits of length, so 32 are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range `start..end`, in bytes. None if it is longer than any header.
    pub(crate) fn new(start: usize, end: usize) -> Option<Self> {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) if start <= end => Some(Self { start, end }),
            _ => None,
        }
    }
}

impl ExtFields {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| self.slice(entry.name) == name)?;
        Some(self.slice(entry.value))
    }

    /// Sets a field, replacing what it held.
    pub fn set(&mut self, name: &str, value: impl Display) {
        let value = self.append(|text| {
            // Writing to a String fails only if the value's own Display does; what it wrote until then stands.
            let _ = write!(text, "{value}");
        });
        self.insert(name, value);
    }

    /// Sets a field to a text, without the detour through formatting.
    pub fn set_str(&mut self, name: &str, value: &str) {
        let value = self.append(|text| text.push_str(value));
        self.insert(name, value);
    }

    /// Sets a field to a number.
    pub fn set_int(&mut self, name: &str, value: impl itoa::Integer) {
        let mut digits = itoa::Buffer::new();
        self.set_str(name, digits.format(value));
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|entry| (self.slice(entry.name), self.slice(entry.value)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Starts from a decoded header: `text` holds it, spans are added by [`Self::push_span`].
    pub(crate) fn with_text(text: String) -> Self {
        // Real requests have 5 to 15 fields.
        Self { text, entries: Vec::with_capacity(16) }
    }

    /// The text behind the spans.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Appends what `write` writes and returns where it lies.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut String)) -> Span {
        let start = self.text.len();
        write(&mut self.text);
        Span::new(start, self.text.len()).expect("headers are far below 4 GiB")
    }

    /// Adds a field whose name and value lie in the text; a later duplicate wins, as in Java.
    ///
    /// `may_exist` spares the search where the caller knows that the name is new.
    pub(crate) fn push_span(&mut self, name: Span, value: Span, may_exist: bool) {
        debug_assert!(
            self.text.get(name.start as usize..name.end as usize).is_some(),
            "{name:?} not in text"
        );
        debug_assert!(
            self.text.get(value.start as usize..value.end as usize).is_some(),
            "{value:?} not in text"
        );
        if may_exist {
            let found = self.entries.iter().position(|entry| self.slice(entry.name) == self.slice(name));
            if let Some(entry) = found.and_then(|position| self.entries.get_mut(position)) {
                entry.value = value;
                return;
            }
        }
        self.entries.push(Entry { name, value });
    }

    fn insert(&mut self, name: &str, value: Span) {
        let found = self.entries.iter().position(|entry| self.slice(entry.name) == name);
        if let Some(entry) = found.and_then(|position| self.entries.get_mut(position)) {
            entry.value = value;
            return;
        }
        let name = self.append(|text| text.push_str(name));
        self.entries.push(Entry { name, value });
    }

    fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }
}

impl PartialEq for ExtFields {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl fmt::Debug for ExtFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_replaced_not_doubled() {
        let mut ext = ExtFields::default();
        ext.set("topic", "A");
        ext.set("queueId", 3);
        ext.set_str("topic", "中");
        assert_eq!(ext.len(), 2);
        assert_eq!(ext.get("topic"), Some("中"));
        assert_eq!(ext.get("queueId"), Some("3"));
        assert_eq!(ext.get("Topic"), None);
        assert_eq!(ext.iter().collect::<Vec<_>>(), [("topic", "中"), ("queueId", "3")]);
    }

    #[test]
    fn order_does_not_matter_for_equality() {
        let (mut one, mut other) = (ExtFields::default(), ExtFields::default());
        one.set_int("a", 1);
        one.set_int("b", i64::MIN);
        other.set_str("b", "-9223372036854775808");
        assert_ne!(one, other);
        other.set_str("a", "1");
        assert_eq!(one, other);
    }
}

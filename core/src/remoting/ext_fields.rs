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

/// Where one field's name and value lie.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: Span,
    pub(crate) value: Span,
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

    /// The same as a range of indices.
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    fn is_text(self, text: &str, expected: &str) -> bool {
        // The length alone tells most names apart; a span that is on character boundaries need not be checked again.
        (self.end - self.start) as usize == expected.len()
            && text.as_bytes().get(self.range()) == Some(expected.as_bytes())
    }
}

impl ExtFields {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|entry| entry.name.is_text(&self.text, name))?;
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

    /// A decoded header's fields. The spans lie in `text`, and the names are unique.
    pub(crate) fn from_parts(text: String, entries: Vec<Entry>) -> Self {
        debug_assert!(
            entries.iter().all(|entry| text.get(entry.name.range()).is_some()),
            "names in the text"
        );
        debug_assert!(
            entries.iter().all(|entry| text.get(entry.value.range()).is_some()),
            "values in the text"
        );
        Self { text, entries }
    }

    /// The text behind the spans.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn append(&mut self, write: impl FnOnce(&mut String)) -> Span {
        if self.entries.capacity() == 0 {
            // Room for a usual response, so that it is built with two allocations.
            self.text.reserve(192);
            self.entries.reserve(8);
        }
        let start = self.text.len();
        write(&mut self.text);
        Span::new(start, self.text.len()).expect("headers are far below 4 GiB")
    }

    fn insert(&mut self, name: &str, value: Span) {
        let found = self.entries.iter().position(|entry| entry.name.is_text(&self.text, name));
        if let Some(entry) = found.and_then(|position| self.entries.get_mut(position)) {
            entry.value = value;
            return;
        }
        let name = self.append(|text| text.push_str(name));
        self.entries.push(Entry { name, value });
    }

    #[inline]
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

/// Collects the entries of a header that is being decoded; of equal names the last wins, as in Java.
#[derive(Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    seen: u64,
}

impl Entries {
    /// Adds a field whose name and value lie in `text`.
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8], name: Span, value: Span) {
        let name_text = text.get(name.range()).unwrap_or_default();
        if self.may_repeat(name_text) {
            let same = |entry: &&mut Entry| text.get(entry.name.range()) == Some(name_text);
            if let Some(entry) = self.entries.iter_mut().find(same) {
                entry.value = value;
                return;
            }
        }
        if self.entries.capacity() == 0 {
            // Real requests have 5 to 15 fields.
            self.entries.reserve(16);
        }
        self.entries.push(Entry { name, value });
    }

    /// How many fields there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries in order.
    pub(crate) fn into_vec(self) -> Vec<Entry> {
        self.entries
    }

    /// Whether a name may have been met before: 64 bits that spare comparing each name with all others.
    fn may_repeat(&mut self, name: &[u8]) -> bool {
        let mix = |byte: Option<&u8>, factor: usize| byte.map_or(0, |byte| usize::from(*byte) * factor);
        let bit = (mix(name.first(), 1) + mix(name.last(), 5) + name.len() * 11) % 64;
        let repeats = self.seen >> bit & 1 == 1;
        self.seen |= 1 << bit;
        repeats
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

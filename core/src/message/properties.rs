//! The property string of a message: `name 0x01 value 0x02 name 0x01 value ...`, without escapes.
//!
//! The last 0x02 is there from 5.x writers and missing from 4.9 ones. Reading follows Java to the letter, because a
//! property that is read differently is filtered, delayed or indexed differently: a segment of less than three
//! characters, without 0x01, or with an empty name or value is no property, and the last of equal names wins.

use std::fmt::Write;

/// Ends a name.
pub const NAME_SEPARATOR: char = '\u{1}';
/// Ends a property.
pub const PROPERTY_SEPARATOR: char = '\u{2}';

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
    };
}

names! {
    /// Business keys, separated by single spaces.
    KEYS = "KEYS";
    /// The tag that filters look at.
    TAGS = "TAGS";
    /// "false": the sender does not wait for flush or replication.
    WAIT = "WAIT";
    /// The delay level, from 1.
    DELAY = "DELAY";
    RETRY_TOPIC = "RETRY_TOPIC";
    /// Where a delayed or half message really goes.
    REAL_TOPIC = "REAL_TOPIC";
    /// The queue it really goes to.
    REAL_QID = "REAL_QID";
    /// "true" marks a half message.
    TRAN_MSG = "TRAN_MSG";
    PGROUP = "PGROUP";
    MIN_OFFSET = "MIN_OFFSET";
    MAX_OFFSET = "MAX_OFFSET";
    ORIGIN_MESSAGE_ID = "ORIGIN_MESSAGE_ID";
    RECONSUME_TIME = "RECONSUME_TIME";
    MSG_REGION = "MSG_REGION";
    TRACE_ON = "TRACE_ON";
    /// The id that the sending client made up.
    UNIQ_KEY = "UNIQ_KEY";
    MAX_RECONSUME_TIMES = "MAX_RECONSUME_TIMES";
    CONSUME_START_TIME = "CONSUME_START_TIME";
    INNER_NUM = "INNER_NUM";
    INNER_BASE = "INNER_BASE";
    CHECK_IMMUNITY_TIME_IN_SECONDS = "CHECK_IMMUNITY_TIME_IN_SECONDS";
    TRAN_PREPARED_QUEUE_OFFSET = "TRAN_PREPARED_QUEUE_OFFSET";
    TRANSACTION_ID = "__transactionId__";
    TRANSACTION_CHECK_TIMES = "TRANSACTION_CHECK_TIMES";
    INSTANCE_ID = "INSTANCE_ID";
    CORRELATION_ID = "CORRELATION_ID";
    REPLY_TO_CLIENT = "REPLY_TO_CLIENT";
    TTL = "TTL";
    ARRIVE_TIME = "ARRIVE_TIME";
    PUSH_REPLY_TIME = "PUSH_REPLY_TIME";
    CLUSTER = "CLUSTER";
    MSG_TYPE = "MSG_TYPE";
    SHARDING_KEY = "__SHARDINGKEY";
    /// Of 5.4: chooses the queue of a message of no other type.
    PRIORITY = "_SYS_MSG_PRIORITY_";
    INNER_MULTI_DISPATCH = "INNER_MULTI_DISPATCH";
    INNER_MULTI_QUEUE_OFFSET = "INNER_MULTI_QUEUE_OFFSET";
    TIMER_DELAY_SEC = "TIMER_DELAY_SEC";
    TIMER_DELIVER_MS = "TIMER_DELIVER_MS";
    TIMER_DELAY_MS = "TIMER_DELAY_MS";
    BORN_HOST = "__BORNHOST";
    BORN_TIMESTAMP = "BORN_TIMESTAMP";
    /// Checksum of a whole record.
    CRC32 = "__CRC32#";
    DLQ_ORIGIN_TOPIC = "DLQ_ORIGIN_TOPIC";
    DLQ_ORIGIN_MESSAGE_ID = "DLQ_ORIGIN_MESSAGE_ID";
}

/// The properties of a message, in the order of the string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pairs: Vec<(String, String)>,
}

/// Reads a property string.
pub fn decode(raw: &str) -> Properties {
    let mut properties = Properties::default();
    for (name, value) in iter(raw) {
        properties.set(name, value);
    }
    properties
}

/// Looks one property up without reading the others into anything.
pub fn find<'a>(raw: &'a str, name: &str) -> Option<&'a str> {
    iter(raw).filter(|(found, _)| *found == name).last().map(|(_, value)| value)
}

/// The properties in order; equal names are not yet resolved.
pub fn iter(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    segments(raw).map(|segment| (segment.name, segment.value))
}

/// One property as it stands in the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub name: &'a str,
    pub value: &'a str,
    /// Both, with the separator between them.
    pub whole: &'a str,
}

/// As [`iter`], each with its own piece of the string.
pub fn segments(raw: &str) -> Segments<'_> {
    Segments { rest: raw }
}

/// Walks a property string. On the path of every message, several times over: hence by words of eight bytes.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        while !self.rest.is_empty() {
            let end = find_byte(self.rest.as_bytes(), PROPERTY_SEPARATOR as u8);
            let (whole, rest) = match end {
                Some(end) => (self.rest.get(..end)?, self.rest.get(end + 1..)?),
                None => (self.rest, ""),
            };
            self.rest = rest;
            // Java counts UTF-16 units, but a segment of two with both parts non-empty cannot exist.
            let Some(at) = find_byte(whole.as_bytes(), NAME_SEPARATOR as u8) else { continue };
            let (name, value) = (whole.get(..at)?, whole.get(at + 1..)?);
            if !name.is_empty() && !value.is_empty() {
                return Some(Segment { name, value, whole });
            }
        }
        None
    }
}

/// Where `byte` stands first.
#[inline]
pub(crate) fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let differs = u64::from_le_bytes(*word) ^ (ONES * u64::from(byte));
        // The lowest bit that is set marks the lowest byte that is zero; a borrow can only spoil bits above it.
        let zeros = differs.wrapping_sub(ONES) & !differs & HIGH_BITS;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = bytes.get(at..)?;
    Some(at + rest.iter().position(|found| *found == byte)?)
}

impl Properties {
    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Sets a property in its place, or behind the others.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.pairs.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value.into(),
            None => self.pairs.push((name.to_owned(), value.into())),
        }
    }

    /// Takes a property out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(found, _)| found == name)?;
        Some(self.pairs.remove(at).1)
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The property string, with or without the separator behind the last property.
    pub fn encode(&self, trailing_separator: bool) -> String {
        let mut text =
            String::with_capacity(self.pairs.iter().map(|(name, value)| name.len() + value.len() + 2).sum());
        for (name, value) in &self.pairs {
            // Writing to a String does not fail.
            let _ = write!(text, "{name}{NAME_SEPARATOR}{value}{PROPERTY_SEPARATOR}");
        }
        if !trailing_separator {
            text.pop();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_segments_are_no_properties() {
        let properties = decode("\u{1}3\u{2}b\u{1}2\u{2}ab\u{2}\u{2}a\u{1}\u{2}a\u{1}1\u{1}2\u{2}tail");
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("b", "2"), ("a", "1\u{1}2")]);
        assert!(decode("").is_empty());
        assert!(decode("\u{2}").is_empty());
    }

    #[test]
    fn the_last_of_equal_names_wins() {
        let raw = "a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3";
        assert_eq!(find(raw, "a"), Some("3"));
        assert_eq!(decode(raw).get("a"), Some("3"));
        assert_eq!(find(raw, "c"), None);
    }

    #[test]
    fn the_last_separator_is_a_choice() {
        let mut properties = decode("a\u{1}1\u{2}b\u{1}2");
        assert_eq!(properties.encode(false), "a\u{1}1\u{2}b\u{1}2");
        assert_eq!(properties.encode(true), "a\u{1}1\u{2}b\u{1}2\u{2}");
        assert_eq!(properties.remove("a").as_deref(), Some("1"));
        properties.set("b", "3");
        assert_eq!(properties.encode(true), "b\u{1}3\u{2}");
        assert_eq!(Properties::default().encode(false), "");
    }

    proptest! {
        #[test]
        fn a_byte_is_found_where_it_stands_first(bytes in prop::collection::vec(0u8..6, 0..40), byte in 0u8..6) {
            prop_assert_eq!(find_byte(&bytes, byte), bytes.iter().position(|found| *found == byte));
        }

        #[test]
        fn segments_are_the_pieces_between_separators(raw in "([aé]|\u{1}|\u{2}){0,40}") {
            let pieces = raw.split(PROPERTY_SEPARATOR).filter_map(|whole| {
                let (name, value) = whole.split_once(NAME_SEPARATOR)?;
                (!name.is_empty() && !value.is_empty()).then_some(Segment { name, value, whole })
            });
            prop_assert_eq!(segments(&raw).collect::<Vec<_>>(), pieces.collect::<Vec<_>>());
        }

        #[test]
        fn encoded_properties_read_back(
            pairs in prop::collection::btree_map("[^\u{1}\u{2}]{1,8}", "[^\u{1}\u{2}]{1,8}", 0..6),
            trailing in any::<bool>(),
        ) {
            let mut properties = Properties::default();
            for (name, value) in &pairs {
                properties.set(name, value.as_str());
            }
            let raw = properties.encode(trailing);
            prop_assert_eq!(decode(&raw), properties);
            for (name, value) in &pairs {
                prop_assert_eq!(find(&raw, name), Some(value.as_str()));
            }
        }

        #[test]
        fn looking_up_agrees_with_reading_all(raw in "([ab]|\u{1}|\u{2}){0,24}", name in "[ab]{1,2}") {
            let properties = decode(&raw);
            prop_assert_eq!(find(&raw, &name), properties.get(&name));
        }
    }
}

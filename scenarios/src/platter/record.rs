//! One CommitLog record, decoded from raw bytes.
//!
//!   0..4   size of the whole record      4..8   magic: 0xDAA320A7 or 0xDAA320AB (topic length in 2 bytes), 0xCBD43194 blank
//!   8..12  CRC-32 of the body, top bit 0  12..16 queue   16..20 flag   20..28 queue offset   28..36 physical offset
//!   36..40 system flag   40..48 born time   then born host (8 or 20)   store time (8)   store host (8 or 20)
//!   reconsume times (4)   prepared transaction offset (8)   body length (4)   body   topic length (1 or 2)   topic
//!   properties length (2)   properties
//!
//! # Source
//! `spec/store.md`, section 2.

use std::net::SocketAddrV4;
use std::ops::Range;

use super::crc::crc32;
use super::{i16_at, i32_at, i64_at};

const MAGIC_V1: i32 = 0xDAA3_20A7_u32 as i32;
const MAGIC_V2: i32 = 0xDAA3_20AB_u32 as i32;
const MAGIC_BLANK: i32 = 0xCBD4_3194_u32 as i32;

const BORN_HOST_V6: i32 = 0x10;
const STORE_HOST_V6: i32 = 0x20;
const TRANSACTION_MASK: i32 = 0xC;
const TRANSACTION_PREPARED: i32 = 0x4;
const TRANSACTION_ROLLBACK: i32 = 0xC;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it starts in the log.
    pub at: u64,
    pub bytes: u32,
    pub topic: String,
    pub queue: i32,
    pub queue_offset: i64,
    /// The application's own number.
    pub flag: i32,
    pub system_flag: i32,
    pub born_ms: i64,
    /// Who has sent it; `None`: over IPv6, which no node here speaks.
    pub born_host: Option<SocketAddrV4>,
    pub store_ms: i64,
    /// The broker that took it; `None` as above.
    pub store_host: Option<SocketAddrV4>,
    /// Where the half message is that this one was made of; 0 in all others.
    pub prepared: i64,
    pub reconsume_times: i32,
    pub properties: String,
    pub body: Vec<u8>,
}

impl Record {
    #[must_use]
    pub fn end(&self) -> u64 {
        self.at + u64::from(self.bytes)
    }

    /// Where its body begins, from its own first byte on.
    #[must_use]
    pub fn body_at(&self) -> u64 {
        let host = |v6: i32| if self.system_flag & v6 != 0 { 20 } else { 8 };
        72 + host(BORN_HOST_V6) + host(STORE_HOST_V6)
    }

    /// Whether it is a half message, was made of one, or settles one. A broker may store the very same once more.
    #[must_use]
    pub fn is_of_transaction(&self) -> bool {
        let is_own = ["RMQ_SYS_TRANS_", "TRANS_CHECK_"].iter().any(|prefix| self.topic.starts_with(prefix));
        is_own || self.system_flag & TRANSACTION_MASK != 0
    }

    /// Records of a half or rolled-back transaction have no queue entry.
    #[must_use]
    pub fn has_queue_entry(&self) -> bool {
        let kind = self.system_flag & TRANSACTION_MASK;
        kind != TRANSACTION_PREPARED && kind != TRANSACTION_ROLLBACK
    }
}

/// What stands at a place of a log file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    Record(Record),
    /// The rest of the file is unused.
    Blank,
    /// Nothing valid: zeros, or the reason.
    End(&'static str),
}

/// Decodes what is at the start of `bytes`, the rest of a file from log offset `at` on.
#[must_use]
pub fn decode(bytes: &[u8], at: u64) -> Found {
    match header(bytes, at) {
        Ok(found) => found,
        Err(why) => Found::End(why),
    }
}

fn header(bytes: &[u8], at: u64) -> Result<Found, &'static str> {
    const SHORT: &str = "the file ends inside the record";
    let int = |offset: usize| i32_at(bytes, offset).ok_or(SHORT);
    let long = |offset: usize| i64_at(bytes, offset).ok_or(SHORT);
    let (size, magic) = (int(0)?, int(4)?);
    if magic == MAGIC_BLANK {
        return if usize::try_from(size) == Ok(bytes.len()) {
            Ok(Found::Blank)
        } else {
            Err("a blank record that does not fill the file")
        };
    }
    if size == 0 && magic == 0 {
        return Err("zeros");
    }
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return Err("no record magic");
    }
    let size = usize::try_from(size).map_err(|_| "a negative size")?;
    if size > bytes.len() {
        return Err(SHORT);
    }
    if long(28)? != i64::try_from(at).map_err(|_| "an offset past 2^63")? {
        return Err("the record says that it stands elsewhere");
    }
    let system_flag = int(36)?;
    let host = |v6: i32| if system_flag & v6 != 0 { 20 } else { 8 };
    let store_time = 48 + host(BORN_HOST_V6);
    let body_length = store_time + 8 + host(STORE_HOST_V6) + 12;
    let body = span(body_length + 4, int(body_length)?, size)?;
    let (topic_length, topic_start) = if magic == MAGIC_V1 {
        (i32::from(*bytes.get(body.end).ok_or(SHORT)? as i8), body.end + 1)
    } else {
        (i32::from(i16_at(bytes, body.end).ok_or(SHORT)?), body.end + 2)
    };
    let topic = span(topic_start, topic_length, size)?;
    let properties = span(topic.end + 2, i32::from(i16_at(bytes, topic.end).ok_or(SHORT)?), size)?;
    if properties.end != size {
        return Err("lengths that do not add up to the size");
    }
    let body = bytes.get(body).ok_or(SHORT)?;
    if int(8)? != (crc32(body) & 0x7FFF_FFFF) as i32 {
        return Err("a body that does not match its CRC");
    }
    let text = |range: Range<usize>| {
        let text =
            std::str::from_utf8(bytes.get(range).ok_or(SHORT)?).map_err(|_| "text that is not UTF-8")?;
        Ok::<_, &'static str>(text.to_owned())
    };
    Ok(Found::Record(Record {
        at,
        bytes: u32::try_from(size).map_err(|_| SHORT)?,
        topic: text(topic)?,
        queue: int(12)?,
        queue_offset: long(20)?,
        flag: int(16)?,
        system_flag,
        born_ms: long(40)?,
        born_host: host_at(bytes, 48, system_flag & BORN_HOST_V6 != 0),
        store_ms: long(store_time)?,
        store_host: host_at(bytes, store_time + 8, system_flag & STORE_HOST_V6 != 0),
        prepared: long(body_length - 8)?,
        reconsume_times: int(body_length - 12)?,
        properties: text(properties)?,
        body: body.to_vec(),
    }))
}

fn host_at(bytes: &[u8], at: usize, is_v6: bool) -> Option<SocketAddrV4> {
    if is_v6 {
        return None;
    }
    let ip: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(SocketAddrV4::new(ip.into(), u16::try_from(i32_at(bytes, at + 4)?).ok()?))
}

fn span(start: usize, length: i32, size: usize) -> Result<Range<usize>, &'static str> {
    let length = usize::try_from(length).map_err(|_| "a negative length")?;
    let end = start.checked_add(length).ok_or("a length past the record")?;
    if end > size { Err("a length past the record") } else { Ok(start..end) }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::workload::{Identity, flag_of, identify};

    /// What records are born after.
    const BORN_MS: i64 = 1_700_000_000_000;

    /// A record as a broker writes it, built here field by field.
    #[must_use]
    pub fn encode(
        at: u64,
        topic: &str,
        queue: i32,
        queue_offset: i64,
        store_ms: i64,
        body: &[u8],
        properties: &str,
    ) -> Vec<u8> {
        let flag = match identify(body) {
            Identity::Whole(id) => flag_of(id),
            _ => 5,
        };
        let size = 91 + body.len() + topic.len() + properties.len();
        let mut record = Vec::with_capacity(size);
        record.extend((size as i32).to_be_bytes());
        record.extend(MAGIC_V1.to_be_bytes());
        record.extend(((crc32(body) & 0x7FFF_FFFF) as i32).to_be_bytes());
        record.extend(queue.to_be_bytes());
        record.extend(flag.to_be_bytes());
        record.extend(queue_offset.to_be_bytes());
        record.extend((at as i64).to_be_bytes());
        record.extend(0i32.to_be_bytes());
        record.extend((BORN_MS + store_ms).to_be_bytes());
        record.extend([10, 0, 2, 1, 0, 0, 0, 9]);
        record.extend(store_ms.to_be_bytes());
        record.extend([10, 0, 1, 1, 0, 0, 42, 159]);
        record.extend(0i32.to_be_bytes());
        record.extend(0i64.to_be_bytes());
        record.extend((body.len() as i32).to_be_bytes());
        record.extend(body);
        record.push(topic.len() as u8);
        record.extend(topic.as_bytes());
        record.extend((properties.len() as i16).to_be_bytes());
        record.extend(properties.as_bytes());
        assert_eq!(record.len(), size);
        record
    }

    #[test]
    fn a_record_is_read_back_field_by_field() {
        let bytes = encode(4096, "topic-0", 2, 17, 99, b"body", "TAGS\u{1}a\u{2}");
        let Found::Record(record) = decode(&bytes, 4096) else { panic!("not a record") };
        assert_eq!((record.at, record.bytes as usize), (4096, bytes.len()));
        assert_eq!((record.topic.as_str(), record.queue, record.queue_offset), ("topic-0", 2, 17));
        assert_eq!((record.store_ms, record.body.as_slice()), (99, b"body".as_slice()));
        assert_eq!(record.properties, "TAGS\u{1}a\u{2}");
        assert_eq!((record.flag, record.born_ms), (5, BORN_MS + 99));
        let host = |text: &str| text.parse::<SocketAddrV4>().ok();
        assert_eq!((record.born_host, record.store_host), (host("10.0.2.1:9"), host("10.0.1.1:10911")));
    }

    #[test]
    fn no_cut_and_no_flip_makes_it_panic_and_a_damaged_body_is_refused() {
        let bytes = encode(0, "topic-0", 0, 0, 1, &[b'x'; 30], "TAGS\u{1}a\u{2}");
        for cut in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..cut], 0), Found::End(_)), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            let _ = decode(&damaged, 0);
        }
        let mut damaged = bytes.clone();
        damaged[95] ^= 1;
        assert_eq!(decode(&damaged, 0), Found::End("a body that does not match its CRC"));
        assert_eq!(decode(&bytes, 8), Found::End("the record says that it stands elsewhere"));
    }
}

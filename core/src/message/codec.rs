//! One CommitLog record, big-endian. `B` and `S` are 8 for IPv4 and 20 for IPv6, `T` is 1 in version 1 and 2 in version 2.
//!   0..4      size of the whole record, this field included
//!   4..8      magic: 0xDAA320A7 version 1, 0xDAA320AB version 2, 0xCBD43194 blank (rest of the file)
//!   8..12     CRC-32 of the body, top bit cleared
//!   12..16    queue id
//!   16..20    the producer's flag
//!   20..28    queue offset, in entries
//!   28..36    physical offset of byte 0 of this record, in bytes
//!   36..40    sysFlag
//!   40..48    born time, ms
//!   48..      born host, B bytes: address and a port of 4 bytes
//!   +8        store time, ms
//!   +S        store host
//!   +4        times consumed again
//!   +8        offset of the half message that this settles
//!   +4        body length, then the body
//!   +T        topic length, then the topic, UTF-8
//!   +2        property length (at most 32,767), then the properties, UTF-8; Java keeps those of a batch's members as they came
//! A record checksum, when written, is the last 20 bytes of the properties: `__CRC32#`, 0x01, ten digits of the CRC-32 of
//! all before it (top bit cleared, lowest digit first), 0x02.
//!
//! Without it, as Java writes by default, a record shows less of what a loss of power has done to it. A disk writes sectors
//! whole or not at all, and what a file has not been given yet is zero: a sector of a record that was lost has zeros from some
//! place of the record on to its end. Zeros in the header, or over a length, leave lengths that do not add up; zeros in the body
//! break its checksum; zeros over the end of a topic, of the properties, or of their part in one sector are what no record has
//! that is written here: one without a body, or with a zero in its properties, is given a checksum whatever the settings say.
//! So is one whose sender's last property is like a checksum, which would pass for a damaged one.
//! So [`check_torn`] sees every lost sector of our records. What it cannot promise: of records that others wrote, it takes a zero
//! that their sender put at the end of a sector for a lost one, and may miss one in the header of a record without a body; and
//! nothing but the checksum shows a bit that has turned outside of a body, or bytes that an earlier life of the file left there.
//!
//! Invariant: 91 bytes besides body, topic and properties with IPv4 hosts in version 1.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BufMut;

use super::MessageToStore;
use super::properties::find_byte;
use super::sys_flag::{BORN_HOST_V6, STORE_HOST_V6};

pub const MAGIC_V1: u32 = 0xDAA3_20A7;
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
pub const MAGIC_BLANK: u32 = 0xCBD4_3194;

/// A blank record's meaningful bytes: its length and magic.
pub const BLANK_BYTES: usize = 8;
/// Bytes of the record checksum property.
pub const CRC_PROPERTY_BYTES: usize = 20;
/// The most bytes of properties a record can hold, checksum included.
pub const PROPERTIES_BYTES_MAX: usize = i16::MAX as usize;
/// The most bytes of a topic's name in a version 2 record that brokers accept.
pub const TOPIC_BYTES_MAX: usize = 255;

const CRC_PROPERTY_NAME: &[u8; 9] = b"__CRC32#\x01";
const NAME_SEPARATOR: u8 = 0x01;
const PROPERTY_SEPARATOR: u8 = 0x02;
/// Besides body, topic and properties: IPv4 hosts, version 1.
const FIXED_BYTES: usize = 91;

/// What a disk writes whole or not at all, in bytes; those that write more at once write a multiple.
const SECTOR_BYTES: usize = 512;

const _: () = assert!(CRC_PROPERTY_NAME.len() + 11 == CRC_PROPERTY_BYTES);

/// CRC-32 as records carry it: the top bit cleared.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes) & 0x7FFF_FFFF
}

/// A message that no record can hold. Its sender must change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("the topic has {bytes} bytes, at most {max} are allowed")]
    Topic { bytes: usize, max: usize },
    #[error("the properties have {bytes} bytes with the record checksum, at most {max} are allowed")]
    Properties { bytes: usize, max: usize },
    #[error("the record has {bytes} bytes, more than its length field can say")]
    Record { bytes: usize },
}

/// Where a record is put: what is known only under the append lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub queue_offset: i64,
    pub physical_offset: u64,
    pub store_timestamp: i64,
}

/// A message checked and measured, its body summed, so that encoding under the append lock only copies.
#[derive(Debug)]
pub struct Prepared<'a> {
    message: MessageToStore<'a>,
    /// The properties in up to two parts, around a checksum property that was taken out.
    properties: [&'a str; 2],
    separate: bool,
    record_crc: bool,
    properties_bytes: usize,
    size: u32,
    sys_flag: i32,
    magic: u32,
    body_crc: u32,
}

/// Measures `message` and computes its body checksum. It is given a record checksum when `record_crc` says so, and when the
/// record could not be told from a torn one without it.
///
/// # Errors
/// [`EncodeError`] when a field cannot hold it.
pub fn prepare(message: MessageToStore<'_>, record_crc: bool) -> Result<Prepared<'_>, EncodeError> {
    let topic_bytes = message.topic.len();
    if topic_bytes > TOPIC_BYTES_MAX {
        return Err(EncodeError::Topic { bytes: topic_bytes, max: TOPIC_BYTES_MAX });
    }
    // Java chooses by UTF-16 units; by bytes is the same for every name a broker accepts, and safe for all others.
    let version_2 = topic_bytes > i8::MAX as usize;
    let properties = without_record_crc(message.properties);
    let record_crc = record_crc
        || message.body.is_empty()
        || find_byte(message.properties.as_bytes(), 0).is_some()
        || last_bytes(properties).is_some_and(|tail| is_like_crc(&tail));
    let plain = properties[0].len() + properties[1].len();
    let ends_open = properties
        .iter()
        .rev()
        .find(|part| !part.is_empty())
        .is_some_and(|part| !part.ends_with(char::from(PROPERTY_SEPARATOR)));
    let separate = record_crc && ends_open;
    let properties_bytes = plain + usize::from(separate) + if record_crc { CRC_PROPERTY_BYTES } else { 0 };
    if properties_bytes > PROPERTIES_BYTES_MAX {
        return Err(EncodeError::Properties { bytes: properties_bytes, max: PROPERTIES_BYTES_MAX });
    }
    let mut sys_flag = message.sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6);
    if message.born_host.is_ipv6() {
        sys_flag |= BORN_HOST_V6;
    }
    if message.store_host.is_ipv6() {
        sys_flag |= STORE_HOST_V6;
    }
    let size = record_bytes(sys_flag, version_2, message.body.len(), topic_bytes, properties_bytes);
    let size = u32::try_from(size)
        .ok()
        .filter(|size| i32::try_from(*size).is_ok())
        .ok_or(EncodeError::Record { bytes: size })?;
    Ok(Prepared {
        properties,
        separate,
        record_crc,
        properties_bytes,
        size,
        sys_flag,
        magic: if version_2 { MAGIC_V2 } else { MAGIC_V1 },
        body_crc: crc(message.body),
        message,
    })
}

/// What a record with such parts measures. Saturates, since the parts may come from disk.
fn record_bytes(sys_flag: i32, version_2: bool, body: usize, topic: usize, properties: usize) -> usize {
    let mut fixed = FIXED_BYTES + usize::from(version_2);
    if sys_flag & BORN_HOST_V6 != 0 {
        fixed += 12;
    }
    if sys_flag & STORE_HOST_V6 != 0 {
        fixed += 12;
    }
    fixed.saturating_add(body).saturating_add(topic).saturating_add(properties)
}

/// The property string around its checksum property, which is stale in a message that is stored again.
fn without_record_crc(properties: &str) -> [&str; 2] {
    const NAME: &str = "__CRC32#\u{1}";
    const MARK_AT: usize = 7;
    const MARK: u8 = b'#';
    const _: () = assert!(NAME.as_bytes()[MARK_AT] == MARK);
    let mut from = 0;
    // By the one byte of the name that other names and values rarely have.
    while let Some(mark) = properties.as_bytes().get(from..).and_then(|rest| find_byte(rest, MARK)) {
        let (start, after) = ((from + mark).checked_sub(MARK_AT), from + mark + 1);
        from = after;
        let Some(start) = start else { continue };
        let is_name =
            properties.as_bytes().get(start..).is_some_and(|rest| rest.starts_with(NAME.as_bytes()));
        let starts_entry = start == 0 || properties.as_bytes().get(start - 1) == Some(&PROPERTY_SEPARATOR);
        if is_name && starts_entry {
            let rest = properties.get(start..).unwrap_or("");
            let end = rest.find(char::from(PROPERTY_SEPARATOR)).map_or(rest.len(), |at| at + 1);
            return [properties.get(..start).unwrap_or(""), rest.get(end..).unwrap_or("")];
        }
    }
    [properties, ""]
}

/// As many bytes of the properties' end as a record checksum has, if there are as many.
fn last_bytes(properties: [&str; 2]) -> Option<[u8; CRC_PROPERTY_BYTES]> {
    let mut tail = [0; CRC_PROPERTY_BYTES];
    let mut from_the_end = properties.iter().rev().flat_map(|part| part.bytes().rev());
    for byte in tail.iter_mut().rev() {
        *byte = from_the_end.next()?;
    }
    Some(tail)
}

impl<'a> Prepared<'a> {
    /// Bytes of the record.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    #[must_use]
    pub fn message(&self) -> &MessageToStore<'a> {
        &self.message
    }

    /// Writes the record into `into`, which has exactly its size. Neither allocates nor fails.
    ///
    /// # Panics
    /// When `into` has another length.
    pub fn encode(&self, mut into: &mut [u8], place: Place) {
        assert_eq!(into.len(), self.size as usize, "a record is encoded into exactly its own bytes");
        let message = &self.message;
        let record_end = into.len();
        let whole = &mut *into;
        let mut out = &mut *whole;
        out.put_u32(self.size);
        out.put_u32(self.magic);
        out.put_u32(self.body_crc);
        out.put_i32(message.queue_id);
        out.put_i32(message.flag);
        out.put_i64(place.queue_offset);
        out.put_u64(place.physical_offset);
        out.put_i32(self.sys_flag);
        out.put_i64(message.born_timestamp);
        put_host(&mut out, message.born_host);
        out.put_i64(place.store_timestamp);
        put_host(&mut out, message.store_host);
        out.put_i32(message.reconsume_times);
        out.put_i64(message.prepared_transaction_offset);
        out.put_u32(message.body.len() as u32);
        out.put_slice(message.body);
        if self.magic == MAGIC_V2 {
            out.put_u16(message.topic.len() as u16);
        } else {
            out.put_u8(message.topic.len() as u8);
        }
        out.put_slice(message.topic.as_bytes());
        out.put_u16(self.properties_bytes as u16);
        out.put_slice(self.properties[0].as_bytes());
        out.put_slice(self.properties[1].as_bytes());
        if self.separate {
            out.put_u8(PROPERTY_SEPARATOR);
        }
        if self.record_crc {
            assert_eq!(out.len(), CRC_PROPERTY_BYTES, "the checksum is all that is left");
            into = whole;
            let (summed, tail) = into.split_at_mut(record_end - CRC_PROPERTY_BYTES);
            put_record_crc(tail, crc(summed));
        } else {
            assert!(out.is_empty(), "{} bytes of the record were not written", out.len());
        }
    }
}

fn put_host(out: &mut &mut [u8], host: SocketAddr) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u32(u32::from(host.port()));
}

fn put_record_crc(tail: &mut [u8], mut value: u32) {
    let (name, digits) = tail.split_at_mut(CRC_PROPERTY_NAME.len());
    name.copy_from_slice(CRC_PROPERTY_NAME);
    let (digits, separator) = digits.split_at_mut(10);
    for digit in digits {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    separator.fill(PROPERTY_SEPARATOR);
}

/// How much of a record is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Magic and lengths: enough where the bytes were verified before.
    Lengths,
    /// The body's checksum too.
    Body,
    /// Everything that can be known about a record at `position`: recovery.
    Whole { position: u64, record_crc: RecordCrc },
}

/// What is known of the record checksum of a record that is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordCrc {
    /// We have written here, and each record with one: only that shows properties that were torn to zeros. Java may have
    /// written here since, without us knowing, so that a record without one is whole all the same where nothing of it can be
    /// torn: it has no zero byte in topic and properties, these are names and values in UTF-8 to their last byte, and they do
    /// not end in a damaged checksum.
    Expected,
    /// We have written here, records with one and without: one that is there fits, and where a bit of its name has turned it is
    /// damaged, since no record of ours without one ends so. One that Java has written here since, without us knowing, is taken
    /// for a damaged one only where its last property is called so but for one bit, and has a value of ten bytes.
    Fits,
    /// Others have written here. Java copies one with the properties of a message that is handed back, and where it does not
    /// fit it says no more than its absence, but with a zero byte in topic or properties.
    Foreign,
}

/// A record in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the whole record.
    pub size: u32,
    pub magic: u32,
    pub body_crc: u32,
    pub queue_id: i32,
    pub flag: i32,
    pub queue_offset: i64,
    pub physical_offset: u64,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_timestamp: i64,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    pub topic: &'a str,
    pub raw_properties: &'a [u8],
    /// As Java reads them: what is not UTF-8 is replaced.
    pub properties: Cow<'a, str>,
}

/// Why bytes are not a whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the bytes end inside the record: {needed} needed, {have} there")]
    Short { needed: usize, have: usize },
    #[error("the magic is {found:#010X}")]
    Magic { found: u32 },
    #[error("the size field says {stated} bytes, the parts measure {computed}")]
    Size { stated: u32, computed: usize },
    #[error("the {field} length is {found}")]
    Length { field: &'static str, found: i32 },
    #[error("the body checksum is {stated}, the body's is {computed}")]
    BodyCrc { stated: u32, computed: u32 },
    #[error("the record checksum is {stated}, the record's is {computed}")]
    RecordCrc { stated: u32, computed: u32 },
    #[error("the record checksum is missing")]
    RecordCrcMissing,
    #[error("the physical offset field is {stated}, the record is at {position}")]
    Position { stated: u64, position: u64 },
    #[error("the {field} is not UTF-8")]
    NotText { field: &'static str },
    #[error("the topic is empty")]
    NoTopic,
    #[error("there are zeros where a sector of the disk ends, {at} bytes into the record: it was lost")]
    Torn { at: usize },
}

/// What begins at a position of the log, by its first 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Record {
        size: u32,
    },
    /// All bytes to the end of the file are blank.
    Blank {
        size: u32,
    },
    /// Fewer than 8 bytes, or no magic: nothing was written here, or it is damaged.
    Nothing {
        magic: u32,
    },
}

/// Tells what begins at `bytes`.
#[must_use]
pub fn head(bytes: &[u8]) -> Head {
    let (Some(size), Some(magic)) = (be_u32(bytes, 0), be_u32(bytes, 4)) else {
        return Head::Nothing { magic: 0 };
    };
    match magic {
        MAGIC_V1 | MAGIC_V2 => Head::Record { size },
        MAGIC_BLANK => Head::Blank { size },
        _ => Head::Nothing { magic },
    }
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

struct Cursor<'a> {
    rest: &'a [u8],
    whole: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let needed = (self.whole - self.rest.len()).saturating_add(count);
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(RecordError::Short { needed, have: self.whole })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn host(&mut self, v6: bool) -> Result<SocketAddr, RecordError> {
        let ip = if v6 {
            IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))
        } else {
            IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))
        };
        let port = self.u32()?;
        let length = RecordError::Length { field: "port", found: port as i32 };
        Ok(SocketAddr::new(ip, u16::try_from(port).map_err(|_| length)?))
    }
}

/// The record at the start of `bytes`; what follows it is not looked at.
///
/// # Errors
/// [`RecordError`] names the first thing that is wrong. Nothing in `bytes` makes it panic.
pub fn decode(bytes: &[u8], check: Check) -> Result<Record<'_>, RecordError> {
    let size = be_u32(bytes, 0).ok_or(RecordError::Short { needed: 4, have: bytes.len() })?;
    let magic = be_u32(bytes, 4).ok_or(RecordError::Short { needed: 8, have: bytes.len() })?;
    if !matches!(magic, MAGIC_V1 | MAGIC_V2) {
        return Err(RecordError::Magic { found: magic });
    }
    let whole =
        bytes.get(..size as usize).ok_or(RecordError::Short { needed: size as usize, have: bytes.len() })?;
    let mut cursor = Cursor { rest: whole, whole: whole.len() };
    cursor.take(8)?;
    let body_crc = cursor.u32()?;
    let queue_id = cursor.i32()?;
    let flag = cursor.i32()?;
    let queue_offset = cursor.i64()?;
    let physical_offset = cursor.u64()?;
    let sys_flag = cursor.i32()?;
    let born_timestamp = cursor.i64()?;
    let born_host = cursor.host(sys_flag & BORN_HOST_V6 != 0)?;
    let store_timestamp = cursor.i64()?;
    let store_host = cursor.host(sys_flag & STORE_HOST_V6 != 0)?;
    let reconsume_times = cursor.i32()?;
    let prepared_transaction_offset = cursor.i64()?;
    let body_bytes = cursor.i32()?;
    let body = cursor.take(
        usize::try_from(body_bytes).map_err(|_| RecordError::Length { field: "body", found: body_bytes })?,
    )?;
    let topic_bytes = if magic == MAGIC_V2 {
        usize::from(u16::from_be_bytes(cursor.array()?))
    } else {
        usize::from(u8::from_be_bytes(cursor.array()?))
    };
    let topic = cursor.take(topic_bytes)?;
    let properties_bytes = i16::from_be_bytes(cursor.array()?);
    let properties = cursor.take(
        usize::try_from(properties_bytes)
            .map_err(|_| RecordError::Length { field: "property", found: i32::from(properties_bytes) })?,
    )?;
    let computed = record_bytes(sys_flag, magic == MAGIC_V2, body.len(), topic.len(), properties.len());
    if computed != whole.len() {
        return Err(RecordError::Size { stated: size, computed });
    }
    check_whole(whole, (body, topic, properties), body_crc, physical_offset, check)?;
    let topic = std::str::from_utf8(topic).map_err(|_| RecordError::NotText { field: "topic" })?;
    if topic.is_empty() {
        return Err(RecordError::NoTopic);
    }
    // A record whose sender wrote something else is whole: Java reads it so, too.
    let raw_properties = properties;
    // Nearly all are text, and to see that takes a fraction of the time in which the rest is replaced.
    let properties = match std::str::from_utf8(raw_properties) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(raw_properties),
    };
    Ok(Record {
        size,
        magic,
        body_crc,
        queue_id,
        flag,
        queue_offset,
        physical_offset,
        sys_flag,
        born_timestamp,
        born_host,
        store_timestamp,
        store_host,
        reconsume_times,
        prepared_transaction_offset,
        body,
        topic,
        raw_properties,
        properties,
    })
}

fn check_whole(
    whole: &[u8],
    (body, topic, properties): (&[u8], &[u8], &[u8]),
    body_crc: u32,
    physical_offset: u64,
    check: Check,
) -> Result<(), RecordError> {
    if let Check::Whole { position, .. } = check
        && physical_offset != position
    {
        return Err(RecordError::Position { stated: physical_offset, position });
    }
    if matches!(check, Check::Body | Check::Whole { .. }) {
        let computed = crc(body);
        if computed != body_crc {
            return Err(RecordError::BodyCrc { stated: body_crc, computed });
        }
    }
    let Check::Whole { record_crc, .. } = check else { return Ok(()) };
    let has_zeros = || topic.contains(&0) || properties.contains(&0);
    let Some(stated) = record_crc_of(properties) else {
        let torn = match record_crc {
            RecordCrc::Expected => {
                has_zeros() || ends_in_damaged_crc(properties) || !are_names_and_values(properties)
            }
            RecordCrc::Fits => ends_in_turned_crc(properties),
            RecordCrc::Foreign => false,
        };
        return if torn { Err(RecordError::RecordCrcMissing) } else { Ok(()) };
    };
    let (summed, _) = whole.split_at(whole.len() - CRC_PROPERTY_BYTES);
    let computed = crc(summed);
    if computed != stated && (record_crc != RecordCrc::Foreign || has_zeros()) {
        return Err(RecordError::RecordCrc { stated, computed });
    }
    Ok(())
}

/// Looks for sectors that a loss of power has taken from a record without a checksum that is whole otherwise. `at` is where
/// the record begins in its file, in bytes.
///
/// # Errors
/// [`RecordError::Torn`]. See the head of this file for what this can know.
pub fn check_torn(record: &Record<'_>, at: u64) -> Result<(), RecordError> {
    let properties = record.raw_properties;
    if has_record_crc(properties) {
        return Ok(());
    }
    let size = record.size as usize;
    let properties_at = size - properties.len();
    let topic = record.topic.as_bytes();
    if let Some(zero) = find_byte(topic, 0) {
        return Err(RecordError::Torn { at: properties_at - 2 - topic.len() + zero });
    }
    let sector = SECTOR_BYTES as u64;
    let first_end = usize::try_from(sector - at % sector).expect("at most a sector");
    let ends = (first_end..size).step_by(SECTOR_BYTES).chain([size]);
    // Counted from the beginning of the properties: what lies before has no end there.
    let mut lasts = ends.filter_map(|end| (end - 1).checked_sub(properties_at));
    match lasts.find(|last| properties.get(*last) == Some(&0)) {
        Some(last) => Err(RecordError::Torn { at: properties_at + last }),
        None => Ok(()),
    }
}

/// Whether the last 20 bytes of `properties` were a record checksum once: most of its name is there.
fn ends_in_damaged_crc(properties: &[u8]) -> bool {
    properties.split_last_chunk().is_some_and(|(_, tail)| is_like_crc(tail))
}

fn is_like_crc(tail: &[u8; CRC_PROPERTY_BYTES]) -> bool {
    let same = tail.iter().zip(CRC_PROPERTY_NAME).filter(|(found, expected)| found == expected).count();
    same > CRC_PROPERTY_NAME.len() / 2
}

/// Whether the last 20 bytes of `properties` were a record checksum until a bit of it turned.
fn ends_in_turned_crc(properties: &[u8]) -> bool {
    let Some((_, tail)) = properties.split_last_chunk::<CRC_PROPERTY_BYTES>() else { return false };
    let turned: u32 =
        tail.iter().zip(CRC_PROPERTY_NAME).map(|(found, expected)| (found ^ expected).count_ones()).sum();
    turned <= 1
}

/// Whether nothing else is in `properties`: what was written over the checksum that stood at their end has no such form.
fn are_names_and_values(properties: &[u8]) -> bool {
    let is_one = |part: &[u8]| part.is_empty() || find_byte(part, NAME_SEPARATOR).is_some_and(|at| at > 0);
    std::str::from_utf8(properties).is_ok()
        && properties.split(|byte| *byte == PROPERTY_SEPARATOR).all(is_one)
}

/// Whether a record with these properties carries a record checksum.
#[must_use]
pub fn has_record_crc(properties: &[u8]) -> bool {
    record_crc_of(properties).is_some()
}

/// The checksum that the last 20 bytes of `properties` state, if they have its exact form.
fn record_crc_of(properties: &[u8]) -> Option<u32> {
    let (_, tail) = properties.split_last_chunk::<CRC_PROPERTY_BYTES>()?;
    let digits = tail.strip_prefix(CRC_PROPERTY_NAME)?.strip_suffix(&[PROPERTY_SEPARATOR])?;
    digits.iter().rev().try_fold(0_u32, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

/// Writes a blank record's head: `size` bytes, all that remain in the file, hold no record.
///
/// # Panics
/// When `into` is shorter than [`BLANK_BYTES`].
pub fn encode_blank(mut into: &mut [u8], size: u32) {
    into.put_u32(size);
    into.put_u32(MAGIC_BLANK);
}

#[cfg(test)]
mod tests;

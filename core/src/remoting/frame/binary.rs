//! The binary header (serialize type 0x01).
//!
//! ```text
//! i16 code, u8 language, i16 version, i32 opaque, i32 flag
//! i32 length, remark        length 0: none
//! i32 length, entries       entry: i16 length, name, i32 length, value
//! ```
//!
//! What follows the entries is ignored, as in Java. Texts are UTF-8; what is not becomes U+FFFD, as in Java.

use super::{FIELDS_MAX, FrameError};
use crate::remoting::{
    ExtFields, LanguageCode, RemotingCommand,
    ext_fields::{Entries, Span},
};
use bytes::{BufMut, BytesMut};

/// The fields of fixed width and the two lengths.
const FIXED_BYTES: usize = 21;

pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, FrameError> {
    let mut left = header;
    let code = i32::from(i16::from_be_bytes(fixed(&mut left, "code")?));
    let [language] = fixed(&mut left, "language")?;
    let version = i32::from(i16::from_be_bytes(fixed(&mut left, "version")?));
    let opaque = i32::from_be_bytes(fixed(&mut left, "opaque")?);
    let flag = i32::from_be_bytes(fixed(&mut left, "flag")?);
    let remark_bytes = i32::from_be_bytes(fixed(&mut left, "remark length")?);
    let remark = part(&mut left, "remark", remark_bytes)?;
    let entries_bytes = i32::from_be_bytes(fixed(&mut left, "extFields length")?);
    let entries = part(&mut left, "extFields", entries_bytes)?;
    Ok(RemotingCommand {
        code,
        language: LanguageCode::from_ordinal(i64::from(language)),
        version,
        opaque,
        flag,
        remark: (!remark.is_empty()).then(|| String::from_utf8_lossy(remark).into_owned()),
        ext: decode_entries(entries)?,
        ..RemotingCommand::default()
    })
}

fn decode_entries(mut left: &[u8]) -> Result<ExtFields, FrameError> {
    if left.is_empty() {
        return Ok(ExtFields::default());
    }
    let mut text = String::with_capacity(left.len());
    let mut entries = Entries::default();
    while !left.is_empty() {
        if entries.len() == FIELDS_MAX {
            return Err(FrameError::TooManyFields);
        }
        let name_bytes = i16::from_be_bytes(fixed(&mut left, "field name length")?);
        let name = part(&mut left, "field name", i32::from(name_bytes))?;
        let value_bytes = i32::from_be_bytes(fixed(&mut left, "field value length")?);
        let value = part(&mut left, "field value", value_bytes)?;
        if name.is_empty() {
            continue;
        }
        let name = push(&mut text, name);
        let value = push(&mut text, value);
        entries.push(text.as_bytes(), name, value);
    }
    Ok(ExtFields::from_parts(text, entries.into_vec()))
}

fn push(text: &mut String, bytes: &[u8]) -> Span {
    let start = text.len();
    match std::str::from_utf8(bytes) {
        Ok(valid) => text.push_str(valid),
        Err(_) => text.push_str(&String::from_utf8_lossy(bytes)),
    }
    Span::new(start, text.len()).expect("headers are far below 4 GiB")
}

fn fixed<const N: usize>(left: &mut &[u8], part: &'static str) -> Result<[u8; N], FrameError> {
    let Some((bytes, rest)) = left.split_first_chunk() else {
        return Err(FrameError::BinaryPart { part, claimed: N as i64, left: left.len() });
    };
    *left = rest;
    Ok(*bytes)
}

fn part<'a>(left: &mut &'a [u8], part: &'static str, claimed: i32) -> Result<&'a [u8], FrameError> {
    let parts = usize::try_from(claimed).ok().and_then(|bytes| left.split_at_checked(bytes));
    let Some((bytes, rest)) = parts else {
        return Err(FrameError::BinaryPart { part, claimed: i64::from(claimed), left: left.len() });
    };
    *left = rest;
    Ok(bytes)
}

/// Whether this form has the bits for the command: codes of the POP family have more than 16.
pub(super) fn can_hold(command: &RemotingCommand) -> bool {
    i16::try_from(command.code).is_ok()
        && i16::try_from(command.version).is_ok()
        && command.ext.iter().all(|(name, _)| i16::try_from(name.len()).is_ok())
}

pub(super) fn encode(command: &RemotingCommand, head: &mut BytesMut) {
    let remark = command.remark.as_deref().unwrap_or_default();
    let entries_bytes: usize = command.ext.iter().map(|(name, value)| 6 + name.len() + value.len()).sum();
    head.reserve(FIXED_BYTES + remark.len() + entries_bytes);
    head.put_i16(i16::try_from(command.code).expect("checked by can_hold"));
    head.put_u8(command.language.ordinal());
    head.put_i16(i16::try_from(command.version).expect("checked by can_hold"));
    head.put_i32(command.opaque);
    head.put_i32(command.flag);
    put_length(head, remark.len());
    head.put_slice(remark.as_bytes());
    put_length(head, entries_bytes);
    for (name, value) in command.ext.iter() {
        head.put_i16(i16::try_from(name.len()).expect("checked by can_hold"));
        head.put_slice(name.as_bytes());
        put_length(head, value.len());
        head.put_slice(value.as_bytes());
    }
}

fn put_length(head: &mut BytesMut, bytes: usize) {
    head.put_i32(i32::try_from(bytes).expect("headers are far below 2 GiB"));
}

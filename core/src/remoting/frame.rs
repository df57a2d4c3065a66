//! Frames: how commands lie on a connection.
//!
//! ```text
//! 0..4     length of what follows, in bytes: 4 + header + body
//! 4..8     header word: 0xTTLLLLLL, serialize type T and header length L in bytes
//! 8..8+L   header: JSON text (T = 0x00) or the binary form (T = 0x01)
//! 8+L..    body; none and empty are the same
//! ```
//!
//! Integers are big-endian. A partial frame is no error. Anything else that is not a frame is, and ends the
//! connection, since nothing says where the next frame would begin. Limits are checked as soon as the eight bytes that
//! can break them are there: nothing is reserved by a length that a peer has only claimed.

mod binary;
mod json_header;

use super::{Body, JsonAnswer, RemotingCommand, SerializeType};
use bytes::{Buf, BufMut, BytesMut};
pub(super) use json_header::put_text as put_json_text;

/// Longest frame, its length word included.
///
/// # Source
/// `com.rocketmq.remoting.frameMaxLength` of Java, which has this default.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest header we read. Java knows only the limit of 24 bits; a real header is under 100 KiB, since the properties
/// of a message end at 32 KiB, and reading a header costs several times its length in memory.
pub const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// Most extFields we read. Real requests have under 30.
pub const FIELDS_MAX: usize = 512;

/// The length word and the header word.
const PREFIX_BYTES: usize = 8;

/// Why bytes are not a frame. The connection they came on is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes, {FRAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length with the length word.
        bytes: u64,
    },
    /// Too short for a header word.
    #[error("a frame length of {length}, at least 4 is needed")]
    TooShort {
        /// What the length word says.
        length: i32,
    },
    /// The header does not fit into the frame or passes [`HEADER_BYTES_MAX`].
    #[error("a header of {header_bytes} bytes in a frame with room for {room_bytes}")]
    HeaderLength {
        /// What the header word says.
        header_bytes: usize,
        /// How many there may be.
        room_bytes: usize,
    },
    /// A header is neither JSON nor binary.
    #[error("serialize type {found}, 0 (JSON) or 1 (ROCKETMQ) is expected")]
    SerializeType {
        /// The upper byte of the header word.
        found: u8,
    },
    /// The header is not JSON.
    #[error("the header is no {0}")]
    Json(#[from] super::json::JsonError),
    /// The header is JSON, but this field has an impossible value.
    #[error("the header field {field} is not {expected}: {found}")]
    JsonField {
        /// Its name.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is, cut short.
        found: String,
    },
    /// The binary header says that a part is longer than what is left, or negative.
    #[error("the {part} of a binary header claims {claimed} bytes, {left} are left")]
    BinaryPart {
        /// Which part.
        part: &'static str,
        /// What its length says.
        claimed: i64,
        /// How many bytes are left.
        left: usize,
    },
    /// More than [`FIELDS_MAX`] extFields.
    #[error("more than {FIELDS_MAX} extFields")]
    TooManyFields,
    /// Somebody speaks HTTP to us.
    #[error("an HTTP request; this port speaks RocketMQ's remoting protocol")]
    Http,
    /// Somebody speaks TLS to us.
    #[error("a TLS handshake; TLS is not served on this port")]
    Tls,
    /// A load balancer announces its client by the PROXY protocol.
    #[error("a PROXY protocol header, which is not served on this port")]
    ProxyProtocol,
}

/// Takes one whole frame off the front of `buf`; None while it is not all there. The body shares `buf`'s memory.
///
/// # Errors
/// [`FrameError`]: no frame begins here, the connection must be closed. `buf` is as it was.
pub fn decode(buf: &mut BytesMut) -> Result<Option<RemotingCommand>, FrameError> {
    let Some(length) = word(buf, 0) else { return Ok(None) };
    let frame_bytes = frame_bytes(length)?;
    let Some(header_word) = word(buf, 4) else { return Ok(None) };
    let (serialize_type, header_bytes) = header_word_parts(header_word, frame_bytes - PREFIX_BYTES)?;
    if buf.len() < frame_bytes {
        return Ok(None);
    }
    let header = buf.get(PREFIX_BYTES..PREFIX_BYTES + header_bytes).unwrap_or_default();
    let mut command = match serialize_type {
        SerializeType::Json => json_header::decode(header)?,
        SerializeType::RocketMq => binary::decode(header)?,
    };
    command.serialize_type = serialize_type;
    if frame_bytes == PREFIX_BYTES + header_bytes {
        buf.advance(frame_bytes);
    } else {
        let mut frame = buf.split_to(frame_bytes);
        frame.advance(PREFIX_BYTES + header_bytes);
        command.body = Body::from(frame.freeze());
    }
    Ok(Some(command))
}

/// Appends the length word, the header word and the header to `head`. The body's chunks are to be sent right behind;
/// they are not copied.
///
/// The header is written as `serialize_type` says, unless the binary form cannot hold it (its code has 16 bits): then
/// it is JSON, which every reader also takes.
///
/// # Panics
/// If the frame passes `i32::MAX` or its header 24 bits. Headers are built from requests that were far shorter, bodies
/// are cut by whoever builds them; a frame beyond [`FRAME_BYTES_MAX`] is written, but its reader refuses it.
pub fn encode(command: &RemotingCommand, head: &mut BytesMut) {
    let start = head.len();
    head.put_u64(0);
    let serialize_type = match command.serialize_type {
        SerializeType::RocketMq if binary::can_hold(command) => SerializeType::RocketMq,
        _ => SerializeType::Json,
    };
    match serialize_type {
        SerializeType::Json => json_header::encode(command, head),
        SerializeType::RocketMq => binary::encode(command, head),
    }
    put_prefix(head, start, serialize_type, command.body.len());
}

/// Appends the frame of `answer`, which has no body.
///
/// # Panics
/// As [`encode`].
pub fn encode_json_answer(opaque: i32, answer: &JsonAnswer, head: &mut BytesMut) {
    let start = head.len();
    head.put_u64(0);
    json_header::encode_answer(opaque, answer, head);
    put_prefix(head, start, SerializeType::Json, 0);
}

/// Fills in the first 8 bytes of the frame that begins at `start` and whose header is written.
fn put_prefix(head: &mut BytesMut, start: usize, serialize_type: SerializeType, body_bytes: usize) {
    let header_bytes = head.len() - start - PREFIX_BYTES;
    assert!(header_bytes <= 0x00FF_FFFF, "a header of {header_bytes} bytes");
    let length = i32::try_from(4 + header_bytes + body_bytes).expect("a frame below 2 GiB");
    let header_word =
        (serialize_type as u32) << 24 | u32::try_from(header_bytes).expect("24 bits, checked above");
    let mut prefix = head.get_mut(start..).expect("written above");
    prefix.put_i32(length);
    prefix.put_u32(header_word);
}

fn word(buf: &[u8], at: usize) -> Option<[u8; 4]> {
    buf.get(at..)?.first_chunk().copied()
}

/// The length of the frame with its length word.
fn frame_bytes(length: [u8; 4]) -> Result<usize, FrameError> {
    // Seen as lengths, all of these are far beyond the limit, so no frame is taken for one of them.
    match &length {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC" | b"PRI "
        | b"HTTP" => {
            return Err(FrameError::Http);
        }
        [0x16, 0x03, 0x00..=0x04, _] => return Err(FrameError::Tls),
        b"PROX" | [0x0D, 0x0A, 0x0D, 0x0A] => return Err(FrameError::ProxyProtocol),
        _ => {}
    }
    let length = i32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(bytes) if bytes > FRAME_BYTES_MAX - 4 => Err(FrameError::TooLong { bytes: bytes as u64 + 4 }),
        Ok(bytes) if bytes >= 4 => Ok(bytes + 4),
        _ => Err(FrameError::TooShort { length }),
    }
}

fn header_word_parts(word: [u8; 4], room_bytes: usize) -> Result<(SerializeType, usize), FrameError> {
    let [serialize_type, ..] = word;
    let serialize_type = match serialize_type {
        0 => SerializeType::Json,
        1 => SerializeType::RocketMq,
        found => return Err(FrameError::SerializeType { found }),
    };
    let header_bytes = (u32::from_be_bytes(word) & 0x00FF_FFFF) as usize;
    let room_bytes = room_bytes.min(HEADER_BYTES_MAX);
    if header_bytes > room_bytes {
        return Err(FrameError::HeaderLength { header_bytes, room_bytes });
    }
    Ok((serialize_type, header_bytes))
}

#[cfg(test)]
mod tests;

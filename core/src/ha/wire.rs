//! Bytes on the HA port. All integers are big-endian; there is no handshake and no version.
//!
//! | from | bytes | field |
//! |---|---|---|
//! | slave | 8 | where its log ends; one after the other, without frames |
//! | master | 8 | offset of the first byte of the body |
//! | | 4 | bytes of the body; 0 is a heartbeat |
//! | | n | the log's bytes, cut anywhere, never across two files |
//!
//! # Source
//! `spec/ha.md`, section 1.2.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub const REPORT_BYTES: usize = 8;
pub const FRAME_HEADER_BYTES: usize = 12;
/// A longer body is not believed; Java sends 32 KiB.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// A longer body is not pushed: with its header it must fit into the 4 MiB that a Java slave reads into.
pub const PUSH_BYTES_MAX: usize = (4 << 20) - FRAME_HEADER_BYTES;

/// What the master sent is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("a frame at offset {0}")]
    Offset(i64),
    #[error("a frame of {0} bytes")]
    Size(i32),
}

#[must_use]
pub fn report(end: u64) -> [u8; REPORT_BYTES] {
    end.to_be_bytes()
}

/// The last whole report in `input`, which is then without its whole reports: earlier ones say nothing that it does not.
#[must_use]
pub fn take_last_report(input: &mut BytesMut) -> Option<i64> {
    let whole = input.len() - input.len() % REPORT_BYTES;
    input.advance(whole.checked_sub(REPORT_BYTES)?);
    Some(input.get_i64())
}

/// # Panics
/// When the body is longer than [`BODY_BYTES_MAX`].
#[must_use]
pub fn frame_header(offset: u64, body_bytes: usize) -> Bytes {
    assert!(body_bytes <= BODY_BYTES_MAX, "a body of {body_bytes} bytes");
    let mut header = BytesMut::with_capacity(FRAME_HEADER_BYTES);
    header.put_u64(offset);
    header.put_u32(body_bytes as u32);
    header.freeze()
}

/// The next whole frame in `input`: where it lies, and its bytes. `None` when it has not arrived yet.
///
/// # Errors
/// [`BadFrame`]: nothing that follows can be read.
pub fn take_frame(input: &mut BytesMut) -> Result<Option<(u64, Bytes)>, BadFrame> {
    let Some((mut header, _)) = input.split_at_checked(FRAME_HEADER_BYTES) else { return Ok(None) };
    let (offset, size) = (header.get_i64(), header.get_i32());
    let at = u64::try_from(offset).map_err(|_| BadFrame::Offset(offset))?;
    let bytes = usize::try_from(size).ok().filter(|bytes| *bytes <= BODY_BYTES_MAX);
    let bytes = bytes.ok_or(BadFrame::Size(size))?;
    if input.len() < FRAME_HEADER_BYTES + bytes {
        return Ok(None);
    }
    input.advance(FRAME_HEADER_BYTES);
    Ok(Some((at, input.split_to(bytes).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_report_counts_and_a_part_waits_for_its_rest() {
        let mut input = BytesMut::new();
        assert_eq!(take_last_report(&mut input), None);
        input.extend_from_slice(&[report(5), report(9)].concat());
        input.extend_from_slice(&report(12)[..3]);
        assert_eq!(take_last_report(&mut input), Some(9));
        assert_eq!(take_last_report(&mut input), None);
        input.extend_from_slice(&report(12)[3..]);
        assert_eq!(take_last_report(&mut input), Some(12));
        assert!(input.is_empty());
    }

    #[test]
    fn a_frame_is_read_however_it_is_cut() {
        let whole = [&frame_header(4_096, 3)[..], b"abc", &frame_header(4_099, 0)].concat();
        assert_eq!(whole[..12], [0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 3]);
        for cut in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..cut]);
            let mut frames = Vec::new();
            while let Some(frame) = take_frame(&mut input).expect("no bad frame") {
                frames.push(frame);
            }
            input.extend_from_slice(&whole[cut..]);
            while let Some(frame) = take_frame(&mut input).expect("no bad frame") {
                frames.push(frame);
            }
            assert_eq!(frames, [(4_096, Bytes::from("abc")), (4_099, Bytes::new())]);
        }
    }

    #[test]
    fn lengths_and_offsets_that_cannot_be_are_refused_before_anything_is_allocated() {
        let header = |offset: i64, size: i32| {
            BytesMut::from(&[&offset.to_be_bytes()[..], &size.to_be_bytes()].concat()[..])
        };
        assert_eq!(take_frame(&mut header(0, -1)), Err(BadFrame::Size(-1)));
        assert_eq!(take_frame(&mut header(0, i32::MAX)), Err(BadFrame::Size(i32::MAX)));
        assert_eq!(take_frame(&mut header(-8, 1)), Err(BadFrame::Offset(-8)));
    }
}

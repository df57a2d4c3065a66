//! Prebuilt request frames and the quick look at answers.

use bytes::{BufMut, BytesMut};

/// Every opaque has ten digits, so that it can be patched in place.
const OPAQUE_BASE: u32 = 1_000_000_000;
/// Opaques used before they start over; far above any number in flight.
const OPAQUE_COUNT: u32 = 1_000_000_000;
const OPAQUE_DIGITS: usize = 10;
const UNIQUE_DIGITS: usize = 8;

/// One send request as bytes, and where its changing parts are.
pub struct SendTemplate {
    frame: Vec<u8>,
    opaque_at: usize,
    queue_at: usize,
    unique_at: usize,
    queues: u8,
    /// Messages in one request.
    pub messages: u64,
    /// Body bytes of the messages in one request, without the batch's own fields.
    pub payload: u64,
}

impl SendTemplate {
    /// `batch` messages of `size` bytes each; 1 is a plain send.
    pub fn new(topic: &str, queues: u8, size: usize, batch: usize) -> SendTemplate {
        let fill = |index: usize| b"0123456789abcdef"[index % 16];
        let body: Vec<u8> = if batch <= 1 {
            (0..size).map(fill).collect()
        } else {
            let mut body = BytesMut::new();
            for item in 0..batch {
                let properties = format!("UNIQ_KEY\u{1}7F0000010001{item:08X}000000000000\u{2}");
                let total = 4 + 4 + 4 + 4 + 4 + size + 2 + properties.len();
                body.put_u32(total as u32);
                body.put_bytes(0, 12);
                body.put_u32(size as u32);
                body.extend((0..size).map(fill));
                body.put_u16(properties.len() as u16);
                body.put_slice(properties.as_bytes());
            }
            body.to_vec()
        };
        let (code, letter) = if batch > 1 { (320, "true") } else { (310, "false") };
        let header = format!(
            "{{\"code\":{code},\"extFields\":{{\"a\":\"bench-producer\",\"b\":\"{topic}\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"0\",\
             \"f\":\"0\",\"g\":\"1700000000000\",\"h\":\"0\",\"i\":\"UNIQ_KEY\\u00017F0000010000000000000000UUUUUUUU\\u0002WAIT\\u0001true\",\
             \"j\":\"0\",\"k\":\"false\",\"m\":\"{letter}\"}},\"flag\":0,\"language\":\"JAVA\",\"opaque\":{OPAQUE_BASE},\
             \"serializeTypeCurrentRPC\":\"JSON\",\"version\":407}}"
        );
        // The frame's first 8 bytes stand before the header.
        let behind =
            |key: &str| 8 + key.len() + header.find(key).expect("the key stands in the header above");
        let opaque_at = behind("\"opaque\":");
        let queue_at = behind("\"e\":\"");
        let unique_at = behind("UUUUUUUU") - UNIQUE_DIGITS;
        let mut frame = Vec::with_capacity(8 + header.len() + body.len());
        frame.extend_from_slice(&((4 + header.len() + body.len()) as u32).to_be_bytes());
        frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
        frame.extend_from_slice(header.as_bytes());
        frame.extend_from_slice(&body);
        let batch = batch.max(1) as u64;
        SendTemplate {
            frame,
            opaque_at,
            queue_at,
            unique_at,
            queues: queues.clamp(1, 10),
            messages: batch,
            payload: batch * size as u64,
        }
    }

    /// Appends the request with number `sequence`.
    pub fn put(&self, sequence: u32, out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        decimal(
            OPAQUE_BASE + sequence % OPAQUE_COUNT,
            &mut frame[self.opaque_at..self.opaque_at + OPAQUE_DIGITS],
        );
        frame[self.queue_at] = b'0' + (sequence % u32::from(self.queues)) as u8;
        hexadecimal(sequence, &mut frame[self.unique_at..self.unique_at + UNIQUE_DIGITS]);
    }
}

fn decimal(value: impl Into<u64>, into: &mut [u8]) {
    let mut value = value.into();
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn hexadecimal(mut value: u32, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[(value & 15) as usize];
        value >>= 4;
    }
}

/// One pull request as bytes, and where its changing parts are.
pub struct PullTemplate {
    frame: Vec<u8>,
    opaque_at: usize,
    queue_at: usize,
    offset_at: usize,
}

/// Java reads a number with leading zeros as that number.
const OFFSET_DIGITS: usize = 18;
const QUEUE_DIGITS: usize = 3;

impl PullTemplate {
    /// Pulls of at most `max` messages that are answered at once, found or not. The subscription travels with each.
    pub fn new(topic: &str, max: u32) -> PullTemplate {
        let header = format!(
            "{{\"code\":11,\"extFields\":{{\"consumerGroup\":\"bench-consumer\",\"topic\":\"{topic}\",\"queueId\":\"QQQ\",\
             \"queueOffset\":\"000000000000000000\",\"maxMsgNums\":\"{max}\",\"sysFlag\":\"4\",\"commitOffset\":\"0\",\
             \"suspendTimeoutMillis\":\"0\",\"subscription\":\"*\",\"subVersion\":\"0\",\"expressionType\":\"TAG\"}},\"flag\":0,\
             \"language\":\"JAVA\",\"opaque\":{OPAQUE_BASE},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":407}}"
        );
        let behind =
            |key: &str| 8 + key.len() + header.find(key).expect("the key stands in the header above");
        let (opaque_at, offset_at) = (behind("\"opaque\":"), behind("\"queueOffset\":\""));
        let queue_at = behind("\"queueId\":\"");
        let mut frame = Vec::with_capacity(8 + header.len());
        frame.extend_from_slice(&((4 + header.len()) as u32).to_be_bytes());
        frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
        frame.extend_from_slice(header.as_bytes());
        PullTemplate { frame, opaque_at, queue_at, offset_at }
    }

    pub fn put(&self, sequence: u32, queue: u8, offset: u64, out: &mut BytesMut) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        decimal(OPAQUE_BASE + sequence, &mut frame[self.opaque_at..self.opaque_at + OPAQUE_DIGITS]);
        decimal(u32::from(queue), &mut frame[self.queue_at..self.queue_at + QUEUE_DIGITS]);
        decimal(offset, &mut frame[self.offset_at..self.offset_at + OFFSET_DIGITS]);
    }
}

/// One answer to a pull.
pub struct Pulled {
    pub sequence: Option<u32>,
    pub code: Option<u32>,
    pub next: Option<u64>,
    pub messages: u64,
    /// Of the records.
    pub bytes: u64,
}

/// The first answer of `bytes` and its length; `None` when it is not all there.
pub fn next_pulled(bytes: &[u8]) -> Option<(Pulled, usize)> {
    let (answer, length) = next_answer(bytes)?;
    let header_bytes = (u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?) & 0x00FF_FFFF) as usize;
    let (header, mut body) = bytes.get(8..length)?.split_at_checked(header_bytes)?;
    let (mut messages, total) = (0, body.len() as u64);
    // Each record begins with its length.
    while let Some(word) = body.first_chunk() {
        let Some(rest) = body.get((u32::from_be_bytes(*word) as usize).max(4)..) else { break };
        messages += 1;
        body = rest;
    }
    let next = number_after(header, b"\"nextBeginOffset\":\"");
    Some((Pulled { sequence: answer.sequence, code: answer.code, next, messages, bytes: total }, length))
}

/// One answer: its request's sequence number and its code. `None` when the frame is not all there; the second value is its length.
pub fn next_answer(bytes: &[u8]) -> Option<(Answer, usize)> {
    let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let frame = bytes.get(4..4 + length)?;
    let header_bytes = (u32::from_be_bytes(frame.get(..4)?.try_into().ok()?) & 0x00FF_FFFF) as usize;
    let header = frame.get(4..4 + header_bytes)?;
    let answer = Answer {
        sequence: number_after(header, b"\"opaque\":")
            .map(|opaque| (opaque as u32).wrapping_sub(OPAQUE_BASE)),
        code: number_after(header, b"\"code\":").map(|code| code as u32),
    };
    Some((answer, 4 + length))
}

pub struct Answer {
    pub sequence: Option<u32>,
    pub code: Option<u32>,
}

fn number_after(header: &[u8], key: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(header, key)? + key.len();
    let digits = header[at..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |sum, digit| {
        Some(sum.unwrap_or(0u64).wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patched_frame_decodes_with_its_numbers() {
        let template = SendTemplate::new("T", 8, 16, 1);
        let mut out = BytesMut::new();
        template.put(13, &mut out);
        let header_bytes = u32::from_be_bytes(out[4..8].try_into().expect("4 bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&out[8..8 + header_bytes]).expect("JSON");
        assert_eq!(header["opaque"], 1_000_000_013);
        assert_eq!(header["extFields"]["e"], "5");
        assert_eq!(
            header["extFields"]["i"],
            "UNIQ_KEY\u{1}7F00000100000000000000000000000D\u{2}WAIT\u{1}true"
        );
        assert_eq!(out.len(), 8 + header_bytes + 16);
    }

    #[test]
    fn a_patched_pull_decodes_with_its_numbers() {
        let template = PullTemplate::new("T", 32);
        let mut out = BytesMut::new();
        template.put(3, 7, 1_234_567_890_123, &mut out);
        let header: serde_json::Value = serde_json::from_slice(&out[8..]).expect("JSON");
        assert_eq!(header["opaque"], 1_000_000_003);
        assert_eq!(header["extFields"]["queueId"], "007");
        assert_eq!(header["extFields"]["queueOffset"], "000001234567890123");
    }

    #[test]
    fn pulled_records_are_counted_by_their_lengths() {
        let header = br#"{"code":0,"extFields":{"nextBeginOffset":"12"},"flag":1,"opaque":1000000001}"#;
        let records = [&[0, 0, 0, 6, 1, 2][..], &[0, 0, 0, 4]].concat();
        let mut frame = ((4 + header.len() + records.len()) as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
        frame.extend_from_slice(header);
        frame.extend_from_slice(&records);
        let (pulled, length) = next_pulled(&frame).expect("whole");
        assert_eq!((pulled.messages, pulled.bytes, pulled.next), (2, 10, Some(12)));
        assert_eq!((pulled.sequence, length), (Some(1), frame.len()));
    }

    #[test]
    fn an_answer_is_read_only_when_it_is_whole() {
        let header = br#"{"code":0,"extFields":{"queueId":"3"},"flag":1,"language":"JAVA","opaque":1000000042,"version":409}"#;
        let mut frame = ((4 + header.len()) as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(header.len() as u32).to_be_bytes());
        frame.extend_from_slice(header);
        assert!(next_answer(&frame[..frame.len() - 1]).is_none());
        let (answer, length) = next_answer(&frame).expect("whole");
        assert_eq!((answer.sequence, answer.code, length), (Some(42), Some(0), frame.len()));
    }
}

//! The protocol on the wire, written and read by itself: no line of the code under test helps, so that a mistake that both of
//! its sides make alike is seen.
//!
//!   0..4   length of what follows    4..8   header word: 0 (JSON) or 1 (binary) in the upper byte, below it the header's length
//!   8..    header, then body
//!
//! # Source
//! `spec/remoting.md`, sections 1 and 2.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use hotfire_core::runtime::Runtime as _;
use hotfire_core::runtime::network::{Network, ReadHalf as _, WriteHalf as _};
use hotfire_sim::SimRuntime;
use serde_json::{Value, json};

/// In `flag`: this answers a request.
const ANSWER: i32 = 1;
/// In `flag`: nobody wants an answer.
const ONE_WAY: i32 = 2;
/// What we are: a client of Go, of V4_9_4, by name and by number.
const LANGUAGE: (&str, u8) = ("GO", 9);
const VERSION: i32 = 401;

/// How a header is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Json,
    Binary,
}

pub type Fields = BTreeMap<String, String>;

/// One request or answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub form: Form,
    pub code: i32,
    pub opaque: i32,
    pub flag: i32,
    pub remark: String,
    pub fields: Fields,
    pub body: Vec<u8>,
}

impl Frame {
    #[must_use]
    pub fn request(form: Form, code: i32, fields: Fields, body: Vec<u8>) -> Frame {
        Frame { form, code, opaque: 0, flag: 0, remark: String::new(), fields, body }
    }

    /// The value of a field, empty where it has none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.flag & ANSWER != 0
    }
}

#[must_use]
pub fn encode(frame: &Frame) -> Vec<u8> {
    let header = match frame.form {
        Form::Json => json_header(frame),
        Form::Binary => binary_header(frame),
    };
    let word = header.len() as u32 | if frame.form == Form::Binary { 1 << 24 } else { 0 };
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&((4 + header.len() + frame.body.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&word.to_be_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&frame.body);
    bytes
}

fn json_header(frame: &Frame) -> Vec<u8> {
    let header = json!({
        "code": frame.code,
        "extFields": frame.fields,
        "flag": frame.flag,
        "language": LANGUAGE.0,
        "opaque": frame.opaque,
        "remark": frame.remark,
        "serializeTypeCurrentRPC": "JSON",
        "version": VERSION,
    });
    header.to_string().into_bytes()
}

fn binary_header(frame: &Frame) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend_from_slice(&(frame.code as i16).to_be_bytes());
    header.push(LANGUAGE.1);
    header.extend_from_slice(&(VERSION as i16).to_be_bytes());
    header.extend_from_slice(&frame.opaque.to_be_bytes());
    header.extend_from_slice(&frame.flag.to_be_bytes());
    put_long(&mut header, frame.remark.as_bytes());
    let mut fields = Vec::new();
    for (name, value) in &frame.fields {
        fields.extend_from_slice(&(name.len() as i16).to_be_bytes());
        fields.extend_from_slice(name.as_bytes());
        put_long(&mut fields, value.as_bytes());
    }
    put_long(&mut header, &fields);
    header
}

fn put_long(into: &mut Vec<u8>, part: &[u8]) {
    into.extend_from_slice(&(part.len() as u32).to_be_bytes());
    into.extend_from_slice(part);
}

/// The first frame of `bytes` and where it ends; none yet where it is not whole.
///
/// # Errors
/// What is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame, usize)>, String> {
    let word =
        |at: usize| bytes.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().expect("4 bytes")));
    let (Some(length), Some(header)) = (word(0), word(4)) else { return Ok(None) };
    let (end, header_bytes) = (4 + length as usize, (header & 0xFF_FFFF) as usize);
    if 8 + header_bytes > end || end > 16 << 20 {
        return Err(format!("a frame of {end} bytes with a header of {header_bytes}"));
    }
    let Some(frame) = bytes.get(..end) else { return Ok(None) };
    let (head, body) = frame[8..].split_at(header_bytes);
    let mut frame = match header >> 24 {
        0 => read_json(head)?,
        1 => read_binary(head)?,
        form => return Err(format!("a header of the form {form}")),
    };
    frame.body = body.to_vec();
    Ok(Some((frame, end)))
}

fn read_json(head: &[u8]) -> Result<Frame, String> {
    let header: Value =
        serde_json::from_slice(head).map_err(|error| format!("a header that is no JSON: {error}"))?;
    let number = |name: &str| {
        let number = header.get(name).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| format!("a header without {name}"))
    };
    let empty = serde_json::Map::new();
    let fields = header.get("extFields").and_then(Value::as_object).unwrap_or(&empty);
    let text = |value: &Value| {
        value.as_str().map(str::to_owned).ok_or_else(|| format!("the field {value} is no text"))
    };
    let fields = fields.iter().map(|(name, value)| Ok((name.clone(), text(value)?)));
    Ok(Frame {
        form: Form::Json,
        code: number("code")?,
        opaque: number("opaque")?,
        flag: number("flag")?,
        remark: header.get("remark").and_then(Value::as_str).unwrap_or_default().to_owned(),
        fields: fields.collect::<Result<Fields, String>>()?,
        body: Vec::new(),
    })
}

/// Takes bytes off the front.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a binary header that ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<i32, String> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | i32::from(*byte)))
    }

    fn part(&mut self, width: usize) -> Result<&'a [u8], String> {
        let count = self.number(width)?;
        self.take(usize::try_from(count).map_err(|_| "a negative length")?)
    }

    fn text(&mut self, width: usize) -> Result<String, String> {
        String::from_utf8(self.part(width)?.to_vec()).map_err(|_| "text that is not UTF-8".to_owned())
    }
}

fn read_binary(head: &[u8]) -> Result<Frame, String> {
    let mut rest = Rest(head);
    let code = rest.number(2)?;
    rest.take(3)?;
    let (opaque, flag) = (rest.number(4)?, rest.number(4)?);
    let remark = rest.text(4)?;
    let mut entries = Rest(rest.part(4)?);
    if !rest.0.is_empty() {
        return Err("a binary header with something behind it".to_owned());
    }
    let mut fields = Fields::new();
    while !entries.0.is_empty() {
        let name = entries.text(2)?;
        fields.insert(name, entries.text(4)?);
    }
    Ok(Frame { form: Form::Binary, code, opaque, flag, remark, fields, body: Vec::new() })
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// None has come; the request may have arrived.
    Missing(String),
    /// What has come breaks the protocol.
    Wrong(String),
}

type Answered<T> = Result<T, NoAnswer>;

fn missing(what: impl ToString) -> NoAnswer {
    NoAnswer::Missing(what.to_string())
}

/// One connection. After an error it is of no use any more.
pub struct Connection {
    rt: SimRuntime,
    read: <SimRuntime as Network>::Read,
    write: <SimRuntime as Network>::Write,
    bytes: BytesMut,
    next_opaque: i32,
    /// Requests of the other side that have come meanwhile.
    asked: Vec<Frame>,
}

impl Connection {
    /// # Errors
    /// When nobody takes it within `patience`. Opaques begin at `opaque`.
    pub async fn open(
        rt: &SimRuntime,
        at: SocketAddr,
        opaque: i32,
        patience: Duration,
    ) -> Answered<Connection> {
        match rt.timeout(patience, rt.connect(at)).await {
            Ok(Ok((read, write))) => Ok(Connection {
                rt: rt.clone(),
                read,
                write,
                bytes: BytesMut::new(),
                next_opaque: opaque,
                asked: Vec::new(),
            }),
            Ok(Err(error)) => Err(missing(error)),
            Err(_) => Err(missing("no connection in time")),
        }
    }

    /// Our address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.read.local_addr()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Answered<()> {
        self.write.write_all(std::io::Cursor::new(bytes)).await.map_err(missing)
    }

    /// Sends a request, and answers under which number.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn send(&mut self, mut frame: Frame) -> Answered<i32> {
        frame.opaque = self.next_opaque;
        self.next_opaque = self.next_opaque.wrapping_add(1);
        self.write(encode(&frame)).await?;
        Ok(frame.opaque)
    }

    /// Sends a request to which nothing is answered.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn send_one_way(&mut self, mut frame: Frame) -> Answered<()> {
        frame.flag |= ONE_WAY;
        self.send(frame).await.map(drop)
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn next(&mut self, patience: Duration) -> Answered<Frame> {
        let rt = self.rt.clone();
        match rt.timeout(patience, self.read_frame()).await {
            Ok(frame) => frame,
            Err(_) => Err(missing("no answer in time")),
        }
    }

    async fn read_frame(&mut self) -> Answered<Frame> {
        loop {
            if let Some((frame, end)) = decode(&self.bytes).map_err(NoAnswer::Wrong)? {
                drop(self.bytes.split_to(end));
                return Ok(frame);
            }
            if self.read.read_buf(&mut self.bytes).await.map_err(missing)? == 0 {
                return Err(missing("the connection was closed"));
            }
        }
    }

    /// The answer to one request of ours, of that form; others that ask something meanwhile are kept.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn answer(&mut self, (opaque, form): (i32, Form), patience: Duration) -> Answered<Frame> {
        loop {
            let frame = self.next(patience).await?;
            if !frame.is_answer() {
                self.asked.push(frame);
            } else if frame.opaque != opaque {
                return Err(NoAnswer::Wrong(format!(
                    "an answer to {}, and {opaque} was asked",
                    frame.opaque
                )));
            } else if frame.form != form {
                return Err(NoAnswer::Wrong(format!("an answer in the form {:?} to {form:?}", frame.form)));
            } else if frame.flag != ANSWER {
                return Err(NoAnswer::Wrong(format!("an answer with the flags {}", frame.flag)));
            } else {
                return Ok(frame);
            }
        }
    }

    /// # Errors
    /// [`NoAnswer`].
    pub async fn call(&mut self, frame: Frame, patience: Duration) -> Answered<Frame> {
        let form = frame.form;
        let opaque = self.send(frame).await?;
        self.answer((opaque, form), patience).await
    }

    /// What the other side asks within `patience`, or has asked: at most one.
    ///
    /// # Errors
    /// [`NoAnswer`], but for nothing in time.
    pub async fn asked(&mut self, patience: Duration) -> Answered<Option<Frame>> {
        if !self.asked.is_empty() {
            return Ok(Some(self.asked.remove(0)));
        }
        let rt = self.rt.clone();
        match rt.timeout(patience, self.read_frame()).await {
            Ok(Ok(frame)) if frame.is_answer() => {
                Err(NoAnswer::Wrong(format!("an answer to {} that nobody waits for", frame.opaque)))
            }
            Ok(frame) => frame.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Answers a request of the other side.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn reply(&mut self, to: &Frame, code: i32) -> Answered<()> {
        let answer = Frame {
            opaque: to.opaque,
            flag: ANSWER,
            ..Frame::request(to.form, code, Fields::new(), Vec::new())
        };
        self.write(encode(&answer)).await
    }

    /// Whether the other side ends the connection within `patience`.
    pub async fn is_closed(&mut self, patience: Duration) -> bool {
        let rt = self.rt.clone();
        let closed = async {
            loop {
                match self.read.read_buf(&mut self.bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        rt.timeout(patience, closed).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(form: Form) -> Frame {
        let fields = [("a", "b\u{1}c"), ("d", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        Frame {
            opaque: -7,
            flag: 1,
            remark: "why".to_owned(),
            ..Frame::request(form, 310, fields.into(), b"body".to_vec())
        }
    }

    #[test]
    fn both_forms_are_read_as_they_were_written_and_no_earlier() {
        for form in [Form::Json, Form::Binary] {
            let bytes = encode(&frame(form));
            assert_eq!(decode(&bytes), Ok(Some((frame(form), bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn a_header_in_java_s_bytes_is_read() {
        let header = br#"{"code":0,"flag":1,"language":"JAVA","opaque":5,"serializeTypeCurrentRPC":"JSON","version":409}"#;
        let mut bytes = vec![0, 0, 0, 4 + header.len() as u8, 0, 0, 0, header.len() as u8];
        bytes.extend_from_slice(header);
        let (read, _) = decode(&bytes).expect("a frame").expect("whole");
        assert_eq!((read.code, read.opaque, read.is_answer()), (0, 5, true));
        bytes[4] = 2;
        assert!(decode(&bytes).is_err());
    }
}

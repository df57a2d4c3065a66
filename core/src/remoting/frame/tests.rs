use super::*;
use crate::remoting::{ExtFields, FLAG_ONEWAY, FLAG_RESPONSE, LanguageCode};
use bytes::Bytes;
use proptest::prelude::*;

fn whole(command: &RemotingCommand) -> Vec<u8> {
    let mut head = BytesMut::new();
    encode(command, &mut head);
    let mut bytes = head.to_vec();
    for chunk in command.body.chunks() {
        bytes.extend_from_slice(chunk);
    }
    bytes
}

fn error(bytes: &[u8]) -> FrameError {
    decode(&mut BytesMut::from(bytes)).unwrap_err()
}

#[test]
fn a_partial_frame_is_not_an_error() {
    let command = RemotingCommand::request(105).with_body(b"body".to_vec());
    let bytes = whole(&command);
    for cut in 0..bytes.len() {
        let mut buf = BytesMut::from(&bytes[..cut]);
        assert_eq!(decode(&mut buf), Ok(None), "cut at {cut}");
        assert_eq!(buf, bytes[..cut]);
    }
}

#[test]
fn frames_are_taken_one_by_one() {
    let mut buf = BytesMut::new();
    for opaque in 0..3 {
        let mut command = RemotingCommand::request(10).with_body(vec![b'x'; opaque]);
        command.opaque = opaque as i32;
        buf.extend_from_slice(&whole(&command));
    }
    for opaque in 0..3 {
        let command = decode(&mut buf).unwrap().unwrap();
        assert_eq!(command.opaque, opaque);
        assert_eq!(command.body.len(), opaque as usize);
    }
    assert!(buf.is_empty());
}

#[test]
fn a_body_in_chunks_is_not_copied_into_the_head() {
    let chunks = vec![Bytes::from(vec![1; 1000]), Bytes::from(vec![2; 500])];
    let command = RemotingCommand::request(11).with_body(chunks);
    let mut head = BytesMut::new();
    encode(&command, &mut head);
    assert!(head.len() < 300);
    let read = decode(&mut BytesMut::from(whole(&command).as_slice())).unwrap().unwrap();
    assert_eq!(read, command);
    assert_eq!(read.body.chunks().len(), 1);
}

#[test]
fn limits_are_checked_before_the_frame_is_there() {
    assert_eq!(error(&[0x01, 0x00, 0x00, 0x00]), FrameError::TooLong { bytes: 0x0100_0004 });
    assert_eq!(error(&[0x7F, 0xFF, 0xFF, 0xFF]), FrameError::TooLong { bytes: 0x8000_0003 });
    assert_eq!(error(&[0xFF, 0xFF, 0xFF, 0xFF]), FrameError::TooShort { length: -1 });
    assert_eq!(error(&[0, 0, 0, 3]), FrameError::TooShort { length: 3 });
    assert_eq!(
        error(&[0, 0, 0, 10, 0, 0, 0, 7]),
        FrameError::HeaderLength { header_bytes: 7, room_bytes: 6 }
    );
    assert_eq!(
        error(&[0, 0xFF, 0xFF, 0xFC, 0, 0x10, 0, 1]),
        FrameError::HeaderLength { header_bytes: 0x10_0001, room_bytes: HEADER_BYTES_MAX }
    );
    assert_eq!(error(&[0, 0, 0, 10, 2, 0, 0, 6]), FrameError::SerializeType { found: 2 });
    // The longest frame that may come is waited for.
    assert_eq!(decode(&mut BytesMut::from(&[0, 0xFF, 0xFF, 0xFC, 0, 0, 0, 2][..])), Ok(None));
}

#[test]
fn other_protocols_are_told_apart() {
    assert_eq!(error(b"GET / HTTP/1.1\r\n"), FrameError::Http);
    assert_eq!(error(b"PRI * HTTP/2.0\r\n"), FrameError::Http);
    assert_eq!(error(&[0x16, 0x03, 0x01, 0x02, 0x00]), FrameError::Tls);
    assert_eq!(error(b"PROXY TCP4 "), FrameError::ProxyProtocol);
    assert!(error(b"GET ").to_string().contains("HTTP"));
}

#[test]
fn binary_lengths_are_checked() {
    let header = |tail: &[u8]| {
        let mut bytes = vec![0, 105, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend_from_slice(tail);
        let mut frame = BytesMut::new();
        frame.put_u32(4 + bytes.len() as u32);
        frame.put_u32(0x0100_0000 | bytes.len() as u32);
        frame.extend_from_slice(&bytes);
        decode(&mut frame)
    };
    let part = |part, claimed, left| Err(FrameError::BinaryPart { part, claimed, left });
    assert!(header(&[0, 0, 0, 0, 0, 0, 0, 0]).is_ok());
    assert_eq!(header(&[0, 0, 0]), part("remark length", 4, 3));
    assert_eq!(header(&[0, 0, 0, 5, 1, 2, 3, 4]), part("remark", 5, 4));
    assert_eq!(header(&[0xFF, 0xFF, 0xFF, 0xFF]), part("remark", -1, 0));
    assert_eq!(header(&[0, 0, 0, 0, 0, 0, 0, 9, 0]), part("extFields", 9, 1));
    assert_eq!(header(&[0, 0, 0, 0, 0, 0, 0, 2, 0, 1]), part("field name", 1, 0));
    assert_eq!(header(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 1, b'a']), part("field value length", 4, 0));
}

#[test]
fn a_code_beyond_16_bits_is_sent_as_json() {
    let mut command = RemotingCommand::request(200_050);
    command.serialize_type = SerializeType::RocketMq;
    let read = decode(&mut BytesMut::from(whole(&command).as_slice())).unwrap().unwrap();
    assert_eq!(read.code, 200_050);
    assert_eq!(read.serialize_type, SerializeType::Json);
}

#[test]
fn control_characters_of_a_json_header_are_escaped() {
    let mut command = RemotingCommand::request(10);
    command.ext.set_str("i", "TAGS\u{1}\"\\A\u{2}\n");
    let bytes = whole(&command);
    let text = String::from_utf8_lossy(&bytes[8..]).into_owned();
    assert!(text.contains(r#""i":"TAGS\u0001\"\\A\u0002\u000a""#), "{text}");
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
}

pub(super) fn any_command() -> impl Strategy<Value = RemotingCommand> {
    let fields = prop::collection::vec(("[a-zA-Z_]{1,20}|.{1,6}", any::<String>()), 0..12);
    let body = prop::collection::vec(any::<u8>(), 0..64);
    let flag = prop_oneof![Just(0), Just(FLAG_RESPONSE), Just(FLAG_ONEWAY), any::<i32>()];
    let numbers = (any::<i16>(), 0..14_i64, any::<i16>(), any::<i32>(), flag);
    let remark = prop::option::of(".{1,30}");
    (numbers, remark, fields, body, any::<bool>()).prop_map(|(numbers, remark, fields, body, json)| {
        let (code, language, version, opaque, flag) = numbers;
        let mut ext = ExtFields::default();
        for (name, value) in &fields {
            ext.set_str(name, value);
        }
        RemotingCommand {
            code: i32::from(code),
            language: LanguageCode::from_ordinal(language),
            version: i32::from(version),
            opaque,
            flag,
            remark,
            ext,
            body: Body::from(body),
            serialize_type: if json { SerializeType::Json } else { SerializeType::RocketMq },
        }
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(command in any_command()) {
        let mut buf = BytesMut::from(whole(&command).as_slice());
        prop_assert_eq!(decode(&mut buf), Ok(Some(command)));
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn a_damaged_frame_is_refused_or_read(command in any_command(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = whole(&command);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut buf = BytesMut::from(bytes.as_slice());
        match decode(&mut buf) {
            Ok(Some(read)) => prop_assert!(read.body.len() + read.ext.text().len() <= 4 * bytes.len()),
            Ok(None) | Err(_) => prop_assert_eq!(&buf[..], &bytes[..]),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), json in any::<bool>()) {
        let mut buf = BytesMut::from(bytes.as_slice());
        let _ = decode(&mut buf);
        let mut framed = BytesMut::new();
        framed.put_u32(4 + bytes.len() as u32);
        framed.put_u32(u32::from(!json) << 24 | bytes.len() as u32);
        framed.extend_from_slice(&bytes);
        let _ = decode(&mut framed);
    }
}

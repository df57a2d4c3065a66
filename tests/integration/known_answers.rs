//! What the original classes answered to chosen inputs.

use crate::golden::{hex, known_answers};
use bytes::BytesMut;
use hotfire_core::{
    message::{
        hash::{java_string_hash, tags_code},
        properties,
        subscription::TagExpression,
        unique_key::UniqueKey,
    },
    remoting::{Body, RemotingCommand, SerializeType, frame},
};
use serde_json::Value;

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list of cases")
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{name} of {case}"))
}

#[test]
fn string_hashes() {
    for case in list(&known_answers("string-hash.json")) {
        let string = text(case, "string");
        assert_eq!(string.as_bytes(), hex(text(case, "utf8Hex")), "{case}");
        assert_eq!(i64::from(java_string_hash(string)), case["hashCode"], "{case}");
        assert_eq!(tags_code(Some(string)), case["tagsCode"], "{case}");
    }
}

#[test]
fn property_strings() {
    let answers = known_answers("properties.json");
    for case in list(&answers["encode"]) {
        let encoded = String::from_utf8(hex(text(case, "encodedHex"))).expect("UTF-8");
        assert_properties(&encoded, &case["decodedBack"]);
        // 4.9.7 leaves out the last separator. Its order is that of a hash map, so only the pairs can be compared.
        let ours = properties::decode(&encoded).encode(false);
        assert_properties(&ours, &case["decodedBack"]);
        assert!(!ours.ends_with(properties::PROPERTY_SEPARATOR), "{case}");
    }
    for case in list(&answers["decode"]) {
        let encoded = case["encodedHex"].as_str().map(hex).unwrap_or_default();
        assert_properties(std::str::from_utf8(&encoded).expect("UTF-8"), &case["decoded"]);
    }
}

fn assert_properties(encoded: &str, expected: &Value) {
    let decoded = properties::decode(encoded);
    let expected = expected.as_object().expect("a map");
    assert_eq!(decoded.len(), expected.len(), "{encoded:?}");
    for (name, value) in expected {
        assert_eq!(decoded.get(name), value.as_str(), "{encoded:?}");
        assert_eq!(properties::find(encoded, name), value.as_str(), "{encoded:?}");
    }
}

#[test]
fn tag_expressions() {
    for case in list(&known_answers("subscription.json")) {
        let parsed = TagExpression::parse(text(case, "expression")).expect("an expression that Java took");
        assert_eq!(parsed.sub_string, text(case, "subString"));
        let mut tags: Vec<_> =
            list(&case["tagsSet"]).iter().map(|tag| tag.as_str().expect("a tag")).collect();
        tags.sort_unstable();
        assert!(parsed.tags.iter().eq(&tags), "{case}");
        let mut codes: Vec<_> =
            list(&case["codeSet"]).iter().map(|code| code.as_i64().expect("a code")).collect();
        codes.sort_unstable();
        assert!(parsed.codes.iter().map(|code| i64::from(*code)).eq(codes), "{case}");
    }
}

#[test]
fn whole_frames() {
    for case in list(&known_answers("remoting-command.json")) {
        let bytes = hex(text(case, "frameHex"));
        let command = frame::decode(&mut BytesMut::from(bytes.as_slice())).expect("a frame").expect("whole");
        let json = text(case, "serialize") == "JSON";
        assert_eq!(command.serialize_type, if json { SerializeType::Json } else { SerializeType::RocketMq });
        for (ours, name) in [
            (command.code, "code"),
            (command.opaque, "opaque"),
            (command.flag, "flag"),
            (command.version, "version"),
        ] {
            assert_eq!(i64::from(ours), case[name], "{name} of {case}");
        }
        assert_eq!(command.remark.as_deref(), case["remark"].as_str(), "{case}");
        let fields = case["extFields"].as_object().cloned().unwrap_or_default();
        assert_eq!(command.ext.len(), fields.len(), "{case}");
        for (name, value) in &fields {
            assert_eq!(command.ext.get(name), value.as_str(), "{case}");
        }
        let body = case["bodyHex"].as_str().map(hex).unwrap_or_default();
        assert_eq!(command.body, Body::from(body));
        assert_eq!(whole(&command), bytes, "{case}");
    }
}

/// We keep the order of fields and sort the members as Java does, so even JSON frames come out byte for byte.
fn whole(command: &RemotingCommand) -> Vec<u8> {
    let mut head = BytesMut::new();
    frame::encode(command, &mut head);
    head.extend_from_slice(&command.body.to_bytes());
    head.to_vec()
}

#[test]
fn unique_keys() {
    for case in list(&known_answers("unique-key.json")["samples"]) {
        let key = UniqueKey::parse(text(case, "uniqKey")).expect("a key");
        assert_eq!(key.to_string(), text(case, "uniqKey"));
        assert_eq!(key.ip, text(case, "ip").parse::<std::net::IpAddr>().expect("an address"), "{case}");
        assert_eq!(i64::from(key.pid), case["pid"], "{case}");
        let decoded_at = case["decodedAtMs"].as_i64().expect("a time");
        // Java looked at its clock once more while decoding, up to a millisecond later.
        let born = [key.born_ms(decoded_at), key.born_ms(decoded_at + 1)];
        assert!(born.iter().any(|born| *born == case["nearlyTimeMs"]), "{born:?} {case}");
    }
}

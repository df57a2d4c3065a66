use super::*;
use proptest::prelude::*;

#[test]
fn the_usual_header_needs_no_careful_reader() {
    let header =
        br#"{"code":310,"extFields":{"a":"PG","e":8,"k":true,"i":"TAGS\u0001A\u0002\"\\\/x\n"},"flag":0,
        "language":"GO","opaque":5,"remark":"r\u00e9","serializeTypeCurrentRPC":"JSON","version":317}"#;
    let command = Scanner::scan(header).unwrap();
    assert_eq!(command, decode_any(header).unwrap());
    assert_eq!(command.ext.get("i"), Some("TAGS\u{1}A\u{2}\"\\/x\n"));
    assert_eq!(command.ext.get("e"), Some("8"));
    assert_eq!(command.ext.get("k"), Some("true"));
    assert_eq!(command.remark.as_deref(), Some("ré"));
    assert_eq!(command.language, LanguageCode::GO);
}

#[test]
fn odd_headers_are_read_too() {
    let header = br#"{"code":"10","language":9,"version":null,"flag":0,"opaque":-1,"remark":"","new":[{}],
        "extFields":{"a":null,"b":1.5,"c":"\ud83d\ude80","d":{"x":1},a:"late"}}"#;
    let command = decode(header).unwrap();
    assert_eq!((command.code, command.version, command.opaque), (10, 0, -1));
    assert_eq!(command.language, LanguageCode::GO);
    assert_eq!(command.remark, None);
    let fields: Vec<_> = command.ext.iter().collect();
    assert_eq!(fields, [("a", "late"), ("b", "1.5"), ("c", "🚀"), ("d", "{\"x\":1}")]);

    let command = decode(br#"{"language":"COBOL","extFields":null}"#).unwrap();
    assert_eq!(command.language, LanguageCode::OTHER);
    assert!(command.ext.is_empty());
}

#[test]
fn a_later_duplicate_wins_in_both_readers() {
    let header = br#"{"code":1,"extFields":{"a":"1","b":"2","a":"3"},"code":2}"#;
    for command in [Scanner::scan(header), decode_any(header).ok()] {
        let command = command.unwrap();
        assert_eq!(command.code, 2);
        assert_eq!(command.ext.len(), 2);
        assert_eq!(command.ext.get("a"), Some("3"));
    }
}

#[test]
fn a_code_beyond_32_bits_is_refused_by_name() {
    let error = decode(br#"{"code":4294967296}"#).unwrap_err();
    assert_eq!(error.to_string(), "the header field code is not a 32-bit integer: 4294967296");
    assert!(matches!(decode(b"[]"), Err(FrameError::JsonField { field: "header", .. })));
    assert!(matches!(decode(b""), Err(FrameError::Json(_))));
    assert!(matches!(decode(br#"{"extFields":[]}"#), Err(FrameError::JsonField { field: "extFields", .. })));
}

#[test]
fn the_number_of_fields_is_bounded() {
    let fields = |count: usize| {
        let fields: Vec<_> = (0..count).map(|index| format!("\"n{index}\":\"\"")).collect();
        format!("{{\"extFields\":{{{}}}}}", fields.join(","))
    };
    assert_eq!(decode(fields(FIELDS_MAX).as_bytes()).unwrap().ext.len(), FIELDS_MAX);
    assert_eq!(decode(fields(FIELDS_MAX + 1).as_bytes()), Err(FrameError::TooManyFields));
}

/// Headers as peers write them, and with the odd things that a scanner could trip over.
fn any_header() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        "[a-zA-Z0-9]{0,12}".prop_map(|text| format!("\"{text}\"")),
        r#"(\\u[0-9a-fA-F]{4}|\\[bfnrt"/]|[a-z中é]){0,8}"#.prop_map(|text| format!("\"{text}\"")),
    ];
    let value = prop_oneof![
        4 => text.clone(),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        1 => "-?[0-9]{1,21}",
        1 => "-?[0-9]{1,3}[.eE+-][0-9]{1,2}",
        1 => prop_oneof![Just("true"), Just("false"), Just("null"), Just("{}"), Just("[1]")].prop_map(str::to_owned),
    ];
    let pair = (prop_oneof![text.clone(), Just("\"a\"".to_owned())], value.clone());
    let fields = prop::collection::vec(pair, 0..8).prop_map(|pairs| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        format!("{{{}}}", pairs.join(","))
    });
    let member = prop_oneof![
        4 => ("code|flag|opaque|version", -70_000_i32..70_000).prop_map(|(name, number)| format!("\"{name}\":{number}")),
        1 => ("code|flag|opaque|version|language|remark|other", value).prop_map(|(name, value)| format!("\"{name}\":{value}")),
        2 => text.clone().prop_map(|text| format!("\"remark\":{text}")),
        2 => "JAVA|GO|CPP|ADA".prop_map(|name| format!("\"language\":\"{name}\"")),
        4 => fields.prop_map(|fields| format!("\"extFields\":{fields}")),
    ];
    (prop::collection::vec(member, 0..8), "[ \n]{0,2}").prop_map(|(members, space)| {
        format!("{{{space}{}{space}}}{space}", members.join(&format!(",{space}")))
    })
}

proptest! {
    #[test]
    fn plain_bytes_end_where_a_byte_by_byte_search_ends(text in prop::collection::vec(prop_oneof![3 => 0x20_u8..=0xFF, 1 => any::<u8>()], 0..40)) {
        let slow = text.iter().position(|byte| matches!(byte, 0x00..0x20 | b'"' | b'\\'));
        prop_assert_eq!(plain_bytes(&text), slow);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_scanner_reads_what_the_careful_reader_reads(header in any_header()) {
        if let Some(scanned) = Scanner::scan(header.as_bytes()) {
            prop_assert_eq!(Ok(scanned), decode_any(header.as_bytes()));
        }
    }

    #[test]
    fn a_damaged_header_is_read_alike_or_refused(header in any_header(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut header = header.into_bytes();
        let at = at.index(header.len());
        header[at] = byte;
        if let Some(scanned) = Scanner::scan(&header) {
            prop_assert_eq!(Ok(scanned), decode_any(&header));
        }
        let _ = decode(&header);
    }
}

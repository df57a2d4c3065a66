use super::*;
use crate::remoting::codes::request;

fn ext(pairs: &[(&str, &str)]) -> ExtFields {
    let mut ext = ExtFields::default();
    for (name, value) in pairs {
        ext.set_str(name, value);
    }
    ext
}

fn send_header() -> SendMessageHeader<'static> {
    SendMessageHeader {
        producer_group: "PG",
        topic: "T",
        default_topic: "TBW102",
        default_topic_queue_nums: 4,
        queue_id: -1,
        sys_flag: 0x301,
        born_timestamp: 1_700_000_000_000,
        flag: 5,
        properties: Some("TAGS\u{1}中\u{2}"),
        reconsume_times: Some(0),
        unit_mode: false,
        max_reconsume_times: None,
        batch: true,
        broker_name: Some("a"),
    }
}

#[test]
fn a_send_header_reads_back_by_names_and_by_letters() {
    let (mut long, mut letters) = (ExtFields::default(), ExtFields::default());
    send_header().encode(&mut long);
    send_header().encode_v2(&mut letters);
    for code in [request::SEND_MESSAGE, request::SEND_REPLY_MESSAGE] {
        assert_eq!(SendMessageHeader::decode_send(code, &long), Ok(send_header()));
    }
    for code in [request::SEND_MESSAGE_V2, request::SEND_BATCH_MESSAGE, request::SEND_REPLY_MESSAGE_V2] {
        assert_eq!(SendMessageHeader::decode_send(code, &letters), Ok(send_header()));
    }
    assert!(letters.iter().all(|(name, _)| name.len() == 1));
}

#[test]
fn a_malformed_number_names_its_field() {
    let mut fields = ExtFields::default();
    send_header().encode_v2(&mut fields);
    fields.set_str("e", "three");
    let error = SendMessageHeader::decode_v2(&fields).unwrap_err();
    assert_eq!(error.to_string(), r#"the field e is not a 32-bit integer: "three""#);

    let error = OffsetResponse::decode(&ext(&[("offset", "9223372036854775808")])).unwrap_err();
    assert_eq!(error.to_string(), r#"the field offset is not a 64-bit integer: "9223372036854775808""#);
}

#[test]
fn a_missing_field_is_named() {
    let error = PullMessageHeader::decode(&ext(&[("consumerGroup", "G")])).unwrap_err();
    assert_eq!(error, HeaderError::Missing { field: "topic" });
}

#[test]
fn only_true_is_true() {
    let batch = |text: &str| {
        let mut fields = ExtFields::default();
        send_header().encode(&mut fields);
        fields.set_str("batch", text);
        SendMessageHeader::decode(&fields).map(|header| header.batch)
    };
    for text in ["true", "True", "TRUE"] {
        assert_eq!(batch(text), Ok(true));
    }
    // The C++ client of the Python package writes its booleans as digits; for Java "1" is false.
    for text in ["1", "yes", "", " true", "false"] {
        assert_eq!(batch(text), Ok(false));
    }
}

#[test]
fn an_empty_group_is_no_group() {
    let header = UnregisterClientHeader::decode(&ext(&[
        ("clientID", "c"),
        ("producerGroup", ""),
        ("consumerGroup", "CG"),
    ]));
    let header = header.unwrap();
    assert_eq!(header.producer_group, None);
    assert_eq!(header.consumer_group.as_deref(), Some("CG"));
}

#[test]
fn a_boundary_is_lower_unless_it_says_upper() {
    let boundary = |text| {
        let header = SearchOffsetHeader::decode(&ext(&[
            ("topic", "T"),
            ("queueId", "0"),
            ("timestamp", "-1"),
            ("boundaryType", text),
        ]));
        header.unwrap().boundary
    };
    assert_eq!(boundary("UPPER"), Boundary::Upper);
    assert_eq!(boundary("LOWER"), Boundary::Lower);
    assert_eq!(boundary("middle"), Boundary::Lower);
}

#[test]
fn absent_fields_are_not_written() {
    let mut fields = ExtFields::default();
    RegisterBrokerResponse { ha_server_addr: None, master_addr: Some("a:1".into()) }.encode(&mut fields);
    assert_eq!(fields.iter().collect::<Vec<_>>(), [("masterAddr", "a:1")]);
}

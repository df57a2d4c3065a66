use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn queue(id: i32) -> MessageQueue {
    MessageQueue { broker_name: "broker-a".into(), queue_id: id, topic: "TopicTest".into() }
}

#[test]
fn a_cpp_heartbeat_reads_as_a_java_one() {
    let cpp = br#"{"clientID":"c","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"groupName":"CG","messageModel":0,
        "subscriptionDataSet":[{"codeSet":["2598919"],"subString":"TagA","subVersion":"17","tagsSet":["TagA"],"topic":"T"}]}],
        "producerDataSet":null}
"#;
    let java = br#"{"clientID":"c","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_FIRST_OFFSET",
        "consumeType":"CONSUME_PASSIVELY","groupName":"CG","messageModel":"BROADCASTING","subscriptionDataSet":[{
        "classFilterMode":false,"codeSet":[2598919],"expressionType":"TAG","subString":"TagA","subVersion":17,
        "tagsSet":["TagA"],"topic":"T"}],"unitMode":false}],"heartbeatFingerprint":0,"producerDataSet":[],"withoutSub":false}"#;
    let heartbeat = HeartbeatData::parse(cpp).unwrap();
    assert_eq!(heartbeat, HeartbeatData::parse(java).unwrap());
    let group = &heartbeat.consumer_data_set[0];
    assert_eq!(group.message_model, MessageModel::Broadcasting);
    assert_eq!(group.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert_eq!(group.subscription_data_set[0].code_set, BTreeSet::from([2_598_919]));
    assert_eq!(group.subscription_data_set[0].expression_type, "TAG");
    assert_eq!(HeartbeatData::parse(&heartbeat.to_json()).unwrap(), heartbeat);
}

#[test]
fn a_reference_is_refused_not_taken_for_an_empty_subscription() {
    let body =
        br#"{"clientID":"c","consumerDataSet":[{"groupName":"G","subscriptionDataSet":[{"$ref":"$.x"}]}]}"#;
    let error = HeartbeatData::parse(body).unwrap_err();
    assert!(error.to_string().contains("missing field `topic`"), "{error}");
}

#[test]
fn a_route_is_written_in_standard_json() {
    let route = TopicRouteData {
        broker_datas: vec![BrokerData {
            broker_addrs: BTreeMap::from([(0, "10.0.0.1:10911".into()), (1, "10.0.0.2:10911".into())]),
            broker_name: "broker-a".into(),
            cluster: "DefaultCluster".into(),
            ..BrokerData::default()
        }],
        queue_datas: vec![QueueData {
            broker_name: "broker-a".into(),
            perm: 6,
            read_queue_nums: 8,
            write_queue_nums: 8,
            ..QueueData::default()
        }],
        ..TopicRouteData::default()
    };
    let standard = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":8}]}"#;
    assert_eq!(String::from_utf8(route.to_json()).unwrap(), standard);
    let java = standard.replace("\"0\":", "0:").replace("\"1\":", "1:");
    assert_eq!(TopicRouteData::parse(java.as_bytes()).unwrap(), route);
    assert_eq!(TopicRouteData::parse(standard.as_bytes()).unwrap(), route);
}

#[test]
fn queues_are_keys_as_objects() {
    let body = ResetOffsetBody { offset_table: BTreeMap::from([(queue(0), 5), (queue(1), -1)]) };
    let java = br#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:5,{"brokerName":"broker-a","queueId":1,"topic":"TopicTest"}:-1}}"#;
    let cpp = br#"{"offsetTable":[{"brokerName":"broker-a","offset":5,"queueId":0,"topic":"TopicTest"},{"brokerName":"broker-a","offset":-1,"queueId":1,"topic":"TopicTest"}]}"#;
    assert_eq!(body.to_json(), java);
    assert_eq!(body.to_cpp_json(), cpp);
    for text in [&java[..], &cpp[..]] {
        assert_eq!(ResetOffsetBody::parse(text).unwrap(), body);
    }
    let quoted =
        br#"{"offsetTable":{"{\"topic\":\"TopicTest\",\"brokerName\":\"broker-a\",\"queueId\":\"0\"}":"5"}}"#;
    assert_eq!(ResetOffsetBody::parse(quoted).unwrap().offset_table, BTreeMap::from([(queue(0), 5)]));

    let status = GetConsumerStatusBody {
        consumer_table: BTreeMap::from([("c".into(), body.offset_table.clone())]),
        message_queue_table: BTreeMap::from([(queue(3), 1)]),
    };
    assert_eq!(GetConsumerStatusBody::parse(&status.to_json()).unwrap(), status);
    let stats = ConsumeStats {
        consume_tps: Some(1.5),
        offset_table: BTreeMap::from([(
            queue(0),
            OffsetWrapper { broker_offset: 100, ..Default::default() },
        )]),
    };
    assert_eq!(ConsumeStats::parse(&stats.to_json()).unwrap(), stats);
    let stats = TopicStatsTable {
        offset_table: BTreeMap::from([(queue(0), TopicOffset { max_offset: 5, ..Default::default() })]),
        topic_put_tps: None,
    };
    assert_eq!(TopicStatsTable::parse(&stats.to_json()).unwrap(), stats);
}

#[test]
fn offset_files_have_bare_keys_and_read_both() {
    let offsets = ConsumerOffsetWrapper {
        data_version: None,
        offset_table: BTreeMap::from([("TopicTest@CG".to_owned(), BTreeMap::from([(0, 12), (1, 3)]))]),
    };
    assert_eq!(offsets.to_json(), br#"{"offsetTable":{"TopicTest@CG":{0:12,1:3}}}"#);
    assert_eq!(ConsumerOffsetWrapper::parse(&offsets.to_java_json()).unwrap(), offsets);
    let quoted = br#"{"offsetTable":{"TopicTest@CG":{"0":12,"1":"3"}},"pinOffsetTable":{}}"#;
    assert_eq!(ConsumerOffsetWrapper::parse(quoted).unwrap(), offsets);
    let delays = DelayOffsetWrapper::parse(b"{\n\t\"offsetTable\":{1:7,2:1\n\t}\n}").unwrap();
    assert_eq!(delays.offset_table, BTreeMap::from([(1, 7), (2, 1)]));
    assert_eq!(delays.to_json(), br#"{"offsetTable":{1:7,2:1}}"#);
}

#[test]
fn absent_settings_have_javas_defaults() {
    let group = SubscriptionGroupConfig::parse(br#"{"groupName":"CG","retryMaxTimes":3}"#).unwrap();
    let expected =
        SubscriptionGroupConfig { group_name: "CG".into(), retry_max_times: 3, ..Default::default() };
    assert_eq!(group, expected);
    let topic = TopicConfig::parse(br#"{"topicName":"T"}"#).unwrap();
    assert_eq!((topic.read_queue_nums, topic.perm), (16, PERM_READ | PERM_WRITE));
}

fn registration() -> RegisterBrokerBody {
    let topic = |name: &str, queues| TopicConfig {
        topic_name: name.into(),
        read_queue_nums: queues,
        write_queue_nums: 8,
        ..TopicConfig::default()
    };
    let mut fifo = topic("TopicTest", 8);
    fifo.attributes.insert("message.type".into(), "FIFO and more".into());
    let topics = [fifo, topic("Other", 1)];
    RegisterBrokerBody {
        filter_server_list: vec!["f:1".into()],
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper {
            data_version: DataVersion { counter: 7, state_version: 0, timestamp: 1_700_000_000_123 },
            topic_config_table: topics.into_iter().map(|topic| (topic.topic_name.clone(), topic)).collect(),
        },
    }
}

#[test]
fn a_registration_reads_back_compressed_and_not() {
    let body = registration();
    assert_eq!(RegisterBrokerBody::decode(&body.to_json(), 409).unwrap(), body);
    assert_eq!(RegisterBrokerBody::decode(&body.to_compressed(479), 479).unwrap(), body);
    let old = RegisterBrokerBody::decode(&body.to_compressed(409), 409).unwrap();
    assert!(old.topic_config_serialize_wrapper.topic_config_table["TopicTest"].attributes.is_empty());
    assert_eq!(RegisterBrokerBody::decode(b"", 409).unwrap(), RegisterBrokerBody::default());
    let topics = body.topic_config_serialize_wrapper.to_json();
    assert_eq!(
        RegisterBrokerBody::decode(&topics, 36).unwrap().topic_config_serialize_wrapper,
        body.topic_config_serialize_wrapper
    );
}

#[test]
fn inflating_is_bounded() {
    use std::io::Write;
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; INFLATED_BYTES_MAX + 1]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 64 * 1024);
    let error = RegisterBrokerBody::decode(&bomb, 409).unwrap_err();
    assert_eq!(error, BodyError::InflatesTooFar { bytes_max: INFLATED_BYTES_MAX });
    assert!(matches!(RegisterBrokerBody::decode(b"\x78\xda\x00", 409), Err(BodyError::Deflate { .. })));
}

#[test]
fn a_compressed_registration_that_lies_is_refused() {
    use std::io::Write;
    let deflated = |sections: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(sections).unwrap();
        RegisterBrokerBody::decode(&encoder.finish().unwrap(), 409).unwrap_err()
    };
    let part = |part, claimed, left| BodyError::Part { part, claimed, left };
    assert_eq!(deflated(b"\0\0"), part("data version", 4, 2));
    assert_eq!(deflated(b"\0\0\0\x09{}"), part("data version", 9, 2));
    assert_eq!(deflated(b"\0\0\0\x02{}\xff\xff\xff\xff"), part("topic count", -1, 0));
    assert_eq!(deflated(b"\0\0\0\x02{}\x7f\0\0\0abcd"), part("topic count", 0x7F00_0000, 4));
    let line = deflated(b"\0\0\0\x02{}\0\0\0\x01\0\0\0\x05A 8 x\0\0\0\x02[]");
    assert_eq!(line, BodyError::TopicLine { found: "A 8 x".into() });
}

proptest! {
    #[test]
    fn a_damaged_body_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let heartbeat = br#"{"clientID":"c","consumerDataSet":[{"consumeType":1,"groupName":"CG","subscriptionDataSet":[{"codeSet":[1],"topic":"T"}]}]}"#;
        let reset = br#"{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:5}}"#;
        let bodies = [heartbeat.to_vec(), reset.to_vec(), registration().to_json(), registration().to_compressed(479)];
        for mut body in bodies {
            let at = at.index(body.len());
            body[at] = byte;
            body.truncate(cut.index(body.len()) + 1);
            let _ = HeartbeatData::parse(&body);
            let _ = ResetOffsetBody::parse(&body);
            let _ = TopicRouteData::parse(&body);
            let _ = ConsumerOffsetWrapper::parse(&body);
            let _ = RegisterBrokerBody::decode(&body, 479);
        }
    }

    #[test]
    fn a_damaged_inflated_registration_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        use std::io::Write;
        let mut sections = inflate(&registration().to_compressed(479), INFLATED_BYTES_MAX).unwrap();
        let at = at.index(sections.len());
        sections[at] = byte;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&sections).unwrap();
        let _ = RegisterBrokerBody::decode(&encoder.finish().unwrap(), 479);
    }

    #[test]
    fn a_registration_of_any_topics_reads_back(topics in prop::collection::btree_map("[a-zA-Z0-9%_-]{1,20}", (0..64_i32, 0..64_i32, 0..8_i32), 0..8)) {
        let mut body = RegisterBrokerBody::default();
        for (name, (read_queue_nums, write_queue_nums, perm)) in topics {
            let topic = TopicConfig { topic_name: name.clone(), read_queue_nums, write_queue_nums, perm, ..Default::default() };
            body.topic_config_serialize_wrapper.topic_config_table.insert(name, topic);
        }
        prop_assert_eq!(&RegisterBrokerBody::decode(&body.to_json(), 409).unwrap(), &body);
        prop_assert_eq!(&RegisterBrokerBody::decode(&body.to_compressed(409), 409).unwrap(), &body);
    }
}

#[test]
fn what_5_keeps_of_a_groups_subscriptions_goes_through_as_it_came() {
    let set = r#""subscriptionDataSet":[{"expression":"*","expressionType":"TAG","topic":"T","version":7}]"#;
    let group =
        SubscriptionGroupConfig::parse(format!(r#"{{"groupName":"G",{set}}}"#).as_bytes()).expect("a group");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert!(text(group.to_json()).contains(set));
    let file = SubscriptionGroupWrapper {
        subscription_group_table: [("G".to_owned(), group.clone())].into(),
        ..Default::default()
    };
    let again = SubscriptionGroupWrapper::parse(&file.to_java_json()).expect("the file");
    assert_eq!(again.subscription_group_table["G"], group);
    assert!(!text(SubscriptionGroupConfig::default().to_json()).contains("subscriptionDataSet"));
}

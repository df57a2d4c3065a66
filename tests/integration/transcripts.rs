//! Every frame that a real client, broker, name server or tool has sent: it decodes, its typed header and its body parse,
//! and what we write for them means the same.

use crate::golden::{self, Recorded};
use bytes::BytesMut;
use hotfire_core::remoting::{
    ExtFields, HeaderError, RemotingCommand, SerializeType, TypedHeader,
    body::*,
    codes::{request as ask, request_name, response},
    frame,
    headers::*,
    json,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

fn frames() -> Vec<Recorded> {
    let frames = golden::frames().expect("the transcripts are whole");
    assert!(frames.len() > 3500, "{} frames are not all", frames.len());
    frames
}

#[test]
fn every_frame_is_written_with_the_same_meaning() {
    for Recorded { place, bytes, command, .. } in frames() {
        let mut head = BytesMut::new();
        frame::encode(&command, &mut head);
        let mut written = head.to_vec();
        for chunk in command.body.chunks() {
            written.extend_from_slice(chunk);
        }
        let mut buf = BytesMut::from(written.as_slice());
        let again = frame::decode(&mut buf).expect("our own frame").expect("whole");
        assert_eq!(again, command, "{place}");
        match command.serialize_type {
            // We keep the order of fields, so these are the same bytes.
            SerializeType::RocketMq => assert_eq!(written, bytes, "{place}"),
            SerializeType::Json => {
                assert_eq!(json_header(&written), json_header(&bytes), "{place}");
                // Partly numbers and booleans in the original, all texts from us, as Go and C++ need it.
                let fields = &raw_json_header(&written)["extFields"];
                let all_texts = fields.as_object().is_none_or(|fields| fields.values().all(Value::is_string));
                assert!(all_texts, "{place}: {fields}");
            }
        }
    }
}

fn raw_json_header(frame: &[u8]) -> Value {
    let header_bytes = u32::from_be_bytes([0, frame[5], frame[6], frame[7]]) as usize;
    serde_json::from_slice(&frame[8..8 + header_bytes]).expect("a JSON header")
}

/// The header as a value, brought to one form: field values are texts, what is null, empty or only informs is left out.
fn json_header(frame: &[u8]) -> Value {
    let Value::Object(mut members) = raw_json_header(frame) else { panic!("the header is an object") };
    members.remove("serializeTypeCurrentRPC");
    members.retain(|_, value| !value.is_null() && value != "");
    if let Some(Value::Object(fields)) = members.get_mut("extFields") {
        fields.retain(|_, value| !value.is_null());
        for value in fields.values_mut() {
            if !value.is_string() {
                *value = Value::String(value.to_string());
            }
        }
        if fields.is_empty() {
            members.remove("extFields");
        }
    }
    Value::Object(members)
}

/// Reads a header and writes it again.
fn rewritten<H: TypedHeader>(ext: &ExtFields) -> Result<ExtFields, HeaderError> {
    let mut written = ExtFields::default();
    H::decode(ext)?.encode(&mut written);
    Ok(written)
}

/// The header of a request as we understand it; None for requests without fields.
fn request_header(command: &RemotingCommand) -> Option<Result<ExtFields, HeaderError>> {
    let ext = &command.ext;
    Some(match command.code {
        ask::SEND_MESSAGE => SendMessageHeader::decode_send(command.code, ext).map(|header| {
            let mut written = ExtFields::default();
            header.encode(&mut written);
            written
        }),
        ask::SEND_MESSAGE_V2 | ask::SEND_BATCH_MESSAGE | ask::SEND_REPLY_MESSAGE_V2 => {
            SendMessageHeader::decode_send(command.code, ext).map(|header| {
                let mut written = ExtFields::default();
                header.encode_v2(&mut written);
                written
            })
        }
        ask::PULL_MESSAGE | ask::LITE_PULL_MESSAGE => rewritten::<PullMessageHeader>(ext),
        ask::QUERY_MESSAGE => rewritten::<QueryMessageHeader>(ext),
        ask::QUERY_CONSUMER_OFFSET => rewritten::<QueryConsumerOffsetHeader>(ext),
        ask::UPDATE_CONSUMER_OFFSET => rewritten::<UpdateConsumerOffsetHeader>(ext),
        ask::UPDATE_AND_CREATE_TOPIC => rewritten::<CreateTopicHeader>(ext),
        ask::SEARCH_OFFSET_BY_TIMESTAMP => rewritten::<SearchOffsetHeader>(ext),
        ask::GET_MAX_OFFSET => rewritten::<GetMaxOffsetHeader>(ext),
        ask::GET_MIN_OFFSET => rewritten::<GetMinOffsetHeader>(ext),
        ask::GET_EARLIEST_MSG_STORETIME => rewritten::<GetEarliestStoreTimeHeader>(ext),
        ask::VIEW_MESSAGE_BY_ID => rewritten::<ViewMessageHeader>(ext),
        ask::UNREGISTER_CLIENT => rewritten::<UnregisterClientHeader>(ext),
        ask::CONSUMER_SEND_MSG_BACK => rewritten::<ConsumerSendMsgBackHeader>(ext),
        ask::END_TRANSACTION => rewritten::<EndTransactionHeader>(ext),
        ask::GET_CONSUMER_LIST_BY_GROUP => rewritten::<GetConsumerListHeader>(ext),
        ask::CHECK_TRANSACTION_STATE => rewritten::<CheckTransactionStateHeader>(ext),
        ask::NOTIFY_CONSUMER_IDS_CHANGED => rewritten::<NotifyConsumerIdsChangedHeader>(ext),
        ask::PUT_KV_CONFIG => rewritten::<PutKvConfigHeader>(ext),
        ask::DELETE_KV_CONFIG => rewritten::<DeleteKvConfigHeader>(ext),
        ask::REGISTER_BROKER => rewritten::<RegisterBrokerHeader>(ext),
        ask::UNREGISTER_BROKER => rewritten::<UnregisterBrokerHeader>(ext),
        ask::GET_ROUTEINFO_BY_TOPIC => rewritten::<GetRouteInfoHeader>(ext),
        ask::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => rewritten::<GetAllSubscriptionGroupHeader>(ext),
        ask::GET_ALL_TOPIC_CONFIG => rewritten::<GetAllTopicConfigHeader>(ext),
        ask::GET_TOPIC_STATS_INFO => rewritten::<GetTopicStatsHeader>(ext),
        ask::GET_CONSUMER_CONNECTION_LIST => rewritten::<GetConsumerConnectionListHeader>(ext),
        ask::GET_PRODUCER_CONNECTION_LIST => rewritten::<GetProducerConnectionListHeader>(ext),
        ask::WIPE_WRITE_PERM_OF_BROKER => rewritten::<WipeWritePermHeader>(ext),
        ask::ADD_WRITE_PERM_OF_BROKER => rewritten::<AddWritePermHeader>(ext),
        ask::DELETE_SUBSCRIPTIONGROUP => rewritten::<DeleteSubscriptionGroupHeader>(ext),
        ask::GET_CONSUME_STATS => rewritten::<GetConsumeStatsHeader>(ext),
        ask::DELETE_TOPIC_IN_BROKER => rewritten::<DeleteTopicHeader>(ext),
        ask::DELETE_TOPIC_IN_NAMESRV => rewritten::<DeleteTopicInNameServerHeader>(ext),
        ask::RESET_CONSUMER_CLIENT_OFFSET | ask::INVOKE_BROKER_TO_RESET_OFFSET => {
            rewritten::<ResetOffsetHeader>(ext)
        }
        ask::QUERY_TOPIC_CONSUME_BY_WHO => rewritten::<QueryTopicConsumeByWhoHeader>(ext),
        ask::GET_CONSUMER_RUNNING_INFO => rewritten::<GetConsumerRunningInfoHeader>(ext),
        ask::CONSUME_MESSAGE_DIRECTLY => rewritten::<ConsumeMessageDirectlyHeader>(ext),
        ask::VIEW_BROKER_STATS_DATA => rewritten::<ViewBrokerStatsHeader>(ext),
        ask::GET_BROKER_CONSUME_STATS => rewritten::<GetBrokerConsumeStatsHeader>(ext),
        ask::QUERY_CONSUME_QUEUE => rewritten::<QueryConsumeQueueHeader>(ext),
        ask::PUSH_REPLY_MESSAGE_TO_CLIENT => rewritten::<ReplyMessageHeader>(ext),
        ask::GET_TOPIC_CONFIG => rewritten::<GetTopicConfigHeader>(ext),
        ask::RECALL_MESSAGE => rewritten::<RecallMessageHeader>(ext),
        ask::POP_MESSAGE => rewritten::<PopMessageHeader>(ext),
        ask::ACK_MESSAGE => rewritten::<AckMessageHeader>(ext),
        ask::CHANGE_MESSAGE_INVISIBLETIME => rewritten::<ChangeInvisibleTimeHeader>(ext),
        _ => return None,
    })
}

/// The header of an answer to `asked`; None for answers without fields.
fn response_header(asked: i32, command: &RemotingCommand) -> Option<Result<ExtFields, HeaderError>> {
    let ext = &command.ext;
    let stored = matches!(
        command.code,
        response::SUCCESS
            | response::FLUSH_DISK_TIMEOUT
            | response::SLAVE_NOT_AVAILABLE
            | response::FLUSH_SLAVE_TIMEOUT
    );
    let done = command.code == response::SUCCESS;
    let answered = matches!(
        command.code,
        response::SUCCESS
            | response::PULL_NOT_FOUND
            | response::PULL_RETRY_IMMEDIATELY
            | response::PULL_OFFSET_MOVED
    );
    Some(match asked {
        ask::SEND_MESSAGE | ask::SEND_MESSAGE_V2 | ask::SEND_BATCH_MESSAGE | ask::SEND_REPLY_MESSAGE_V2
            if stored =>
        {
            rewritten::<SendMessageResponse>(ext)
        }
        // A pull that is refused, as by SUBSCRIPTION_NOT_LATEST, has none of them.
        ask::PULL_MESSAGE | ask::LITE_PULL_MESSAGE if answered => rewritten::<PullMessageResponse>(ext),
        ask::QUERY_MESSAGE => rewritten::<QueryMessageResponse>(ext),
        ask::QUERY_CONSUMER_OFFSET
        | ask::SEARCH_OFFSET_BY_TIMESTAMP
        | ask::GET_MAX_OFFSET
        | ask::GET_MIN_OFFSET
            if done =>
        {
            rewritten::<OffsetResponse>(ext)
        }
        ask::GET_EARLIEST_MSG_STORETIME => rewritten::<StoreTimeResponse>(ext),
        ask::HEART_BEAT => rewritten::<HeartbeatResponse>(ext),
        ask::GET_BROKER_CONFIG => rewritten::<GetBrokerConfigResponse>(ext),
        ask::REGISTER_BROKER => rewritten::<RegisterBrokerResponse>(ext),
        ask::GET_ALL_SUBSCRIPTIONGROUP_CONFIG => rewritten::<GetAllSubscriptionGroupResponse>(ext),
        ask::WIPE_WRITE_PERM_OF_BROKER => rewritten::<WipeWritePermResponse>(ext),
        ask::ADD_WRITE_PERM_OF_BROKER => rewritten::<AddWritePermResponse>(ext),
        ask::RECALL_MESSAGE => rewritten::<RecallMessageResponse>(ext),
        ask::POP_MESSAGE => rewritten::<PopMessageResponse>(ext),
        ask::CHANGE_MESSAGE_INVISIBLETIME => rewritten::<ChangeInvisibleTimeResponse>(ext),
        _ => return None,
    })
}

/// Fields that no typed header has: access control, routing hints of 5.x, tracing.
const LEFT_ALONE: [&str; 10] = [
    "AccessKey",
    "Signature",
    "OnsChannel",
    "ReqT",
    "bname",
    "lo",
    "indexType",
    "MSG_REGION",
    "TRACE_ON",
    "recallHandle",
];

/// The fields of `original` that `written` does not say.
fn lost_fields(original: &ExtFields, written: &ExtFields) -> Vec<String> {
    let lost = original.iter().filter(|(name, value)| {
        let same = match written.get(name) {
            Some(ours) if ours == *value => true,
            // Everything but "true" is false; the C++ client writes "0" and "1", npm ali-ons "False".
            Some("false") => !value.eq_ignore_ascii_case("true"),
            Some("true") => value.eq_ignore_ascii_case("true"),
            Some(_) => false,
            None => value.is_empty(),
        };
        !same && !LEFT_ALONE.contains(name)
    });
    lost.map(|(name, value)| format!("{name}={value:?}")).collect()
}

#[test]
fn every_header_of_a_real_request_or_answer_parses() {
    let mut counted: BTreeMap<(i32, bool), usize> = BTreeMap::new();
    for Recorded { place, command, asked, .. } in frames() {
        let (code, header) = match (command.is_response(), asked) {
            (false, _) => (command.code, request_header(&command)),
            (true, Some((asked, _))) => (asked, response_header(asked, &command)),
            // Its request was cut out.
            (true, None) => continue,
        };
        let nothing = ExtFields::default();
        let written = match header {
            Some(Ok(written)) => written,
            Some(Err(error)) => panic!("{place}: {}: {error}", request_name(code)),
            None => nothing,
        };
        let lost = lost_fields(&command.ext, &written);
        assert!(lost.is_empty(), "{place}: {}: {lost:?}", request_name(code));
        *counted.entry((code, command.is_response())).or_default() += 1;
    }
    // A wrong match of requests and answers would leave most answers out.
    assert!(counted[&(ask::PULL_MESSAGE, true)] > 150, "{counted:?}");
    assert!(counted[&(ask::SEND_MESSAGE_V2, true)] > 200, "{counted:?}");
}

/// What we write for a body after reading it; None for bodies that are not JSON or are passed on unread.
fn body_again(
    code: i32,
    is_response: bool,
    version: i32,
    bytes: &[u8],
) -> Option<Result<Vec<u8>, BodyError>> {
    Some(match (code, is_response) {
        (ask::HEART_BEAT, false) => HeartbeatData::parse(bytes).map(|body| body.to_json()),
        (ask::LOCK_BATCH_MQ | ask::UNLOCK_BATCH_MQ, false) => {
            LockBatchRequestBody::parse(bytes).map(|body| body.to_json())
        }
        (ask::LOCK_BATCH_MQ, true) => LockBatchResponseBody::parse(bytes).map(|body| body.to_json()),
        (ask::CHECK_CLIENT_CONFIG, false) => CheckClientRequestBody::parse(bytes).map(|body| body.to_json()),
        (ask::REGISTER_BROKER, false) => {
            RegisterBrokerBody::decode(bytes, version).map(|body| body.to_json())
        }
        (ask::REGISTER_BROKER | ask::GET_BROKER_RUNTIME_INFO, true) => {
            KvTable::parse(bytes).map(|body| body.to_json())
        }
        (ask::GET_ROUTEINFO_BY_TOPIC, true) => TopicRouteData::parse(bytes).map(|body| body.to_json()),
        (ask::GET_BROKER_CLUSTER_INFO, true) => ClusterInfo::parse(bytes).map(|body| body.to_json()),
        (ask::GET_CONSUMER_LIST_BY_GROUP, true) => ConsumerList::parse(bytes).map(|body| body.to_json()),
        (ask::GET_ALL_TOPIC_CONFIG, true) => {
            TopicConfigSerializeWrapper::parse(bytes).map(|body| body.to_json())
        }
        (ask::GET_ALL_CONSUMER_OFFSET, true) => {
            ConsumerOffsetWrapper::parse(bytes).map(|body| body.to_json())
        }
        (ask::GET_ALL_DELAY_OFFSET, true) => DelayOffsetWrapper::parse(bytes).map(|body| body.to_json()),
        (ask::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, false) => {
            SubscriptionGroupConfig::parse(bytes).map(|body| body.to_json())
        }
        (ask::GET_ALL_SUBSCRIPTIONGROUP_CONFIG, true) => {
            SubscriptionGroupWrapper::parse(bytes).map(|body| body.to_java_json())
        }
        (ask::GET_TOPIC_STATS_INFO, true) => TopicStatsTable::parse(bytes).map(|body| body.to_json()),
        (ask::GET_CONSUMER_CONNECTION_LIST, true) => {
            ConsumerConnection::parse(bytes).map(|body| body.to_json())
        }
        (ask::GET_PRODUCER_CONNECTION_LIST, true) => {
            ProducerConnection::parse(bytes).map(|body| body.to_json())
        }
        (ask::GET_ALL_PRODUCER_INFO, true) => ProducerTableInfo::parse(bytes).map(|body| body.to_json()),
        (ask::GET_ALL_TOPIC_LIST_FROM_NAMESERVER, true) => TopicList::parse(bytes).map(|body| body.to_json()),
        (ask::GET_CONSUME_STATS, true) => ConsumeStats::parse(bytes).map(|body| body.to_json()),
        (ask::RESET_CONSUMER_CLIENT_OFFSET, false) | (ask::INVOKE_BROKER_TO_RESET_OFFSET, true) => {
            ResetOffsetBody::parse(bytes).map(|body| body.to_json())
        }
        (ask::QUERY_TOPIC_CONSUME_BY_WHO, true) => GroupList::parse(bytes).map(|body| body.to_json()),
        (ask::CONSUME_MESSAGE_DIRECTLY, true) => {
            ConsumeMessageDirectlyResult::parse(bytes).map(|body| body.to_json())
        }
        (ask::VIEW_BROKER_STATS_DATA, true) => BrokerStatsData::parse(bytes).map(|body| body.to_json()),
        (ask::QUERY_CONSUME_QUEUE, true) => QueryConsumeQueueBody::parse(bytes).map(|body| body.to_json()),
        (ask::GET_TOPIC_CONFIG, true) => TopicConfig::parse(bytes).map(|body| body.to_json()),
        _ => return None,
    })
}

#[test]
fn every_json_body_is_written_with_the_same_meaning() {
    let mut counted: BTreeMap<(i32, bool), usize> = BTreeMap::new();
    for Recorded { place, command, asked, .. } in frames() {
        let (code, version) = match (command.is_response(), asked) {
            (false, _) => (command.code, command.version),
            (true, Some(asked)) => asked,
            (true, None) => continue,
        };
        let bytes = command.body.to_bytes();
        // An answer that is none has no body, but the one of a slave's registration may be missing, too.
        if bytes.is_empty() {
            continue;
        }
        let Some(written) = body_again(code, command.is_response(), version, &bytes) else {
            // Whatever else looks like JSON is at least read by the reader of the dialect.
            if bytes.first() == Some(&b'{') {
                json::parse(&bytes).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            continue;
        };
        let written = written.unwrap_or_else(|error| panic!("{place}: {}: {error}", request_name(code)));
        *counted.entry((code, command.is_response())).or_default() += 1;
        if bytes.first() == Some(&b'{') {
            let original = json::parse(&bytes).expect("was read before");
            let written = json::parse(&written).expect("our own JSON");
            let mut path = Vec::new();
            assert!(
                says(&written, &original, &mut path),
                "{place}: {code}: {}: {written} {original}",
                path.join(".")
            );
        }
    }
    assert!(counted.len() >= 20, "{counted:?}");
}

/// Members of bodies that we do not keep: static topics.
const NOT_KEPT: [&str; 3] = ["mappingDataVersion", "topicQueueMappingDetailMap", "topicQueueMappingInfoMap"];

/// Members that are enums: C++ writes their ordinals.
const ENUMS: [&str; 3] = ["consumeFromWhere", "consumeType", "messageModel"];

/// Whether `written` says everything that `original` says. Lists are sets; numbers may have been texts.
fn says(written: &Value, original: &Value, path: &mut Vec<String>) -> bool {
    match (written, original) {
        (Value::Object(written), Value::Object(original)) => original.iter().all(|(name, value)| {
            path.push(name.clone());
            let said = NOT_KEPT.contains(&name.as_str()) || member_says(written, name, value, path);
            if said {
                path.pop();
            }
            said
        }),
        (Value::Array(written), Value::Array(original)) => {
            // C++ sends the code 0 once for each tag.
            written.len() <= original.len()
                && original.iter().all(|item| written.iter().any(|ours| says(ours, item, &mut path.clone())))
        }
        (Value::Number(number), Value::String(text)) => number.to_string() == *text,
        (written, original) => written == original,
    }
}

fn member_says(written: &Map<String, Value>, name: &str, value: &Value, path: &mut Vec<String>) -> bool {
    match written.get(name) {
        Some(Value::String(_)) if ENUMS.contains(&name) && value.is_number() => true,
        Some(ours) => says(ours, value, path),
        None => value.is_null(),
    }
}

#[test]
fn compressed_registrations_read_like_the_plain_ones() {
    let mut compressed = 0;
    let mut plain_topics = BTreeMap::new();
    let mut compressed_topics = BTreeMap::new();
    for Recorded { place, command, .. } in frames() {
        if command.is_response() || command.code != ask::REGISTER_BROKER {
            continue;
        }
        let header: RegisterBrokerHeader = command.header().expect("parsed before");
        let bytes = command.body.to_bytes();
        assert_eq!(header.body_crc32, Some(body_crc32(&bytes)), "{place}");
        let body = RegisterBrokerBody::decode(&bytes, command.version).expect("parsed before");
        let topics = body.topic_config_serialize_wrapper.topic_config_table;
        assert!(topics.values().all(|topic| topic.read_queue_nums > 0), "{place}");
        if bytes.first() == Some(&b'{') {
            plain_topics.extend(topics);
        } else {
            compressed += 1;
            // A 5.4.0 broker compresses and says "false".
            assert_eq!(header.compressed, command.version < 413, "{place}");
            compressed_topics.extend(topics);
        }
    }
    assert_eq!(compressed, 5);
    let common = compressed_topics.keys().filter(|name| plain_topics.contains_key(*name)).count();
    assert!(common > 5, "{common}");
    for (name, topic) in &compressed_topics {
        if let Some(plain) = plain_topics.get(name) {
            assert_eq!((topic.read_queue_nums, topic.perm), (plain.read_queue_nums, plain.perm), "{name}");
        }
    }
}

/// The same numbers in every run: xorshift from a fixed start.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn damaged_real_frames_are_read_or_refused() {
    let mut draws = Draws(0x9E37_79B9_7F4A_7C15);
    let mut read = 0;
    for Recorded { bytes, asked, .. } in frames() {
        // Large bodies are a single text; damage in it is one case, not many.
        let rounds = if bytes.len() > 16 * 1024 { 1 } else { 8 };
        for _ in 0..rounds {
            let mut damaged = bytes.clone();
            for _ in 0..=draws.below(3) {
                let at = draws.below(damaged.len());
                damaged[at] = draws.below(256) as u8;
            }
            if draws.below(4) == 0 {
                damaged.truncate(draws.below(bytes.len()) + 1);
            }
            let mut buf = BytesMut::from(damaged.as_slice());
            let Ok(Some(command)) = frame::decode(&mut buf) else { continue };
            read += 1;
            let code = asked.map_or(command.code, |(code, _)| code);
            let _ = request_header(&command);
            let _ = response_header(code, &command);
            let body = command.body.to_bytes();
            let _ = body_again(code, command.is_response(), command.version, &body);
            let _ = json::parse(&body);
        }
    }
    assert!(read > 10_000, "{read} damaged frames got past the frame, too few to test what is behind it");
}

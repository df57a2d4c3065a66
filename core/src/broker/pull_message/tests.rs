use std::collections::BTreeSet;

use super::super::client_table::Subscription;
use super::super::topic_config::topic;
use super::*;
use crate::remoting::body::SubscriptionData;

fn header() -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "g".to_owned(),
        topic: "T".to_owned(),
        queue_id: 1,
        queue_offset: 7,
        max_msg_nums: 32,
        sub_version: 5,
        ..Default::default()
    }
}

fn live(model: MessageModel, subscription: Option<SubscriptionData>) -> LiveGroup {
    LiveGroup { model, subscription: subscription.map(|data| Arc::new(Subscription::new(data))) }
}

fn subscription(expression: &str, version: i64) -> SubscriptionData {
    SubscriptionData {
        class_filter_mode: false,
        code_set: BTreeSet::new(),
        expression_type: "TAG".to_owned(),
        sub_string: expression.to_owned(),
        sub_version: version,
        tags_set: BTreeSet::new(),
        topic: "T".to_owned(),
    }
}

/// One check after the other is made to fail, from the last to the first: each must win over those behind it.
#[test]
fn the_first_failed_check_names_the_code() {
    let good_group = SubscriptionGroupConfig { group_name: "g".to_owned(), ..Default::default() };
    let closed_group = SubscriptionGroupConfig { consume_enable: false, ..good_group.clone() };
    let no_broadcast = SubscriptionGroupConfig { consume_broadcast_enable: false, ..good_group.clone() };
    let (good_topic, unreadable) = (topic("T", 4, 6), topic("T", 1, 2));
    let clustering = live(MessageModel::Clustering, Some(subscription("*", 5)));
    let sql = SubscriptionData { expression_type: "SQL92".to_owned(), ..subscription("a > 1", 5) };
    let sql = live(MessageModel::Clustering, Some(sql));
    let old = live(MessageModel::Clustering, Some(subscription("*", 4)));
    let other = live(MessageModel::Clustering, None);
    let broadcasting = live(MessageModel::Broadcasting, None);

    let mut header = header();
    let mut facts = Facts {
        is_slave: false,
        slave_read: false,
        slave_follows: true,
        can_read: true,
        lite: true,
        lite_enabled: true,
        group: Some(&good_group),
        topic: Some(&good_topic),
        live: Some(&clustering),
        forbidden: false,
        registered: None,
        property_filter: false,
    };
    let code = |header: &PullMessageHeader, facts: &Facts<'_>| {
        check(header, facts).err().map(|refusal| refusal.code)
    };
    assert_eq!(code(&header, &facts), None);
    let registered =
        |version| Registered { version, expression: Arc::new(Expression::parse("a > 1").unwrap()) };
    let (old_filter, filter) = (registered(4), registered(5));
    (facts.live, facts.property_filter, facts.registered) = (Some(&sql), true, Some(&filter));
    assert_eq!(code(&header, &facts), None);
    facts.property_filter = false;
    assert_eq!(code(&header, &facts), Some(response::SYSTEM_ERROR));
    facts.registered = Some(&old_filter);
    assert_eq!(code(&header, &facts), Some(response::FILTER_DATA_NOT_LATEST));
    facts.registered = None;
    assert_eq!(code(&header, &facts), Some(response::FILTER_DATA_NOT_EXIST));
    facts.live = Some(&old);
    assert_eq!(code(&header, &facts), Some(response::SUBSCRIPTION_NOT_LATEST));
    facts.live = Some(&other);
    assert_eq!(code(&header, &facts), Some(response::SUBSCRIPTION_NOT_EXIST));
    let forbidden = |header: &PullMessageHeader, facts: &Facts<'_>| {
        check(header, facts)
            .err()
            .and_then(|refusal| refusal.answer().ext.get("forbiddenType").map(str::to_owned))
    };
    facts.forbidden = true;
    assert_eq!(code(&header, &facts), Some(response::NO_PERMISSION));
    assert_eq!(forbidden(&header, &facts).as_deref(), Some("5"));
    (facts.live, facts.group) = (Some(&broadcasting), Some(&no_broadcast));
    assert_eq!(code(&header, &facts), Some(response::NO_PERMISSION));
    assert_eq!(forbidden(&header, &facts).as_deref(), Some("4"));
    facts.live = None;
    assert_eq!(code(&header, &facts), Some(response::SUBSCRIPTION_NOT_EXIST));
    header.sys_flag = flags::SUBSCRIPTION;
    header.subscription = Some("||".to_owned());
    assert_eq!(code(&header, &facts), Some(response::SUBSCRIPTION_PARSE_FAILED));
    header.queue_id = 4;
    assert_eq!(code(&header, &facts), Some(response::INVALID_PARAMETER));
    header.queue_id = -1;
    assert_eq!(code(&header, &facts), Some(response::INVALID_PARAMETER));
    facts.topic = Some(&unreadable);
    assert_eq!(code(&header, &facts), Some(response::NO_PERMISSION));
    facts.topic = None;
    assert_eq!(code(&header, &facts), Some(response::TOPIC_NOT_EXIST));
    facts.group = Some(&closed_group);
    assert_eq!(code(&header, &facts), Some(response::NO_PERMISSION));
    facts.group = None;
    assert_eq!(code(&header, &facts), Some(response::SUBSCRIPTION_GROUP_NOT_EXIST));
    facts.lite_enabled = false;
    assert_eq!(code(&header, &facts), Some(response::NO_PERMISSION));
}

#[test]
fn a_read_has_the_code_that_java_gives_it() {
    let cases = [
        (GetStatus::Found, 7, 0),
        (GetStatus::NoMatchedMessage, 7, 20),
        (GetStatus::MessageWasRemoving, 7, 20),
        (GetStatus::OffsetFoundNull, 7, 19),
        (GetStatus::OffsetOverflowOne, 7, 19),
        (GetStatus::OffsetOverflowBadly, 7, 21),
        (GetStatus::OffsetTooSmall, 7, 21),
        (GetStatus::NoMatchedLogicQueue, 0, 19),
        (GetStatus::NoMatchedLogicQueue, 7, 21),
        (GetStatus::NoMessageInQueue, 0, 19),
        (GetStatus::NoMessageInQueue, 7, 21),
        (GetStatus::Unreadable, 7, 1),
    ];
    for (status, offset, expect) in cases {
        let read = Read {
            status,
            next_begin: 9,
            min: 0,
            max: 9,
            messages: Vec::new(),
            count: 0,
            suggest_slave: false,
        };
        assert_eq!(code_of(&read, offset), expect, "{status:?} from {offset}");
    }
}

#[test]
fn every_answer_to_a_read_carries_the_four_offsets() {
    let facts = Facts {
        is_slave: false,
        slave_read: false,
        slave_follows: true,
        can_read: true,
        lite: false,
        lite_enabled: true,
        group: Some(&SubscriptionGroupConfig::default()),
        topic: Some(&topic("T", 4, 6)),
        live: Some(&live(MessageModel::Clustering, Some(subscription("*", 5)))),
        forbidden: false,
        registered: None,
        property_filter: false,
    };
    let pull = check(&header(), &facts).expect("a good pull");
    let read = Read {
        status: GetStatus::OffsetOverflowBadly,
        next_begin: 9,
        min: 1,
        max: 9,
        messages: Vec::new(),
        count: 0,
        suggest_slave: false,
    };
    let answer = respond(&pull, read);
    let header: PullMessageResponse = answer.header().expect("all fields");
    assert_eq!((header.next_begin_offset, header.min_offset, header.max_offset), (9, 1, 9));
    assert_eq!(answer.remark.as_deref(), Some("OFFSET_OVERFLOW_BADLY"));
}

#[test]
fn who_is_far_behind_is_sent_to_a_slave_and_back_if_slaves_are_read() {
    let group = SubscriptionGroupConfig { which_broker_when_consume_slowly: 3, ..Default::default() };
    let suggested = |slave_read, slave_follows, suggest_slave| {
        let facts = Facts {
            is_slave: false,
            slave_read,
            slave_follows,
            can_read: true,
            lite: false,
            lite_enabled: true,
            group: Some(&group),
            topic: Some(&topic("T", 4, 6)),
            live: Some(&live(MessageModel::Clustering, Some(subscription("*", 5)))),
            forbidden: false,
            registered: None,
            property_filter: false,
        };
        let pull = check(&header(), &facts).expect("a good pull");
        let (status, messages) = (GetStatus::Found, Vec::new());
        let read = Read { status, next_begin: 9, min: 0, max: 9, messages, count: 1, suggest_slave };
        let header: PullMessageResponse = respond(&pull, read).header().expect("all fields");
        header.suggest_which_broker_id
    };
    assert_eq!((suggested(true, true, true), suggested(true, true, false)), (3, 0));
    // None of its slaves follows.
    assert_eq!(suggested(true, false, true), 0);
    assert_eq!((suggested(false, true, true), suggested(false, true, false)), (0, 0));
}

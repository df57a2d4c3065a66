use super::super::topic_config::topic;
use super::*;

const READY: BeforeTopic = BeforeTopic { now_ms: 10, accept_from_ms: 0, can_write: true, ordered: false };

fn header(topic: &'static str) -> SendMessageHeader<'static> {
    SendMessageHeader { topic, default_topic: "TBW102", default_topic_queue_nums: 4, ..Default::default() }
}

#[test]
fn the_first_failed_check_names_the_code() {
    let closed = BeforeTopic { can_write: false, ordered: true, ..READY };
    let early = BeforeTopic { accept_from_ms: 11, ..closed };
    let cases = [
        ("a b", early, Some(response::SYSTEM_ERROR)),
        ("a b", closed, Some(response::NO_PERMISSION)),
        ("a b", READY, Some(response::INVALID_PARAMETER)),
        ("SCHEDULE_TOPIC_XXXX", READY, Some(response::NO_PERMISSION)),
        ("T", BeforeTopic { can_write: false, ..READY }, None),
        ("T", READY, None),
    ];
    for (topic, known, expect) in cases {
        let code = check_before_topic(&header(topic), known).err().map(|refusal| refusal.code);
        assert_eq!(code, expect, "{topic}");
    }
}

#[test]
fn a_queue_is_the_one_asked_for_or_a_random_writable_one() {
    let mut four = topic("T", 4, 6);
    let choose = |queue_id, topic: &TopicConfig, random| {
        choose_queue(&SendMessageHeader { queue_id, ..header("T") }, topic, || random)
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(choose(3, &four, 9), Ok(3));
    assert_eq!(choose(4, &four, 9), Err(response::INVALID_PARAMETER));
    assert_eq!(choose(-1, &four, 9), Ok(1));
    four.read_queue_nums = 8;
    assert_eq!(choose(7, &four, 9), Ok(7));
    assert_eq!(choose(-5, &topic("T", 0, 6), 9), Err(response::INVALID_PARAMETER));
}

#[test]
fn features_that_are_not_there_are_refused_by_name() {
    let prepared = sys_flag::TRANSACTION_PREPARED;
    let cases = [
        ("", 0, false, None),
        ("DELAY\u{1}0", 0, false, None),
        ("DELAY\u{1}3", 0, false, None),
        ("DELAY\u{1}3", 0, true, Some((response::MESSAGE_ILLEGAL, "delayed"))),
        ("TIMER_DELAY_SEC\u{1}3", 0, false, Some((response::MESSAGE_ILLEGAL, "TIMER_DELAY_SEC"))),
        ("TRAN_MSG\u{1}true", prepared, false, None),
        ("TRAN_MSG\u{1}true", 0, true, Some((response::MESSAGE_ILLEGAL, "batch"))),
        ("", prepared, false, Some((response::MESSAGE_ILLEGAL, "transaction type"))),
        ("", prepared, true, Some((response::MESSAGE_ILLEGAL, "batch"))),
        ("INNER_NUM\u{1}3", 0, false, Some((response::MESSAGE_ILLEGAL, "INNER_NUM"))),
        ("", sys_flag::INNER_BATCH, false, Some((response::MESSAGE_ILLEGAL, "inner"))),
        ("DELAY\u{1}1\u{2}TRAN_MSG\u{1}true", 0, true, Some((response::MESSAGE_ILLEGAL, "delayed"))),
    ];
    for (raw, sys_flag, batch, expect) in cases {
        let header = SendMessageHeader { sys_flag, batch, ..header("T") };
        let refusal = check_features(&header, &Wants::read(raw)).err();
        match (refusal, expect) {
            (None, None) => {}
            (Some(refusal), Some((code, word))) => {
                assert_eq!(refusal.code, code, "{raw:?}");
                assert!(refusal.remark.contains(word), "{} names {word}", refusal.remark);
            }
            (refusal, expect) => panic!("{raw:?}: {refusal:?} instead of {expect:?}"),
        }
    }
}

#[test]
fn a_send_that_does_not_wait_says_so() {
    assert!(Wants::read("").flush);
    assert!(Wants::read("WAIT\u{1}true").flush);
    assert!(!Wants::read("WAIT\u{1}false\u{2}KEYS\u{1}k").flush);
}

#[test]
fn a_priority_names_the_queue_of_a_message_of_no_other_type() {
    fn wants(raw: &str) -> Wants<'_> {
        Wants::read(raw)
    }
    assert_eq!(wants("_SYS_MSG_PRIORITY_\u{1}7").priority, Some(7));
    assert_eq!(wants("_SYS_MSG_PRIORITY_\u{1}high").priority, None);
    assert!(wants("_SYS_MSG_PRIORITY_\u{1}7\u{2}TAGS\u{1}a").is_of_priority());
    for other in ["DELAY\u{1}0", "TRAN_MSG\u{1}true", "__SHARDINGKEY\u{1}s", "TIMER_DELAY_MS\u{1}1"] {
        let raw = format!("_SYS_MSG_PRIORITY_\u{1}7\u{2}{other}");
        assert!(!wants(&raw).is_of_priority(), "{other}");
    }
    let queue = |priority, queues| queue_of_priority(priority, &topic("T", queues, 6));
    assert_eq!([queue(0, 4), queue(2, 4), queue(9, 4), queue(1, 0)], [Some(0), Some(2), Some(3), None]);
}

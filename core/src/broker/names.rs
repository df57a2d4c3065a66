//! Names of topics and groups: what they may look like, and which the broker keeps for itself.

pub(crate) const RETRY_PREFIX: &str = "%RETRY%";
pub(crate) const DLQ_PREFIX: &str = "%DLQ%";

/// Queues of such names belong to topics that have others.
pub(crate) const LIGHT_PREFIX: &str = "%LMQ%";

pub(crate) const AUTO_CREATE_TOPIC: &str = "TBW102";
pub(crate) const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub(crate) const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub(crate) const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";
pub(crate) const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub(crate) const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub(crate) const OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub(crate) const CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
const SYSTEM_PREFIX: &str = "rmq_sys_";

/// Topics that are a broker's on each broker, whether or not they are there.
///
/// # Source
/// apache/rocketmq, `TopicValidator`.
pub(crate) const SYSTEM_TOPICS: [&str; 9] = [
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    HALF_TOPIC,
    TRACE_TOPIC,
    OP_HALF_TOPIC,
    CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_TOPIC,
];

/// Topics that only the broker itself writes to.
const NOT_SENDABLE: [&str; 6] =
    [SCHEDULE_TOPIC, HALF_TOPIC, OP_HALF_TOPIC, CHECK_MAX_TIME_TOPIC, SELF_TEST_TOPIC, OFFSET_MOVED_TOPIC];

/// Groups that Java's own tools use: a subscription is not asked of them.
const SYSTEM_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

const TOPIC_CHARS_MAX: usize = 127;
const LONG_TOPIC_CHARS_MAX: usize = 255;
const GROUP_CHARS_MAX: usize = 120;

/// Why a name is none; its text is the remark of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("is blank")]
    Blank,
    #[error("contains other characters than A-Z, a-z, 0-9, %, |, _ and -")]
    Character,
    #[error("has {chars} characters, at most {max} are allowed")]
    TooLong { chars: usize, max: usize },
}

fn check(name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Blank);
    }
    if name.len() > max {
        return Err(NameError::TooLong { chars: name.chars().count(), max });
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'%' | b'|' | b'_' | b'-');
    if name.bytes().all(allowed) { Ok(()) } else { Err(NameError::Character) }
}

/// Whether a topic is a group's own: of what it is given again, or of what it has given up.
#[must_use]
pub(crate) fn is_of_group(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX) || topic.starts_with(DLQ_PREFIX)
}

/// # Errors
/// [`NameError`].
pub(crate) fn check_topic(topic: &str) -> Result<(), NameError> {
    let long = is_of_group(topic);
    check(topic, if long { LONG_TOPIC_CHARS_MAX } else { TOPIC_CHARS_MAX })
}

/// # Errors
/// [`NameError`].
pub(crate) fn check_group(group: &str) -> Result<(), NameError> {
    check(group, GROUP_CHARS_MAX)
}

pub(crate) fn is_sendable(topic: &str) -> bool {
    !NOT_SENDABLE.contains(&topic)
}

pub(crate) fn is_system_group(group: &str) -> bool {
    SYSTEM_GROUPS.contains(&group)
}

/// By name alone; topics named like the broker and its cluster are known to `topic_config`.
pub(crate) fn is_system_topic(topic: &str) -> bool {
    SYSTEM_TOPICS.contains(&topic) || topic.starts_with(SYSTEM_PREFIX)
}

pub(crate) fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// Where a group's messages go that it could not consume.
pub(crate) fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

pub(crate) fn reply_topic(cluster: &str) -> String {
    format!("{cluster}_REPLY_TOPIC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_topics_and_groups_are_checked() {
        let long = "a".repeat(128);
        let longest_retry = format!("%RETRY%{}", "g".repeat(248));
        let topics: [(&str, Result<(), NameError>); 6] = [
            ("Topic_A-1|%", Ok(())),
            ("", Err(NameError::Blank)),
            ("a b", Err(NameError::Character)),
            ("Thema\u{e4}", Err(NameError::Character)),
            (&long, Err(NameError::TooLong { chars: 128, max: 127 })),
            (&longest_retry, Ok(())),
        ];
        for (topic, expect) in topics {
            assert_eq!(check_topic(topic), expect, "{topic}");
        }
        assert_eq!(check_group(&long.replace('a', "g")), Err(NameError::TooLong { chars: 128, max: 120 }));
    }

    #[test]
    fn the_brokers_own_topics_take_no_sends() {
        assert!(!is_sendable("SCHEDULE_TOPIC_XXXX"));
        assert!(is_sendable("TBW102"));
        // Clients write their traces to it, and it is created as they do.
        assert!(is_sendable("RMQ_SYS_TRACE_TOPIC") && is_system_topic("RMQ_SYS_TRACE_TOPIC"));
        assert!(NOT_SENDABLE.iter().all(|topic| is_system_topic(topic)));
        assert!(is_system_topic("rmq_sys_wheel_timer"));
        assert!(!is_system_topic("TopicTest"));
    }
}

//! Who of a group consumes which queues: pure functions that every member computes alike from the same lists.
//!
//! Invariant: over all members, each queue is given to exactly one.
//!
//! # Source
//! apache/rocketmq, `AllocateMessageQueueAveragely` and `AllocateMessageQueueAveragelyByCircle`.

use crate::remoting::body::MessageQueue;

/// How queues are spread over the members of a group. All members must use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AllocateStrategy {
    /// Neighbouring queues to one member.
    #[default]
    Average,
    /// Queue by queue in turn.
    AverageByCircle,
}

impl AllocateStrategy {
    /// The queues of member `client_id`, none if it is not in `client_ids`. The order of the lists does not matter.
    #[must_use]
    pub fn allocate(
        self,
        client_id: &str,
        queues: &[MessageQueue],
        client_ids: &[String],
    ) -> Vec<MessageQueue> {
        let mut queues: Vec<&MessageQueue> = queues.iter().collect();
        queues.sort_by_key(|queue| (&queue.topic, &queue.broker_name, queue.queue_id));
        queues.dedup();
        let mut members: Vec<&str> = client_ids.iter().map(String::as_str).collect();
        members.sort_unstable();
        members.dedup();
        let Some(index) = members.iter().position(|member| *member == client_id) else {
            return Vec::new();
        };
        let mine = match self {
            AllocateStrategy::Average => {
                let start = share_start(index, queues.len(), members.len());
                let end = share_start(index + 1, queues.len(), members.len());
                queues.get(start..end).unwrap_or_default().to_vec()
            }
            AllocateStrategy::AverageByCircle => {
                queues.into_iter().skip(index).step_by(members.len()).collect()
            }
        };
        mine.into_iter().cloned().collect()
    }
}

/// Where the share of member `index` begins: the first `queues % members` members have one queue more.
fn share_start(index: usize, queues: usize, members: usize) -> usize {
    index * (queues / members) + index.min(queues % members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        topic: String,
        broker_name: String,
        queues: i32,
        consumers: usize,
        result: BTreeMap<String, BTreeMap<String, Vec<i32>>>,
    }

    #[test]
    fn queues_are_given_as_java_gives_them() {
        let text = include_str!("../../../tests/golden/known-answers/allocate.json");
        let answers: Vec<Answer> = serde_json::from_str(text).expect("the file is a list of answers");
        assert!(answers.len() > 10);
        for answer in answers {
            let queues: Vec<MessageQueue> = (0..answer.queues)
                .map(|queue_id| MessageQueue {
                    topic: answer.topic.clone(),
                    broker_name: answer.broker_name.clone(),
                    queue_id,
                })
                .collect();
            let members: Vec<String> = answer.result["AVG"].keys().cloned().collect();
            assert_eq!(members.len(), answer.consumers);
            for (name, strategy) in
                [("AVG", AllocateStrategy::Average), ("AVG_BY_CIRCLE", AllocateStrategy::AverageByCircle)]
            {
                for (member, expected) in &answer.result[name] {
                    let given = strategy.allocate(member, &queues, &members);
                    let ids: Vec<i32> = given.iter().map(|queue| queue.queue_id).collect();
                    let case = format!("{name}, {} queues, {member} of {}", answer.queues, answer.consumers);
                    assert_eq!(&ids, expected, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_member_that_the_broker_does_not_list_gets_nothing() {
        let queue = MessageQueue { topic: "T".into(), broker_name: "a".into(), queue_id: 0 };
        assert!(AllocateStrategy::Average.allocate("me", &[queue], &["other".to_owned()]).is_empty());
    }
}

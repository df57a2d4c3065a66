//! What a consumer wants of a topic, by tag or by properties.

use crate::filter::SQL92;
use crate::message::hash::java_string_hash;
use crate::remoting::body::SubscriptionData;

/// `*` or nothing for all messages, else tags joined by `||`.
///
/// # Source
/// apache/rocketmq, `FilterAPI#buildSubscriptionData`.
#[must_use]
pub fn subscription(topic: &str, expression: &str, version: i64) -> SubscriptionData {
    let all = expression.is_empty() || expression == "*";
    let tags = expression.split("||").map(str::trim).filter(|tag| !all && !tag.is_empty());
    let tags_set: std::collections::BTreeSet<String> = tags.map(str::to_owned).collect();
    SubscriptionData {
        class_filter_mode: false,
        code_set: tags_set.iter().map(|tag| java_string_hash(tag)).collect(),
        expression_type: "TAG".to_owned(),
        sub_string: if all { "*".to_owned() } else { expression.to_owned() },
        sub_version: version,
        tags_set,
        topic: topic.to_owned(),
    }
}

/// What a SQL92 expression asks for.
#[must_use]
pub fn sql(topic: &str, expression: &str, version: i64) -> SubscriptionData {
    SubscriptionData {
        class_filter_mode: false,
        code_set: Default::default(),
        expression_type: SQL92.to_owned(),
        sub_string: expression.to_owned(),
        sub_version: version,
        tags_set: Default::default(),
        topic: topic.to_owned(),
    }
}

/// Whether the tag itself is wanted: brokers compare hashes, which may be equal for different tags.
#[must_use]
pub fn wants(subscription: &SubscriptionData, tag: Option<&str>) -> bool {
    subscription.tags_set.is_empty() || tag.is_some_and(|tag| subscription.tags_set.contains(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        expression: String,
        sub_string: String,
        tags_set: std::collections::BTreeSet<String>,
        code_set: std::collections::BTreeSet<i32>,
    }

    #[test]
    fn expressions_read_as_in_java() {
        let text = include_str!("../../../tests/golden/known-answers/subscription.json");
        let answers: Vec<Answer> = serde_json::from_str(text).expect("the file is a list of answers");
        for answer in answers {
            let built = subscription("T", &answer.expression, 1);
            assert_eq!(built.sub_string, answer.sub_string);
            assert_eq!(built.tags_set, answer.tags_set, "{:?}", answer.expression);
            assert_eq!(built.code_set, answer.code_set, "{:?}", answer.expression);
        }
    }

    #[test]
    fn a_tag_with_the_same_hash_is_not_the_same_tag() {
        let wanted = subscription("T", "Aa", 1);
        assert_eq!(java_string_hash("Aa"), java_string_hash("BB"));
        assert!(wants(&wanted, Some("Aa")));
        assert!(!wants(&wanted, Some("BB")));
        assert!(!wants(&wanted, None));
        assert!(wants(&subscription("T", "*", 1), None));
    }
}

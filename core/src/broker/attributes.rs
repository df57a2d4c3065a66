//! Attributes of topics and groups: what may be set, and what a request to change them makes of those that are there.
//!
//! A change is a map of `+key` to a value, which sets, and of `-key`, which takes away; what it does not name stays.
//! Invariant: nothing is kept that a broker would have to act on and cannot.
//!
//! # Source
//! apache/rocketmq 5.4, `AttributeParser`, `AttributeUtil#alterCurrentAttributes`, `TopicAttributes` and
//! `SubscriptionGroupAttributes`.

use std::collections::BTreeMap;

use crate::remoting::codes::response;

use super::refusal::Refusal;

/// By key.
pub(crate) type Attributes = BTreeMap<String, String>;

/// What values one takes.
enum Values {
    OneOf(&'static [&'static str]),
    /// An i64 from here to there, both included.
    Range(i64, i64),
}

/// One attribute that there is.
pub(crate) struct Attribute {
    key: &'static str,
    values: Values,
    /// Of Java's values those that stand for what this broker does not do.
    lacking: &'static [&'static str],
    changeable: bool,
}

pub(crate) const OF_TOPICS: &[Attribute] = &[
    Attribute {
        key: "queue.type",
        values: Values::OneOf(&["SimpleCQ"]),
        lacking: &["BatchCQ"],
        changeable: false,
    },
    Attribute {
        key: "cleanup.policy",
        values: Values::OneOf(&["DELETE"]),
        lacking: &["COMPACTION"],
        changeable: false,
    },
    Attribute {
        key: "message.type",
        values: Values::OneOf(&[
            "UNSPECIFIED",
            "NORMAL",
            "FIFO",
            "DELAY",
            "TRANSACTION",
            "PRIORITY",
            "MIXED",
        ]),
        lacking: &[],
        changeable: true,
    },
    Attribute { key: "reserve.time", values: Values::Range(-1, i64::MAX), lacking: &[], changeable: true },
];

pub(crate) const OF_GROUPS: &[Attribute] = &[
    // How members that pop divide what they take; those that pull take no notice of it.
    Attribute { key: "priority.factor", values: Values::Range(0, 100), lacking: &[], changeable: true },
];

/// Why attributes are not changed; its text is the remark of the answer, where Java has one in Java's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttributeError {
    #[error("add/alter attribute format is wrong: {0}")]
    Set(String),
    #[error("delete attribute format is wrong: {0}")]
    Delete(String),
    #[error("key duplication: {0}")]
    Twice(String),
    #[error("kv string format wrong.")]
    Key,
    #[error("alter duplication key. key: {0}")]
    BothWays(String),
    #[error("only add attribute is supported while creating topic. key: {0}")]
    New(String),
    #[error("wrong format key: {0}")]
    Sign(String),
    #[error("unsupported key: {0}")]
    Unsupported(String),
    #[error("attempt to update an unchangeable attribute. key: {0}")]
    Unchangeable(String),
    #[error("attempt to delete a nonexistent key: {0}")]
    Absent(String),
    #[error("value is not in set: [{set}]")]
    Value { set: String },
    #[error("value is not in range({min}, {max})")]
    Range { min: i64, max: i64 },
    #[error("{key}: {value} is not supported by this version")]
    Lacking { key: &'static str, value: String },
}

impl From<AttributeError> for Refusal {
    fn from(error: AttributeError) -> Refusal {
        Refusal::new(response::SYSTEM_ERROR, error.to_string())
    }
}

/// The change that `+key=value,-key` stands for.
///
/// # Errors
/// [`AttributeError`].
pub(crate) fn parse(changes: &str) -> Result<Attributes, AttributeError> {
    let mut parsed = Attributes::new();
    for change in changes.split(',').filter(|change| !change.is_empty()) {
        let (key, value) = change.split_once('=').unwrap_or((change, ""));
        if change.contains('=') && !key.contains('+') {
            return Err(AttributeError::Set(key.to_owned()));
        }
        if !change.contains('=') && !key.contains('-') {
            return Err(AttributeError::Delete(key.to_owned()));
        }
        if parsed.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(AttributeError::Twice(key.to_owned()));
        }
    }
    Ok(parsed)
}

/// What `changes` make of the `current` ones, which are `None` for a topic or group that is new.
///
/// # Errors
/// [`AttributeError`]: then nothing changes.
pub(crate) fn alter(
    known: &'static [Attribute],
    current: Option<&Attributes>,
    changes: &Attributes,
) -> Result<Attributes, AttributeError> {
    let mut altered = current.cloned().unwrap_or_default();
    for (signed, value) in changes {
        let (sign, key) = sign_and_key(signed)?;
        if sign == '+' && changes.contains_key(&format!("-{key}")) {
            return Err(AttributeError::BothWays(key.to_owned()));
        }
        let owned = || key.to_owned();
        match (sign, current) {
            ('+', _) => {}
            (_, None) => return Err(AttributeError::New(owned())),
            ('-', Some(current)) if !current.contains_key(key) => {
                return Err(AttributeError::Absent(owned()));
            }
            ('-', Some(_)) => {}
            _ => return Err(AttributeError::Sign(owned())),
        }
        let attribute = known.iter().find(|attribute| attribute.key == key);
        let attribute = attribute.ok_or_else(|| AttributeError::Unsupported(owned()))?;
        if current.is_some() && !attribute.changeable {
            return Err(AttributeError::Unchangeable(owned()));
        }
        if sign == '-' {
            altered.remove(key);
            continue;
        }
        attribute.check(value)?;
        altered.insert(owned(), value.clone());
    }
    Ok(altered)
}

fn sign_and_key(signed: &str) -> Result<(char, &str), AttributeError> {
    let mut chars = signed.chars();
    let sign = chars.next().ok_or(AttributeError::Key)?;
    let key = chars.as_str();
    if key.is_empty() || key.contains(['+', '-']) {
        return Err(AttributeError::Key);
    }
    Ok((sign, key))
}

impl Attribute {
    fn check(&self, value: &str) -> Result<(), AttributeError> {
        if self.lacking.contains(&value) {
            return Err(AttributeError::Lacking { key: self.key, value: value.to_owned() });
        }
        match self.values {
            Values::OneOf(set) if set.contains(&value) => Ok(()),
            Values::OneOf(set) => Err(AttributeError::Value { set: set.join(", ") }),
            Values::Range(min, max)
                if value.parse().is_ok_and(|number: i64| (min..=max).contains(&number)) =>
            {
                Ok(())
            }
            Values::Range(min, max) => Err(AttributeError::Range { min, max }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn altered(current: Option<&str>, changes: &str) -> Result<Attributes, String> {
        let current = current.map(|set| alter(OF_TOPICS, None, &parse(set).unwrap()).unwrap());
        let changes = parse(changes).map_err(|error| error.to_string())?;
        alter(OF_TOPICS, current.as_ref(), &changes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let all = "+queue.type=SimpleCQ,+message.type=FIFO,+reserve.time=-1";
        let set = altered(Some(all), "+message.type=NORMAL,-reserve.time").expect("changed");
        let pairs = [("message.type", "NORMAL"), ("queue.type", "SimpleCQ")];
        assert_eq!(set, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert_eq!(altered(Some(all), ""), altered(None, all));
    }

    #[test]
    fn what_is_no_attribute_or_no_value_of_one_is_refused_in_javas_words() {
        let fifo = Some("+queue.type=SimpleCQ,+message.type=FIFO");
        let cases = [
            (None, "+foo=x", "unsupported key: foo"),
            (fifo, "+foo=x", "unsupported key: foo"),
            (fifo, "+queue.type=SimpleCQ", "attempt to update an unchangeable attribute. key: queue.type"),
            (fifo, "-queue.type", "attempt to update an unchangeable attribute. key: queue.type"),
            (
                fifo,
                "+cleanup.policy=DELETE",
                "attempt to update an unchangeable attribute. key: cleanup.policy",
            ),
            (fifo, "-reserve.time", "attempt to delete a nonexistent key: reserve.time"),
            (
                None,
                "-message.type",
                "only add attribute is supported while creating topic. key: message.type",
            ),
            (
                None,
                "+message.type=fifo",
                "value is not in set: [UNSPECIFIED, NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY, MIXED]",
            ),
            (None, "+reserve.time=-2", "value is not in range(-1, 9223372036854775807)"),
            (None, "+reserve.time=soon", "value is not in range(-1, 9223372036854775807)"),
            (None, "+queue.type=BatchCQ", "queue.type: BatchCQ is not supported by this version"),
            (
                None,
                "+cleanup.policy=COMPACTION",
                "cleanup.policy: COMPACTION is not supported by this version",
            ),
            (None, "message.type=FIFO", "add/alter attribute format is wrong: message.type"),
            (None, "message.type", "delete attribute format is wrong: message.type"),
            (None, "+message.type=FIFO,+message.type=DELAY", "key duplication: +message.type"),
            (fifo, "+message.type=DELAY,-message.type", "alter duplication key. key: message.type"),
            (None, "+=x", "kv string format wrong."),
            (fifo, "*+message.type=x", "kv string format wrong."),
        ];
        for (current, changes, remark) in cases {
            assert_eq!(altered(current, changes), Err(remark.to_owned()), "{changes} on {current:?}");
        }
        let factor =
            |value: &str| alter(OF_GROUPS, None, &parse(&format!("+priority.factor={value}")).unwrap());
        assert!(factor("0").is_ok() && factor("100").is_ok());
        assert_eq!(factor("101").expect_err("too much").to_string(), "value is not in range(0, 100)");
        assert!(altered(None, "+message.type=MIXED").is_ok());
        let unsigned = Attributes::from([("message.type".to_owned(), "FIFO".to_owned())]);
        let refused = alter(OF_TOPICS, Some(&Attributes::new()), &unsigned).expect_err("no sign");
        assert_eq!(refused.to_string(), "wrong format key: essage.type");
    }
}

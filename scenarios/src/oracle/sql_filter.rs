//! FILTER: a group that subscribes by SQL92 is given what its expression says TRUE of, and nothing else: not what it says
//! UNKNOWN of, and not what it cannot compare. That it is given all of it is judged with I19.
//!
//! Each expression stands beside a condition in plain Rust that says the same, written from the rules of SQL and not from the
//! evaluator.
//!
//! # Source
//! `spec/broker-semantics.md`, section 10.3.

use super::{Broken, Verdict};
use crate::workload::{Marks, MessageId, marks};

/// An expression over the properties `n`, a digit or a word, and `s`, a letter; either may be missing.
#[derive(Debug)]
pub struct Form {
    pub text: &'static str,
    wants: fn(&Marks) -> bool,
}

/// What a number in the property is, `None` if it is missing or no number.
fn number(marks: &Marks) -> Option<i32> {
    marks.n.as_deref().and_then(|text| text.parse().ok())
}

/// Whether a comparison with `n` ends the evaluation.
fn is_word(marks: &Marks) -> bool {
    marks.n.is_some() && number(marks).is_none()
}

/// In plans by their place in this list.
pub const FORMS: [Form; 7] = [
    Form { text: "n > 4", wants: |marks| number(marks).is_some_and(|n| n > 4) },
    Form { text: "NOT (n > 4)", wants: |marks| number(marks).is_some_and(|n| n <= 4) },
    Form { text: "NOT (s = 'x')", wants: |marks| marks.s.as_deref().is_some_and(|s| s != "x") },
    Form {
        text: "n between 3 AND 7 OR s IN ('x', 'z')",
        wants: |marks| {
            let in_list = matches!(marks.s.as_deref(), Some("x" | "z"));
            !is_word(marks) && (number(marks).is_some_and(|n| (3..=7).contains(&n)) || in_list)
        },
    },
    Form {
        text: "s IS NULL AND n <> 2",
        wants: |marks| marks.s.is_none() && number(marks).is_some_and(|n| n != 2),
    },
    Form {
        text: "s NOT IN ('x','y') AND n NOT BETWEEN 2 AND 5",
        wants: |marks| {
            marks.s.as_deref() == Some("z") && number(marks).is_some_and(|n| !(2..=5).contains(&n))
        },
    },
    Form {
        text: "TAGS = 't1' OR (s IS NOT NULL AND s <> 'y')",
        wants: |marks| marks.tag == "t1" || matches!(marks.s.as_deref(), Some("x" | "z")),
    },
];

/// The expression of a plan.
#[must_use]
pub fn text(form: u32) -> &'static str {
    FORMS[form as usize % FORMS.len()].text
}

/// Whether a group with that expression is to be given the message.
#[must_use]
pub fn wants(form: u32, id: MessageId) -> bool {
    (FORMS[form as usize % FORMS.len()].wants)(&marks(id))
}

/// # Errors
/// When the message was not asked for.
pub fn delivered(form: u32, group: &str, id: MessageId) -> Verdict {
    if wants(form, id) {
        return Ok(());
    }
    let (text, marks) = (text(form), marks(id));
    Err(Broken::new(
        "FILTER",
        format!("message {} with {marks:?} was given to {group}, which asked for {text}", id.0),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of which each of these holds is found among the first few hundred.
    fn message(has: impl Fn(&Marks) -> bool) -> MessageId {
        (0..500).map(|index| MessageId::new(0, index)).find(|id| has(&marks(*id))).expect("one of them has")
    }

    #[test]
    fn a_delivery_of_what_is_unknown_or_false_or_not_comparable_is_rejected() {
        let missing = message(|marks| marks.n.is_none());
        let low = message(|marks| number(marks).is_some_and(|n| n <= 4));
        let high = message(|marks| number(marks).is_some_and(|n| n > 4));
        let word = message(is_word);
        assert_eq!(delivered(0, "group-1", high), Ok(()));
        assert_eq!(delivered(1, "group-1", low), Ok(()));
        for id in [missing, low, word] {
            assert!(delivered(0, "group-1", id).is_err());
        }
        for id in [missing, high, word] {
            assert!(delivered(1, "group-1", id).is_err());
        }
    }

    #[test]
    fn every_expression_wants_some_messages_and_not_others() {
        for form in 0..FORMS.len() as u32 {
            let wanted = (0..300).filter(|index| wants(form, MessageId::new(1, *index))).count();
            assert!((10..290).contains(&wanted), "{}: {wanted} of 300", text(form));
        }
    }
}

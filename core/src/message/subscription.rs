//! Tag expressions: `TagA || TagB`, or `*` for everything.
//!
//! A broker filters by the hashes in the queue entries, so tags whose hashes are equal pass one another's filter there;
//! the client looks again at the tags themselves.

use super::hash::java_string_hash;
use std::collections::BTreeSet;

/// The expression that takes every message.
pub const SUBSCRIBE_ALL: &str = "*";

/// What a tag expression asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagExpression {
    /// The expression as it was given, [`SUBSCRIBE_ALL`] if it was empty.
    pub sub_string: String,
    /// Its tags; none for everything.
    pub tags: BTreeSet<String>,
    /// Their Java hashes.
    pub codes: BTreeSet<i32>,
}

/// The expression has separators but nothing between them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tag expression {expression:?} has no tags")]
pub struct NoTags {
    /// The expression, cut short.
    pub expression: String,
}

impl TagExpression {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`NoTags`]: answered SUBSCRIPTION_PARSE_FAILED.
    ///
    /// # Source
    /// apache/rocketmq `FilterAPI#buildSubscriptionData`: a text of bare separators is an error, but one with blanks
    /// between them is an expression that matches nothing.
    pub fn parse(expression: &str) -> Result<Self, NoTags> {
        let all = expression.is_empty() || expression == SUBSCRIBE_ALL;
        let mut parsed = Self {
            sub_string: if all { SUBSCRIBE_ALL } else { expression }.to_owned(),
            tags: BTreeSet::new(),
            codes: BTreeSet::new(),
        };
        if all {
            return Ok(parsed);
        }
        if expression.split("||").all(str::is_empty) {
            return Err(NoTags { expression: expression.chars().take(64).collect() });
        }
        for tag in expression.split("||") {
            // Java's trim: everything up to the blank.
            let tag = tag.trim_matches(|c| c <= ' ');
            if !tag.is_empty() {
                parsed.codes.insert(java_string_hash(tag));
                parsed.tags.insert(tag.to_owned());
            }
        }
        Ok(parsed)
    }

    /// Whether everything is asked for.
    pub fn is_all(&self) -> bool {
        self.sub_string == SUBSCRIBE_ALL
    }

    /// Whether a queue entry with this tags code passes.
    pub fn matches_code(&self, tags_code: i64) -> bool {
        // Java narrows the code to 32 bits; so a delivery time in the delay topic cannot fail here either.
        self.is_all() || self.codes.contains(&(tags_code as i32))
    }

    /// Whether a message with this tag passes.
    pub fn matches_tag(&self, tag: Option<&str>) -> bool {
        self.is_all() || tag.is_some_and(|tag| self.tags.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_asked_for_by_a_star_or_nothing() {
        for expression in ["*", ""] {
            let parsed = TagExpression::parse(expression).unwrap();
            assert_eq!(parsed.sub_string, "*");
            assert!(parsed.matches_code(0));
            assert!(parsed.matches_tag(None));
        }
    }

    #[test]
    fn tags_are_trimmed_and_blank_ones_left_out() {
        let parsed = TagExpression::parse(" TagA  ||  ||TagC ").unwrap();
        assert_eq!(parsed.tags, BTreeSet::from(["TagA".to_owned(), "TagC".to_owned()]));
        assert!(parsed.matches_code(2_598_919));
        assert!(!parsed.matches_code(2_598_920));
        assert!(parsed.matches_tag(Some("TagC")));
        assert!(!parsed.matches_tag(Some("TagB")));
        assert!(!parsed.matches_tag(None));
    }

    #[test]
    fn bare_separators_are_an_error_and_blanks_match_nothing() {
        assert!(TagExpression::parse("||").is_err());
        assert!(TagExpression::parse("||||").is_err());
        let nothing = TagExpression::parse(" || ").unwrap();
        assert!(!nothing.is_all());
        assert!(!nothing.matches_code(0));
    }

    #[test]
    fn tags_with_equal_hashes_pass_the_code_but_not_the_tag() {
        // "Aa" and "BB" have one hash in Java.
        let parsed = TagExpression::parse("Aa").unwrap();
        assert!(parsed.matches_code(i64::from(java_string_hash("BB"))));
        assert!(!parsed.matches_tag(Some("BB")));
    }
}

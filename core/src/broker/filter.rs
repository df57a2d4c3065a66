//! Which messages of a queue a consumer wants: by the tag hash in the queue's entries, or by the properties in the records.
//!
//! The client compares the tags themselves once more, so a hash collision costs bytes and nothing else.

use std::sync::Arc;

use crate::filter::Expression;
use crate::message::properties;
use crate::message::subscription::{NoTags, TagExpression};
use crate::runtime::{Mutant, Runtime};

/// What a pull is filtered by.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Filter {
    Tag(TagFilter),
    Sql(Arc<Expression>),
}

impl Filter {
    /// Whether an entry with this hash may be wanted.
    pub fn matches_entry(&self, tags_code: i64) -> bool {
        match self {
            Filter::Tag(filter) => filter.matches(tags_code),
            Filter::Sql(_) => true,
        }
    }

    /// What remains to be asked of a record whose entry is wanted.
    pub fn by_record(&self) -> Option<&Expression> {
        match self {
            Filter::Tag(_) => None,
            Filter::Sql(expression) => Some(expression),
        }
    }
}

/// Whether a message with this property string is wanted.
pub(crate) fn is_wanted<R: Runtime>(rt: &R, expression: &Expression, raw: &str) -> bool {
    match expression.evaluate(|name| properties::find(raw, name)) {
        Ok(Some(truth)) => truth,
        Ok(None) => rt.mutant(Mutant::UnknownIsTrue),
        Err(_) => false,
    }
}

/// A tag filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TagFilter {
    All,
    /// Sorted tag hashes; empty matches nothing.
    Codes(Vec<i32>),
}

impl TagFilter {
    /// Reads `*`, or tags separated by `||`.
    ///
    /// # Errors
    /// [`NoTags`].
    pub fn parse(expression: &str) -> Result<TagFilter, NoTags> {
        let expression = TagExpression::parse(expression)?;
        Ok(match expression.is_all() {
            true => TagFilter::All,
            false => TagFilter::Codes(expression.codes.into_iter().collect()),
        })
    }

    pub fn from_codes(mut codes: Vec<i32>) -> TagFilter {
        codes.sort_unstable();
        codes.dedup();
        TagFilter::Codes(codes)
    }

    /// Whether an entry with this hash is wanted.
    pub fn matches(&self, tags_code: i64) -> bool {
        match self {
            TagFilter::All => true,
            // Java compares the lower 32 bits.
            TagFilter::Codes(codes) => codes.binary_search(&(tags_code as i32)).is_ok(),
        }
    }
}

/// Whether the type of an expression is "by tag".
pub(crate) fn is_tag_type(expression_type: Option<&str>) -> bool {
    matches!(expression_type, None | Some("" | "TAG"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_expressions_are_read_as_java_reads_them() {
        let cases = [
            ("*", TagFilter::All),
            ("", TagFilter::All),
            ("TagA", TagFilter::Codes(vec![2_598_919])),
            ("TagB || TagA||TagA", TagFilter::Codes(vec![2_598_919, 2_598_920])),
        ];
        for (expression, expect) in cases {
            assert_eq!(TagFilter::parse(expression), Ok(expect), "{expression}");
        }
        assert!(TagFilter::parse("||").is_err());
    }

    #[test]
    fn entries_match_by_hash() {
        let filter = TagFilter::parse("TagA").expect("a tag");
        assert!(filter.matches(2_598_919));
        assert!(!filter.matches(0));
        assert!(TagFilter::All.matches(0));
        assert!(!TagFilter::from_codes(vec![]).matches(0));
    }
}

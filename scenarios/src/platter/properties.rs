//! The property string: name 0x01 value 0x02, the last 0x02 may be missing.

/// The pairs of `text`, in order. What is not a pair is skipped, as the original does.
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('\u{2}')
        .filter_map(|segment| segment.split_once('\u{1}'))
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
}

/// The value of `name`; a later duplicate wins.
#[must_use]
pub fn find<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value_of = |segment: &'a str| segment.strip_prefix(name)?.strip_prefix('\u{1}');
    text.rsplit('\u{2}').filter_map(value_of).find(|value| !value.is_empty())
}

/// Hash of a tag as queue entries hold it: Java's `String.hashCode`, sign-extended; 0 without a tag.
#[must_use]
pub fn tags_code(tag: Option<&str>) -> i64 {
    i64::from(java_hash(tag.unwrap_or_default()))
}

/// Java's `String.hashCode`.
#[must_use]
pub fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_with_and_without_the_last_separator() {
        assert_eq!(find("TAGS\u{1}a\u{2}KEYS\u{1}k", "KEYS"), Some("k"));
        assert_eq!(find("TAGS\u{1}a\u{2}KEYS\u{1}k\u{2}", "TAGS"), Some("a"));
        assert_eq!(find("TAGS\u{1}\u{2}", "TAGS"), None);
        assert_eq!(find("TAGSX\u{1}a\u{2}", "TAGS"), None);
        assert_eq!(find("TAGS\u{1}a\u{2}TAGS\u{1}b\u{2}TAGS\u{1}\u{2}", "TAGS"), Some("b"));
    }

    #[test]
    fn the_tag_hash_is_javas() {
        assert_eq!(tags_code(Some("TagA")), 2_598_919);
        assert_eq!(tags_code(None), 0);
    }
}

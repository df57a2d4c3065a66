//! Java's string hash, which decides what a tag filter sees.

/// `String.hashCode()`: over UTF-16 units, in wrapping 32 bits.
pub fn java_string_hash(text: &str) -> i32 {
    let add = |hash: i32, unit: i32| hash.wrapping_mul(31).wrapping_add(unit);
    if text.is_ascii() {
        // A unit is a byte.
        return text.bytes().fold(0, |hash, byte| add(hash, i32::from(byte)));
    }
    text.encode_utf16().fold(0, |hash, unit| add(hash, i32::from(unit)))
}

/// The tags code of a message: the hash of its tag, 0 without one.
///
/// # Source
/// apache/rocketmq `MessageExtBrokerInner#tagsString2tagsCode`.
pub fn tags_code(tag: Option<&str>) -> i64 {
    tag.map_or(0, |tag| i64::from(java_string_hash(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("TagA"), 2_598_919);
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_string_hash("中"), 20_013);
        // Outside the basic plane a character is two units.
        assert_eq!(java_string_hash("🚀"), 0xD83D_i32 * 31 + 0xDE80);
        assert_eq!(tags_code(None), 0);
        assert_eq!(tags_code(Some("polygenelubricants")), -2_147_483_648);
    }
}

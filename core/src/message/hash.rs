//! Java's string hash, which decides what a tag filter sees.

/// `String.hashCode()`: over UTF-16 units, in wrapping 32 bits.
pub fn java_string_hash(text: &str) -> i32 {
    java_string_hash_on(0, text)
}

/// The hash of a string that goes on with `text`, from the hash of what comes before.
pub fn java_string_hash_on(hash: i32, text: &str) -> i32 {
    let add = |hash: i32, unit: i32| hash.wrapping_mul(31).wrapping_add(unit);
    if !text.is_ascii() {
        return text.encode_utf16().fold(hash, |hash, unit| add(hash, i32::from(unit)));
    }
    // A unit is a byte. Four at a time: else each multiplication waits for the one before.
    const POWERS: [i32; 4] = [31 * 31 * 31, 31 * 31, 31, 1];
    let (fours, rest) = text.as_bytes().as_chunks::<4>();
    let hash = fours.iter().fold(hash, |hash, four| {
        let own: i32 = four.iter().zip(POWERS).map(|(byte, power)| i32::from(*byte) * power).sum();
        hash.wrapping_mul(31 * POWERS[0]).wrapping_add(own)
    });
    rest.iter().fold(hash, |hash, byte| add(hash, i32::from(*byte)))
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
        assert_eq!(java_string_hash_on(java_string_hash("poly"), "genelubricants"), i32::MIN);
        assert_eq!(tags_code(None), 0);
        assert_eq!(tags_code(Some("polygenelubricants")), -2_147_483_648);
    }
}

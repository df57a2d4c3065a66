//! Configuration files: JSON as Java's brokers write it, where integer keys may stand without quotes.
//!
//! A file and its `.bak` are two versions of one thing; either of them being whole is enough.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Image;

/// The version of a configuration file that a broker would load.
#[derive(Clone, PartialEq, Debug)]
pub enum Version {
    /// Neither the file nor its backup has ever been written.
    Absent,
    Whole(Value),
    /// Something is there and none of it can be read.
    Broken,
}

/// Reads `path`, or its backup when it is missing or damaged.
#[must_use]
pub fn load(image: &Image, path: &str) -> Version {
    let candidates = [path.to_owned(), format!("{path}.bak")];
    let mut present = false;
    for candidate in candidates {
        let Some(bytes) = image.files.get(&candidate) else { continue };
        present = true;
        if let Some(value) = parse(bytes) {
            return Version::Whole(value);
        }
    }
    if present { Version::Broken } else { Version::Absent }
}

/// Committed offsets by `topic@group` and queue.
#[must_use]
pub fn consumer_offsets(value: &Value) -> BTreeMap<(String, i32), i64> {
    let mut offsets = BTreeMap::new();
    let tables = value.get("offsetTable").and_then(Value::as_object);
    for (name, queues) in tables.into_iter().flatten() {
        for (queue, offset) in queues.as_object().into_iter().flatten() {
            if let (Ok(queue), Some(offset)) = (queue.parse(), offset.as_i64()) {
                offsets.insert((name.clone(), queue), offset);
            }
        }
    }
    offsets
}

/// The next offset to deliver of each delay level.
#[must_use]
pub fn delay_offsets(value: &Value) -> BTreeMap<i32, i64> {
    let levels = value.get("offsetTable").and_then(Value::as_object).into_iter().flatten();
    levels.filter_map(|(level, offset)| Some((level.parse().ok()?, offset.as_i64()?))).collect()
}

/// How the saved offset of a level is made larger in its file: where its last digit is, and which bits of that turn. `None` where
/// that is the highest digit already, or not found.
#[must_use]
pub fn delay_offset_raised(file: &[u8], level: i32) -> Option<(u64, u8)> {
    let text = std::str::from_utf8(file).ok()?;
    let is_level = |at: &usize| {
        let before = text[..*at].trim_end_matches('"').trim_end();
        before.ends_with(['{', ','])
    };
    let digits = level.to_string();
    let key = text.match_indices(&digits).map(|(at, _)| at).filter(is_level);
    let mut values = key.filter_map(|at| {
        let rest = &text[at + digits.len()..];
        let value = rest.trim_start_matches('"').trim_start().strip_prefix(':')?.trim_start();
        Some((text.len() - value.len(), value.bytes().take_while(u8::is_ascii_digit).count()))
    });
    let (begin, count) = values.find(|(_, count)| *count > 0)?;
    let last = begin + count - 1;
    let bits = file[last] ^ b'9';
    (bits != 0).then_some((last as u64, bits))
}

/// The JSON text in `bytes`, keys with or without quotes.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    serde_json::from_str(&quote_keys(text)).ok()
}

/// Puts quotes around bare integer keys.
fn quote_keys(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut in_string = false;
    let mut escaped = false;
    let mut rest = text.char_indices().peekable();
    while let Some((start, letter)) = rest.next() {
        if in_string {
            in_string = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            quoted.push(letter);
            continue;
        }
        if letter.is_ascii_digit() || letter == '-' {
            let mut end = start + 1;
            while rest.next_if(|(_, next)| next.is_ascii_alphanumeric() || ".+-".contains(*next)).is_some() {
                end += 1;
            }
            let number = &text[start..end];
            let is_key = text[end..].trim_start().starts_with(':');
            if is_key {
                quoted.extend(['"']);
                quoted.push_str(number);
                quoted.extend(['"']);
            } else {
                quoted.push_str(number);
            }
            continue;
        }
        in_string = letter == '"';
        quoted.push(letter);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_offset_is_made_larger_by_bits_of_its_last_digit() {
        let raised = |text: &str, level| {
            let (at, bits) = delay_offset_raised(text.as_bytes(), level)?;
            let mut file = text.as_bytes().to_vec();
            file[at as usize] ^= bits;
            Some(delay_offsets(&parse(&file)?))
        };
        let text = r#"{"offsetTable":{1:10,2:9,12:4}}"#;
        assert_eq!(raised(text, 1), Some([(1, 19), (2, 9), (12, 4)].into()));
        assert_eq!(raised(text, 2), None);
        assert_eq!(raised(text, 12), Some([(1, 10), (2, 9), (12, 9)].into()));
        assert_eq!(raised(r#"{ "offsetTable" : { "3" : 0 } }"#, 3), Some([(3, 9)].into()));
    }

    #[test]
    fn bare_integer_keys_are_read() {
        let text = br#"{"offsetTable":{"topic-0@g\"1:2":{0:12, 3 : -1},"t@g":{"1":7}}}"#;
        let offsets = consumer_offsets(&parse(text).expect("JSON"));
        assert_eq!(offsets[&("topic-0@g\"1:2".to_owned(), 0)], 12);
        assert_eq!(offsets[&("topic-0@g\"1:2".to_owned(), 3)], -1);
        assert_eq!(offsets[&("t@g".to_owned(), 1)], 7);
    }

    #[test]
    fn a_damaged_file_falls_back_to_its_backup() {
        let mut image = Image::default();
        assert_eq!(load(&image, "config/x.json"), Version::Absent);
        image.files.insert("config/x.json".into(), Vec::new());
        assert_eq!(load(&image, "config/x.json"), Version::Broken);
        image.files.insert("config/x.json.bak".into(), b"{}".to_vec());
        assert_eq!(load(&image, "config/x.json"), Version::Whole(serde_json::json!({})));
    }
}

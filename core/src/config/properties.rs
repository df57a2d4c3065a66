//! The text form of Java's `Properties`: `key=value` lines, `#` and `!` comments, `\` at a line's end, escapes.

/// One logical line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// Where it starts, from 1.
    pub line: usize,
    pub key: String,
    pub value: String,
    /// Whether `=`, `:` or white space stood between key and value.
    pub has_separator: bool,
}

pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let start = line.trim_start();
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, more)) => logical.push_str(more.trim_start()),
                None => break,
            }
        }
        entries.push(split(index + 1, &logical));
    }
    entries
}

fn ends_in_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

fn split(line: usize, logical: &str) -> Entry {
    let mut escaped = false;
    let mut end = logical.len();
    for (at, c) in logical.char_indices() {
        if !escaped && (c == '=' || c == ':' || c.is_whitespace()) {
            end = at;
            break;
        }
        escaped = !escaped && c == '\\';
    }
    let (key, rest) = logical.split_at(end);
    let after = rest.trim_start();
    let value = after.strip_prefix(['=', ':']).unwrap_or(after).trim();
    Entry { line, key: unescape(key), value: unescape(value), has_separator: !after.is_empty() }
}

fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let text = "# comment\n\n  a = 1\nb:2\nc 3\npath=\\\\srv\\tx\nlong=one,\\\n   two\nempty=\nbare\n";
        let read: Vec<(usize, String, String, bool)> =
            entries(text).into_iter().map(|e| (e.line, e.key, e.value, e.has_separator)).collect();
        let expect = [
            (3, "a", "1", true),
            (4, "b", "2", true),
            (5, "c", "3", true),
            (6, "path", "\\srv\tx", true),
            (7, "long", "one,two", true),
            (9, "empty", "", true),
            (10, "bare", "", false),
        ];
        let expect: Vec<_> =
            expect.iter().map(|(l, k, v, s)| (*l, (*k).to_owned(), (*v).to_owned(), *s)).collect();
        assert_eq!(read, expect);
    }
}

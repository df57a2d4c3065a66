//! The language a command says it was written in. Nothing may depend on it but the shape of one reset body for C++, and
//! whether a send-back is refused.

use std::fmt;

/// The ordinal of Java's `LanguageCode`. What we do not know reads as [`LanguageCode::OTHER`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LanguageCode(u8);

/// Ordinal `i` is named `NAMES[i]`.
const NAMES: [&str; 14] = [
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS",
    "RUST", "NODE_JS",
];

impl LanguageCode {
    /// What we report: every client version knows it, which is not so for RUST.
    pub const JAVA: Self = Self(0);
    /// The C++ client and what binds to it.
    pub const CPP: Self = Self(1);
    /// Python.
    pub const PYTHON: Self = Self(3);
    /// Anything unknown.
    pub const OTHER: Self = Self(7);
    /// Go.
    pub const GO: Self = Self(9);
    /// Rust.
    pub const RUST: Self = Self(12);
    /// Node.js.
    pub const NODE_JS: Self = Self(13);

    /// The language with this ordinal, OTHER if there is none.
    pub fn from_ordinal(ordinal: i64) -> Self {
        match u8::try_from(ordinal) {
            Ok(ordinal) if usize::from(ordinal) < NAMES.len() => Self(ordinal),
            _ => Self::OTHER,
        }
    }

    /// The language with this name, OTHER if there is none.
    pub fn from_name(name: &str) -> Self {
        // The names are few and Java's is by far the most common, so a search is as good as a table.
        match NAMES.iter().position(|known| *known == name) {
            Some(position) => Self::from_ordinal(i64::try_from(position).unwrap_or(7)),
            None => Self::OTHER,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("OTHER")
    }

    /// Its ordinal in a binary header.
    pub fn ordinal(self) -> u8 {
        self.0
    }
}

impl Default for LanguageCode {
    fn default() -> Self {
        Self::JAVA
    }
}

impl serde::Serialize for LanguageCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for LanguageCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Bodies come from `json`, so a value can be looked at before it is one thing or the other.
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(name) => Self::from_name(&name),
            serde_json::Value::Number(ordinal) => Self::from_ordinal(ordinal.as_i64().unwrap_or(-1)),
            _ => Self::OTHER,
        })
    }
}

impl fmt::Debug for LanguageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ordinal_has_a_name_that_leads_back() {
        for ordinal in 0..14 {
            let language = LanguageCode::from_ordinal(ordinal);
            assert_eq!(i64::from(language.ordinal()), ordinal);
            assert_eq!(LanguageCode::from_name(language.name()), language);
        }
        assert_eq!(LanguageCode::from_name("GO"), LanguageCode::GO);
        assert_eq!(LanguageCode::from_ordinal(13), LanguageCode::NODE_JS);
    }

    #[test]
    fn an_unknown_language_is_other() {
        for ordinal in [-1, 14, 255, 256, i64::MAX] {
            assert_eq!(LanguageCode::from_ordinal(ordinal), LanguageCode::OTHER);
        }
        assert_eq!(LanguageCode::from_name("COBOL"), LanguageCode::OTHER);
        assert_eq!(LanguageCode::from_name(""), LanguageCode::OTHER);
    }
}

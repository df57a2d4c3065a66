//! What can be wrong with a setting, in the words people see.

/// The server does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{file}:{line}: {key}: expected {expected}, found {found}")]
    BadValue { file: String, line: usize, key: String, expected: String, found: String },
    #[error("{file}:{line}: expected key=value, found {text}")]
    NotASetting { file: String, line: usize, text: String },
    /// Started all the same, the server would let in whom its operator means to keep out.
    #[error(
        "{file}:{line}: {key}=true: this server has no access control and would serve everybody; remove the line to have that"
    )]
    NoAccessControl { file: String, line: usize, key: String },
    #[error("{key}: expected {expected}, found {found}")]
    BadFlag { key: String, expected: String, found: String },
    #[error("unknown setting {key}{}", did_you_mean(*nearest))]
    UnknownFlag { key: String, nearest: Option<&'static str> },
}

/// The server starts; the line has no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("{file}:{line}: unknown setting {key} is ignored{}", did_you_mean(*nearest))]
    Unknown { file: String, line: usize, key: String, nearest: Option<&'static str> },
    #[error(
        "{file}:{line}: {key} is a setting of the Java server that is not implemented here; it is ignored"
    )]
    NotImplemented { file: String, line: usize, key: String },
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map(|key| format!("; did you mean {key}?")).unwrap_or_default()
}

//! How a command fails, and with which exit code.

use std::process::ExitCode;

/// The reason a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// A wrong command line or a bad setting: nothing was created. Exit code 2.
    Usage(anyhow::Error),
    /// Something that was tried did not work. Exit code 1.
    Run(anyhow::Error),
}

impl Failure {
    pub fn usage(error: impl Into<anyhow::Error>) -> Failure {
        Failure::Usage(error.into())
    }

    /// Tells the user on stderr.
    pub fn report(&self) -> ExitCode {
        let (Failure::Usage(error) | Failure::Run(error)) = self;
        eprintln!("hotfire: {}", reasons(error));
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Run(_) => ExitCode::from(1),
        }
    }
}

/// The chain of reasons, each told once: some errors have their cause's words in their own.
fn reasons(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for reason in error.chain().map(ToString::to_string) {
        if text.ends_with(&reason) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&reason);
    }
    text
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Run(error)
    }
}

/// What a command comes to.
pub type Outcome = Result<(), Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no space").context("write a: no space").context("start");
        assert_eq!(reasons(&error), "start: write a: no space");
    }
}

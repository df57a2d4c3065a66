//! Results on stdout.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// As a shell reports a process that SIGPIPE ended.
const PIPE_CLOSED: i32 = 141;

/// Prints one line, at once even into a pipe. When the reader is gone (`hotfire … | head`) the process ends silently, as
/// other programs do.
pub fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(PIPE_CLOSED),
        Err(error) => tracing::error!(%error, "cannot write to stdout"),
    }
}

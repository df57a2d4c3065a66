//! SIGTERM and Ctrl-C: the first asks for an ordered stop, a second Ctrl-C ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// As a shell reports a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Signals are caught from the moment this exists.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// Of the system.
    pub fn catch() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the signal to stop. From then on Ctrl-C is not asked a second time.
    pub async fn stop(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tokio::spawn(async move {
            self.interrupt.recv().await;
            eprintln!("hotfire: interrupted again, ending at once");
            std::process::exit(INTERRUPTED);
        });
    }
}

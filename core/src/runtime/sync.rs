//! What tasks may share: a FIFO watch, a watermark that wakes waiters by position, a biased select.
//!
//! `tokio::sync::{mpsc, oneshot, Mutex, Notify, Semaphore}` keep a fixed order and are allowed beside these;
//! `tokio::sync::watch` is not: it spreads its waiters by a process-global random source, so a seed would not replay.

mod watch;
mod watermark;

pub use watch::{Receiver, Sender, watch};
pub use watermark::{Ticket, Watermark, WatermarkFailed};

/// `tokio::select!` that always polls its branches from the first to the last.
#[macro_export]
macro_rules! select {
    ($($body:tt)*) => { $crate::__tokio::select! { biased; $($body)* } };
}

//! Monotonic time as a value.

use std::time::Duration;

/// Nanoseconds since an arbitrary origin of one node's process. Never compared between nodes or kept on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// Later than any moment a node reaches.
    pub const NEVER: Mono = Mono(u64::MAX);

    #[must_use]
    pub fn after(self, duration: Duration) -> Mono {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Mono(self.0.saturating_add(ns))
    }

    #[must_use]
    pub fn after_ms(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Time since `earlier`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The time given to a future was up before it finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

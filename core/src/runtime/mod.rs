//! The one abstraction between protocol logic and the world.
//!
//! Production implements it with tokio and memmap2 (`hotfire-runtime`), the simulator with a virtual clock, its own TCP and
//! its own page cache (`hotfire-sim`). `conformance` is the contract as tests, run on both.
//!
//! Rules: associated types are flat (`R::View`, never nested projections); every future is `Send`, every handle `'static`,
//! so [`Runtime::spawn`] works on a multi-threaded executor without bounds at call sites. `rt: R` is a cheap clone.
//!
//! Invariant: each storage step (create, write, set length, flush, rename, remove, folder sync) is a call of its own, so
//! that a crash can fall between any two; sequences of steps are composed in `core`.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

pub mod clock;
pub mod conformance;
pub mod fault_point;
pub mod mark;
pub mod network;
pub mod storage;
pub mod sync;

pub use clock::{Elapsed, Mono};
pub use fault_point::Mutant;
pub use mark::Mark;
pub use network::{Listener, ReadHalf, WriteHalf};
pub use storage::{
    Allocation, Backing, DirEntry, DiskUsage, File, FileStat, SegmentReader, SegmentWriter, View,
};

use network::Network;
use storage::Storage;

/// The task was aborted, or its node died, before it finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task was cancelled")]
pub struct Cancelled;

/// Everything a node may ask of the world around it.
pub trait Runtime: Network + Storage + Clone + Send + Sync + 'static {
    type Task<T: Send + 'static>: Task<T>;

    /// Monotonic time of this node. Two nodes' values are never compared.
    fn now(&self) -> Mono;

    /// Wall clock in milliseconds since the Unix epoch. It may jump either way and differs between nodes.
    fn wall_ms(&self) -> i64;

    /// Local time minus UTC at that moment of the wall clock, in seconds: the time zone of the node, as an operator sees it.
    /// For hours in settings and for names of files, never for order.
    fn utc_offset_s(&self, wall_ms: i64) -> i32;

    /// Memory of the machine, in bytes; `None` when the system does not say.
    fn memory_bytes(&self) -> Option<u64>;

    /// Resolves at or after `deadline`; at once when it has passed.
    fn sleep_until(&self, deadline: Mono) -> impl Future<Output = ()> + Send + 'static;

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.sleep_until(self.now().after(duration))
    }

    /// Runs `future` for at most `duration`, then drops it.
    ///
    /// # Errors
    /// [`Elapsed`] when the time is up. A future that is ready at the same moment wins.
    fn timeout<F>(
        &self,
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + Send
    where
        F: Future + Send,
        F::Output: Send,
    {
        let sleep = self.sleep(duration);
        async move {
            crate::select! {
                output = future => Ok(output),
                () = sleep => Err(Elapsed),
            }
        }
    }

    /// Starts a task. Dropping the handle detaches it; `abort` cancels it at its next await.
    fn spawn<F>(&self, name: &'static str, future: F) -> Self::Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;

    /// As [`Self::spawn`], for a task that spends its life with the disk and lets nobody wait at its awaits: in production it
    /// has a thread of its own, where storage calls run in place instead of being handed to another.
    fn spawn_on_thread<F>(&self, name: &'static str, future: F) -> Self::Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(name, future)
    }

    /// Lets every other ready task run before this one goes on.
    fn yield_now(&self) -> impl Future<Output = ()> + Send;

    /// The process must die now: `abort()` in production; in simulation the node is killed and restarted by its init
    /// system. For states no code can go on from; a failed flush is not one of them (the store goes read-only).
    fn fatal(&self, why: &'static str) -> impl Future<Output = Infallible> + Send;

    /// Random bits for jitter and identifiers, never for correctness. Seeded in simulation.
    fn random_u64(&self) -> u64;

    /// True in simulation; a constant, so that production code behind it is not compiled in.
    const SIMULATED: bool = false;

    /// True now and then in simulation: take the rare branch (a small limit, an early timeout). See `fault_point`.
    #[inline(always)]
    fn buggify(&self, _site: &'static str) -> bool {
        false
    }

    /// True in simulation while `mutant` is the run's planted bug.
    #[inline(always)]
    fn mutant(&self, _mutant: Mutant) -> bool {
        false
    }

    /// True in simulation on a node that does as a Java broker does, where that is less than ours do.
    #[inline(always)]
    fn plays_java(&self) -> bool {
        false
    }

    /// Notes in simulation that a rare branch was taken. See `mark`.
    #[inline(always)]
    fn mark(&self, _mark: Mark) {}

    /// Notes in simulation that a request was answered with this response code.
    #[inline(always)]
    fn mark_answer(&self, _code: i32) {}

    /// A protocol event for the simulator's trace and oracles. Nothing in production.
    #[inline(always)]
    fn probe(&self, _kind: &'static str, _a: u64, _b: u64) {}

    /// One of something that has a name, which production does not put together.
    #[inline(always)]
    fn probe_named(&self, _kind: &'static str, _name: impl FnOnce() -> String, _a: u64, _b: u64) {}
}

/// A started task. Not itself a future, so that `rt.spawn(..);` detaches without a `must_use` warning.
pub trait Task<T>: Send + Sync + 'static {
    /// # Errors
    /// [`Cancelled`] when it was aborted or its node died. A panic inside the task is carried on to the caller in
    /// production and ends the run in simulation.
    fn join(self) -> impl Future<Output = Result<T, Cancelled>> + Send;
    fn abort(&self);
    fn is_finished(&self) -> bool;
}

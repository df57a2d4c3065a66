//! Tasks: on tokio's workers, or each on a thread of its own.
//!
//! A thread of its own saves the disk's steady customers two changes of thread for each call: the flush of the log does
//! thousands a second. Their awaits are served by the same timers as everybody's, and their wakers wake the thread. Such a task
//! outlives the executor that it was started from, unless it is joined: whoever starts one stops it in order.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use hotfire_core::runtime::{Cancelled, Task};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is one task's own, which waits for nobody but the disk.
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.get()
}

pub struct TokioTask<T>(Kind<T>);

enum Kind<T> {
    Worker(JoinHandle<T>),
    Thread {
        thread: thread::JoinHandle<()>,
        abort: Arc<Notify>,
        output: oneshot::Receiver<thread::Result<T>>,
    },
}

impl<T: Send + 'static> TokioTask<T> {
    pub(crate) fn start(future: impl Future<Output = T> + Send + 'static) -> TokioTask<T> {
        TokioTask(Kind::Worker(tokio::spawn(future)))
    }

    /// Where the system has no thread to give, it runs on the workers.
    pub(crate) fn start_on_thread(
        name: &str,
        future: impl Future<Output = T> + Send + 'static,
    ) -> TokioTask<T> {
        let (abort, tokio) = (Arc::new(Notify::new()), tokio::runtime::Handle::current());
        let (send, output) = oneshot::channel();
        // In a place of its own, so that it is still there when there is no thread.
        let (hand_over, take) = std::sync::mpsc::sync_channel(1);
        let aborted = abort.clone();
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let Ok(future) = take.recv() else { return };
            MAY_BLOCK.set(true);
            let run = async {
                hotfire_core::select! {
                    output = future => Some(output),
                    () = aborted.notified() => None,
                }
            };
            match catch_unwind(AssertUnwindSafe(|| tokio.block_on(run))) {
                Ok(Some(output)) => drop(send.send(Ok(output))),
                Ok(None) => {}
                Err(panic) => drop(send.send(Err(panic))),
            }
        });
        match started {
            Ok(thread) => {
                // The thread waits for it.
                let _ = hand_over.send(future);
                TokioTask(Kind::Thread { thread, abort, output })
            }
            Err(error) => {
                tracing::warn!(name, %error, "start a thread: the task runs among the others");
                Self::start(future)
            }
        }
    }
}

impl<T: Send + 'static> Task<T> for TokioTask<T> {
    async fn join(self) -> Result<T, Cancelled> {
        let panic = match self.0 {
            Kind::Worker(task) => match task.await {
                Ok(output) => return Ok(output),
                Err(error) => error.try_into_panic().map_err(|_| Cancelled)?,
            },
            Kind::Thread { output, .. } => match output.await.map_err(|_| Cancelled)? {
                Ok(output) => return Ok(output),
                Err(panic) => panic,
            },
        };
        resume_unwind(panic)
    }

    fn abort(&self) {
        match &self.0 {
            Kind::Worker(task) => task.abort(),
            Kind::Thread { abort, .. } => abort.notify_one(),
        }
    }

    fn is_finished(&self) -> bool {
        match &self.0 {
            Kind::Worker(task) => task.is_finished(),
            Kind::Thread { thread, .. } => thread.is_finished(),
        }
    }
}

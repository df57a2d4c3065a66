//! The accept loop of a listening node and its ordered stop.
//!
//! Invariant: after `stop` no connection of this server runs and its port is free.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::{ConnectionHandle, ConnectionLimits, Handler, open_handle, run_with_handle};
use crate::runtime::sync::{Receiver, Sender, watch};
use crate::runtime::{Listener, Mark, Runtime, Task};

/// After an error of `accept`, such as no descriptors left, before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What connections that were told to close at once may still take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// The running connections of one owner.
#[derive(Clone)]
pub(super) struct Live {
    handles: Arc<Mutex<BTreeMap<u64, ConnectionHandle>>>,
    count: Sender<usize>,
}

impl Live {
    pub(super) fn new() -> Live {
        Live { handles: Arc::default(), count: watch(0).0 }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, ConnectionHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, handle: &ConnectionHandle) -> LiveEntry {
        let count = {
            let mut handles = self.lock();
            let before = handles.insert(handle.id(), handle.clone());
            assert!(before.is_none(), "connection id {} is used twice", handle.id());
            handles.len()
        };
        self.count.send(count);
        LiveEntry { live: self.clone(), id: handle.id() }
    }

    fn each(&self, mut tell: impl FnMut(&ConnectionHandle)) {
        let handles: Vec<ConnectionHandle> = self.lock().values().cloned().collect();
        handles.iter().for_each(&mut tell);
    }

    /// Lets every connection finish within `patience`, then ends the rest.
    pub(super) async fn stop<R: Runtime>(&self, rt: &R, patience: Duration) {
        let mut count = self.count.subscribe();
        self.each(ConnectionHandle::drain);
        if rt.timeout(patience, count.wait_for(|count| *count == 0)).await.is_err() {
            rt.mark(Mark::StoppedUnanswered);
            tracing::warn!(connections = count.get(), "closed before all was answered");
            self.each(|handle| handle.close("the node stops and has waited long enough"));
            let _ = rt.timeout(CLOSE_PATIENCE, count.wait_for(|count| *count == 0)).await;
        }
    }
}

/// Removes a connection from the running ones when its task ends, however it does.
pub(super) struct LiveEntry {
    live: Live,
    id: u64,
}

impl Drop for LiveEntry {
    fn drop(&mut self) {
        let count = {
            let mut handles = self.live.lock();
            handles.remove(&self.id);
            handles.len()
        };
        self.live.count.send(count);
    }
}

/// Listens, and runs one task for each connection.
pub struct Server<R: Runtime> {
    rt: R,
    local_addr: SocketAddr,
    live: Live,
    stop: Sender<bool>,
    accepting: R::Task<()>,
}

impl<R: Runtime> Server<R> {
    /// Listens at `addr` (port 0: any free one) and starts to accept.
    ///
    /// # Errors
    /// Of [`crate::runtime::network::Network::listen`].
    pub async fn bind<H: Handler<R>>(
        rt: R,
        addr: SocketAddr,
        handler: Arc<H>,
        limits: ConnectionLimits,
    ) -> io::Result<Server<R>> {
        let listener = rt.listen(addr).await?;
        let local_addr = listener.local_addr();
        let (stop, stopping) = watch(false);
        let live = Live::new();
        let loop_rt = rt.clone();
        let accepted = live.clone();
        let accepting = rt.spawn("remoting: accept", async move {
            accept_loop(loop_rt, listener, handler, limits, accepted, stopping).await;
        });
        Ok(Server { rt, local_addr, live, stop, accepting })
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Connections that run now.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.live.lock().len()
    }

    /// Accepts nobody any more, lets every connection answer what it has taken up, closes them. What is not done after
    /// `patience` is cut off. Held requests are not waited for: their holder answers them before.
    pub async fn stop(self, patience: Duration) {
        self.stop.send(true);
        let _ = self.accepting.join().await;
        self.live.stop(&self.rt, patience).await;
    }
}

async fn accept_loop<R: Runtime, H: Handler<R>>(
    rt: R,
    mut listener: R::Listener,
    handler: Arc<H>,
    limits: ConnectionLimits,
    live: Live,
    mut stopping: Receiver<bool>,
) {
    loop {
        let accepted = crate::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((read, write, peer)) => {
                let handle = open_handle(&rt, &read, peer, &limits);
                let entry = live.add(&handle);
                let running =
                    run_with_handle(rt.clone(), read, write, handle, handler.clone(), limits.clone());
                rt.spawn("remoting: connection", async move {
                    let _entry = entry;
                    running.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                crate::select! {
                    _ = stopping.wait_for(|stop| *stop) => return,
                    () = rt.sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

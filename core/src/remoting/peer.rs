//! Our side as a caller: one connection per address, opened by the first call and shared by all.
//!
//! An idle connection ends by itself and the next call opens another. The end of a connection fails its calls at once;
//! each error says whether the request may have been carried out.
//!
//! Invariant: at most one connection per address is being opened or open.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::RemotingCommand;
use super::connection::{
    CallError, ConnectionHandle, ConnectionLimits, Handler, SendError, open_handle, run_with_handle,
};
use super::server::Live;
use crate::runtime::{Mono, Runtime};

/// What connections may take at a stop to send what is queued.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

struct Slot {
    /// Held while a connection is opened; who waits meanwhile shares the outcome.
    opening: tokio::sync::Mutex<()>,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    handle: Option<ConnectionHandle>,
    /// Counts failed openings, so that a waiter knows a failure that happened while it waited.
    failures: u64,
    last_failure: Option<CallError>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_handle(&self) -> Option<ConnectionHandle> {
        self.state().handle.clone().filter(|handle| !handle.is_closed())
    }
}

/// Starts the task of an opened connection.
type StartConnection<R> = Box<
    dyn Fn(
            <R as crate::runtime::network::Network>::Read,
            <R as crate::runtime::network::Network>::Write,
            SocketAddr,
        ) -> ConnectionHandle
        + Send
        + Sync,
>;

struct Shared<R: Runtime> {
    rt: R,
    start: StartConnection<R>,
    connect_timeout: Duration,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    live: Live,
    is_stopped: AtomicBool,
}

/// Connections to the nodes we ask. Clones share them.
pub struct Peers<R: Runtime>(Arc<Shared<R>>);

impl<R: Runtime> Clone for Peers<R> {
    fn clone(&self) -> Self {
        Peers(self.0.clone())
    }
}

impl<R: Runtime> Peers<R> {
    /// `handler` gets the requests that the peers send us.
    #[must_use]
    pub fn new<H: Handler<R>>(rt: R, handler: Arc<H>, limits: ConnectionLimits) -> Peers<R> {
        let live = Live::new();
        let connect_timeout = limits.connect;
        let (spawner, running) = (rt.clone(), live.clone());
        let start: StartConnection<R> = Box::new(move |read, write, peer| {
            let handle = open_handle(&spawner, &read, peer, &limits);
            let entry = running.add(&handle);
            let connection = run_with_handle(
                spawner.clone(),
                read,
                write,
                handle.clone(),
                handler.clone(),
                limits.clone(),
            );
            spawner.spawn("remoting: peer", async move {
                let _entry = entry;
                connection.await;
            });
            handle
        });
        Peers(Arc::new(Shared {
            rt,
            start,
            connect_timeout,
            slots: Mutex::default(),
            live,
            is_stopped: AtomicBool::new(false),
        }))
    }

    /// Sends a request to `addr` (`host:port`) and waits for the response, `timeout` in all, opening included.
    ///
    /// # Errors
    /// [`CallError`]; the caller asks `outcome_unknown` before it tries elsewhere.
    pub async fn call(
        &self,
        addr: &str,
        request: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, CallError> {
        let rt = &self.0.rt;
        let started = rt.now();
        let deadline = started.after(timeout);
        let handle = self.connection(addr, deadline).await?;
        let sent_at = rt.now();
        let mut call = handle.call(request).map_err(|error| unsent(addr, error))?;
        match rt.timeout(deadline.since(sent_at), &mut call).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(CallError::Closed { sent, .. })) => Err(CallError::Closed { addr: addr.to_owned(), sent }),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let sent = call.was_sent();
                drop(call);
                // A host that vanished sends no end of stream: without this its connection would swallow calls until
                // the system gives up, minutes later.
                if handle.last_read() <= sent_at {
                    handle.close("nothing came within a call's timeout");
                }
                Err(CallError::Timeout { addr: addr.to_owned(), sent })
            }
        }
    }

    /// Sends a request that has no response. Success says only that it was queued.
    ///
    /// # Errors
    /// [`CallError`], all of which mean that it was not sent.
    pub async fn oneway(
        &self,
        addr: &str,
        request: RemotingCommand,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let deadline = self.0.rt.now().after(timeout);
        let handle = self.connection(addr, deadline).await?;
        handle.send_oneway(request).map_err(|error| unsent(addr, error))
    }

    /// Ends the connection to `addr`; its pending calls fail.
    pub fn close(&self, addr: &str) {
        let slot = self.slots().remove(addr);
        if let Some(handle) = slot.and_then(|slot| slot.open_handle()) {
            handle.close("its owner has closed it");
        }
    }

    /// Sends what is queued, closes all connections; later calls get [`CallError::Stopped`].
    pub async fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
        self.0.live.stop(&self.0.rt, STOP_PATIENCE).await;
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, addr: &str) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(addr) {
            return slot.clone();
        }
        let slot = Arc::new(Slot { opening: tokio::sync::Mutex::new(()), state: Mutex::default() });
        slots.insert(addr.to_owned(), slot.clone());
        slot
    }

    async fn connection(&self, addr: &str, deadline: Mono) -> Result<ConnectionHandle, CallError> {
        if self.0.is_stopped.load(Ordering::Acquire) {
            return Err(CallError::Stopped);
        }
        let slot = self.slot(addr);
        if let Some(handle) = slot.open_handle() {
            return Ok(handle);
        }
        let rt = &self.0.rt;
        let failures = slot.state().failures;
        let opened = rt.timeout(deadline.since(rt.now()), self.open(addr, &slot, failures)).await;
        opened.unwrap_or_else(|_| Err(CallError::Timeout { addr: addr.to_owned(), sent: false }))
    }

    async fn open(
        &self,
        addr: &str,
        slot: &Slot,
        failures_before: u64,
    ) -> Result<ConnectionHandle, CallError> {
        let _opening = slot.opening.lock().await;
        if let Some(handle) = slot.open_handle() {
            return Ok(handle);
        }
        {
            let state = slot.state();
            if state.failures != failures_before
                && let Some(error) = &state.last_failure
            {
                return Err(error.clone());
            }
        }
        let connected = self.connect(addr).await;
        if self.0.is_stopped.load(Ordering::Acquire) {
            return Err(CallError::Stopped);
        }
        let mut state = slot.state();
        match connected {
            Ok((read, write, peer)) => {
                let handle = (self.0.start)(read, write, peer);
                state.handle = Some(handle.clone());
                state.last_failure = None;
                Ok(handle)
            }
            Err(error) => {
                state.failures += 1;
                state.last_failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Tries each address that the name has, in order.
    async fn connect(&self, addr: &str) -> Result<(R::Read, R::Write, SocketAddr), CallError> {
        let rt = &self.0.rt;
        let unresolved =
            |error: io::Error| CallError::Unresolved { addr: addr.to_owned(), error: Arc::new(error) };
        let (host, port) = split_host_port(addr)
            .ok_or_else(|| unresolved(io::Error::new(io::ErrorKind::InvalidInput, "expected host:port")))?;
        let resolved = match rt.timeout(self.0.connect_timeout, rt.resolve(host, port)).await {
            Ok(resolved) => resolved.map_err(unresolved)?,
            Err(_) => return Err(unresolved(io::ErrorKind::TimedOut.into())),
        };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for peer in resolved {
            match rt.timeout(self.0.connect_timeout, rt.connect(peer)).await {
                Ok(Ok((read, write))) => return Ok((read, write, peer)),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(CallError::Connect { addr: addr.to_owned(), error: Arc::new(last) })
    }
}

fn unsent(addr: &str, error: SendError) -> CallError {
    match error {
        SendError::Closed => CallError::Closed { addr: addr.to_owned(), sent: false },
        SendError::Full => CallError::Full { addr: addr.to_owned() },
    }
}

/// `host:port`, an IPv6 literal in brackets.
fn split_host_port(addr: &str) -> Option<(&str, u16)> {
    let (host, port) = addr.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split_host_port("broker-a:10911"), Some(("broker-a", 10911)));
        assert_eq!(split_host_port("[::1]:1"), Some(("::1", 1)));
        for wrong in ["", "host", ":1", "host:", "host:70000", "host:1x"] {
            assert_eq!(split_host_port(wrong), None, "{wrong}");
        }
    }
}

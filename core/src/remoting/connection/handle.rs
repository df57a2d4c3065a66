//! What others hold of a connection: a cheap clone that queues commands and never waits.
//!
//! Invariant: a pending call is in the table from its `call` until its response, its drop or the end of the connection.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::RequestKey;
use crate::remoting::{FLAG_ONEWAY, FLAG_RESPONSE, RemotingCommand};
use crate::runtime::Mono;

/// What a queued command counts for beside its body: header and bookkeeping.
const COMMAND_OVERHEAD_BYTES: usize = 512;

/// Why a command was not queued. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("the connection is closed")]
    Closed,
    #[error("the peer does not take what is queued for it")]
    Full,
}

/// Why a call has no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    #[error("cannot resolve {addr}: {error}")]
    Unresolved { addr: String, error: Arc<io::Error> },
    #[error("cannot connect to {addr}: {error}")]
    Connect { addr: String, error: Arc<io::Error> },
    /// `sent`: the request may have reached the peer.
    #[error("no response from {addr} in time")]
    Timeout { addr: String, sent: bool },
    /// `sent`: the request may have reached the peer.
    #[error("the connection to {addr} was closed before a response came")]
    Closed { addr: String, sent: bool },
    /// Too much is queued for the peer.
    #[error("{addr} does not take what is queued for it")]
    Full { addr: String },
    #[error("the node is stopping")]
    Stopped,
}

impl CallError {
    /// Whether the peer may have carried the request out although no response came.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, CallError::Timeout { sent: true, .. } | CallError::Closed { sent: true, .. })
    }
}

/// The connection ended before the response came.
struct Ended {
    sent: bool,
}

struct Pending {
    response: oneshot::Sender<Result<RemotingCommand, Ended>>,
    sent: bool,
}

#[derive(Default)]
struct State {
    queue: Vec<RemotingCommand>,
    queued_bytes: usize,
    /// A queued oneway or response has no entry here.
    pending: BTreeMap<i32, Pending>,
    next_opaque: i32,
    /// The loop has ended or was told to.
    close: Option<&'static str>,
    drain: bool,
    /// Something else has changed that the loop looks at.
    changed: bool,
    waker: Option<Waker>,
}

pub(super) struct Shared {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    outbound_bytes_max: usize,
    closed: AtomicBool,
    /// Requests held for somebody who answers by `respond`. Below zero while an answer overtakes its request's `Held`.
    held: AtomicIsize,
    /// Answers running beside the connection.
    later: AtomicUsize,
    /// Bytes that the loop has encoded and the system has not taken.
    unsent_bytes: AtomicUsize,
    last_read: AtomicU64,
    state: Mutex<State>,
}

/// One connection, for those who send to its peer. Its sends never wait.
#[derive(Clone)]
pub struct ConnectionHandle(pub(super) Arc<Shared>);

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {} with {}", self.0.id, self.0.peer)
    }
}

impl ConnectionHandle {
    pub(super) fn new(
        id: u64,
        peer: SocketAddr,
        local: SocketAddr,
        now: Mono,
        outbound_bytes_max: usize,
    ) -> ConnectionHandle {
        ConnectionHandle(Arc::new(Shared {
            id,
            peer,
            local,
            outbound_bytes_max,
            closed: AtomicBool::new(false),
            held: AtomicIsize::new(0),
            later: AtomicUsize::new(0),
            unsent_bytes: AtomicUsize::new(0),
            last_read: AtomicU64::new(now.0),
            state: Mutex::default(),
        }))
    }

    /// Unique among the connections of one node's run.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Bytes queued or encoded that the peer has not taken yet.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        self.0.unsent_bytes.load(Ordering::Relaxed) + self.0.state().queued_bytes
    }

    /// When bytes of the peer were last read.
    #[must_use]
    pub fn last_read(&self) -> Mono {
        Mono(self.0.last_read.load(Ordering::Relaxed))
    }

    /// Ends the connection soon; what is unsent is dropped. `why` goes into the log.
    pub fn close(&self, why: &'static str) {
        let waker = {
            let mut state = self.0.state();
            state.close.get_or_insert(why);
            state.waker.take()
        };
        self.0.closed.store(true, Ordering::Release);
        wake(waker);
    }

    /// Ends the connection in order: nothing new is handled, what is in flight is answered, the peer gets all of it.
    /// Does not wait for it, nor for held requests.
    pub fn drain(&self) {
        let waker = {
            let mut state = self.0.state();
            (state.drain, state.changed) = (true, true);
            state.waker.take()
        };
        wake(waker);
    }

    /// Answers a request whose `handle` said [`super::Answer::Held`]. A one-way request gets nothing.
    ///
    /// # Errors
    /// [`SendError`]; a peer that does not take its answers is closed.
    pub fn respond(&self, request: &RequestKey, mut response: RemotingCommand) -> Result<(), SendError> {
        if request.oneway {
            return Ok(());
        }
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        address_response(request, &mut response);
        let sent = self.enqueue(response);
        if sent == Err(SendError::Full) {
            self.close("the peer does not take its answers");
        }
        sent
    }

    /// Sends a request that asks for no response.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send_oneway(&self, mut request: RemotingCommand) -> Result<(), SendError> {
        request.flag = (request.flag | FLAG_ONEWAY) & !FLAG_RESPONSE;
        request.opaque = self.0.state().draw_opaque();
        self.enqueue(request)
    }

    /// Sends a request and gives the future of its response. The caller bounds the wait; dropping the call forgets it,
    /// and a response that comes later is ignored.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn call(&self, mut request: RemotingCommand) -> Result<PendingCall, SendError> {
        request.flag &= !(FLAG_ONEWAY | FLAG_RESPONSE);
        let (sender, receiver) = oneshot::channel();
        let opaque = {
            let mut state = self.0.state();
            let opaque = state.draw_opaque();
            state.pending.insert(opaque, Pending { response: sender, sent: false });
            opaque
        };
        request.opaque = opaque;
        let call = PendingCall { shared: self.0.clone(), opaque, receiver };
        self.enqueue(request)?;
        Ok(call)
    }

    fn enqueue(&self, command: RemotingCommand) -> Result<(), SendError> {
        let bytes = command.body.len() + COMMAND_OVERHEAD_BYTES;
        let waker = {
            let mut state = self.0.state();
            if state.close.is_some() {
                return Err(SendError::Closed);
            }
            let unsent = self.0.unsent_bytes.load(Ordering::Relaxed);
            if state.queued_bytes + unsent > self.0.outbound_bytes_max {
                return Err(SendError::Full);
            }
            state.queued_bytes += bytes;
            state.queue.push(command);
            state.waker.take()
        };
        wake(waker);
        Ok(())
    }
}

/// Makes `response` the answer to the request.
pub(super) fn address_response(request: &RequestKey, response: &mut RemotingCommand) {
    response.opaque = request.opaque;
    response.serialize_type = request.serialize_type;
    response.flag = (response.flag | FLAG_RESPONSE) & !FLAG_ONEWAY;
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl State {
    /// The next number that no pending call has.
    fn draw_opaque(&mut self) -> i32 {
        loop {
            let opaque = self.next_opaque;
            self.next_opaque = self.next_opaque.wrapping_add(1) & i32::MAX;
            if !self.pending.contains_key(&opaque) {
                return opaque;
            }
        }
    }
}

/// What handles ask of the loop.
pub(super) struct Asked {
    pub(super) commands: Vec<RemotingCommand>,
    pub(super) drain: bool,
    pub(super) close: Option<&'static str>,
}

/// The loop's side.
impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what handles have asked for. From here on a queued call counts as sent.
    pub(super) fn take_asked(&self) -> Asked {
        let mut state = self.state();
        let commands = std::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        for command in commands.iter().filter(|command| !command.is_response()) {
            if let Some(pending) = state.pending.get_mut(&command.opaque) {
                pending.sent = true;
            }
        }
        Asked { commands, drain: state.drain, close: state.close }
    }

    /// Hands a response to its caller; false when nobody waits for it any more.
    pub(super) fn complete(&self, response: RemotingCommand) -> bool {
        let pending = self.state().pending.remove(&response.opaque);
        pending.is_some_and(|pending| pending.response.send(Ok(response)).is_ok())
    }

    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn held(&self) -> usize {
        usize::try_from(self.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn later(&self) -> usize {
        self.later.load(Ordering::Relaxed)
    }

    pub(super) fn begin_later(&self) {
        self.later.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end_later(&self) {
        self.later.fetch_sub(1, Ordering::Relaxed);
        let waker = {
            let mut state = self.state();
            state.changed = true;
            state.waker.take()
        };
        wake(waker);
    }

    pub(super) fn note_unsent(&self, bytes: usize) {
        self.unsent_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn note_read(&self, now: Mono) {
        self.last_read.store(now.0, Ordering::Relaxed);
    }

    /// Resolves when a handle has closed the connection.
    pub(super) async fn close_asked(&self) {
        poll_fn(|context| self.poll_changed(context, |state| state.close.is_some())).await;
    }

    /// Resolves when a handle has queued something or closed the connection, or an answer beside it has ended.
    pub(super) async fn notified(&self) {
        poll_fn(|context| {
            self.poll_changed(context, |state| {
                std::mem::take(&mut state.changed) || !state.queue.is_empty() || state.close.is_some()
            })
        })
        .await;
    }

    fn poll_changed(&self, context: &mut Context<'_>, is_there: impl Fn(&mut State) -> bool) -> Poll<()> {
        let mut state = self.state();
        if is_there(&mut state) {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            slot => *slot = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// The end: nothing is queued any more and every pending call fails.
    pub(super) fn end(&self, why: &'static str) {
        self.closed.store(true, Ordering::Release);
        let (queue, pending) = {
            let mut state = self.state();
            state.close.get_or_insert(why);
            state.queued_bytes = 0;
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.pending))
        };
        drop(queue);
        for (_, Pending { response, sent }) in pending {
            // An error says that the caller has gone.
            let _ = response.send(Err(Ended { sent }));
        }
    }
}

/// A request on its way and the response to come.
pub struct PendingCall {
    shared: Arc<Shared>,
    opaque: i32,
    receiver: oneshot::Receiver<Result<RemotingCommand, Ended>>,
}

impl PendingCall {
    /// Whether the request may have reached the peer.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.shared.state().pending.get(&self.opaque).is_none_or(|pending| pending.sent)
    }
}

impl Future for PendingCall {
    type Output = Result<RemotingCommand, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|received| {
            let ended = match received {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(ended)) => ended,
                Err(_) => Ended { sent: true },
            };
            Err(CallError::Closed { addr: self.shared.peer.to_string(), sent: ended.sent })
        })
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.shared.state().pending.remove(&self.opaque);
    }
}

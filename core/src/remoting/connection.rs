//! One TCP connection, either side of it, in one task.
//!
//! Requests of the peer go to a [`Handler`] in arrival order; its answers leave in any order, matched by opaque. Our own
//! requests to the peer ([`ConnectionHandle::call`]) have their own opaque numbers; responses are looked up in a table.
//! There is no task per message and no channel on the way of a request: the loop reads all the socket has, handles every
//! whole frame in place, and gives all answers to the system in one vectored write.
//!
//! A connection never waits for one request's flush before it reads the next: such an answer ([`Answer::WhenReached`])
//! is kept in a queue per watermark and leaves when its position is reached.
//!
//! What bounds a connection's memory: the number of unanswered and of held requests, that of answers that run beside it, the bytes not yet taken by the
//! peer, the bytes queued through handles ([`ConnectionLimits`]). Over a bound nothing more is read, so the peer's
//! writes wait; a peer that takes no byte for a while is closed. An idle connection holds no buffer.
//!
//! Invariant: `opened` is called once before the first request, `closed` once after the last.
//! Invariant: a request is answered at most once, a one-way request never.
//! Invariant: after the end of a connection every pending call has failed.

use std::future::Future;
use std::pin::Pin;

use crate::remoting::{JsonAnswer, RemotingCommand, SerializeType};
use crate::runtime::sync::Watermark;
use crate::runtime::{Mono, Runtime};

mod handle;
mod limits;
mod output;
mod run;
mod waiting;

pub use handle::{CallError, ConnectionHandle, PendingCall, SendError};
pub use limits::{ConnectionIds, ConnectionLimits, InFlightLimit, InFlightPermit};
pub use run::run_connection;
pub(in crate::remoting) use run::{open_handle, run_with_handle};

/// What a node does with requests. Those of one connection are handed over in arrival order, one at a time; `handle` may
/// wait only for short rare things (a new segment), since the whole connection waits with it.
pub trait Handler<R: Runtime>: Send + Sync + 'static {
    fn opened(&self, _connection: &ConnectionHandle) {}

    /// Exactly once per `opened`, also after errors and idle expiry.
    fn closed(&self, _connection: &ConnectionHandle) {}

    /// How long, in ms, a request with this code may have waited between its arrival and its turn. An older one is
    /// answered SYSTEM_BUSY without being handled, since its sender has given up. `None`: any time.
    ///
    /// # Source
    /// apache/rocketmq, `BrokerFastFailure#cleanExpiredRequestInQueue`.
    fn wait_limit_ms(&self, _code: i32) -> Option<u64> {
        None
    }

    /// The node-wide bound that a request with this code counts against until it is answered or held. When it is full
    /// the request is answered SYSTEM_BUSY without being handled.
    fn in_flight_limit(&self, _code: i32) -> Option<&InFlightLimit> {
        None
    }

    /// Whether a request with this code is answered by [`Answer::Later`], as a rule.
    fn runs_beside(&self, _code: i32) -> bool {
        false
    }

    fn handle(
        &self,
        connection: &ConnectionHandle,
        request: RemotingCommand,
    ) -> impl Future<Output = Answer> + Send;
}

/// How a request is answered. The connection sets opaque, response flag and serialization of the response.
pub enum Answer {
    Now(RemotingCommand),
    /// As `Now`, to a request that came in JSON.
    NowJson(JsonAnswer),
    /// Nothing will be sent.
    Never,
    /// Sent when `mark` reaches `position`, has failed, or `deadline` passes. Costs a place in a queue, not a task.
    WhenReached {
        mark: Watermark,
        position: u64,
        deadline: Mono,
        finish: Finish,
    },
    /// Runs beside the connection, to its end even if the connection ends before.
    Later(Pin<Box<dyn Future<Output = RemotingCommand> + Send>>),
    /// Somebody answers by [`ConnectionHandle::respond`] (long polling). An ordered stop does not wait for it.
    Held,
}

/// Makes the answer when the wait is over.
pub type Finish = Box<dyn FnOnce(Reached) -> Response + Send>;

/// An answer that was waited for.
pub enum Response {
    Command(RemotingCommand),
    /// To a request that came in JSON.
    Json(JsonAnswer),
}

impl From<RemotingCommand> for Response {
    fn from(command: RemotingCommand) -> Response {
        Response::Command(command)
    }
}

/// How a wait for a watermark ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reached {
    Yes,
    /// The watermark has failed: the position is never reached.
    Failed,
    TimedOut,
}

/// What is needed to answer a request after the request itself is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestKey {
    pub opaque: i32,
    pub serialize_type: SerializeType,
    pub oneway: bool,
}

impl RemotingCommand {
    /// Where the answer to this request goes, for a later [`ConnectionHandle::respond`].
    #[must_use]
    pub fn key(&self) -> RequestKey {
        RequestKey { opaque: self.opaque, serialize_type: self.serialize_type, oneway: self.is_oneway() }
    }
}

/// A client that is asked nothing, or whose answers to a server are all "not supported".
pub struct NoHandler;

impl<R: Runtime> Handler<R> for NoHandler {
    async fn handle(&self, _connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        Answer::Now(unsupported(&request))
    }
}

/// The answer to a request code that nobody here knows.
#[must_use]
pub fn unsupported(request: &RemotingCommand) -> RemotingCommand {
    RemotingCommand::response_to(request, crate::remoting::codes::response::REQUEST_CODE_NOT_SUPPORTED)
        .with_remark(format!(" request type {} not supported", request.code))
}

//! Connections, servers and peers as tests over any runtime: on real sockets and on the simulated network.
//!
//! A case is an async function that panics, with what it expected. It gets the runtime that listens, one that connects,
//! and the address at which the second reaches the first.
//!
//! Invariant: no case depends on how long something takes; a wait has a limit only so that a hang ends in a message.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::connection::ConnectionLimits;
use super::peer::Peers;
use super::server::Server;
use super::{RemotingCommand, frame};
use crate::runtime::{ReadHalf, Runtime};

mod answers;
mod bounds;
mod calls;
mod ends;
mod handler;

use handler::TestHandler;

/// Where a case runs.
#[derive(Clone)]
pub struct Place<R> {
    /// Listens.
    pub rt: R,
    /// Connects; on another node in simulation.
    pub peer: R,
    /// The address of `rt`'s node.
    pub ip: IpAddr,
    /// More than what the buffers of one connection hold while the peer does not read.
    pub unread_bytes_max: usize,
}

pub type CaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Case<R: Runtime> {
    pub name: &'static str,
    run: fn(Place<R>) -> CaseFuture,
}

impl<R: Runtime> Case<R> {
    /// # Panics
    /// When the case fails.
    pub fn run(&self, place: Place<R>) -> CaseFuture {
        (self.run)(place)
    }
}

macro_rules! list {
    ($($module:ident: $($case:ident),+ $(,)?;)+) => {
        vec![$($(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            run: |place| Box::pin($module::$case(place)),
        }),+),+]
    };
}

/// All cases.
#[must_use]
pub fn cases<R: Runtime>() -> Vec<Case<R>> {
    list! {
        answers:
            requests_are_handled_in_the_order_of_their_arrival,
            answers_overtake_each_other_and_keep_their_opaque,
            the_first_of_many_answers_do_not_wait_for_the_last,
            an_answer_waits_for_its_position,
            a_failed_position_is_answered_at_once,
            a_position_that_is_not_reached_is_answered_at_its_deadline,
            a_held_request_is_answered_by_a_handle,
            a_one_way_request_is_handled_and_never_answered,
            frames_may_be_cut_anywhere,
            a_large_body_arrives_whole;
        calls:
            callers_share_one_connection,
            both_sides_may_use_one_number,
            a_late_response_is_ignored,
            the_end_of_a_connection_fails_its_calls,
            a_refused_connection_is_a_known_outcome,
            a_silent_connection_is_closed_after_a_timeout,
            calls_after_a_stop_say_so;
        bounds:
            a_peer_that_does_not_read_is_not_read_from,
            a_peer_that_never_reads_is_closed,
            unanswered_requests_are_bounded,
            a_full_class_is_answered_busy,
            a_request_that_waited_too_long_is_not_handled,
            answers_beside_a_connection_do_not_stop_it;
        ends:
            a_stop_answers_what_is_in_flight,
            a_stop_ends_what_takes_too_long,
            an_idle_connection_is_closed,
            bytes_that_are_no_frame_close_the_connection,
            each_connection_is_opened_and_closed_once;
    }
}

/// Far longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough for what is going to happen to have happened, where the test is that it does not.
const QUIET: Duration = Duration::from_millis(100);

async fn within<R: Runtime, F>(rt: &R, what: &str, future: F) -> F::Output
where
    F: Future + Send,
    F::Output: Send,
{
    rt.timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Waits for a condition that another task brings about.
async fn until<R: Runtime>(rt: &R, what: &str, condition: impl Fn() -> bool + Send + Sync) {
    let wait = async {
        while !condition() {
            rt.sleep(Duration::from_millis(1)).await;
        }
    };
    within(rt, what, wait).await;
}

struct Fixture<R: Runtime> {
    handler: Arc<TestHandler<R>>,
    server: Server<R>,
    peers: Peers<R>,
    /// Of the connecting side.
    client: Arc<TestHandler<R>>,
    addr: SocketAddr,
}

async fn fixture<R: Runtime>(place: &Place<R>, limits: ConnectionLimits) -> Fixture<R> {
    let handler = Arc::new(TestHandler::new(place.rt.clone()));
    let at = SocketAddr::new(place.ip, 0);
    let server =
        Server::bind(place.rt.clone(), at, handler.clone(), limits.clone()).await.expect("a free port");
    let client = Arc::new(TestHandler::new(place.peer.clone()));
    let limits = ConnectionLimits { ids: Default::default(), ..limits };
    let peers = Peers::new(place.peer.clone(), client.clone(), limits);
    let addr = server.local_addr();
    Fixture { handler, server, peers, client, addr }
}

/// A client that sees frames and not calls.
struct RawClient<R: Runtime> {
    rt: R,
    read: R::Read,
    write: R::Write,
    input: BytesMut,
}

impl<R: Runtime> RawClient<R> {
    async fn connect(place: &Place<R>, addr: SocketAddr) -> RawClient<R> {
        let (read, write) =
            within(&place.peer, "connect", place.peer.connect(addr)).await.expect("a connection");
        RawClient { rt: place.peer.clone(), read, write, input: BytesMut::new() }
    }

    async fn send(&mut self, commands: &[RemotingCommand]) {
        use crate::runtime::WriteHalf;
        within(&self.rt, "write", self.write.write_all(encode(commands))).await.expect("an open connection");
    }

    /// The next frame, `None` at the end of the stream.
    async fn receive(&mut self) -> Option<RemotingCommand> {
        loop {
            if let Some(command) = frame::decode(&mut self.input).expect("a frame") {
                return Some(command);
            }
            let read = within(&self.rt, "read", self.read.read_buf(&mut self.input)).await;
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    async fn expect(&mut self) -> RemotingCommand {
        self.receive().await.expect("an answer before the end of the stream")
    }

    async fn is_quiet(&mut self) -> bool {
        let rt = self.rt.clone();
        rt.timeout(QUIET, self.receive()).await.is_err()
    }
}

fn encode(commands: &[RemotingCommand]) -> Bytes {
    let mut bytes = BytesMut::new();
    for command in commands {
        frame::encode(command, &mut bytes);
        for chunk in command.body.chunks() {
            bytes.extend_from_slice(chunk);
        }
    }
    bytes.freeze()
}

fn request(code: i32, opaque: i32, body: &str) -> RemotingCommand {
    let mut command = RemotingCommand::request(code).with_body(body.as_bytes().to_vec());
    command.opaque = opaque;
    command
}

fn text(command: &RemotingCommand) -> String {
    String::from_utf8(command.body.to_bytes().to_vec()).expect("text")
}

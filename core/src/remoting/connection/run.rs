//! The loop of one connection.
//!
//! A turn: take what handles queued, release answers whose wait is over, read and handle, write. Then wait for the next
//! of: a handle, a reached position, the timer, room to write, bytes to read. A turn tries everything whatever woke it,
//! so no source starves another.

use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BytesMut};

use super::handle::{Shared, address_response};
use super::limits::Working;
use super::output::Output;
use super::waiting::{Waiting, WaitingAnswer};
use super::{Answer, ConnectionHandle, ConnectionLimits, Handler, InFlightPermit, RequestKey, Response};
use crate::remoting::codes::response;
use crate::remoting::{RemotingCommand, SerializeType, frame};
use crate::runtime::{Mark, Mono, Mutant, ReadHalf, Runtime, WriteHalf};

const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 256 << 10;
/// Read in one turn before the answers are written and other tasks get their turn.
const TURN_BYTES_MAX: usize = 1 << 20;

/// After so many requests their answers are written, if no other connection is at work: a peer that has many in flight then
/// works on the first answers while the others are made. Between busy connections the peers have work enough, and one write
/// for all answers costs least.
const ANSWERS_PER_WRITE: usize = 32;
/// With less than this to handle, all is answered in one write.
const EARLY_WRITE_BYTES_MIN: usize = 8 << 10;

/// To a request for which there is no room now.
const OVERLOAD: &str = "[OVERLOAD]system busy, start flow control for a while";

/// Why a connection ended, for its log line.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer closed it")]
    PeerClosed,
    #[error("{0}")]
    Asked(&'static str),
    #[error("it was idle")]
    Idle,
    #[error("the peer takes no bytes")]
    Stuck,
    #[error("the node stops")]
    Stopped,
    #[error("{0}")]
    Frame(#[from] frame::FrameError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Runs one connection, of either side, to its end.
pub async fn run_connection<R: Runtime, H: Handler<R>>(
    rt: R,
    read: R::Read,
    write: R::Write,
    peer: SocketAddr,
    handler: Arc<H>,
    limits: ConnectionLimits,
) {
    let handle = open_handle(&rt, &read, peer, &limits);
    run_with_handle(rt, read, write, handle, handler, limits).await;
}

/// A handle for a connection that is about to run.
pub(in crate::remoting) fn open_handle<R: Runtime>(
    rt: &R,
    read: &R::Read,
    peer: SocketAddr,
    limits: &ConnectionLimits,
) -> ConnectionHandle {
    ConnectionHandle::new(limits.ids.draw(), peer, read.local_addr(), rt.now(), limits.outbound_bytes_max)
}

pub(in crate::remoting) async fn run_with_handle<R: Runtime, H: Handler<R>>(
    rt: R,
    read: R::Read,
    write: R::Write,
    handle: ConnectionHandle,
    handler: Arc<H>,
    limits: ConnectionLimits,
) {
    let now = rt.now();
    let mut guard =
        OpenGuard { handler: &*handler, handle: &handle, has_ended: false, _runtime: PhantomData::<R> };
    handler.opened(&handle);
    let mut connection = Connection {
        timer: None,
        rt,
        read,
        write,
        handle: handle.clone(),
        handler: handler.clone(),
        limits,
        input: BytesMut::new(),
        read_bytes: READ_BYTES_MIN,
        output: Output::default(),
        waiting: Waiting::new(),
        write_blocked: false,
        is_stalled: false,
        is_draining: false,
        read_at: now,
        now,
        active_at: now,
        progress_at: now,
    };
    let end = connection.run().await;
    match &end {
        End::Frame(_) => {
            connection.rt.mark(Mark::MalformedFrame);
            tracing::warn!(peer = %handle.peer(), reason = %end, "connection closed");
        }
        _ => tracing::debug!(peer = %handle.peer(), reason = %end, "connection closed"),
    }
    drop(connection);
    guard.has_ended = true;
}

/// Ends what was opened, also when a handler panics. When the whole task is dropped, as at the death of a simulated
/// process, no handler runs any more.
struct OpenGuard<'a, R: Runtime, H: Handler<R>> {
    handler: &'a H,
    handle: &'a ConnectionHandle,
    has_ended: bool,
    _runtime: PhantomData<R>,
}

impl<R: Runtime, H: Handler<R>> Drop for OpenGuard<'_, R, H> {
    fn drop(&mut self) {
        self.handle.0.end("the connection has ended");
        if self.has_ended || std::thread::panicking() {
            self.handler.closed(self.handle);
        }
    }
}

struct Timer {
    at: Mono,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct Connection<R: Runtime, H> {
    rt: R,
    read: R::Read,
    write: R::Write,
    handle: ConnectionHandle,
    handler: Arc<H>,
    limits: ConnectionLimits,
    /// Bytes read and not yet decoded.
    input: BytesMut,
    /// What the next read makes room for; follows how much the last ones brought.
    read_bytes: usize,
    output: Output,
    waiting: Waiting,
    write_blocked: bool,
    /// Requests may lie in `input` that back-pressure has kept from being handled.
    is_stalled: bool,
    /// Handle nothing new, answer what is in flight, give the peer all of it, close.
    is_draining: bool,
    /// When the bytes in `input` were read, at the latest.
    read_at: Mono,
    /// When the request that is handled got its turn, or the first of those that were handled in one go with it: the clock
    /// is looked at once for all of them, and after one that had to wait.
    now: Mono,
    active_at: Mono,
    /// Since when the peer has taken nothing of `output`.
    progress_at: Mono,
    timer: Option<Timer>,
}

impl<R: Runtime, H: Handler<R>> Connection<R, H> {
    async fn run(&mut self) -> End {
        loop {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => return self.finish().await,
                Err(end) => return end,
            }
        }
    }

    /// One round of work and the wait for the next; false when everything of an ordered stop is done.
    async fn turn(&mut self) -> Result<bool, End> {
        self.collect()?;
        let more = !self.is_draining && self.read_and_handle().await?;
        self.collect()?;
        self.write_out()?;
        if self.is_draining && self.is_drained() {
            return Ok(false);
        }
        self.check_time()?;
        if more || self.is_stalled && self.has_room() {
            self.rt.yield_now().await;
        } else {
            self.release_buffers();
            self.wait().await?;
        }
        Ok(true)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }

    /// Encodes what handles have queued and what has been waited for.
    fn collect(&mut self) -> Result<(), End> {
        let asked = self.handle.0.take_asked();
        if let Some(why) = asked.close {
            return Err(End::Asked(why));
        }
        self.is_draining |= asked.drain;
        let output = &mut self.output;
        asked.commands.iter().for_each(|command| output.push(command));
        if self.waiting.len() == 0 {
            return Ok(());
        }
        let rt = &self.rt;
        self.waiting.release(rt.now(), |waiting, reached| {
            let WaitingAnswer { key, finish, permit, .. } = waiting;
            let response = finish(reached);
            drop(permit);
            match response {
                Response::Json(answer) => {
                    rt.mark_answer(answer.code);
                    output.push_json(key.opaque, &answer);
                }
                Response::Command(mut response) => {
                    rt.mark_answer(response.code);
                    address_response(&key, &mut response);
                    output.push(&response);
                }
            }
        });
        Ok(())
    }

    /// Whether back-pressure is off: another request may be handled.
    fn has_room(&self) -> bool {
        let (shared, limits) = (self.shared(), &self.limits);
        self.output.remaining() < limits.unsent_bytes_max
            && self.waiting.len() + shared.later() < limits.unanswered_max
            && shared.held() < limits.held_max
    }

    /// Handles the frames there are, reads, handles what came. True when it stopped only to let others run.
    async fn read_and_handle(&mut self) -> Result<bool, End> {
        let one_frame_a_read = self.rt.mutant(Mutant::OneReadOneFrame);
        let mut budget = if self.rt.buggify("remoting: short turn") { 1 } else { TURN_BYTES_MAX };
        if !one_frame_a_read {
            self.handle_frames(usize::MAX).await?;
        }
        let mut frames_max = if one_frame_a_read && !self.input.is_empty() { 1 } else { usize::MAX };
        while self.has_room() {
            let read = match self.read_some() {
                Ok(0) => return Err(End::PeerClosed),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let filled = self.input.len() == self.input.capacity();
            self.handle_frames(std::mem::replace(&mut frames_max, usize::MAX)).await?;
            if !filled {
                // The socket gave less than there was room for: it is empty, another read would only say so.
                return Ok(false);
            }
            budget = budget.saturating_sub(read);
            if budget == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn read_some(&mut self) -> io::Result<usize> {
        // What a peer claims to be about to send reserves nothing; only what it has sent lets the buffer grow.
        let room = self.read_bytes.max(self.input.len().min(READ_BYTES_MAX));
        self.input.reserve(room);
        let room = self.input.capacity() - self.input.len();
        let read = self.read.try_read(&mut self.input)?;
        let now = self.rt.now();
        (self.read_at, self.active_at) = (now, now);
        self.shared().note_read(now);
        self.read_bytes = match read {
            read if read == room => (self.read_bytes * 2).min(READ_BYTES_MAX),
            read if read < self.read_bytes / 4 => (self.read_bytes / 2).max(READ_BYTES_MIN),
            _ => self.read_bytes,
        };
        Ok(read)
    }

    async fn handle_frames(&mut self, count_max: usize) -> Result<(), End> {
        self.is_stalled = false;
        if self.input.is_empty() {
            return Ok(());
        }
        self.now = self.rt.now();
        let working = (self.input.len() >= EARLY_WRITE_BYTES_MIN).then(|| self.limits.at_work.enter());
        for handled in 1..=count_max {
            if !self.has_room() {
                self.is_stalled = !self.input.is_empty();
                break;
            }
            let Some(command) = frame::decode(&mut self.input)? else {
                break;
            };
            if command.is_response() {
                if !self.shared().complete(command) {
                    tracing::debug!(peer = %self.handle.peer(), "a response that nobody waits for");
                }
            } else {
                self.handle_request(command).await;
            }
            if handled.is_multiple_of(ANSWERS_PER_WRITE)
                && working.as_ref().is_some_and(Working::is_alone)
                && !self.write_blocked
            {
                self.write_out()?;
            }
        }
        Ok(())
    }

    async fn handle_request(&mut self, request: RemotingCommand) {
        let key = request.key();
        if let Some(limit_ms) = self.handler.wait_limit_ms(request.code) {
            let waited_ms = self.now.since(self.read_at).as_millis();
            if waited_ms > u128::from(limit_ms) {
                let queued = self.waiting.len() + self.shared().later();
                let remark = format!(
                    "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, \
                     period in queue: {waited_ms}ms, size of queue: {queued}"
                );
                return self.refuse_busy(&request, &key, remark);
            }
        }
        if self.shared().later() >= self.limits.later_max && self.handler.runs_beside(request.code) {
            return self.refuse_busy(&request, &key, OVERLOAD.to_owned());
        }
        let permit = match self.handler.in_flight_limit(request.code).map(|limit| limit.enter()) {
            Some(None) => return self.refuse_busy(&request, &key, OVERLOAD.to_owned()),
            Some(permit) => permit,
            None => None,
        };
        let mut polls = 0;
        let answer = {
            let mut handling = pin!(self.handler.handle(&self.handle, request));
            poll_fn(|context| {
                polls += 1;
                handling.as_mut().poll(context)
            })
            .await
        };
        if polls > 1 {
            self.now = self.rt.now();
        }
        self.take_answer(key, answer, permit);
    }

    fn refuse_busy(&mut self, request: &RemotingCommand, key: &RequestKey, remark: String) {
        self.send(key, RemotingCommand::response_to(request, response::SYSTEM_BUSY).with_remark(remark));
    }

    fn send(&mut self, key: &RequestKey, mut response: RemotingCommand) {
        if !key.oneway {
            self.rt.mark_answer(response.code);
            address_response(key, &mut response);
            self.output.push(&response);
        }
    }

    fn take_answer(&mut self, key: RequestKey, answer: Answer, permit: Option<InFlightPermit>) {
        match answer {
            Answer::Now(response) => self.send(&key, response),
            Answer::NowJson(answer) => {
                debug_assert_eq!(key.serialize_type, SerializeType::Json, "the request came in JSON");
                if !key.oneway {
                    self.rt.mark_answer(answer.code);
                    self.output.push_json(key.opaque, &answer);
                }
            }
            Answer::Never => {}
            // Nobody hears the end of a one-way request, so nothing is kept for it.
            Answer::WhenReached { .. } if key.oneway => {}
            Answer::WhenReached { mark, position, deadline, finish } => {
                self.waiting.push(mark, WaitingAnswer { key, position, deadline, finish, permit });
            }
            Answer::Later(future) => {
                let handle = self.handle.clone();
                handle.0.begin_later();
                let rt = self.rt.clone();
                self.rt.spawn("remoting: late answer", async move {
                    let later = LaterGuard(handle);
                    let response = future.await;
                    drop(permit);
                    if !key.oneway {
                        rt.mark_answer(response.code);
                        later.0.0.hold();
                        // A closed connection has nobody to answer.
                        let _ = later.0.respond(&key, response);
                    }
                });
            }
            Answer::Held if key.oneway => {}
            Answer::Held => self.shared().hold(),
        }
    }

    /// Gives the system what it takes.
    fn write_out(&mut self) -> Result<(), End> {
        while self.output.has_remaining() {
            match self.write.try_write(&mut self.output) {
                Ok(_) => {
                    self.write_blocked = false;
                    self.active_at = self.rt.now();
                    self.progress_at = self.active_at;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.write_blocked {
                        self.progress_at = self.rt.now();
                    }
                    self.write_blocked = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !self.output.has_remaining() {
            self.write_blocked = false;
        }
        self.shared().note_unsent(self.output.remaining());
        Ok(())
    }

    /// Everything handled is answered and given to the system.
    fn is_drained(&self) -> bool {
        self.waiting.len() == 0 && self.shared().later() == 0 && !self.output.has_remaining()
    }

    fn release_buffers(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.output.release();
    }

    fn next_deadline(&self) -> Mono {
        let stuck = match self.write_blocked {
            true => self.progress_at.after(self.limits.stuck),
            false => Mono::NEVER,
        };
        self.waiting.next_deadline().min(stuck).min(self.active_at.after(self.limits.idle))
    }

    fn check_time(&self) -> Result<(), End> {
        let now = self.rt.now();
        if self.write_blocked && now >= self.progress_at.after(self.limits.stuck) {
            return Err(End::Stuck);
        }
        if now >= self.active_at.after(self.limits.idle) {
            return Err(End::Idle);
        }
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), End> {
        // The timer is set anew only for an earlier moment; one that fires early costs a turn and nothing else.
        let deadline = self.next_deadline();
        if self.timer.as_ref().is_none_or(|timer| deadline < timer.at) {
            self.timer = Some(Timer { at: deadline, sleep: Box::pin(self.rt.sleep_until(deadline)) });
        }
        let (may_read, may_write) = (!self.is_draining && self.has_room(), self.write_blocked);
        let Connection { read, write, handle, waiting, timer, .. } = self;
        let fired = poll_fn(|context| match &mut *timer {
            Some(timer) => timer.sleep.as_mut().poll(context),
            None => Poll::Pending,
        });
        crate::select! {
            () = handle.0.notified() => {}
            () = poll_fn(|context| waiting.poll(context)) => {}
            () = fired => self.timer = None,
            room = write.writable(), if may_write => room?,
            bytes = read.readable(), if may_read => bytes?,
        }
        Ok(())
    }

    /// The end of an ordered stop. A socket that is closed with bytes unread resets the connection, and a reset takes
    /// our last answers with it; so the end of stream is sent first and what still comes is thrown away until the peer
    /// has seen it.
    async fn finish(&mut self) -> End {
        if self.write.shutdown().await.is_err() {
            return End::Stopped;
        }
        let give_up = self.rt.sleep(std::time::Duration::from_secs(1));
        let mut give_up = pin!(give_up);
        loop {
            self.input.clear();
            crate::select! {
                () = &mut give_up => return End::Stopped,
                () = self.handle.0.close_asked() => return End::Stopped,
                read = self.read.read_buf(&mut self.input) => match read {
                    Ok(0) | Err(_) => return End::Stopped,
                    Ok(_) => {}
                },
            }
        }
    }
}

/// Counts an answer beside the connection until it ends, also by a panic.
struct LaterGuard(ConnectionHandle);

impl Drop for LaterGuard {
    fn drop(&mut self) {
        self.0.0.end_later();
    }
}

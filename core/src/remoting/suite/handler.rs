//! A handler whose request codes are the ways to answer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::remoting::RemotingCommand;
use crate::remoting::connection::{Answer, ConnectionHandle, Handler, InFlightLimit, Reached, RequestKey};
use crate::runtime::Runtime;
use crate::runtime::sync::Watermark;

/// Answered at once with its body.
pub(super) const ECHO: i32 = 901;
/// Answered when `mark` reaches the number in its body.
pub(super) const POSITION: i32 = 902;
/// Answered beside the connection, when `mark` reaches the number in its body.
pub(super) const LATER: i32 = 903;
/// Held until the test answers it.
pub(super) const HELD: i32 = 904;
/// Answered with as many bytes as its body says.
pub(super) const LARGE: i32 = 905;
/// The connection waits for `mark` to reach the number in the body, and all behind it waits too.
pub(super) const BLOCKING: i32 = 906;
/// Answered with what the sender answers to an ECHO of ours.
pub(super) const CALL_BACK: i32 = 907;
/// Answered when the position is reached, or after a tenth of a second.
pub(super) const POSITION_SOON: i32 = 908;
/// Counts against `class` and is answered as POSITION.
pub(super) const LIMITED: i32 = 909;
/// As ECHO, if it has not waited.
pub(super) const HURRIED: i32 = 910;

pub(super) struct TestHandler<R> {
    rt: R,
    pub(super) mark: Watermark,
    pub(super) class: InFlightLimit,
    pub(super) opened: AtomicUsize,
    pub(super) closed: AtomicUsize,
    /// Bodies in the order in which they were handled.
    pub(super) seen: Mutex<Vec<String>>,
    held: Mutex<VecDeque<(ConnectionHandle, RequestKey)>>,
}

impl<R: Runtime> TestHandler<R> {
    pub(super) fn new(rt: R) -> TestHandler<R> {
        TestHandler {
            rt,
            mark: Watermark::new(0),
            class: InFlightLimit::new(1),
            opened: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            seen: Mutex::default(),
            held: Mutex::default(),
        }
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        (self.opened.load(Ordering::SeqCst), self.closed.load(Ordering::SeqCst))
    }

    pub(super) fn take_held(&self) -> Option<(ConnectionHandle, RequestKey)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn when_reached(&self, request: &RemotingCommand, position: u64, patience: Duration) -> Answer {
        let body = request.body.to_bytes();
        let response = RemotingCommand::response_to(request, 0).with_body(body);
        Answer::WhenReached {
            mark: self.mark.clone(),
            position,
            deadline: self.rt.now().after(patience),
            finish: Box::new(move |reached| match reached {
                Reached::Yes => response.into(),
                Reached::Failed => response.with_remark("failed").into(),
                Reached::TimedOut => response.with_remark("timed out").into(),
            }),
        }
    }
}

impl<R: Runtime> Handler<R> for TestHandler<R> {
    fn opened(&self, _connection: &ConnectionHandle) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn closed(&self, _connection: &ConnectionHandle) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }

    fn wait_limit_ms(&self, code: i32) -> Option<u64> {
        (code == HURRIED).then_some(10)
    }

    fn in_flight_limit(&self, code: i32) -> Option<&InFlightLimit> {
        (code == LIMITED).then_some(&self.class)
    }

    fn runs_beside(&self, code: i32) -> bool {
        matches!(code, LATER | CALL_BACK)
    }

    async fn handle(&self, connection: &ConnectionHandle, request: RemotingCommand) -> Answer {
        let body = super::text(&request);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(body.clone());
        let number: u64 = body.parse().unwrap_or(0);
        let echo = RemotingCommand::response_to(&request, 0).with_body(request.body.clone());
        match request.code {
            ECHO | HURRIED => Answer::Now(echo),
            POSITION | LIMITED => self.when_reached(&request, number, Duration::from_secs(3600)),
            POSITION_SOON => self.when_reached(&request, number, Duration::from_millis(100)),
            LATER => {
                let mark = self.mark.clone();
                Answer::Later(Box::pin(async move {
                    let _ = mark.reached(number).await;
                    echo
                }))
            }
            HELD => {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                held.push_back((connection.clone(), request.key()));
                Answer::Held
            }
            LARGE => Answer::Now(
                RemotingCommand::response_to(&request, 0)
                    .with_body(vec![b'x'; usize::try_from(number).unwrap_or(0)]),
            ),
            BLOCKING => {
                let _ = self.mark.reached(number).await;
                Answer::Now(echo)
            }
            CALL_BACK => {
                let call = connection.call(RemotingCommand::request(ECHO).with_body(request.body.clone()));
                Answer::Later(Box::pin(async move {
                    let answer = call.expect("an open connection").await.expect("an answer");
                    RemotingCommand::response_to(&request, 0).with_body(answer.body)
                }))
            }
            other => panic!("the test sends no code {other}"),
        }
    }
}

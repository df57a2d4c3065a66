//! What a peer cannot make a node do.

use super::handler::{BLOCKING, CALL_BACK, ECHO, HURRIED, LARGE, LATER, LIMITED, POSITION};
use super::*;
use crate::remoting::codes::response;
use crate::runtime::WriteHalf;

const ANSWER_BYTES: usize = 1 << 20;

pub(super) async fn a_peer_that_does_not_read_is_not_read_from<R: Runtime>(place: Place<R>) {
    let limits = ConnectionLimits { unsent_bytes_max: 2 << 20, ..ConnectionLimits::default() };
    let bound = (limits.unsent_bytes_max + place.unread_bytes_max) / ANSWER_BYTES + 2;
    let fixture = fixture(&place, limits).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let count = bound + 50;
    let requests: Vec<RemotingCommand> =
        (0..count).map(|opaque| request(LARGE, opaque as i32, &ANSWER_BYTES.to_string())).collect();
    client.send(&requests).await;
    place.rt.sleep(QUIET).await;
    let handled = fixture.handler.seen().len();
    assert!(handled <= bound, "{handled} requests handled, {bound} may be");
    for opaque in 0..count {
        let answer = client.expect().await;
        assert_eq!((answer.opaque, answer.body.len()), (opaque as i32, ANSWER_BYTES));
    }
}

pub(super) async fn a_peer_that_never_reads_is_closed<R: Runtime>(place: Place<R>) {
    let limits = ConnectionLimits { stuck: QUIET, ..ConnectionLimits::default() };
    let count = place.unread_bytes_max / ANSWER_BYTES + 10;
    let fixture = fixture(&place, limits).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let requests: Vec<RemotingCommand> =
        (0..count).map(|opaque| request(LARGE, opaque as i32, &ANSWER_BYTES.to_string())).collect();
    // The rest of the requests may meet the closed connection.
    let _ = within(&place.peer, "write", client.write.write_all(encode(&requests))).await;
    until(&place.rt, "the end", || fixture.handler.counts() == (1, 1)).await;
}

pub(super) async fn unanswered_requests_are_bounded<R: Runtime>(place: Place<R>) {
    let fixture =
        fixture(&place, ConnectionLimits { unanswered_max: 8, ..ConnectionLimits::default() }).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let requests: Vec<RemotingCommand> =
        (1..=40).map(|opaque| request(POSITION, opaque, &opaque.to_string())).collect();
    client.send(&requests).await;
    assert!(client.is_quiet().await);
    assert_eq!(fixture.handler.seen().len(), 8);
    fixture.handler.mark.advance(3);
    until(&place.rt, "three more", || fixture.handler.seen().len() == 11).await;
    fixture.handler.mark.advance(40);
    for opaque in 1..=40 {
        assert_eq!(client.expect().await.opaque, opaque);
    }
}

pub(super) async fn a_full_class_is_answered_busy<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    client.send(&[request(LIMITED, 1, "10"), request(LIMITED, 2, "20"), request(ECHO, 3, "")]).await;
    let busy = client.expect().await;
    assert_eq!((busy.opaque, busy.code), (2, response::SYSTEM_BUSY));
    let remark = busy.remark.unwrap_or_default();
    assert_eq!(remark, "[OVERLOAD]system busy, start flow control for a while");
    assert_eq!(client.expect().await.opaque, 3);
    fixture.handler.mark.advance(10);
    assert_eq!(client.expect().await.opaque, 1);
    until(&place.rt, "a free place", || fixture.handler.class.in_flight() == 0).await;
    client.send(&[request(LIMITED, 4, "10")]).await;
    assert_eq!(client.expect().await.code, response::SUCCESS);
}

pub(super) async fn a_request_that_waited_too_long_is_not_handled<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    client.send(&[request(BLOCKING, 1, "5"), request(HURRIED, 2, "x"), request(ECHO, 3, "y")]).await;
    until(&place.rt, "the first request", || fixture.handler.seen().len() == 1).await;
    place.rt.sleep(QUIET).await;
    fixture.handler.mark.advance(5);
    assert_eq!(client.expect().await.opaque, 1);
    let late = client.expect().await;
    assert_eq!((late.opaque, late.code), (2, response::SYSTEM_BUSY));
    let remark = late.remark.unwrap_or_default();
    assert!(
        remark.starts_with(
            "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: "
        ),
        "{remark}"
    );
    assert_eq!(client.expect().await.opaque, 3);
    assert_eq!(fixture.handler.seen(), ["5", "y"]);
}

/// Each of the answers waits for a response of the peer: over the bound they are refused, and the responses are still read.
pub(super) async fn answers_beside_a_connection_do_not_stop_it<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits { later_max: 4, ..ConnectionLimits::default() }).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let waiting: Vec<RemotingCommand> = (1..=4).map(|opaque| request(CALL_BACK, opaque, "x")).collect();
    client.send(&waiting).await;
    let mut asked = Vec::new();
    while asked.len() < 4 {
        let call = client.expect().await;
        assert_eq!((call.code, call.is_response()), (ECHO, false));
        asked.push(call);
    }
    client.send(&[request(LATER, 5, "9"), request(ECHO, 6, "y")]).await;
    let busy = client.expect().await;
    assert_eq!((busy.opaque, busy.code), (5, response::SYSTEM_BUSY));
    assert_eq!(client.expect().await.opaque, 6);
    let responses: Vec<RemotingCommand> = asked
        .iter()
        .map(|call| {
            RemotingCommand::response_to(call, response::SUCCESS).with_body("answered".as_bytes().to_vec())
        })
        .collect();
    client.send(&responses).await;
    let mut answered = Vec::new();
    for _ in 1..=4 {
        let answer = client.expect().await;
        assert_eq!(text(&answer), "answered");
        answered.push(answer.opaque);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4]);
}

//! How requests are answered.

use super::handler::{BLOCKING, ECHO, HELD, LARGE, LATER, POSITION, POSITION_SOON};
use super::*;
use crate::remoting::{FLAG_ONEWAY, SerializeType};
use crate::runtime::WriteHalf;

pub(super) async fn requests_are_handled_in_the_order_of_their_arrival<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let requests: Vec<RemotingCommand> =
        (0..500).map(|opaque| request(ECHO, opaque, &opaque.to_string())).collect();
    client.send(&requests).await;
    for opaque in 0..500 {
        let answer = client.expect().await;
        assert_eq!((answer.opaque, text(&answer)), (opaque, opaque.to_string()));
    }
    let expected: Vec<String> = (0..500).map(|opaque| opaque.to_string()).collect();
    assert_eq!(fixture.handler.seen(), expected);
}

pub(super) async fn answers_overtake_each_other_and_keep_their_opaque<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let mut binary = request(ECHO, 44, "d");
    binary.serialize_type = SerializeType::RocketMq;
    client.send(&[request(POSITION, 11, "5"), request(LATER, 22, "9"), request(HELD, 33, "c"), binary]).await;
    let first = client.expect().await;
    assert_eq!((first.opaque, first.serialize_type), (44, SerializeType::RocketMq));
    assert!(first.is_response());
    fixture.handler.mark.advance(9);
    let mut next = [client.expect().await.opaque, client.expect().await.opaque];
    next.sort_unstable();
    assert_eq!(next, [11, 22]);
    let (handle, key) = fixture.handler.take_held().expect("a held request");
    let answer = RemotingCommand::request(0).with_body(b"held".to_vec());
    handle.respond(&key, answer).expect("an open connection");
    let last = client.expect().await;
    assert_eq!((last.opaque, last.serialize_type, text(&last)), (33, SerializeType::Json, "held".to_owned()));
}

pub(super) async fn an_answer_waits_for_its_position<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    client.send(&[request(POSITION, 1, "10"), request(POSITION, 2, "20")]).await;
    fixture.handler.mark.advance(9);
    assert!(client.is_quiet().await);
    fixture.handler.mark.advance(10);
    assert_eq!(client.expect().await.opaque, 1);
    assert!(client.is_quiet().await);
    fixture.handler.mark.advance(25);
    assert_eq!(client.expect().await.opaque, 2);
}

pub(super) async fn a_failed_position_is_answered_at_once<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    client.send(&[request(POSITION, 1, "10"), request(POSITION, 2, "20")]).await;
    until(&place.rt, "two requests", || fixture.handler.seen().len() == 2).await;
    fixture.handler.mark.advance(10);
    fixture.handler.mark.fail();
    let (first, second) = (client.expect().await, client.expect().await);
    assert_eq!((first.opaque, first.remark), (1, None));
    assert_eq!((second.opaque, second.remark.as_deref()), (2, Some("failed")));
}

pub(super) async fn a_position_that_is_not_reached_is_answered_at_its_deadline<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let started = place.peer.now();
    client.send(&[request(POSITION, 1, "10"), request(POSITION_SOON, 2, "20")]).await;
    let answer = client.expect().await;
    assert_eq!((answer.opaque, answer.remark.as_deref()), (2, Some("timed out")));
    assert!(place.peer.now().since(started) >= Duration::from_millis(99));
    fixture.handler.mark.advance(10);
    assert_eq!(client.expect().await.opaque, 1);
}

pub(super) async fn a_held_request_is_answered_by_a_handle<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits { held_max: 1, ..ConnectionLimits::default() }).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    client.send(&[request(HELD, 1, "a"), request(HELD, 2, "b")]).await;
    for opaque in [1, 2] {
        until(&place.rt, "a held request", || fixture.handler.seen().len() == opaque).await;
        let (handle, key) = fixture.handler.take_held().expect("one at a time");
        assert!(fixture.handler.take_held().is_none());
        handle.respond(&key, RemotingCommand::request(7)).expect("an open connection");
        let answer = client.expect().await;
        assert_eq!((answer.opaque, answer.code), (opaque as i32, 7));
    }
}

pub(super) async fn a_one_way_request_is_handled_and_never_answered<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let oneway = [ECHO, POSITION, LATER, HELD].map(|code| {
        let mut command = request(code, code, "0");
        command.flag |= FLAG_ONEWAY;
        command
    });
    client.send(&oneway).await;
    client.send(&[request(ECHO, 1, "end")]).await;
    assert_eq!(client.expect().await.opaque, 1);
    let (handle, key) = fixture.handler.take_held().expect("a held request");
    handle.respond(&key, RemotingCommand::request(0)).expect("nothing to send");
    assert!(client.is_quiet().await);
    assert_eq!(fixture.handler.seen().len(), 5);
}

pub(super) async fn frames_may_be_cut_anywhere<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let bytes = encode(&[request(ECHO, 1, "a"), request(LARGE, 2, "3"), request(ECHO, 3, "")]);
    let mut client = RawClient::connect(&place, fixture.addr).await;
    for cut in 1..bytes.len() {
        for part in [bytes.slice(..cut), bytes.slice(cut..)] {
            within(&place.peer, "write", client.write.write_all(part)).await.expect("an open connection");
            place.peer.yield_now().await;
        }
        for opaque in 1..=3 {
            assert_eq!(client.expect().await.opaque, opaque, "cut at {cut}");
        }
    }
    for byte in 0..bytes.len() {
        client.write.write_all(bytes.slice(byte..=byte)).await.expect("an open connection");
        place.peer.yield_now().await;
    }
    for opaque in 1..=3 {
        assert_eq!(client.expect().await.opaque, opaque, "byte by byte");
    }
}

pub(super) async fn a_large_body_arrives_whole<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let body: String = (0..3_000_000).map(|byte| char::from(b'a' + (byte % 26) as u8)).collect();
    let command = RemotingCommand::request(ECHO).with_body(body.clone().into_bytes());
    let addr = fixture.addr.to_string();
    let answer = fixture.peers.call(&addr, command, LIMIT).await.expect("an answer");
    assert!(text(&answer) == body, "the body came back changed");
}

/// Sent in one go, so that one turn of the connection has them all.
pub(super) async fn the_first_of_many_answers_do_not_wait_for_the_last<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let mut requests: Vec<_> = (0..400).map(|opaque| request(ECHO, opaque, "many")).collect();
    requests.push(request(BLOCKING, 400, "1"));
    client.send(&requests).await;
    for opaque in 0..32 {
        assert_eq!(client.expect().await.opaque, opaque);
    }
    fixture.handler.mark.advance(1);
    for opaque in 32..=400 {
        assert_eq!(client.expect().await.opaque, opaque);
    }
}

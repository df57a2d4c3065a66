//! How connections end.

use super::handler::{ECHO, LATER, POSITION};
use super::*;
use crate::runtime::{Task, WriteHalf};

pub(super) async fn a_stop_answers_what_is_in_flight<R: Runtime>(place: Place<R>) {
    let Fixture { handler, server, addr, .. } = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, addr).await;
    client.send(&[request(POSITION, 1, "10"), request(LATER, 2, "20")]).await;
    until(&place.rt, "two requests", || handler.seen().len() == 2).await;
    let stopping = place.rt.spawn("stop", server.stop(LIMIT));
    assert!(client.is_quiet().await);
    // Comes too late: it is neither handled nor keeps the answers from arriving.
    client.send(&[request(ECHO, 3, "late")]).await;
    handler.mark.advance(10);
    assert_eq!(client.expect().await.opaque, 1);
    assert!(!stopping.is_finished());
    handler.mark.advance(20);
    assert_eq!(client.expect().await.opaque, 2);
    assert!(client.receive().await.is_none());
    drop(client);
    within(&place.rt, "the stop", stopping.join()).await.expect("no cancelled task");
    assert_eq!((handler.seen().len(), handler.counts()), (2, (1, 1)));
    let refused = within(&place.peer, "connect", place.peer.connect(addr)).await;
    assert!(refused.is_err(), "the port is still open");
}

pub(super) async fn a_stop_ends_what_takes_too_long<R: Runtime>(place: Place<R>) {
    let Fixture { handler, server, addr, .. } = fixture(&place, ConnectionLimits::default()).await;
    let mut client = RawClient::connect(&place, addr).await;
    client.send(&[request(POSITION, 1, "10")]).await;
    until(&place.rt, "a request", || handler.seen().len() == 1).await;
    within(&place.rt, "the stop", server.stop(QUIET)).await;
    assert_eq!(handler.counts(), (1, 1));
    assert!(client.receive().await.is_none());
}

pub(super) async fn an_idle_connection_is_closed<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits { idle: QUIET, ..ConnectionLimits::default() }).await;
    let mut client = RawClient::connect(&place, fixture.addr).await;
    let started = place.peer.now();
    client.send(&[request(ECHO, 1, "")]).await;
    assert_eq!(client.expect().await.opaque, 1);
    assert!(client.receive().await.is_none());
    assert!(place.peer.now().since(started) >= QUIET);
    until(&place.rt, "the end", || fixture.handler.counts() == (1, 1)).await;
}

pub(super) async fn bytes_that_are_no_frame_close_the_connection<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let wrong: [&'static [u8]; 3] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0xFF; 16], &[0, 0, 0, 8, 7, 0, 0, 4, 1, 2, 3, 4]];
    for (index, bytes) in wrong.into_iter().enumerate() {
        let mut client = RawClient::connect(&place, fixture.addr).await;
        client.write.write_all(Bytes::from_static(bytes)).await.expect("an open connection");
        assert!(client.receive().await.is_none(), "case {index}");
        until(&place.rt, "the end", || fixture.handler.counts() == (index + 1, index + 1)).await;
    }
    let mut client = RawClient::connect(&place, fixture.addr).await;
    client.send(&[request(ECHO, 1, "")]).await;
    assert_eq!(client.expect().await.opaque, 1);
}

pub(super) async fn each_connection_is_opened_and_closed_once<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    for round in 1..=10 {
        let mut client = RawClient::connect(&place, fixture.addr).await;
        if round % 2 == 0 {
            client.send(&[request(ECHO, 1, "")]).await;
            client.expect().await;
        }
        drop(client);
        until(&place.rt, "the end", || fixture.handler.counts() == (round, round)).await;
    }
    assert_eq!(fixture.server.connection_count(), 0);
}

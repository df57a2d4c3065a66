//! Our side as a caller.

use super::handler::{CALL_BACK, ECHO, HELD};
use super::*;
use crate::remoting::connection::CallError;

pub(super) async fn callers_share_one_connection<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let (peers, addr) = (fixture.peers.clone(), fixture.addr.to_string());
            place.peer.spawn("caller", async move {
                let answer = peers.call(&addr, request(ECHO, 0, &number.to_string()), LIMIT).await;
                assert_eq!(text(&answer.expect("an answer")), number.to_string());
            })
        })
        .collect();
    for call in calls {
        use crate::runtime::Task;
        within(&place.peer, "a call", call.join()).await.expect("no cancelled task");
    }
    assert_eq!(fixture.handler.counts(), (1, 0));
}

pub(super) async fn both_sides_may_use_one_number<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let addr = fixture.addr.to_string();
    for round in 0..5 {
        let body = format!("round {round}");
        let answer = fixture.peers.call(&addr, request(CALL_BACK, 0, &body), LIMIT).await;
        assert_eq!(text(&answer.expect("an answer")), body);
    }
    assert_eq!(fixture.client.seen().len(), 5);
}

pub(super) async fn a_late_response_is_ignored<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let addr = fixture.addr.to_string();
    // A second caller keeps the connection from looking dead.
    fixture.peers.call(&addr, request(ECHO, 0, ""), LIMIT).await.expect("an answer");
    let busy = (fixture.peers.clone(), addr.clone(), place.peer.clone());
    let keeping = place.peer.spawn("caller", async move {
        for _ in 0..20 {
            let _ = busy.0.call(&busy.1, request(ECHO, 0, ""), LIMIT).await;
            busy.2.sleep(Duration::from_millis(10)).await;
        }
    });
    let error = fixture.peers.call(&addr, request(HELD, 0, ""), QUIET).await.expect_err("nobody answers");
    assert!(matches!(error, CallError::Timeout { sent: true, .. }), "{error}");
    assert!(error.outcome_unknown());
    let (handle, key) = fixture.handler.take_held().expect("a held request");
    handle.respond(&key, RemotingCommand::request(0)).expect("an open connection");
    let answer = fixture.peers.call(&addr, request(ECHO, 0, "x"), LIMIT).await.expect("an answer");
    assert_eq!(text(&answer), "x");
    use crate::runtime::Task;
    within(&place.peer, "the other caller", keeping.join()).await.expect("no cancelled task");
    assert_eq!(fixture.handler.counts(), (1, 0));
}

pub(super) async fn the_end_of_a_connection_fails_its_calls<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let addr = fixture.addr.to_string();
    let (peers, to) = (fixture.peers.clone(), addr.clone());
    let call = place.peer.spawn("caller", async move { peers.call(&to, request(HELD, 0, ""), LIMIT).await });
    until(&place.rt, "a held request", || !fixture.handler.seen().is_empty()).await;
    let (handle, _) = fixture.handler.take_held().expect("a held request");
    handle.close("the test ends it");
    use crate::runtime::Task;
    let result = within(&place.peer, "the call", call.join()).await.expect("no cancelled task");
    let error = result.expect_err("no answer");
    assert!(matches!(error, CallError::Closed { sent: true, .. }), "{error}");
    let answer = fixture.peers.call(&addr, request(ECHO, 0, "again"), LIMIT).await.expect("an answer");
    assert_eq!(text(&answer), "again");
    assert_eq!(fixture.handler.opened.load(std::sync::atomic::Ordering::SeqCst), 2);
}

pub(super) async fn a_refused_connection_is_a_known_outcome<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let addr = fixture.addr.to_string();
    fixture.server.stop(QUIET).await;
    let error = fixture.peers.call(&addr, request(ECHO, 0, ""), LIMIT).await.expect_err("nobody listens");
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
    assert!(!error.outcome_unknown());
    let error = fixture.peers.call("nonsense", request(ECHO, 0, ""), LIMIT).await.expect_err("no port");
    assert!(matches!(error, CallError::Unresolved { .. }), "{error}");
}

pub(super) async fn a_silent_connection_is_closed_after_a_timeout<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let addr = fixture.addr.to_string();
    let error = fixture.peers.call(&addr, request(HELD, 0, ""), QUIET).await.expect_err("nobody answers");
    assert!(error.outcome_unknown(), "{error}");
    until(&place.rt, "the end", || fixture.handler.counts() == (1, 1)).await;
    let answer = fixture.peers.call(&addr, request(ECHO, 0, "x"), LIMIT).await.expect("an answer");
    assert_eq!(text(&answer), "x");
}

pub(super) async fn calls_after_a_stop_say_so<R: Runtime>(place: Place<R>) {
    let fixture = fixture(&place, ConnectionLimits::default()).await;
    let addr = fixture.addr.to_string();
    fixture.peers.call(&addr, request(ECHO, 0, ""), LIMIT).await.expect("an answer");
    fixture.peers.stop().await;
    let error = fixture.peers.call(&addr, request(ECHO, 0, ""), LIMIT).await.expect_err("stopped");
    assert!(matches!(error, CallError::Stopped), "{error}");
    until(&place.rt, "the end", || fixture.handler.counts() == (1, 1)).await;
}

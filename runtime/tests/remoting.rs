//! core's connections on real sockets.

use std::net::{IpAddr, Ipv4Addr};

use hotfire_core::remoting::suite::{Place, cases};
use hotfire_runtime::TokioRuntime;

#[test]
fn connections_keep_their_promises_on_sockets() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tokio = tokio.expect("a runtime");
    let mut failed = Vec::new();
    for case in cases::<TokioRuntime>() {
        let rt = TokioRuntime::new(std::env::temp_dir());
        let place =
            Place { peer: rt.clone(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST), unread_bytes_max: 64 << 20, rt };
        if tokio.block_on(tokio.spawn(case.run(place))).is_err() {
            failed.push(case.name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

//! The contract of core's Runtime, on the simulator: the suite that the real runtime passes, under several seeds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use hotfire_core::runtime::conformance::{Env, cases};
use hotfire_sim::{Limits, SimRuntime, World, run_seed};

const SEEDS: u64 = 5;

/// Runs case number `index` on one node, with another as its peer.
async fn run_case(world: World, index: usize) {
    let (a, b) = (world.add_node("a", [10, 0, 0, 1]), world.add_node("b", [10, 0, 0, 2]));
    world.disk(a).set_capacity(1 << 30);
    world.boot(b, |_rt: SimRuntime| std::future::pending::<()>());
    let peer = world.runtime(b).expect("b runs");
    let (done, finished) = tokio::sync::oneshot::channel();
    let done = Arc::new(Mutex::new(Some(done)));
    world.boot(a, move |rt: SimRuntime| {
        let env = Env {
            peer: peer.clone(),
            ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            foreign_ip: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
            known_host: ("b".to_owned(), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))),
            unknown_host: Some("nobody".to_owned()),
            unread_bytes_max: 1 << 20,
            disk_is_bounded: true,
            dir: "case".to_owned(),
        };
        let case = cases::<SimRuntime>().swap_remove(index).run(rt, env);
        let done = done.clone();
        async move {
            case.await;
            let done = done.lock().expect("unpoisoned").take().expect("runs once");
            done.send(()).expect("somebody waits");
        }
    });
    finished.await.expect("the case ends");
}

#[test]
fn the_contract_holds_under_every_seed() {
    let mut broken = Vec::new();
    for (index, case) in cases::<SimRuntime>().iter().enumerate() {
        for seed in 0..SEEDS {
            let result = run_seed(seed, Limits::default(), move |world| run_case(world, index));
            if !matches!(result.outcome, hotfire_sim::Outcome::Finished(())) {
                broken.push(format!("{} under seed {seed}: {:?}", case.name, result.outcome));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

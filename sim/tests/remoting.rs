//! core's connections on the simulated network, under several seeds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use hotfire_core::remoting::suite::{Place, cases};
use hotfire_sim::{Limits, Outcome, SimRuntime, World, run_seed};

const SEEDS: u64 = 5;

async fn run_case(world: World, index: usize) {
    let (a, b) = (world.add_node("a", [10, 0, 0, 1]), world.add_node("b", [10, 0, 0, 2]));
    world.boot(b, |_rt: SimRuntime| std::future::pending::<()>());
    let peer = world.runtime(b).expect("b runs");
    let (done, finished) = tokio::sync::oneshot::channel();
    let done = Arc::new(Mutex::new(Some(done)));
    world.boot(a, move |rt: SimRuntime| {
        let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let place = Place { rt, peer: peer.clone(), ip, unread_bytes_max: 1 << 20 };
        let case = cases::<SimRuntime>().swap_remove(index).run(place);
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
fn connections_keep_their_promises_under_every_seed() {
    let mut broken = Vec::new();
    for (index, case) in cases::<SimRuntime>().iter().enumerate() {
        for seed in 0..SEEDS {
            let result = run_seed(seed, Limits::default(), move |world| run_case(world, index));
            if !matches!(result.outcome, Outcome::Finished(())) {
                broken.push(format!("{} under seed {seed}: {:?}", case.name, result.outcome));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

//! A seed replays; these run before any other simulation, since without them no seed means anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use hotfire_core::runtime::network::Network;
use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{
    Allocation, Backing, File, Listener, ReadHalf, Runtime, SegmentReader, SegmentWriter, WriteHalf,
};
use hotfire_sim::{Limits, NodeId, Outcome, RunResult, SimRuntime, World, run_seed};

const PORT: u16 = 9876;

/// Appends what it reads to a segment, flushes, echoes.
async fn server(rt: SimRuntime) {
    rt.create_dir_all("log").await.expect("creates the folder");
    if let Ok(file) = rt.create_file("log/0").await {
        file.set_len(1 << 20, Allocation::Reserve).await.expect("reserves");
    }
    let Ok(mut writer) = rt.open_segment("log/0", 0, Backing::Mapped).await else { return };
    let mut listener = rt.listen(SocketAddr::from(([0, 0, 0, 0], PORT))).await.expect("listens");
    loop {
        let Ok((mut read, mut write, _)) = listener.accept().await else { return };
        let mut buf = BytesMut::with_capacity(4_096);
        while let Ok(1..) = read.read_buf(&mut buf).await {
            let len = buf.len();
            if writer.append(len, |space| space.copy_from_slice(&buf)).is_none() {
                return;
            }
            let at = writer.written();
            if writer.reader().flush(at - len..at).await.is_err()
                || write.write_all(buf.split()).await.is_err()
            {
                break;
            }
            rt.probe("echoed", at as u64, len as u64);
        }
    }
}

async fn client(rt: SimRuntime, server: &'static str) {
    loop {
        rt.sleep(Duration::from_millis(rt.random_u64() % 300)).await;
        let Ok(Ok(addresses)) = rt.timeout(Duration::from_secs(1), rt.resolve(server, PORT)).await else {
            continue;
        };
        let Ok(Ok((mut read, mut write))) =
            rt.timeout(Duration::from_secs(2), rt.connect(addresses[0])).await
        else {
            continue;
        };
        for count in 0..50u64 {
            let message = vec![count as u8; 100 + (rt.random_u64() % 3_000) as usize];
            if write.write_all(&message[..]).await.is_err() {
                break;
            }
            let mut buf = BytesMut::new();
            let answered = rt.timeout(Duration::from_millis(500), async {
                while buf.len() < message.len() && matches!(read.read_buf(&mut buf).await, Ok(1..)) {}
                buf.len() == message.len()
            });
            if !matches!(answered.await, Ok(true)) {
                break;
            }
        }
    }
}

async fn scenario(world: World) -> u64 {
    let nodes: Vec<NodeId> = ["a", "b", "c"]
        .into_iter()
        .zip(1u8..)
        .map(|(name, last)| world.add_node(name, [10, 0, 0, last]))
        .collect();
    world.boot(nodes[0], server);
    for node in &nodes[1..] {
        world.boot(*node, |rt: SimRuntime| client(rt, "a"));
    }
    let mut draws = world.draws("faults", 0);
    for _ in 0..20 {
        world.sleep(Duration::from_millis(draws.between(50, 900))).await;
        let node = *draws.pick(&nodes);
        let other = *draws.pick(&nodes);
        match draws.below(9) {
            0 => world.crash(node),
            1 => world.power_off(node),
            2 => world.pause(node),
            3 => world.resume(node),
            4 if node != other => world.network().cut_one_way(node, other),
            5 => world.network().heal_all(),
            6 => world.disk(node).set_flush_error(0.3),
            7 => world.crash_at_step(nodes[0], draws.below(30)),
            _ => world.clock(node).drift_ppm(draws.below(400) as i64 - 200),
        }
        if !world.is_running(node) && draws.chance(0.7) {
            world.restart(node);
        }
    }
    world.counters().values().sum()
}

fn run(seed: u64) -> RunResult<u64> {
    let result = run_seed(seed, Limits::default(), scenario);
    assert!(matches!(result.outcome, Outcome::Finished(_)), "seed {seed}: {:?}", result.outcome);
    result
}

#[test]
fn the_same_seed_twice_is_the_same_run_and_another_seed_is_another() {
    for seed in 0..20 {
        let (one, again, other) = (run(seed), run(seed), run(seed + 1_000));
        assert!(one.events > 100, "seed {seed} did nothing");
        assert_eq!(one.fingerprint(), again.fingerprint(), "seed {seed}");
        assert_eq!(one.counters, again.counters, "seed {seed}");
        assert_ne!(one.digest, other.digest, "seed {seed}");
    }
}

/// Printed by a debug build and asserted by every build: a change of the simulator changes these numbers, a change of the
/// process, the profile or the machine must not.
#[test]
fn a_seed_replays_in_another_process_and_profile() {
    let digest = run(7).digest;
    if let Ok(expected) = std::env::var("HOTFIRE_SIM_DIGEST") {
        assert_eq!(format!("{digest:016x}"), expected);
        return;
    }
    let program = std::env::current_exe().expect("this test's program");
    let other = std::process::Command::new(program)
        .args(["--exact", "a_seed_replays_in_another_process_and_profile"])
        .env("HOTFIRE_SIM_DIGEST", format!("{digest:016x}"))
        .env("UNRELATED", "x".repeat(1_000))
        .output()
        .expect("runs itself");
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stdout));
    println!("digest of seed 7: {digest:016x}");
}

#[test]
fn the_first_event_that_differs_is_named() {
    let keep = Limits { keep_hashes: true, ..Limits::default() };
    let hashes = run_seed(3, keep, scenario).hashes;
    let expected = Some(Arc::new(hashes));
    let same = run_seed(3, Limits { expected: expected.clone(), ..Limits::default() }, scenario);
    assert!(matches!(same.outcome, Outcome::Finished(_)), "{:?}", same.outcome);
    let other = run_seed(3, Limits { expected, ..Limits::default() }, |world: World| async move {
        world.sleep(Duration::from_millis(1)).await;
        scenario(world).await
    });
    let Outcome::Panicked(panic) = other.outcome else { panic!("{:?}", other.outcome) };
    assert!(panic.message.contains("not deterministic: event 0"), "{}", panic.message);
}

#[test]
fn a_task_that_never_yields_is_reported_with_its_name() {
    static ENOUGH: AtomicBool = AtomicBool::new(false);
    let limits = Limits { wall: Duration::from_secs(1), ..Limits::default() };
    let result = run_seed(1, limits, |world: World| async move {
        let node = world.add_node("a", [10, 0, 0, 1]);
        world.boot(node, |rt: SimRuntime| async move {
            rt.spawn("spinner", async {
                while !ENOUGH.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            std::future::pending::<()>().await;
        });
        world.sleep(Duration::from_secs(5)).await;
    });
    ENOUGH.store(true, Ordering::Relaxed);
    let Outcome::Hung(why) = result.outcome else { panic!("{:?}", result.outcome) };
    assert!(why.contains("spinner") && why.contains("no task yields"), "{why}");
}

#[test]
fn a_panic_in_a_node_ends_the_run_and_is_told_with_its_task() {
    let result = run_seed(1, Limits::default(), |world: World| async move {
        let node = world.add_node("a", [10, 0, 0, 1]);
        world.boot(node, |rt: SimRuntime| async move {
            rt.spawn("broken", async { panic!("on purpose") });
            std::future::pending::<()>().await;
        });
        world.sleep(Duration::from_secs(5)).await;
    });
    let Outcome::Panicked(panic) = result.outcome else { panic!("{:?}", result.outcome) };
    assert_eq!(panic.message, "on purpose");
    assert_eq!(panic.task, Some((NodeId(0), "broken")));
    assert!(panic.location.contains("determinism.rs"), "{}", panic.location);
}

#[test]
fn a_run_where_everybody_waits_for_ever_is_stuck_and_one_without_end_is_out_of_time() {
    let stuck = run_seed(1, Limits::default(), |_world: World| std::future::pending::<()>());
    assert!(matches!(stuck.outcome, Outcome::Stuck), "{:?}", stuck.outcome);
    let limits = Limits { simulated: Duration::from_secs(10), ..Limits::default() };
    let endless = run_seed(1, limits, |world: World| async move {
        loop {
            world.sleep(Duration::from_secs(1)).await;
        }
    });
    let endless: RunResult<()> = endless;
    assert!(matches!(endless.outcome, Outcome::OutOfTime), "{:?}", endless.outcome);
}

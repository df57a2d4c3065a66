//! The simulated disk against models that are too simple to be wrong.
//!
//! A disk that loses what it must keep accuses the product; one that keeps what it may lose lets bugs through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{Allocation, File, Runtime, Task};
use hotfire_sim::disk::{PAGE, SECTOR};
use hotfire_sim::{Limits, NodeId, SimRuntime, World, run_seed};
use proptest::prelude::*;

const PAGES: usize = 4;
const SECTORS: usize = PAGES * PAGE / SECTOR;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() }
}

/// A host whose program does nothing; the test acts through its runtime.
fn idle_node(world: &World) -> NodeId {
    let node = world.add_node("a", [10, 0, 0, 1]);
    world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
    node
}

fn reboot(world: &World, node: NodeId) -> SimRuntime {
    world.restart(node);
    world.runtime(node).expect("runs")
}

// Bytes: page lock, flush order, tearing.

#[derive(Clone, Debug)]
enum ByteOp {
    /// Writes the next version over a whole page.
    Store(usize),
    /// Begins a flush of pages and waits for it.
    Flush(usize, usize),
    /// Begins a flush of pages and goes on.
    FlushAside(usize, usize),
    Wait(u64),
    /// Makes flushes that begin now slow.
    Stall(u64),
    Crash,
    PowerLoss,
}

fn byte_op() -> impl Strategy<Value = ByteOp> {
    let pages = (0..PAGES, 0..PAGES).prop_map(|(a, b)| (a.min(b), a.max(b) + 1));
    prop_oneof![
        6 => (0..PAGES).prop_map(ByteOp::Store),
        2 => pages.clone().prop_map(|(from, to)| ByteOp::Flush(from, to)),
        3 => pages.prop_map(|(from, to)| ByteOp::FlushAside(from, to)),
        3 => prop_oneof![0..2_000u64, 0..6_000_000u64].prop_map(ByteOp::Wait),
        1 => (0..50u64).prop_map(ByteOp::Stall),
        1 => Just(ByteOp::Crash),
        1 => Just(ByteOp::PowerLoss),
    ]
}

/// Which version each sector has.
type Versions = Vec<u64>;

fn versions(bytes: &[u8]) -> Versions {
    let mut whole = bytes.to_vec();
    whole.resize(PAGES * PAGE, 0);
    let of_sector = |sector: &[u8]| {
        let version = u64::from_le_bytes(sector[..8].try_into().expect("eight bytes"));
        assert!(sector.chunks(8).all(|word| word == version.to_le_bytes()), "a sector is torn");
        version
    };
    whole.chunks(SECTOR).map(of_sector).collect()
}

fn sectors_of(page: usize) -> std::ops::Range<usize> {
    page * PAGE / SECTOR..(page + 1) * PAGE / SECTOR
}

async fn bytes_follow_the_model(world: World, ops: Vec<ByteOp>) {
    let node = idle_node(&world);
    let mut rt = world.runtime(node).expect("runs");
    let created = rt.create_file("f").await.expect("creates");
    created.set_len((PAGES * PAGE) as u64, Allocation::Reserve).await.expect("grows");
    created.flush(0..u64::MAX).await.expect("flushes");
    rt.sync_dir("").await.expect("syncs");
    let mut file = created;
    let mut cache: Versions = vec![0; SECTORS];
    let mut on_platter: Versions = vec![0; SECTORS];
    // What a flush that has returned has promised.
    let promised = Arc::new(Mutex::new(vec![0u64; SECTORS]));
    let mut next = 0u64;
    for op in ops {
        match op {
            ByteOp::Store(page) => {
                next += 1;
                let words = next.to_le_bytes().repeat(PAGE / 8);
                file.write_at((page * PAGE) as u64, &words).expect("stores");
                cache[sectors_of(page)].fill(next);
            }
            ByteOp::Flush(from, to) | ByteOp::FlushAside(from, to) => {
                let (snapshot, promised, file) = (cache.clone(), promised.clone(), file.clone());
                let covered = sectors_of(from).start..sectors_of(to - 1).end;
                let task = rt.spawn("flush", async move {
                    file.flush((from * PAGE) as u64..(to * PAGE) as u64).await.expect("flushes");
                    let mut promised = promised.lock().expect("unpoisoned");
                    for sector in covered {
                        promised[sector] = promised[sector].max(snapshot[sector]);
                    }
                });
                if matches!(op, ByteOp::Flush(..)) {
                    task.join().await.expect("nobody aborts it");
                }
            }
            ByteOp::Wait(micros) => world.sleep(Duration::from_micros(micros)).await,
            ByteOp::Stall(ms) => world.disk(node).stall_for(Duration::from_millis(ms)),
            ByteOp::Crash => {
                world.crash(node);
                rt = reboot(&world, node);
                file = rt.open_file("f", false).await.expect("opens");
            }
            ByteOp::PowerLoss => {
                world.power_off(node);
                let found = versions(&world.platter(node).files["f"]);
                for sector in 0..SECTORS {
                    let (low, high) = (promised.lock().expect("unpoisoned")[sector], cache[sector]);
                    assert!((low..=high).contains(&found[sector]), "sector {sector}: {found:?}");
                }
                promised.lock().expect("unpoisoned").clone_from(&found);
                (cache, on_platter) = (found.clone(), found);
                rt = reboot(&world, node);
                file = rt.open_file("f", false).await.expect("opens");
            }
        }
        let shown = versions(&world.cache_read(node, "f", 0..u64::MAX).expect("is there"));
        assert_eq!(shown, cache, "the cache shows what was stored, and survives a crash");
        let now = versions(&world.platter_read(node, "f", 0..u64::MAX).expect("is durable"));
        for sector in 0..SECTORS {
            assert!(now[sector] >= on_platter[sector], "sector {sector} went back: the page lock is broken");
            assert!(now[sector] <= cache[sector], "sector {sector} holds what was never stored");
            let promised = promised.lock().expect("unpoisoned")[sector];
            assert!(now[sector] >= promised, "sector {sector}: a flush returned before it landed");
        }
        on_platter = now;
    }
}

// Names: after a power loss any subset of the pending changes, in order.

#[derive(Clone, Debug)]
enum NameOp {
    Create(usize),
    Remove(usize),
    Rename(usize, usize),
    Sync,
    Crash,
    PowerLoss,
}

const NAMES: [&str; 3] = ["d/x", "d/y", "d/z"];

fn name_op() -> impl Strategy<Value = NameOp> {
    let name = || 0..NAMES.len();
    prop_oneof![
        4 => name().prop_map(NameOp::Create),
        2 => name().prop_map(NameOp::Remove),
        4 => (name(), name()).prop_map(|(from, to)| NameOp::Rename(from, to)),
        2 => Just(NameOp::Sync),
        1 => Just(NameOp::Crash),
        2 => Just(NameOp::PowerLoss),
    ]
}

type Table = BTreeMap<usize, u8>;

fn apply(table: &mut Table, op: &NameOp, content: u8) {
    match op {
        NameOp::Create(name) => {
            table.insert(*name, content);
        }
        NameOp::Remove(name) => {
            table.remove(name);
        }
        NameOp::Rename(from, to) => {
            table.remove(from);
            table.insert(*to, content);
        }
        NameOp::Sync | NameOp::Crash | NameOp::PowerLoss => unreachable!("no change of a name"),
    }
}

fn table_of(image: &hotfire_sim::Image) -> Table {
    let named = |(index, name): (usize, &&str)| Some((index, *image.files.get(*name)?.first().unwrap_or(&0)));
    NAMES.iter().enumerate().filter_map(named).collect()
}

async fn names_follow_the_model(world: World, ops: Vec<NameOp>) {
    let node = idle_node(&world);
    let mut rt = world.runtime(node).expect("runs");
    rt.create_dir_all("d").await.expect("creates");
    rt.sync_dir("").await.expect("syncs");
    let (mut kernel, mut durable) = (Table::new(), Table::new());
    let mut pending: Vec<(NameOp, u8)> = Vec::new();
    let mut content = 0;
    for op in ops {
        match &op {
            NameOp::Create(name) => match rt.create_file(NAMES[*name]).await {
                Ok(file) => {
                    content += 1;
                    file.write_at(0, &[content]).expect("writes");
                    file.flush(0..1).await.expect("flushes");
                    apply(&mut kernel, &op, content);
                    pending.push((op, content));
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
                    assert!(kernel.contains_key(name));
                }
            },
            NameOp::Remove(name) => match rt.remove(NAMES[*name]).await {
                Ok(()) => {
                    apply(&mut kernel, &op, 0);
                    pending.push((op, 0));
                }
                Err(_) => assert!(!kernel.contains_key(name)),
            },
            NameOp::Rename(from, to) => match rt.rename(NAMES[*from], NAMES[*to]).await {
                Ok(()) if from == to => {}
                Ok(()) => {
                    let moved = kernel[from];
                    apply(&mut kernel, &op, moved);
                    pending.push((op, moved));
                }
                Err(_) => assert!(!kernel.contains_key(from)),
            },
            NameOp::Sync => {
                rt.sync_dir("d").await.expect("syncs");
                durable.clone_from(&kernel);
                pending.clear();
            }
            NameOp::Crash => {
                world.crash(node);
                rt = reboot(&world, node);
            }
            NameOp::PowerLoss => {
                assert_eq!(table_of(&world.platter(node)), durable, "the pessimistic image");
                world.power_off(node);
                let found = table_of(&world.platter(node));
                let possible: BTreeSet<Table> = (0u32..1 << pending.len())
                    .map(|subset| {
                        let mut table = durable.clone();
                        for (index, (op, content)) in pending.iter().enumerate() {
                            if subset & (1 << index) != 0 {
                                apply(&mut table, op, *content);
                            }
                        }
                        table
                    })
                    .collect();
                assert!(possible.contains(&found), "{found:?} after {durable:?} and {pending:?}");
                pending.clear();
                (kernel, durable) = (found.clone(), found);
                rt = reboot(&world, node);
            }
        }
        assert_eq!(table_of(&world.cache_image(node)), kernel, "the kernel's names, also after a crash");
    }
}

// Lengths: durable by a flush, else any since.

async fn lengths_follow_the_model(world: World, ops: Vec<(u8, u64)>) {
    let node = idle_node(&world);
    let mut rt = world.runtime(node).expect("runs");
    let mut file = rt.create_file("f").await.expect("creates");
    rt.sync_dir("").await.expect("syncs");
    let mut possible = vec![0u64];
    for (op, len) in ops {
        match op {
            0..=4 => {
                file.set_len(len, Allocation::Sparse).await.expect("sets the length");
                possible.push(len);
            }
            5 => {
                file.flush(0..0).await.expect("flushes");
                possible.drain(..possible.len() - 1);
                let durable = world.platter_read(node, "f", 0..u64::MAX).expect("is durable");
                assert_eq!(durable.len() as u64, possible[0]);
            }
            _ => {
                world.power_off(node);
                let found = world.platter_read(node, "f", 0..u64::MAX).expect("is durable").len() as u64;
                assert!(possible.contains(&found), "{found} of {possible:?}");
                possible = vec![found];
                rt = reboot(&world, node);
                file = rt.open_file("f", false).await.expect("opens");
                assert_eq!(file.len().expect("has a length"), found);
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn bytes_land_in_order_and_what_a_flush_promised_survives(
        seed in any::<u64>(),
        ops in proptest::collection::vec(byte_op(), 1..60),
    ) {
        run_seed(seed, Limits::default(), |world| bytes_follow_the_model(world, ops)).expect_finished();
    }

    #[test]
    fn names_after_a_power_loss_are_a_subset_of_the_changes_in_order(
        seed in any::<u64>(),
        ops in proptest::collection::vec(name_op(), 1..14),
    ) {
        run_seed(seed, Limits::default(), |world| names_follow_the_model(world, ops)).expect_finished();
    }

    #[test]
    fn a_length_is_durable_by_a_flush_and_else_any_it_has_had(
        seed in any::<u64>(),
        ops in proptest::collection::vec((0u8..8, 0u64..20_000), 1..7),
    ) {
        run_seed(seed, Limits::default(), |world| lengths_follow_the_model(world, ops)).expect_finished();
    }
}

/// The models above allow outcomes; here the ones that bugs hide behind are shown to happen.
#[test]
fn after_a_power_loss_pages_come_lost_whole_and_torn_and_files_come_empty() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let outcome = run_seed(seed, Limits::default(), |world: World| async move {
            let node = idle_node(&world);
            let rt = world.runtime(node).expect("runs");
            let file = rt.create_file("f").await.expect("creates");
            rt.sync_dir("").await.expect("syncs");
            file.write_at(0, &[7; PAGE]).expect("writes");
            world.power_off(node);
            let found = world.platter(node).files.remove("f").expect("its name is durable");
            match found.iter().filter(|byte| **byte == 7).count() {
                _ if found.is_empty() => "empty",
                0 => "lost",
                PAGE => "whole",
                _ => "torn",
            }
        });
        seen.insert(outcome.expect_finished());
    }
    assert_eq!(seen, BTreeSet::from(["empty", "lost", "torn", "whole"]));
}

//! What happens to a node: deaths at any instruction, broken disks, pauses, clocks.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{Allocation, Backing, File, Mutant, Runtime, SegmentReader, SegmentWriter, Task};
use hotfire_sim::cluster::{Down, StepCut};
use hotfire_sim::disk::{ChosenLoss, PAGE, Severity};
use hotfire_sim::{Limits, NodeId, Outcome, SimRuntime, World, run_seed};

fn idle_node(world: &World) -> (NodeId, SimRuntime) {
    let node = world.add_node("a", [10, 0, 0, 1]);
    world.boot(node, |_rt: SimRuntime| std::future::pending::<()>());
    (node, world.runtime(node).expect("runs"))
}

fn run<F>(seed: u64, scenario: impl FnOnce(World) -> F + Send + 'static) -> F::Output
where
    F: Future + 'static,
    F::Output: Send + 'static,
{
    run_seed(seed, Limits::default(), scenario).expect_finished()
}

async fn segment(rt: &SimRuntime, path: &str, len: u64, allocation: Allocation) {
    let file = rt.create_file(path).await.expect("creates");
    file.set_len(len, allocation).await.expect("sets the length");
    file.flush(0..u64::MAX).await.expect("flushes");
    rt.sync_dir("").await.expect("syncs");
}

/// A program that begins a record, finishes it, and would tell if it went on after its death.
async fn three_appends(rt: SimRuntime, survived: Arc<AtomicU64>) {
    let Ok(mut writer) = rt.open_segment("log", 0, Backing::Mapped).await else {
        return std::future::pending().await;
    };
    for _ in 0..3 {
        writer.append(64, |space| space.fill(0xff)).expect("there is room");
        survived.fetch_add(1, Ordering::SeqCst);
    }
    std::future::pending::<()>().await;
}

#[test]
fn a_death_inside_an_append_leaves_some_of_its_words_and_runs_nothing_after() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        seen.insert(run(seed, |world: World| async move {
            let (node, rt) = idle_node(&world);
            segment(&rt, "log", 4_096, Allocation::Reserve).await;
            world.crash(node);
            let survived = Arc::new(AtomicU64::new(0));
            let counter = survived.clone();
            // Step 0 opens the segment, 1 to 3 append; the process starts again after 0.5 s and appends over it.
            world.crash_at_step(node, 2);
            world.boot(node, move |rt: SimRuntime| three_appends(rt, counter.clone()));
            world.sleep(Duration::from_millis(100)).await;
            assert!(!world.is_running(node));
            assert_eq!(survived.load(Ordering::SeqCst), 1, "it ran on after its death");
            let cache = world.cache_read(node, "log", 0..192).expect("the cache survives");
            assert!(cache[..64].iter().all(|byte| *byte == 0xff), "the first append was complete");
            assert!(cache[128..].iter().all(|byte| *byte == 0), "the third never began");
            for word in cache.chunks(8) {
                assert!(word.iter().all(|byte| *byte == word[0]), "a word is torn");
            }
            let words = cache[64..128].iter().filter(|byte| **byte == 0xff).count() / 8;
            world.sleep(Duration::from_secs(1)).await;
            assert!(world.is_running(node), "the init system starts it again");
            assert_eq!(survived.load(Ordering::SeqCst), 4);
            words
        }));
    }
    assert!(seen.contains(&0) && seen.contains(&8) && seen.len() > 3, "words that survived: {seen:?}");
}

#[test]
fn a_process_can_die_at_every_step_and_what_was_flushed_is_there() {
    let program = |rt: SimRuntime, done: Arc<Mutex<Vec<&'static str>>>| async move {
        let told = |what| done.lock().expect("unpoisoned").push(what);
        rt.create_dir_all("d").await.expect("creates");
        let Ok(file) = rt.create_file("d/tmp").await else { return std::future::pending().await };
        file.write_at(0, b"content").expect("writes");
        file.flush(0..7).await.expect("flushes");
        rt.rename("d/tmp", "d/config").await.expect("renames");
        rt.sync_dir("d").await.expect("syncs");
        rt.sync_dir("").await.expect("syncs");
        told("durable");
        std::future::pending::<()>().await;
    };
    for seed in 0..10 {
        for step in 0..8 {
            run(seed, move |world: World| async move {
                let node = world.add_node("a", [10, 0, 0, 1]);
                let done = Arc::new(Mutex::new(Vec::new()));
                let shared = done.clone();
                world.power_off_at_step(node, step, None);
                world.boot(node, move |rt: SimRuntime| program(rt, shared.clone()));
                world.sleep(Duration::from_secs(20)).await;
                assert_eq!(world.is_running(node), step >= 7, "step {step} of {}", world.steps(node));
                let durable = !done.lock().expect("unpoisoned").is_empty();
                assert_eq!(durable, step >= 7, "step {step}");
                let image = world.platter(node);
                if durable {
                    assert_eq!(image.files["d/config"], b"content");
                }
                if step >= 4
                    && let Some(config) = image.files.get("d/config")
                {
                    assert_eq!(config, b"content", "a rename after a flush never shows less");
                }
            });
        }
    }
}

/// The lengths that a sized file is seen with when its maker dies at any of its steps, on the disks of many seeds.
fn lengths_after_death(down: Down) -> BTreeSet<(u64, Option<usize>)> {
    let mut seen = BTreeSet::new();
    for seed in 0..40 {
        for (step, cut) in
            [(0, StepCut::Inside), (0, StepCut::After), (1, StepCut::Inside), (1, StepCut::After)]
        {
            let len = run(seed, move |world: World| async move {
                let node = world.add_node("a", [10, 0, 0, 1]);
                world.end_at_step(node, step, down, cut);
                world.boot(node, |rt: SimRuntime| async move {
                    drop(rt.create_sized("file", 6_000, Allocation::Sparse).await);
                    panic!("it runs on behind its end");
                });
                world.sleep(Duration::from_secs(20)).await;
                world.cache_image(node).files.get("file").map(Vec::len)
            });
            seen.insert((seed, len));
        }
    }
    seen
}

#[test]
fn a_death_leaves_a_sized_file_whole_or_not_at_all_where_files_can_be_without_a_name() {
    let seen = lengths_after_death(Down::Process);
    let empty: BTreeSet<u64> =
        seen.iter().filter(|(_, len)| *len == Some(0)).map(|(seed, _)| *seed).collect();
    assert!((1..=20).contains(&empty.len()), "a quarter of 40 file systems has none: {empty:?}");
    assert!(seen.iter().all(|(_, len)| matches!(len, None | Some(0 | 6_000))), "{seen:?}");
    for seed in (0..40).filter(|seed| !empty.contains(seed)) {
        assert!(seen.contains(&(seed, None)) && seen.contains(&(seed, Some(6_000))), "seed {seed}: {seen:?}");
    }
    // Without power nothing orders a name and a length.
    assert!(lengths_after_death(Down::Power).iter().filter(|(_, len)| *len == Some(0)).count() > empty.len());
}

#[test]
fn a_failed_flush_is_forgotten_by_the_next_and_mended_by_redirty() {
    let mut lost = 0;
    for seed in 0..20 {
        lost += u32::from(run(seed, |world: World| async move {
            let (node, rt) = idle_node(&world);
            segment(&rt, "log", 4_096, Allocation::Reserve).await;
            let mut writer = rt.open_segment("log", 0, Backing::Mapped).await.expect("opens");
            writer.append(8, |space| space.fill(1)).expect("there is room");
            world.disk(node).fail_next_flush();
            let reader = writer.reader();
            reader.flush(0..8).await.expect_err("fails once");
            reader.flush(0..8).await.expect("finds nothing to do");
            let there = |world: &World| world.platter_read(node, "log", 0..8).expect("is durable") == [1; 8];
            let lost = !there(&world);
            writer.redirty(0..8);
            reader.flush(0..8).await.expect("writes it");
            assert!(there(&world), "redirty and flush really write");
            lost
        }));
    }
    assert!((5..=15).contains(&lost), "lost {lost} of 20");
}

#[test]
fn a_store_without_a_block_kills_the_process_and_a_write_is_refused() {
    run(1, |world: World| async move {
        let (node, rt) = idle_node(&world);
        segment(&rt, "sparse", 1 << 20, Allocation::Sparse).await;
        segment(&rt, "reserved", 1 << 20, Allocation::Reserve).await;
        let file = rt.create_file("file").await.expect("creates");
        world.disk(node).fill(0);
        let full = file.set_len(1 << 20, Allocation::Reserve).await.expect_err("nothing is left");
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert_eq!(file.len().expect("has a length"), 0);
        file.set_len(1 << 20, Allocation::Sparse).await.expect("takes no block");
        assert_eq!(file.write_at(0, b"x").expect_err("no block").kind(), ErrorKind::StorageFull);
        assert_eq!(rt.disk_usage("").await.expect("tells").available, 0);
        let mut writer = rt.open_segment("reserved", 0, Backing::Mapped).await.expect("opens");
        writer.append(8, |space| space.fill(1)).expect("has its block");
        drop(writer);
        world.boot(node, |rt: SimRuntime| async move {
            if rt.world().boots(rt.node()) > 2 {
                return std::future::pending().await;
            }
            let mut writer = rt.open_segment("sparse", 0, Backing::Mapped).await.expect("opens");
            writer.append(8, |space| space.fill(1));
            unreachable!("SIGBUS");
        });
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(world.counters().get("node.sigbus"), Some(&1));
        assert!(world.is_running(node), "started again");
    });
}

#[test]
fn a_read_only_disk_reads_and_refuses_changes() {
    run(1, |world: World| async move {
        let (node, rt) = idle_node(&world);
        let file = rt.create_file("f").await.expect("creates");
        file.write_at(0, b"bytes").expect("writes");
        world.disk(node).set_read_only();
        let mut bytes = [0; 5];
        file.read_at(0, &mut bytes).expect("reads");
        let refused = [
            file.write_at(0, b"x").expect_err("read-only"),
            file.flush(0..5).await.expect_err("read-only"),
            rt.create_file("g").await.map(|_| ()).expect_err("read-only"),
            rt.rename("f", "g").await.expect_err("read-only"),
            rt.remove("f").await.expect_err("read-only"),
        ];
        for error in refused {
            assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
        }
        world.disk(node).set_writable();
        file.flush(0..5).await.expect("flushes");
    });
}

#[test]
fn rot_and_bad_sectors_are_met_when_the_page_is_cold() {
    run(1, |world: World| async move {
        let (node, rt) = idle_node(&world);
        segment(&rt, "log", 2 * PAGE as u64, Allocation::Reserve).await;
        let mut writer = rt.open_segment("log", 0, Backing::Mapped).await.expect("opens");
        writer.append(2 * PAGE, |space| space.fill(8)).expect("there is room");
        let reader = writer.reader();
        reader.flush(0..2 * PAGE).await.expect("flushes");
        assert!(world.disk(node).rot("log", 10, 0));
        assert!(world.disk(node).spoil("log", PAGE as u64));
        assert_eq!(reader.view(10, 1).expect("is cached").as_ref(), [8]);
        reader.view(PAGE, 1).expect("is cached");
        world.disk(node).drop_caches();
        assert_eq!(reader.view(10, 1).expect("reads").as_ref(), [9]);
        assert_eq!(reader.view(PAGE, 1).expect_err("unreadable").kind(), ErrorKind::Other);
        let mut byte = [0];
        let file = rt.open_file("log", true).await.expect("opens");
        file.read_at(PAGE as u64, &mut byte).expect_err("unreadable");
    });
}

#[test]
fn a_stalled_disk_stalls_flushes_and_nothing_else() {
    run(1, |world: World| async move {
        let (node, rt) = idle_node(&world);
        let file = rt.create_file("f").await.expect("creates");
        world.disk(node).stall_for(Duration::from_secs(7));
        let start = world.now_ms();
        file.write_at(0, b"x").expect("goes to the cache");
        assert_eq!(world.now_ms(), start);
        file.flush(0..1).await.expect("flushes");
        assert!((7_000..7_100).contains(&(world.now_ms() - start)));
    });
}

#[test]
fn handles_of_a_dead_process_do_nothing_and_locks_are_freed() {
    run(1, |world: World| async move {
        let (node, old) = idle_node(&world);
        segment(&old, "log", 4_096, Allocation::Reserve).await;
        let file = old.create_file("f").await.expect("creates");
        let mut writer = old.open_segment("log", 0, Backing::Mapped).await.expect("opens");
        let lock = old.lock_file("lock").await.expect("locks");
        let busy = old.lock_file("lock").await.map(|_| ()).expect_err("is locked");
        assert_eq!(busy.kind(), ErrorKind::WouldBlock);
        world.crash(node);
        world.restart(node);
        let new = world.runtime(node).expect("runs");
        let again = new.lock_file("lock").await.expect("the dead hold no locks");
        file.write_at(0, b"x").expect_err("dead");
        assert!(writer.append(8, |space| space.fill(1)).is_none());
        drop(lock);
        new.lock_file("lock").await.map(|_| ()).expect_err("the old handle freed nothing");
        drop((again, writer, file));
        assert_eq!(world.cache_read(node, "log", 0..8).expect("is there"), [0; 8]);
        assert!(old.spawn("ghost", async { unreachable!("dead") }).is_finished());
        new.open_segment("log", 0, Backing::Mapped).await.expect("the writer died too");
    });
}

struct TouchOnDrop(SimRuntime, Arc<AtomicU64>);

impl Drop for TouchOnDrop {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.probe("ghost", 0, 0);
    }
}

#[test]
fn destructors_of_a_dead_process_have_no_effect() {
    run(1, |world: World| async move {
        let node = world.add_node("a", [10, 0, 0, 1]);
        let (dropped, probed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counter, probes) = (dropped.clone(), probed.clone());
        world.on_probe(move |_| {
            probes.fetch_add(1, Ordering::SeqCst);
        });
        world.boot(node, move |rt: SimRuntime| {
            let counter = counter.clone();
            async move {
                let _guard = TouchOnDrop(rt, counter);
                std::future::pending::<()>().await;
            }
        });
        world.sleep(Duration::from_millis(1)).await;
        world.crash(node);
        world.sleep(Duration::from_millis(1)).await;
        assert_eq!((dropped.load(Ordering::SeqCst), probed.load(Ordering::SeqCst)), (1, 0));
    });
}

#[test]
fn a_call_into_the_runtime_while_filling_an_append_is_an_assertion() {
    let result = run_seed(1, Limits::default(), |world: World| async move {
        let (_, rt) = idle_node(&world);
        segment(&rt, "log", 4_096, Allocation::Reserve).await;
        let mut writer = rt.open_segment("log", 0, Backing::Mapped).await.expect("opens");
        writer.append(8, |_space| rt.now());
    });
    let Outcome::Panicked(panic) = result.outcome else { panic!("{:?}", result.outcome) };
    assert!(panic.message.contains("inside append's closure"), "{}", panic.message);
}

#[test]
fn a_fatal_node_comes_back_and_an_ended_program_does_not() {
    run(1, |world: World| async move {
        let (fatal, ended) = (world.add_node("fatal", [10, 0, 0, 1]), world.add_node("ended", [10, 0, 0, 2]));
        world.boot(fatal, |rt: SimRuntime| async move {
            rt.sleep(Duration::from_millis(300)).await;
            rt.fatal("cannot go on").await;
        });
        world.boot(ended, |rt: SimRuntime| async move { rt.stop_requested().await });
        world.sleep(Duration::from_millis(400)).await;
        assert!(!world.is_running(fatal) && world.is_running(ended));
        world.sleep(Duration::from_millis(500)).await;
        assert!(world.is_running(fatal));
        assert_eq!(world.boots(fatal), 2);
        world.stop(ended);
        world.sleep(Duration::from_secs(5)).await;
        assert!(!world.is_running(ended));
        // A crash while the init system waits is an order to stay down.
        while world.is_running(fatal) {
            world.sleep(Duration::from_millis(10)).await;
        }
        world.crash(fatal);
        world.sleep(Duration::from_secs(2)).await;
        assert!(!world.is_running(fatal));
    });
}

#[test]
fn a_paused_process_stands_still_while_time_passes() {
    run(1, |world: World| async move {
        let node = world.add_node("a", [10, 0, 0, 1]);
        let ticks = Arc::new(AtomicU64::new(0));
        let counter = ticks.clone();
        world.boot(node, move |rt: SimRuntime| {
            let counter = counter.clone();
            async move {
                loop {
                    rt.sleep(Duration::from_millis(10)).await;
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        world.sleep(Duration::from_millis(105)).await;
        world.pause(node);
        let before = ticks.load(Ordering::SeqCst);
        world.sleep(Duration::from_secs(5)).await;
        assert_eq!(ticks.load(Ordering::SeqCst), before);
        world.resume(node);
        world.sleep(Duration::from_millis(100)).await;
        assert!((before + 9..=before + 11).contains(&ticks.load(Ordering::SeqCst)));
        world.pause(node);
        world.crash(node);
        world.restart(node);
        world.sleep(Duration::from_millis(100)).await;
        assert!(ticks.load(Ordering::SeqCst) > before + 15, "a new process is not paused");
    });
}

#[test]
fn wall_clocks_jump_and_drift_apart_and_sleeps_follow_the_nodes_own_clock() {
    run(1, |world: World| async move {
        let (node, rt) = idle_node(&world);
        let wall = rt.wall_ms();
        world.clock(node).jump_ms(-86_400_000);
        assert!((wall - 86_400_010..wall - 86_399_990).contains(&rt.wall_ms()));
        world.clock(node).drift_ppm(100_000);
        let (mono, wall, start) = (rt.now(), rt.wall_ms(), world.now_ms());
        let sleep = rt.sleep(Duration::from_secs(11));
        sleep.await;
        assert!((9_990..=10_010).contains(&(world.now_ms() - start)), "{} ms", world.now_ms() - start);
        assert!(rt.now().since(mono) >= Duration::from_secs(11));
        assert!((10_999..=11_010).contains(&(rt.wall_ms() - wall)));
        let sleeping = rt.spawn("sleeper", rt.sleep(Duration::from_secs(10)));
        world.sleep(Duration::from_secs(1)).await;
        world.clock(node).drift_ppm(-100_000);
        let mono = rt.now();
        sleeping.join().await.expect("nobody aborts it");
        let slept = rt.now().since(mono);
        assert!(slept >= Duration::from_millis(8_899) && slept < Duration::from_millis(8_910), "{slept:?}");
        world.power_off(node);
        world.restart(node);
        assert!(world.clock(node).wall_ms() < wall + 30_000, "the wall clock survives a power loss");
    });
}

#[test]
fn mutants_and_rare_branches_are_chosen_per_run() {
    let hits = |seed: u64| {
        run(seed, |world: World| async move {
            let (_, rt) = idle_node(&world);
            assert!(!rt.mutant(Mutant::AckBeforeFlush) && !rt.buggify("site"));
            world.set_mutant(Some(Mutant::AckBeforeFlush));
            world.set_buggify(0.2);
            assert!(rt.mutant(Mutant::AckBeforeFlush) && !rt.mutant(Mutant::ConfigInPlace));
            (0..1_000).filter(|_| rt.buggify("site")).count()
        })
    };
    let counts: Vec<usize> = (0..40).map(hits).collect();
    let quiet = counts.iter().filter(|count| **count == 0).count();
    assert!((10..=30).contains(&quiet), "a site is quiet in half of the runs: {quiet} of 40");
    assert!(counts.iter().all(|count| *count == 0 || (140..=260).contains(count)), "{counts:?}");
}

#[test]
fn pooled_bytes_die_with_the_process_and_committed_ones_do_not() {
    run(1, |world: World| async move {
        let (node, rt) = idle_node(&world);
        segment(&rt, "log", 4_096, Allocation::Reserve).await;
        let mut writer = rt.open_segment("log", 0, Backing::Pooled).await.expect("opens");
        writer.append(16, |space| space.fill(3)).expect("there is room");
        writer.commit(8).expect("writes");
        world.crash(node);
        let found = world.cache_read(node, "log", 0..16).expect("is there");
        assert_eq!(found, [[3; 8], [0; 8]].concat());
    });
}

#[test]
fn a_chosen_end_and_a_chosen_loss_leave_nothing_to_the_seed() {
    for seed in 0..10 {
        for (cut, severity, expected) in [
            (StepCut::Before, Severity::EverythingSurvives, vec![]),
            (StepCut::After, Severity::EverythingSurvives, vec!["d", "d/file"]),
            (StepCut::After, Severity::NothingSurvives, vec![]),
        ] {
            run(seed, move |world: World| async move {
                let node = world.add_node("a", [10, 0, 0, 1]);
                let chosen = ChosenLoss { severity, draw: 0 };
                world.disk(node).change(|faults| faults.power_loss = Some(chosen));
                let step = if cut == StepCut::Before { 0 } else { 1 };
                world.end_at_step(node, step, Down::Power, cut);
                world.boot(node, |rt: SimRuntime| async move {
                    rt.create_dir_all("d").await.expect("creates");
                    let file = rt.create_file("d/file").await;
                    drop(file);
                    panic!("it runs on behind its end");
                });
                world.sleep(Duration::from_secs(20)).await;
                assert!(!world.is_running(node), "nobody starts it again");
                let image = world.cache_image(node);
                let names: Vec<_> = image.dirs.iter().chain(image.files.keys()).cloned().collect();
                assert_eq!(names, expected, "seed {seed}, {cut:?}, {severity:?}");
            });
        }
    }
}

//! Configuration files against ends of the process and of the power at every step of a save (S-22).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hotfire_core::runtime::Mutant;
use hotfire_core::runtime::storage::Storage;
use hotfire_core::store::ConfigFile;
use hotfire_sim::{Limits, Outcome, SimRuntime, World, run_seed};

const PATH: &str = "config/topics.json";

fn version(number: u64) -> Vec<u8> {
    format!("{{\"version\":{number},\"filler\":\"{}\"}}", "x".repeat(5_000)).into_bytes()
}

/// Saves versions 1, 2, … and dies at step `step`; `None` when the file is then the last or the one before.
fn broken(step: u64, power_loss: bool, mutant: Option<Mutant>) -> Option<String> {
    let limits = Limits { simulated: Duration::from_secs(60), ..Limits::default() };
    let result = run_seed(step, limits, move |world: World| async move {
        world.set_mutant(mutant);
        let node = world.add_node("broker", [10, 0, 0, 1]);
        if power_loss {
            world.power_off_at_step(node, step, Some(Duration::from_millis(10)));
        } else {
            world.crash_at_step(node, step);
        }
        let (saved, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let finished = done.clone();
        world.boot(node, move |rt: SimRuntime| {
            let (saved, done) = (saved.clone(), done.clone());
            async move {
                rt.create_dir_all("config").await.expect("create the folder");
                rt.sync_dir("").await.expect("flush the name");
                let before = saved.load(Ordering::SeqCst);
                let is_good = |bytes: &[u8]| bytes.last() == Some(&b'}');
                let loaded = ConfigFile::load_checked(&rt, PATH, is_good).await.expect("load");
                let found = loaded.map(|(bytes, _)| bytes);
                let allowed = [version(before), version(before + 1)];
                let is_allowed = found.as_ref().map_or(before == 0, |found| allowed.contains(found));
                assert!(is_allowed, "saved {before}, found {} bytes", found.map_or(0, |found| found.len()));
                for number in before + 1..before + 4 {
                    ConfigFile::save(&rt, PATH, &version(number)).await.expect("save");
                    saved.store(number, Ordering::SeqCst);
                }
                done.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
        });
        while finished.load(Ordering::SeqCst) == 0 {
            world.sleep(Duration::from_millis(5)).await;
        }
        world.power_off(node);
        world.restart(node);
        while finished.load(Ordering::SeqCst) == 1 {
            world.sleep(Duration::from_millis(5)).await;
        }
    });
    match result.outcome {
        Outcome::Finished(()) => None,
        Outcome::Panicked(panic) => Some(panic.message),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn after_any_crash_it_is_the_last_version_or_the_one_before() {
    for power_loss in [false, true] {
        for step in 0..40 {
            if let Some(why) = broken(step, power_loss, None) {
                panic!("step {step}, power loss {power_loss}: {why}");
            }
        }
    }
}

#[test]
fn overwriting_in_place_is_found() {
    assert!((0..40).any(|step| broken(step, true, Some(Mutant::ConfigInPlace)).is_some()));
}

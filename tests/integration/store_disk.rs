//! A store after its disk was ill.

use std::time::Duration;

use hotfire_core::runtime::Runtime;

use crate::store::message;
use crate::store_pool::{open, run};

/// The kernel tells the next flush of a file that it has lost pages, whoever asks: here the process after.
#[test]
fn a_start_hears_of_pages_that_the_process_before_has_lost_and_succeeds() {
    run(|world, node| async move {
        let (rt, store) = open(&world, node).await;
        let ill = |ill: f64| world.disk(node).change(|faults| faults.writeback_error = ill);
        ill(1.0);
        let mut end = 0;
        for queue in 0..6 {
            end = store.put(&message("T", queue, b"kept in memory")).await.expect("put").end;
        }
        store.durable().reached(end).await.expect("the log is flushed, its queues are not");
        rt.sleep(Duration::from_secs(40)).await;
        assert!(
            world.counters().get("disk.flush_failed").is_some_and(|failed| *failed >= 6),
            "pages were lost"
        );
        world.crash(node);
        ill(0.0);
        world.restart(node);
        let (_, store) = open(&world, node).await;
        store.dispatched().reached(end).await.expect("dispatched");
        for queue in 0..6 {
            assert_eq!(store.max_offset("T", queue), 1);
        }
        store.stop().await.expect("stopped in order");
    });
}

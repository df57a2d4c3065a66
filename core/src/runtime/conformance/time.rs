//! Clock, sleeps and timeouts.

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Env, LIMIT, within};
use crate::runtime::{Elapsed, Mono, Runtime};

pub async fn monotonic_time_does_not_go_back<R: Runtime>(rt: R, _env: Env<R>) {
    let mut last = rt.now();
    for _ in 0..1000 {
        let now = rt.now();
        assert!(now >= last, "now went back from {last:?} to {now:?}");
        last = now;
    }
    rt.sleep(Duration::from_millis(2)).await;
    assert!(rt.now() > last, "time stands still");
    assert!(rt.wall_ms() > 0, "wall time is before 1970: {}", rt.wall_ms());
}

pub async fn a_time_zone_is_less_than_a_day<R: Runtime>(rt: R, _env: Env<R>) {
    for wall_ms in [rt.wall_ms(), 0, 1_000_000_000_000, i64::MIN, i64::MAX] {
        let offset_s = rt.utc_offset_s(wall_ms);
        assert!(offset_s.abs() < 86_400, "{offset_s} s from UTC at {wall_ms}");
        assert_eq!(offset_s, rt.utc_offset_s(wall_ms), "the same moment again");
    }
    assert_ne!(rt.memory_bytes(), Some(0));
}

pub async fn a_sleep_is_never_short<R: Runtime>(rt: R, _env: Env<R>) {
    for micros in [1, 50, 999, 1000, 1001, 20_000] {
        let start = rt.now();
        let duration = Duration::from_micros(micros);
        within(&rt, "sleep", rt.sleep(duration)).await;
        let slept = rt.now().since(start);
        assert!(slept >= duration, "slept {slept:?} instead of {duration:?}");
    }
}

pub async fn a_deadline_that_has_passed_resolves_at_once<R: Runtime>(rt: R, _env: Env<R>) {
    rt.sleep(Duration::from_millis(2)).await;
    within(&rt, "a passed deadline", rt.sleep_until(Mono(0))).await;
    within(&rt, "a deadline of now", rt.sleep_until(rt.now())).await;
    within(&rt, "a sleep of nothing", rt.sleep(Duration::ZERO)).await;
}

pub async fn the_earlier_of_two_sleeps_comes_first<R: Runtime>(rt: R, _env: Env<R>) {
    let (long, short) = (rt.sleep(LIMIT), rt.sleep(Duration::from_millis(5)));
    let first = crate::select! {
        () = long => "long",
        () = short => "short",
    };
    assert_eq!(first, "short");
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub async fn a_timeout_drops_what_it_cut_off<R: Runtime>(rt: R, _env: Env<R>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = SetOnDrop(dropped.clone());
    let start = rt.now();
    let result = rt
        .timeout(Duration::from_millis(10), async move {
            let _guard = guard;
            pending::<()>().await;
        })
        .await;
    assert_eq!(result, Err(Elapsed));
    assert!(rt.now().since(start) >= Duration::from_millis(10), "timed out early");
    assert!(dropped.load(Ordering::SeqCst), "the future outlived its timeout");
}

pub async fn a_future_that_is_ready_beats_a_timeout_of_zero<R: Runtime>(rt: R, _env: Env<R>) {
    assert_eq!(rt.timeout(Duration::ZERO, ready(7)).await, Ok(7));
    assert_eq!(rt.timeout(Duration::ZERO, pending::<()>()).await, Err(Elapsed));
}

pub async fn a_deadline_beyond_all_time_never_comes<R: Runtime>(rt: R, _env: Env<R>) {
    let never = rt.sleep_until(Mono::NEVER);
    assert_eq!(rt.timeout(Duration::from_millis(10), never).await, Err(Elapsed));
    assert_eq!(rt.timeout(Duration::MAX, ready(1)).await, Ok(1));
}

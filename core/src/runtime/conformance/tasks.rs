//! Tasks, yielding and random bits.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Env, within};
use crate::runtime::{Cancelled, File, Runtime, Task};

pub async fn join_hands_over_the_result<R: Runtime>(rt: R, _env: Env<R>) {
    let at_once = rt.spawn("at-once", async { 1 });
    let inner = rt.clone();
    let later = rt.spawn("later", async move {
        inner.sleep(Duration::from_millis(5)).await;
        String::from("two")
    });
    assert_eq!(within(&rt, "join", at_once.join()).await, Ok(1));
    assert_eq!(within(&rt, "join", later.join()).await, Ok(String::from("two")));
}

pub async fn abort_drops_the_task_and_join_says_so<R: Runtime>(rt: R, _env: Env<R>) {
    let (held, gone) = oneshot::channel::<()>();
    let (started, running) = oneshot::channel();
    let task = rt.spawn("endless", async move {
        let _held = held;
        started.send(()).expect("the case waits for it");
        pending::<()>().await;
    });
    within(&rt, "start", running).await.expect("the task starts");
    assert!(!task.is_finished(), "an endless task has finished");
    task.abort();
    assert!(within(&rt, "drop of the aborted future", gone).await.is_err());
    assert_eq!(within(&rt, "join of an aborted task", task.join()).await, Err(Cancelled));
}

pub async fn abort_after_the_end_changes_nothing<R: Runtime>(rt: R, _env: Env<R>) {
    let task = rt.spawn("short", async { 3 });
    within(&rt, "end of a task", async {
        while !task.is_finished() {
            rt.sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    task.abort();
    assert_eq!(within(&rt, "join", task.join()).await, Ok(3));
}

pub async fn a_dropped_handle_detaches<R: Runtime>(rt: R, _env: Env<R>) {
    let (send, receive) = oneshot::channel();
    let inner = rt.clone();
    drop(rt.spawn("detached", async move {
        inner.sleep(Duration::from_millis(5)).await;
        let _ = send.send(4);
    }));
    assert_eq!(within(&rt, "a detached task", receive).await, Ok(4));
}

pub async fn a_task_with_a_thread_is_a_task<R: Runtime>(rt: R, _env: Env<R>) {
    let (send, receive) = oneshot::channel();
    let inner = rt.clone();
    let task = rt.spawn_on_thread("waits", async move {
        inner.sleep(Duration::from_millis(5)).await;
        receive.await
    });
    rt.sleep(Duration::from_millis(10)).await;
    assert!(!task.is_finished(), "a task that waits has finished");
    send.send(5).expect("the task waits for it");
    assert_eq!(within(&rt, "join of a thread", task.join()).await, Ok(Ok(5)));
}

pub async fn abort_ends_a_task_with_a_thread<R: Runtime>(rt: R, _env: Env<R>) {
    let (held, gone) = oneshot::channel::<()>();
    let task = rt.spawn_on_thread("endless", async move {
        let _held = held;
        pending::<()>().await;
    });
    task.abort();
    assert!(within(&rt, "drop of the aborted future", gone).await.is_err());
    assert_eq!(within(&rt, "join of an aborted thread", task.join()).await, Err(Cancelled));
}

pub async fn a_thread_does_storage_as_others_do<R: Runtime>(rt: R, env: Env<R>) {
    rt.create_dir_all(&env.dir).await.expect("create the folder");
    let path = env.path("by-a-thread");
    let inner = rt.clone();
    let task = rt.spawn_on_thread("storage", async move {
        let file = inner.create_file(&path).await?;
        file.write_at(0, b"abc")?;
        file.flush(0..3).await?;
        let mut bytes = [0; 3];
        file.read_at(0, &mut bytes)?;
        let again = inner.create_file(&path).await.map(|_| ()).map_err(|error| error.kind());
        Ok::<_, std::io::Error>((bytes, again))
    });
    let (bytes, again) = within(&rt, "storage", task.join()).await.expect("joined").expect("storage works");
    assert_eq!((&bytes, again), (b"abc", Err(std::io::ErrorKind::AlreadyExists)));
}

pub async fn yield_lets_others_run<R: Runtime>(rt: R, _env: Env<R>) {
    let ran = Arc::new(AtomicBool::new(false));
    let seen = ran.clone();
    rt.spawn("other", async move { seen.store(true, Ordering::SeqCst) });
    within(&rt, "the other task", async {
        while !ran.load(Ordering::SeqCst) {
            rt.yield_now().await;
        }
    })
    .await;
}

pub async fn random_numbers_differ<R: Runtime>(rt: R, _env: Env<R>) {
    let mut drawn: Vec<u64> = (0..64).map(|_| rt.random_u64()).collect();
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 64, "a random number came twice in 64 draws");
    assert!(drawn.iter().any(|n| n >> 32 != 0), "the upper half is never set");
}

//! Folders, names, locks and plain files.

use std::io::ErrorKind;

use super::{Env, expect_kind, pattern};
use crate::runtime::storage::Storage;
use crate::runtime::{Allocation, DirEntry, File, Runtime};

async fn folder<R: Runtime>(rt: &R, env: &Env<R>) {
    rt.create_dir_all(&env.dir).await.expect("create the case's folder");
}

/// A new file with these bytes.
async fn file<R: Runtime>(rt: &R, env: &Env<R>, name: &str, bytes: &[u8]) -> <R as Storage>::File {
    let file = rt.create_file(&env.path(name)).await.expect("create a file");
    file.write_at(0, bytes).expect("write a new file");
    file
}

fn read(file: &impl File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    file.read_at(offset, &mut bytes).expect("read of what is there");
    bytes
}

pub async fn folders_are_created_with_those_above<R: Runtime>(rt: R, env: Env<R>) {
    let deep = env.path("a/b/c");
    rt.create_dir_all(&deep).await.expect("create three folders");
    rt.create_dir_all(&deep).await.expect("folders that are there are fine");
    assert_eq!(rt.list(&deep).await.expect("list"), []);
    assert!(rt.stat(&env.path("a/b")).await.expect("stat").is_dir);
    for dir in [env.path("a/b"), env.path("a"), env.dir.clone()] {
        rt.sync_dir(&dir).await.expect("make the names durable");
    }
    file(&rt, &env, "a/file", b"").await;
    assert!(rt.create_dir_all(&env.path("a/file/d")).await.is_err(), "a folder below a file");
}

pub async fn create_file_never_replaces<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "new", b"kept").await;
    expect_kind(rt.create_file(&env.path("new")).await, ErrorKind::AlreadyExists, "create twice");
    expect_kind(rt.create_file(&env.path("no/new")).await, ErrorKind::NotFound, "create in no folder");
    assert_eq!(read(&file, 0, 4), b"kept");
    let empty = rt.create_file(&env.path("empty")).await.expect("create");
    assert!(empty.is_empty().expect("len"));
}

pub async fn a_sized_file_has_its_length<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    for (name, allocation) in [("sparse", Allocation::Sparse), ("reserved", Allocation::Reserve)] {
        let path = env.path(name);
        let file = rt.create_sized(&path, 10_000, allocation).await.expect("create");
        assert_eq!(file.len().expect("len"), 10_000);
        assert_eq!(rt.stat(&path).await.expect("stat").len, 10_000);
        assert_eq!(read(&file, 4_000, 6_000), [0; 6_000]);
        file.write_at(9_998, b"ab").expect("write");
        let again = rt.open_file(&path, true).await.expect("open");
        assert_eq!(read(&again, 9_997, 3), b"\0ab");
        file.flush(0..10_000).await.expect("flush");
        rt.remove(&path).await.expect("remove");
    }
    rt.sync_dir(&env.dir).await.expect("make the names durable");
    assert_eq!(rt.list(&env.dir).await.expect("list"), []);
}

pub async fn a_sized_file_never_replaces_and_an_error_leaves_none<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "new", b"kept").await;
    for allocation in [Allocation::Sparse, Allocation::Reserve] {
        let again = rt.create_sized(&env.path("new"), 4_096, allocation).await;
        expect_kind(again, ErrorKind::AlreadyExists, "create twice");
        let nowhere = rt.create_sized(&env.path("no/new"), 4_096, allocation).await;
        expect_kind(nowhere, ErrorKind::NotFound, "create in no folder");
    }
    assert_eq!(read(&file, 0, 4), b"kept");
    if !env.disk_is_bounded {
        return;
    }
    let total = rt.disk_usage(&env.dir).await.expect("disk usage").total;
    let too_long = rt.create_sized(&env.path("long"), total + (1 << 20), Allocation::Reserve).await;
    expect_kind(too_long, ErrorKind::StorageFull, "reserve what is not there");
    expect_kind(rt.stat(&env.path("long")).await, ErrorKind::NotFound, "look for what was not made");
}

pub async fn open_file_needs_a_file<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    for read_only in [false, true] {
        let missing = rt.open_file(&env.path("missing"), read_only).await;
        expect_kind(missing, ErrorKind::NotFound, "open a missing file");
        let dir = rt.open_file(&env.dir, read_only).await;
        expect_kind(dir, ErrorKind::IsADirectory, "open a folder as a file");
    }
    file(&rt, &env, "there", b"bytes").await;
    let opened = rt.open_file(&env.path("there"), false).await.expect("open");
    assert_eq!(opened.len().expect("len"), 5);
    assert_eq!(read(&opened, 1, 3), b"yte");
    let other = opened.clone();
    other.write_at(0, b"B").expect("write through a clone");
    assert_eq!(read(&opened, 0, 2), b"By");
}

pub async fn a_file_opened_for_reading_refuses_writes<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    file(&rt, &env, "f", b"fixed").await;
    let reader = rt.open_file(&env.path("f"), true).await.expect("open for reading");
    assert_eq!(read(&reader, 0, 5), b"fixed");
    assert!(reader.write_at(0, b"x").is_err(), "a write through a handle opened for reading");
    assert!(
        reader.set_len(1, Allocation::Sparse).await.is_err(),
        "a cut through a handle opened for reading"
    );
    assert_eq!(read(&reader, 0, 5), b"fixed");
}

pub async fn list_is_sorted_and_tells_folders<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    for name in ["b", "00000000001073741824", "a", "00000000000000000000"] {
        file(&rt, &env, name, b"").await;
    }
    rt.create_dir_all(&env.path("aa/inner")).await.expect("create a folder");
    let entry = |name: &str, is_dir| DirEntry { name: name.to_owned(), is_dir };
    assert_eq!(
        rt.list(&env.dir).await.expect("list"),
        [
            entry("00000000000000000000", false),
            entry("00000000001073741824", false),
            entry("a", false),
            entry("aa", true),
            entry("b", false),
        ]
    );
    expect_kind(rt.list(&env.path("missing")).await, ErrorKind::NotFound, "list a missing folder");
    expect_kind(rt.list(&env.path("a")).await, ErrorKind::NotADirectory, "list a file");
}

pub async fn stat_tells_length_and_time<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "f", &pattern(5000, 0)).await;
    let stat = rt.stat(&env.path("f")).await.expect("stat");
    assert_eq!((stat.len, stat.is_dir), (5000, false));
    let age = rt.wall_ms() - stat.modified_ms;
    assert!((-60_000..60_000).contains(&age), "a file written now is {age} ms old");
    file.set_len(10, Allocation::Sparse).await.expect("cut");
    assert_eq!(rt.stat(&env.path("f")).await.expect("stat").len, 10);
    assert!(rt.stat(&env.dir).await.expect("stat of a folder").is_dir);
    expect_kind(rt.stat(&env.path("missing")).await, ErrorKind::NotFound, "stat of nothing");
}

pub async fn rename_replaces_and_handles_stay<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let (old, new) = (file(&rt, &env, "old", b"old").await, file(&rt, &env, "new", b"new").await);
    rt.rename(&env.path("new"), &env.path("old")).await.expect("rename over a file");
    let opened = rt.open_file(&env.path("old"), true).await.expect("open the renamed file");
    assert_eq!(read(&opened, 0, 3), b"new");
    assert_eq!(read(&old, 0, 3), b"old", "a handle lost the replaced file");
    new.write_at(0, b"N").expect("write through a handle taken before the rename");
    assert_eq!(read(&opened, 0, 3), b"New");
    let missing = rt.rename(&env.path("new"), &env.path("x")).await;
    expect_kind(missing, ErrorKind::NotFound, "rename of nothing");
    let names: Vec<_> = rt.list(&env.dir).await.expect("list").into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["old"]);
}

pub async fn remove_takes_the_name_only<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let held = file(&rt, &env, "f", b"bytes").await;
    rt.remove(&env.path("f")).await.expect("remove");
    expect_kind(rt.stat(&env.path("f")).await, ErrorKind::NotFound, "stat of a removed file");
    assert_eq!(read(&held, 0, 5), b"bytes");
    held.flush(0..5).await.expect("flush of a removed file");
    let again = file(&rt, &env, "f", b"other").await;
    assert_eq!(read(&held, 0, 5), b"bytes");
    assert_eq!(read(&again, 0, 5), b"other");
    expect_kind(rt.remove(&env.path("missing")).await, ErrorKind::NotFound, "remove of nothing");
}

pub async fn only_empty_folders_are_removed<R: Runtime>(rt: R, env: Env<R>) {
    rt.create_dir_all(&env.path("d")).await.expect("create");
    file(&rt, &env, "d/f", b"").await;
    let full = rt.remove_dir(&env.path("d")).await;
    expect_kind(full, ErrorKind::DirectoryNotEmpty, "remove a folder with a file");
    rt.remove(&env.path("d/f")).await.expect("remove");
    rt.remove_dir(&env.path("d")).await.expect("remove an empty folder");
    expect_kind(rt.remove_dir(&env.path("d")).await, ErrorKind::NotFound, "remove a folder twice");
}

pub async fn sync_dir_needs_a_folder<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    rt.sync_dir(&env.dir).await.expect("sync an empty folder");
    file(&rt, &env, "f", b"").await;
    rt.sync_dir(&env.dir).await.expect("sync a folder");
    expect_kind(rt.sync_dir(&env.path("missing")).await, ErrorKind::NotFound, "sync a missing folder");
}

pub async fn disk_usage_is_plausible<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let usage = rt.disk_usage(&env.dir).await.expect("disk usage");
    assert!(usage.total > 0, "{usage:?}");
    assert!(usage.available <= usage.total, "{usage:?}");
    assert!((0.0..=1.0).contains(&usage.used_ratio()), "{usage:?}");
    assert!(!usage.read_only, "a folder that was made here: {usage:?}");
    let missing = rt.disk_usage(&env.path("missing")).await;
    expect_kind(missing, ErrorKind::NotFound, "usage of a missing folder");
}

pub async fn a_lock_excludes_until_dropped<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let path = env.path("lock");
    let held = rt.lock_file(&path).await.expect("lock a file that is not there yet");
    assert!(!rt.stat(&path).await.expect("the file is created").is_dir);
    for _ in 0..2 {
        expect_kind(rt.lock_file(&path).await, ErrorKind::WouldBlock, "lock twice");
    }
    let other = rt.lock_file(&env.path("other")).await.expect("lock another file");
    drop(held);
    let again = rt.lock_file(&path).await.expect("lock once it is free");
    drop((again, other));
    let missing = rt.lock_file(&env.path("missing/lock")).await;
    assert!(missing.is_err(), "a lock in a missing folder");
}

pub async fn a_read_past_the_end_is_an_unexpected_eof<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "f", b"0123456789").await;
    assert_eq!(read(&file, 4, 6), b"456789");
    assert_eq!(read(&file, 10, 0), b"");
    for (offset, len) in [(4, 7), (10, 1), (1 << 40, 1)] {
        let result = file.read_at(offset, &mut vec![0; len]);
        expect_kind(result, ErrorKind::UnexpectedEof, "read past the end");
    }
}

pub async fn a_write_grows_the_file_with_zeros<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "f", b"ab").await;
    file.write_at(10_000, b"cd").expect("write past the end");
    assert_eq!(file.len().expect("len"), 10_002);
    let mut expected = vec![0; 10_002];
    expected[..2].copy_from_slice(b"ab");
    expected[10_000..].copy_from_slice(b"cd");
    assert!(read(&file, 0, 10_002) == expected, "the gap is not zero");
    file.write_at(20_000, b"").expect("write of nothing");
    assert_eq!(file.len().expect("len"), 10_002, "a write of nothing grew the file");
    file.write_at(1, b"B").expect("write inside");
    assert_eq!(read(&file, 0, 3), b"aB\0");
}

pub async fn set_len_grows_with_zeros_and_cuts<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    for (name, allocation) in [("reserve", Allocation::Reserve), ("sparse", Allocation::Sparse)] {
        let file = file(&rt, &env, name, &pattern(100, 0)).await;
        file.set_len(300_000, allocation).await.expect("grow");
        assert_eq!(file.len().expect("len"), 300_000, "{name}");
        assert_eq!(read(&file, 0, 100), pattern(100, 0), "{name}: growing changed bytes");
        assert!(read(&file, 100, 299_900).iter().all(|b| *b == 0), "{name}: not zero");
        file.set_len(50, allocation).await.expect("cut");
        assert_eq!(file.len().expect("len"), 50, "{name}");
        file.set_len(100, allocation).await.expect("grow again");
        let mut expected = pattern(100, 0);
        expected[50..].fill(0);
        assert_eq!(read(&file, 0, 100), expected, "{name}: bytes came back after a cut");
        file.set_len(100, allocation).await.expect("the same length");
        file.set_len(0, allocation).await.expect("cut to nothing");
        assert!(file.is_empty().expect("len"), "{name}");
    }
}

pub async fn a_reservation_meets_a_full_disk<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    if !env.disk_is_bounded {
        return;
    }
    let file = file(&rt, &env, "f", b"kept").await;
    let total = rt.disk_usage(&env.dir).await.expect("disk usage").total;
    let too_much = file.set_len(total + (1 << 20), Allocation::Reserve).await;
    expect_kind(too_much, ErrorKind::StorageFull, "reserve more than the disk has");
    assert_eq!(file.len().expect("len"), 4, "a failed reservation changed the length");
    assert_eq!(read(&file, 0, 4), b"kept");
    file.set_len(1 << 16, Allocation::Reserve).await.expect("a small reservation still works");
}

pub async fn a_file_flushes_any_range<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "f", &pattern(10_000, 0)).await;
    for range in [0..10_000, 1..2, 5000..5000, 9_999..20_000, 0..u64::MAX] {
        file.flush(range.clone()).await.unwrap_or_else(|error| panic!("flush of {range:?}: {error}"));
    }
    let empty = rt.create_file(&env.path("empty")).await.expect("create");
    empty.flush(0..0).await.expect("flush of an empty file");
    let reopened = rt.open_file(&env.path("f"), true).await.expect("open");
    assert!(read(&reopened, 0, 10_000) == pattern(10_000, 0));
}

pub async fn a_redirtied_file_keeps_its_bytes<R: Runtime>(rt: R, env: Env<R>) {
    folder(&rt, &env).await;
    let file = file(&rt, &env, "f", &pattern(10_001, 0)).await;
    file.flush(0..10_001).await.expect("flush");
    for range in [0..10_001, 4095..4097, 10_000..10_001, 7..7, 9_000..50_000] {
        file.redirty(range.clone()).unwrap_or_else(|error| panic!("redirty {range:?}: {error}"));
    }
    assert_eq!(file.len().expect("len"), 10_001, "redirty grew the file");
    file.flush(0..10_001).await.expect("flush again");
    assert!(read(&file, 0, 10_001) == pattern(10_001, 0), "redirty changed bytes");
}

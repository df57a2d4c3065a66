//! What the store's hot path pays: an append into prefaulted pages, a view, a flush of 4 KiB from an async task. The last
//! is to be read beside `fdatasync` of as much on the same disk, which is its floor.
//!
//! Folders are made under TMPDIR: on a file system in memory the flushes say nothing.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hotfire_core::runtime::storage::Storage;
use hotfire_core::runtime::{Allocation, Backing, File as _, SegmentReader, SegmentWriter, View};
use hotfire_runtime::TokioRuntime;

const CAPACITY: usize = 64 << 20;
const RECORD: usize = 1024;
const PAGE: usize = 4096;

type Writer = <TokioRuntime as Storage>::SegmentWriter;

async fn segment(folder: &Path) -> Writer {
    let rt = TokioRuntime::new(folder);
    let file = rt.create_file("segment").await.expect("create");
    file.set_len(CAPACITY as u64, Allocation::Reserve).await.expect("reserve");
    let writer = rt.open_segment("segment", 0, Backing::Mapped).await.expect("open");
    writer.reader().prefault(0..CAPACITY).await.expect("prefault");
    writer
}

/// Takes the tail back to the start, with warm pages, outside of what is measured.
async fn rewind(writer: &mut Writer) {
    writer.truncate(0, Duration::from_secs(10)).await.expect("truncate");
    writer.reader().prefault(0..CAPACITY).await.expect("prefault");
}

fn in_memory(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = tokio.block_on(segment(folder.path()));
    let record = [0x5a; RECORD];

    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Bytes(RECORD as u64));
    group.bench_function("append 1 KiB", |bencher| {
        bencher.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                tokio.block_on(rewind(&mut writer));
                let batch = left.min((CAPACITY / RECORD) as u64);
                let start = Instant::now();
                for _ in 0..batch {
                    let appended = writer.append(RECORD, |into| into.copy_from_slice(black_box(&record)));
                    black_box(appended);
                }
                spent += start.elapsed();
                left -= batch;
            }
            spent
        });
    });

    tokio.block_on(rewind(&mut writer));
    writer.advance(CAPACITY);
    let reader = writer.reader();
    group.bench_function("view 1 KiB", |bencher| {
        bencher.iter(|| reader.view(black_box(4096), RECORD).expect("view"));
    });
    group.bench_function("view 1 KiB as Bytes", |bencher| {
        bencher.iter(|| reader.view(black_box(4096), RECORD).expect("view").to_bytes());
    });
    group.finish();
}

fn on_disk(criterion: &mut Criterion) {
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let page = [0x5a; PAGE];
    let mut group = criterion.benchmark_group("4 KiB to disk");
    group.sample_size(50).measurement_time(Duration::from_secs(5));

    let file = File::create_new(folder.path().join("plain")).expect("create");
    let plain = tokio.block_on(async {
        let rt = TokioRuntime::new(folder.path());
        let plain = rt.open_file("plain", false).await.expect("open");
        plain.set_len(CAPACITY as u64, Allocation::Reserve).await.expect("reserve");
        plain
    });
    file.sync_all().expect("sync");
    let mut at = 0;
    group.bench_function("write and fdatasync on one thread", |bencher| {
        bencher.iter(|| {
            file.write_all_at(&page, (at % CAPACITY) as u64).expect("write");
            file.sync_data().expect("fdatasync");
            at += PAGE;
        });
    });
    drop(plain);

    let mut home = Some(tokio.block_on(segment(folder.path())));
    // As the store's flush task: a task on a worker thread.
    group.bench_function("append and flush in a task", |bencher| {
        bencher.iter_custom(|count| {
            let mut writer = home.take().expect("given back each time");
            let task = async move {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    if writer.written() == CAPACITY {
                        rewind(&mut writer).await;
                        writer.reader().flush(0..CAPACITY).await.expect("flush");
                    }
                    let at = writer.written();
                    let start = Instant::now();
                    writer.append(PAGE, |into| into.copy_from_slice(&page)).expect("append");
                    writer.reader().flush(at..at + PAGE).await.expect("flush");
                    spent += start.elapsed();
                }
                (writer, spent)
            };
            let (back, spent) = tokio.block_on(tokio.spawn(task)).expect("task");
            home = Some(back);
            spent
        });
    });

    // What the way to a thread that may block, and back, adds to each flush.
    let reader = home.expect("given back").reader();
    group.bench_function("flush of nothing in a task", |bencher| {
        bencher.iter_custom(|count| {
            let reader = reader.clone();
            let task = async move {
                let start = Instant::now();
                for _ in 0..count {
                    reader.flush(0..0).await.expect("flush");
                }
                start.elapsed()
            };
            tokio.block_on(tokio.spawn(task)).expect("task")
        });
    });
    group.finish();
}

criterion_group!(benches, in_memory, on_disk);
criterion_main!(benches);

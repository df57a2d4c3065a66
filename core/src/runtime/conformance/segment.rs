//! Mapped segments and their views.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Buf;

use super::{Env, LIMIT, expect_kind, pattern, within};
use crate::runtime::storage::Storage;
use crate::runtime::{Allocation, Backing, File, Runtime, SegmentReader, SegmentWriter, Task, View};

const CAPACITY: usize = 256 * 1024;

type Writer<R> = <R as Storage>::SegmentWriter;

/// A new segment of [`CAPACITY`] zero bytes.
async fn create<R: Runtime>(rt: &R, env: &Env<R>, name: &str, backing: Backing) -> Writer<R> {
    rt.create_dir_all(&env.dir).await.expect("create the case's folder");
    let path = env.path(name);
    let file = rt.create_file(&path).await.expect("create a segment's file");
    file.set_len(CAPACITY as u64, Allocation::Reserve).await.expect("set a segment's length");
    drop(file);
    rt.open_segment(&path, 0, backing).await.expect("open a new segment")
}

fn append(writer: &mut impl SegmentWriter, bytes: &[u8]) {
    let at = writer.written();
    let handed = writer.append(bytes.len(), |into| {
        into.copy_from_slice(bytes);
        into.len()
    });
    assert_eq!(handed, Some(bytes.len()), "append of {} bytes at {at}", bytes.len());
    assert_eq!(writer.written(), at + bytes.len());
}

fn shown(reader: &impl SegmentReader, offset: usize, len: usize) -> Vec<u8> {
    let view = reader.view(offset, len).expect("view of published bytes");
    assert_eq!(view.as_ref().len(), len);
    view.as_ref().to_vec()
}

pub async fn open_segment_checks_file_and_position<R: Runtime>(rt: R, env: Env<R>) {
    drop(create(&rt, &env, "s", Backing::Mapped).await);
    let missing = rt.open_segment(&env.path("missing"), 0, Backing::Mapped).await;
    expect_kind(missing, ErrorKind::NotFound, "open a missing segment");
    for backing in [Backing::Mapped, Backing::Pooled] {
        let beyond = rt.open_segment(&env.path("s"), CAPACITY + 1, backing).await;
        expect_kind(beyond, ErrorKind::InvalidInput, "written beyond the length");
        let full = rt.open_segment(&env.path("s"), CAPACITY, backing).await.expect("written to the end");
        assert_eq!((full.written(), full.capacity()), (CAPACITY, CAPACITY));
        assert_eq!(full.reader().capacity(), CAPACITY);
    }
    rt.create_file(&env.path("empty")).await.expect("create");
    for backing in [Backing::Mapped, Backing::ReadOnly] {
        let empty = rt.open_segment(&env.path("empty"), 0, backing).await;
        expect_kind(empty, ErrorKind::InvalidInput, "map an empty file");
    }
}

pub async fn a_segment_that_is_only_read_takes_no_appends<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    writer.append(3, |into| into.copy_from_slice(b"abc")).expect("room");
    drop(writer);
    let mut reading = rt.open_segment(&env.path("s"), CAPACITY, Backing::ReadOnly).await.expect("open");
    assert_eq!(shown(&reading.reader(), 0, 4), b"abc\0");
    drop(reading);
    reading = rt.open_segment(&env.path("s"), 3, Backing::ReadOnly).await.expect("open");
    assert!(reading.append(1, |into| into.fill(b'x')).is_none());
    let cut = reading.truncate(0, std::time::Duration::from_secs(1)).await;
    expect_kind(cut, ErrorKind::ReadOnlyFilesystem, "cut what is only read");
    drop(reading);
    let whole = rt.open_segment(&env.path("s"), CAPACITY, Backing::Mapped).await.expect("open");
    assert_eq!(shown(&whole.reader(), 0, 4), b"abc\0");
}

pub async fn appends_are_seen_at_once_and_end_at_the_capacity<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    let reader = writer.reader();
    assert_eq!((writer.written(), reader.written()), (0, 0));
    let bytes = pattern(CAPACITY, 0);
    append(&mut writer, &bytes[..1000]);
    assert_eq!(reader.written(), 1000);
    assert_eq!(shown(&reader, 0, 1000), bytes[..1000]);
    append(&mut writer, &bytes[1000..CAPACITY - 10]);
    let refused = writer.append(11, |_| panic!("the closure of a refused append ran"));
    assert!(refused.is_none(), "11 bytes where 10 are left");
    assert_eq!(writer.append(usize::MAX, |_| ()), None, "a length that overflows");
    assert_eq!((writer.written(), reader.written()), (CAPACITY - 10, CAPACITY - 10));
    append(&mut writer, &bytes[CAPACITY - 10..]);
    assert_eq!(writer.append(1, |_| ()), None, "one byte into a full segment");
    assert_eq!(writer.append(0, |into| into.len()), Some(0), "an empty append fits anywhere");
    assert!(shown(&reader, 0, CAPACITY) == bytes, "the segment differs from what was appended");
    writer.commit(CAPACITY).expect("commit of a mapped segment");
    assert_eq!(reader.written(), CAPACITY);
}

pub async fn advance_publishes_what_is_there<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(500, 0));
    let reader = writer.reader();
    writer.advance(20);
    assert_eq!((writer.written(), reader.written()), (520, 520));
    assert_eq!(shown(&reader, 500, 20), [0; 20]);
    drop(writer);
    let mut writer = rt.open_segment(&env.path("s"), 0, Backing::Mapped).await.expect("reopen");
    writer.advance(500);
    assert_eq!(shown(&writer.reader(), 0, 500), pattern(500, 0));
    writer.advance(CAPACITY - 500);
    writer.advance(0);
    assert_eq!(writer.written(), CAPACITY);
}

pub async fn views_show_published_bytes_only<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(100, 0));
    let reader = writer.reader();
    for (offset, len) in [(0, 101), (100, 1), (101, 0), (usize::MAX, 1), (1, usize::MAX), (CAPACITY, 1)] {
        let view = reader.view(offset, len);
        expect_kind(view, ErrorKind::InvalidInput, &format!("view of {len} bytes at {offset}"));
    }
    assert_eq!(shown(&reader, 100, 0), Vec::<u8>::new());
    let view = reader.view(10, 90).expect("view to the end");
    append(&mut writer, &pattern(100, 7));
    assert_eq!(view.as_ref(), &pattern(100, 0)[10..], "an append changed a view");
    assert_eq!(shown(&reader, 100, 100), pattern(100, 7));
}

pub async fn views_are_buffers<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    let bytes = pattern(100, 0);
    append(&mut writer, &bytes);
    let mut view = writer.reader().view(0, 100).expect("view");
    let whole = view.clone();
    assert_eq!(view.to_bytes(), bytes);
    view.advance(30);
    assert_eq!((view.remaining(), view.chunk()), (70, &bytes[30..]));
    assert_eq!(view.as_ref(), &bytes[30..]);
    assert_eq!(view.to_bytes(), bytes[30..]);
    assert_eq!(view.slice(5..10).as_ref(), &bytes[35..40], "a slice is relative to what remains");
    assert_eq!(view.slice(70..70).as_ref(), b"");
    assert_eq!(view.slice(0..70).slice(69..70).as_ref(), &bytes[99..]);
    view.advance(70);
    assert_eq!((view.remaining(), view.chunk()), (0, &b""[..]));
    assert_eq!(whole.as_ref(), bytes, "a clone moved along");
    let shared = whole.to_bytes();
    drop((view, whole, writer));
    assert_eq!(shared, bytes, "bytes lost their mapping");
}

pub async fn segment_and_file_show_the_same_bytes<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(9000, 0));
    let file = rt.open_file(&env.path("s"), false).await.expect("open a mapped file");
    assert_eq!(file.len().expect("len"), CAPACITY as u64);
    let mut bytes = vec![0xee; 9100];
    file.read_at(0, &mut bytes).expect("read a mapped file");
    assert!(bytes[..9000] == pattern(9000, 0), "appended bytes are not in the file");
    assert!(bytes[9000..].iter().all(|b| *b == 0), "bytes behind the tail");
}

pub async fn a_reopened_segment_has_its_bytes<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(9000, 0));
    drop(writer);
    let mut writer = rt.open_segment(&env.path("s"), 8000, Backing::Mapped).await.expect("reopen");
    let reader = writer.reader();
    assert_eq!((writer.written(), reader.written()), (8000, 8000));
    append(&mut writer, &pattern(10, 99));
    assert_eq!(shown(&reader, 0, 8000), pattern(8000, 0));
    assert_eq!(shown(&reader, 8000, 10), pattern(10, 99));
}

pub async fn a_segment_flushes_any_range<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    let reader = writer.reader();
    reader.flush(0..0).await.expect("flush before the first byte");
    append(&mut writer, &pattern(20_000, 0));
    for range in
        [0..20_000, 4095..4097, 100..100, 19_999..CAPACITY + 5, CAPACITY + 1..CAPACITY + 2, 0..usize::MAX]
    {
        let flushed = within(&rt, "flush", reader.flush(range.clone())).await;
        flushed.unwrap_or_else(|error| panic!("flush of {range:?}: {error}"));
    }

    // Appends go on while a flush is under way, and a flush given up harms nothing.
    let flushing = reader.clone();
    let task = rt.spawn("flush", async move { flushing.flush(0..CAPACITY).await });
    append(&mut writer, &pattern(20_000, 20_000));
    let _ = rt.timeout(Duration::ZERO, reader.flush(0..40_000)).await;
    append(&mut writer, &pattern(20_000, 40_000));
    within(&rt, "flush", task.join()).await.expect("flush task").expect("flush beside appends");
    assert!(shown(&reader, 0, 60_000) == pattern(60_000, 0), "bytes changed under a flush");
    let outlives = reader.clone();
    drop((writer, reader));
    within(&rt, "flush", outlives.flush(0..60_000)).await.expect("flush without a writer");
}

pub async fn prefault_and_redirty_change_no_byte<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    let reader = writer.reader();
    append(&mut writer, &pattern(10_000, 0));
    let ahead = reader.clone();
    let task = rt.spawn("prefault", async move { ahead.prefault(0..CAPACITY).await });
    let ahead = reader.clone();
    let read = rt.spawn("read_ahead", async move { ahead.read_ahead(0..usize::MAX).await });
    for at in (10_000..CAPACITY - 1000).step_by(1000) {
        append(&mut writer, &pattern(1000, at));
    }
    within(&rt, "read ahead", read.join()).await.expect("read ahead task").expect("read ahead");
    within(&rt, "prefault", task.join()).await.expect("prefault task").expect("prefault");
    let written = writer.written();
    assert!(shown(&reader, 0, written) == pattern(written, 0), "prefault changed bytes");
    within(&rt, "flush", reader.flush(0..CAPACITY)).await.expect("flush");
    let view = reader.view(0, written).expect("view");
    for range in [0..written, 4095..4097, 0..0, 4096..8192, 0..CAPACITY] {
        writer.redirty(range);
    }
    assert!(view.as_ref() == pattern(written, 0), "redirty changed bytes");
    assert_eq!((writer.written(), reader.written()), (written, written));
    within(&rt, "flush", reader.flush(0..CAPACITY)).await.expect("flush of redirtied pages");
    within(&rt, "prefault", reader.prefault(0..0)).await.expect("prefault of nothing");
    append(&mut writer, &pattern(CAPACITY - written, written));
    assert!(shown(&reader, 0, CAPACITY) == pattern(CAPACITY, 0), "bytes behind the tail changed");
}

pub async fn truncate_waits_for_views_beyond<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(20_000, 0));
    let reader = writer.reader();
    let view = reader.view(15_000, 100).expect("view");
    let kept = view.to_bytes();
    for patience in [Duration::ZERO, Duration::from_millis(20)] {
        let start = rt.now();
        let refused = within(&rt, "truncate", writer.truncate(10_000, patience)).await;
        expect_kind(refused, ErrorKind::TimedOut, "truncate under a live view");
        assert!(rt.now().since(start) >= patience, "gave up early");
        assert_eq!(
            (writer.written(), reader.written()),
            (20_000, 20_000),
            "a refused truncate moved the tail"
        );
        assert!(shown(&reader, 0, 20_000) == pattern(20_000, 0), "a refused truncate changed bytes");
    }
    drop(view);
    let refused = within(&rt, "truncate", writer.truncate(10_000, Duration::ZERO)).await;
    expect_kind(refused, ErrorKind::TimedOut, "truncate under bytes of a view");
    append(&mut writer, &pattern(10, 20_000));
    assert_eq!(kept, pattern(100, 15_000));

    let inner = rt.clone();
    let holder = rt.spawn("holder", async move {
        inner.sleep(Duration::from_millis(20)).await;
        drop(kept);
    });
    within(&rt, "truncate", writer.truncate(10_000, LIMIT)).await.expect("truncate once the view is gone");
    within(&rt, "holder", holder.join()).await.expect("holder");
    assert_eq!((writer.written(), reader.written()), (10_000, 10_000));
    expect_kind(reader.view(9_999, 2), ErrorKind::InvalidInput, "view beyond the new tail");
}

pub async fn truncate_ignores_views_below<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(CAPACITY, 0));
    let reader = writer.reader();
    let below = reader.view(0, 1000).expect("view");
    let truncated = within(&rt, "truncate", writer.truncate(CAPACITY / 2, Duration::ZERO)).await;
    truncated.expect("truncate above a view");
    assert_eq!(below.as_ref(), pattern(1000, 0));
}

pub async fn truncate_zeroes_to_the_end<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(CAPACITY, 0));
    drop(writer);
    // Bytes behind `written` are cut too: after a crash the tail is unknown, and what was there must not come back.
    let mut writer = rt.open_segment(&env.path("s"), 50_000, Backing::Mapped).await.expect("reopen");
    within(&rt, "truncate", writer.truncate(10_001, LIMIT)).await.expect("truncate");
    assert_eq!(writer.written(), 10_001);
    let reader = writer.reader();
    writer.advance(CAPACITY - 10_001);
    assert!(shown(&reader, 0, 10_001) == pattern(10_001, 0), "truncate changed bytes below");
    let rest = shown(&reader, 10_001, CAPACITY - 10_001);
    assert_eq!(rest.iter().position(|b| *b != 0), None, "a cut byte is not zero");

    // The tail can be used again, cut again at the same place, and cut to nothing.
    within(&rt, "truncate", writer.truncate(10_001, LIMIT)).await.expect("truncate");
    append(&mut writer, &pattern(5000, 77));
    assert_eq!(shown(&reader, 10_001, 5000), pattern(5000, 77));
    within(&rt, "truncate", writer.truncate(0, LIMIT)).await.expect("truncate to nothing");
    assert_eq!(reader.written(), 0);
    writer.advance(CAPACITY);
    assert!(shown(&reader, 0, CAPACITY).iter().all(|b| *b == 0), "a cut byte is not zero");
}

pub async fn truncate_goes_back_only<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(100, 0));
    within(&rt, "truncate", writer.truncate(100, Duration::ZERO)).await.expect("truncate at the tail");
    assert_eq!(writer.written(), 100);
    let ahead = within(&rt, "truncate", writer.truncate(101, Duration::ZERO)).await;
    expect_kind(ahead, ErrorKind::InvalidInput, "truncate ahead of the tail");
    assert_eq!(shown(&writer.reader(), 0, 100), pattern(100, 0));
}

pub async fn pooled_appends_are_seen_when_committed<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Pooled).await;
    let reader = writer.reader();
    append(&mut writer, &pattern(9000, 0));
    append(&mut writer, &pattern(1000, 9000));
    assert_eq!((writer.written(), reader.written()), (10_000, 0));
    expect_kind(reader.view(0, 1), ErrorKind::InvalidInput, "view of an uncommitted byte");
    writer.commit(5000).expect("commit a part");
    assert_eq!((writer.written(), reader.written()), (10_000, 5000));
    assert_eq!(shown(&reader, 0, 5000), pattern(5000, 0));
    writer.commit(5000).expect("commit the same part");
    writer.commit(10).expect("commit less");
    assert_eq!(reader.written(), 5000, "the committed position went back");
    append(&mut writer, &pattern(10, 10_000));
    writer.commit(10_010).expect("commit the rest");
    within(&rt, "flush", reader.flush(0..10_010)).await.expect("flush");
    assert!(shown(&reader, 0, 10_010) == pattern(10_010, 0));
    assert_eq!(writer.append(CAPACITY - 10_009, |_| ()), None, "more than is left");
    append(&mut writer, &pattern(CAPACITY - 10_010, 10_010));
    drop(writer); // uncommitted bytes are lost, as with a process that dies
    let writer = rt.open_segment(&env.path("s"), 10_010, Backing::Mapped).await.expect("reopen");
    let mut writer = writer;
    writer.advance(100);
    assert!(shown(&writer.reader(), 0, 10_010) == pattern(10_010, 0));
    assert_eq!(shown(&writer.reader(), 10_010, 100), [0; 100], "uncommitted bytes are in the file");
}

pub async fn pooled_appends_can_be_cut<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Pooled).await;
    let reader = writer.reader();
    append(&mut writer, &pattern(10_000, 0));
    writer.commit(6000).expect("commit");
    within(&rt, "truncate", writer.truncate(8000, LIMIT)).await.expect("cut uncommitted bytes");
    assert_eq!((writer.written(), reader.written()), (8000, 6000));
    writer.commit(8000).expect("commit");
    assert!(shown(&reader, 0, 8000) == pattern(8000, 0));
    append(&mut writer, &pattern(100, 8000));
    within(&rt, "truncate", writer.truncate(5000, LIMIT)).await.expect("cut committed bytes");
    assert_eq!((writer.written(), reader.written()), (5000, 5000));
    writer.advance(100);
    writer.commit(5100).expect("commit");
    assert!(shown(&reader, 0, 5000) == pattern(5000, 0));
    assert_eq!(shown(&reader, 5000, 100), [0; 100], "a cut byte is not zero");
}

pub async fn a_removed_segment_lives_on_in_its_views<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(5000, 0));
    let reader = writer.reader();
    let view = reader.view(100, 4900).expect("view");
    rt.remove(&env.path("s")).await.expect("remove under a view");
    append(&mut writer, &pattern(5000, 5000));
    assert!(shown(&reader, 0, 10_000) == pattern(10_000, 0));
    within(&rt, "flush", reader.flush(0..10_000)).await.expect("flush of a removed segment");
    drop((writer, reader));
    assert!(view.as_ref() == &pattern(5000, 0)[100..], "a view lost its bytes");
    let again = create(&rt, &env, "s", Backing::Mapped).await;
    assert_eq!(again.written(), 0);
    assert!(view.as_ref() == &pattern(5000, 0)[100..], "a new file under the old name shows through");
}

pub async fn live_views_are_counted<R: Runtime>(rt: R, env: Env<R>) {
    let mut writer = create(&rt, &env, "s", Backing::Mapped).await;
    append(&mut writer, &pattern(CAPACITY, 0));
    let reader = writer.reader();
    assert_eq!(reader.live_views(), 0);
    let mut first = reader.view(0, 100).expect("view");
    let second = reader.view(CAPACITY - 1, 1).expect("view");
    assert_eq!(reader.live_views(), 2);
    let (clone, slice) = (first.clone(), first.slice(10..20));
    assert_eq!(reader.clone().live_views(), 4);
    first.advance(100);
    assert_eq!(reader.live_views(), 4, "a view that was read to its end is still a view");
    drop((first, second, clone));
    assert_eq!(reader.live_views(), 1);
    let bytes = slice.to_bytes();
    drop(slice);
    assert_eq!(reader.live_views(), 1, "bytes of a view keep it alive");
    drop(bytes);
    assert_eq!(reader.live_views(), 0);
    assert!(reader.view(CAPACITY, 1).is_err());
    assert_eq!(reader.live_views(), 0, "a refused view was counted");
}

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use hotfire_core::runtime::storage::View as _;

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
    len: usize,
}

impl Fixture {
    fn new(len: usize) -> Fixture {
        let fixture = Fixture { folder: tempfile::tempdir().expect("a folder"), len };
        File::create_new(fixture.path()).and_then(|file| file.set_len(len as u64)).expect("a file");
        fixture
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("segment")
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(self.path()).expect("open")
    }

    fn full(&self) -> Tail {
        Tail::open(self.file(), self.len).expect("a tail")
    }
}

#[test]
fn a_file_has_one_tail_under_any_name() {
    let fixture = Fixture::new(100);
    let link = fixture.folder.path().join("link");
    std::fs::hard_link(fixture.path(), &link).expect("link");
    let tail = fixture.full();
    let again = File::options().read(true).write(true).open(&link).expect("open");
    assert_eq!(Tail::open(again, 0).err().map(|e| e.kind()), Some(ErrorKind::ResourceBusy));
    let map = tail.map().clone();
    drop(tail);
    let next = fixture.full();
    drop(map);
    assert!(Tail::open(fixture.file(), 0).is_err(), "an old mapping's end gave up the new tail");
    drop(next);
    fixture.full();
}

#[test]
fn a_mapped_file_grows_but_is_not_cut_while_a_view_lives() {
    let fixture = Fixture::new(5000);
    let tail = fixture.full();
    let view = tail.map().view(0, 5000).expect("view");
    drop(tail);
    let file = fixture.file();
    assert_eq!(cut_unless_mapped(&file, 4999).err().map(|e| e.kind()), Some(ErrorKind::ResourceBusy));
    cut_unless_mapped(&file, 10_000).expect("grow");
    assert_eq!(view.as_ref(), [0; 5000]);
    drop(view);
    cut_unless_mapped(&file, 10).expect("cut what nobody maps");
}

#[test]
fn lengths_around_regions_and_pages_keep_every_view_countable() {
    for len in [1, 2, 63, 64, 65, 127, 128, 129, 4095, 4096, 4097, 300_000] {
        let fixture = Fixture::new(len);
        let mut tail = fixture.full();
        let map = tail.map().clone();
        let last = map.view(len - 1, 1).expect("the last byte");
        assert_eq!(map.live_views(), 1, "{len}");
        assert!(!tail.retract(len - 1), "{len}: retracted a byte in view");
        assert!(tail.retract(len), "{len}: nothing to retract");
        drop(last);
        let empty = map.view(len, 0).expect("an empty view at the end");
        assert_eq!(empty.as_ref(), b"");
        drop(empty);
        assert!(tail.retract(0), "{len}");
        assert!(map.view(0, 1).is_none(), "{len}: a view of a retracted byte");
        tail.unpublished(0..len).fill(7);
        map.populate(0..len).expect("populate");
        map.populate(len..len).expect("populate nothing");
        map.touch(0..len);
        map.flush(0..len).expect("flush");
        map.flush(len..len).expect("flush nothing");
        tail.publish(len);
        assert!(map.view(0, len).expect("view").as_ref().iter().all(|b| *b == 7), "{len}");
    }
}

#[test]
fn a_part_counts_where_its_origin_does() {
    let fixture = Fixture::new(64 * 1024);
    let mut tail = fixture.full();
    let map = tail.map().clone();
    let origin = map.view(0, 64 * 1024).expect("view");
    let part = origin.slice(0..10);
    drop(origin);
    // The part would allow it, but a count that moves between regions could be missed by one who adds them up.
    assert!(!tail.retract(32 * 1024));
    assert_eq!(map.live_views(), 1);
    drop(part);
    assert!(tail.retract(32 * 1024));
}

#[test]
#[should_panic(expected = "is not unpublished")]
fn published_bytes_cannot_be_stored_into() {
    let fixture = Fixture::new(100);
    let mut tail = Tail::open(fixture.file(), 50).expect("a tail");
    tail.unpublished(49..60);
}

#[test]
#[should_panic(expected = "is not unpublished")]
fn bytes_beyond_the_end_cannot_be_stored_into() {
    let fixture = Fixture::new(100);
    let mut tail = Tail::open(fixture.file(), 50).expect("a tail");
    tail.unpublished(50..101);
}

#[test]
fn touching_pages_loses_no_store_beside_it() {
    let len = 1 << 20;
    let fixture = Fixture::new(len);
    let mut tail = Tail::open(fixture.file(), 0).expect("a tail");
    let map = tail.map().clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                map.touch(0..len);
            }
        });
        for round in 1..=50u8 {
            for at in (0..len).step_by(PAGE / 2) {
                tail.unpublished(at..at + PAGE / 2).fill(round);
                assert!(
                    tail.unpublished(at..at + PAGE / 2).iter().all(|b| *b == round),
                    "a store was undone"
                );
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(tail.unpublished(0..len).iter().all(|b| *b == 50), "a store was undone");
}

#[test]
fn a_view_that_a_retract_overtakes_is_refused() {
    let fixture = Fixture::new(1000);
    let mut tail = fixture.full();
    let map = tail.map().clone();
    let view = map.view_interrupted(0, 100, || assert!(tail.retract(10), "nobody is counted yet"));
    assert!(view.is_none(), "a view of bytes that may be stored into");
    assert_eq!(map.live_views(), 0);
    let view = map.view_interrupted(0, 10, || assert!(tail.retract(10)));
    assert_eq!(view.expect("still published").as_ref(), [0; 10]);
}

#[test]
fn a_view_never_shows_a_store_made_after_a_retract() {
    // One thread appends a generation, takes it back and appends the next; readers must see each view whole and steady.
    let len = 64 * 64;
    let fixture = Fixture::new(len);
    let mut tail = Tail::open(fixture.file(), 0).expect("a tail");
    let map = tail.map().clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let Some(view) = map.view(64, 256) else {
                        continue;
                    };
                    let first = view.as_ref()[0];
                    let part = view.slice(100..200);
                    drop(view);
                    assert!(part.as_ref().iter().all(|b| *b == first), "bytes changed under a view");
                }
            });
        }
        let mut retracted = 0;
        // A reader that is not running may hold its view for as long as others have the processor: it gets ours.
        for round in 0..20_000_000u32 {
            let at = tail.position();
            if at < 512 {
                tail.unpublished(at..512).fill(round as u8);
                tail.publish(512);
            }
            if tail.retract(0) {
                retracted += 1;
            } else {
                std::thread::yield_now();
            }
            if retracted == 300 {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(retracted, 300, "readers hardly ever let go");
    });
    assert_eq!(map.live_views(), 0);
}

/// What the kernel counts as dirty in the mappings of the file, in KiB.
#[cfg(target_os = "linux")]
fn dirty_kib(path: &std::path::Path) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
    let mut lines = smaps.lines().skip_while(|line| !line.ends_with(path.to_str().expect("UTF-8"))).skip(1);
    let of_one = lines.by_ref().take_while(|line| !line.starts_with("VmFlags"));
    of_one
        .filter(|line| line.starts_with("Shared_Dirty:") || line.starts_with("Private_Dirty:"))
        .map(|line| line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number"))
        .sum()
}

#[cfg(target_os = "linux")]
#[test]
fn clean_pages_become_dirty_both_ways() {
    let len = 100 * PAGE;
    let fixture = Fixture::new(len);
    let mut tail = Tail::open(fixture.file(), 0).expect("a tail");
    tail.unpublished(0..len).fill(1);
    let map = tail.map().clone();
    let kib = |pages: u64| pages * PAGE as u64 / 1024;
    let ways: [fn(&Map, Range<usize>); 2] =
        [|map, range| map.populate(range).expect("populate"), |map, range| map.touch(range)];
    for make_dirty in ways {
        assert!(dirty_kib(&fixture.path()) >= kib(100), "the stores are not seen in smaps");
        map.flush(0..len).expect("flush");
        if dirty_kib(&fixture.path()) > 0 {
            return; // a file system in memory: its pages stay dirty
        }
        make_dirty(&map, PAGE + 1..3 * PAGE + 1);
        assert_eq!(dirty_kib(&fixture.path()), kib(3));
        make_dirty(&map, 0..len);
    }
}

//! A node's disk: files and names that outlive the process, behind a kernel's page cache.
//!
//! | event | cache | platter |
//! |---|---|---|
//! | store, write | changes, page dirty | - |
//! | flush of a range | its dirty pages become clean; their snapshots are in flight | snapshots and length land at its end |
//! | background writeback, 0.1-5 s after a store | any subset of the dirty pages becomes clean | lands as above |
//! | failed flush | pages are clean all the same: the next flush finds nothing to do | each page landed or not |
//! | process death | survives, with what a half-done store left | flushes in flight complete |
//! | power loss | gone | pages in flight or dirty: lost, whole, or torn by sector (`power_loss`) |
//!
//! The kernel's page lock: a flush or writeback of a page waits for the one in flight before it, so an older snapshot never
//! overwrites a newer one, and a flush that finds its pages clean but in flight returns only when they have landed.
//!
//! Names and lengths are apart from bytes: a name is durable after `sync_dir` of its folder, a length after a flush of its file.
//!
//! Every call of the product is a storage step: counted, traced with its content, and a place where the node can be made to end.

mod faults;
mod file;
mod names;
mod page_cache;
mod power_loss;
mod segment;
mod storage;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::task::Waker;

use crate::cluster::NodeId;
use crate::seed::{Draws, Key, hash_bytes};
use crate::world::{Event, Inner};

use names::{Entry, Names};
use page_cache::{Inode, LenSnapshot, Page, PageFault, pages_of};

pub use faults::{DiskControl, DiskFaults, LostFile};
pub use file::SimFile;
pub use page_cache::{PAGE, SECTOR};
pub(crate) use power_loss::power_lost;
pub use power_loss::{ChosenLoss, Severity};
pub use segment::{SimSegmentReader, SimSegmentWriter};
pub use storage::SimLock;
pub use view::SimView;

/// Labels of draws below a disk's key.
const DRAW_STEP: u64 = 1;
const DRAW_FLUSH: u64 = 2;
const DRAW_WRITEBACK: u64 = 3;
const DRAW_POWER_LOSS: u64 = 4;
const DRAW_LANDING: u64 = 5;
const DRAW_UNNAMED: u64 = 6;
const DRAW_READ: u64 = 7;

/// A disk read out: paths as the product named them (normalized).
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Image {
    pub files: BTreeMap<String, Vec<u8>>,
    pub dirs: BTreeSet<String>,
    /// Files and folders whose names a power loss would keep.
    pub durable_names: BTreeSet<String>,
}

/// Pages on their way to the platter.
struct Flight {
    inode: u64,
    pages: Vec<(usize, Page)>,
    /// Page numbers it covers, whether they were dirty or not.
    range: Range<usize>,
    len: Option<LenSnapshot>,
    lands_ns: u64,
    fails: bool,
    /// Somebody waits for it and will take its result.
    waited_for: bool,
    waker: Option<Waker>,
}

pub(crate) struct Disk {
    node: NodeId,
    key: Key,
    faults: DiskFaults,
    /// Folders on partitions of their own that are full.
    full_folders: BTreeSet<String>,
    names: Names,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    flights: BTreeMap<u64, Flight>,
    landed: BTreeMap<u64, Result<(), io::ErrorKind>>,
    next_flight: u64,
    dirty: BTreeSet<u64>,
    writeback_armed: bool,
    writebacks: u64,
    used_blocks: u64,
    locks: BTreeMap<String, u32>,
    power_losses: u64,
    steps: u64,
    /// Reads that could have failed.
    reads: u64,
    stalled_until_ns: u64,
}

impl Disk {
    pub(crate) fn new(node: NodeId, key: Key) -> Disk {
        Disk {
            node,
            key,
            faults: DiskFaults::default(),
            full_folders: BTreeSet::new(),
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            flights: BTreeMap::new(),
            landed: BTreeMap::new(),
            next_flight: 0,
            dirty: BTreeSet::new(),
            writeback_armed: false,
            writebacks: 0,
            used_blocks: 0,
            locks: BTreeMap::new(),
            power_losses: 0,
            steps: 0,
            reads: 0,
            stalled_until_ns: 0,
        }
    }

    /// Leaves an empty disk behind.
    pub(crate) fn take(&mut self) -> Disk {
        let empty = Disk::new(self.node, self.key);
        std::mem::replace(self, empty)
    }

    /// Another disk, an empty one, in the place of this one. What is drawn goes on, so that the two do not fail alike.
    fn replace(&mut self) {
        let lost = self.take();
        *self = Disk {
            faults: lost.faults,
            next_inode: lost.next_inode,
            next_flight: lost.next_flight,
            writeback_armed: lost.writeback_armed,
            writebacks: lost.writebacks,
            power_losses: lost.power_losses,
            steps: lost.steps,
            reads: lost.reads,
            ..Disk::new(self.node, self.key)
        };
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a file with a handle exists")
    }

    fn draws(&mut self) -> Draws {
        self.steps += 1;
        self.key.with(DRAW_STEP).draws(self.steps)
    }

    /// Whether a read of these bytes fails, see [`DiskFaults::read_error`].
    fn read_fails(&mut self, inode: u64, range: Range<u64>) -> bool {
        if self.faults.read_error == 0.0 {
            return false;
        }
        let file = self.inode(inode);
        if pages_of(range).all(|page| file.dirty.contains(page)) {
            return false;
        }
        self.reads += 1;
        self.key.with(DRAW_READ).draws(self.reads).chance(self.faults.read_error)
    }

    /// Whether its file system has files without a name, so that one can be made whole before it is seen. Most have.
    fn has_unnamed_files(&self) -> bool {
        self.key.with(DRAW_UNNAMED).draws(0).chance(0.75)
    }

    fn free_blocks(&self) -> u64 {
        (self.faults.capacity / PAGE as u64).saturating_sub(self.used_blocks + self.faults.foreign_blocks)
    }

    /// Runs `change` on a file with the blocks that are left, and keeps the books.
    fn with_blocks<T>(
        &mut self,
        inode: u64,
        change: impl FnOnce(&mut Inode, &mut u64) -> Result<T, PageFault>,
    ) -> Result<T, PageFault> {
        let mut free = self.free_blocks();
        let file = self.inode(inode);
        let before = file.blocks();
        let result = change(file, &mut free);
        let after = file.blocks();
        if !file.dirty.is_empty() {
            self.dirty.insert(inode);
        }
        self.used_blocks = self.used_blocks + after - before;
        result
    }

    fn new_inode(&mut self, wall_ms: i64) -> u64 {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode::new(wall_ms));
        self.next_inode
    }

    /// The file has lost its name.
    fn unlink(&mut self, inode: u64) {
        self.inode(inode).linked = false;
        self.free_if_unused(inode);
    }

    fn close(&mut self, inode: u64) {
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.handles = file.handles.saturating_sub(1);
            if !file.linked {
                self.free_if_unused(inode);
            }
        }
    }

    fn free_if_unused(&mut self, inode: u64) {
        let Some(file) = self.inodes.get(&inode) else { return };
        if file.handles == 0 && !self.names.refers(inode) {
            self.used_blocks -= file.blocks();
            self.inodes.remove(&inode);
            self.dirty.remove(&inode);
        }
    }

    fn collect_unused(&mut self) {
        let unlinked: Vec<u64> =
            self.inodes.iter().filter(|(_, file)| !file.linked).map(|(inode, _)| *inode).collect();
        for inode in unlinked {
            self.free_if_unused(inode);
        }
    }

    fn image<'a>(
        entries: impl Iterator<Item = (&'a String, Entry)>,
        durable_names: BTreeSet<String>,
        read: impl Fn(u64) -> Vec<u8>,
    ) -> Image {
        let mut image = Image { durable_names, ..Image::default() };
        for (path, entry) in entries {
            match entry {
                Entry::Folder => {
                    image.dirs.insert(path.clone());
                }
                Entry::File(inode) => {
                    image.files.insert(path.clone(), read(inode));
                }
            }
        }
        image
    }

    pub(crate) fn platter(&self) -> Image {
        Disk::image(self.names.durable_entries(), self.names.durable_paths(), |inode| {
            self.inodes.get(&inode).map(|file| file.peek_platter(0..u64::MAX)).unwrap_or_default()
        })
    }

    pub(crate) fn cache_image(&self) -> Image {
        Disk::image(self.names.kernel_entries(), self.names.durable_paths(), |inode| {
            self.inodes.get(&inode).map(|file| file.peek_cache(0..u64::MAX)).unwrap_or_default()
        })
    }

    pub(crate) fn platter_read(&self, path: &str, range: Range<u64>) -> Option<Vec<u8>> {
        let inode = self.names.durable_file(&names::normalize(path))?;
        Some(self.inodes.get(&inode)?.peek_platter(range))
    }

    pub(crate) fn cache_read(&self, path: &str, range: Range<u64>) -> Option<Vec<u8>> {
        let inode = self.names.file(&names::normalize(path)).ok()?;
        Some(self.inodes.get(&inode)?.peek_cache(range))
    }

    pub(crate) fn cache_names(&self, folder: &str) -> Vec<String> {
        let entries = self.names.list(&names::normalize(folder)).unwrap_or_default();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn arm_writeback(&mut self) -> Option<u64> {
        if self.writeback_armed || self.dirty.is_empty() {
            return None;
        }
        self.writeback_armed = true;
        self.writebacks += 1;
        let mut draws = self.key.with(DRAW_WRITEBACK).draws(self.writebacks);
        Some(draws.between(100_000_000, 5_000_000_000))
    }

    /// Sends pages off. They land after those of the same range that are in flight already.
    fn launch(&mut self, now: u64, latency: u64, mut flight: Flight) -> (u64, u64) {
        let overlapping = self.flights.values().filter(|other| {
            other.inode == flight.inode
                && other.range.start < flight.range.end
                && flight.range.start < other.range.end
        });
        let page_lock = overlapping.map(|other| other.lands_ns + 1).max().unwrap_or(0);
        flight.lands_ns = (now + latency).max(page_lock);
        let at = flight.lands_ns;
        self.next_flight += 1;
        self.flights.insert(self.next_flight, flight);
        (self.next_flight, at)
    }

    /// Time that a flush of so many pages takes, stalls included.
    fn flush_latency(&mut self, now: u64, pages: usize, draws: &mut Draws) -> u64 {
        let faults = &self.faults;
        let mut ns = faults.flush_ns + draws.exponential(faults.flush_jitter_ns) + pages as u64 * 2_000;
        ns = (ns as f64 * faults.slowness) as u64;
        if draws.chance(faults.stall) {
            ns += faults.stall_ns;
        }
        ns.max(self.stalled_until_ns.saturating_sub(now))
    }
}

impl Inner {
    /// Stores bytes into a file; see [`Inode::store`]. Read-only disks refuse it.
    fn store_bytes(&mut self, node: NodeId, inode: u64, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let wall_ms = self.wall_ms(node);
        let disk = self.disk(node);
        if disk.faults.read_only {
            return Err(StoreError::ReadOnly);
        }
        let result = disk.with_blocks(inode, |file, free| file.store(offset, bytes, free));
        disk.inode(inode).modified_ms = wall_ms;
        self.arm_writeback(node);
        result.map_err(StoreError::Page)
    }

    fn arm_writeback(&mut self, node: NodeId) {
        if let Some(wait) = self.disk(node).arm_writeback() {
            let at = self.now() + wait;
            self.at(at, Event::Writeback { node });
        }
    }

    fn wall_ms(&self, node: NodeId) -> i64 {
        self.node(node).clock.wall_ms(self.now())
    }

    /// Starts a flush and returns its number, to be waited for with [`Disk::landed`].
    fn begin_flush(&mut self, node: NodeId, inode: u64, range: Range<u64>) -> io::Result<u64> {
        let now = self.now();
        let disk = self.disk(node);
        let range = pages_of(range);
        if disk.faults.read_only && !disk.inode(inode).dirty.in_range(range.clone()).is_empty() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let number = disk.next_flight + 1;
        let mut draws = disk.key.with(DRAW_FLUSH).draws(number);
        let file = disk.inode(inode);
        let pages = file.take_dirty(range.clone(), |_| true);
        let (len, undurable) = (file.len_snapshot(), !file.undurable_lengths().is_empty());
        if file.dirty.is_empty() {
            disk.dirty.remove(&inode);
        }
        let count = pages.len();
        let latency = disk.flush_latency(now, count, &mut draws);
        let drawn = draws.chance(disk.faults.flush_error);
        let writes = count > 0 || undurable;
        let forced = writes && disk.faults.fail_flushes > 0;
        disk.faults.fail_flushes -= u32::from(forced);
        let first = pages.first().map_or(0, |(page, _)| *page as u64);
        let flight = Flight {
            inode,
            pages,
            range,
            len: Some(len),
            lands_ns: 0,
            fails: forced || (writes && drawn),
            waited_for: true,
            waker: None,
        };
        let (number, at) = disk.launch(now, latency, flight);
        self.trace("disk.flush", node, inode << 32 | first, count as u64);
        self.count("disk.flush");
        self.at(at, Event::Flight { node, flight: number });
        Ok(number)
    }

    /// The result of a flush that has landed; otherwise `waker` is woken when it does.
    fn poll_flush(&mut self, node: NodeId, number: u64, waker: &Waker) -> Option<io::Result<()>> {
        let disk = self.disk(node);
        if let Some(result) = disk.landed.remove(&number) {
            return Some(result.map_err(|kind| match kind {
                io::ErrorKind::Other => io::Error::other("input/output error"),
                kind => kind.into(),
            }));
        }
        if let Some(flight) = disk.flights.get_mut(&number) {
            flight.waker = Some(waker.clone());
        }
        None
    }
}

/// Why a store failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StoreError {
    ReadOnly,
    Page(PageFault),
}

impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> io::Error {
        match error {
            StoreError::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
            StoreError::Page(fault) => fault.into(),
        }
    }
}

/// Pages arrive at the platter.
pub(crate) fn on_flight(inner: &mut Inner, node: NodeId, number: u64) {
    let disk = inner.disk(node);
    let Some(flight) = disk.flights.remove(&number) else { return };
    let mut draws = disk.key.with(DRAW_LANDING).draws(number);
    let (lying, misdirected) = (disk.faults.lying_flush, disk.faults.misdirected_write);
    let fails = flight.fails;
    let mut counts = Vec::new();
    let mut hash = 0;
    let mut result = if fails { Err(io::ErrorKind::Other) } else { Ok(()) };
    if let Some(file) = disk.inodes.get_mut(&flight.inode) {
        for (page, content) in flight.pages {
            let (half, astray) = (draws.chance(0.5), draws.chance(misdirected));
            hash = hash_bytes(hash, &(page as u64).to_le_bytes());
            // A failed write leaves the page clean: nobody will write it again unless it is dirtied again.
            if (fails && half) || lying {
                counts.push("disk.page_dropped");
            } else if astray {
                file.land(page + 1, content);
                counts.push("disk.page_misdirected");
            } else {
                file.land(page, content);
            }
        }
        if let Some(len) = flight.len
            && !lying
            && !(fails && draws.chance(0.5))
        {
            file.land_len(len);
        }
        if flight.waited_for {
            // One report per failed writeback, as the kernel gives.
            if std::mem::take(&mut file.writeback_failed) {
                result = Err(io::ErrorKind::Other);
            }
        } else if fails {
            file.writeback_failed = true;
        }
    }
    if flight.waited_for {
        disk.landed.insert(number, result);
        if let Some(waker) = flight.waker {
            waker.wake();
        }
    }
    inner.trace("disk.landed", node, hash, u64::from(result.is_err()));
    for kind in counts {
        inner.count(kind);
    }
    if fails {
        inner.count("disk.flush_failed");
    }
}

/// The kernel writes some dirty pages back by itself.
pub(crate) fn on_writeback(inner: &mut Inner, node: NodeId) {
    let now = inner.now();
    let disk = inner.disk(node);
    disk.writeback_armed = false;
    let mut launched = Vec::new();
    if !disk.faults.read_only {
        let files: Vec<u64> = disk.dirty.iter().copied().collect();
        for inode in files {
            let mut draws = disk.key.with(DRAW_WRITEBACK).with(inode).draws(disk.writebacks);
            let (share, with_len, fails) =
                (draws.unit(), draws.chance(0.5), draws.chance(disk.faults.writeback_error));
            let latency = draws.between(200_000, 20_000_000);
            let latency = (latency as f64 * disk.faults.slowness) as u64;
            let file = disk.inode(inode);
            let pages = file.take_dirty(0..usize::MAX, |_| draws.chance(share));
            let len = with_len.then(|| file.len_snapshot());
            if file.dirty.is_empty() {
                disk.dirty.remove(&inode);
            }
            let (Some((first, _)), Some((last, _))) = (pages.first(), pages.last()) else { continue };
            let flight = Flight {
                inode,
                range: *first..*last + 1,
                pages,
                len,
                lands_ns: 0,
                fails,
                waited_for: false,
                waker: None,
            };
            launched.push(disk.launch(now, latency, flight));
        }
    }
    inner.trace("disk.writeback", node, launched.len() as u64, 0);
    for (flight, at) in launched {
        inner.at(at, Event::Flight { node, flight });
    }
    inner.arm_writeback(node);
}

/// The process is gone, the kernel lives: handles and locks are freed, flushes go on, nobody waits for them.
pub(crate) fn process_died(inner: &mut Inner, node: NodeId) {
    let disk = inner.disk(node);
    disk.locks.clear();
    disk.landed.clear();
    for flight in disk.flights.values_mut() {
        // An error that nobody hears is kept for the next flush of the file.
        flight.waited_for = false;
        flight.waker = None;
    }
    for file in disk.inodes.values_mut() {
        file.handles = 0;
        file.has_writer = false;
    }
    disk.collect_unused();
}

//! Faults of a disk, and the tap through which scenarios turn them on.

use std::time::Duration;

use super::power_loss::ChosenLoss;
use super::{Disk, PAGE, names};
use crate::cluster::NodeId;
use crate::world::World;

/// Everything that can be wrong with a disk, and how fast it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DiskFaults {
    /// Probability that a flush that has something to write fails. Its pages are clean afterwards all the same.
    pub flush_error: f64,
    /// So many of the next flushes that have something to write fail.
    pub fail_flushes: u32,
    /// Probability that background writeback fails; the next flush of the file reports it, once.
    pub writeback_error: f64,
    /// Probability that a read of a file fails which meets a page that may have left memory: any that is not dirty. Segments are
    /// mapped, see [`DiskControl::spoil`] for these.
    pub read_error: f64,
    /// Probability that a flush takes `stall_ns` longer.
    pub stall: f64,
    pub stall_ns: u64,
    /// Factor on all latencies.
    pub slowness: f64,
    /// The file system was remounted read-only.
    pub read_only: bool,
    /// Bytes of the partition.
    pub capacity: u64,
    /// Blocks of [`PAGE`] bytes that somebody else uses.
    pub foreign_blocks: u64,
    /// Probability that a page lands on the one behind it.
    pub misdirected_write: f64,
    /// Flushes answer success and write nothing.
    pub lying_flush: bool,
    /// What the power losses to come leave; each draws its own when it is not given.
    pub power_loss: Option<ChosenLoss>,
    /// Least time of a flush.
    pub flush_ns: u64,
    /// Mean of an exponential addition to it.
    pub flush_jitter_ns: u64,
}

impl Default for DiskFaults {
    /// A healthy disk of 1 TiB with flushes of 0.1 ms and more.
    fn default() -> DiskFaults {
        DiskFaults {
            flush_error: 0.0,
            fail_flushes: 0,
            writeback_error: 0.0,
            read_error: 0.0,
            stall: 0.0,
            stall_ns: 2_000_000_000,
            slowness: 1.0,
            read_only: false,
            capacity: 1 << 40,
            foreign_blocks: 0,
            misdirected_write: 0.0,
            lying_flush: false,
            power_loss: None,
            flush_ns: 100_000,
            flush_jitter_ns: 400_000,
        }
    }
}

/// Faults of one node's disk.
pub struct DiskControl<'a> {
    pub(crate) world: &'a World,
    pub(crate) node: NodeId,
}

/// A file that [`DiskControl::lose`] has taken away.
#[derive(Debug)]
pub struct LostFile {
    path: String,
    inode: u64,
}

impl DiskControl<'_> {
    #[must_use]
    pub fn faults(&self) -> DiskFaults {
        self.world.lock().disk(self.node).faults
    }

    /// Changes what is wrong with the disk.
    pub fn change(&self, change: impl FnOnce(&mut DiskFaults)) {
        let mut faults = self.faults();
        change(&mut faults);
        let mut inner = self.world.lock();
        inner.disk(self.node).faults = faults;
        inner.count("disk.fault_changed");
        inner.trace("disk.faults", self.node, faults.foreign_blocks, u64::from(faults.read_only));
    }

    /// Ends all faults; size, fill and speed included.
    pub fn calm(&self) {
        self.change(|faults| *faults = DiskFaults::default());
        self.world.lock().disk(self.node).stalled_until_ns = 0;
    }

    /// See [`DiskFaults::flush_error`].
    pub fn set_flush_error(&self, probability: f64) {
        self.change(|faults| faults.flush_error = probability);
    }

    /// The next flush that has something to write fails.
    pub fn fail_next_flush(&self) {
        self.change(|faults| faults.fail_flushes += 1);
    }

    /// Flushes stall for `duration` with this probability.
    pub fn set_stall(&self, probability: f64, duration: Duration) {
        self.change(|faults| {
            faults.stall = probability;
            faults.stall_ns = duration.as_nanos() as u64;
        });
    }

    /// No flush, and no change of names, that begins from now on ends before this has passed.
    pub fn stall_for(&self, duration: Duration) {
        let mut inner = self.world.lock();
        let until = inner.now() + duration.as_nanos() as u64;
        let disk = inner.disk(self.node);
        disk.stalled_until_ns = disk.stalled_until_ns.max(until);
        inner.count("disk.stall");
        inner.trace("disk.stall", self.node, until, 0);
    }

    /// Factor on all latencies; 1 is healthy.
    pub fn set_slowness(&self, factor: f64) {
        self.change(|faults| faults.slowness = factor);
    }

    pub fn set_read_only(&self) {
        self.change(|faults| faults.read_only = true);
    }

    pub fn set_writable(&self) {
        self.change(|faults| faults.read_only = false);
    }

    /// Bytes of the partition.
    pub fn set_capacity(&self, bytes: u64) {
        self.change(|faults| faults.capacity = bytes);
    }

    /// Somebody else fills the partition up to `free_bytes`.
    pub fn fill(&self, free_bytes: u64) {
        let used = self.world.lock().disk(self.node).used_blocks;
        self.change(|faults| {
            let blocks = faults.capacity / PAGE as u64;
            faults.foreign_blocks = blocks.saturating_sub(used + free_bytes / PAGE as u64);
        });
        self.world.lock().count("disk.full");
    }

    /// The partition of `folder` is full, if it is one by itself: no file can be made there. What is there has its blocks.
    pub fn fill_folder(&self, folder: &str) {
        let mut inner = self.world.lock();
        inner.disk(self.node).full_folders.insert(names::normalize(folder));
        inner.count("disk.full_folder");
    }

    /// It has room again.
    pub fn empty_folder(&self, folder: &str) {
        self.world.lock().disk(self.node).full_folders.remove(&names::normalize(folder));
    }

    /// The space taken by [`Self::fill`] is free again.
    pub fn empty(&self) {
        self.change(|faults| faults.foreign_blocks = 0);
    }

    /// Flips bit `bit` (0 to 7) of a byte on the platter. A cached page hides it until it leaves the cache. False when the
    /// kernel knows no such file.
    pub fn rot(&self, path: &str, offset: u64, bit: u8) -> bool {
        self.with_file("disk.rot", path, offset, |disk, inode| disk.inode(inode).rot(offset, bit))
    }

    /// Takes a file away from a host that is off, whose names are all durable: an operator's mistake, or a file system that was
    /// repaired. `None` when there is no such file.
    #[must_use]
    pub fn lose(&self, path: &str) -> Option<LostFile> {
        let mut inner = self.world.lock();
        let path = names::normalize(path);
        let inode = inner.disk(self.node).names.lose(&path).ok()?;
        inner.trace("disk.lost", self.node, inode, 0);
        inner.count("disk.lost");
        Some(LostFile { path, inode })
    }

    /// The file is where it was.
    pub fn put_back(&self, lost: LostFile) {
        let mut inner = self.world.lock();
        inner.disk(self.node).names.put_back(&lost.path, lost.inode);
        inner.trace("disk.put_back", self.node, lost.inode, 0);
    }

    /// The sector at `offset` cannot be read until it is written again; its page is met when cold. False as for [`Self::rot`].
    pub fn spoil(&self, path: &str, offset: u64) -> bool {
        self.with_file("disk.spoil", path, offset, |disk, inode| {
            disk.inode(inode).spoil(offset as usize / PAGE);
        })
    }

    /// The disk is lost with all that is on it, and an empty one is in its place.
    ///
    /// # Panics
    /// While the machine has power.
    pub fn replace(&self) {
        let mut inner = self.world.lock();
        assert!(!inner.node(self.node).powered, "a disk is replaced while its machine is off");
        inner.disk(self.node).replace();
        inner.count("disk.replaced");
        inner.trace("disk.replaced", self.node, 0, 0);
    }

    /// Clean pages leave the cache: reads meet the platter.
    pub fn drop_caches(&self) {
        let mut inner = self.world.lock();
        for file in inner.disk(self.node).inodes.values_mut() {
            file.drop_clean();
        }
        inner.trace("disk.drop_caches", self.node, 0, 0);
    }

    /// Bytes that files use, reservations included.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.world.lock().disk(self.node).used_blocks * PAGE as u64
    }

    fn with_file(
        &self,
        kind: &'static str,
        path: &str,
        offset: u64,
        act: impl FnOnce(&mut Disk, u64),
    ) -> bool {
        let mut inner = self.world.lock();
        let disk = inner.disk(self.node);
        let Ok(inode) = disk.names.file(&names::normalize(path)) else { return false };
        if offset >= disk.inode(inode).len {
            return false;
        }
        act(disk, inode);
        inner.trace(kind, self.node, inode, offset);
        inner.count(kind);
        true
    }
}

//! Where the files of logs are: in one folder, or in several. Whoever judges sees them in the first.

use std::ops::Range;

use hotfire_sim::NodeId;

use super::{STORE, Witness};
use crate::platter::Image;

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Kernel,
    Surface,
}

impl Witness {
    /// A node's files, with those of its log in one folder.
    pub(super) fn image(&self, node: NodeId, side: Side) -> Image {
        let image: Image = match side {
            Side::Kernel => self.world.cache_image(node).into(),
            Side::Surface => self.world.platter(node).into(),
        };
        let folders: Vec<&str> = self.settings.log_folders().collect();
        image.log_in_one(STORE, &folders)
    }

    /// Bytes of the log file that begins at `base`, from whichever folder has it.
    pub(super) fn log_bytes(
        &self,
        node: NodeId,
        base: u64,
        range: Range<u64>,
        side: Side,
    ) -> Option<Vec<u8>> {
        let read = |folder: &str| {
            let path = format!("{STORE}/{folder}/{base:020}");
            match side {
                Side::Kernel => self.world.cache_read(node, &path, range.clone()),
                Side::Surface => self.world.platter_read(node, &path, range.clone()),
            }
        };
        let mut found: Vec<Vec<u8>> = self.settings.log_folders().filter_map(read).collect();
        let whole = found.iter().position(|bytes| !bytes.is_empty()).unwrap_or(0);
        (whole < found.len()).then(|| found.swap_remove(whole))
    }
}

//! On the healed cluster slaves have copied their masters' tables, so that one that becomes the master serves as that did.

use std::time::Duration;

use super::{LOOK_MS, Phase, Run};
use crate::plan::names::{self, master_of};
use crate::platter::Image;

/// A slave copies every ten seconds; what its log must have first is copied with the next turn.
const COPIED_MS: u64 = 60_000;
/// A person takes so long to give a machine a new disk.
const NEW_DISK_MS: u64 = 500;

impl Run {
    /// Slaves that were away for too long are given new disks.
    pub(super) async fn set_up_anew(&mut self) {
        for slave in self.cluster.witness.left_behind() {
            self.striker.lose_disk(&slave);
            self.cluster.world.sleep(Duration::from_millis(NEW_DISK_MS)).await;
            self.striker.release(&slave);
        }
    }

    /// Every slave that follows has what its master's files say now.
    pub(super) async fn tables_copied(&self) -> Phase {
        let (world, witness) = (&self.cluster.world, &self.cluster.witness);
        let slaves = names::slaves(&self.cluster.plan.settings).into_iter();
        let followers: Vec<(String, Image)> = slaves
            .filter(|slave| !witness.has_diverged(slave))
            .map(|slave| {
                let masters = witness.cached_tables(&master_of(&slave));
                (slave, masters)
            })
            .collect();
        let deadline_ms = world.now_ms() + COPIED_MS;
        loop {
            self.check()?;
            // One may find out even now that its master has another history.
            let mut left = followers.iter().filter(|(slave, _)| !witness.has_diverged(slave));
            let Err(behind) = left.try_for_each(|(slave, masters)| witness.has_copied(slave, masters)) else {
                return Ok(());
            };
            if world.now_ms() > deadline_ms {
                return Err(self.broken(behind));
            }
            world.sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

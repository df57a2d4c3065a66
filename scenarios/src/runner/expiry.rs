//! Files are deleted: on the healed cluster the hour comes, or an operator asks, or the disk becomes tight, and within
//! [`EXPIRY_MS`] nothing is left that is to go. A reader may hold the first of it for longer than a deletion waits. Where nothing
//! disturbs the run nothing is deleted.

use std::time::Duration;

use super::{LOOK_MS, Phase, Run};
use crate::draw::{Draw, Key};
use crate::oracle::Broken;
use crate::oracle::retention::Need;
use crate::plan::{Deletion, names};

/// Everything that is to go has gone within this: some hundred files, with a pause and a flush behind each.
const EXPIRY_MS: u64 = 120_000;
/// Old files are waited for when they are old so soon.
const RESERVED_MAX_MS: u64 = 10_000;
/// A reader is waited for when a deletion waits for him no longer.
const HELD_MAX_MS: u64 = 2_000;
/// Between two requests of an operator: one lasts for twenty looks.
const ASK_AGAIN_LOOKS: u64 = 10;
/// How full the disk becomes: old files need not be old any more, and messages are still taken.
const TIGHT_PERCENT: u64 = 87;
const HOUR_MS: i64 = 3_600_000;

/// Why files are to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Asked,
    /// An hour of `deleteWhen` has come.
    Hour(u32),
    Tight,
}

fn reason(deletion: &Deletion, key: Key) -> Option<Reason> {
    let mut reasons = Vec::new();
    if deletion.reserved_ms <= RESERVED_MAX_MS {
        reasons.push(Reason::Asked);
        let hours: Vec<u32> = deletion.delete_when.split(';').filter_map(|hour| hour.parse().ok()).collect();
        if !hours.is_empty() {
            reasons.push(Reason::Hour(key.branch("hour").pick(&hours)));
        }
    }
    if deletion.forcibly {
        reasons.push(Reason::Tight);
    }
    (!reasons.is_empty()).then(|| key.branch("reason").pick(&reasons))
}

/// From `wall_ms` to the next beginning of an hour of the day, and a little more.
fn until_hour_ms(wall_ms: i64, hour: u32) -> i64 {
    let day_ms = 24 * HOUR_MS;
    (i64::from(hour) * HOUR_MS - wall_ms.rem_euclid(day_ms)).rem_euclid(day_ms) + 1_000
}

impl Run {
    /// What is to be deleted is deleted.
    pub(super) async fn expire(&mut self) -> Phase {
        let Some(deletion) = self.cluster.plan.settings.deletion.clone() else { return Ok(()) };
        let key = Draw::new(self.cluster.plan.seed).key("expiry", 0);
        let undisturbed = self.cluster.plan.settings.undisturbed;
        // Who asks, and whose clock leaps, is a store alone.
        let alone = self.cluster.plan.settings.store_alone;
        let reason =
            reason(&deletion, key).filter(|reason| !undisturbed && (alone || *reason == Reason::Tight));
        let Some(reason) = reason else { return Ok(()) };
        let need = if reason == Reason::Tight { Need::Any } else { Need::Old };
        if need == Need::Old {
            // All that there is is old then.
            let aged_ms = deletion.reserved_ms + 2 * deletion.interval_ms;
            self.cluster.world.sleep(Duration::from_millis(aged_ms)).await;
        }
        let held = deletion.held_max_ms <= HELD_MAX_MS && key.branch("held").percent(40);
        self.cluster.progress(|progress| progress.slow_readers = u32::from(held));
        self.cluster.world.sleep(Duration::from_millis(LOOK_MS)).await;
        self.begin(reason);
        let done = self.until_gone(reason, need).await;
        self.cluster.witness.before_change();
        self.cluster.progress(|progress| progress.slow_readers = 0);
        for broker in names::brokers(&self.cluster.plan.settings) {
            self.cluster.world.disk(self.cluster.node(&broker)).empty();
        }
        done
    }

    fn begin(&self, reason: Reason) {
        let (world, witness) = (&self.cluster.world, &self.cluster.witness);
        witness.before_change();
        for broker in names::brokers(&self.cluster.plan.settings) {
            let node = self.cluster.node(&broker);
            match reason {
                Reason::Asked => {}
                Reason::Hour(hour) => {
                    let by_ms = until_hour_ms(world.clock(node).wall_ms(), hour);
                    witness.clock_jumped(&broker, by_ms);
                    world.clock(node).jump_ms(by_ms);
                }
                Reason::Tight => {
                    let disk = world.disk(node);
                    disk.fill(disk.faults().capacity / 100 * (100 - TIGHT_PERCENT));
                }
            }
        }
    }

    async fn until_gone(&self, reason: Reason, need: Need) -> Phase {
        let deadline_ms = self.cluster.world.now_ms() + EXPIRY_MS;
        for look in 0.. {
            if reason == Reason::Asked && look % ASK_AGAIN_LOOKS == 0 {
                self.cluster.witness.asks_to_delete();
                self.cluster.progress(|progress| progress.deletions_asked += 1);
            }
            self.cluster.world.sleep(Duration::from_millis(LOOK_MS)).await;
            self.check()?;
            let brokers = names::brokers(&self.cluster.plan.settings);
            let Some(overdue) = brokers.iter().find_map(|broker| self.cluster.witness.overdue(broker, need))
            else {
                return Ok(());
            };
            if self.cluster.world.now_ms() > deadline_ms {
                let detail = format!("{overdue}, {} s after {reason:?}", EXPIRY_MS / 1_000);
                return Err(self.broken(Broken::new("I19", detail)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_comes_within_a_day() {
        assert_eq!(until_hour_ms(22 * HOUR_MS + 5, 23), HOUR_MS - 5 + 1_000);
        assert_eq!(until_hour_ms(22 * HOUR_MS + 5, 22), 24 * HOUR_MS - 5 + 1_000);
        assert_eq!(until_hour_ms(-HOUR_MS, 0), HOUR_MS + 1_000);
    }
}

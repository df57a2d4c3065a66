//! An operator deletes topics and makes them again, while clients go on with these and with others, processes die, power
//! fails and disks are slow, full or lie.
//!
//! What was deleted is never seen again, and everything else is kept. Exceptions: what is sent to a topic while somebody
//! deletes it may be gone, and so may what an unanswered request meets as long as somebody may have it.

use super::{Profile, Scenario};

pub struct TopicDeletion;

pub const NAME: &str = "topic_deletion";

impl Scenario for TopicDeletion {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "topics are deleted and made again, brokers lose power, disks trouble: DELETED, I1-I5 I7-I10 I16 I17 I19 I20"
    }

    fn profile(&self) -> Profile {
        const KINDS: &[&str] = &[
            "crash",
            "crash_in_step",
            "crash_in_step",
            "power_loss_in_step",
            "power_loss_in_step",
            "restart",
            "flush_error",
            "slow_disk",
            "stalled_disk",
            "full_disk",
        ];
        Profile { kind_percent: 35, ..Profile::of_brokers("power_loss", KINDS) }
    }
}

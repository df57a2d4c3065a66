//! How long files are kept: the settings, and what follows from them at one moment. Pure; `clean` acts on it.
//!
//! | disk used | what happens |
//! |---|---|
//! | up to `disk_max_used_percent` (75) | expired files go at the hours of `delete_hours` |
//! | above | expired files go at any hour |
//! | above `forcibly_percent` (85) | the oldest files go, whatever their age, until it is below again |
//! | above `warning_percent` (90) | puts are refused too, until it is below `forcibly_percent` again |
//!
//! Age is counted from the store time of the records, not from the file system's time, which a copy or a touch changes. The
//! clock that ages them runs at the pace of the monotonic one from the start of the process: while it runs, a wall clock
//! that jumps ahead makes nothing older (S-21).
//!
//! # Source
//! Store format, sections 15.1 and 15.2.

use crate::runtime::{DiskUsage, Mono};

const HOUR_MS: u64 = 3_600_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// `fileReservedTime`: nothing younger goes, unless the disk is full.
    pub reserved_ms: u64,
    /// `deleteWhen`.
    pub delete_hours: DeleteHours,
    /// `cleanResourceInterval`: between two looks.
    pub interval_ms: u64,
    /// Before the first look.
    pub first_ms: u64,
    /// `deleteFileBatchMax`: CommitLog files of one look.
    pub batch_max: usize,
    /// `deleteCommitLogFilesInterval`: a pause, so that a disk is not kept busy by freeing blocks.
    pub log_file_pause_ms: u64,
    /// `deleteConsumeQueueFilesInterval`.
    pub queue_file_pause_ms: u64,
    /// `destroyMapedFileIntervalForcibly`: a file that readers hold is kept for so long.
    pub held_max_ms: u64,
    /// `redeleteHangedFileInterval`: how often such a file is looked at when nothing else is to be deleted.
    pub held_retry_ms: u64,
    /// `cleanFileForciblyEnable`.
    pub forcibly: bool,
    /// `diskMaxUsedSpaceRatio`, kept between 10 and 95.
    pub disk_max_used_percent: u64,
    /// `diskSpaceCleanForciblyRatio`, kept between 30 and 85.
    pub forcibly_percent: u64,
    /// `diskSpaceWarningLevelRatio`, kept between 35 and 90.
    pub warning_percent: u64,
}

impl Default for Retention {
    /// Java's.
    fn default() -> Retention {
        Retention {
            reserved_ms: 72 * HOUR_MS,
            delete_hours: DeleteHours::only(4),
            interval_ms: 10_000,
            first_ms: 60_000,
            batch_max: 10,
            log_file_pause_ms: 100,
            queue_file_pause_ms: 100,
            held_max_ms: 120_000,
            held_retry_ms: 120_000,
            forcibly: true,
            disk_max_used_percent: 75,
            forcibly_percent: 85,
            warning_percent: 90,
        }
    }
}

/// Hours of the day, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteHours(u32);

impl DeleteHours {
    /// Every hour.
    pub const ALL: DeleteHours = DeleteHours((1 << 24) - 1);

    /// # Panics
    /// When there is no such hour.
    #[must_use]
    pub fn only(hour: u32) -> DeleteHours {
        assert!(hour < 24, "hour {hour}");
        DeleteHours(1 << hour)
    }

    /// Hours from 0 to 23, with `;` between them; `None` when the text is not that. An empty text is no hour at all.
    #[must_use]
    pub fn parse(text: &str) -> Option<DeleteHours> {
        let mut hours = DeleteHours::default();
        for word in text.split(';').map(str::trim).filter(|word| !word.is_empty()) {
            let hour: u32 = word.parse().ok().filter(|hour| *hour < 24)?;
            hours.0 |= 1 << hour;
        }
        Some(hours)
    }

    #[must_use]
    pub fn contains(self, hour: u32) -> bool {
        hour < 24 && self.0 >> hour & 1 == 1
    }
}

impl std::fmt::Display for DeleteHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for hour in (0..24).filter(|hour| self.contains(*hour)) {
            write!(f, "{separator}{hour:02}")?;
            separator = ";";
        }
        Ok(())
    }
}

/// The hour of the day at a moment of the wall clock, so many seconds east of UTC.
pub(crate) fn local_hour(wall_ms: i64, utc_offset_s: i32) -> u32 {
    let seconds = wall_ms.div_euclid(1_000).saturating_add(i64::from(utc_offset_s));
    u32::try_from(seconds.div_euclid(3_600).rem_euclid(24)).unwrap_or(0)
}

/// How full the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fill {
    Normal,
    /// Expired files go now.
    High,
    /// Files go now.
    Forcible,
    /// Files go now, and nothing more is taken.
    Warning,
}

impl Retention {
    pub(crate) fn fill(&self, usage: DiskUsage) -> Fill {
        let used = usage.used_ratio() * 100.0;
        let above = |percent: u64, low, high| used > percent.clamp(low, high) as f64;
        if above(self.warning_percent, 35, 90) {
            Fill::Warning
        } else if above(self.forcibly_percent, 30, 85) {
            Fill::Forcible
        } else if above(self.disk_max_used_percent, 10, 95) {
            Fill::High
        } else {
            Fill::Normal
        }
    }
}

/// The wall clock as it was when the process began, carried on by the monotonic one; never ahead of the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgeClock {
    wall_ms: i64,
    mono: Mono,
}

impl AgeClock {
    pub fn new(wall_ms: i64, mono: Mono) -> AgeClock {
        AgeClock { wall_ms, mono }
    }

    pub fn now_ms(&self, wall_ms: i64, mono: Mono) -> i64 {
        let passed = i64::try_from(mono.since(self.mono).as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.saturating_add(passed).min(wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_as_java_writes_them() {
        assert_eq!(DeleteHours::parse("04"), Some(DeleteHours::only(4)));
        let several = DeleteHours::parse("4; 23;00").expect("hours");
        assert_eq!((several.contains(0), several.contains(4), several.contains(5)), (true, true, false));
        assert_eq!(several.to_string(), "00;04;23");
        for wrong in ["24", "-1", "4,5", "noon"] {
            assert_eq!(DeleteHours::parse(wrong), None, "{wrong}");
        }
        assert_eq!(DeleteHours::parse("").map(|none| none.contains(0)), Some(false));
    }

    #[test]
    fn the_hour_is_the_one_on_the_operators_clock() {
        let four_utc = 4 * 3_600_000;
        assert_eq!(local_hour(four_utc, 0), 4);
        assert_eq!(local_hour(four_utc, 8 * 3_600), 12);
        assert_eq!(local_hour(four_utc, -5 * 3_600), 23);
        assert_eq!(local_hour(four_utc, 5 * 3_600 + 1_800), 9);
        assert_eq!(local_hour(-1, 0), 23);
    }

    #[test]
    fn levels_follow_the_used_part_of_the_disk_and_cannot_be_set_out_of_reach() {
        let usage = |used: u64| DiskUsage { total: 1_000, available: 1_000 - used, read_only: false };
        let retention = Retention::default();
        let fill = |retention: &Retention, used| retention.fill(usage(used));
        assert_eq!(fill(&retention, 750), Fill::Normal);
        assert_eq!(fill(&retention, 751), Fill::High);
        assert_eq!(fill(&retention, 851), Fill::Forcible);
        assert_eq!(fill(&retention, 901), Fill::Warning);
        let high = Retention { warning_percent: 99, forcibly_percent: 99, ..retention.clone() };
        assert_eq!((fill(&high, 860), fill(&high, 910)), (Fill::Forcible, Fill::Warning));
        let low =
            Retention { warning_percent: 0, forcibly_percent: 0, disk_max_used_percent: 0, ..retention };
        assert_eq!((fill(&low, 90), fill(&low, 110)), (Fill::Normal, Fill::High));
        assert_eq!((fill(&low, 310), fill(&low, 360)), (Fill::Forcible, Fill::Warning));
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_makes_nothing_older() {
        let clock = AgeClock::new(1_000, Mono(0));
        let after = |ms: u64| Mono(ms * 1_000_000);
        assert_eq!(clock.now_ms(1_500, after(500)), 1_500);
        assert_eq!(clock.now_ms(345_600_500, after(500)), 1_500);
        assert_eq!(clock.now_ms(900, after(600)), 900);
    }
}

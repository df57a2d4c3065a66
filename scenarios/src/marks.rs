//! What the runs of a sweep have come through, of all that they could: rare branches and response codes.
//!
//! A branch that no run takes is tested by none. Those that CI's sweep does not come to are named in [`EXCUSED`], each with
//! the reason; all others are required, so that a scenario that loses its teeth is seen.

use std::fmt;

use hotfire_core::remoting::codes::response;
use hotfire_core::runtime::Mark;
use hotfire_sim::Marks;
use serde::Serialize;

/// What CI's sweep need not come through, and why.
const EXCUSED: &[(&str, &str)] = &[
    ("DamagedBeforeStart", "bit rot strikes closed files of the log, and the scan begins in an open one"),
    ("IndexUnfit", "a file of the index is lost and the last entry before it damaged too rarely"),
    ("LogUnreadable", "the log is mapped: a page of it that cannot be read ends the process"),
    ("DelayedUnreadable", "no fault spoils a delayed message"),
    ("QueueFilesUndeleted", "a disk refuses deletions at the moment of one too rarely"),
    ("IndexUnwritten", "a full disk meets the slots of the index too rarely"),
    ("LogFileUndeleted", "a disk refuses deletions at the moment of one too rarely"),
    ("IndexFlushFailed", "a flush of the index fails too rarely"),
    ("OpUnwritten", "a disk fills up between two records of a transaction too rarely"),
    ("HalfLater", "a disk is full when a half message is put again too rarely"),
    ("DelayedLater", "a disk is full when a message is due too rarely"),
    ("DelayedGone", "retention and delayed messages do not meet"),
    ("QueueIncomplete", "seen before by QueueTornApart mostly"),
    ("CopyNotTaken", "a slave's disk is never full"),
    ("SlaveRefused", "only a slave that goes on with another log is refused"),
    ("SlaveAhead", "only a slave that goes on with another log is ahead"),
    ("EmptyLogBegunElsewhere", "a file made ahead meets a first connection too rarely"),
    ("ProducerUnasked", "a connection ends in the moment of a question too rarely"),
    ("BroadcastPassed", "listeners of broadcasting consumers do not fail"),
    ("LocalOffsetsUnsaved", "no fault strikes the disks of clients"),
    ("StoppedWhileConsuming", "listeners end before a consumer stops"),
    ("OrderlyGivenUp", "orderly listeners fail fewer times than there are tries"),
    ("QueuesNotLocked", "a broker refuses locks only of malformed requests"),
    ("QueueLost", "a lock runs out too rarely"),
    ("HeartbeatRefused", "a broker refuses heartbeats only of malformed requests"),
    ("answer CONSUME_MSG_TIMEOUT", "consumers that are asked answer"),
    ("answer FILTER_DATA_NOT_EXIST", "filters come with their subscriptions"),
    ("answer FILTER_DATA_NOT_LATEST", "filters come with their subscriptions"),
];

/// Codes that no node of ours answers with: of proxies, pops and static topics, and those that Java sends nowhere either.
const NEVER_SENT: &[i32] = &[
    response::TRANSACTION_FAILED,
    response::VERSION_NOT_SUPPORTED,
    response::TOPIC_EXIST_ALREADY,
    response::NO_MESSAGE,
    response::POLLING_FULL,
    response::POLLING_TIMEOUT,
    response::FLOW_CONTROL,
    response::NOT_LEADER_FOR_QUEUE,
    response::ILLEGAL_OPERATION,
    response::GO_AWAY,
];

/// How many runs have come through each, in the order of their definition.
#[derive(Debug, PartialEq, Eq)]
pub struct Coverage(Vec<(String, u64)>);

impl Default for Coverage {
    fn default() -> Coverage {
        let branches = Mark::ALL.iter().map(|mark| mark.name().to_owned());
        Coverage(
            branches
                .chain(answers().map(|(_, name)| format!("answer {name}")))
                .map(|name| (name, 0))
                .collect(),
        )
    }
}

fn answers() -> impl Iterator<Item = (i32, &'static str)> {
    response::ALL.iter().copied().filter(|(code, _)| !NEVER_SENT.contains(code))
}

impl Coverage {
    /// Takes in one more run.
    pub fn add(&mut self, marks: &Marks) {
        let branches = Mark::ALL.iter().map(|mark| marks.branches.contains(mark));
        let reached = branches.chain(answers().map(|(code, _)| marks.answers.contains(&code)));
        for ((_, runs), reached) in self.0.iter_mut().zip(reached) {
            *runs += u64::from(reached);
        }
    }

    /// Those that no run has come through.
    fn never(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, runs)| *runs == 0).map(|(name, _)| name.as_str())
    }

    /// Those of them that are required.
    #[must_use]
    pub fn missing(&self) -> Vec<&str> {
        self.never().filter(|name| !is_excused(name)).collect()
    }
}

fn is_excused(name: &str) -> bool {
    EXCUSED.iter().any(|(excused, _)| *excused == name)
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let never: Vec<&str> = self.never().collect();
        let (all, required) = (self.0.len(), self.0.len() - EXCUSED.len());
        write!(f, "marks: {} of {all} reached, {required} required", all - never.len())?;
        let (excused, missing): (Vec<&str>, Vec<&str>) = never.into_iter().partition(|name| is_excused(name));
        if !missing.is_empty() {
            write!(f, "; required and not reached: {}", missing.join(", "))?;
        }
        if !excused.is_empty() {
            write!(f, "; not reached: {}", excused.join(", "))?;
        }
        Ok(())
    }
}

impl Serialize for Coverage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, runs)| (name, runs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_run_reaches_is_named_and_missing_unless_excused() {
        let mut coverage = Coverage::default();
        let all = coverage.0.len();
        assert_eq!(coverage.missing().len(), all - EXCUSED.len(), "each excuse names a mark");
        let branches = [Mark::FlushFailed].into();
        coverage.add(&Marks { branches, answers: [response::SUCCESS, 4711].into() });
        let text = coverage.to_string();
        assert!(text.starts_with(&format!("marks: 2 of {all} reached")), "{text}");
        assert!(
            !coverage.missing().contains(&"FlushFailed") && !coverage.missing().contains(&"answer SUCCESS")
        );
        assert!(coverage.missing().contains(&"LogCut") && text.contains("LogCut"), "{text}");
        let json = serde_json::to_value(&coverage).expect("plain");
        assert_eq!((&json["FlushFailed"], &json["LogCut"]), (&1.into(), &0.into()));
    }
}

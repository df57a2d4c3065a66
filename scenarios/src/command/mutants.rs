//! `mutants`: each planted bug under its scenario, seeds until it is found. It tests the tests: a bug that lives means that
//! an oracle, a fault or a workload is missing.
//!
//! Each also runs undisturbed: the same seeds without any fault ([`Plan::undisturbed`]). A bug that needs its fault must live
//! through all of them, else it is coarser than the entry that it recreates. [`seen_undisturbed`] says which need none, and why.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use hotfire_core::runtime::Mutant;
use serde::{Deserialize, Serialize};

use super::{check_mutant, matrix, sweep};
use crate::options;
use crate::plan::Plan;
use crate::report::{Outcome, VerdictKind};
use crate::runner::{self, Limits};

#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Seeds to try for each.
    #[arg(long, default_value_t = 500)]
    pub seeds: u64,
    /// Seeds that each must live through without faults.
    #[arg(long, value_name = "SEEDS", default_value_t = 50)]
    pub undisturbed: u64,
    /// This planted bug alone.
    #[arg(long)]
    pub only: Option<String>,
    /// Runs the killing plans recorded in FILE (`scenarios/mutants.json`) instead of searching.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "scenarios/mutants.json")]
    pub recorded: Option<PathBuf>,
    /// Records the killing plans in FILE, and the matrix in the Markdown file beside it. With `--only` the others in FILE stay.
    #[arg(long, value_name = "FILE", conflicts_with = "recorded")]
    pub record: Option<PathBuf>,
    /// Runs nothing, and prints what FILE has recorded as Markdown.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "scenarios/mutants.json", conflicts_with_all = ["recorded", "record"])]
    pub table: Option<PathBuf>,
    #[arg(long)]
    pub jobs: Option<usize>,
    #[arg(long)]
    pub json: bool,
}

/// One line of the matrix.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub entry: String,
    pub scenario: String,
    /// The seed that killed it.
    pub seed: Option<u64>,
    pub seeds_tried: u64,
    pub killed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    pub undisturbed: Undisturbed,
    /// The plan that killed it, without the planted bug: the clean code must hold every promise under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What its runs without faults came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Undisturbed {
    /// It must live through all of them.
    pub needs_its_fault: bool,
    pub seeds_tried: u64,
    /// The seed that showed it all the same.
    pub seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it needs no fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Undisturbed {
    /// Whether it needs a fault exactly if it should.
    fn is_as_expected(&self) -> bool {
        self.seed.is_none() == self.needs_its_fault
    }
}

#[derive(Serialize, Deserialize)]
pub struct Matrix {
    pub mutants: Vec<Entry>,
    pub clean_failures: u64,
}

impl Matrix {
    fn read(file: &Path) -> Result<Matrix> {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", file.display()))
    }

    /// As JSON in `file`, as Markdown beside it.
    fn write(&self, file: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("write the matrix")? + "\n";
        for (file, text) in [(file.to_owned(), json), (file.with_extension("md"), matrix::markdown(self))] {
            std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// What `other` has in the place of what this one has of the same planted bugs.
    fn with(mut self, other: &[Entry]) -> Matrix {
        self.mutants.retain(|entry| other.iter().all(|new| new.name != entry.name));
        self.mutants.extend_from_slice(other);
        self.mutants.sort_by_key(place);
        self
    }
}

/// In the order of the list.
fn place(entry: &Entry) -> Option<usize> {
    Mutant::ALL.iter().position(|mutant| mutant.name() == entry.name)
}

/// The scenario whose faults bring the bug out.
#[must_use]
pub fn scenario_of(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::RedispatchRepeats
        | Mutant::AckInThePool
        | Mutant::CommitWaitsForPages
        | Mutant::OffsetsNotLoaded
        | Mutant::CommittedNotFound
        | Mutant::CommitUncut
        | Mutant::MovedUntold
        | Mutant::EndToldAsBegin
        | Mutant::OneMoreThanAsked
        | Mutant::HeldForEver
        | Mutant::TagsNotAsked
        | Mutant::UnknownIsTrue => "broker_crash",
        Mutant::RecoverByRewrite
        | Mutant::AbortNotSynced
        | Mutant::LockNotTaken
        | Mutant::QueryOfAnyTime
        | Mutant::TimeLowerIsBehind
        | Mutant::DamageIsTheEnd
        | Mutant::TimeoutLosesPool
        | Mutant::ThoroughFlushForgotten
        | Mutant::OneFolderRead
        | Mutant::QueueFilesUnsynced
        | Mutant::DeathInRecoveryForgotten
        | Mutant::EntryUnhealed
        | Mutant::IndexDamageBelieved
        | Mutant::IndexCutIsWhole
        | Mutant::IndexLastDeleted
        | Mutant::StopForgetsDispatch
        | Mutant::CommitCountsAll => "store",
        Mutant::MissingMemberUnsought => "mixed_flush",
        Mutant::LogFileSparse
        | Mutant::ShortWriteIgnored
        | Mutant::QueueWriteSticks
        | Mutant::QueueFlushErrorIgnored => "disk_trouble",
        Mutant::StaleFirstFile
        | Mutant::DeleteGoesOn
        | Mutant::DeleteForPastNeed
        | Mutant::AgeByFileTime
        | Mutant::DeleteUnsynced
        | Mutant::DeleteBeforeQueues
        | Mutant::MinimumStays
        | Mutant::HourNeverComes
        | Mutant::QueueFilesStay => "retention",
        Mutant::AckBeforeSlave
        | Mutant::SlaveAheadGoesOn
        | Mutant::GrownPastIsBehind
        | Mutant::TablesOfAnyMaster
        | Mutant::PushUnflushed
        | Mutant::SlaveReportsUnflushed
        | Mutant::SlaveOffsetsUncopied
        | Mutant::MasterOffsetsWin
        | Mutant::HeartbeatsSilenceReports
        | Mutant::PartKeptOverReconnect
        | Mutant::SlaveWaitEndsEarly
        | Mutant::AllInSyncIgnored
        | Mutant::FarSlaveCounts
        | Mutant::LivesForgotten
        | Mutant::LivesUnkept
        | Mutant::SlaveCountsTwice
        | Mutant::SecondSlaveUnheard
        | Mutant::SendBackOnMasterAlone => "replication",
        Mutant::EndedLinkCounts
        | Mutant::SlaveGivesUp
        | Mutant::TablesOneByOne
        | Mutant::DelayOffsetsAtOnce => "slave_restart",
        Mutant::TooFarBehindFed => "slave_retention",
        Mutant::SlaveEmptyFileStays | Mutant::TopicsOfLogUnknown | Mutant::CopyTimeForgotten => {
            "promote_by_hand"
        }
        Mutant::EmptySlaveCounts => "disk_loss_of_one_node",
        Mutant::OneReadOneFrame | Mutant::PartialRegistrationIsWhole | Mutant::LateCloseUnregisters => {
            "partition"
        }
        Mutant::ImmunityReadTwice
        | Mutant::OverflowOneIsIllegal
        | Mutant::CheckDroppedPasses
        | Mutant::UnaskedCounts
        | Mutant::NobodyIsAsked
        | Mutant::AskedAtOnce
        | Mutant::AskedOnceMore
        | Mutant::OpOfPassedHalfStays
        | Mutant::HalfForGoodWaits
        | Mutant::TransactionProgressUnflushed
        | Mutant::OpBeforeFinal
        | Mutant::OpWithoutFinal => "transaction",
        Mutant::DelayOffsetAhead
        | Mutant::DelayOffsetOneFurther
        | Mutant::DelayOffsetOneBehind
        | Mutant::DelayOffsetBeyond
        | Mutant::DelayOffsetUnsaved
        | Mutant::DelayPutDropped
        | Mutant::DelayTableEmptied
        | Mutant::DelayLevelDozes
        | Mutant::DamagedEntryMovesBegin
        | Mutant::UnreadableLevelPassed
        | Mutant::RecoverForgetsDueTime => "delay",
        Mutant::SendBackUnflushed | Mutant::RetryLevelLower => "retry_dlq",
        Mutant::OrderlyUnlocksEarly | Mutant::OrderlyIgnoresLocks => "ordered",
        Mutant::DroppedUnwritten
        | Mutant::DroppedRefiled
        | Mutant::DroppedBeginsAnew
        | Mutant::DroppedUncut
        | Mutant::DeletionKeepsOffsets => "topic_deletion",
        Mutant::MemberDelayForgotten
        | Mutant::BatchCountedOnce
        | Mutant::ReservedKept
        | Mutant::ReplyTakenAnyway
        | Mutant::LeaverNotTold
        | Mutant::SettingUnwritten
        | Mutant::CompressedUnmarked
        | Mutant::OtherTagsGiven
        | Mutant::SingleTopicMovesVersion
        | Mutant::LateExpiry => "operators",
        Mutant::OffsetErrorIsNone | Mutant::OverflowGoesToMin | Mutant::BroadcastKeepsPulled => "rebalance",
        _ => "power_loss",
    }
}

/// Why a planted bug is seen without any fault; `None` for one that needs its fault.
///
/// Most are bugs of durability whose whole mechanism is an early answer. Oracles read the disk's surface at the moment of
/// the answer, so that what a fault would take is seen to be missing before a fault comes. Those of filters and
/// transactions need time alone.
#[must_use]
pub fn seen_undisturbed(mutant: Mutant) -> Option<&'static str> {
    match mutant {
        Mutant::AckBeforeFlush => Some("I1 reads the disk's surface at each acknowledgement"),
        Mutant::AckInThePool => Some("I1 reads the kernel's cache at each acknowledgement"),
        Mutant::CommitCountsAll => Some("I9 reads the kernel's cache at each commit"),
        Mutant::CommitWaitsForPages => Some("I19 asks when a message is seen, which is when it is committed"),
        Mutant::RollLosesPool => Some("the broker cannot read back what it never wrote, and stops"),
        Mutant::AckBeforeSlave => Some("I11 reads the slave's disk at each acknowledgement of a SYNC_MASTER"),
        Mutant::PushUnflushed => Some("I1 reads the master's surface when the slave's word comes first"),
        Mutant::SecondSlaveUnheard => Some("who waits for the second of two slaves waits in vain"),
        Mutant::SlaveReportsUnflushed => Some("I11 reads the surface of the slave's disk"),
        Mutant::SlaveWaitEndsEarly => Some("a slow flush of the slave outlasts a part of the wait"),
        Mutant::HeartbeatsSilenceReports => Some("an idle link is all that it needs"),
        Mutant::SendBackOnMasterAlone => Some("I11 reads the slave's disk when the consumer is answered"),
        Mutant::UnflushedVisible => Some("I8 reads the disk's surface at each delivery"),
        Mutant::CheckpointAheadOfQueues => Some("I10 reads the disk's surface at each checkpoint"),
        Mutant::IndexClaimedUnflushed => Some("INDEX reads the disk's surface at each checkpoint"),
        Mutant::UnknownIsTrue => Some("a filter meets messages without its property at any time"),
        Mutant::SegmentNameNotSynced => Some("I9 reads the disk's surface at each flush, names included"),
        Mutant::ImmunityReadTwice => Some("the time of an immune half message ends by itself"),
        Mutant::AskedAtOnce | Mutant::AskedOnceMore => {
            Some("producers that say nothing are asked at any time")
        }
        Mutant::OverflowOneIsIllegal => Some("every round comes to the end of the op records"),
        Mutant::DelayOffsetOneFurther => Some("I15 holds saved delay offsets against their queues"),
        Mutant::DelayOffsetOneBehind => Some("a stop in order saves all that was delivered"),
        Mutant::TablesOneByOne => Some("I18 reads a slave's table whenever it is written"),
        Mutant::DelayOffsetsAtOnce => {
            Some("I15 reads the slave's surface when its delay offsets are written")
        }
        Mutant::SingleTopicMovesVersion | Mutant::LateExpiry => {
            Some("name servers that are well are asked for everything")
        }
        Mutant::OpBeforeFinal => Some("I14 reads the order of records in the log"),
        Mutant::DroppedRefiled => {
            Some("the brokers' last start needs no fault, and reads the end of the log again")
        }
        Mutant::DeletionKeepsOffsets => Some("DELETED reads the disk's surface at each answer to a deletion"),
        Mutant::QueryOfAnyTime | Mutant::TimeLowerIsBehind | Mutant::TagsNotAsked => {
            Some("the healed cluster is asked, and its answers are held against the disk")
        }
        Mutant::ConfigFolderNotSynced => Some("I18 reads the disk's surface, names included"),
        Mutant::EmptySlaveCounts => Some("a second slave begins empty while messages come"),
        Mutant::ThoroughFlushForgotten => Some("I9 asks on any quiet cluster what was flushed"),
        Mutant::AllInSyncIgnored => Some("the last messages are sent while slaves are far away"),
        Mutant::OneFolderRead => Some("the brokers' last start needs no fault"),
        Mutant::LockNotTaken => Some("a second process needs no fault"),
        Mutant::OffsetsNotLoaded => Some("the brokers' last start needs no fault"),
        Mutant::EndToldAsBegin | Mutant::OneMoreThanAsked | Mutant::HeldForEver => {
            Some("brokers are asked by hand where nothing fails")
        }
        Mutant::MemberDelayForgotten
        | Mutant::BatchCountedOnce
        | Mutant::ReservedKept
        | Mutant::ReplyTakenAnyway
        | Mutant::LeaverNotTold
        | Mutant::CompressedUnmarked
        | Mutant::OtherTagsGiven => Some("nodes that are well are asked for everything"),
        Mutant::FlagLost => Some("each delivery is compared with what was sent"),
        Mutant::CommitUncut | Mutant::MovedUntold => Some("brokers are asked by hand where a group is"),
        Mutant::RetryLevelLower => Some("each try in the log says how long it waits"),
        Mutant::SlaveOffsetsUncopied => Some("the tables of slaves are held against their masters'"),
        Mutant::CommittedNotFound => Some("a consumer that starts asks where its group is"),
        Mutant::ArrivalWakesNobody => Some("any message on a quiet cluster comes late"),
        Mutant::OrderlyUnlocksEarly => Some("members that start one after the other hand queues over"),
        Mutant::OrderlyIgnoresLocks => {
            Some("the last owner of a queue is still at it when the next one comes")
        }
        Mutant::DelayTableEmptied => Some("a stop before anything more is delivered leaves the empty table"),
        Mutant::DelayLevelDozes => Some("an idle level is all that it needs"),
        Mutant::NobodyIsAsked => Some("producers that say nothing at once wait to be asked"),
        Mutant::HalfForGoodWaits => Some("a half message fills its record at any time"),
        Mutant::OpOfPassedHalfStays => Some("local transactions take longer than the broker waits"),
        _ => None,
    }
}

/// # Errors
/// An unknown planted bug; a record that cannot be read or written.
pub fn mutants(arguments: &Arguments) -> Result<u8> {
    if let Some(file) = &arguments.table {
        print!("{}", matrix::markdown(&Matrix::read(file)?));
        return Ok(0);
    }
    let recorded = match &arguments.recorded {
        Some(file) => Some(Matrix::read(file)?.mutants),
        None => None,
    };
    let chosen: Vec<Mutant> = match &arguments.only {
        Some(name) => vec![check_mutant(name)?],
        None => Mutant::ALL.to_vec(),
    };
    let matrix = run_all(&chosen, arguments, recorded.as_deref());
    for entry in &matrix.mutants {
        println!("{}", line(entry));
    }
    let count = |what: &dyn Fn(&Entry) -> bool| matrix.mutants.iter().filter(|entry| what(entry)).count();
    let alive = count(&|entry| !entry.killed);
    let need_a_fault = count(&|entry| entry.killed && entry.undisturbed.seed.is_none());
    let unexpected = count(&|entry| !entry.undisturbed.is_as_expected());
    println!(
        "{} planted bugs, {alive} alive, {need_a_fault} need their fault, {unexpected} not as expected without faults, \
         {} failures of clean code",
        matrix.mutants.len(),
        matrix.clean_failures
    );
    if let Some(file) = &arguments.record {
        match &arguments.only {
            Some(_) if file.exists() => Matrix::read(file)?.with(&matrix.mutants).write(file)?,
            _ => matrix.write(file)?,
        }
    }
    if arguments.json {
        let mutants: Vec<Entry> =
            matrix.mutants.iter().map(|entry| Entry { plan: None, ..entry.clone() }).collect();
        let short = Matrix { mutants, clean_failures: matrix.clean_failures };
        println!("{}", serde_json::to_string(&short).context("write the matrix")?);
    }
    let good = alive == 0 && unexpected == 0 && matrix.clean_failures == 0;
    Ok(if good { 0 } else { VerdictKind::PromiseBroken.exit_code() })
}

fn run_all(chosen: &[Mutant], arguments: &Arguments, recorded: Option<&[Entry]>) -> Matrix {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(mutant) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut result = match recorded {
                Some(entries) => again(*mutant, entries),
                None => hunt(*mutant, arguments.seeds),
            };
            let (undisturbed, clean_failures) = undisturbed(*mutant, arguments);
            result.0.undisturbed = undisturbed;
            result.1 += clean_failures;
            results.lock().expect("no panic while it is held").push(result);
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..sweep::jobs(arguments.jobs) {
            threads.spawn(work);
        }
    });
    let mut results = results.into_inner().expect("no panic while it is held");
    results.sort_by_key(|(entry, _)| place(entry));
    let clean_failures = results.iter().map(|(_, clean_failures)| clean_failures).sum();
    Matrix { mutants: results.into_iter().map(|(entry, _)| entry).collect(), clean_failures }
}

fn entry(mutant: Mutant, scenario: &str) -> Entry {
    Entry {
        name: mutant.name().to_owned(),
        entry: mutant.entry().to_owned(),
        scenario: scenario.to_owned(),
        seed: None,
        seeds_tried: 0,
        killed: false,
        promise: None,
        detail: None,
        undisturbed: Undisturbed::default(),
        plan: None,
    }
}

/// Seeds until the bug is found. A plan under which the clean code fails too has found something else: it is counted, and
/// the search goes on.
fn hunt(mutant: Mutant, seeds: u64) -> (Entry, u64) {
    let mut entry = entry(mutant, scenario_of(mutant));
    let mut clean_failures = 0;
    for seed in 0..seeds {
        let plan = options::draw(&entry.scenario, seed).expect("a listed scenario");
        entry.seeds_tried += 1;
        let outcome = planted(&plan, mutant);
        if !outcome.failed() {
            continue;
        }
        if runner::run(&plan, &Limits::default()).failed() {
            clean_failures += 1;
            continue;
        }
        killed(&mut entry, &outcome, plan);
        break;
    }
    (entry, clean_failures)
}

/// The recorded plan alone.
fn again(mutant: Mutant, entries: &[Entry]) -> (Entry, u64) {
    let recorded = entries.iter().find(|entry| entry.name == mutant.name());
    let Some(plan) = recorded.and_then(|entry| entry.plan.clone()) else {
        return (entry(mutant, scenario_of(mutant)), 0);
    };
    let mut entry = entry(mutant, &plan.scenario);
    entry.seeds_tried = 1;
    let outcome = planted(&plan, mutant);
    let clean_failures = u64::from(runner::run(&plan, &Limits::default()).failed());
    if outcome.failed() {
        killed(&mut entry, &outcome, plan);
    }
    (entry, clean_failures)
}

/// Seeds without their faults, until the bug is seen. One that needs no fault has as many seeds to show itself as it has with
/// faults: which seed does moves with each change of the code.
fn undisturbed(mutant: Mutant, arguments: &Arguments) -> (Undisturbed, u64) {
    let because = seen_undisturbed(mutant).map(str::to_owned);
    let needs_its_fault = because.is_none();
    let seeds = if needs_its_fault { arguments.undisturbed } else { arguments.seeds };
    let mut undisturbed = Undisturbed { needs_its_fault, because, ..Undisturbed::default() };
    let mut clean_failures = 0;
    for seed in 0..seeds {
        let plan = options::draw(scenario_of(mutant), seed).expect("a listed scenario").undisturbed();
        undisturbed.seeds_tried += 1;
        let Some(failure) = planted(&plan, mutant).failure else { continue };
        if runner::run(&plan, &Limits::default()).failed() {
            clean_failures += 1;
            continue;
        }
        undisturbed.seed = Some(seed);
        undisturbed.promise = Some(failure.promise);
        undisturbed.detail = Some(failure.detail);
        break;
    }
    (undisturbed, clean_failures)
}

fn planted(plan: &Plan, mutant: Mutant) -> Outcome {
    let plan = Plan { mutant: Some(mutant.name().to_owned()), ..plan.clone() };
    runner::run(&plan, &Limits::default())
}

fn killed(entry: &mut Entry, outcome: &Outcome, plan: Plan) {
    entry.killed = true;
    entry.seed = Some(plan.seed);
    entry.plan = Some(plan);
    if let Some(failure) = &outcome.failure {
        entry.promise = Some(failure.promise.clone());
        entry.detail = Some(failure.detail.clone());
    }
}

fn line(entry: &Entry) -> String {
    let Entry { name, entry: of, scenario, seeds_tried, .. } = entry;
    let without = without_faults(&entry.undisturbed);
    match (entry.seed, &entry.promise) {
        (Some(seed), Some(promise)) => format!(
            "{name:<28} {of:<24} {scenario:<13} killed by seed {seed} after {seeds_tried} seeds: {promise}; {without}\n    \
             cargo sim run {scenario} --seed {seed} --mutant {name}",
        ),
        _ => format!("{name:<28} {of:<24} {scenario:<13} alive after {seeds_tried} seeds; {without}"),
    }
}

fn without_faults(undisturbed: &Undisturbed) -> String {
    let Undisturbed { seeds_tried, seed, promise, detail, because, .. } = undisturbed;
    match (seed, because) {
        (None, None) => format!("without faults lives through {seeds_tried} seeds"),
        (None, Some(because)) => {
            format!("UNEXPECTED: without faults lives through {seeds_tried} seeds, although {because}")
        }
        (Some(seed), because) => {
            let promise = promise.as_deref().unwrap_or_default();
            let seen = format!("without faults killed by seed {seed}: {promise}");
            match because {
                Some(because) => format!("{seen}, since {because}"),
                None => format!("UNEXPECTED: {seen}: {}", detail.as_deref().unwrap_or_default()),
            }
        }
    }
}

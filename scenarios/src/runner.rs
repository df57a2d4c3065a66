//! One plan, from boot to verdict.
//!
//! 1. Faults and load, perhaps with another master from their middle on, until the faults have ended (70 % of the load's time).
//! 2. The healed cluster: every send gets an outcome, name servers agree, each group gets every message in every log, all
//!    within [`HEALED_MS`]; else no progress (exit 11). Then a few more messages, which must be answered at once.
//! 3. Rest: nothing may be forgotten again, and what was consumed is committed.
//! 4. All brokers fail once more (as the scenario has it), start, recover, say what groups had committed, let new members go on
//!    there, stop in order: raw disks are judged. In a plan that
//!    nothing disturbs they stop in order before that start too.

mod expiry;
mod promotion;
mod slaves;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use hotfire_core::remoting::body::MessageQueue;
use hotfire_core::runtime::Mutant;
use hotfire_sim::{Outcome as SimOutcome, RunResult, TraceEvent, World, run_seed};

use crate::cluster::Cluster;
use crate::commits::{self, CommitWatch, Holders};
use crate::consume;
use crate::draw::Draw;
use crate::examine;
use crate::faults::strike::{Moment, NEVER_STEP, Striker, moments, set_disk_speed, set_network};
use crate::history::{History, Place};
use crate::look_ups;
use crate::oracle::dead_letters::Terms;
use crate::oracle::{
    Broken, Final, Verdict, bounds, consumer_offset, dead_letters, delay, group_offsets, index_matches_log,
    judge, position_order, progress, queue_matches_log, queue_order, replica, search, sql_filter, tables,
};
use crate::plan::{Plan, Pool, names};
use crate::platter::delayed::DELAY_TOPIC;
use crate::platter::{BrokerDisk, config};
use crate::report::{Failure, Outcome, VerdictKind};
use crate::restarted;
use crate::routes::RouteWatch;
use crate::scenario::{self, operators, promote_by_hand};
use crate::shares::shares;
use crate::witness::{CONFIG, flushed_within_ms};
use crate::workload;

/// The healed cluster has so long to finish its work: a dead consumer's queues are given away after 120 s at most.
const HEALED_MS: u64 = 240_000;
/// Between two looks at what is still missing.
const LOOK_MS: u64 = 500;
/// Clients have found every broker again before the last messages are sent.
const SETTLE_MS: u64 = 5_000;
/// A slave whose link has ended has connected again within this.
const RECONNECT_MS: u64 = 6_000;
/// The last messages are sent and delivered within this.
const PROOF_MS: u64 = 60_000;
/// What is dispatched is in the index within this, on a disk that is well.
const INDEXED_MS: u64 = 3_000;
/// How much further slaves are away while the last messages are sent, where each that is in sync is waited for.
const FAR_AWAY_NS: u64 = 40_000_000;
/// Runs that end by a loss of power in which a bit turns in what groups had committed.
const OFFSETS_ROT_PERCENT: u64 = 30;
/// Those in which the delay offsets are of a broker that did not wait for its disk.
const DELAY_OFFSETS_BEYOND_PERCENT: u64 = 40;
/// Between two looks at a cluster that rests.
const REST_LOOK_MS: u64 = 2_000;
/// A broker recovers, or stops in order, within this.
const START_MS: u64 = 60_000;
/// Every node is asked for everything within this.
const EXAMINED_MS: u64 = 120_000;
/// A consumer that holds its queues has been given by then what it finds there first.
const GIVEN_MS: u64 = 1_000;
/// Events kept with a failure.
const EVENTS_KEPT: usize = 200;

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Every event goes into this file.
    pub trace_file: Option<PathBuf>,
    /// Events to keep with the outcome.
    pub keep: Option<fn(&TraceEvent) -> bool>,
    /// A run that takes longer hangs.
    pub wall: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { trace_file: None, keep: None, wall: Duration::from_secs(120) }
    }
}

/// What the scenario's future comes back with.
struct Ended {
    failure: Option<(VerdictKind, Failure)>,
    acked: usize,
    delivered: usize,
    struck: BTreeMap<String, u64>,
    history: History,
}

/// Runs the plan on a thread of its own.
#[must_use]
pub fn run(plan: &Plan, limits: &Limits) -> Outcome {
    let sim_limits = hotfire_sim::Limits {
        wall: limits.wall,
        trace_file: limits.trace_file.clone(),
        keep: limits.keep,
        ..hotfire_sim::Limits::default()
    };
    let inside = plan.clone();
    let result = run_seed(plan.seed, sim_limits, move |world| drive(world, inside));
    outcome(plan, result)
}

fn outcome(plan: &Plan, result: RunResult<Ended>) -> Outcome {
    let at_ms = result.simulated.as_millis() as u64;
    let failure = |promise: &str, detail: String| Failure { promise: promise.to_owned(), at_ms, detail };
    let mut ended =
        Ended { failure: None, acked: 0, delivered: 0, struck: BTreeMap::new(), history: History::default() };
    let failed = match result.outcome {
        SimOutcome::Finished(finished) => {
            ended = finished;
            ended.failure.take()
        }
        SimOutcome::Panicked(panic) => {
            let who =
                panic.task.map(|(node, task)| format!(" in task {task:?} of {node}")).unwrap_or_default();
            let detail = format!("{} at {}{who}", panic.message, panic.location);
            Some((VerdictKind::Panicked, failure("no panic", detail)))
        }
        SimOutcome::OutOfTime => {
            Some((VerdictKind::NoProgress, failure("I19", "the simulated time is up".to_owned())))
        }
        SimOutcome::Stuck => {
            Some((VerdictKind::NoProgress, failure("I19", "everybody waits for ever".to_owned())))
        }
        SimOutcome::Hung(why) => Some((VerdictKind::NoProgress, failure("I19", why))),
    };
    let last_events = if failed.is_some() {
        let skip = result.ring.len().saturating_sub(EVENTS_KEPT);
        result.ring[skip..].iter().map(ToString::to_string).collect()
    } else {
        Vec::new()
    };
    let (verdict, failure) = match failed {
        Some((verdict, failure)) => (verdict, Some(failure)),
        None => (VerdictKind::Ok, None),
    };
    Outcome {
        plan: plan.clone(),
        verdict,
        failure,
        sim_ms: at_ms,
        wall_ms: result.wall.as_millis() as u64,
        events: result.events,
        // The last draw tells apart runs that differ only in scheduling after the last event.
        digest: result.digest ^ result.last_draw.rotate_left(1),
        acked: ended.acked,
        delivered: ended.delivered,
        faults: ended.struck,
        marks: result.marks,
        kept: result.kept,
        history: ended.history,
        last_events,
    }
}

async fn drive(world: World, plan: Plan) -> Ended {
    world.set_mutant(plan.mutant.as_deref().and_then(Mutant::parse));
    world.set_buggify(f64::from(plan.settings.buggify_permille) / 1_000.0);
    let cluster = Cluster::new(world, plan);
    if cluster.plan.settings.undisturbed {
        cluster.world.network().configure(|network| (network.split_read, network.split_write) = (0.0, 0.0));
    }
    set_network(&cluster);
    for node in cluster.nodes.all().into_values() {
        set_disk_speed(&cluster, node);
    }
    let witness = cluster.witness.clone();
    cluster.world.on_probe(move |event| match event.kind {
        "store.append" => witness.appended(event.node, &(event.a..event.b)),
        "store.committed" => witness.committed(event.node, event.a, event.b),
        "store.flushed" => witness.flushed(event.node, event.a, event.b),
        "store.taken_out" => witness.chosen(event.node, event.a),
        "store.index_file" => witness.index_file(event.node, event.a, event.b),
        "store.checkpoint" => witness.checkpointed(event.node, (event.a, event.b)),
        "broker.offset_committed" => {
            witness.offset_committed(event.node, (&event.name, event.a as i32), event.b as i64);
        }
        "schedule.offsets_written" => {
            witness.delay_offsets_written(event.node);
            witness.delays_written(event.node);
        }
        "broker.offsets_taken" => witness.offsets_taken(event.node),
        "broker.offsets_written" => witness.offsets_written(event.node),
        "broker.table_written" => witness.table_written(event.node),
        "broker.half_discarded" => witness.half_discarded(event.node, event.a),
        "broker.handed_back" => witness.handed_back(event.node, event.a..event.b),
        "ha.accepted" => witness.slave_accepted(event.node, event.a, event.b),
        "ha.reported" => witness.slave_reported(event.node, event.a, event.b),
        "ha.ahead" => witness.refused_as_ahead(event.node, event.a, event.b),
        "ha.too_far_behind" => witness.refused_as_too_far(event.node, event.a, event.b),
        "ha.diverged" => witness.found_diverged(event.node, event.a),
        "ha.connected" => witness.slave_follows(event.node),
        "slave.gave" => witness.slave_serves(event.node, "a message"),
        "slave.table_copied" => witness.slave_serves(event.node, "a table"),
        "ha.master_closed" => witness.link_ended("master"),
        "ha.slave_closed" => witness.link_ended("slave"),
        _ => {}
    });
    let witness = cluster.witness.clone();
    cluster.world.on_remove(move |node, path| witness.removing(node, path));
    cluster.boot();
    let mut run = Run { striker: Striker::new(cluster.clone()), cluster, promoted: false };
    let failure = run.phases().await.err();
    let history = run.cluster.witness.history(History::clone);
    let (acked, delivered) = (history.acked(), history.deliveries.len());
    Ended { failure, acked, delivered, struck: run.striker.struck, history }
}

struct Run {
    cluster: Cluster,
    striker: Striker,
    /// A slave is the master.
    promoted: bool,
}

type Phase = Result<(), (VerdictKind, Failure)>;

impl Run {
    async fn phases(&mut self) -> Phase {
        self.faults().await?;
        let replication = self.cluster.plan.settings.replication.as_ref();
        if replication.is_some_and(|replication| replication.masters_lost) && self.masters_lost().await? {
            return Ok(());
        }
        self.striker.heal();
        self.cluster.witness.is_healed();
        let healed_ms = self.cluster.world.now_ms();
        let mut routes = RouteWatch::start(&self.cluster);
        self.healed(&mut routes).await?;
        let healthy_from_ms = self.proof(&mut routes).await?;
        self.judge_running(healthy_from_ms)?;
        self.look_ups().await?;
        self.examination().await?;
        self.expire().await?;
        self.rest(&mut routes).await?;
        self.tables_copied().await?;
        self.settled(&mut routes, healed_ms).await?;
        self.last_blow().await?;
        self.judge()?;
        let scenario = scenario::find(&self.cluster.plan.scenario);
        scenario.map_or(Ok(()), |scenario| scenario.at_end()).map_err(|broken| self.broken(broken))
    }

    fn broken(&self, broken: Broken) -> (VerdictKind, Failure) {
        self.at(self.cluster.world.now_ms(), broken)
    }

    fn at(&self, at_ms: u64, broken: Broken) -> (VerdictKind, Failure) {
        let kind = if broken.promise == "I19" { VerdictKind::NoProgress } else { VerdictKind::PromiseBroken };
        (kind, Failure { promise: broken.promise.to_owned(), at_ms, detail: broken.detail })
    }

    /// Whether the witness has seen a broken promise.
    fn check(&self) -> Phase {
        self.cluster.witness.judge_ends();
        self.cluster.witness.note(self.cluster.witness.judge_unflushed());
        match self.cluster.witness.first_broken() {
            Some((at_ms, broken)) => Err(self.at(at_ms, broken)),
            None => Ok(()),
        }
    }

    async fn faults(&mut self) -> Phase {
        let plan = self.cluster.plan.clone();
        let mut promoted_at_ms =
            plan.settings.replication.as_ref().and_then(|replication| replication.promoted_at_ms);
        // What is on now, and by how much everything is later than planned.
        let (mut on, mut late_ms) = (BTreeSet::new(), 0);
        let end = (plan.workload.faults_end_ms, None);
        let moments = moments(&plan.faults).into_iter().map(|(at_ms, moment)| (at_ms, Some(moment)));
        for (at_ms, moment) in moments.chain([end]) {
            if let Some(promoted_ms) = promoted_at_ms.take_if(|promoted_ms| *promoted_ms <= at_ms) {
                self.cluster.world.sleep_until_ms(promoted_ms).await;
                self.check()?;
                let struck = std::mem::take(&mut on);
                struck.into_iter().for_each(|index: usize| self.striker.end(&plan.faults[index].fault));
                late_ms = self.promote().await?;
            }
            self.cluster.world.sleep_until_ms(at_ms + late_ms).await;
            self.check()?;
            match moment {
                Some(Moment::Begins(index)) => {
                    on.insert(index);
                    self.striker.begin(&plan.faults[index].fault);
                }
                Some(Moment::Ends(index)) if on.remove(&index) => {
                    self.striker.end(&plan.faults[index].fault);
                }
                Some(Moment::Ends(_)) | None => {}
            }
        }
        Ok(())
    }

    /// What the healed cluster has not done yet.
    fn missing(&self, routes: &RouteWatch) -> Option<Broken> {
        let late = |detail: String| Some(Broken::new("I19", detail));
        let witness = &self.cluster.witness;
        if let Some(name) = self.not_running() {
            return late(format!("{name} does not run"));
        }
        let operates = self.cluster.plan.settings.passing.is_some();
        if operates && !self.cluster.progress(|progress| progress.operated) {
            return late("the operator has not made all topics again that he has deleted".to_owned());
        }
        if let Some(id) = witness.history(progress::unanswered) {
            return late(format!("the send of message {} has no outcome", id.0));
        }
        if !self.cluster.plan.settings.store_alone && !routes.is_complete() {
            let detail = routes.missing().unwrap_or_else(|| "no name server has answered".to_owned());
            return Some(Broken::new("I17", detail));
        }
        let brokers = names::brokers(&self.cluster.plan.settings).into_iter();
        let disks = brokers.map(|name| (name.clone(), witness.cached(&name).1)).collect();
        let disks: &BTreeMap<String, BrokerDisk> = &disks;
        if let Some(unwritten) = disks.iter().find_map(|(broker, disk)| witness.unwritten(broker, disk)) {
            return late(unwritten);
        }
        if let Some(unsettled) = disks.iter().find_map(|(broker, disk)| witness.unsettled(broker, disk)) {
            return late(unsettled);
        }
        self.undelivered(disks)
            .or_else(|| self.unfinished(disks))
            .and_then(late)
            .or_else(|| witness.slave_behind())
    }

    /// What consumers have failed with and neither got again nor given up.
    fn unfinished(&self, disks: &BTreeMap<String, BrokerDisk>) -> Option<String> {
        let settings = &self.cluster.plan.settings;
        let delays = settings.delays.as_ref().filter(|delays| delays.failing_percent > 0)?;
        let fails = |id| workload::fails(&self.cluster.plan, id);
        let terms = Terms { fails: &fails, reconsume_max: delays.reconsume_max };
        self.cluster.groups().into_iter().find_map(|group| {
            let filters = consume::sql_of(settings, &group).is_some();
            let open = self.cluster.witness.history(|history| {
                dead_letters::unfinished(history, settings.sync_flush, (&group, filters), terms, disks)
            });
            open.map(|id| format!("{group} has failed with message {} and was not given it again", id.0))
        })
    }

    fn not_running(&self) -> Option<String> {
        let all = names::all(&self.cluster.plan.settings);
        all.into_iter().find(|name| !self.cluster.world.is_running(self.cluster.node(name)))
    }

    fn undelivered(&self, disks: &BTreeMap<String, BrokerDisk>) -> Option<String> {
        let sync_flush = self.cluster.plan.settings.sync_flush;
        self.cluster.readers().into_iter().find_map(|group| {
            let sql = consume::sql_of(&self.cluster.plan.settings, &group);
            let found = self.cluster.witness.history(|history| {
                let asks_for = |id| sql.is_none_or(|form| sql_filter::wants(form, id));
                progress::undelivered(history, sync_flush, &group, (sql.is_some(), asks_for), disks)
                    .map(|(id, record)| (id, record.clone()))
            });
            found.map(|(id, record)| {
                format!(
                    "message {} ({} queue {} offset {}) has not been delivered to {group}",
                    id.0, record.topic, record.queue, record.queue_offset
                )
            })
        })
    }

    /// Usual messages are all begun; a producer that stopped taking them is no progress either.
    fn unsent(&self) -> Option<String> {
        let plan = &self.cluster.plan;
        let slow_end = (plan.workload.load_ms / 1_000) as u32;
        let slow =
            self.cluster.progress(|progress| progress.next.get(&(0, crate::produce::Series::Slow)).copied());
        if plan.workload.slow_topic && slow.unwrap_or(0) < slow_end {
            return Some(format!("{} of {slow_end} messages of the slow topic are begun", slow.unwrap_or(0)));
        }
        (0..plan.settings.producers).find_map(|producer| {
            let series = crate::produce::Series::Usual;
            let next = self
                .cluster
                .progress(|progress| progress.next.get(&(producer, series)).copied().unwrap_or(0));
            let all = crate::workload::messages_of(plan, producer);
            (next < all).then(|| format!("producer-{producer} has begun {next} of its {all} messages"))
        })
    }

    async fn healed(&mut self, routes: &mut RouteWatch) -> Phase {
        let deadline_ms = self.cluster.world.now_ms() + HEALED_MS + self.cluster.plan.workload.load_ms;
        loop {
            self.check()?;
            self.set_up_anew().await;
            routes.look(&self.cluster);
            let unsent = self.unsent().map(|detail| Broken::new("I19", detail));
            let Some(missing) = unsent.or_else(|| self.missing(routes)) else { return Ok(()) };
            if self.cluster.world.now_ms() > deadline_ms {
                let detail = format!("{}, {} s after the faults ended", missing.detail, HEALED_MS / 1_000);
                return Err(self.broken(Broken { detail, ..missing }));
            }
            self.cluster.world.sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// A few more messages on a cluster that is well: nothing may be slow or refused now.
    /// Answers when that began.
    async fn proof(&mut self, routes: &mut RouteWatch) -> Result<u64, (VerdictKind, Failure)> {
        self.cluster.world.sleep(Duration::from_millis(SETTLE_MS + self.link_settle_ms())).await;
        let begun_ms = self.cluster.world.now_ms();
        let mut holders = Holders::default();
        holders.look(begun_ms, self.cluster.held());
        self.cluster.witness.is_well();
        self.cluster.progress(|progress| progress.proofs = 1);
        let expected = self.cluster.plan.workload.proof_messages * self.cluster.plan.settings.producers;
        self.slaves_far_away(FAR_AWAY_NS);
        loop {
            self.cluster.world.sleep(Duration::from_millis(LOOK_MS)).await;
            self.check()?;
            routes.look(&self.cluster);
            holders.look(self.cluster.world.now_ms(), self.cluster.held());
            let sent = self.proofs_sent();
            let missing = if sent < expected {
                let detail = format!("{sent} of {expected} messages sent on the healed cluster");
                Some(Broken::new("I19", detail))
            } else {
                self.missing(routes)
            };
            let missing = missing.or(self.unproven(begun_ms)?);
            let Some(missing) = missing else { break };
            if self.cluster.world.now_ms() > begun_ms + PROOF_MS {
                return Err(self.broken(missing));
            }
        }
        self.slaves_far_away(0);
        let lacks_slaves = self.cluster.witness.lacks_slaves();
        let healthy = |history: &History| progress::healthy(history, begun_ms, lacks_slaves);
        let verdict = self.cluster.witness.history(healthy);
        let held_since = |group: &str, place: &Place| {
            let queue = MessageQueue {
                topic: place.topic.clone(),
                broker_name: place.broker.clone(),
                queue_id: place.queue,
            };
            holders.since(&(group.to_owned(), queue))
        };
        let seen_ms = self.seen_within_ms();
        let given = |history: &History| progress::given(history, begun_ms, seen_ms, held_since);
        let given = || self.cluster.witness.history(given);
        let verdict = verdict.and_then(|()| given());
        let verdict = verdict.and_then(|()| self.cluster.witness.judge_confirming(begun_ms));
        verdict.map(|()| begun_ms).map_err(|broken| self.broken(broken))
    }

    /// Slaves that a send is to wait for are so much further away than clients: an answer that does not wait comes first.
    fn slaves_far_away(&self, further_ns: u64) {
        let settings = &self.cluster.plan.settings;
        let in_sync = settings.replication.as_ref().and_then(|replication| replication.in_sync);
        if !in_sync.is_some_and(|in_sync| in_sync.all) {
            return;
        }
        let usual_ns = settings.network_latency_us * 1_000;
        for slave in names::slaves(settings) {
            let (node, master) = (self.cluster.node(&slave), self.cluster.node(&names::master_of(&slave)));
            for (from, to) in [(node, master), (master, node)] {
                let network = self.cluster.world.network();
                network.change(from, to, |link| link.latency_ns = usual_ns + further_ns);
            }
        }
    }

    /// What brokers have not settled of the transactions that were begun on the healed cluster.
    fn unproven(&self, begun_ms: u64) -> Result<Option<Broken>, (VerdictKind, Failure)> {
        for name in names::brokers(&self.cluster.plan.settings) {
            let unproven = self.cluster.witness.unproven(&name, begun_ms);
            if let Some(detail) = unproven.map_err(|broken| self.broken(broken))? {
                return Ok(Some(Broken::new("I19", detail)));
            }
        }
        Ok(None)
    }

    /// Until the files of the brokers say what was consumed, and not less than the scenario's rest.
    async fn rest(&mut self, routes: &mut RouteWatch) -> Phase {
        let settings = &self.cluster.plan.settings;
        if settings.store_alone {
            return Ok(());
        }
        let rest_ms = settings.rest_ms.max(commits::told_within(settings).as_millis() as u64);
        let rested_ms = self.cluster.world.now_ms() + rest_ms;
        self.cluster.witness.resting(true);
        let mut commits = CommitWatch::start(&self.cluster);
        loop {
            commits.look(&self.cluster);
            self.cluster.world.sleep(Duration::from_millis(REST_LOOK_MS)).await;
            routes.look(&self.cluster);
            self.check()?;
            if self.cluster.world.now_ms() < rested_ms {
                continue;
            }
            let progress = commits.judge(&self.cluster).map_err(|broken| self.broken(broken))?;
            if progress == commits::Progress::Done {
                self.cluster.witness.resting(false);
                return Ok(());
            }
        }
    }

    /// Where consumption is watched: all members have had the time to agree; then each queue has one holder, and a few more
    /// messages are given to it alone.
    async fn settled(&mut self, routes: &mut RouteWatch, healed_ms: u64) -> Phase {
        if self.cluster.plan.settings.consumption.is_none() {
            return Ok(());
        }
        let settled_ms = healed_ms + commits::held_within(&self.cluster).as_millis() as u64;
        self.cluster.world.sleep_until_ms(settled_ms).await;
        let begun_ms = self.cluster.world.now_ms();
        let shares = shares(&self.cluster);
        shares.one_holder().map_err(|broken| self.broken(broken))?;
        self.cluster.progress(|progress| progress.proofs = 2);
        let expected = 2 * self.cluster.plan.workload.proof_messages * self.cluster.plan.settings.producers;
        loop {
            self.cluster.world.sleep(Duration::from_millis(LOOK_MS)).await;
            self.check()?;
            routes.look(&self.cluster);
            let sent = self.proofs_sent();
            if sent == expected && self.missing(routes).is_none() {
                break;
            }
            if self.cluster.world.now_ms() > begun_ms + PROOF_MS {
                let late = || Broken::new("I19", format!("{sent} of {expected} last messages are sent"));
                return Err(self.broken(self.missing(routes).unwrap_or_else(late)));
            }
        }
        let verdict = shares.given_since(&self.cluster, begun_ms);
        let verdict = verdict.and_then(|()| self.cluster.witness.judge_keys(&self.cluster));
        verdict.map_err(|broken| self.broken(broken))
    }

    /// Messages that producers have begun on the healed cluster.
    fn proofs_sent(&self) -> u32 {
        self.cluster.progress(|progress| {
            let proof = |(key, next): (&(u32, crate::produce::Series), &u32)| {
                if key.1 == crate::produce::Series::Proof { *next } else { 0 }
            };
            progress.next.iter().map(proof).sum::<u32>()
        })
    }

    /// Clients stop; brokers fail once more, start, recover and stop in order.
    async fn last_blow(&mut self) -> Phase {
        let settings = self.cluster.plan.settings.clone();
        let world = self.cluster.world.clone();
        for name in names::clients(&settings) {
            world.stop(self.cluster.node(&name));
        }
        self.wait_stopped(&names::clients(&settings)).await?;
        let brokers = names::brokers(&settings);
        let scenario = scenario::find(&self.cluster.plan.scenario);
        let power = scenario.is_some_and(|scenario| scenario.profile().ends_by_power_loss);
        if settings.undisturbed {
            brokers.iter().for_each(|name| world.stop(self.cluster.node(name)));
            self.wait_stopped(&brokers).await?;
        }
        for name in &brokers {
            let node = self.cluster.node(name);
            if power && !settings.undisturbed {
                self.cluster.witness.before_power_loss(name);
                world.power_off(node);
            } else if !settings.undisturbed {
                self.cluster.witness.before_crash(name);
                world.crash(node);
            }
            if power && !settings.undisturbed {
                self.offsets_rot(name);
                self.delay_offsets_of_java(name);
            }
            // The next process is not ready because the last one was.
            self.cluster.witness.process_ended(name);
            world.restart(node);
        }
        let ready = |run: &Run, name: &String| run.cluster.witness.is_ready(name);
        self.wait_for(&brokers, "has not recovered", ready).await?;
        if !settings.store_alone {
            self.restarted(&brokers).await?;
        }
        for name in &brokers {
            world.stop(self.cluster.node(name));
        }
        self.wait_stopped(&brokers).await?;
        if self.cluster.plan.scenario == promote_by_hand::NAME && !self.promoted {
            return self.promotion().await;
        }
        let slaves = names::slaves(&settings);
        slaves.iter().for_each(|name| world.stop(self.cluster.node(name)));
        self.wait_stopped(&slaves).await
    }

    /// In some runs a bit turns in the file of committed offsets, whose backup is whole.
    fn offsets_rot(&self, broker: &str) {
        let key = Draw::new(self.cluster.plan.seed).key("offsets rot", 0).branch(broker);
        let path = format!("{CONFIG}/consumerOffset.json");
        let image = self.cluster.witness.durable(broker).0;
        let has = |path: &str| matches!(config::load(&image, path), config::Version::Whole(_));
        if key.percent(OFFSETS_ROT_PERCENT) && image.files.contains_key(&path) && has(&format!("{path}.bak"))
        {
            self.cluster.world.disk(self.cluster.node(broker)).rot(&path, 0, 0);
        }
    }

    /// In some runs the delay offsets are what a Java broker leaves, which saves them without regard to the flush: they count
    /// deliveries of messages that the loss of power has taken. Only where all that is left was delivered, since what they
    /// count beside that is lost.
    fn delay_offsets_of_java(&self, broker: &str) {
        if self.cluster.plan.settings.delays.is_none() {
            return;
        }
        let key = Draw::new(self.cluster.plan.seed).key("delay offsets of java", 0).branch(broker);
        let (image, disk) = self.cluster.witness.durable(broker);
        let path = format!("{CONFIG}/delayOffset.json");
        let Some(text) = image.files.get(&path).filter(|_| key.percent(DELAY_OFFSETS_BEYOND_PERCENT)) else {
            return;
        };
        for (level, offset) in delay::in_file(&image, CONFIG) {
            let queue = disk.queues.get(&(DELAY_TOPIC.to_owned(), level - 1));
            if queue.is_some_and(|queue| queue.max() == offset)
                && let Some((at, bits)) = config::delay_offset_raised(text, level)
            {
                let disk = self.cluster.world.disk(self.cluster.node(broker));
                let bits = (0..8).filter(|bit| bits & (1 << bit) != 0);
                bits.for_each(|bit| _ = disk.rot(&path, at, bit));
                self.cluster.witness.delays_are_beyond(broker);
            }
        }
    }

    /// What the brokers know of groups after their start is what they knew before, and consumers go on there.
    async fn restarted(&mut self, brokers: &[String]) -> Phase {
        let asking = restarted::ask(&self.cluster, brokers);
        self.wait_until("the committed offsets are not answered", || asking.is_done(&self.cluster)).await?;
        for (broker, says) in asking.answers(&self.cluster) {
            let before = self.cluster.witness.committed_before(&broker);
            consumer_offset::kept(&broker, &before, &says).map_err(|broken| self.broken(broken))?;
        }
        let member = restarted::consume(&self.cluster, brokers);
        self.wait_until("the new members have not taken every queue", || member.is_done(&self.cluster))
            .await?;
        self.cluster.world.sleep(Duration::from_millis(GIVEN_MS)).await;
        self.cluster.world.stop(member.node);
        self.wait_until("the new members have not stopped", || !self.cluster.world.is_running(member.node))
            .await?;
        self.check()
    }

    /// The masters are gone for good. Their slaves die too, start as masters, and stop.
    async fn promotion(&mut self) -> Phase {
        let slaves = names::slaves(&self.cluster.plan.settings);
        self.take_over(&slaves).await
    }

    /// These slaves die, start as masters, and stop, with all that they had.
    async fn take_over(&mut self, slaves: &[String]) -> Phase {
        let (world, witness) = (self.cluster.world.clone(), self.cluster.witness.clone());
        let before: Vec<u64> = slaves.iter().map(|name| witness.cached(name).1.log.end).collect();
        self.cluster.progress(|progress| progress.promotes = true);
        for name in slaves {
            world.crash(self.cluster.node(name));
            world.restart(self.cluster.node(name));
        }
        let promoted =
            |run: &Run, name: &String| run.cluster.progress(|progress| progress.promoted.contains(name));
        self.wait_for(slaves, "has not become the master", promoted).await?;
        slaves.iter().for_each(|name| world.stop(self.cluster.node(name)));
        self.wait_stopped(slaves).await?;
        for (name, before) in slaves.iter().zip(before) {
            let (image, disk) = witness.durable(name);
            replica::kept(name, before, disk.log.end)
                .and_then(|()| tables::inherited(name, &disk, &image, CONFIG))
                .and_then(|()| queue_matches_log::judge(name, &disk))
                .and_then(|()| queue_order::dense(name, &disk))
                .and_then(|()| consumer_offset::at_end(name, &image, CONFIG, &disk))
                .map_err(|broken| self.broken(broken))?;
        }
        Ok(())
    }

    /// Under load, and perhaps cut from a slave, masters lose their disks. Of each one's slaves the one with the most takes over,
    /// and must have what was confirmed. False where that would take the last copy of something: then nothing is lost.
    async fn masters_lost(&mut self) -> Result<bool, (VerdictKind, Failure)> {
        let (world, witness) = (self.cluster.world.clone(), self.cluster.witness.clone());
        let plan = self.cluster.plan.clone();
        let (brokers, slaves) = (names::brokers(&plan.settings), names::slaves(&plan.settings));
        let key = Draw::new(plan.seed).key("masters lost", 0);
        let left_ms = plan.workload.load_ms - plan.workload.faults_end_ms;
        world.sleep(Duration::from_millis(key.branch("when").range(0, left_ms))).await;
        let cut = key.branch("cut").pick(&slaves.iter().map(Some).chain([None]).collect::<Vec<_>>());
        if let Some(slave) = cut {
            world.network().cut(self.cluster.node(&names::master_of(slave)), self.cluster.node(slave));
            world.sleep(Duration::from_millis(key.branch("cut for").range(0, 1_000))).await;
        }
        self.check()?;
        if !brokers.iter().all(|broker| witness.has_heir(broker)) {
            return Ok(false);
        }
        brokers.iter().for_each(|name| self.striker.lose_disk(name));
        let clients = names::clients(&plan.settings);
        clients.iter().for_each(|name| world.stop(self.cluster.node(name)));
        self.wait_stopped(&clients).await?;
        for name in &slaves {
            world.resume(self.cluster.node(name));
            world.crash_at_step(self.cluster.node(name), NEVER_STEP);
            world.crash(self.cluster.node(name));
        }
        let heirs: Vec<String> = brokers.iter().filter_map(|broker| witness.heir(broker)).collect();
        assert_eq!(heirs.len(), brokers.len(), "each master has an heir");
        self.take_over(&heirs).await?;
        for name in &heirs {
            let disk = witness.durable(name).1;
            witness.lost(&names::master_of(name), &disk);
            witness.judge_heir(name, &disk).map_err(|broken| self.broken(broken))?;
        }
        Ok(true)
    }

    async fn wait_stopped(&self, nodes: &[String]) -> Phase {
        let stopped = |run: &Run, name: &String| !run.cluster.world.is_running(run.cluster.node(name));
        self.wait_for(nodes, "has not stopped", stopped).await
    }

    async fn wait_for(&self, nodes: &[String], what: &str, done: impl Fn(&Run, &String) -> bool) -> Phase {
        for name in nodes {
            self.wait_until(&format!("{name} {what}"), || done(self, name)).await?;
        }
        Ok(())
    }

    async fn wait_until(&self, what: &str, done: impl Fn() -> bool) -> Phase {
        self.wait_within(START_MS, what, done).await
    }

    async fn wait_within(&self, for_ms: u64, what: &str, done: impl Fn() -> bool) -> Phase {
        let deadline_ms = self.cluster.world.now_ms() + for_ms;
        loop {
            self.check()?;
            if done() {
                return Ok(());
            }
            if self.cluster.world.now_ms() > deadline_ms {
                let detail = format!("{what} after {} s", for_ms / 1_000);
                return Err(self.broken(Broken::new("I19", detail)));
            }
            self.cluster.world.sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where nothing is stored without slaves, no log says whether they follow: time for one to see that its link is dead,
    /// and to connect again.
    fn link_settle_ms(&self) -> u64 {
        let replication = self.cluster.plan.settings.replication.as_ref();
        let waits = replication.filter(|replication| replication.in_sync.is_some());
        waits.map_or(0, |replication| replication.housekeeping_ms + RECONNECT_MS)
    }

    /// From when a broker that is well has stored a message until it can be read: when it is committed.
    fn seen_within_ms(&self) -> u64 {
        self.cluster.plan.settings.pool.as_ref().map_or(0, Pool::committed_within_ms)
    }

    /// Every message is delivered, and nothing new is sent: what runs must agree with itself, before a restart could mend it.
    fn judge_running(&self, healthy_from_ms: u64) -> Phase {
        let is_sent_since = |id| {
            let started = |history: &History| history.sends.get(&id).map(|sent| sent.started_ms);
            self.cluster.witness.history(started).is_some_and(|started_ms| started_ms >= healthy_from_ms)
        };
        for name in names::brokers(&self.cluster.plan.settings) {
            let (_, disk) = self.cluster.witness.cached(&name);
            // Consumers may still hand back.
            let dispatched = self.cluster.witness.dispatched(&name);
            let verdict = self.cluster.witness.judge_deleted(&name, &disk);
            let verdict = verdict
                .and_then(|()| queue_matches_log::judge_below(&name, &disk, dispatched))
                .and_then(|()| queue_order::dense(&name, &disk))
                .and_then(|()| delay::late(&name, &disk, self.seen_within_ms(), is_sent_since))
                .and_then(|()| self.cluster.witness.judge_transactions(&name, &disk));
            verdict.map_err(|broken| self.broken(broken))?;
        }
        self.cluster.witness.judge_replicas(false).map_err(|broken| self.broken(broken))
    }

    /// Every record is found by its keys, by those who ask for them.
    async fn look_ups(&self) -> Phase {
        self.cluster.world.sleep(Duration::from_millis(INDEXED_MS)).await;
        look_ups::start(&self.cluster);
        let deadline_ms = self.cluster.world.now_ms() + PROOF_MS;
        let answers = loop {
            self.cluster.world.sleep(Duration::from_millis(LOOK_MS)).await;
            self.check()?;
            if let Some(answers) = look_ups::answers(&self.cluster) {
                break answers;
            }
            if self.cluster.world.now_ms() > deadline_ms {
                return Err(self.broken(Broken::new("I19", "look-ups by key are not answered")));
            }
        };
        for name in names::brokers(&self.cluster.plan.settings) {
            let (_, disk) = self.cluster.witness.cached(&name);
            let mut by_key = answers.by_key.iter().filter(|answer| answer.broker == name);
            let mut by_time = answers.by_time.iter().filter(|answer| answer.broker == name);
            let mut by_tags = answers.by_tags.iter().filter(|answer| answer.broker == name);
            let mut of_queues = answers.of_queues.iter().filter(|answer| answer.broker == name);
            let mut of_groups = answers.of_groups.iter().filter(|answer| answer.broker == name);
            let mut by_place = answers.by_place.iter().filter(|answer| answer.broker == name);
            let mut rotten = answers.rotten.iter().filter(|answer| answer.broker == name);
            let deletes = self.cluster.plan.settings.deletion.is_some();
            by_key
                .try_for_each(|answer| index_matches_log::answer(answer, &disk))
                .and_then(|()| match self.cluster.plan.settings.deletion {
                    // Where a queue begins moves while it is asked.
                    Some(_) => Ok(()),
                    None => by_time.try_for_each(|answer| search::by_time(answer, &disk)),
                })
                .and_then(|()| by_tags.try_for_each(|answer| search::by_tags(answer, &disk)))
                .and_then(|()| of_queues.try_for_each(|answer| bounds::judge(answer, &disk, !deletes)))
                .and_then(|()| of_groups.try_for_each(|answer| group_offsets::judge(answer, &disk)))
                .and_then(|()| by_place.try_for_each(|answer| bounds::by_place(answer, &disk)))
                .and_then(|()| rotten.try_for_each(queue_matches_log::read_back))
                .and_then(|()| self.cluster.witness.judge_turned(&name))
                .map_err(|broken| self.broken(broken))?;
        }
        Ok(())
    }

    /// Every node is asked for everything, by bytes.
    async fn examination(&self) -> Phase {
        if self.cluster.plan.scenario != operators::NAME {
            return Ok(());
        }
        self.cluster.progress(|progress| progress.examination.wanted = true);
        let is_done = || self.cluster.progress(|progress| progress.examination.done);
        self.wait_within(EXAMINED_MS, "the examination has not come to its end", is_done).await?;
        self.check()
    }

    fn judge_dead_letters(&self, broker: &str, disk: &BrokerDisk) -> Verdict {
        let Some(delays) = &self.cluster.plan.settings.delays else { return Ok(()) };
        let fails = |id| workload::fails(&self.cluster.plan, id);
        let terms = Terms { fails: &fails, reconsume_max: delays.reconsume_max };
        let mut groups = self.cluster.groups().into_iter();
        groups
            .try_for_each(|group| dead_letters::judge(broker, disk, &group, terms))
            .and_then(|()| dead_letters::judge_tries(broker, disk, delays.reconsume_max))
    }

    fn judge(&self) -> Phase {
        let settings = &self.cluster.plan.settings;
        let mut disks = BTreeMap::new();
        for name in names::brokers(settings) {
            let (image, disk) = self.cluster.witness.durable(&name);
            let deaths = self.cluster.witness.history(|history| history.unclean_starts.get(&name).copied());
            let deaths = deaths.unwrap_or(0);
            self.cluster.witness.lost(&name, &disk);
            consumer_offset::at_end(&name, &image, CONFIG, &disk)
                .and_then(|()| position_order::stopped(&name, &disk))
                .and_then(|()| self.cluster.witness.judge_transactions(&name, &disk))
                .and_then(|()| delay::offsets(&name, &image, CONFIG, &disk, deaths))
                .and_then(|()| self.cluster.witness.judge_delays(&name, (&image, &disk)))
                .and_then(|()| self.judge_dead_letters(&name, &disk))
                .and_then(|()| examine::at_end(&self.cluster, &name, &disk))
                .map_err(|broken| self.broken(broken))?;
            disks.insert(name, disk);
        }
        self.cluster.witness.judge_replicas(true).map_err(|broken| self.broken(broken))?;
        self.cluster.witness.judge_asked(&disks).map_err(|broken| self.broken(broken))?;
        let verdict = self.cluster.witness.history(|history| {
            let flushed_within_ms = flushed_within_ms(settings, settings.sync_flush);
            let end = Final {
                history,
                sync_flush: settings.sync_flush,
                committed_within_ms: settings.pool.as_ref().map(Pool::committed_within_ms),
                flushed_within_ms,
                brokers: &disks,
            };
            judge(end, settings.commit_log_file_bytes)
        });
        verdict.map_err(|broken| self.broken(broken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::draw;

    fn run_seed_of(scenario: &str, seed: u64) -> Outcome {
        run(&draw(scenario, seed).expect("a listed scenario"), &Limits::default())
    }

    #[test]
    fn the_canary_fails_and_every_other_scenario_holds() {
        let canary = run_seed_of("canary", 1);
        assert_eq!(canary.verdict, VerdictKind::PromiseBroken, "{:?}", canary.failure);
        assert_eq!(canary.failure.expect("it failed").promise, "canary");
        for scenario in scenario::swept() {
            let outcome = run_seed_of(scenario.name(), 1);
            assert_eq!(outcome.verdict, VerdictKind::Ok, "{}: {:?}", scenario.name(), outcome.failure);
            assert!(outcome.acked > 0 && outcome.delivered > 0, "{} did nothing", scenario.name());
        }
    }

    #[test]
    fn an_undisturbed_run_meets_no_fault_and_holds_and_a_bug_that_needs_one_lives_through_it() {
        for scenario in scenario::swept() {
            let plan = draw(scenario.name(), 1).expect("a listed scenario").undisturbed();
            let outcome = run(&plan, &Limits::default());
            assert_eq!(outcome.verdict, VerdictKind::Ok, "{}: {:?}", scenario.name(), outcome.failure);
            assert!(outcome.acked > 0 && outcome.delivered > 0, "{} did nothing", scenario.name());
            assert_eq!(outcome.faults, BTreeMap::new());
        }
        let plan = draw("broker_crash", 0).expect("a listed scenario");
        let mutant = Some(Mutant::RedispatchRepeats.name().to_owned());
        let planted = |plan: Plan| run(&Plan { mutant: mutant.clone(), ..plan }, &Limits::default());
        assert_eq!(planted(plan.clone()).verdict, VerdictKind::PromiseBroken);
        assert_eq!(planted(plan.undisturbed()).verdict, VerdictKind::Ok);
    }

    #[test]
    fn a_plan_read_back_from_its_json_is_the_same_run() {
        let plan = draw("power_loss", 2).expect("a listed scenario");
        let again = Plan::from_json(&plan.to_json()).expect("its own text");
        let (one, other) = (run(&plan, &Limits::default()), run(&again, &Limits::default()));
        assert_eq!((one.digest, one.events), (other.digest, other.events));
    }

    #[test]
    fn a_planted_bug_breaks_its_promise_and_the_recorded_plan_shows_it_again() {
        let mut plan = draw("power_loss", 0).expect("a listed scenario");
        plan.mutant = Some(Mutant::AckBeforeFlush.name().to_owned());
        let first = run(&plan, &Limits::default());
        assert_eq!(first.verdict, VerdictKind::PromiseBroken, "{:?}", first.failure);
        let recorded = Plan::from_json(&first.recorded("here").to_json()).expect("its own text");
        let again = run(&recorded, &Limits::default());
        assert_eq!(again.failure, first.failure);
        assert_eq!(again.digest, first.digest);
    }

    /// The shrunk plan of each bug that was found, under the code that no longer has it.
    #[test]
    fn plans_that_once_found_a_bug_hold() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .expect("the folder is there")
            .map(|entry| entry.expect("a readable folder").path())
            .collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a readable plan");
            let plan = Plan::from_json(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let outcome = run(&plan, &Limits::default());
            assert_eq!(outcome.verdict, VerdictKind::Ok, "{}: {:?}", file.display(), outcome.failure);
        }
    }
}

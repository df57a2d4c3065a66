//! A seed's choices: every knob is drawn here, by a keyed draw, and stands in the plan.
//!
//! Swarm: a seed first draws which kinds of fault exist in its run and how often they come, then when. A run in which
//! everything is on at once hides what needs a quiet minute; a run with two kinds meets their pair often.

use crate::draw::{Draw, Key};
use crate::faults;
use crate::oracle::sql_filter::FORMS;
use crate::plan::{
    Consumption, Delays, Deletion, InSync, LOG_FOLDERS, Passing, Plan, Pool, RecordCrc, Replication,
    Settings, Transactions, Workload,
};
use crate::scenario::{
    self, Profile, delay, operators, ordered, rebalance, replication as replicated, retry_dlq, slave_restart,
    topic_deletion, transaction,
};

/// Messages of one batch, at most.
pub const BATCH_MAX: u32 = 5;
/// The hour of the day, UTC, at which every run begins; none passes within one.
const BEGIN_HOUR: u32 = 22;
/// What a record has beside its body and its filler, with much room.
const RECORD_OVERHEAD: u32 = 300;

/// The plan that `seed` draws for the scenario of that name; none when there is no such scenario.
#[must_use]
pub fn draw(scenario: &str, seed: u64) -> Option<Plan> {
    let profile = scenario::find(scenario)?.profile();
    let random = Draw::new(seed);
    let knob = |name: &str| random.key(name, 0);
    let mut settings = settings(&profile, &knob);
    let mut workload = workload(&profile, &settings, &knob);
    if [ordered::NAME, rebalance::NAME].contains(&scenario) {
        settings.consumers = knob("members").range(2, 5) as u32;
        settings.consumption = Some(consumption(scenario == ordered::NAME, &settings, &knob));
    }
    if scenario == ordered::NAME {
        // One message of a key is answered before the next is sent.
        (workload.in_flight, workload.batch_percent, workload.one_way_percent) = (1, 0, 0);
        let senders = u64::from(settings.producers);
        workload.gap_ms = (workload.load_ms * senders / u64::from(workload.messages)).max(1);
    }
    settings.transactions = (scenario == transaction::NAME).then(|| transactions(&knob));
    if let Some(replication) = settings.replication.as_mut().filter(|_| profile.promotes) {
        let among = workload.faults_end_ms * 3 / 10..workload.faults_end_ms * 7 / 10;
        replication.promoted_at_ms =
            knob("promoted").percent(75).then(|| knob("promoted_at_ms").range(among.start, among.end));
    }
    settings.delays = match scenario {
        delay::NAME => Some(Delays { failing_percent: 0, ..delays(&knob) }),
        retry_dlq::NAME => Some(delays(&knob)),
        replicated::NAME if knob("send_backs").percent(25) => {
            Some(Delays { delayed_percent: 0, ..delays(&knob) })
        }
        slave_restart::NAME if knob("delays").percent(50) => {
            Some(Delays { failing_percent: 0, ..delays(&knob) })
        }
        _ => None,
    };
    settings.passing = (scenario == topic_deletion::NAME).then(|| passing(&knob));
    if scenario == operators::NAME {
        // Whoever judges each answer wants to know each outcome, and one pull goes no further than a file of its queue.
        settings.sync_flush_timeout_ms = 5_000;
        settings.queue_file_bytes = settings.queue_file_bytes.max(20 * 50);
    }
    // A whole batch must fit into one file.
    let batch_bytes =
        u64::from(BATCH_MAX * (workload.body_bytes + workload.property_bytes + RECORD_OVERHEAD));
    settings.commit_log_file_bytes = settings.commit_log_file_bytes.max(batch_bytes.next_multiple_of(4_096));
    let may_filter = settings.groups > 1 && settings.consumption.is_none();
    settings.sql = (may_filter && knob("sql").percent(50))
        .then(|| knob("sql_form").range(0, FORMS.len() as u64 - 1) as u32);
    settings.deletion = profile.deletes.then(|| deletion(&settings, &workload, &knob));
    let faults = faults::draw(&profile, &settings, &workload, random);
    Some(Plan { scenario: scenario.to_owned(), seed, mutant: None, settings, workload, faults, record: None })
}

fn settings(profile: &Profile, knob: &impl Fn(&str) -> Key) -> Settings {
    let alone = profile.store_alone;
    let brokers = if knob("brokers").percent(profile.two_brokers_percent) { 2 } else { 1 };
    let name_servers = match () {
        () if alone => 0,
        () if profile.two_name_servers || knob("name_servers").percent(35) => 2,
        () => 1,
    };
    let consumers = if alone { 1 } else { knob("consumers").range(1, 3) as u32 };
    let sync_flush = knob("sync_flush").percent(profile.sync_flush_percent);
    Settings {
        name_servers,
        brokers,
        replication: profile.replicates().then(|| replication(profile, sync_flush, knob)),
        producers: knob("producers").range(2, 3) as u32,
        consumers,
        store_alone: alone,
        groups: if consumers > 1 && knob("groups").percent(40) { 2 } else { 1 },
        sync_flush,
        // Some slow disks are too slow for it.
        sync_flush_timeout_ms: knob("sync_flush_timeout_ms").pick(&[100, 300, 1_000, 5_000, 5_000]),
        pool: (!sync_flush && knob("pool").percent(50)).then(|| pool(knob)),
        record_crc: match knob("plain_records").percent(if profile.replicates() { 50 } else { 30 }) {
            false => RecordCrc::On,
            true => record_crc(profile, knob),
        },
        // Files of a few KiB: a run then crosses many file ends, which is where recovery has its cases.
        // Where files are deleted there must be many.
        commit_log_file_bytes: 1024
            * match profile.deletes {
                true => knob("commit_log_file_bytes").pick(&[4, 8, 12, 16]),
                false => knob("commit_log_file_bytes").pick(&[4, 8, 12, 16, 24, 32, 64]),
            },
        log_folders: match knob("log_folders").percent(25) && !profile.deletes {
            true => knob("log_folders_count").range(2, LOG_FOLDERS.len() as u64) as usize,
            false => 1,
        },
        // A few are larger than what recovery reads at once.
        queue_file_bytes: 20
            * match knob("large_queue_files").percent(6) {
                true => 5_000,
                false => knob("queue_file_bytes").pick(&[5, 13, 20, 50, 205, 400]),
            },
        open_queue_files: (alone && knob("open_queue_files").percent(30))
            .then(|| knob("open_queue_files_max").pick(&[1, 2, 3])),
        index_file: (
            knob("index_slots").pick(&[3, 16, 100, 1500]) as u32,
            knob("index_entries").pick(&[20, 60, 300]) as u32,
        ),
        flush_interval_ms: knob("flush_interval_ms").pick(&[50, 200, 500]),
        flush_thorough_interval_ms: knob("flush_thorough_interval_ms").pick(&[1_000, 3_000, 10_000]),
        queue_flush_interval_ms: knob("queue_flush_interval_ms").pick(&[200, 1_000]),
        queue_flush_thorough_interval_ms: knob("queue_flush_thorough_interval_ms")
            .pick(&[2_000, 10_000, 60_000]),
        offset_persist_interval_ms: knob("offset_persist_interval_ms").pick(&[500, 1_000, 5_000]),
        register_interval_ms: knob("register_interval_ms").pick(&[10_000, 30_000]),
        queues_per_topic: knob("queues_per_topic").range(1, 4) as u32,
        network_latency_us: knob("network_latency_us").pick(&[100, 300, 1_000]),
        flush_latency_us: knob("flush_latency_us").pick(&[100, 1_000, 4_000, 12_000]),
        buggify_permille: knob("buggify_permille").pick(&[0, 0, 10, 50]),
        rest_ms: profile.rest_ms,
        deletion: None,
        sql: None,
        transactions: None,
        delays: None,
        consumption: None,
        passing: None,
        undisturbed: false,
    }
}

/// Records as Java's brokers write them by default, in some lives or in all.
fn record_crc(profile: &Profile, knob: &impl Fn(&str) -> Key) -> RecordCrc {
    match profile.replicates() {
        true => knob("record_crc").pick(&[RecordCrc::Off, RecordCrc::OffOnMasters, RecordCrc::InTurns]),
        false => knob("record_crc").pick(&[RecordCrc::Off, RecordCrc::Off, RecordCrc::InTurns]),
    }
}

/// Offsets are saved often, so that what comes again tells something.
fn consumption(in_order: bool, settings: &Settings, knob: &impl Fn(&str) -> Key) -> Consumption {
    let broadcast = !in_order && settings.groups > 1 && knob("broadcast").percent(60);
    Consumption {
        in_order,
        broadcast,
        from_last: knob("from_last").percent(50),
        commit_interval_ms: knob("commit_interval_ms").pick(&[200, 500, 5_000]),
        slow_percent: knob("slow_percent").pick(&[0, 2, 5]) as u32,
        failing_percent: knob("consumers_fail_percent").pick(&[0, 5, 20]) as u32,
    }
}

/// Room enough for a workload whose commits come in time.
fn pool(knob: &impl Fn(&str) -> Key) -> Pool {
    let fast_fail = knob("pool_fast_fail").percent(40);
    Pool {
        buffers: if fast_fail {
            knob("pool_buffers").pick(&[3, 5])
        } else {
            knob("pool_buffers").pick(&[1, 2, 5])
        },
        fast_fail,
        interval_ms: knob("pool_interval_ms").pick(&[20, 200]),
        least_pages: knob("pool_least_pages").pick(&[0, 1, 4, 4]),
        thorough_interval_ms: knob("pool_thorough_interval_ms").pick(&[50, 200, 1_000, 3_000]),
    }
}

/// A producer is known to its broker a good second after it has connected: nobody is asked about before.
fn transactions(knob: &impl Fn(&str) -> Key) -> Transactions {
    Transactions {
        percent: knob("transaction_percent").pick(&[50, 80, 100]),
        timeout_ms: knob("transaction_timeout_ms").pick(&[1_500, 3_000]),
        check_interval_ms: knob("check_interval_ms").pick(&[200, 500, 1_000]),
        check_max: knob("check_max").pick(&[3, 5, 15]),
        lone_producers: knob("lone_producers").percent(40),
        full_percent: knob("full_halves").pick(&[0, 0, 0, 3, 6]) as u32,
    }
}

fn passing(knob: &impl Fn(&str) -> Key) -> Passing {
    Passing {
        topics: knob("passing_topics").range(1, 3) as u32,
        percent: knob("passing_percent").pick(&[20, 50]) as u32,
        gap_ms: knob("passing_gap_ms").pick(&[200, 800, 2_000]),
        gone_ms: knob("passing_gone_ms").pick(&[0, 300, 3_000]),
    }
}

fn replication(profile: &Profile, sync_flush: bool, knob: &impl Fn(&str) -> Key) -> Replication {
    let heartbeat_ms = knob("ha_heartbeat_ms").pick(&[500, 1_000, 2_000]);
    let slaves = if profile.slaves_max > 1 && knob("slaves").percent(50) { 2 } else { 1 };
    let sync_master = knob("sync_master").percent(65);
    let in_sync = (sync_master && knob("in_sync").percent(60)).then(|| in_sync(slaves, knob));
    // Slaves that are ahead of a master stop for good, and then every send waits in vain.
    let short_waits = in_sync.is_some() && !sync_flush;
    let timeouts_ms: &[u64] = if short_waits { &[500] } else { &[500, 1_000, 2_000] };
    Replication {
        slaves,
        sync_master,
        in_sync,
        sync_flush: profile.mixed_flush.then_some(!sync_flush),
        masters_lost: sync_master && profile.loses_masters && knob("masters_lost").percent(60),
        java_slaves: profile.java_slaves_percent > 0
            && knob("java_slaves").percent(profile.java_slaves_percent),
        promoted_at_ms: None,
        // A frame holds less than a record, several, or as much as Java's.
        batch_bytes: knob("ha_batch_bytes").pick(&[100, 1_000, 32_768]) as u32,
        heartbeat_ms,
        housekeeping_ms: 4 * heartbeat_ms,
        slave_timeout_ms: knob("slave_timeout_ms").pick(timeouts_ms),
        // More than a few sends at once make of it on a cluster that is well.
        behind_max: (sync_master && knob("ha_behind").percent(50))
            .then(|| knob("ha_behind_max").pick(&[16, 16, 32]) * 1_024),
    }
}

/// No more copies than there are: else no send would ever be answered SEND_OK.
fn in_sync(slaves: u32, knob: &impl Fn(&str) -> Key) -> InSync {
    let copies = u64::from(1 + slaves);
    let all = knob("in_sync_all").percent(30);
    if all && knob("in_sync_all_alone").percent(70) {
        return InSync { replicas: 1, min: 1, all };
    }
    InSync {
        // To wait for all is the case in which one that is counted twice shows.
        replicas: knob("in_sync_replicas").pick(&[1, 2, copies, copies]) as u32,
        min: knob("in_sync_min").pick(&[1, 1, 1, 2, copies]) as u32,
        all,
    }
}

/// Seconds instead of hours; the first try again is at level 3.
fn delays(knob: &impl Fn(&str) -> Key) -> Delays {
    let levels = ["1s 2s 3s 4s 5s 8s", "2s 1s 1s 2s 3s 4s", "1s 1s 2s 1s 1s 2s 1s"];
    Delays {
        levels: knob("delay_levels").pick(&levels).to_owned(),
        save_interval_ms: knob("delay_save_interval_ms").pick(&[100, 500, 2_000, 10_000]),
        delayed_percent: knob("delayed_percent").pick(&[20, 50, 80]) as u32,
        failing_percent: knob("failing_percent").pick(&[20, 50]) as u32,
        reconsume_max: knob("reconsume_max").range(1, 3) as i32,
    }
}

/// The disk takes twice what the workload can need, so that it is tight only when somebody else makes it so.
fn deletion(settings: &Settings, workload: &Workload, knob: &impl Fn(&str) -> Key) -> Deletion {
    let record_bytes = u64::from(workload.body_bytes + workload.property_bytes + RECORD_OVERHEAD);
    let slow = workload.load_ms / 1_000;
    let messages = u64::from(workload.messages + workload.proof_messages * settings.producers) + slow;
    // A queue file takes a page or more, and each queue has one that is hardly used.
    let topics = u64::from(workload.topics + workload.late_topics + 1);
    let queue_bytes = (settings.queue_file_bytes + 8_192) * topics * u64::from(settings.queues_per_topic)
        + messages * 20 * (8_192 / settings.queue_file_bytes + 1);
    let log_bytes = 2 * messages * record_bytes + 3 * settings.commit_log_file_bytes;
    let hours: Vec<String> = (0..24)
        .filter(|hour| *hour != BEGIN_HOUR && knob("delete_hour").branch(&hour.to_string()).percent(40))
        .map(|hour| format!("{hour:02}"))
        .collect();
    Deletion {
        disk_bytes: (2 * (log_bytes + queue_bytes)).next_multiple_of(4_096),
        // While a slave is away files must become old.
        reserved_ms: match settings.replication.is_some() {
            true => knob("reserved_ms").pick(&[0, 500, 2_000]),
            false => knob("reserved_ms").pick(&[0, 2_000, 5_000, 10_000, 3_600_000]),
        },
        delete_when: hours.join(";"),
        interval_ms: knob("interval_ms").pick(&[50, 200, 1_000]),
        first_ms: knob("first_ms").pick(&[0, 200, 1_000]),
        log_file_pause_ms: knob("log_file_pause_ms").pick(&[0, 20, 100]),
        queue_file_pause_ms: knob("queue_file_pause_ms").pick(&[0, 20, 200]),
        held_max_ms: knob("held_max_ms").pick(&[300, 2_000, 120_000]),
        held_retry_ms: knob("held_retry_ms").pick(&[100, 1_000]),
        forcibly: knob("forcibly").percent(85),
    }
}

fn workload(profile: &Profile, settings: &Settings, knob: &impl Fn(&str) -> Key) -> Workload {
    let load_ms = knob("load_ms").pick(profile.load_ms);
    let messages = knob("messages").range(150, 700) as u32;
    let in_flight = knob("in_flight").pick(&[1, 2, 4, 8]);
    let senders = u64::from(settings.producers * in_flight);
    Workload {
        messages,
        in_flight,
        gap_ms: (load_ms * senders / u64::from(messages)).max(1),
        topics: knob("topics").range(1, 3) as u32,
        late_topics: if knob("late_topics").percent(50) { 2 } else { 0 },
        equal_sizes: knob("equal_sizes").percent(60),
        body_bytes: knob("body_bytes").pick(&[40, 200, 200, 700, 1_500]),
        property_bytes: knob("property_bytes").pick(&[0, 30, 300, 900]),
        batch_percent: knob("batch_percent").pick(&[0, 10, 30]),
        one_way_percent: if profile.store_alone { 0 } else { knob("one_way_percent").pick(&[0, 5, 15]) },
        no_wait_percent: knob("no_wait_percent").pick(&[0, 10, 40]),
        slow_topic: knob("slow_topic").percent(40),
        proof_messages: 10,
        faults_end_ms: load_ms * 7 / 10,
        load_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_plan_again_and_seeds_differ() {
        assert_eq!(draw("broker_crash", 9), draw("broker_crash", 9));
        assert_ne!(draw("broker_crash", 9), draw("broker_crash", 10));
        assert_eq!(draw("no_such_scenario", 1), None);
    }

    #[test]
    fn every_fault_ends_before_the_quiet_part() {
        for scenario in scenario::ALL {
            for seed in 0..50 {
                let plan = draw(scenario.name(), seed).expect("a listed scenario");
                for planned in &plan.faults {
                    let end = planned.at_ms + planned.fault.lasts_ms();
                    assert!(end <= plan.workload.faults_end_ms, "{} seed {seed}: {planned:?}", plan.scenario);
                }
            }
        }
    }
}

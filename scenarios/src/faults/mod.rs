//! Which faults a seed puts into its run, and when.
//!
//! Which may be on at once: any, except that a node is not struck again by a crash while it is down (it then stays down
//! until the later of the two ends). No fault destroys for good what a promise needs and has no second copy of: disks lose only
//! what was not flushed, and what else is lost of one comes back, or can be made again; a slave's may be lost as a whole, but
//! not all on which an acknowledgement rests where a master's is to go.
//!
//! Invariant: every fault has ended by `workload.faults_end_ms`.

pub mod damage;
pub mod strike;

use crate::draw::{Draw, Key};
use crate::plan::{Fault, Loss, Planned, Rotten, Settings, Workload, names};
use crate::scenario::Profile;

/// Nothing breaks before clients have found their brokers.
const FIRST_FAULT_MS: u64 = 1_500;
/// Runs in which bits turn that do, and how long a machine is off then, at most.
const ROT_PERCENT: u64 = 40;
const ROT_DOWN_MS: u64 = 500;
/// Runs in which files cannot be read for a time.
const UNREADABLE_PERCENT: u64 = 35;
/// Runs with Java's slaves in which their master loses something, and dies again within this.
const TWO_LIVES_PERCENT: u64 = 70;
const TWO_LIVES_MS: u64 = 6_000;
/// Runs with losses of power in which a recovery dies, and within what all of it comes to pass.
const DIES_RECOVERING_PERCENT: u64 = 40;
const DIES_RECOVERING_MS: u64 = 3_000;
/// How long a slave is away, or cut off, while its master has no room.
const AWAY_MS: u64 = 7_000;
/// Runs in which a disk is full until the faults end, and for how long: longer than a broker tries before it refuses.
const STAYS_FULL_PERCENT: u64 = 30;
const STAYS_FULL_MS: std::ops::RangeInclusive<u64> = 5_500..=8_000;
/// Stands for [`in_turn`] where a kind is named.
const IN_TURN: &str = "in_turn";

#[must_use]
pub fn draw(profile: &Profile, settings: &Settings, workload: &Workload, random: Draw) -> Vec<Planned> {
    let mut kinds: Vec<&str> = profile
        .kinds
        .iter()
        .enumerate()
        .filter(|(index, _)| random.key("fault kind", *index as u64).percent(profile.kind_percent))
        .map(|(_, kind)| *kind)
        .collect();
    let mut faults = Vec::new();
    if profile.always == IN_TURN {
        faults = in_turn(settings, workload, random);
    } else if !profile.always.is_empty() {
        // Weighed so that it is not drowned by the others.
        kinds.extend([profile.always, profile.always]);
    }
    let mean_gap_ms = random.key("fault gap", 0).pick(&[700, 1_500, 3_000, 6_000]);
    let mut at_ms = FIRST_FAULT_MS;
    for counter in 0.. {
        let key = random.key("fault", counter);
        at_ms += key.branch("gap").exponential(mean_gap_ms);
        if kinds.is_empty() || at_ms + 100 > workload.faults_end_ms {
            break;
        }
        let kind = key.branch("kind").pick(&kinds);
        let left_ms = workload.faults_end_ms - at_ms;
        let fault = fault(kind, settings, key, left_ms);
        let power = profile.always == "power_loss" || profile.deletes || profile.replicates();
        let second = second(&fault, at_ms, key, workload.faults_end_ms, power);
        let flicker = flicker(&fault, at_ms, key, settings);
        faults.push(Planned { at_ms, fault });
        faults.extend(second.into_iter().chain(flicker));
    }
    faults.extend(rot(profile, settings, workload, random));
    faults.extend(unreadable(profile, settings, workload, random));
    faults.extend(left_behind(profile, settings, workload, random));
    faults = stays_full(profile, settings, workload, random, faults);
    faults.extend(two_lives(settings, workload, random));
    faults.extend(dies_recovering(profile, settings, workload, random));
    faults.sort_by_key(|planned| planned.at_ms);
    faults
}

/// Bits turn in queues and indexes where machines lose power and brokers have no slaves.
fn rot(profile: &Profile, settings: &Settings, workload: &Workload, random: Draw) -> Vec<Planned> {
    let key = random.key("rot", 0);
    if profile.always != "power_loss" || profile.replicates() || !key.percent(ROT_PERCENT) {
        return Vec::new();
    }
    let brokers = names::brokers(settings);
    let turned = |nth: u64| {
        let key = random.key("rot", 1 + nth);
        let at_ms = key.branch("at").range(FIRST_FAULT_MS, workload.faults_end_ms - ROT_DOWN_MS);
        let node = brokers[key.branch("node").range(0, brokers.len() as u64 - 1) as usize].clone();
        let of = key.branch("of").pick(&[
            Rotten::QueueEntry,
            Rotten::QueueEntry,
            Rotten::IndexFile,
            Rotten::IndexEntry,
        ]);
        let down_ms = key.branch("down").range(20, ROT_DOWN_MS);
        Planned { at_ms, fault: Fault::Rot { node, of, pick: key.branch("pick").bits(), down_ms } }
    };
    (0..key.branch("times").range(1, 3)).map(turned).collect()
}

/// Queues, indexes and tables cannot be read for a time where machines lose power and brokers have no slaves.
fn unreadable(profile: &Profile, settings: &Settings, workload: &Workload, random: Draw) -> Vec<Planned> {
    let key = random.key("unreadable", 0);
    if profile.always != "power_loss" || profile.replicates() || !key.percent(UNREADABLE_PERCENT) {
        return Vec::new();
    }
    let brokers = names::brokers(settings);
    // Some loads are short.
    let longest_ms = (workload.faults_end_ms - FIRST_FAULT_MS) / 2;
    let failing = |nth: u64| {
        let key = random.key("unreadable", 1 + nth);
        let for_ms = key.branch("for").pick(&[200, 1_000, 3_000]).min(longest_ms);
        let at_ms = key.branch("at").range(FIRST_FAULT_MS, workload.faults_end_ms - for_ms);
        let node = brokers[key.branch("node").range(0, brokers.len() as u64 - 1) as usize].clone();
        let permille = key.branch("permille").pick(&[50, 300, 1_000]);
        Planned { at_ms, fault: Fault::ReadError { node, permille, for_ms } }
    };
    (0..key.branch("times").range(1, 3)).map(failing).collect()
}

/// A slave is away, or cut off, while its master's disk has no room for what it needs next.
fn left_behind(profile: &Profile, settings: &Settings, workload: &Workload, random: Draw) -> Vec<Planned> {
    if !(profile.deletes && profile.replicates()) {
        return Vec::new();
    }
    let longest_ms = AWAY_MS.min(workload.faults_end_ms - FIRST_FAULT_MS);
    let away = |nth: u64| {
        let key = random.key("left behind", nth);
        let slave = names::slaves(settings).swap_remove(0);
        let master = names::master_of(&slave);
        let away_ms = key.branch("away").range(longest_ms / 2, longest_ms);
        let at_ms = key.branch("at").range(FIRST_FAULT_MS, workload.faults_end_ms - away_ms);
        let away = match key.branch("cut off").percent(40) {
            true => Fault::Partition {
                from: vec![master.clone()],
                to: vec![slave],
                one_way: false,
                for_ms: away_ms,
            },
            false => Fault::Crash { node: slave, down_ms: away_ms },
        };
        let percent = key.branch("percent").pick(&[77, 82, 86, 87, 88]);
        let later_ms = key.branch("tight").range(200, away_ms / 2);
        let tight = Fault::TightDisk { node: master, percent, for_ms: away_ms - later_ms };
        [Planned { at_ms, fault: away }, Planned { at_ms: at_ms + later_ms, fault: tight }]
    };
    (0..random.key("left behind", 99).range(1, 2)).flat_map(away).collect()
}

/// A disk is full until the faults end, and nothing else happens meanwhile: what is refused since then must be taken again
/// without a new start.
fn stays_full(
    profile: &Profile,
    settings: &Settings,
    workload: &Workload,
    random: Draw,
    mut faults: Vec<Planned>,
) -> Vec<Planned> {
    let key = random.key("stays full", 0);
    if !profile.store_alone || profile.always != "flush_error" || !key.percent(STAYS_FULL_PERCENT) {
        return faults;
    }
    let for_ms = key.branch("for").range(*STAYS_FULL_MS.start(), *STAYS_FULL_MS.end());
    let at_ms = workload.faults_end_ms.saturating_sub(for_ms).max(FIRST_FAULT_MS);
    // A trap may spring at any time.
    let is_trap = |fault: &Fault| matches!(fault, Fault::CrashInStep { .. } | Fault::PowerLossInStep { .. });
    faults.retain(|planned| !is_trap(&planned.fault) && planned.at_ms + planned.fault.lasts_ms() < at_ms);
    let node = names::brokers(settings).swap_remove(0);
    let fault = match key.branch("some room").percent(50) {
        true => {
            let free_bytes = key.branch("free").pick(&[1, 2, 4, 8]) * 4_096;
            Fault::LittleRoom { node, free_bytes, for_ms: workload.faults_end_ms - at_ms }
        }
        false => Fault::FullDisk { node, for_ms: workload.faults_end_ms - at_ms },
    };
    faults.push(Planned { at_ms, fault });
    faults
}

/// A master that does not flush loses what its slave has, and dies again when that slave, which compares nothing, has had the
/// time to come back: what the first of its two lives has learned must hold in the second.
fn two_lives(settings: &Settings, workload: &Workload, random: Draw) -> Vec<Planned> {
    let key = random.key("two lives", 0);
    let java_slaves = settings.replication.as_ref().is_some_and(|replication| replication.java_slaves);
    if !java_slaves || settings.sync_flush || !key.percent(TWO_LIVES_PERCENT) {
        return Vec::new();
    }
    let node = names::brokers(settings).swap_remove(0);
    let left_ms = workload.faults_end_ms - FIRST_FAULT_MS - TWO_LIVES_MS;
    let at_ms = FIRST_FAULT_MS + key.branch("at").range(left_ms / 4, left_ms);
    let down_ms = |label: &str| key.branch(label).range(20, 300);
    let again_ms = at_ms + key.branch("again").range(500, TWO_LIVES_MS - 300);
    let lost = Fault::PowerLoss { node: node.clone(), down_ms: down_ms("lost") };
    let again = Fault::Crash { node, down_ms: down_ms("down") };
    vec![Planned { at_ms, fault: lost }, Planned { at_ms: again_ms, fault: again }]
}

/// A machine loses power, its process dies while it recovers, when it has looked at what there is, and the next one serves for
/// a while only: what the first has cut, written and removed must be as durable as if it had come to its end.
fn dies_recovering(
    profile: &Profile,
    settings: &Settings,
    workload: &Workload,
    random: Draw,
) -> Vec<Planned> {
    let key = random.key("dies recovering", 0);
    let power = profile.always == "power_loss" && !profile.replicates();
    let has_time = workload.faults_end_ms >= FIRST_FAULT_MS + DIES_RECOVERING_MS;
    if !power || !has_time || !key.percent(DIES_RECOVERING_PERCENT) {
        return Vec::new();
    }
    let brokers = names::brokers(settings);
    let node = brokers[key.branch("node").range(0, brokers.len() as u64 - 1) as usize].clone();
    let down_ms = |label: &str| key.branch(label).range(20, 300);
    let lost_ms = key.branch("at").range(FIRST_FAULT_MS, workload.faults_end_ms - DIES_RECOVERING_MS);
    let recovers_ms = lost_ms + down_ms("lost");
    let again_ms = recovers_ms + down_ms("dead") + key.branch("serves").range(50, DIES_RECOVERING_MS - 900);
    let step = key.branch("step").range(20, 160);
    let lost = Fault::PowerLoss { node: node.clone(), down_ms: down_ms("lost") };
    let dies = Fault::CrashInStep { node: node.clone(), step, down_ms: down_ms("dead") };
    let again = Fault::PowerLoss { node, down_ms: down_ms("again") };
    let planned = |at_ms, fault| Planned { at_ms, fault };
    vec![planned(lost_ms, lost), planned(recovers_ms, dies), planned(again_ms, again)]
}

/// Every server is restarted once, one after the other, in any order.
fn in_turn(settings: &Settings, workload: &Workload, random: Draw) -> Vec<Planned> {
    let mut nodes = [names::name_servers(settings), names::stores(settings)].concat();
    nodes.sort_by_key(|node| random.key("turn", 0).branch(node).bits());
    let each_ms = (workload.faults_end_ms - FIRST_FAULT_MS) / nodes.len() as u64;
    let kills_percent = random.key("kills", 0).pick(&[0, 50, 100]);
    let restarted = |(nth, node): (usize, String)| {
        let key = random.key("restart", nth as u64);
        let at_ms = FIRST_FAULT_MS + nth as u64 * each_ms + key.branch("after").range(0, each_ms / 4);
        let down_ms = key.branch("down").range(200, each_ms / 2);
        let fault = match key.branch("killed").percent(kills_percent) {
            true => Fault::Crash { node, down_ms },
            false => Fault::Restart { node, down_ms },
        };
        Planned { at_ms, fault }
    };
    nodes.into_iter().enumerate().map(restarted).collect()
}

fn fault(kind: &str, settings: &Settings, key: Key, left_ms: u64) -> Fault {
    let brokers = names::stores(settings);
    let (name_servers, slaves) = (names::name_servers(settings), names::slaves(settings));
    let consumers: Vec<String> = (0..settings.consumers).map(names::consumer).collect();
    let any = names::all(settings);
    let some = |nodes: &[String], label: &str| {
        nodes[key.branch(label).range(0, nodes.len() as u64 - 1) as usize].clone()
    };
    let node = some(&brokers, "node");
    let lasts = |typical: u64| key.branch("lasts").exponential(typical).min(typical * 4).min(left_ms);
    match kind {
        "crash" => Fault::Crash {
            node: if key.branch("victim").percent(80) { node } else { some(&any, "any") },
            down_ms: lasts(600),
        },
        "name_server_crash" => {
            Fault::Crash { node: some(&name_servers, "name server"), down_ms: lasts(1_500) }
        }
        "producer_crash" => {
            let number = key.branch("producer").range(0, u64::from(settings.producers) - 1) as u32;
            Fault::Crash { node: names::producer(number), down_ms: lasts(2_500) }
        }
        "crash_in_step" => {
            Fault::CrashInStep { node, step: key.branch("step").exponential(30), down_ms: lasts(400) }
        }
        "power_loss" => Fault::PowerLoss {
            node: if name_servers.is_empty() || key.branch("victim").percent(90) {
                node
            } else {
                some(&name_servers, "name server")
            },
            down_ms: lasts(600),
        },
        "power_loss_in_step" => {
            Fault::PowerLossInStep { node, step: key.branch("step").exponential(40), down_ms: lasts(400) }
        }
        "lost_file" => Fault::LostFile {
            node,
            of: key.branch("of").pick(&[
                Loss::LogFile,
                Loss::LogFile,
                Loss::Log,
                Loss::QueueFile,
                Loss::QueueFile,
                Loss::IndexFile,
            ]),
            pick: key.branch("pick").bits(),
            down_ms: lasts(1_000),
        },
        "bit_rot" => Fault::BitRot { node, pick: key.branch("pick").bits(), down_ms: lasts(1_000) },
        "restart" => Fault::Restart {
            node: if name_servers.is_empty() || key.branch("victim").percent(80) {
                node
            } else {
                some(&name_servers, "name server")
            },
            down_ms: lasts(900).max(left_ms.min(200)),
        },
        "consumer_crash" => Fault::Crash { node: some(&consumers, "consumer"), down_ms: lasts(1_500) },
        "consumer_restart" => {
            Fault::Restart { node: some(&consumers, "consumer"), down_ms: lasts(2_000).max(left_ms.min(200)) }
        }
        "slave_restart" => {
            Fault::Restart { node: some(&slaves, "slave"), down_ms: lasts(1_500).max(left_ms.min(200)) }
        }
        "slave_crash" => Fault::Crash { node: some(&slaves, "slave"), down_ms: lasts(1_500) },
        "slave_power_loss" => Fault::PowerLoss { node: some(&slaves, "slave"), down_ms: lasts(1_500) },
        "slave_disk_loss" => {
            let (all, down_ms) = (slaves.clone(), lasts(1_500));
            let may_go =
                |slave: &String| settings.replication.as_ref().is_some_and(|of| of.may_lose_disk(slave));
            let slaves: Vec<String> = slaves.into_iter().filter(may_go).collect();
            match slaves.is_empty() {
                true => Fault::Crash { node: some(&all, "slave"), down_ms },
                false => Fault::DiskLoss { node: some(&slaves, "slave"), down_ms },
            }
        }
        "slave_in_step" => Fault::CrashInStep {
            node: some(&slaves, "slave"),
            step: key.branch("step").exponential(30),
            down_ms: lasts(400),
        },
        "slave_full_disk" => Fault::FullDisk { node: some(&slaves, "slave"), for_ms: lasts(2_000) },
        "power_loss_all" => Fault::PowerLossAll { down_ms: lasts(600) },
        "partition" => {
            let (from, to) = split(&any, &name_servers, &brokers, key);
            Fault::Partition { from, to, one_way: key.branch("one way").percent(30), for_ms: lasts(4_000) }
        }
        "ha_cut" => Fault::Partition {
            from: names::brokers(settings),
            to: match slaves.len() > names::brokers(settings).len() && key.branch("one slave").percent(60) {
                true => vec![some(&slaves, "cut off")],
                false => slaves,
            },
            one_way: key.branch("one way").percent(30),
            for_ms: lasts(2_500),
        },
        "latency" => Fault::Latency {
            from: some(&any, "from"),
            to: some(&any, "to"),
            add_ms: key.branch("add").range(1, 300),
            for_ms: lasts(2_000),
        },
        "loss" => Fault::Loss { permille: key.branch("permille").range(1, 150) as u32, for_ms: lasts(3_000) },
        "slow_disk" => {
            Fault::SlowDisk { node, add_ms: key.branch("add").pick(&[2, 20, 200]), for_ms: lasts(3_000) }
        }
        "stalled_disk" => Fault::StalledDisk { node, for_ms: lasts(2_000) },
        "flush_error" => Fault::FlushError {
            node,
            permille: key.branch("permille").pick(&[20, 200, 1_000]),
            for_ms: lasts(1_000),
        },
        "full_disk" => Fault::FullDisk { node, for_ms: lasts(2_000) },
        "little_room" => Fault::LittleRoom {
            node,
            free_bytes: key.branch("free").pick(&[0, 1, 2, 3, 5, 8, 16, 32, 64]) * 4_096,
            for_ms: lasts(1_500),
        },
        "writeback_error" => Fault::WritebackError {
            node,
            permille: key.branch("permille").pick(&[50, 300, 1_000]),
            for_ms: lasts(2_000),
        },
        "read_only_disk" => Fault::ReadOnlyDisk { node, for_ms: lasts(800) },
        "tight_disk" => Fault::TightDisk {
            node,
            percent: key.branch("percent").pick(&[77, 82, 86, 87, 88, 89, 91, 94, 97]),
            for_ms: lasts(5_000),
        },
        "slow_reader" => {
            let stands_still = key.branch("stands still").percent(40);
            Fault::SlowReader { node, stands_still, for_ms: lasts(5_000) }
        }
        "clock_leap" => {
            let by_ms = key.branch("hours").range(1, 60) as i64 * 3_600_000;
            let forward = key.branch("forward").percent(75);
            Fault::ClockJump { node, by_ms: if forward { by_ms } else { -by_ms } }
        }
        "clock_jump" => Fault::ClockJump {
            node: some(&any, "any"),
            by_ms: key.branch("by").range(0, 120_000) as i64 - 60_000,
        },
        "pause" => Fault::Pause { node: some(&any, "any"), for_ms: lasts(2_000) },
        other => unreachable!("no such kind of fault: {other}"),
    }
}

/// The two sides of a cut: one node against the rest, brokers against name servers, or a random half against the other.
fn split(
    any: &[String],
    name_servers: &[String],
    brokers: &[String],
    key: Key,
) -> (Vec<String>, Vec<String>) {
    match key.branch("split").range(0, 3) {
        0 => (name_servers.to_vec(), brokers.to_vec()),
        1 => (brokers.to_vec(), name_servers.to_vec()),
        2 => {
            let alone = &any[key.branch("alone").range(0, any.len() as u64 - 1) as usize];
            (vec![alone.clone()], any.iter().filter(|node| *node != alone).cloned().collect())
        }
        _ => any.iter().cloned().partition(|node| key.branch(node).percent(50)),
    }
}

/// While one slave is cut off, another loses power, and is back before its master has noticed: it is then there twice.
fn flicker(first: &Fault, at_ms: u64, key: Key, settings: &Settings) -> Option<Planned> {
    let Fault::Partition { from, to, for_ms, .. } = first else { return None };
    let ([broker], [cut_off]) = (from.as_slice(), to.as_slice()) else { return None };
    let key = key.branch("flicker");
    let mut others = names::slaves_of(settings, broker).into_iter().filter(|slave| slave != cut_off);
    let node = others.next_back().filter(|_| names::slaves(settings).contains(cut_off) && key.percent(60))?;
    let down_ms = key.branch("down").range(10, 150).min(*for_ms);
    let at_ms = at_ms + key.branch("after").range(0, for_ms - down_ms);
    Some(Planned { at_ms, fault: Fault::PowerLoss { node, down_ms } })
}

/// Bugs of recovery need a second blow soon after the first: while the node recovers, or just after its first new writes.
fn second(first: &Fault, at_ms: u64, key: Key, end_ms: u64, power: bool) -> Option<Planned> {
    let (node, down_ms) = match first {
        Fault::Crash { node, down_ms }
        | Fault::CrashInStep { node, down_ms, .. }
        | Fault::Restart { node, down_ms }
        | Fault::PowerLoss { node, down_ms }
        | Fault::PowerLossInStep { node, down_ms, .. }
        | Fault::LostFile { node, down_ms, .. }
        | Fault::BitRot { node, down_ms, .. } => (node, *down_ms),
        Fault::FlushError { node, for_ms, .. }
        | Fault::WritebackError { node, for_ms, .. }
        | Fault::ReadOnlyDisk { node, for_ms } => (node, *for_ms),
        _ => return None,
    };
    let key = key.branch("second");
    if !(node.starts_with("broker") || node.starts_with("slave")) || !key.branch("there is one").percent(45) {
        return None;
    }
    let at_ms = at_ms + down_ms + key.branch("after").pick(&[0, 0, 1, 3, 8, 20, 60, 300, 1_500]);
    let down_ms = key.branch("down").range(20, 500);
    if at_ms + down_ms > end_ms {
        return None;
    }
    let node = node.clone();
    let step = if key.branch("early").percent(50) {
        // Recovery's own steps are few.
        key.branch("step").range(0, 60)
    } else {
        key.branch("step").exponential(12)
    };
    let fault = match key.branch("kind").range(0, 3) {
        0 if power => Fault::PowerLoss { node, down_ms },
        1 if power => Fault::PowerLossInStep { node, step, down_ms },
        0 => Fault::Crash { node, down_ms },
        _ => Fault::CrashInStep { node, step, down_ms },
    };
    Some(Planned { at_ms, fault })
}

#[cfg(test)]
mod tests {
    use super::IN_TURN;
    use crate::scenario;

    #[test]
    fn every_kind_that_a_scenario_names_is_drawn_by_some_seed() {
        for scenario in scenario::swept() {
            let profile = scenario.profile();
            let mut seen = std::collections::BTreeSet::new();
            for seed in 0..200 {
                let plan = crate::options::draw(scenario.name(), seed).expect("a listed scenario");
                seen.extend(plan.faults.iter().map(|planned| planned.fault.kind()));
            }
            for kind in profile.kinds.iter().chain([&profile.always]) {
                let kind = match *kind {
                    "name_server_crash" | "slave_crash" | "consumer_crash" | "producer_crash" => "crash",
                    "slave_restart" | "consumer_restart" | IN_TURN => "restart",
                    "slave_power_loss" => "power_loss",
                    "slave_disk_loss" => "disk_loss",
                    "slave_in_step" => "crash_in_step",
                    "slave_full_disk" => "full_disk",
                    "clock_leap" => "clock_jump",
                    "ha_cut" => "partition",
                    kind => kind,
                };
                assert!(seen.contains(kind), "{} never draws {kind}", scenario.name());
            }
        }
    }
}

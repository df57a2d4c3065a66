//! What a broker has done since it started: messages and bytes in and out, in all, by topic and by group.
//!
//! The counting costs a few atomic additions a request. A task looks at the counts every ten seconds and keeps some of these
//! looks, from which rates follow.
//!
//! Invariant: there is a count for topics and groups only that were there when they were counted; a deleted topic takes its
//! counts along.
//!
//! # Source
//! apache/rocketmq 4.9.7, `StoreStatsService`, `BrokerStats` and `StatsItemSet`: windows and names.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::remoting::body::{BrokerStatsData, BrokerStatsItem};
use crate::runtime::sync::Receiver;
use crate::runtime::{Mono, Runtime};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Looks that are kept of the totals: ten minutes.
const LOOKS_OF_TOTALS: usize = 61;
/// Of each other count: a minute by ten seconds, an hour by ten minutes, a day by hours.
const WINDOWS: [Window; 3] =
    [Window { every: 1, kept: 7 }, Window { every: 60, kept: 7 }, Window { every: 360, kept: 25 }];

struct Window {
    /// Looks from one that is kept to the next.
    every: u64,
    kept: usize,
}

#[derive(Clone, Copy)]
struct Look {
    at: Mono,
    value: u64,
    times: u64,
}

/// One count and its looks.
struct Count {
    value: AtomicU64,
    times: AtomicU64,
    looks: Mutex<[VecDeque<Look>; 3]>,
}

impl Count {
    fn new(now: Mono) -> Count {
        let first = VecDeque::from([Look { at: now, value: 0, times: 0 }]);
        let looks = Mutex::new([first.clone(), first.clone(), first]);
        Count { value: AtomicU64::new(0), times: AtomicU64::new(0), looks }
    }

    fn add(&self, value: u64) {
        self.value.fetch_add(value, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self, at: Mono) -> Look {
        let (value, times) = (self.value.load(Ordering::Relaxed), self.times.load(Ordering::Relaxed));
        Look { at, value, times }
    }

    fn looks(&self) -> MutexGuard<'_, [VecDeque<Look>; 3]> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, number: u64, at: Mono) {
        let now = self.now(at);
        for (window, kept) in WINDOWS.iter().zip(self.looks().iter_mut()) {
            if number.is_multiple_of(window.every) {
                kept.push_back(now);
                while kept.len() > window.kept {
                    kept.pop_front();
                }
            }
        }
    }

    fn view(&self, at: Mono) -> BrokerStatsData {
        let now = self.now(at);
        let looks = self.looks();
        let item =
            |kept: &VecDeque<Look>| kept.front().map_or_else(Default::default, |first| between(first, &now));
        let [minute, hour, day] = &*looks;
        BrokerStatsData { stats_minute: item(minute), stats_hour: item(hour), stats_day: item(day) }
    }
}

fn between(first: &Look, last: &Look) -> BrokerStatsItem {
    let sum = last.value.saturating_sub(first.value);
    let times = last.times.saturating_sub(first.times);
    let avgpt = if times == 0 { 0.0 } else { sum as f64 / times as f64 };
    BrokerStatsItem {
        avgpt,
        sum: i64::try_from(sum).unwrap_or(i64::MAX),
        tps: per_second(sum, first.at, last.at),
    }
}

fn per_second(sum: u64, from: Mono, to: Mono) -> f64 {
    let seconds = to.since(from).as_secs_f64();
    if seconds > 0.0 { sum as f64 / seconds } else { 0.0 }
}

/// How long puts took: at most so many whole ms, and Java's name of each class; the last has no bound.
pub(crate) const PUT_TIMES: [(u64, &str); 13] = [
    (0, "[<=0ms]"),
    (9, "[0~10ms]"),
    (49, "[10~50ms]"),
    (99, "[50~100ms]"),
    (199, "[100~200ms]"),
    (499, "[200~500ms]"),
    (999, "[500ms~1s]"),
    (1_999, "[1~2s]"),
    (2_999, "[2~3s]"),
    (3_999, "[3~4s]"),
    (4_999, "[4~5s]"),
    (9_999, "[5~10s]"),
    (u64::MAX, "[10s~]"),
];
/// Looks from which on the times of puts are counted anew, a minute.
const PUT_TIMES_LOOKS: u64 = 6;

/// How many puts took how long, by [`PUT_TIMES`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct PutTimes(pub [u64; PUT_TIMES.len()]);

impl PutTimes {
    /// # Source
    /// apache/rocketmq 4.9.7, `StoreStatsService#putMessageDistributeTimeToString`, with the blank at its end.
    pub fn by_class(&self) -> String {
        PUT_TIMES.iter().zip(self.0).map(|((_, name), count)| format!("{name}:{count} ")).collect()
    }

    /// The time in ms that this part of the puts, 0 to 1, did not exceed: the bound of its class, or `max_ms` where that is less.
    pub fn not_exceeded_by(&self, part: f64, max_ms: u64) -> u64 {
        let wanted = (self.0.iter().sum::<u64>() as f64 * part).ceil() as u64;
        let mut counted = 0;
        for ((bound, _), count) in PUT_TIMES.iter().zip(self.0) {
            counted += count;
            if counted >= wanted {
                return max_ms.min(*bound);
            }
        }
        max_ms
    }
}

/// Counts of a whole broker.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Totals {
    pub put_messages: u64,
    pub put_bytes: u64,
    /// Requests that put something.
    pub put_times: u64,
    pub put_failed: u64,
    /// The longest that a put took until it was answered, in ms.
    pub put_ms_max: u64,
    /// Messages that reads have given.
    pub got_messages: u64,
    /// Reads that gave some, and those that gave none.
    pub found_times: u64,
    pub missed_times: u64,
    /// The longest that a read took, in ms.
    pub get_ms_max: u64,
}

#[derive(Default)]
struct AtomicTotals {
    put_messages: AtomicU64,
    put_bytes: AtomicU64,
    put_times: AtomicU64,
    put_failed: AtomicU64,
    put_ms_max: AtomicU64,
    put_lasted: [AtomicU64; PUT_TIMES.len()],
    got_messages: AtomicU64,
    found_times: AtomicU64,
    missed_times: AtomicU64,
    get_ms_max: AtomicU64,
}

fn whole_ms(lasted: Duration) -> u64 {
    u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)
}

/// Almost never writes: the line is in every core's cache.
fn raise(max: &AtomicU64, value: u64) {
    if value > max.load(Ordering::Relaxed) {
        max.fetch_max(value, Ordering::Relaxed);
    }
}

impl AtomicTotals {
    fn read(&self) -> Totals {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            put_messages: of(&self.put_messages),
            put_bytes: of(&self.put_bytes),
            put_times: of(&self.put_times),
            put_failed: of(&self.put_failed),
            put_ms_max: of(&self.put_ms_max),
            got_messages: of(&self.got_messages),
            found_times: of(&self.found_times),
            missed_times: of(&self.missed_times),
            get_ms_max: of(&self.get_ms_max),
        }
    }

    fn put_lasted(&self, lasted: Duration) {
        let ms = whole_ms(lasted);
        let class = PUT_TIMES.iter().position(|(bound, _)| ms <= *bound).unwrap_or_default();
        self.put_lasted[class].fetch_add(1, Ordering::Relaxed);
        raise(&self.put_ms_max, ms);
    }

    fn put_times(&self) -> PutTimes {
        PutTimes(self.put_lasted.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

struct TopicCounts {
    messages: Count,
    bytes: Count,
    groups: BTreeMap<String, Arc<GroupCounts>>,
}

/// What one group reads of one topic.
pub(crate) struct GroupCounts {
    messages: Count,
    bytes: Count,
    sent_back: Count,
    totals: Arc<AtomicTotals>,
}

impl GroupCounts {
    /// A read has given so much, after so long.
    pub fn got(&self, messages: usize, bytes: usize, lasted: Duration) {
        raise(&self.totals.get_ms_max, whole_ms(lasted));
        if messages == 0 {
            self.totals.missed_times.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.totals.found_times.fetch_add(1, Ordering::Relaxed);
        self.totals.got_messages.fetch_add(messages as u64, Ordering::Relaxed);
        self.messages.add(messages as u64);
        self.bytes.add(bytes as u64);
    }
}

/// Totals at the beginning of a day, as Java counts them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mornings {
    pub yesterday: (u64, u64),
    pub today: (u64, u64),
}

struct Past {
    looks: VecDeque<(Mono, Totals)>,
    number: u64,
    day: i64,
    mornings: Mornings,
    /// What was counted when the times of puts were last counted anew.
    put_times: PutTimes,
}

/// Java's names of what can be asked for.
const TOPIC_PUT_NUMS: &str = "TOPIC_PUT_NUMS";
const TOPIC_PUT_SIZE: &str = "TOPIC_PUT_SIZE";
const GROUP_GET_NUMS: &str = "GROUP_GET_NUMS";
const GROUP_GET_SIZE: &str = "GROUP_GET_SIZE";
const SNDBCK_PUT_NUMS: &str = "SNDBCK_PUT_NUMS";
const BROKER_PUT_NUMS: &str = "BROKER_PUT_NUMS";
const BROKER_GET_NUMS: &str = "BROKER_GET_NUMS";

pub(crate) struct Counts {
    totals: Arc<AtomicTotals>,
    topics: RwLock<BTreeMap<String, TopicCounts>>,
    puts: Count,
    gets: Count,
    past: Mutex<Past>,
    cluster: String,
    now: Box<dyn Fn() -> Mono + Send + Sync>,
}

impl Counts {
    pub fn new<R: Runtime>(rt: R, cluster: String) -> Counts {
        let now = rt.now();
        Counts {
            totals: Arc::default(),
            topics: RwLock::default(),
            puts: Count::new(now),
            gets: Count::new(now),
            past: Mutex::new(Past {
                looks: VecDeque::from([(now, Totals::default())]),
                number: 0,
                day: local_day(&rt),
                mornings: Mornings::default(),
                put_times: PutTimes::default(),
            }),
            cluster,
            now: Box::new(move || rt.now()),
        }
    }

    /// A put is answered now whose request came at `came`.
    pub fn put_since(&self, came: Mono) {
        self.totals.put_lasted((self.now)().since(came));
    }

    /// How long the puts of this minute took.
    ///
    /// # Source
    /// apache/rocketmq 4.9.7, `StoreStatsService#initPutMessageDistributeTime`: counted anew each minute.
    pub fn put_times(&self) -> PutTimes {
        let (mut now, then) = (self.totals.put_times(), self.past().put_times);
        now.0.iter_mut().zip(then.0).for_each(|(now, then)| *now = now.saturating_sub(then));
        now
    }

    /// So many messages were put into `topic`, as records of so many bytes: where they are stored, be it to wait there for their delay or their commit.
    pub fn put(&self, topic: &str, messages: usize, bytes: u64) {
        let messages = messages as u64;
        self.totals.put_times.fetch_add(1, Ordering::Relaxed);
        self.totals.put_messages.fetch_add(messages, Ordering::Relaxed);
        self.totals.put_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.with_topic(topic, |counts| {
            counts.messages.add(messages);
            counts.bytes.add(bytes);
        });
    }

    pub fn put_failed(&self) {
        self.totals.put_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sent_back(&self, topic: &str, group: &str) {
        self.group(topic, group).sent_back.add(1);
    }

    fn with_topic<T>(&self, topic: &str, count: impl Fn(&TopicCounts) -> T) -> T {
        if let Some(counts) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return count(counts);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        count(topics.entry(topic.to_owned()).or_insert_with(|| self.new_topic()))
    }

    fn new_topic(&self) -> TopicCounts {
        let now = (self.now)();
        TopicCounts { messages: Count::new(now), bytes: Count::new(now), groups: BTreeMap::new() }
    }

    /// The counts of a group on a topic, both of which are there.
    pub fn group(&self, topic: &str, group: &str) -> Arc<GroupCounts> {
        {
            let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counts) = topics.get(topic).and_then(|counts| counts.groups.get(group)) {
                return counts.clone();
            }
        }
        let now = (self.now)();
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let counts = topics.entry(topic.to_owned()).or_insert_with(|| self.new_topic());
        let new = || GroupCounts {
            messages: Count::new(now),
            bytes: Count::new(now),
            sent_back: Count::new(now),
            totals: self.totals.clone(),
        };
        counts.groups.entry(group.to_owned()).or_insert_with(|| Arc::new(new())).clone()
    }

    pub fn forget_topic(&self, topic: &str) {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Messages per second that a group has read of a topic, over the last minute.
    pub fn consume_tps(&self, topic: &str, group: &str) -> f64 {
        self.view(GROUP_GET_NUMS, &format!("{topic}@{group}")).map_or(0.0, |data| data.stats_minute.tps)
    }

    /// Messages per second that came into a topic, over the last minute.
    pub fn put_tps(&self, topic: &str) -> f64 {
        self.view(TOPIC_PUT_NUMS, topic).map_or(0.0, |data| data.stats_minute.tps)
    }

    /// The rates of one count by Java's name of it and its key; `None` when there is no such count.
    pub fn view(&self, name: &str, key: &str) -> Option<BrokerStatsData> {
        let now = (self.now)();
        if matches!(name, BROKER_PUT_NUMS | BROKER_GET_NUMS) {
            let count = if name == BROKER_PUT_NUMS { &self.puts } else { &self.gets };
            self.carry_over();
            return (key == self.cluster).then(|| count.view(now));
        }
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        match name {
            TOPIC_PUT_NUMS => topics.get(key).map(|counts| counts.messages.view(now)),
            TOPIC_PUT_SIZE => topics.get(key).map(|counts| counts.bytes.view(now)),
            GROUP_GET_NUMS | GROUP_GET_SIZE | SNDBCK_PUT_NUMS => {
                let (topic, group) = key.split_once('@')?;
                let counts = topics.get(topic)?.groups.get(group)?;
                let count = match name {
                    GROUP_GET_NUMS => &counts.messages,
                    GROUP_GET_SIZE => &counts.bytes,
                    _ => &counts.sent_back,
                };
                Some(count.view(now))
            }
            _ => None,
        }
    }

    /// The counts of the whole broker follow its totals, so that requests need not count twice.
    fn carry_over(&self) {
        let totals = self.totals.read();
        self.puts.value.fetch_max(totals.put_messages, Ordering::Relaxed);
        self.puts.times.fetch_max(totals.put_times, Ordering::Relaxed);
        self.gets.value.fetch_max(totals.got_messages, Ordering::Relaxed);
        self.gets.times.fetch_max(totals.found_times, Ordering::Relaxed);
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn totals(&self) -> Totals {
        self.totals.read()
    }

    pub fn mornings(&self) -> Mornings {
        self.past().mornings
    }

    /// A rate over the last 10, 60 and 600 seconds, or since the start, as Java prints it.
    pub fn rates(&self, of: impl Fn(&Totals) -> u64) -> String {
        let (now, totals) = ((self.now)(), self.totals.read());
        let past = self.past();
        let rate = |looks: usize| {
            let at = past.looks.len().saturating_sub(looks);
            let (from, then) = past.looks.get(at).copied().unwrap_or((now, totals));
            // With a point, as Java writes it and some read it.
            format!("{:?}", per_second(of(&totals).saturating_sub(of(&then)), from, now))
        };
        [1, 6, LOOKS_OF_TOTALS].map(rate).join(" ")
    }

    /// Looks at intervals, until `stop` is true.
    pub async fn run<R: Runtime>(self: Arc<Self>, rt: R, mut stop: Receiver<bool>) {
        loop {
            crate::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = rt.sleep(LOOK_INTERVAL) => self.look(local_day(&rt)),
            }
        }
    }

    fn look(&self, day: i64) {
        let (now, totals) = ((self.now)(), self.totals.read());
        self.carry_over();
        let number = {
            let mut past = self.past();
            past.number += 1;
            past.looks.push_back((now, totals));
            while past.looks.len() > LOOKS_OF_TOTALS {
                past.looks.pop_front();
            }
            if past.number.is_multiple_of(PUT_TIMES_LOOKS) {
                past.put_times = self.totals.put_times();
            }
            if past.day != day {
                past.day = day;
                past.mornings = Mornings {
                    yesterday: past.mornings.today,
                    today: (totals.put_messages, totals.got_messages),
                };
            }
            past.number
        };
        self.puts.look(number, now);
        self.gets.look(number, now);
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        for counts in topics.values() {
            counts.messages.look(number, now);
            counts.bytes.look(number, now);
            for group in counts.groups.values() {
                group.messages.look(number, now);
                group.bytes.look(number, now);
                group.sent_back.look(number, now);
            }
        }
    }
}

/// The day of the machine's own clock, counted from 1970.
fn local_day<R: Runtime>(rt: &R) -> i64 {
    let wall_ms = rt.wall_ms();
    (wall_ms / 1_000 + i64::from(rt.utc_offset_s(wall_ms))).div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn rates_are_of_the_last_minute_hour_and_day() {
        let count = Count::new(at(0));
        for number in 1..=600 {
            count.add(10);
            count.look(number, at(number * 10));
        }
        count.add(70);
        let seen = count.view(at(6_010));
        // Seven looks back are a minute, from 5940 s on; the hour begins at 2400 s.
        assert_eq!((seen.stats_minute.sum, seen.stats_minute.avgpt), (130, 130.0 / 7.0));
        assert!((seen.stats_minute.tps - 130.0 / 70.0).abs() < 1e-9);
        assert_eq!(seen.stats_hour.sum, 3_670);
        assert_eq!(seen.stats_day.sum, 6_070);
    }

    #[test]
    fn times_of_puts_are_told_by_class_and_by_the_longest() {
        let totals = AtomicTotals::default();
        for ms in [0, 0, 1, 9, 10, 199, 200, 999, 1_000, 9_999, 10_000, 70_000] {
            totals.put_lasted(Duration::from_millis(ms) + Duration::from_micros(900));
        }
        let times = totals.put_times();
        assert_eq!(
            times.by_class(),
            "[<=0ms]:2 [0~10ms]:2 [10~50ms]:1 [50~100ms]:0 [100~200ms]:1 [200~500ms]:1 [500ms~1s]:1 \
             [1~2s]:1 [2~3s]:0 [3~4s]:0 [4~5s]:0 [5~10s]:1 [10s~]:2 "
        );
        assert_eq!(totals.read().put_ms_max, 70_000);
        assert_eq!(
            [0.1, 0.5, 0.75, 0.99].map(|part| times.not_exceeded_by(part, 70_000)),
            [0, 199, 1_999, 70_000]
        );
        assert_eq!(PutTimes::default().not_exceeded_by(0.99, 0), 0);
    }

    #[test]
    fn a_count_says_something_before_the_first_look() {
        let count = Count::new(at(0));
        count.add(5);
        assert_eq!(count.view(at(0)).stats_minute.tps, 0.0);
        assert_eq!(count.view(at(5)).stats_minute.tps, 1.0);
    }
}

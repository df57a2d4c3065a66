//! How the broker is (28): Java's keys, those that mean something here.

use std::collections::BTreeMap;

use crate::remoting::RemotingCommand;
use crate::remoting::body::KvTable;
use crate::runtime::Runtime;

use super::super::counts::Totals;
use super::super::names;
use super::{AdminRequests, done};

impl<R: Runtime> AdminRequests<R> {
    /// # Source
    /// apache/rocketmq 4.9.7, `AdminBrokerProcessor#prepareRuntimeInfo` and `StoreStatsService#getRuntimeInfo`.
    pub(super) async fn runtime_info(&self) -> RemotingCommand {
        let mut table = BTreeMap::new();
        let mut set = |key: &str, value: String| table.insert(key.to_owned(), value);
        let totals = self.counts.totals();
        let Totals { put_messages, put_bytes, put_failed, got_messages, .. } = totals;
        set("brokerVersionDesc", format!("Hotfire {}", env!("CARGO_PKG_VERSION")));
        set("brokerVersion", crate::remoting::OUR_VERSION.to_string());
        set("bootTimestamp", self.began.0.to_string());
        set("runtime", lasted(self.rt.now().since(self.began.1).as_secs()));
        set("brokerActive", "true".to_owned());
        set("startAcceptSendRequestTimeStamp", self.settings.accept_from_ms().to_string());

        set("putMessageTimesTotal", put_messages.to_string());
        set("putMessageFailedTimes", put_failed.to_string());
        set("putMessageSizeTotal", put_bytes.to_string());
        set("putMessageAverageSize", format!("{:?}", put_bytes as f64 / put_messages.max(1) as f64));
        let put_times = self.counts.put_times();
        set("putMessageDistributeTime", put_times.by_class());
        set("putMessageEntireTimeMax", totals.put_ms_max.to_string());
        set("getMessageEntireTimeMax", totals.get_ms_max.to_string());
        for (key, part) in [("putLatency99", 0.99), ("putLatency999", 0.999)] {
            set(key, format!("{}.00", put_times.not_exceeded_by(part, totals.put_ms_max)));
        }
        set("putTps", self.counts.rates(|totals| totals.put_messages));
        set("getFoundTps", self.counts.rates(|totals| totals.found_times));
        set("getMissTps", self.counts.rates(|totals| totals.missed_times));
        set("getTotalTps", self.counts.rates(|totals| totals.found_times + totals.missed_times));
        // The first is how 4.9 writes it and reads it.
        for key in ["getTransferedTps", "getTransferredTps"] {
            set(key, self.counts.rates(|totals| totals.got_messages));
        }
        let mornings = self.counts.mornings();
        set("msgPutTotalYesterdayMorning", mornings.yesterday.0.to_string());
        set("msgPutTotalTodayMorning", mornings.today.0.to_string());
        set("msgPutTotalTodayNow", put_messages.to_string());
        set("msgGetTotalYesterdayMorning", mornings.yesterday.1.to_string());
        set("msgGetTotalTodayMorning", mornings.today.1.to_string());
        set("msgGetTotalTodayNow", got_messages.to_string());

        let store = &self.store;
        let (min, max) = (store.commit_log_min(), store.commit_log_max());
        set("commitLogMinOffset", min.to_string());
        set("commitLogMaxOffset", max.to_string());
        let behind = |position: u64| max.saturating_sub(position).to_string();
        set("dispatchBehindBytes", behind(store.dispatched().get()));
        set("remainHowManyDataToFlush", format!("{} B", behind(store.durable().get())));
        let mut buffers = i32::MAX.unsigned_abs() as usize;
        if let Some(pool) = &store.config().transient_pool {
            let waiting = max.saturating_sub(store.committed().get());
            set("remainHowManyDataToCommit", format!("{waiting} B"));
            let used = waiting.div_ceil(store.config().commit_log_file_bytes);
            buffers = (pool.buffers as usize).saturating_sub(used as usize);
        }
        set("remainTransientStoreBufferNumbs", buffers.to_string());
        // What is put is not kept aside for the dispatch, which reads the log.
        set("dispatchMaxBuffer", "0".to_owned());
        set("pageCacheLockTimeMills", store.append_blocked_ms().to_string());
        set("earliestMessageTimeStamp", store.earliest_time().map_or(-1, |ms| ms).to_string());
        let disk = store.disk_usage().await;
        set("commitLogDiskRatio", format!("{:?}", disk.log));
        set("consumeQueueDiskRatio", format!("{:?}", disk.queues));
        for (folder, ratio) in &disk.log_folders {
            set(&format!("commitLogDiskRatio_{folder}"), format!("{ratio:?}"));
        }
        if let Ok(usage) = self.rt.disk_usage(&store.config().root).await {
            let capacity = [usage.total, usage.available].map(human_bytes);
            set("commitLogDirCapacity", format!("Total : {}, Free : {}.", capacity[0], capacity[1]));
        }
        for (level, delivered) in self.schedule.delivered() {
            let max = store.max_offset(names::SCHEDULE_TOPIC, level - 1);
            set(&format!("scheduleMessageOffset_{level}"), format!("{delivered},{max}"));
        }
        // Requests are not queued for threads here: what Java tells of its queues is always nothing.
        for pool in ["send", "pull", "query", "litePull", "ack"] {
            set(&format!("{pool}ThreadPoolQueueSize"), "0".to_owned());
            set(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
        }
        set("sendThreadPoolQueueCapacity", self.settings.sends_in_flight_max().to_string());
        let held_max = self.settings.held_max().to_string();
        set("pullThreadPoolQueueCapacity", held_max.clone());
        set("litePullThreadPoolQueueCapacity", held_max);
        set("EndTransactionQueueSize", "0".to_owned());
        for (key, capacity) in CAPACITIES {
            set(key, capacity.to_string());
        }
        // There is no timer.
        for key in ["timerReadBehind", "timerOffsetBehind", "timerCongestNum"] {
            set(key, "0".to_owned());
        }
        for key in ["timerEnqueueTps", "timerDequeueTps"] {
            set(key, "0.0".to_owned());
        }
        done().with_body(KvTable { table }.to_json())
    }
}

/// Of queues that are not here, so that tools can divide by them: what Java has when nothing is set.
const CAPACITIES: [(&str, u32); 3] = [
    ("queryThreadPoolQueueCapacity", 20_000),
    ("ackThreadPoolQueueCapacity", 100_000),
    ("EndTransactionThreadPoolQueueCapacity", 100_000),
];

/// # Source
/// apache/rocketmq 4.9.7, `MixAll#humanReadableByteCount` by 1,024.
fn human_bytes(bytes: u64) -> String {
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let (mut value, mut power) = (bytes as f64 / 1_024.0, 0);
    while value >= 1_024.0 && power < 5 {
        value /= 1_024.0;
        power += 1;
    }
    format!("{value:.1} {}iB", ["K", "M", "G", "T", "P", "E"][power])
}

/// As Java says it.
fn lasted(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    format!(
        "[ {} days, {} hours, {} minutes, {} seconds ]",
        hours / 24,
        hours % 24,
        minutes % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::{human_bytes, lasted};

    #[test]
    fn bytes_are_said_as_java_says_them() {
        let of = |bytes| human_bytes(bytes);
        assert_eq!([of(1_023), of(1_024), of(252 << 30)], ["1023 B", "1.0 KiB", "252.0 GiB"]);
        assert_eq!(of(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn how_long_it_runs_is_said_as_java_says_it() {
        assert_eq!(lasted(0), "[ 0 days, 0 hours, 0 minutes, 0 seconds ]");
        assert_eq!(lasted(2 * 86_400 + 3 * 3_600 + 4 * 60 + 5), "[ 2 days, 3 hours, 4 minutes, 5 seconds ]");
    }
}

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
        let Totals { put_messages, put_bytes, put_times, put_failed, got_messages, .. } = totals;
        set("brokerVersionDesc", format!("Hotfire {}", env!("CARGO_PKG_VERSION")));
        set("brokerVersion", crate::remoting::OUR_VERSION.to_string());
        set("bootTimestamp", self.began.0.to_string());
        set("runtime", lasted(self.rt.now().since(self.began.1).as_secs()));
        set("brokerActive", "true".to_owned());
        set("startAcceptSendRequestTimeStamp", self.settings.accept_from_ms().to_string());

        set("putMessageTimesTotal", put_messages.to_string());
        set("putMessageFailedTimes", put_failed.to_string());
        set("putMessageSizeTotal", put_bytes.to_string());
        let average = if put_times == 0 { 0.0 } else { put_bytes as f64 / put_times as f64 };
        set("putMessageAverageSize", average.to_string());
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
        if store.config().transient_pool.is_some() {
            set("remainHowManyDataToCommit", format!("{} B", behind(store.committed().get())));
        }
        set("pageCacheLockTimeMills", store.append_blocked_ms().to_string());
        set("earliestMessageTimeStamp", store.earliest_time().map_or(-1, |ms| ms).to_string());
        let disk = store.disk_usage().await;
        set("commitLogDiskRatio", disk.log.to_string());
        set("consumeQueueDiskRatio", disk.queues.to_string());
        for (folder, ratio) in &disk.log_folders {
            set(&format!("commitLogDiskRatio_{folder}"), ratio.to_string());
        }
        for (level, delivered) in self.schedule.delivered() {
            let max = store.max_offset(names::SCHEDULE_TOPIC, level - 1);
            set(&format!("scheduleMessageOffset_{level}"), format!("{delivered},{max}"));
        }
        // Requests are not queued for threads here: what Java tells of its queues is always nothing.
        for pool in ["send", "pull", "query"] {
            set(&format!("{pool}ThreadPoolQueueSize"), "0".to_owned());
            set(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
        }
        set("sendThreadPoolQueueCapacity", self.settings.sends_in_flight_max().to_string());
        set("pullThreadPoolQueueCapacity", self.settings.held_max().to_string());
        set("EndTransactionQueueSize", "0".to_owned());
        done().with_body(KvTable { table }.to_json())
    }
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
    use super::lasted;

    #[test]
    fn how_long_it_runs_is_said_as_java_says_it() {
        assert_eq!(lasted(0), "[ 0 days, 0 hours, 0 minutes, 0 seconds ]");
        assert_eq!(lasted(2 * 86_400 + 3 * 3_600 + 4 * 60 + 5), "[ 2 days, 3 hours, 4 minutes, 5 seconds ]");
    }
}

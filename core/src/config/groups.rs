//! The groups of settings, each with its Java keys and defaults.

use std::net::IpAddr;

use super::ANY;
use super::value::{FlushDisk, Permission, ReservedTime, Role, Value};
use crate::store::{DelayLevels, DeleteHours};

/// A struct whose fields are settings.
pub(super) trait Group {
    /// Sets the field that `key` names, if it is one of this group's: the key and whether it took the value (if not, what it expects).
    fn set(&mut self, key: &str, value: &str) -> Option<(&'static str, Result<(), String>)>;
    /// Calls `each` with key, value and default of every field.
    fn list(&self, each: &mut dyn FnMut(&'static str, String, String));
}

macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $key:literal $field:ident: $type:ty = $default:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $name {
            $(#[doc = concat!("`", $key, "`. ")] $(#[$field_doc])* pub $field: $type),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl Group for $name {
            fn set(&mut self, key: &str, value: &str) -> Option<(&'static str, Result<(), String>)> {
                match key {
                    $($key => Some(($key, <$type as Value>::parse(value).map(|parsed| self.$field = parsed))),)*
                    _ => None,
                }
            }

            fn list(&self, each: &mut dyn FnMut(&'static str, String, String)) {
                let default = Self::default();
                $(each($key, self.$field.show(), default.$field.show());)*
            }
        }
    };
}

settings! {
    /// Who the broker is and where it listens.
    BrokerIdentity {
        "brokerName" name: String = "broker-a".to_owned();
        "brokerClusterName" cluster: String = "DefaultCluster".to_owned();
        /// 0 for a master, more for a slave.
        "brokerId" id: u32 = 0;
        "brokerRole" role: Role = Role::AsyncMaster;
        /// Sent as `MSG_REGION` with each send's answer.
        "regionId" region: String = "DefaultRegion".to_owned();
        "brokerPermission" permission: Permission = Permission(6);
        "bindAddress" bind_address: IpAddr = ANY;
        /// 0 takes a free port. The port two below is listened on as well (clients call it the VIP channel).
        "listenPort" listen_port: u16 = 10911;
        /// The address told to clients and written into messages: an IP address or a host name. Empty: found out at the start.
        "brokerIP1" ip1: String = String::new();
    }
}

settings! {
    /// How the broker tells the name servers about itself.
    Registration {
        /// `host:port;host:port`; a host name stands for all its addresses.
        "namesrvAddr" name_servers: String = String::new();
        /// Kept between 10,000 and 60,000.
        "registerNameServerPeriod" period_ms: u64 = 30_000;
        "registerBrokerTimeoutMills" timeout_ms: u64 = 24_000;
    }
}

settings! {
    /// How a master feeds its slaves, and how a slave follows its master.
    HaSettings {
        /// Where slaves connect to a master. 0: the port after `listenPort`, or a free one when that is 0.
        "haListenPort" listen_port: u16 = 0;
        /// `host:port` of the master's link. Empty: the name servers tell it.
        "haMasterAddress" master_address: String = String::new();
        /// Without a word for as long, a heartbeat is sent; either way.
        "haSendHeartbeatInterval" heartbeat_ms: u64 = 5_000;
        /// A link that has been silent for as long is closed; on either side.
        "haHousekeepingInterval" housekeeping_ms: u64 = 20_000;
        /// Bytes of the log in one frame, at most.
        "haTransferBatchSize" batch_bytes: u32 = 32 * 1024;
        /// A slave that is so many bytes behind is not waited for.
        "haSlaveFallbehindMax" fall_behind_max: u64 = 256 * 1024 * 1024;
        /// Copies that a send to a SYNC_MASTER waits for, the master's among them. 0, here and at `minInSyncReplicas`: not
        /// set; where neither is, nor `allAckInSyncStateSet`, one slave is waited for, as Java 4.x does.
        "inSyncReplicas" in_sync_replicas: u32 = 0;
        /// While fewer copies are in sync, sends to a SYNC_MASTER are refused.
        "minInSyncReplicas" in_sync_min: u32 = 0;
        /// Whether a send to a SYNC_MASTER waits for all copies that are in sync.
        "allAckInSyncStateSet" ack_by_all_in_sync: bool = false;
        /// A slave that is so many bytes behind is not in sync.
        "haMaxGapNotInSync" in_sync_gap_max: u64 = 256 * 1024 * 1024;
        /// How long a send waits for a slave.
        "slaveTimeout" slave_timeout_ms: u64 = 3_000;
    }
}

settings! {
    /// Topics and groups that come into being by themselves.
    TopicSettings {
        "autoCreateTopicEnable" auto_create: bool = true;
        "autoCreateSubscriptionGroup" auto_create_group: bool = true;
        "defaultTopicQueueNums" default_queue_count: i32 = 8;
        /// The topic named like the cluster may be written to and copied from.
        "clusterTopicEnable" cluster_topic: bool = true;
        /// The topic named like the broker may be written to and copied from.
        "brokerTopicEnable" broker_topic: bool = true;
        "traceTopicEnable" trace_topic: bool = false;
        "msgTraceTopicName" trace_topic_name: String = "RMQ_SYS_TRACE_TOPIC".to_owned();
        /// Sent as `TRACE_ON` with each send's answer.
        "traceOn" trace_on: bool = true;
    }
}

settings! {
    /// What a send is checked against.
    SendSettings {
        /// Wall clock, ms since the epoch; earlier sends are refused.
        "startAcceptSendRequestTimeStamp" accept_from_ms: i64 = 0;
        /// Older requests are answered busy without being carried out.
        "waitTimeMillsInSendQueue" wait_limit_ms: u64 = 200;
        /// Sends that wait for a flush, over all connections; more are answered busy.
        "sendThreadPoolQueueCapacity" in_flight_max: usize = 10_000;
        /// Whether requests that waited too long are answered busy.
        "brokerFastFailureEnable" fast_failure: bool = true;
        /// Replies on their way to those who asked, over all connections; more are answered busy.
        "replyThreadPoolQueueCapacity" replies_in_flight_max: usize = 10_000;
        /// Whether a reply that was handed over is stored in the reply topic too.
        "storeReplyMessageEnable" store_replies: bool = true;
    }
}

settings! {
    /// Pulling and queries.
    PullSettings {
        "waitTimeMillsInPullQueue" wait_limit_ms: u64 = 5_000;
        "waitTimeMillsInLitePullQueue" lite_wait_limit_ms: u64 = 5_000;
        /// Pulls that wait for messages, over all connections; more are answered busy.
        "pullThreadPoolQueueCapacity" held_max: usize = 100_000;
        "longPollingEnable" long_polling: bool = true;
        /// How long a pull waits for messages when long polling is off.
        "shortPollingTimeMills" short_polling_ms: u64 = 1_000;
        /// Whether consumers that are far behind are sent to a slave, and back when they are not.
        "slaveReadEnable" slave_read: bool = false;
        "litePullMessageEnable" lite_pull: bool = true;
    }
}

settings! {
    /// Filters by properties.
    FilterSettings {
        /// Whether consumers may filter by SQL92.
        "enablePropertyFilter" by_property: bool = false;
        /// How long the filters of a group that is gone are kept, in ms.
        "filterDataCleanTimeSpan" dead_kept_ms: u64 = 86_400_000;
        /// Groups with filters, for the bits that Java keeps with each.
        "expectConsumerNumUseFilter" bloom_groups: i32 = 32;
        "maxErrorRateOfBloomFilter" bloom_error_percent: i32 = 20;
    }
}

settings! {
    /// Clients, and what they commit.
    ClientSettings {
        "waitTimeMillsInHeartbeatQueue" heartbeat_wait_limit_ms: u64 = 31_000;
        /// A client without a heartbeat for as long is gone.
        "channelExpiredTimeout" expiry_ms: u64 = 120_000;
        "notifyConsumerIdsChangedEnable" notify_changes: bool = true;
        "flushConsumerOffsetInterval" offset_flush_interval_ms: u64 = 5_000;
    }
}

settings! {
    /// Half messages and how producers are asked about them.
    TransactionSettings {
        /// A half message of so many ms is not asked about.
        "transactionTimeOut" timeout_ms: u64 = 6_000;
        "transactionCheckInterval" check_interval_ms: u64 = 60_000;
        /// What was asked for so often is discarded.
        "transactionCheckMax" check_max: u32 = 15;
        /// Half messages are refused.
        "rejectTransactionMessage" reject: bool = false;
        "waitTimeMillsInTransactionQueue" wait_limit_ms: u64 = 3_000;
    }
}

settings! {
    /// The data folder and how it is written.
    StoreSettings {
        "storePathRootDir" root: String = "store".to_owned();
        /// One folder, or several with commas between them, among which the files are spread. Empty: `commitlog` in the root.
        "storePathCommitLog" commit_log_dirs: String = String::new();
        /// Folders of the log whose files are read, and none is made or changed there.
        "readOnlyCommitLogStorePaths" read_only_commit_log_dirs: String = String::new();
        "mappedFileSizeCommitLog" commit_log_file_bytes: u64 = 1 << 30;
        "mappedFileSizeConsumeQueue" consume_queue_file_bytes: u64 = 6_000_000;
        "flushDiskType" flush: FlushDisk = FlushDisk::Async;
        "syncFlushTimeout" sync_flush_timeout_ms: u64 = 5_000;
        /// With ASYNC_FLUSH: messages are answered in memory and written by a commit service.
        "transientStorePoolEnable" transient_pool: bool = false;
        /// CommitLog files of bytes that may wait in memory.
        "transientStorePoolSize" transient_pool_size: u64 = 5;
        /// A send that finds the pool full is answered busy; else it writes what waits.
        "fastFailIfNoBufferInStorePool" fast_fail_if_no_buffer: bool = false;
        "commitIntervalCommitLog" commit_interval_ms: u64 = 200;
        "commitCommitLogLeastPages" commit_least_pages: u64 = 4;
        "commitCommitLogThoroughInterval" commit_thorough_interval_ms: u64 = 200;
        "flushIntervalCommitLog" flush_interval_ms: u64 = 500;
        "flushCommitLogLeastPages" flush_least_pages: u64 = 4;
        "flushCommitLogThoroughInterval" flush_thorough_interval_ms: u64 = 10_000;
        "flushIntervalConsumeQueue" queue_flush_interval_ms: u64 = 1_000;
        "flushConsumeQueueLeastPages" queue_flush_least_pages: u64 = 2;
        "flushConsumeQueueThoroughInterval" queue_flush_thorough_interval_ms: u64 = 60_000;
        /// Whether each record carries a checksum of all of it, in its last property. Java's default is false: then recovery
        /// knows a record that was torn outside of its body only by what is missing.
        "enabledAppendPropCRC" record_crc: bool = true;
        "maxMessageSize" message_bytes_max: u32 = 4 * 1024 * 1024;
        /// An append that holds the log for longer means: busy.
        "osPageCacheBusyTimeOutMills" append_busy_ms: u64 = 1_000;
    }
}

settings! {
    /// Messages that are delivered later.
    DelaySettings {
        /// How long a message of level 1, 2, … waits. Part of the data: queue entries hold the times that follow from it.
        "messageDelayLevel" levels: DelayLevels = DelayLevels::default();
        /// Between two saves of how far each level has been delivered.
        "flushDelayOffsetInterval" offset_flush_interval_ms: u64 = 10_000;
    }
}

settings! {
    /// Looking messages up by key.
    IndexSettings {
        /// Off, nothing is found by key; on again, what came meanwhile is filed later.
        "messageIndexEnable" enabled: bool = true;
        /// Slots of an index file. Files of another form are made again from the log.
        "maxHashSlotNum" slots: u32 = 5_000_000;
        /// Entries of an index file.
        "maxIndexNum" entries: u32 = 20_000_000;
        /// Messages that a look-up gives at most.
        "maxMsgsNumBatch" count_max: usize = 64;
        /// Messages that a look-up by unique key gives at most.
        "defaultQueryMaxNum" unique_count_max: usize = 32;
    }
}

settings! {
    /// What one pull may give.
    ReadSettings {
        /// What lies so far from the log's end, in percent of the machine's memory, counts as in memory.
        "accessMessageInMemoryMaxRatio" memory_percent: u64 = 40;
        "maxTransferBytesOnMessageInMemory" hot_bytes: u64 = 256 * 1024;
        "maxTransferCountOnMessageInMemory" hot_count: usize = 32;
        "maxTransferBytesOnMessageInDisk" cold_bytes: u64 = 64 * 1024;
        "maxTransferCountOnMessageInDisk" cold_count: usize = 8;
    }
}

settings! {
    /// How long files are kept.
    RetentionSettings {
        /// In hours.
        "fileReservedTime" reserved: ReservedTime = ReservedTime::hours(72);
        /// Hours of the machine's own clock at which expired files are deleted.
        "deleteWhen" delete_hours: DeleteHours = DeleteHours::only(4);
        "cleanResourceInterval" interval_ms: u64 = 10_000;
        /// CommitLog files deleted at one look.
        "deleteFileBatchMax" batch_max: usize = 10;
        "deleteCommitLogFilesInterval" log_file_pause_ms: u64 = 100;
        "deleteConsumeQueueFilesInterval" queue_file_pause_ms: u64 = 100;
        /// A file that readers hold is kept for so long.
        "destroyMapedFileIntervalForcibly" held_max_ms: u64 = 120_000;
        "redeleteHangedFileInterval" held_retry_ms: u64 = 120_000;
        /// Whether files of any age go when the disk is nearly full.
        "cleanFileForciblyEnable" forcibly: bool = true;
        /// In percent, kept between 10 and 95.
        "diskMaxUsedSpaceRatio" disk_max_used_percent: u64 = 75;
        /// In percent, kept between 30 and 85.
        "diskSpaceCleanForciblyRatio" forcibly_percent: u64 = 85;
        /// In percent, kept between 35 and 90.
        "diskSpaceWarningLevelRatio" warning_percent: u64 = 90;
    }
}

settings! {
    /// The name server.
    NameServerSettings {
        "bindAddress" bind_address: IpAddr = ANY;
        "listenPort" listen_port: u16 = 9876;
        "kvConfigPath" kv_config_path: String = "namesrv/kvConfig.json".to_owned();
        /// Where settings go that were changed while the name server ran, when it was started without a file.
        "configStorePath" config_store_path: String = "namesrv/namesrv.properties".to_owned();
        "scanNotActiveBrokerInterval" scan_interval_ms: u64 = 5_000;
        "orderMessageEnable" order_messages: bool = false;
        "returnOrderTopicConfigToBroker" return_order_config: bool = true;
        "deleteTopicWithBrokerRegistration" delete_topic_with_registration: bool = false;
        "enableAllTopicList" all_topic_list: bool = true;
        "needWaitForService" wait_for_service: bool = false;
        "waitSecondsForService" wait_for_service_s: u64 = 45;
        /// A connection without a byte in either direction for as long is closed; what was registered over it goes.
        "serverChannelMaxIdleTimeSeconds" connection_idle_s: u64 = 120;
        /// The smallest id of a group without master stands in for it, where the group allows that.
        "supportActingMaster" support_acting_master: bool = false;
        /// Brokers are told when the smallest id of their group changes.
        "notifyMinBrokerIdChanged" notify_min_broker_id: bool = false;
    }
}

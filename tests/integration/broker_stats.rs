//! What operators ask a broker: the state of topics and groups, and its settings.

use crate::broker_node::*;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::*;
use hotfire_core::remoting::codes::{request as ask, response};
use hotfire_core::remoting::headers::*;
use hotfire_tests::TempDir;

fn queue(topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue { broker_name: config().identity.name, queue_id, topic: topic.to_owned() }
}

fn topic_stats(topic: &str) -> RemotingCommand {
    let header = GetTopicStatsHeader { topic: topic.to_owned() };
    RemotingCommand::request(ask::GET_TOPIC_STATS_INFO).with_header(&header)
}

async fn consume_stats(client: &Client, header: &GetConsumeStatsHeader) -> ConsumeStats {
    let answer = client.done(RemotingCommand::request(ask::GET_CONSUME_STATS).with_header(header)).await;
    ConsumeStats::parse(&answer.body.to_bytes()).expect("consume stats")
}

#[test]
fn topic_and_consume_stats_show_ends_lag_and_times() {
    run(async {
        let dir = TempDir::new("stats");
        let broker = start(&dir, &config()).await;
        let client = Client::of(&broker);
        client.done(create_topic("Stats", 2)).await;
        for number in 0..3 {
            client.done(send(&send_header("Stats", 1, ""), format!("m{number}"))).await;
        }
        let header = UpdateConsumerOffsetHeader {
            consumer_group: "CG".to_owned(),
            topic: "Stats".to_owned(),
            queue_id: 1,
            commit_offset: 2,
        };
        // The queue shows a message once it is dispatched; a held pull says when, and is held at the queue's end only.
        let mut last = None;
        for offset in 0..3 {
            let mut wait = pull_header("Stats", 1, offset, "*");
            (wait.sys_flag, wait.suspend_timeout_millis) = (6, 15_000);
            last = messages(&client.done(pull(&wait)).await).pop();
        }
        let last = last.expect("the last message");
        client.done(RemotingCommand::request(ask::UPDATE_CONSUMER_OFFSET).with_header(&header)).await;

        let answer = client.done(topic_stats("Stats")).await;
        let stats = TopicStatsTable::parse(&answer.body.to_bytes()).expect("topic stats");
        assert_eq!(stats.offset_table.len(), 2);
        let filled = &stats.offset_table[&queue("Stats", 1)];
        assert_eq!((filled.min_offset, filled.max_offset), (0, 3));
        assert_eq!(filled.last_update_timestamp, last.store_timestamp);
        assert_eq!(stats.offset_table[&queue("Stats", 0)], TopicOffset::default());
        assert_eq!(client.ask(topic_stats("Nowhere")).await.code, response::TOPIC_NOT_EXIST);

        let of_group = GetConsumeStatsHeader { consumer_group: "CG".to_owned(), ..Default::default() };
        let stats = consume_stats(&client, &of_group).await;
        assert_eq!(stats.offset_table.len(), 2);
        let lagging = &stats.offset_table[&queue("Stats", 1)];
        assert_eq!((lagging.broker_offset, lagging.consumer_offset), (3, 2));
        assert!(lagging.last_timestamp > 0 && lagging.last_timestamp <= last.store_timestamp);
        assert_eq!(stats.offset_table[&queue("Stats", 0)], OffsetWrapper::default());
        let named =
            GetConsumeStatsHeader { topic_list: Some("Stats;Nowhere".to_owned()), ..of_group.clone() };
        // Rates differ from one moment to the next.
        assert_eq!(consume_stats(&client, &named).await.offset_table, stats.offset_table);
        let stranger = GetConsumeStatsHeader { consumer_group: "nobody".to_owned(), ..Default::default() };
        assert!(consume_stats(&client, &stranger).await.offset_table.is_empty());
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn the_settings_in_force_are_shown() {
    run(async {
        let dir = TempDir::new("settings");
        let broker = start(&dir, &sync_flush()).await;
        let client = Client::of(&broker);
        let answer = client.done(RemotingCommand::request(ask::GET_BROKER_CONFIG)).await;
        let version: GetBrokerConfigResponse = answer.header().expect("a version");
        assert!(DataVersion::parse(version.version.as_bytes()).expect("a version").timestamp > 0);
        let body = answer.body.to_bytes();
        let text = std::str::from_utf8(&body).expect("text");
        for line in ["flushDiskType=SYNC_FLUSH", "brokerClusterName=DefaultCluster", "maxMessageSize=4194304"]
        {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let of = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("{key} in {text}")).to_owned()
        };
        let port = |key| of(key).parse::<u16>().expect("a port");
        assert_eq!((of("brokerIP1").as_str(), port("listenPort")), ("127.0.0.1", broker.local_addr().port()));
        assert!(port("haListenPort") > 0, "where slaves connect");
        assert_eq!(of("storePathCommitLog"), format!("{}/commitlog", of("storePathRootDir")));
        broker.stop().await.expect("a clean stop");
    });
}

#[test]
fn what_was_put_is_told_in_records_by_how_long_it_took() {
    run(async {
        let dir = TempDir::new("put-times");
        for config in [config(), sync_flush()] {
            let broker = start(&dir, &config).await;
            let client = Client::of(&broker);
            client.done(create_topic("Times", 1)).await;
            let state = || async {
                let answer = client.done(RemotingCommand::request(ask::GET_BROKER_RUNTIME_INFO)).await;
                KvTable::parse(&answer.body.to_bytes()).expect("a table").table
            };
            let number = |state: &std::collections::BTreeMap<String, String>, key: &str| -> f64 {
                state[key].parse().unwrap_or_else(|_| panic!("{key} is a number, found {}", state[key]))
            };
            let before = state().await;
            assert_eq!(before["getMissTps"], "0.0 0.0 0.0");
            for number in 0..3 {
                client.done(send(&send_header("Times", 0, "KEYS\u{1}k"), format!("m{number}"))).await;
            }
            let after = state().await;
            let grown = |key| number(&after, key) - number(&before, key);
            assert_eq!(grown("putMessageTimesTotal"), 3.0);
            assert_eq!(grown("putMessageSizeTotal"), grown("commitLogMaxOffset"));
            assert_eq!(number(&after, "putMessageAverageSize"), grown("putMessageSizeTotal") / 3.0);
            // As an exporter reads it.
            let classes = after["putMessageDistributeTime"].split(' ').filter(|class| !class.is_empty());
            let counts: Vec<u64> = classes
                .map(|class| class.rsplit_once(':').expect("a count").1.parse().expect("a number"))
                .collect();
            assert_eq!((counts.len(), counts.iter().sum::<u64>()), (13, 3));
            for key in [
                "putMessageEntireTimeMax",
                "getMessageEntireTimeMax",
                "putLatency99",
                "putLatency999",
                "dispatchMaxBuffer",
                "queryThreadPoolQueueCapacity",
                "litePullThreadPoolQueueHeadWaitTimeMills",
                "ackThreadPoolQueueCapacity",
                "EndTransactionThreadPoolQueueCapacity",
                "timerEnqueueTps",
            ] {
                number(&after, key);
            }
            assert_eq!(after["remainTransientStoreBufferNumbs"], i32::MAX.to_string());
            let capacity = &after["commitLogDirCapacity"];
            assert!(capacity.starts_with("Total : ") && capacity.ends_with("iB."), "{capacity}");
            broker.stop().await.expect("a clean stop");
        }
    });
}

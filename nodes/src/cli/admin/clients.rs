//! Commands about consumer groups and producers.

use hotfire_core::client::admin::AdminError;
use hotfire_core::client::rebalance::AllocateStrategy;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{
    BrokerStatsData, Connection, ConsumeStats, ConsumeStatsList, ConsumerConnection, ConsumerRunningInfo,
    GroupList, MessageQueue, ProducerConnection, ProducerTableInfo, ResetOffsetBody, SubscriptionGroupConfig,
    SubscriptionGroupWrapper, TopicList,
};
use hotfire_core::remoting::codes::{request, response};
use hotfire_core::remoting::headers::{
    CloneGroupOffsetHeader, DeleteSubscriptionGroupHeader, GetBrokerConsumeStatsHeader,
    GetConsumeStatsHeader, GetConsumerConnectionListHeader, GetConsumerRunningInfoHeader,
    GetProducerConnectionListHeader, QueryTopicConsumeByWhoHeader, ResetOffsetHeader, SearchOffsetHeader,
    UpdateConsumerOffsetHeader, ViewBrokerStatsHeader,
};

use super::report::Report;
use super::topics::masters;
use super::{Operator, Target, Told, failed};
use crate::cli::moment;
use crate::failure::Failure;

/// In the permission of a topic: may be read.
const PERM_READ: i32 = 4;

#[derive(clap::Args)]
pub struct UpdateGroup {
    #[command(flatten)]
    target: Target,
    #[arg(short, long)]
    group_name: String,
    /// Whether the group may consume
    #[arg(short = 's', long, action = clap::ArgAction::Set, default_value_t = true)]
    consume_enable: bool,
    /// How often a message is tried before it is a dead letter
    #[arg(short, long, value_name = "N", default_value_t = 16)]
    retry_max_times: i32,
    /// Queues of the retry topic
    #[arg(short = 'q', long, value_name = "N", default_value_t = 1)]
    retry_queue_nums: i32,
}

#[derive(clap::Args)]
pub struct DeleteGroup {
    #[command(flatten)]
    target: Target,
    #[arg(short, long)]
    group_name: String,
    /// With what the group has committed
    #[arg(short, long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    remove_offset: bool,
}

#[derive(clap::Args)]
pub struct Group {
    #[arg(short = 'g', long)]
    group_name: String,
}

#[derive(clap::Args)]
pub struct Producers {
    #[arg(short = 'g', long)]
    producer_group: String,
    #[arg(short, long)]
    topic: String,
}

#[derive(clap::Args)]
pub struct Reset {
    #[arg(short, long)]
    group: String,
    #[arg(short, long)]
    topic: String,
    /// `now`, ms since 1970, or a date with time in UTC
    #[arg(short = 's', long, value_parser = parse_time)]
    timestamp: i64,
    /// Also forth, over messages that were not consumed
    #[arg(short, long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    force: bool,
}

#[derive(clap::Args)]
pub struct Skip {
    #[arg(short, long)]
    group: String,
    #[arg(short, long)]
    topic: String,
    /// Accepted as mqadmin has it: what is skipped always lies forth
    #[arg(short, long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    force: bool,
}

#[derive(clap::Args)]
pub struct ConsumerStatus {
    #[arg(short = 'g', long)]
    consumer_group: String,
    /// Only this client
    #[arg(short = 'i', long)]
    client_id: Option<String>,
}

#[derive(clap::Args)]
pub struct Allocate {
    #[arg(short, long)]
    topic: String,
    /// Addresses of the members, `a,b`
    #[arg(short, long, value_delimiter = ',')]
    ip_list: Vec<String>,
}

#[derive(clap::Args)]
pub struct Stats {
    /// Only this topic
    #[arg(short, long)]
    topic: Option<String>,
    /// Only topics to which something came in a day
    #[arg(short, long)]
    active_topic: bool,
}

#[derive(clap::Args)]
pub struct CloneOffset {
    /// The group that has committed
    #[arg(short, long)]
    src_group: String,
    /// The group that gets it
    #[arg(short, long)]
    dest_group: String,
    #[arg(short, long)]
    topic: String,
    /// Also of a topic that the first group does not subscribe to now
    #[arg(short, long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    offline: bool,
}

#[derive(clap::Args)]
pub struct OfBroker {
    #[arg(short, long, value_name = "HOST:PORT")]
    broker: String,
}

/// -1 for the end of the queues.
fn parse_time(text: &str) -> Result<i64, String> {
    match text {
        "now" => Ok(-1),
        _ => moment::parse_ms(text).ok_or_else(|| "expected now, ms since 1970 or a date".to_owned()),
    }
}

pub async fn update_group(operator: &Operator, args: &UpdateGroup) -> Told {
    let group = SubscriptionGroupConfig {
        group_name: args.group_name.clone(),
        consume_enable: args.consume_enable,
        retry_max_times: args.retry_max_times,
        retry_queue_nums: args.retry_queue_nums,
        ..Default::default()
    };
    let asked =
        RemotingCommand::request(request::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(group.to_json());
    args.target.each(operator, asked, &format!("group {}", args.group_name)).await
}

pub async fn delete_group(operator: &Operator, args: &DeleteGroup) -> Told {
    let header = DeleteSubscriptionGroupHeader {
        group_name: args.group_name.clone(),
        clean_offset: Some(args.remove_offset),
        remove_offset: Some(args.remove_offset),
    };
    let asked = RemotingCommand::request(request::DELETE_SUBSCRIPTIONGROUP).with_header(&header);
    args.target.each(operator, asked, &format!("delete group {}", args.group_name)).await
}

/// The brokers that know a group: those of its retry topic.
fn retry_topic(group: &str) -> String {
    format!("%RETRY%{group}")
}

pub async fn progress(operator: &Operator, args: &Group) -> Told {
    let mut report = Report::rows(&[
        "Topic",
        "Broker Name",
        "QID",
        "Broker Offset",
        "Consumer Offset",
        "Diff",
        "Last Time",
    ]);
    let header = GetConsumeStatsHeader { consumer_group: args.group_name.clone(), ..Default::default() };
    let asked = RemotingCommand::request(request::GET_CONSUME_STATS).with_header(&header);
    for addr in masters(operator, &retry_topic(&args.group_name)).await? {
        let stats = operator.read(&addr, asked.clone(), ConsumeStats::parse).await.map_err(failed)?;
        for (queue, offsets) in stats.offset_table {
            let last = offsets.last_timestamp;
            report.row([
                queue.topic.into(),
                queue.broker_name.into(),
                queue.queue_id.into(),
                offsets.broker_offset.into(),
                offsets.consumer_offset.into(),
                (offsets.broker_offset - offsets.consumer_offset).into(),
                if last > 0 { moment::text(last).into() } else { serde_json::Value::Null },
            ]);
        }
    }
    Ok(report)
}

pub async fn consumers(operator: &Operator, args: &Group) -> Told {
    let mut report = Report::rows(&["Client Id", "Client Addr", "Language", "Version"]);
    let header = GetConsumerConnectionListHeader { consumer_group: args.group_name.clone() };
    let asked = RemotingCommand::request(request::GET_CONSUMER_CONNECTION_LIST).with_header(&header);
    let addresses = masters(operator, &retry_topic(&args.group_name)).await?;
    tell_connections(operator, &mut report, addresses, asked, |bytes| {
        ConsumerConnection::parse(bytes).map(|body| body.connection_set)
    })
    .await?;
    Ok(report)
}

pub async fn producers(operator: &Operator, args: &Producers) -> Told {
    let mut report = Report::rows(&["Client Id", "Client Addr", "Language", "Version"]);
    let header = GetProducerConnectionListHeader { producer_group: args.producer_group.clone() };
    let asked = RemotingCommand::request(request::GET_PRODUCER_CONNECTION_LIST).with_header(&header);
    let addresses = masters(operator, &args.topic).await?;
    tell_connections(operator, &mut report, addresses, asked, |bytes| {
        ProducerConnection::parse(bytes).map(|body| body.connection_set)
    })
    .await?;
    Ok(report)
}

/// The connections of all brokers; it fails only where none of them knows any.
async fn tell_connections(
    operator: &Operator,
    report: &mut Report,
    addresses: Vec<String>,
    asked: RemotingCommand,
    parse: impl Fn(&[u8]) -> Result<Vec<Connection>, hotfire_core::remoting::body::BodyError>,
) -> Result<(), Failure> {
    let (mut found, mut refused) = (false, None);
    for addr in addresses {
        match operator.read(&addr, asked.clone(), &parse).await {
            Ok(connections) => {
                found = true;
                for connection in connections {
                    report.row([
                        connection.client_id.into(),
                        connection.client_addr.into(),
                        connection.language.name().into(),
                        connection.version.into(),
                    ]);
                }
            }
            Err(error @ AdminError::Refused { .. }) => refused = Some(error),
            Err(error) => return Err(failed(error)),
        }
    }
    match refused.filter(|_| !found) {
        Some(error) => Err(failed(error)),
        None => Ok(()),
    }
}

pub async fn clone_offset(operator: &Operator, args: &CloneOffset) -> Told {
    let header = CloneGroupOffsetHeader {
        src_group: args.src_group.clone(),
        dest_group: args.dest_group.clone(),
        topic: Some(args.topic.clone()),
        offline: args.offline,
    };
    let asked = RemotingCommand::request(request::CLONE_GROUP_OFFSET).with_header(&header);
    let mut report = Report::done();
    for addr in masters(operator, &args.topic).await? {
        operator.ask(&addr, asked.clone()).await.map_err(failed)?;
        report.tell(format!("offsets of {} given to {}: done at {addr}", args.src_group, args.dest_group));
    }
    Ok(report)
}

pub async fn producers_of_broker(operator: &Operator, args: &OfBroker) -> Told {
    let mut report =
        Report::rows(&["Group", "Client Id", "Client Addr", "Language", "Version", "Last Heartbeat"]);
    let asked = RemotingCommand::request(request::GET_ALL_PRODUCER_INFO);
    let table = operator.read(&args.broker, asked, ProducerTableInfo::parse).await.map_err(failed)?;
    for (group, producers) in table.data {
        for producer in producers {
            report.row([
                group.clone().into(),
                producer.client_id.into(),
                producer.remote_ip.into(),
                producer.language.name().into(),
                producer.version.into(),
                moment::text(producer.last_update_timestamp).into(),
            ]);
        }
    }
    Ok(report)
}

pub async fn all_progress(operator: &Operator, args: &OfBroker) -> Told {
    let mut report = Report::rows(&["Group", "Topic", "QID", "Broker Offset", "Consumer Offset", "Diff"]);
    for is_order in [false, true] {
        let header = GetBrokerConsumeStatsHeader { is_order };
        let asked = RemotingCommand::request(request::GET_BROKER_CONSUME_STATS).with_header(&header);
        let list = operator.read(&args.broker, asked, ConsumeStatsList::parse).await.map_err(failed)?;
        for (group, stats) in list.consume_stats_list.into_iter().flatten() {
            for (queue, offsets) in stats.into_iter().flat_map(|stats| stats.offset_table) {
                report.row([
                    group.clone().into(),
                    queue.topic.into(),
                    queue.queue_id.into(),
                    offsets.broker_offset.into(),
                    offsets.consumer_offset.into(),
                    (offsets.broker_offset - offsets.consumer_offset).into(),
                ]);
            }
        }
    }
    Ok(report)
}

/// Of every master in every cluster that knows the group.
pub async fn group_config(operator: &Operator, args: &Group) -> Told {
    let mut report = Report::rows(&["Addr", "Setting", "Value"]);
    let info = operator.cluster().await.map_err(failed)?;
    let addresses = info.broker_addr_table.values().filter_map(|broker| broker.broker_addrs.get(&0));
    for addr in addresses {
        let asked = RemotingCommand::request(request::GET_ALL_SUBSCRIPTIONGROUP_CONFIG);
        let table = operator.read(addr, asked, SubscriptionGroupWrapper::parse).await.map_err(failed)?;
        let Some(group) = table.subscription_group_table.get(&args.group_name) else { continue };
        let settings = serde_json::to_value(group).map_err(|error| Failure::Run(error.into()))?;
        for (setting, value) in settings.as_object().into_iter().flatten() {
            report.row([addr.clone().into(), setting.clone().into(), value.clone()]);
        }
    }
    Ok(report)
}

/// To the end of each queue.
pub async fn skip(operator: &Operator, args: &Skip) -> Told {
    let Skip { group, topic, force } = args;
    let now = Reset { group: group.clone(), topic: topic.clone(), timestamp: -1, force: *force };
    reset(operator, &now).await
}

/// What the members of a group say of themselves, a row for each queue that one holds.
pub async fn consumer_status(operator: &Operator, args: &ConsumerStatus) -> Told {
    let mut report = Report::rows(&[
        "Client Id",
        "Version",
        "Topic",
        "Broker Name",
        "QID",
        "Commit Offset",
        "Cached Messages",
        "Last Pull",
        "Last Consume",
        "Dropped",
    ]);
    let group = &args.consumer_group;
    let header = GetConsumerConnectionListHeader { consumer_group: group.clone() };
    let asked = RemotingCommand::request(request::GET_CONSUMER_CONNECTION_LIST).with_header(&header);
    let mut seen = std::collections::BTreeSet::new();
    let mut refused = None;
    for addr in masters(operator, &retry_topic(group)).await? {
        let connections = match operator.read(&addr, asked.clone(), ConsumerConnection::parse).await {
            Ok(body) => body.connection_set,
            Err(error @ AdminError::Refused { .. }) => {
                refused = Some(error);
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        for connection in connections {
            let id = connection.client_id;
            if args.client_id.as_ref().is_some_and(|only| *only != id) || !seen.insert(id.clone()) {
                continue;
            }
            let header = GetConsumerRunningInfoHeader {
                consumer_group: group.clone(),
                client_id: id.clone(),
                jstack_enable: false,
            };
            let asked = RemotingCommand::request(request::GET_CONSUMER_RUNNING_INFO).with_header(&header);
            let info = operator.read(&addr, asked, ConsumerRunningInfo::parse).await.map_err(failed)?;
            tell_running(&mut report, &id, connection.version, info);
        }
    }
    match refused.filter(|_| seen.is_empty()) {
        Some(error) => Err(failed(error)),
        None => Ok(report),
    }
}

fn tell_running(report: &mut Report, id: &str, version: i32, info: ConsumerRunningInfo) {
    let moment = |ms: i64| if ms > 0 { moment::text(ms).into() } else { serde_json::Value::Null };
    for (queue, held) in info.mq_table {
        report.row([
            id.into(),
            version.into(),
            queue.topic.into(),
            queue.broker_name.into(),
            queue.queue_id.into(),
            held.commit_offset.into(),
            held.cached_msg_count.into(),
            moment(held.last_pull_timestamp),
            moment(held.last_consume_timestamp),
            held.dropped.into(),
        ]);
    }
}

/// Which queues each member would be given, by the averaging that clients use unless told otherwise.
pub async fn allocate(operator: &Operator, args: &Allocate) -> Told {
    let route = operator.route(&args.topic).await.map_err(failed)?;
    let mut queues = Vec::new();
    for of in route.queue_datas.iter().filter(|of| of.perm & PERM_READ != 0) {
        queues.extend((0..of.read_queue_nums).map(|queue_id| MessageQueue {
            broker_name: of.broker_name.clone(),
            queue_id,
            topic: args.topic.clone(),
        }));
    }
    let mut report = Report::rows(&["Member", "Broker Name", "QID"]);
    for member in &args.ip_list {
        for queue in AllocateStrategy::Average.allocate(member, &queues, &args.ip_list) {
            report.row([member.clone().into(), queue.broker_name.into(), queue.queue_id.into()]);
        }
    }
    Ok(report)
}

/// A row for each topic and group of it; a topic without groups has one too. Rates are of the last minute, sums of the last day.
pub async fn stats(operator: &Operator, args: &Stats) -> Told {
    let mut report = Report::rows(&[
        "Topic",
        "Consumer Group",
        "Accumulation",
        "In TPS",
        "Out TPS",
        "In Msg 24 Hour",
        "Out Msg 24 Hour",
    ]);
    let asked = RemotingCommand::request(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER);
    let topics = operator.of_name_server(asked, TopicList::parse).await.map_err(failed)?.topic_list;
    for topic in topics.into_iter().collect::<std::collections::BTreeSet<_>>() {
        let wanted = args.topic.as_ref().is_none_or(|only| *only == topic);
        if !wanted || topic.starts_with("%RETRY%") || topic.starts_with("%DLQ%") {
            continue;
        }
        let addresses = match masters(operator, &topic).await {
            Ok(addresses) => addresses,
            // Deleted since the list was made.
            Err(_) if args.topic.is_none() => continue,
            Err(error) => return Err(error),
        };
        let came = sum_of(operator, &addresses, "TOPIC_PUT_NUMS", &topic).await?;
        if args.active_topic && came.1 == 0 {
            continue;
        }
        let mut groups = std::collections::BTreeSet::new();
        for addr in &addresses {
            let header = QueryTopicConsumeByWhoHeader { topic: topic.clone() };
            let asked = RemotingCommand::request(request::QUERY_TOPIC_CONSUME_BY_WHO).with_header(&header);
            groups.extend(operator.read(addr, asked, GroupList::parse).await.map_err(failed)?.group_list);
        }
        for group in &groups {
            let went = sum_of(operator, &addresses, "GROUP_GET_NUMS", &format!("{topic}@{group}")).await?;
            let behind = behind(operator, &addresses, &topic, group).await?;
            report.row([
                topic.clone().into(),
                group.clone().into(),
                behind.into(),
                came.0.into(),
                went.0.into(),
                came.1.into(),
                went.1.into(),
            ]);
        }
        if groups.is_empty() {
            let none = serde_json::Value::Null;
            report.row([
                topic.clone().into(),
                none.clone(),
                none.clone(),
                came.0.into(),
                none.clone(),
                came.1.into(),
                none,
            ]);
        }
    }
    Ok(report)
}

/// A count over all brokers: its rate in the last minute, and how much it grew in the last day. What nobody has counted is 0.
async fn sum_of(
    operator: &Operator,
    addresses: &[String],
    stats_name: &str,
    key: &str,
) -> Result<(f64, i64), Failure> {
    let header = ViewBrokerStatsHeader { stats_name: stats_name.to_owned(), stats_key: key.to_owned() };
    let asked = RemotingCommand::request(request::VIEW_BROKER_STATS_DATA).with_header(&header);
    let mut sum = (0.0, 0);
    for addr in addresses {
        match operator.read(addr, asked.clone(), BrokerStatsData::parse).await {
            Ok(data) => {
                sum.0 += data.stats_minute.tps;
                sum.1 += data.stats_day.sum;
            }
            Err(AdminError::Refused { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(sum)
}

/// Messages that a group has not consumed of a topic.
async fn behind(operator: &Operator, addresses: &[String], topic: &str, group: &str) -> Result<i64, Failure> {
    let header = GetConsumeStatsHeader {
        consumer_group: group.to_owned(),
        topic: Some(topic.to_owned()),
        topic_list: None,
    };
    let asked = RemotingCommand::request(request::GET_CONSUME_STATS).with_header(&header);
    let mut behind = 0;
    for addr in addresses {
        let stats = operator.read(addr, asked.clone(), ConsumeStats::parse).await.map_err(failed)?;
        let offsets = stats.offset_table.values();
        behind += offsets.map(|offsets| offsets.broker_offset - offsets.consumer_offset).sum::<i64>();
    }
    Ok(behind)
}

/// By the group's clients where some are online; else the offsets are set in the broker.
pub async fn reset(operator: &Operator, args: &Reset) -> Told {
    let mut report = Report::rows(&["Broker Name", "QID", "Offset", "By"]);
    let header = ResetOffsetHeader {
        topic: args.topic.clone(),
        group: args.group.clone(),
        timestamp: args.timestamp,
        is_force: args.force,
        queue_id: None,
        offset: None,
    };
    let asked = RemotingCommand::request(request::INVOKE_BROKER_TO_RESET_OFFSET).with_header(&header);
    for addr in masters(operator, &args.topic).await? {
        match operator.read(&addr, asked.clone(), ResetOffsetBody::parse).await {
            Ok(body) => {
                for (queue, offset) in body.offset_table {
                    report.row([
                        queue.broker_name.into(),
                        queue.queue_id.into(),
                        offset.into(),
                        "clients".into(),
                    ]);
                }
            }
            Err(error) if error.code() == Some(response::CONSUMER_NOT_ONLINE) => {
                reset_offline(operator, &addr, args, &mut report).await?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(report)
}

async fn reset_offline(
    operator: &Operator,
    addr: &str,
    args: &Reset,
    report: &mut Report,
) -> Result<(), Failure> {
    let header = GetConsumeStatsHeader {
        consumer_group: args.group.clone(),
        topic: Some(args.topic.clone()),
        topic_list: None,
    };
    let asked = RemotingCommand::request(request::GET_CONSUME_STATS).with_header(&header);
    let stats = operator.read(addr, asked, ConsumeStats::parse).await.map_err(failed)?;
    for (queue, offsets) in stats.offset_table {
        let wanted = match args.timestamp {
            -1 => offsets.broker_offset,
            timestamp => {
                let header = SearchOffsetHeader {
                    topic: queue.topic.clone(),
                    queue_id: queue.queue_id,
                    timestamp,
                    ..Default::default()
                };
                let asked =
                    RemotingCommand::request(request::SEARCH_OFFSET_BY_TIMESTAMP).with_header(&header);
                let answer = operator.ask(addr, asked).await.map_err(failed)?;
                let found = answer.header::<hotfire_core::remoting::headers::OffsetResponse>();
                found.map_err(|error| Failure::Run(error.into()))?.offset
            }
        };
        let target = if args.force { wanted } else { wanted.min(offsets.consumer_offset) };
        let header = UpdateConsumerOffsetHeader {
            consumer_group: args.group.clone(),
            topic: queue.topic,
            queue_id: queue.queue_id,
            commit_offset: target,
        };
        let asked = RemotingCommand::request(request::UPDATE_CONSUMER_OFFSET).with_header(&header);
        operator.ask(addr, asked).await.map_err(failed)?;
        report.row([queue.broker_name.into(), queue.queue_id.into(), target.into(), "broker".into()]);
    }
    Ok(())
}

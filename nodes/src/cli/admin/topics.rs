//! Commands about topics.

use std::collections::BTreeSet;

use anyhow::anyhow;
use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{BrokerData, QueueData, TopicList, TopicRouteData, TopicStatsTable};
use hotfire_core::remoting::codes::request;
use hotfire_core::remoting::headers::{
    CreateTopicHeader, DeleteKvConfigHeader, DeleteTopicHeader, DeleteTopicInNameServerHeader,
    GetKvConfigHeader, GetKvConfigResponse, GetTopicStatsHeader, GetTopicsByClusterHeader, PutKvConfigHeader,
};

use super::report::Report;
use super::{Operator, Target, Told, failed};
use crate::cli::moment;
use crate::failure::Failure;

#[derive(clap::Args)]
pub struct List {
    /// Only those of a cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<String>,
}

#[derive(clap::Args)]
pub struct Name {
    #[arg(short, long)]
    topic: String,
}

#[derive(clap::Args)]
pub struct Update {
    #[command(flatten)]
    target: Target,
    #[arg(short, long)]
    topic: String,
    /// Queues to read from
    #[arg(short, long, value_name = "N", default_value_t = 8)]
    read_queue_nums: i32,
    /// Queues to write to
    #[arg(short, long, value_name = "N", default_value_t = 8)]
    write_queue_nums: i32,
    /// 2 write, 4 read, 6 both
    #[arg(short, long, default_value_t = 6)]
    perm: i32,
    /// Whether its messages are ordered over all brokers
    #[arg(short, long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    order: bool,
}

#[derive(clap::Args)]
pub struct UpdatePerm {
    #[command(flatten)]
    target: Target,
    #[arg(short, long)]
    topic: String,
    /// 2 write, 4 read, 6 both
    #[arg(short, long)]
    perm: i32,
}

#[derive(clap::Args)]
pub struct Delete {
    #[arg(short, long)]
    topic: String,
    /// From all masters of this cluster, and from the name servers
    #[arg(short, long, value_name = "NAME")]
    cluster: String,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OrderMethod {
    Get,
    Put,
    Delete,
}

#[derive(clap::Args)]
pub struct OrderConf {
    #[arg(short, long)]
    topic: String,
    #[arg(short, long)]
    method: OrderMethod,
    /// Queues of each broker, `broker-a:4;broker-b:4`
    #[arg(short = 'v', long, required_if_eq("method", "put"))]
    order_conf: Option<String>,
}

/// How many queues of which brokers an ordered topic has: name servers give it with the topic's route.
pub async fn order_conf(operator: &Operator, args: &OrderConf) -> Told {
    let (namespace, key) = ("ORDER_TOPIC_CONFIG".to_owned(), args.topic.clone());
    let asked = match (args.method, &args.order_conf) {
        (OrderMethod::Get, _) => RemotingCommand::request(request::GET_KV_CONFIG)
            .with_header(&GetKvConfigHeader { namespace, key }),
        (OrderMethod::Put, Some(value)) => RemotingCommand::request(request::PUT_KV_CONFIG)
            .with_header(&PutKvConfigHeader { namespace, key, value: value.clone() }),
        (OrderMethod::Put, None) => return Err(Failure::Usage(anyhow!("expected -v"))),
        (OrderMethod::Delete, _) => RemotingCommand::request(request::DELETE_KV_CONFIG)
            .with_header(&DeleteKvConfigHeader { namespace, key }),
    };
    let answers = operator.every_name_server(asked).await.map_err(failed)?;
    if args.method != OrderMethod::Get {
        let mut report = Report::done();
        for (addr, _) in answers {
            report.tell(format!("order of {}: done at the name server {addr}", args.topic));
        }
        return Ok(report);
    }
    let mut report = Report::rows(&["Name Server", "Topic", "Order Conf"]);
    for (addr, answer) in answers {
        let told: GetKvConfigResponse = answer.header().map_err(|error| Failure::Run(error.into()))?;
        report.row([addr.into(), args.topic.clone().into(), told.value.into()]);
    }
    Ok(report)
}

pub async fn list(operator: &Operator, args: &List) -> Told {
    let asked = match &args.cluster {
        Some(cluster) => RemotingCommand::request(request::GET_TOPICS_BY_CLUSTER)
            .with_header(&GetTopicsByClusterHeader { cluster: cluster.clone() }),
        None => RemotingCommand::request(request::GET_ALL_TOPIC_LIST_FROM_NAMESERVER),
    };
    let topics = operator.of_name_server(asked, TopicList::parse).await.map_err(failed)?.topic_list;
    let mut report = Report::rows(&["Topic"]);
    for topic in topics.into_iter().collect::<BTreeSet<_>>() {
        report.row([topic.into()]);
    }
    Ok(report)
}

pub async fn route(operator: &Operator, args: &Name) -> Told {
    let route = operator.route(&args.topic).await.map_err(failed)?;
    let mut report =
        Report::rows(&["Broker Name", "Cluster", "Addresses", "Read Queues", "Write Queues", "Perm"]);
    for queues in &route.queue_datas {
        let broker = broker(&route, &queues.broker_name);
        let addresses: Vec<String> = broker
            .map(|broker| broker.broker_addrs.iter().map(|(id, addr)| format!("{id}:{addr}")).collect())
            .unwrap_or_default();
        report.row([
            queues.broker_name.clone().into(),
            broker.map_or("", |broker| broker.cluster.as_str()).into(),
            addresses.join(" ").into(),
            queues.read_queue_nums.into(),
            queues.write_queue_nums.into(),
            queues.perm.into(),
        ]);
    }
    Ok(report)
}

fn broker<'a>(route: &'a TopicRouteData, name: &str) -> Option<&'a BrokerData> {
    route.broker_datas.iter().find(|broker| broker.broker_name == name)
}

/// The masters that have a topic.
pub(super) async fn masters(operator: &Operator, topic: &str) -> Result<Vec<String>, Failure> {
    let route = operator.route(topic).await.map_err(failed)?;
    Ok(route.broker_datas.iter().filter_map(|broker| broker.broker_addrs.get(&0).cloned()).collect())
}

/// The master of the name that has the topic.
pub(super) async fn broker_address(operator: &Operator, topic: &str, name: &str) -> Result<String, Failure> {
    let route = operator.route(topic).await.map_err(failed)?;
    let address = broker(&route, name).and_then(|broker| broker.broker_addrs.get(&0).cloned());
    address.ok_or_else(|| Failure::Run(anyhow!("no master {name} has the topic {topic}")))
}

pub async fn status(operator: &Operator, args: &Name) -> Told {
    let mut report = Report::rows(&["Broker Name", "QID", "Min Offset", "Max Offset", "Last Updated"]);
    let asked = RemotingCommand::request(request::GET_TOPIC_STATS_INFO)
        .with_header(&GetTopicStatsHeader { topic: args.topic.clone() });
    for addr in masters(operator, &args.topic).await? {
        let stats = operator.read(&addr, asked.clone(), TopicStatsTable::parse).await.map_err(failed)?;
        for (queue, offset) in stats.offset_table {
            let updated = offset.last_update_timestamp;
            report.row([
                queue.broker_name.into(),
                queue.queue_id.into(),
                offset.min_offset.into(),
                offset.max_offset.into(),
                if updated > 0 { moment::text(updated).into() } else { serde_json::Value::Null },
            ]);
        }
    }
    Ok(report)
}

pub async fn clusters(operator: &Operator, args: &Name) -> Told {
    let route = operator.route(&args.topic).await.map_err(failed)?;
    let mut report = Report::rows(&["Cluster Name"]);
    for cluster in route.broker_datas.into_iter().map(|broker| broker.cluster).collect::<BTreeSet<_>>() {
        report.row([cluster.into()]);
    }
    Ok(report)
}

pub async fn update(operator: &Operator, args: &Update) -> Told {
    let header = CreateTopicHeader {
        topic: args.topic.clone(),
        default_topic: "TBW102".to_owned(),
        read_queue_nums: args.read_queue_nums,
        write_queue_nums: args.write_queue_nums,
        perm: args.perm,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        topic_sys_flag: Some(0),
        order: args.order,
        ..Default::default()
    };
    let asked = RemotingCommand::request(request::UPDATE_AND_CREATE_TOPIC).with_header(&header);
    args.target.each(operator, asked, &format!("topic {}", args.topic)).await
}

/// All else stays as the route says it is.
pub async fn update_perm(operator: &Operator, args: &UpdatePerm) -> Told {
    let mut report = Report::done();
    let route = operator.route(&args.topic).await.map_err(failed)?;
    for addr in args.target.addresses(operator).await? {
        let has = |queues: &&QueueData| {
            broker(&route, &queues.broker_name)
                .is_some_and(|broker| broker.broker_addrs.get(&0) == Some(&addr))
        };
        let Some(topic) = route.queue_datas.iter().find(has) else {
            return Err(Failure::Run(anyhow!("the master at {addr} has no topic {}", args.topic)));
        };
        if topic.perm == args.perm {
            return Err(Failure::Run(anyhow!(
                "the topic {} has the permission {} at {addr}",
                args.topic,
                args.perm
            )));
        }
        let header = CreateTopicHeader {
            topic: args.topic.clone(),
            default_topic: "TBW102".to_owned(),
            read_queue_nums: topic.read_queue_nums,
            write_queue_nums: topic.write_queue_nums,
            perm: args.perm,
            topic_filter_type: "SINGLE_TAG".to_owned(),
            topic_sys_flag: Some(topic.topic_sys_flag),
            order: route.order_topic_conf.is_some(),
            ..Default::default()
        };
        let asked = RemotingCommand::request(request::UPDATE_AND_CREATE_TOPIC).with_header(&header);
        operator.ask(&addr, asked).await.map_err(failed)?;
        report.tell(format!(
            "topic {}: permission {} changed to {} at {addr}",
            args.topic, topic.perm, args.perm
        ));
    }
    Ok(report)
}

/// From the brokers first: a route that is gone would not lead to them any more.
pub async fn delete(operator: &Operator, args: &Delete) -> Told {
    let mut report = Report::done();
    let asked = RemotingCommand::request(request::DELETE_TOPIC_IN_BROKER)
        .with_header(&DeleteTopicHeader { topic: args.topic.clone() });
    for addr in operator.masters(&args.cluster).await.map_err(failed)?.into_values() {
        operator.ask(&addr, asked.clone()).await.map_err(failed)?;
        report.tell(format!("topic {}: deleted at {addr}", args.topic));
    }
    let header = DeleteTopicInNameServerHeader { topic: args.topic.clone(), cluster_name: None };
    let asked = RemotingCommand::request(request::DELETE_TOPIC_IN_NAMESRV).with_header(&header);
    for (addr, _) in operator.every_name_server(asked).await.map_err(failed)? {
        report.tell(format!("topic {}: deleted at the name server {addr}", args.topic));
    }
    Ok(report)
}

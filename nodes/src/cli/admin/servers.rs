//! Commands about brokers and name servers.

use std::collections::BTreeMap;

use hotfire_core::remoting::RemotingCommand;
use hotfire_core::remoting::body::{HaRuntimeInfo, KvTable};
use hotfire_core::remoting::codes::request;
use hotfire_core::remoting::headers::{
    AddWritePermHeader, AddWritePermResponse, DeleteKvConfigHeader, PutKvConfigHeader, WipeWritePermHeader,
    WipeWritePermResponse,
};

use super::report::Report;
use super::{Operator, Target, Told, failed};
use crate::cli::moment;
use crate::failure::Failure;

#[derive(clap::Args)]
pub struct Setting {
    #[arg(short, long)]
    key: String,
    #[arg(short, long)]
    value: String,
}

#[derive(clap::Args)]
pub struct UpdateBrokerConfig {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    setting: Setting,
}

#[derive(clap::Args)]
pub struct PutKv {
    #[arg(short = 's', long)]
    namespace: String,
    #[command(flatten)]
    setting: Setting,
}

#[derive(clap::Args)]
pub struct DeleteKv {
    #[arg(short = 's', long)]
    namespace: String,
    #[arg(short, long)]
    key: String,
}

#[derive(clap::Args)]
pub struct BrokerName {
    #[arg(short, long, value_name = "NAME")]
    broker_name: String,
}

impl Setting {
    fn line(&self) -> Vec<u8> {
        format!("{}={}\n", self.key, self.value.replace('\\', "\\\\")).into_bytes()
    }
}

pub async fn clusters(operator: &Operator) -> Told {
    let mut report = Report::rows(&[
        "Cluster Name",
        "Broker Name",
        "BID",
        "Addr",
        "Version",
        "In TPS",
        "Out TPS",
        "Messages Today",
    ]);
    let info = operator.cluster().await.map_err(failed)?;
    for (cluster, names) in &info.cluster_addr_table {
        for name in names {
            let Some(broker) = info.broker_addr_table.get(name) else { continue };
            for (id, addr) in &broker.broker_addrs {
                // One that does not answer is shown all the same.
                let state = runtime_info(operator, addr).await.unwrap_or_default();
                let of = |key: &str| state.get(key).cloned().unwrap_or_default();
                let rate = |key: &str| of(key).split(' ').next().unwrap_or_default().to_owned();
                report.row([
                    cluster.clone().into(),
                    name.clone().into(),
                    (*id).into(),
                    addr.clone().into(),
                    of("brokerVersionDesc").into(),
                    rate("putTps").into(),
                    rate("getTransferredTps").into(),
                    of("msgPutTotalTodayNow").into(),
                ]);
            }
        }
    }
    Ok(report)
}

async fn runtime_info(operator: &Operator, addr: &str) -> Result<BTreeMap<String, String>, Failure> {
    let asked = RemotingCommand::request(request::GET_BROKER_RUNTIME_INFO);
    Ok(operator.read(addr, asked, KvTable::parse).await.map_err(failed)?.table)
}

pub async fn broker_status(operator: &Operator, target: &Target) -> Told {
    let mut report = Report::rows(&["Addr", "Name", "Value"]);
    for addr in target.addresses(operator).await? {
        for (name, value) in runtime_info(operator, &addr).await? {
            report.row([addr.clone().into(), name.into(), value.into()]);
        }
    }
    Ok(report)
}

fn tell_settings(report: &mut Report, addr: &str, body: &[u8]) {
    for (key, value) in hotfire_core::config::properties(&String::from_utf8_lossy(body)) {
        report.row([addr.into(), key.into(), value.into()]);
    }
}

/// Of a slave its own view, of a master a row for each slave that has reported.
pub async fn ha_status(operator: &Operator, target: &Target) -> Told {
    let mut report = Report::rows(&[
        "Addr",
        "Role",
        "Max Offset",
        "In Sync",
        "Peer",
        "Peer Offset",
        "Behind",
        "Bytes In A Second",
        "Last Heard",
    ]);
    for addr in target.addresses(operator).await? {
        let asked = RemotingCommand::request(request::GET_BROKER_HA_STATUS);
        let info = operator.read(&addr, asked, HaRuntimeInfo::parse).await.map_err(failed)?;
        let none = || serde_json::Value::Null;
        if !info.master {
            let own = info.ha_client_runtime_info;
            let heard = own.last_read_timestamp;
            report.row([
                addr.into(),
                "slave".into(),
                own.max_offset.into(),
                own.activated.into(),
                own.master_addr.into(),
                none(),
                none(),
                own.transferred_byte_in_second.into(),
                if heard > 0 { moment::text(heard).into() } else { none() },
            ]);
            continue;
        }
        let max = info.master_commit_log_max_offset;
        if info.ha_connection_info.is_empty() {
            let cells = [addr.clone().into(), "master".into(), max.into(), info.in_sync_slave_nums.into()];
            report.row(cells.into_iter().chain(std::iter::repeat_with(none).take(5)));
        }
        for slave in info.ha_connection_info {
            report.row([
                addr.clone().into(),
                "master".into(),
                max.into(),
                slave.in_sync.into(),
                slave.addr.into(),
                slave.slave_ack_offset.into(),
                slave.diff.into(),
                slave.transferred_byte_in_second.into(),
                none(),
            ]);
        }
    }
    Ok(report)
}

pub async fn broker_config(operator: &Operator, target: &Target) -> Told {
    let mut report = Report::rows(&["Addr", "Setting", "Value"]);
    for addr in target.addresses(operator).await? {
        let asked = RemotingCommand::request(request::GET_BROKER_CONFIG);
        let answer = operator.ask(&addr, asked).await.map_err(failed)?;
        tell_settings(&mut report, &addr, &answer.body.to_bytes());
    }
    Ok(report)
}

pub async fn update_broker_config(operator: &Operator, args: &UpdateBrokerConfig) -> Told {
    let asked = RemotingCommand::request(request::UPDATE_BROKER_CONFIG).with_body(args.setting.line());
    args.target.each(operator, asked, &format!("setting {}", args.setting.key)).await
}

pub async fn name_server_config(operator: &Operator) -> Told {
    let mut report = Report::rows(&["Addr", "Setting", "Value"]);
    let asked = RemotingCommand::request(request::GET_NAMESRV_CONFIG);
    for (addr, answer) in operator.every_name_server(asked).await.map_err(failed)? {
        tell_settings(&mut report, &addr, &answer.body.to_bytes());
    }
    Ok(report)
}

async fn every_name_server(operator: &Operator, asked: RemotingCommand, what: &str) -> Told {
    let mut report = Report::done();
    for (addr, _) in operator.every_name_server(asked).await.map_err(failed)? {
        report.tell(format!("{what}: done at the name server {addr}"));
    }
    Ok(report)
}

pub async fn update_name_server_config(operator: &Operator, args: &Setting) -> Told {
    let asked = RemotingCommand::request(request::UPDATE_NAMESRV_CONFIG).with_body(args.line());
    every_name_server(operator, asked, &format!("setting {}", args.key)).await
}

pub async fn put_kv(operator: &Operator, args: &PutKv) -> Told {
    let Setting { key, value } = &args.setting;
    let header =
        PutKvConfigHeader { namespace: args.namespace.clone(), key: key.clone(), value: value.clone() };
    let asked = RemotingCommand::request(request::PUT_KV_CONFIG).with_header(&header);
    every_name_server(operator, asked, &format!("{} {key}", args.namespace)).await
}

pub async fn delete_kv(operator: &Operator, args: &DeleteKv) -> Told {
    let header = DeleteKvConfigHeader { namespace: args.namespace.clone(), key: args.key.clone() };
    let asked = RemotingCommand::request(request::DELETE_KV_CONFIG).with_header(&header);
    every_name_server(operator, asked, &format!("delete {} {}", args.namespace, args.key)).await
}

pub async fn wipe_write_perm(operator: &Operator, args: &BrokerName) -> Told {
    let header = WipeWritePermHeader { broker_name: args.broker_name.clone() };
    let asked = RemotingCommand::request(request::WIPE_WRITE_PERM_OF_BROKER).with_header(&header);
    let mut report = Report::rows(&["Name Server", "Topics"]);
    for (addr, answer) in operator.every_name_server(asked).await.map_err(failed)? {
        let told: WipeWritePermResponse = answer.header().map_err(|error| Failure::Run(error.into()))?;
        report.row([addr.into(), told.wipe_topic_count.into()]);
    }
    Ok(report)
}

pub async fn add_write_perm(operator: &Operator, args: &BrokerName) -> Told {
    let header = AddWritePermHeader { broker_name: args.broker_name.clone() };
    let asked = RemotingCommand::request(request::ADD_WRITE_PERM_OF_BROKER).with_header(&header);
    let mut report = Report::rows(&["Name Server", "Topics"]);
    for (addr, answer) in operator.every_name_server(asked).await.map_err(failed)? {
        let told: AddWritePermResponse = answer.header().map_err(|error| Failure::Run(error.into()))?;
        report.row([addr.into(), told.add_topic_count.into()]);
    }
    Ok(report)
}

pub async fn clean_queues(operator: &Operator, target: &Target) -> Told {
    let asked = RemotingCommand::request(request::CLEAN_EXPIRED_CONSUMEQUEUE);
    target.each(operator, asked, "clean queue files").await
}

pub async fn clean_topics(operator: &Operator, target: &Target) -> Told {
    let asked = RemotingCommand::request(request::CLEAN_UNUSED_TOPIC);
    target.each(operator, asked, "clean queues without a topic").await
}

pub async fn delete_log(operator: &Operator, target: &Target) -> Told {
    let asked = RemotingCommand::request(request::DELETE_EXPIRED_COMMITLOG);
    target.each(operator, asked, "delete expired CommitLog files").await
}

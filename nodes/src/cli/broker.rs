//! `hotfire broker`: a broker.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use hotfire_core::broker::Broker;
use hotfire_core::store::{commit_log_dirs, moved_dirs};
use hotfire_runtime::TokioRuntime;

use super::{not_started, path_text};
use crate::config_file;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::signals::Signals;

#[derive(clap::Args)]
pub struct Args {
    /// Settings, as Java's broker.conf
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name servers
    #[arg(short, long, value_name = "ADDR;ADDR", value_parser = super::name_servers)]
    namesrv: Option<String>,
    /// Data directory (storePathRootDir)
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen [default: 0.0.0.0:10911]
    #[arg(long, value_name = "HOST:PORT", value_parser = super::listen_addr)]
    listen: Option<SocketAddr>,
    /// One setting, over what the file says; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints all settings and where they come from, and ends
    #[arg(short, long)]
    print_config: bool,
}

pub async fn run(args: Args) -> Outcome {
    let mut config = config_file::broker(args.config.as_deref())?;
    config_file::set_all(&mut config, &args.set)?;
    if let Some(list) = &args.namesrv {
        config.set("namesrvAddr", list).map_err(Failure::usage)?;
    }
    if let Some(dir) = &args.data {
        let (store, dir) = (config.store.clone(), path_text(dir)?);
        for (key, dirs) in [
            ("storePathCommitLog", store.commit_log_dirs),
            ("readOnlyCommitLogStorePaths", store.read_only_commit_log_dirs),
        ] {
            let dirs = commit_log_dirs(&dirs);
            if !dirs.is_empty() {
                let dirs = moved_dirs(dirs, &store.root, dir).join(",");
                config.set(key, &dirs).map_err(Failure::usage)?;
            }
        }
        config.set("storePathRootDir", dir).map_err(Failure::usage)?;
    }
    if let Some(addr) = args.listen {
        config.set_listen(addr);
    }
    if args.print_config {
        config_file::print(&config.settings());
        return Ok(());
    }
    let signals = Signals::catch().context("catch signals")?;
    let rt = TokioRuntime::new(".");
    let id = config.identity.id;
    let root = config.store.root.clone();
    let started = Broker::start(rt, config).await;
    let broker = started.map_err(|error| not_started(error, &root, args.config.as_deref()))?;
    output::line(format!("ready: broker {} id {id} {}", broker.name(), broker.local_addr()));
    signals.stop().await;
    tracing::info!("stopping");
    broker.stop().await.context("stop the broker")?;
    Ok(())
}

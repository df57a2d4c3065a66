//! `hotfire namesrv`: a name server.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use hotfire_core::name_server::NameServer;
use hotfire_runtime::TokioRuntime;

use crate::config_file;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::signals::Signals;

#[derive(clap::Args)]
pub struct Args {
    /// Where to listen [default: 0.0.0.0:9876]
    #[arg(long, value_name = "HOST:PORT", value_parser = super::listen_addr)]
    listen: Option<SocketAddr>,
    /// Settings, as Java's namesrv.conf
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that relative paths in settings start from
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// One setting, over what the file says; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints all settings and where they come from, and ends
    #[arg(short, long)]
    print_config: bool,
}

pub async fn run(args: Args) -> Outcome {
    let mut config = config_file::name_server(args.config.as_deref())?;
    for text in &args.set {
        let (key, value) = config_file::key_value(text)?;
        config.set(key, value).map_err(Failure::usage)?;
    }
    if let Some(addr) = args.listen {
        config.set_listen(addr);
    }
    if args.print_config {
        config_file::print(&config.settings());
        return Ok(());
    }
    let signals = Signals::catch().context("catch signals")?;
    let rt = TokioRuntime::new(args.data);
    let server = NameServer::start(rt, config).await.context("start the name server")?;
    output::line(format!("ready: namesrv {}", server.local_addr()));
    signals.stop().await;
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

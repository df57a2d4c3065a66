//! The command line: one file per command.

mod admin;
mod bench;
mod broker;
mod completions;
mod consume;
mod moment;
mod namesrv;
mod produce;
mod standalone;
mod store;

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::{Parser, Subcommand};
use hotfire_core::broker::StartError;

use crate::failure::{Failure, Outcome};
use crate::logging::{self, LogFormat};

const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("HOTFIRE_COMMIT"), ", features: tokio, mmap)");

/// Message broker that speaks the protocol of Apache RocketMQ
#[derive(Parser)]
#[command(name = "hotfire", version = VERSION)]
struct Cli {
    /// How logs on stderr look; what they show is chosen by RUST_LOG
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
    /// Threads that do the work [default: one per core]
    #[arg(long, global = true, value_name = "N")]
    threads: Option<NonZero<usize>>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name server and one broker in one process
    Standalone(standalone::Args),
    /// Name server
    Namesrv(namesrv::Args),
    /// Broker
    Broker(broker::Args),
    /// Sends lines of a file or of stdin as messages
    Produce(produce::Args),
    /// Prints messages
    Consume(consume::Args),
    /// Looks after topics, groups, brokers and name servers, by mqadmin's commands
    Admin(admin::Args),
    /// Measures any broker that speaks this protocol
    #[command(subcommand)]
    Bench(bench::Command),
    /// Looks into a data directory
    #[command(subcommand)]
    Store(store::Command),
    /// Prints the completion script of a shell
    Completions(completions::Args),
}

impl Command {
    /// Servers tell what happens to them; the others speak up only when something is wrong.
    fn log_level(&self) -> &'static str {
        match self {
            Command::Standalone(_) | Command::Namesrv(_) | Command::Broker(_) => "info",
            _ => "warn",
        }
    }
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    logging::start(cli.log_format, cli.command.log_level());
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Outcome {
    let threads = cli.threads;
    match cli.command {
        Command::Standalone(args) => on_executor(threads, with_open_files(standalone::run(args))),
        Command::Namesrv(args) => on_executor(threads, with_open_files(namesrv::run(args))),
        Command::Broker(args) => on_executor(threads, with_open_files(broker::run(args))),
        Command::Produce(args) => on_executor(threads, produce::run(args)),
        Command::Consume(args) => on_executor(threads, consume::run(args)),
        Command::Admin(args) => on_executor(threads, admin::run(args)),
        Command::Bench(command) => on_executor(threads, bench::run(command)),
        Command::Store(command) => on_executor(threads, store::run(command)),
        Command::Completions(args) => {
            completions::run(args);
            Ok(())
        }
    }
}

/// A log of a thousand files and as many connections needs more than most systems give a process that does not ask.
async fn with_open_files(node: impl Future<Output = Outcome>) -> Outcome {
    match hotfire_runtime::raise_open_files_limit() {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "raise the limit of open files"),
    }
    node.await
}

/// Why a broker with the data folder `root` and the settings in `file` does not start, and what tells more of it.
fn not_started(error: StartError, root: &str, file: Option<&Path>) -> anyhow::Error {
    if !matches!(&error, StartError::Store(why) if why.is_damage()) {
        return anyhow::Error::from(error).context("start the broker");
    }
    let settings = file.map_or(String::new(), |file| format!(" -c {}", file.display()));
    anyhow!("start the broker: {error}; nothing was changed, more by: hotfire store check {root}{settings}")
}

fn on_executor(threads: Option<NonZero<usize>>, command: impl Future<Output = Outcome>) -> Outcome {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.get());
    }
    let executor = builder.enable_all().build().context("start the threads")?;
    executor.block_on(command)
}

/// A path as a setting: settings are text.
fn path_text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::Usage(anyhow!("{}: not UTF-8", path.display())))
}

/// `HOST:PORT` to listen on; port 0 takes a free one.
fn listen_addr(text: &str) -> Result<SocketAddr, String> {
    let mut addrs = text.to_socket_addrs().map_err(|error| format!("expected HOST:PORT: {error}"))?;
    addrs.next().ok_or_else(|| "the name has no address".to_owned())
}

/// `HOST:PORT;HOST:PORT`; commas do as well.
fn name_servers(text: &str) -> Result<String, String> {
    let list: Vec<&str> = text.split([';', ',']).map(str::trim).filter(|addr| !addr.is_empty()).collect();
    for addr in &list {
        let port = addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(format!("expected HOST:PORT, found {addr}"));
        }
    }
    if list.is_empty() {
        return Err("expected HOST:PORT".to_owned());
    }
    Ok(list.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn name_servers_are_lists_of_host_and_port() {
        assert_eq!(name_servers("a:1; b:2,c:3").as_deref(), Ok("a:1;b:2;c:3"));
        assert!(name_servers("a").is_err());
        assert!(name_servers(";").is_err());
    }
}

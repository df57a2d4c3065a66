//! `hotfire store`: a look into a data directory while no broker runs on it.

mod check;
mod dump;

use std::path::{Path, PathBuf};

use hotfire_core::config::BrokerConfig;
use hotfire_core::store::index::Geometry;
use hotfire_core::store::{StoreConfig, commit_log_dirs, moved_dirs};

use super::path_text;
use crate::config_file;
use crate::failure::{Failure, Outcome};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Says what recovery would do and what is damaged; changes nothing without --repair
    Check(check::Args),
    /// Shows records, queue entries, index entries, checkpoint and settings
    Dump(dump::Args),
}

/// Which directory.
#[derive(clap::Args)]
struct Place {
    /// Data directory of a broker, ours or Java's
    dir: PathBuf,
    /// Settings of its broker, as Java's broker.conf
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    fn dir(&self) -> Result<&str, Failure> {
        path_text(&self.dir)
    }

    /// The settings with which the directory was written, as far as the file says. What it says of folders below the data
    /// directory is taken for where that is now.
    fn store_config(&self) -> Result<StoreConfig, Failure> {
        let dir = self.dir()?;
        let Some(file) = &self.config else { return Ok(StoreConfig::new(dir)) };
        let BrokerConfig { store: settings, index, delay, .. } = config_file::broker(Some(Path::new(file)))?;
        let dirs = |setting: &str| moved_dirs(commit_log_dirs(setting), &settings.root, dir);
        Ok(StoreConfig {
            commit_log_dirs: dirs(&settings.commit_log_dirs),
            read_only_commit_log_dirs: dirs(&settings.read_only_commit_log_dirs),
            commit_log_file_bytes: settings.commit_log_file_bytes,
            consume_queue_file_bytes: settings.consume_queue_file_bytes,
            record_crc: settings.record_crc,
            delay_levels_ms: delay.levels.ms().to_vec(),
            index: index.enabled,
            index_geometry: Geometry { slots: index.slots, entries: index.entries },
            ..StoreConfig::new(dir)
        })
    }
}

pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Check(args) => check::run(args).await,
        Command::Dump(args) => dump::run(args).await,
    }
}

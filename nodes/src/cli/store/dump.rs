//! `hotfire store dump`: what is in the files, a line each.

use std::io::{ErrorKind, Write};
use std::ops::ControlFlow;

use anyhow::Context;
use hotfire_core::store::dump::{Filter, Line, Part, RecordLine, dump};
use hotfire_runtime::TokioRuntime;

use super::Place;
use crate::cli::moment;
use crate::failure::Outcome;

/// A body in a line for people is cut here.
const BODY_CHARS_MAX: usize = 60;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Records and queue entries of this topic only
    #[arg(short, long)]
    topic: Option<String>,
    /// Records and index entries from this offset of the log on, in bytes; queue entries from this queue offset on
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// Lines at most, of each part
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// What is shown, as in records,queues
    #[arg(long, value_enum, value_delimiter = ',', default_value = "records")]
    show: Vec<Show>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Show {
    Records,
    Queues,
    Index,
    Checkpoint,
    Config,
    /// All of them
    All,
}

impl Show {
    fn parts(self) -> &'static [Part] {
        match self {
            Show::Records => &[Part::Records],
            Show::Queues => &[Part::Queues],
            Show::Index => &[Part::Index],
            Show::Checkpoint => &[Part::Checkpoint],
            Show::Config => &[Part::Config],
            Show::All => &[Part::Records, Part::Queues, Part::Index, Part::Checkpoint, Part::Config],
        }
    }
}

pub async fn run(args: Args) -> Outcome {
    let dir = args.place.dir()?;
    let base = args.place.store_config()?;
    let parts: Vec<Part> = args.show.iter().flat_map(|show| show.parts()).copied().collect();
    let filter = Filter { topic: args.topic, from: args.from, count: args.count };
    let mut out = std::io::BufWriter::new(std::io::stdout());
    let mut failed = None;
    let rt = TokioRuntime::new(".");
    let dumped = dump(&rt, dir, &base, &parts, &filter, |line| {
        let written = match &line {
            // It is none of what was asked for: whoever reads our lines counts them.
            Line::Damaged { file, at, why } => {
                let flushed = out.flush();
                eprintln!("{file}: at {at}: {why}");
                flushed
            }
            line if args.json => {
                serde_json::to_writer(&mut out, line).map_err(Into::into).and_then(|()| out.write_all(b"\n"))
            }
            line => writeln!(out, "{}", text(line)),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    dumped.await.context("show the directory")?;
    match failed.or(out.flush().err()) {
        // The reader has seen enough.
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("write to stdout")?,
        _ => Ok(()),
    }
}

fn text(line: &Line<'_>) -> String {
    match line {
        Line::Record(record) => record_text(record),
        Line::QueueEntry { topic, queue, offset, at, size, tags_code } => {
            format!("{topic} {queue} offset {offset}: at {at}, {size} bytes, tags code {tags_code}")
        }
        Line::IndexEntry { file, entry, key_hash, at, stored_ms, previous } => {
            let stored = moment::text(*stored_ms);
            format!("{file} entry {entry}: hash {key_hash}, at {at}, {stored}, before it {previous}")
        }
        Line::Checkpoint { physic_ms, logic_ms, index_ms, .. } => {
            let [physic, logic, index] = [physic_ms, logic_ms, index_ms].map(|ms| moment::text(*ms));
            format!("checkpoint: log {physic}, queues {logic}, index {index}")
        }
        Line::Config { file, value } => format!("config/{file}: {value}"),
        Line::Damaged { file, at, why } => format!("{file}: at {at}: {why}"),
    }
}

fn record_text(record: &RecordLine<'_>) -> String {
    let mut text = format!(
        "{} {} {} offset {} {} bytes {}",
        record.at,
        record.topic,
        record.queue,
        record.offset,
        record.size,
        moment::text(record.stored_ms)
    );
    for (name, value) in [("tag", record.tag), ("keys", record.keys), ("id", record.msg_id)] {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {}", value.escape_debug()));
        }
    }
    let body: String = record.body.chars().take(BODY_CHARS_MAX).collect();
    let more = if body.len() < record.body.len() { "…" } else { "" };
    text.push_str(&format!(" body {} bytes {}{more}", record.body_bytes, body.escape_debug()));
    text
}

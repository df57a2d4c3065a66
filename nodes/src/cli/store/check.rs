//! `hotfire store check`: what recovery would do, and what is damaged; with `--repair` it is done.

use anyhow::{Context, anyhow};
use hotfire_core::store::check::{CheckReport, Repaired, Verdict, check, repair};
use hotfire_runtime::TokioRuntime;

use super::Place;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::table;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// One JSON object instead of the tables
    #[arg(long)]
    json: bool,
    /// Makes the directory what a start would make of it; prints what it did, or why it does nothing
    #[arg(long)]
    repair: bool,
}

pub async fn run(args: Args) -> Outcome {
    let dir = args.place.dir()?;
    let base = args.place.store_config()?;
    let rt = TokioRuntime::new(".");
    let (report, refused) = if args.repair {
        let index_form_is_known = args.place.config.is_some();
        let Repaired { done, refused, report } =
            repair(&rt, dir, &base, index_form_is_known).await.context("repair the directory")?;
        for line in &done {
            // With --json stdout is one object.
            if args.json { eprintln!("{line}") } else { output::line(line) }
        }
        (report, refused)
    } else {
        (check(&rt, dir, &base).await.context("check the directory")?, Vec::new())
    };
    if args.json {
        let line = serde_json::to_string(&report).context("write the report")?;
        output::line(line);
    } else {
        print_tables(&report);
    }
    if !refused.is_empty() {
        return Err(Failure::Run(anyhow!(
            "{dir}: not repaired, nothing was changed: {}",
            refused.join("; ")
        )));
    }
    if report.verdict == Verdict::Damaged {
        return Err(Failure::Run(anyhow!("{dir}: damaged")));
    }
    Ok(())
}

fn print_tables(report: &CheckReport) {
    let log = &report.commit_log;
    let index = &report.index;
    let verdict = match report.verdict {
        Verdict::Clean => "clean",
        Verdict::Recoverable => "recoverable: the next start makes it whole",
        Verdict::Damaged => "damaged",
    };
    let rows = [
        ("verdict", verdict.to_owned()),
        ("stopped in order", if report.clean_shutdown { "yes" } else { "no" }.to_owned()),
        ("log from", log.min.to_string()),
        ("log to", log.max.to_string()),
        ("records", log.records.to_string()),
        ("index files", index.files.to_string()),
        ("index entries", index.entries.to_string()),
    ];
    for (name, value) in rows {
        output::line(format!("{name}: {value}"));
    }
    for note in &report.notes {
        output::line(note);
    }
    if !report.queues.is_empty() {
        let mut queues = table::with_headings(&["topic", "queue", "min", "max", "entries"]);
        for queue in &report.queues {
            queues.add_row([
                queue.topic.clone(),
                queue.queue.to_string(),
                queue.min.to_string(),
                queue.max.to_string(),
                queue.entries.to_string(),
            ]);
        }
        output::line(queues);
    }
    for damage in &log.damaged {
        output::line(format!("log at {}: {}", damage.at, damage.why));
    }
    for queue in &report.queues {
        for problem in &queue.problems {
            output::line(format!("queue {} of {}: {problem}", queue.queue, queue.topic));
        }
    }
    for problem in &index.problems {
        output::line(format!("index: {problem}"));
    }
    for (file, state) in report.config.iter().filter(|(_, state)| state.as_str() != "ok") {
        output::line(format!("config/{file}: {state}"));
    }
}

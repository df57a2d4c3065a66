//! `hotfire-sim`: the simulator's command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hotfire_scenarios::command::{mutants, run, shrink, sweep, twice, view};
use hotfire_scenarios::report::EXIT_USAGE;

/// Runs the cluster in a simulator, breaks it on purpose, and checks its promises.
///
/// Exit codes: 0 every promise held, 2 usage, 10 a promise was broken, 11 no progress after the faults ended, 12 the code
/// under test panicked, 13 two runs of one seed differ.
#[derive(Parser)]
#[command(name = "hotfire-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Scenarios, one a line, the name first.
    List {
        #[arg(long)]
        json: bool,
    },
    /// One run; a failure's plan is kept in `failures/`.
    Run(run::Arguments),
    /// Many seeds on all cores.
    Sweep(sweep::Arguments),
    /// Runs a recorded plan; says when it now comes to something else.
    Replay(run::ReplayArguments),
    /// The smallest plan that breaks the same promise.
    Shrink(shrink::Arguments),
    /// Runs one seed in two fresh processes and compares what happened.
    Twice(twice::Arguments),
    /// Plants each known bug in turn and counts the seeds until it is found.
    Mutants(mutants::Arguments),
    /// Runs a plan and writes what happened as a page for a browser.
    View(view::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::List { json } => run::list(json),
        Command::Run(arguments) => run::run(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments),
        Command::Replay(arguments) => run::replay(&arguments),
        Command::Shrink(arguments) => shrink::shrink(&arguments),
        Command::Twice(arguments) => twice::twice(&arguments),
        Command::Mutants(arguments) => mutants::mutants(&arguments),
        Command::View(arguments) => view::view(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hotfire-sim: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

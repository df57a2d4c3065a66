//! `hotfire completions`: the completion script of a shell.

use clap::CommandFactory;
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct Args {
    shell: Shell,
}

pub fn run(args: Args) {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "hotfire", &mut std::io::stdout());
}

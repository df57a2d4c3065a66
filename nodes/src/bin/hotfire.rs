//! The `hotfire` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    hotfire_nodes::main()
}

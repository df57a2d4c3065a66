//! What an application does with a client all its life: delays, retries, order, filters, pulling, requests with replies.
//!
//! Each client's program runs its parts side by side, holds every message against what was sent, and says of each part how many.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hotfire_tests::Node;

use super::clients::Tools;
use super::{UNHURRIED, compare, path, table};

/// The parts wait for one another's processors, and some for a delay of several seconds.
const PATIENCE: Duration = Duration::from_secs(300);
const SETTINGS: &str = "messageDelayLevel=1s 2s 1s 1s 1s 3s\nenablePropertyFilter=true\n";
/// To this broker no message is in memory, so that a new group begins where it says.
const COLD_SETTINGS: &str = "accessMessageInMemoryMaxRatio=0\n";

struct Served {
    name_server: Node,
    broker: Node,
}

impl Served {
    fn start(program: &Path, dir: &Path, name: &str, settings: &str) -> Result<Served> {
        let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
        let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
        let (file, data) = (dir.join(format!("{name}.conf")), dir.join(name));
        std::fs::write(&file, format!("{settings}{UNHURRIED}"))?;
        let words =
            ["broker", "-c", path(&file)?, "-n", &address, "--listen", "127.0.0.1:0", "--data", path(&data)?];
        Ok(Served { broker: Node::start(program, "broker", &words, dir)?, name_server })
    }

    fn address(&self) -> &str {
        self.name_server.address("namesrv").expect("it was there at the start")
    }

    fn stop(self) -> Result<()> {
        for node in [self.broker, self.name_server] {
            let status = node.stop(Duration::from_secs(20))?;
            ensure!(status.success(), "a node stopped with {status}");
        }
        Ok(())
    }
}

/// Runs the client's parts, which must be those of `parts`.
///
/// # Errors
/// All parts that failed, with why.
pub fn of_an_application(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let served = Served::start(program, dir, "life", SETTINGS)?;
    let cold = Served::start(program, dir, "life-cold", COLD_SETTINGS)?;
    let told = dir.join("life.jsonl");
    tools.run(&["life", served.address(), cold.address(), path(&told)?], dir, PATIENCE)?;
    held(tools, &told)?;
    cold.stop()?;
    served.stop()
}

fn held(tools: &Tools, told: &Path) -> Result<()> {
    let mut parts = BTreeMap::new();
    for line in compare::lines(told)? {
        let part = line["part"].as_str().with_context(|| format!("no part in {line}"))?.to_owned();
        ensure!(parts.insert(part, line.clone()).is_none(), "two lines of one part: {line}");
    }
    let mut failed = Vec::new();
    for part in tools.life {
        let Some(line) = parts.remove(*part) else {
            failed.push(format!("{part} said nothing"));
            continue;
        };
        match (&line["error"], line["messages"].as_i64()) {
            (error, Some(messages)) if error.is_null() && messages > 0 => {
                println!("interop {}: {part}: {messages} messages in {} ms", tools.name, line["ms"]);
                table::shown(part, &tools.name);
            }
            (error, _) => failed.push(format!("{part}: {error}")),
        }
    }
    ensure!(parts.is_empty(), "parts that nobody knows: {:?}", parts.keys());
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

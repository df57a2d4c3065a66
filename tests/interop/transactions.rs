//! Transactions of the original producers: each comes to the end that its producers say, at once or when they are asked.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotfire_tests::Node;

use super::clients::Tools;
use super::{compare, path};

const MESSAGES: i64 = 40;
/// Seconds in which the broker has asked about everything several times.
const ASKED_SECONDS: &str = "6";
/// Seconds in which what is visible comes to a consumer, however busy the machine is.
const VISIBLE_SECONDS: &str = "60";
/// Seconds in which what should not be visible would come to the next one.
const HIDDEN_SECONDS: &str = "4";
const SETTINGS: &str = "transactionTimeOut=1000\ntransactionCheckInterval=500\n";

/// # Errors
/// The first transaction that did not come to its end.
pub fn come_to_their_ends(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
    let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
    let (settings, data) = (dir.join("transactions.conf"), dir.join("transactions"));
    std::fs::write(&settings, SETTINGS)?;
    let words =
        ["broker", "-c", path(&settings)?, "-n", &address, "--listen", "127.0.0.1:0", "--data", path(&data)?];
    let broker = Node::start(program, "broker", &words, dir)?;

    let (count, told) = (MESSAGES.to_string(), dir.join("transact.jsonl"));
    let transact = ["transact", &address, "InteropTransactions", &count, ASKED_SECONDS, path(&told)?];
    tools.run(&transact, dir, Duration::from_secs(90))?;
    let asked = asked(&told)?;
    ensure!(asked == (0..MESSAGES).filter(|index| index % 4 > 1).collect(), "asked about {asked:?}");
    only_committed(tools, &address, "InteropTransactions", dir)?;

    // Another producer of the group answers for one that is gone.
    let (left, told) = (dir.join("leave.jsonl"), dir.join("answer.jsonl"));
    tools.run(&["leave", &address, "InteropLeft", &count, path(&left)?], dir, Duration::from_secs(60))?;
    let answer = ["answer", &address, "InteropLeft", ASKED_SECONDS, path(&told)?];
    tools.run(&answer, dir, Duration::from_secs(90))?;
    let asked = self::asked(&told)?;
    ensure!(asked == (0..MESSAGES).collect(), "asked about {asked:?}");
    only_committed(tools, &address, "InteropLeft", dir).context("after their producer was gone")?;

    for node in [broker, name_server] {
        let status = node.stop(Duration::from_secs(20))?;
        ensure!(status.success(), "a node stopped with {status}");
    }
    Ok(())
}

/// The messages that producers were asked about.
fn asked(told: &Path) -> Result<BTreeSet<i64>> {
    let lines = compare::lines(told)?;
    let asked = lines.iter().filter(|line| line["what"] == "asked");
    asked.map(|line| compare::number(line, "index")).collect()
}

/// Every second message is visible, whole, and no other.
fn only_committed(tools: &Tools, name_server: &str, topic: &str, dir: &Path) -> Result<()> {
    let committed: BTreeSet<i64> = (0..MESSAGES).filter(|index| index % 2 == 0).collect();
    let consume = |count: usize, seconds, out: &Path| {
        let count = count.to_string();
        let words = ["consume", name_server, topic, "interop-committed", &count, seconds, path(out)?];
        tools.run(&words, dir, Duration::from_secs(120))
    };
    let (received, more) = (dir.join(format!("{topic}.jsonl")), dir.join(format!("{topic}-more.jsonl")));
    consume(committed.len(), VISIBLE_SECONDS, &received)?;
    consume(1, HIDDEN_SECONDS, &more)?;
    let mut seen = BTreeSet::new();
    for line in compare::lines(&received)?.into_iter().chain(compare::lines(&more)?) {
        let user = line["user"].as_str().and_then(|index| index.parse::<i64>().ok());
        let index = user.with_context(|| format!("no index in {line}"))?;
        for (field, value) in compare::expected(index) {
            ensure!(line[field] == value, "message {index}: {field}: sent {value}, got {}", line[field]);
        }
        ensure!(line["topic"] == topic, "message {index} shows the topic {}", line["topic"]);
        seen.insert(index);
    }
    ensure!(seen == committed, "visible are {seen:?}");
    Ok(())
}

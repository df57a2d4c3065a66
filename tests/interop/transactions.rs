//! Transactions of the original producers: each comes to the end that its producers say, at once or when they are asked.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotfire_tests::Node;

use super::clients::Tools;
use super::{UNHURRIED, clients, compare, enough, path};

const MESSAGES: i64 = 40;
/// In which the broker has asked about everything, however busy the machine is: the Go client makes itself known a second after
/// its start, and if it had nothing to say then, 30 seconds later.
const PATIENCE: Duration = Duration::from_secs(90);
/// Longer than all patience here.
const STAYED_SECONDS: &str = "300";
/// Seconds in which what is visible comes to a consumer, however busy the machine is.
const VISIBLE_SECONDS: &str = "60";
/// Seconds in which what should not be visible would come to the next one.
const HIDDEN_SECONDS: &str = "4";
/// What its producer ends at once is ended before it is asked about, and no question is the last while nobody is there to answer.
const SETTINGS: &str = "transactionTimeOut=3000\ntransactionCheckInterval=500\ntransactionCheckMax=1000\n";

/// # Errors
/// The first transaction that did not come to its end.
pub fn come_to_their_ends(tools: &Tools, program: &Path, dir: &Path) -> Result<()> {
    let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
    let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
    let (settings, data) = (dir.join("transactions.conf"), dir.join("transactions"));
    std::fs::write(&settings, format!("{SETTINGS}{UNHURRIED}"))?;
    let words =
        ["broker", "-c", path(&settings)?, "-n", &address, "--listen", "127.0.0.1:0", "--data", path(&data)?];
    let broker = Node::start(program, "broker", &words, dir)?;

    let (count, told) = (MESSAGES.to_string(), dir.join("transact.jsonl"));
    let transact = ["transact", &address, "InteropTransactions", &count, STAYED_SECONDS, path(&told)?];
    let open = (0..MESSAGES).filter(|index| index % 4 > 1).collect();
    all_are_ended(tools, &transact, &open, dir)?;

    // Another producer of the group answers for one that is gone.
    let (left, told) = (dir.join("leave.jsonl"), dir.join("answer.jsonl"));
    tools.run(&["leave", &address, "InteropLeft", &count, path(&left)?], dir, Duration::from_secs(60))?;
    let answer = ["answer", &address, "InteropLeft", STAYED_SECONDS, path(&told)?];
    all_are_ended(tools, &answer, &(0..MESSAGES).collect(), dir).context("after their producer was gone")?;

    for node in [broker, name_server] {
        let status = node.stop(Duration::from_secs(20))?;
        ensure!(status.success(), "a node stopped with {status}");
    }
    Ok(())
}

/// Starts a producer that stays until what it commits is visible, and is asked about the messages in `open`.
fn all_are_ended(tools: &Tools, words: &[&str], open: &BTreeSet<i64>, dir: &Path) -> Result<()> {
    let (name_server, topic) = (words[1], words[2]);
    let out = words.last().context("where it tells of its work")?;
    let told = Path::new(out);
    let mut producer = tools.start(words, dir)?;
    let all_asked =
        hotfire_tests::wait_until(PATIENCE, || asked(told).is_ok_and(|asked| asked.is_superset(open)));
    let outcome = if all_asked { only_committed(tools, name_server, topic, dir) } else { Ok(()) };
    enough(out)?;
    let status = clients::wait(&mut producer, PATIENCE).context(words[0].to_owned())?;
    ensure!(status.success(), "{} ended with {status}", words[0]);
    let asked = asked(told)?;
    ensure!(asked == *open, "asked about {asked:?}");
    outcome
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

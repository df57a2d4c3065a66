//! `mqadmin` of Java 4.9.7 and 5.4.0 against our nodes: each command is run, what it prints is held to what it must say, and where it
//! changes something, the change is looked for.
//!
//! Left out: `startMonitoring` and `clusterRT`, which do not end. The commands for access control are held to the refusal of a
//! broker that has none.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hotfire_tests::java::{self, Jars, find_program, run_checked};
use hotfire_tests::{Node, project_dir, target_dir};

use super::path;

mod five;

/// The two lines of releases; a command that only one has, or that says it otherwise there, is told by [`Admin::is_five`].
const VERSIONS: [&str; 2] = ["4.9.7", "5.4.0"];
const MESSAGES: usize = 20;
/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long what a command must say may need to become true; a Java client that has missed a change looks again after 20 s.
const SETTLED: Duration = Duration::from_secs(30);
/// What a command prints that has failed.
const FAILED: [&str; 4] = ["Exception:", "\tat ", "command failed", "usage: mqadmin"];

/// # Errors
/// What is missing.
pub fn prepare() -> Result<()> {
    let javac = find_program("javac").context("no JDK")?;
    for version in VERSIONS {
        let (jars, classes) = (java::jars(version, Jars::Tools)?, classes(version));
        std::fs::create_dir_all(&classes)?;
        let mut command = Command::new(&javac);
        command
            .args(["-encoding", "UTF-8", "-cp"])
            .arg(format!("{}/*", jars.display()))
            .arg("-d")
            .arg(classes);
        command.arg(project_dir().join("tests/interop/java/MqAdmin.java"));
        run_checked(&mut command, "compile the runner of mqadmin")?;
    }
    Ok(())
}

fn classes(version: &str) -> std::path::PathBuf {
    target_dir().join("interop").join(format!("mqadmin-{version}"))
}

/// `mqadmin` in one JVM, and the clients that it is asked about.
struct Admin {
    version: &'static str,
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    /// What stands for what in commands and in what they must say.
    names: Vec<(&'static str, String)>,
    commands: std::collections::BTreeSet<String>,
    /// What was not as it must be; the commands behind it are run all the same.
    failures: Vec<String>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Admin {
    fn start(version: &'static str, name_server: &str, dir: &Path) -> Result<Admin> {
        let (java, jars) = (find_program("java").context("no JDK")?, java::jars(version, Jars::Tools)?);
        let home = dir.join("mqadmin");
        std::fs::create_dir_all(home.join("conf"))?;
        let silence = "<configuration><root level=\"OFF\"/></configuration>";
        std::fs::write(home.join("conf/logback_tools.xml"), silence)?;
        let log = std::fs::File::create(dir.join("mqadmin.log"))?;
        let mut child = Command::new(java)
            .args(["-Xmx512m", "-Drocketmq.client.logLevel=ERROR"])
            .arg(format!("-Drocketmq.home.dir={}", home.display()))
            .arg(format!("-Drocketmq.client.logRoot={}", home.display()))
            .arg(format!("-Duser.home={}", home.display()))
            .arg("-cp")
            .arg(format!("{}:{}/*", classes(version).display(), jars.display()))
            .args(["MqAdmin", name_server])
            .current_dir(&home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("start java")?;
        let input = child.stdin.take().context("take the child's stdin")?;
        let stdout = child.stdout.take().context("take the child's stdout")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Admin {
            version,
            child,
            input,
            lines,
            names: Vec::new(),
            commands: std::collections::BTreeSet::new(),
            failures: Vec::new(),
        })
    }

    fn is_five(&self) -> bool {
        self.version.starts_with("5.")
    }

    /// From now on `{name}` stands for `text`.
    fn name(&mut self, name: &'static str, text: impl Into<String>) {
        self.names.push((name, text.into()));
    }

    fn filled(&self, text: &str) -> String {
        let filled = self.names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        assert!(!filled.contains("{x"), "{filled}: a name that stands for nothing");
        filled
    }

    /// What a command prints; its words are separated by single spaces.
    fn say(&mut self, command: &str) -> Result<String> {
        let command = self.filled(command);
        self.commands.extend(command.split(' ').next().map(str::to_owned));
        self.input.write_all(format!("{}\n", command.replace(' ', "\t")).as_bytes())?;
        self.input.flush()?;
        let mut said = String::new();
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == "\u{1}" => return Ok(said),
                Ok(line) => {
                    said.push_str(&line);
                    said.push('\n');
                }
                Err(_) => bail!("{command}: it did not end, or the JVM did; it said:\n{said}"),
            }
        }
    }

    /// Runs a command until what it prints holds each of `holds` and no word of failure; notes the failure when that does not come.
    fn holds(&mut self, command: &str, holds: &[&str]) -> Result<String> {
        let wanted: Vec<String> = holds.iter().map(|text| self.filled(text)).collect();
        self.until(command, |said| {
            if let Some(word) = FAILED.iter().find(|word| said.contains(**word)) {
                return Err(format!("it says {word:?}"));
            }
            match wanted.iter().find(|text| !said.contains(text.as_str())) {
                Some(missing) => Err(format!("it does not say {missing:?}")),
                None => Ok(()),
            }
        })
    }

    /// Runs a command once, which must fail and say why.
    fn refused(&mut self, command: &str, why: &str) -> Result<()> {
        let said = self.say(command)?;
        if !said.contains(why) {
            self.failures.push(format!("{}: expected {why:?}, it said:\n{said}", self.filled(command)));
        }
        Ok(())
    }

    /// Runs a command until `is_good` of what it prints, at most for [`SETTLED`].
    fn until(&mut self, command: &str, is_good: impl Fn(&str) -> Result<(), String>) -> Result<String> {
        let end = Instant::now() + SETTLED;
        loop {
            let said = self.say(command)?;
            match is_good(&said) {
                Ok(()) => return Ok(said),
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(300)),
                Err(why) => {
                    self.failures.push(format!("{}: {why}; it said:\n{said}", self.filled(command)));
                    return Ok(said);
                }
            }
        }
    }
}

/// # Errors
/// The first command that does not say what it must.
pub fn every_command(program: &Path, dir: &Path) -> Result<()> {
    // They mostly wait, and run side by side.
    std::thread::scope(|scope| {
        let runs = VERSIONS.map(|version| {
            scope.spawn(move || {
                let dir = dir.join(version);
                std::fs::create_dir(&dir)?;
                of_version(version, program, &dir).context(version)
            })
        });
        let ends = runs.map(|run| run.join().expect("a run does not panic"));
        let failed: Vec<String> =
            ends.iter().filter_map(|end| end.as_ref().err().map(|why| format!("{why:#}"))).collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    })
}

fn of_version(version: &'static str, program: &Path, dir: &Path) -> Result<()> {
    let name_server = Node::start(program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir)?;
    let address = name_server.address("namesrv").context("the name server's address")?.to_owned();
    let data = dir.join("data");
    let words = ["broker", "-n", &address, "--listen", "127.0.0.1:0", "--data", path(&data)?];
    let words = [&words[..], &["--set", "traceTopicEnable=true"]].concat();
    let broker = Node::start(program, "broker", &words, dir)?;
    let broker_address = broker.address("broker").context("the broker's address")?.to_owned();

    let mut admin = Admin::start(version, &address, dir)?;
    admin.name("{n}", address);
    // The topic that 5.x wants to know beside a message's id.
    admin.name("{ of Ops}", if admin.is_five() { " -t Ops" } else { "" });
    admin.name("{v}", format!("V{}", version.replace('.', "_")));
    admin.name("{b}", broker_address);
    topics(&mut admin).context("topics")?;
    cluster(&mut admin).context("cluster")?;
    clients(&mut admin).context("clients")?;
    messages(&mut admin).context("messages")?;
    traces(&mut admin).context("traces")?;
    exports(&mut admin, dir).context("exports")?;
    offsets(&mut admin).context("offsets")?;
    settings(&mut admin).context("settings")?;
    cleaning(&mut admin).context("cleaning")?;
    match admin.is_five() {
        true => five::commands(&mut admin, dir).context("commands of 5.x")?,
        false => access_control(&mut admin).context("access control")?,
    }
    let failures = &admin.failures;
    ensure!(failures.is_empty(), "{} commands failed:\n{}", failures.len(), failures.join("\n"));
    let commands = admin.commands.iter().filter(|name| !name.starts_with('!')).count();
    println!("interop mqadmin: {commands} commands of {version} said what they must");
    drop(admin);
    for node in [broker, name_server] {
        let status = node.stop(Duration::from_secs(20))?;
        ensure!(status.success(), "a node stopped with {status}");
    }
    Ok(())
}

fn topics(admin: &mut Admin) -> Result<()> {
    admin.holds(
        "updateTopic -n {n} -b {b} -t Ops -r 4 -w 4",
        &["create topic to {b} success.", "readQueueNums=4"],
    )?;
    admin.holds("updateTopic -n {n} -c DefaultCluster -t Doomed", &["create topic to {b} success."])?;
    admin.holds("topicList -n {n}", &["Ops\n", "Doomed\n", "SELF_TEST_TOPIC"])?;
    admin.holds("topicList -n {n} -c", &["#Cluster Name", "DefaultCluster", "Ops"])?;
    let route = ["\"brokerName\":\"broker-a\"", "\"writeQueueNums\":4", "{b}", "\"perm\":6"];
    admin.holds("topicRoute -n {n} -t Ops", &route)?;
    admin.holds("topicClusterList -n {n} -t Ops", &["DefaultCluster"])?;
    admin.holds(
        "updateTopicPerm -n {n} -b {b} -t Ops -p 4",
        &["update topic perm from 6 to 4 in {b} success."],
    )?;
    admin.holds("topicRoute -n {n} -t Ops", &["\"perm\":4"])?;
    admin.holds(
        "updateTopicPerm -n {n} -b {b} -t Ops -p 6",
        &["update topic perm from 4 to 6 in {b} success."],
    )?;
    admin.holds("topicRoute -n {n} -t Ops", &["\"perm\":6"])?;
    let queues = ["\"10.0.0.1\":[", "\"10.0.0.2\":[", "\"queueId\":3"];
    admin.holds("allocateMQ -n {n} -t Ops -i 10.0.0.1,10.0.0.2", &queues)?;
    Ok(())
}

fn cluster(admin: &mut Admin) -> Result<()> {
    admin.holds("clusterList -n {n}", &["#Cluster Name", "DefaultCluster", "broker-a", "{b}", "Hotfire"])?;
    admin.holds("clusterList -n {n} -m", &["#InTotalYest", "DefaultCluster", "broker-a"])?;
    let state =
        ["putTps", "bootTimestamp", "commitLogMaxOffset", "scheduleMessageOffset", "brokerVersionDesc"];
    admin.holds("brokerStatus -n {n} -b {b}", &state[..3])?;
    admin.holds("brokerStatus -n {n} -c DefaultCluster", &[state[0], state[4]])?;
    Ok(())
}

fn clients(admin: &mut Admin) -> Result<()> {
    admin.holds(
        "updateSubGroup -n {n} -b {b} -g OpsGroup -r 7",
        &["create subscription group to {b} success."],
    )?;
    admin.holds("getConsumerConfig -n {n} -g OpsGroup", &["OpsGroup", "retryMaxTimes", "7"])?;
    let client = admin.say("!consume OpsGroup Ops")?;
    admin.name("{client}", client.trim().to_owned());
    let sent = admin.say(&format!("!produce OpsProducer Ops {MESSAGES}"))?;
    let first: Vec<String> = sent.lines().next().unwrap_or_default().split(' ').map(str::to_owned).collect();
    let [unique, offset_id, queue] = first.as_slice() else { bail!("the producer said {sent}") };
    admin.name("{unique}", unique.clone());
    admin.name("{offset-id}", offset_id.clone());
    admin.name("{queue}", queue.clone());
    consumed(admin, MESSAGES)?;

    admin.until("topicStatus -n {n} -t Ops", |said| {
        let rows = said.lines().filter(|line| line.starts_with("broker-a"));
        let ends: Vec<&str> = rows.filter_map(|line| line.split_whitespace().nth(3)).collect();
        if ends == ["5"; 4] { Ok(()) } else { Err(format!("the queues end at {ends:?}")) }
    })?;
    let progress = ["Ops", "broker-a", "Consume TPS:", "Diff Total: 0"];
    admin.holds("consumerProgress -n {n} -g OpsGroup", &progress)?;
    admin.holds("consumerProgress -n {n}", &["#Group", "OpsGroup", "PUSH", "CLUSTERING"])?;
    let online = [
        "{client}",
        "JAVA",
        "ConsumeType: CONSUME_PASSIVELY",
        "MessageModel: CLUSTERING",
        "Ops                  *",
    ];
    admin.holds("consumerConnection -n {n} -g OpsGroup", &online)?;
    admin.holds("producerConnection -n {n} -g OpsProducer -t Ops", &["OpsProducer", "JAVA", "{v}"])?;
    admin.holds("producer -n {n} -b {b}", &["OpsProducer"])?;
    admin.holds("consumerStatus -n {n} -g OpsGroup", &["{client}", "{v}", "Rebalance OK"])?;
    let info = ["#Consumer Properties#", "PROP_NAMESERVER_ADDR", "#Consumer MQ Detail#", "Ops"];
    admin.holds("consumerStatus -n {n} -g OpsGroup -i {client}", &info)?;
    admin.holds("consumerStatus -n {n} -g OpsGroup -i {client} -s true", &["#Consumer jstack#", "TID:"])?;
    admin.holds("statsAll -n {n} -t Ops", &["#Topic", "Ops", "OpsGroup"])?;
    admin.holds("brokerConsumeStats -n {n} -b {b}", &["#Topic", "OpsGroup", "Diff Total: 0"])?;
    Ok(())
}

/// Waits until the consumer has seen so many messages.
fn consumed(admin: &mut Admin, count: usize) -> Result<()> {
    admin.until("!consumed OpsGroup", |said| match said.trim().parse::<usize>() {
        Ok(seen) if seen >= count => Ok(()),
        _ => Err(format!("expected {count} messages consumed")),
    })?;
    Ok(())
}

fn messages(admin: &mut Admin) -> Result<()> {
    let message = ["Topic:               Ops", "Keys:                [key-0]", "Tags:                [TagA]"];
    admin.holds(
        "queryMsgById -n {n}{ of Ops} -i {offset-id}",
        &[message[0], message[1], message[2], "OffsetID:"],
    )?;
    // Once more by the consumer that is asked directly.
    admin.holds("queryMsgById -n {n}{ of Ops} -g OpsGroup -d {client} -i {offset-id}", &["CR_SUCCESS"])?;
    consumed(admin, MESSAGES + 1)?;
    admin.holds("queryMsgByKey -n {n} -t Ops -k key-0", &["#Message ID", "{unique}"])?;
    admin.holds("queryMsgByUniqueKey -n {n} -t Ops -i {unique}", &[message[0], message[1]])?;
    let at = "queryMsgByOffset -n {n} -t Ops -b broker-a -i {queue} -o 0";
    admin.holds(at, &["OffsetID:            {offset-id}", message[1]])?;
    admin.holds("printMsg -n {n} -t Ops -d true", &["minOffset=0, maxOffset=5", "body-0", "body-19"])?;
    let by_queue = "printMsgByQueue -n {n} -t Ops -a broker-a -i {queue} -p true -d true";
    admin.holds(by_queue, &["body-0", "{unique}"])?;
    admin
        .holds("consumeMessage -n {n} -t Ops -b broker-a -i {queue} -o 0 -c 2", &["Consume ok", "body-0"])?;
    admin.holds("sendMessage -n {n} -t Ops -p by-hand -k manual", &["broker-a", "SEND_OK"])?;
    admin.holds("queryMsgByKey -n {n} -t Ops -k manual", &["#Message ID"])?;
    admin.holds("sendMsgStatus -n {n} -b broker-a -c 2", &["SEND_OK"])?;
    admin
        .holds("checkMsgSendRT -n {n} -t Ops -a 3 -s 10", &["#Broker Name", "broker-a", "true", "Avg RT:"])?;
    let entries = ["Subscription data:", "Queue data:", "min: 0", "idx: 0"];
    admin.holds("queryCq -n {n} -t Ops -q {queue} -i 0 -c 2 -b {b} -g OpsGroup", &entries)?;
    Ok(())
}

/// A traced message is sent, and what was traced of it is read from the topic of traces.
fn traces(admin: &mut Admin) -> Result<()> {
    let sent = admin.holds("sendMessage -n {n} -t Ops -p traced -k traced -m true", &["SEND_OK"])?;
    let id =
        sent.lines().find(|line| line.contains("SEND_OK")).and_then(|line| line.split_whitespace().last());
    admin.name("{traced}", id.context("the id of the traced message")?.to_owned());
    admin.holds("queryMsgTraceById -n {n} -i {traced}", &["#ProducerGroup", "Pub"])?;
    Ok(())
}

/// What a cluster is written into files as; each file must be JSON that names what is there.
fn exports(admin: &mut Admin, dir: &Path) -> Result<()> {
    let folder = dir.join("export");
    admin.name("{export}", path(&folder)?);
    for (command, file, names) in [
        ("exportMetadata -n {n} -c DefaultCluster -f {export}", "metadata.json", ["Ops", "OpsGroup"]),
        ("exportConfigs -n {n} -c DefaultCluster -f {export}", "configs.json", ["broker-a", "flushDiskType"]),
        ("exportMetrics -n {n} -c DefaultCluster -f {export}", "metrics.json", ["broker-a", "normalInTps"]),
    ] {
        admin.holds(command, &["success"])?;
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let whole = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        if let Some(missing) = names.iter().find(|name| !(whole && text.contains(**name))) {
            admin.failures.push(format!("{command}: {file} has no {missing}: {text}"));
        }
    }
    Ok(())
}

fn offsets(admin: &mut Admin) -> Result<()> {
    let seen: usize = admin.say("!consumed OpsGroup")?.trim().parse().context("a count")?;
    let reset = match admin.is_five() {
        true => "start reset consumer offset by specified, group[OpsGroup], topic[Ops]",
        false => "rollback consumer offset by specified group[OpsGroup], topic[Ops]",
    };
    let reset = [reset, "broker-a"];
    admin.holds("resetOffsetByTime -n {n} -g OpsGroup -t Ops -s 1", &reset)?;
    // The online consumer begins again.
    consumed(admin, seen + MESSAGES)?;
    admin.holds("skipAccumulatedMessage -n {n} -g OpsGroup -t Ops -f true", &["broker-a"])?;
    // Its clients commit every few seconds.
    admin.holds("consumerProgress -n {n} -g OpsGroup", &["Diff Total: 0"])?;
    // An offset makes no group.
    admin.holds(
        "updateSubGroup -n {n} -c DefaultCluster -g CopyGroup",
        &["create subscription group to {b} success."],
    )?;
    admin.holds(
        "cloneGroupOffset -n {n} -s OpsGroup -d CopyGroup -t Ops -o true",
        &["clone group offset success."],
    )?;
    admin.holds("brokerConsumeStats -n {n} -b {b}", &["CopyGroup"])?;
    admin.say("!stop OpsGroup")?;
    admin.holds("consumerProgress -n {n} -g OpsGroup", &["Diff Total: 0"])?;
    // Nobody is online: the tool moves the offsets by itself.
    admin.holds("resetOffsetByTime -n {n} -g OpsGroup -t Ops -s 1", &["OpsGroup"])?;
    admin.until("consumerProgress -n {n} -g OpsGroup", |said| {
        let diff = said.lines().find_map(|line| line.split("Diff Total: ").nth(1));
        match diff.and_then(|diff| diff.trim().parse::<usize>().ok()) {
            Some(diff) if diff >= MESSAGES => Ok(()),
            _ => Err(format!("expected at least {MESSAGES} messages behind")),
        }
    })?;
    let gone = ["delete subscription group [CopyGroup] from broker [{b}] success."];
    admin.holds("deleteSubGroup -n {n} -b {b} -g CopyGroup -r true", &gone)?;
    admin.until("brokerConsumeStats -n {n} -b {b}", |said| match said.contains("CopyGroup") {
        true => Err("the group is still there".to_owned()),
        false => Ok(()),
    })?;
    Ok(())
}

fn settings(admin: &mut Admin) -> Result<()> {
    admin.holds(
        "getBrokerConfig -n {n} -b {b}",
        &["brokerName", "broker-a", "brokerPermission", "flushDiskType"],
    )?;
    let changed = ["update broker config success, {b}"];
    admin.holds("updateBrokerConfig -n {n} -b {b} -k brokerPermission -v 4", &changed)?;
    admin.holds("topicRoute -n {n} -t Ops", &["\"perm\":4"])?;
    admin.holds("updateBrokerConfig -n {n} -c DefaultCluster -k brokerPermission -v 6", &changed)?;
    admin.holds("topicRoute -n {n} -t Ops", &["\"perm\":6"])?;
    let refused = "updateBrokerConfig -n {n} -b {b} -k flushDiskType -v SYNC_FLUSH";
    admin.refused(refused, "flushDiskType can not change")?;
    admin.holds("getNamesrvConfig -n {n}", &["{n}", "waitSecondsForService"])?;
    let changed = ["update name server config success!", "waitSecondsForService : 44"];
    admin.holds("updateNamesrvConfig -n {n} -k waitSecondsForService -v 44", &changed)?;
    admin.until("getNamesrvConfig -n {n}", |said| {
        let line = said.lines().find(|line| line.starts_with("waitSecondsForService"));
        match line.and_then(|line| line.split_whitespace().last()) {
            Some("44") => Ok(()),
            found => Err(format!("the setting is {found:?}")),
        }
    })?;
    let put = "updateKvConfig -n {n} -s OpsSpace -k colour -v red";
    admin.holds(put, &["create or update kv config to namespace success."])?;
    admin.holds(
        "deleteKvConfig -n {n} -s OpsSpace -k colour",
        &["delete kv config from namespace success."],
    )?;
    let order = "updateOrderConf -n {n} -t Ops -m";
    admin.holds(
        &format!("{order} put -v broker-a:4"),
        &["update orderConf success. topic=[Ops], orderConf=[broker-a:4]"],
    )?;
    admin.holds(&format!("{order} get"), &["get orderConf success. topic=[Ops], orderConf=[broker-a:4]"])?;
    admin.holds(&format!("{order} delete"), &["delete orderConf success. topic=[Ops]"])?;
    let wiped = ["wipe write perm of broker[broker-a] in name server[{n}] OK,"];
    admin.holds("wipeWritePerm -n {n} -b broker-a", &wiped)?;
    admin.holds("topicRoute -n {n} -t Ops", &["\"perm\":4"])?;
    let added = ["add write perm of broker[broker-a] in name server[{n}] OK,"];
    admin.holds("addWritePerm -n {n} -b broker-a", &added)?;
    admin.holds("topicRoute -n {n} -t Ops", &["\"perm\":6"])?;
    Ok(())
}

fn cleaning(admin: &mut Admin) -> Result<()> {
    for command in ["cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"] {
        admin.holds(&format!("{command} -n {{n}} -b {{b}}"), &["success"])?;
        admin.holds(&format!("{command} -n {{n}} -c DefaultCluster"), &["success"])?;
    }
    // What has a topic is still there.
    admin.holds(
        "queryMsgByOffset -n {n} -t Ops -b broker-a -i {queue} -o 0",
        &["OffsetID:            {offset-id}"],
    )?;
    let deleted = [
        "delete topic [Ops] from cluster [DefaultCluster] success.",
        "delete topic [Ops] from NameServer success.",
    ];
    admin.holds("deleteTopic -n {n} -c DefaultCluster -t Ops", &deleted)?;
    admin.until("topicList -n {n}", |said| match said.lines().any(|topic| topic == "Ops") {
        true => Err("the topic is still there".to_owned()),
        false => Ok(()),
    })?;
    admin.refused("topicRoute -n {n} -t Ops", "CODE: 17")?;
    // A topic of the same name begins empty.
    admin.holds("updateTopic -n {n} -b {b} -t Ops -r 4 -w 4", &["create topic to {b} success."])?;
    admin.until("topicStatus -n {n} -t Ops", |said| {
        let mut rows = said.lines().filter(|line| line.starts_with("broker-a")).peekable();
        let empty = |line: &str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns.get(2) == columns.get(3)
        };
        if rows.peek().is_some() && rows.all(empty) { Ok(()) } else { Err("it has messages".to_owned()) }
    })?;
    admin.holds("sendMessage -n {n} -t Ops -p again", &["SEND_OK"])?;
    admin.holds("printMsg -n {n} -t Ops -d true", &["again"])?;
    let said = admin.say("printMsg -n {n} -t Ops -d true")?;
    ensure!(!said.contains("body-"), "old messages are back: {said}");
    Ok(())
}

fn access_control(admin: &mut Admin) -> Result<()> {
    for command in [
        "getAclConfig -n {n} -b {b}",
        "clusterAclConfigVersion -n {n} -b {b}",
        "updateAclConfig -n {n} -b {b} -a someone -s 12345678",
        "deleteAclConfig -n {n} -b {b} -a someone",
        "updateGlobalWhiteAddr -n {n} -b {b} -g 10.0.0.1",
    ] {
        admin.refused(command, "not supported")?;
    }
    Ok(())
}

//! `hotfire admin` as an operator meets it, in the order of a topic's life.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hotfire_tests::{Node, TempDir, hotfire_program, wait_until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

struct Operator<'a> {
    dir: &'a Path,
    name_server: &'a str,
}

impl Operator<'_> {
    fn run(&self, command: &str, more: &[&str]) -> Output {
        Command::new(hotfire_program())
            .args(["admin", "-n", self.name_server])
            .args(command.split(' '))
            .args(more)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .output()
            .expect("run hotfire admin")
    }

    fn json(&self, command: &str) -> Value {
        let output = self.run(command, &["--json"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {error}");
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// Runs a command until it tells `wanted`.
    fn until(&self, command: &str, wanted: &Value) {
        let mut last = Value::Null;
        let reached = wait_until(PATIENCE, || {
            last = self.json(command);
            last == *wanted
        });
        assert!(reached, "{command}: expected {wanted}, found {last}");
    }

    fn refused(&self, command: &str, why: &str) {
        let output = self.run(command, &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {error}");
        assert!(error.contains(why), "{command}: expected {why}, found {error}");
    }
}

fn produce(dir: &Path, name_server: &str, lines: &str) {
    std::fs::write(dir.join("lines"), lines).expect("write the messages");
    let words = ["produce", "-n", name_server, "-t", "Ops", "lines"];
    let output =
        Command::new(hotfire_program()).args(words).current_dir(dir).output().expect("run hotfire produce");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_topic_is_made_looked_at_changed_and_deleted_by_commands() {
    let dir = TempDir::new("admin-commands");
    let dir = dir.path();
    let words = ["standalone", "--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0"];
    let node = Node::start(&hotfire_program(), "standalone", &words, dir).expect("standalone gets ready");
    let name_server = node.address("namesrv").expect("the name server's address").to_owned();
    let broker = node.address("broker").expect("the broker's address").to_owned();
    let operator = Operator { dir, name_server: &name_server };

    let done = operator.json(&format!("updateTopic -b {broker} -t Ops -r 2 -w 2"));
    assert_eq!(done, json!([format!("topic Ops: done at {broker}")]));
    let route = |perm: i32| {
        json!([{"addresses": format!("0:{broker}"), "brokerName": "broker-a", "cluster": "DefaultCluster",
                "perm": perm, "readQueues": 2, "writeQueues": 2}])
    };
    let wait_for_route = wait_until(PATIENCE, || operator.run("topicRoute -t Ops", &[]).status.success());
    assert!(wait_for_route, "the name server hears of the topic");
    operator.until("topicRoute -t Ops", &route(6));
    operator.until("topicClusterList -t Ops", &json!([{"clusterName": "DefaultCluster"}]));
    operator.json("updateTopicPerm -c DefaultCluster -t Ops -p 4");
    operator.until("topicRoute -t Ops", &route(4));
    operator.refused("updateTopicPerm -c DefaultCluster -t Ops -p 4", "has the permission 4");
    operator.json("updateTopicPerm -c DefaultCluster -t Ops -p 6");
    operator.until("topicRoute -t Ops", &route(6));

    produce(dir, &name_server, "one\ntwo\nthree\n");
    let total = |rows: &Value| -> i64 {
        let rows = rows.as_array().expect("rows").iter();
        rows.map(|row| row["maxOffset"].as_i64().expect("an offset")).sum()
    };
    assert!(wait_until(PATIENCE, || total(&operator.json("topicStatus -t Ops")) == 3));

    let first = operator.json("queryMsgByOffset -t Ops -b broker-a -i 0 -o 0");
    assert!(["one", "two", "three"].contains(&first[0]["body"].as_str().expect("a body")), "{first}");
    let id = |name: &str| first[0][name].as_str().expect("an id").to_owned();
    assert_eq!(operator.json(&format!("queryMsgById -i {}", id("offsetId"))), first);
    operator.until(&format!("queryMsgByUniqueKey -t Ops -i {}", id("msgId")), &first);
    operator.refused("queryMsgByOffset -t Ops -b broker-a -i 0 -o 99", "no message at 99");
    assert_eq!(operator.json("queryMsgByKey -t Ops -k nothing"), json!([]));

    operator.json(&format!("updateSubGroup -b {broker} -g OpsGroup -r 3"));
    let config = operator.json("getConsumerConfig -g OpsGroup");
    let rows = config.as_array().expect("rows").iter();
    assert!(
        rows.clone().any(|row| row["setting"] == "retryMaxTimes" && row["value"] == json!(3)),
        "{config}"
    );
    operator.json("deleteSubGroup -c DefaultCluster -g OpsGroup -r true");
    assert_eq!(operator.json("getConsumerConfig -g OpsGroup"), json!([]));
    assert_eq!(operator.json(&format!("brokerConsumeStats -b {broker}")), json!([]));

    let settings = operator.json(&format!("getBrokerConfig -b {broker}"));
    let named = |settings: &Value, key: &str| {
        let rows = settings.as_array().expect("rows").iter();
        rows.clone().find(|row| row["setting"] == key).map(|row| row["value"].clone())
    };
    assert_eq!(named(&settings, "fileReservedTime"), Some(json!("72")));
    operator.json(&format!("updateBrokerConfig -b {broker} -k fileReservedTime -v 48"));
    let settings = operator.json("getBrokerConfig -c DefaultCluster");
    assert_eq!(named(&settings, "fileReservedTime"), Some(json!("48")));
    operator
        .refused(&format!("updateBrokerConfig -b {broker} -k listenPort -v 1"), "listenPort can not change");
    operator.json("updateNamesrvConfig -k waitSecondsForService -v 44");
    assert_eq!(named(&operator.json("getNamesrvConfig"), "waitSecondsForService"), Some(json!("44")));

    let clusters = operator.json("clusterList");
    assert_eq!((&clusters[0]["addr"], &clusters[0]["bid"]), (&json!(broker), &json!(0)));
    let wiped = operator.json("wipeWritePerm -b broker-a");
    assert_eq!(wiped[0]["nameServer"], json!(name_server));
    operator.json("addWritePerm -b broker-a");
    let table = operator.run("topicStatus -t Ops", &[]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("Max Offset"), "a table for people");

    operator.json("deleteTopic -c DefaultCluster -t Ops");
    operator.refused("topicRoute -t Ops", "TOPIC_NOT_EXIST");
    operator.refused("deleteTopic -c Elsewhere -t Ops", "known clusters: DefaultCluster");
    let status = node.stop(PATIENCE).expect("it stops");
    assert!(status.success());
}

#[test]
fn messages_are_sent_read_and_counted_by_commands() {
    let dir = TempDir::new("admin-messages");
    let dir = dir.path();
    let words = ["standalone", "--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0"];
    let node = Node::start(&hotfire_program(), "standalone", &words, dir).expect("standalone gets ready");
    let name_server = node.address("namesrv").expect("the name server's address").to_owned();
    let broker = node.address("broker").expect("the broker's address").to_owned();
    let operator = Operator { dir, name_server: &name_server };
    operator.json(&format!("updateTopic -b {broker} -t Ops -r 2 -w 2"));
    let wait_for_route = wait_until(PATIENCE, || operator.run("topicRoute -t Ops", &[]).status.success());
    assert!(wait_for_route, "the name server hears of the topic");

    for (queue, offset, body, tag) in [(0, 0, "first", "a"), (0, 1, "second", "b"), (1, 0, "third", "a")] {
        let sent = operator
            .json(&format!("sendMessage -t Ops -p {body} -k key-{body} -c {tag} -b broker-a -i {queue}"));
        let sent = &sent[0];
        assert_eq!(
            (&sent["sendResult"], &sent["qid"], &sent["queueOffset"]),
            (&json!("SEND_OK"), &json!(queue), &json!(offset)),
        );
    }
    operator.refused("sendMessage -t Ops -p lost -b nowhere -i 0", "nowhere");
    let column = |command: &str, name: &str| -> Vec<Value> {
        let rows = operator.json(command);
        rows.as_array().expect("rows").iter().map(|row| row[name].clone()).collect()
    };
    assert_eq!(column("printMsg -t Ops", "body"), ["first", "second", "third"]);
    assert_eq!(column("printMsg -t Ops -s a", "body"), ["first", "third"]);
    assert_eq!(column("printMsg -t Ops -d false", "body"), [Value::Null, Value::Null, Value::Null]);
    assert_eq!(column("printMsg -t Ops -e 2000-01-01", "body"), [] as [Value; 0]);
    assert_eq!(column("printMsg -t Ops -b 2000-01-01", "keys"), ["key-first", "key-second", "key-third"]);
    assert_eq!(column("printMsgByQueue -t Ops -a broker-a -i 1", "body"), ["third"]);
    assert_eq!(column("consumeMessage -t Ops -c 1", "body"), ["first", "third"]);
    assert_eq!(column("consumeMessage -t Ops -b broker-a -i 0 -o 1", "body"), ["second"]);
    operator.refused("consumeMessage -t Ops -b broker-a -i 9", "no broker has such a queue");
    assert_eq!(column("queryCq -t Ops -q 0 -i 0", "queueOffset"), [0, 1]);
    assert!(column("queryCq -t Ops -q 0 -i 1 -c 1", "logOffset")[0].as_i64() > Some(0));

    let timed = operator.json("checkMsgSendRT -t Ops -a 4");
    let timed = timed.as_array().expect("rows").clone();
    assert_eq!(timed.iter().map(|row| row["qid"].clone()).collect::<Vec<_>>(), [0, 1, 0, 1]);
    assert!(timed.iter().all(|row| row["sendResult"] == "SEND_OK"), "{timed:?}");
    assert_eq!(column("sendMsgStatus -b broker-a -c 2", "sendResult"), ["SEND_OK", "SEND_OK"]);
    let stats = operator.json("statsAll -t Ops");
    assert_eq!((&stats[0]["topic"], &stats[0]["inMsg24Hour"]), (&json!("Ops"), &json!(7)), "{stats}");

    let words =
        ["consume", "-n", &name_server, "-t", "Ops", "-g", "Readers", "--from", "earliest", "--count", "6"];
    let mut consumer = Command::new(hotfire_program());
    let output = consumer.args(words).current_dir(dir).output().expect("run hotfire consume");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stats = operator.json("statsAll -t Ops -a");
    assert_eq!(stats[0]["consumerGroup"], json!("Readers"), "{stats}");
    assert!((0..7).contains(&stats[0]["accumulation"].as_i64().expect("a number")), "{stats}");
    let skipped = operator.json("skipAccumulatedMessage -g Readers -t Ops");
    let skipped = skipped.as_array().expect("rows").iter();
    assert_eq!(skipped.map(|row| row["offset"].as_i64()).sum::<Option<i64>>(), Some(7));
    let stats = operator.json("statsAll -t Ops");
    assert_eq!(stats[0]["accumulation"], json!(0), "{stats}");
    operator.refused("consumerStatus -g Readers", "Readers");
    let mut member = Command::new(hotfire_program())
        .args(["consume", "-n", &name_server, "-t", "Ops", "-g", "Readers"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run hotfire consume");
    let mut held = Value::Null;
    let tells = wait_until(PATIENCE, || {
        let output = operator.run("consumerStatus -g Readers", &["--json"]);
        held = serde_json::from_slice(&output.stdout).unwrap_or_default();
        held.as_array().is_some_and(|rows| rows.iter().filter(|row| row["topic"] == "Ops").count() == 2)
    });
    member.kill().expect("it runs");
    member.wait().expect("it ends");
    assert!(tells, "a member tells of its queues: {held}");
    let members = operator.json("allocateMQ -t Ops -i 10.0.0.1,10.0.0.2");
    assert_eq!(
        members,
        json!([{"brokerName": "broker-a", "member": "10.0.0.1", "qid": 0},
               {"brokerName": "broker-a", "member": "10.0.0.2", "qid": 1}])
    );

    operator.json("updateOrderConf -t Ops -m put -v broker-a:2");
    assert_eq!(column("updateOrderConf -t Ops -m get", "orderConf"), ["broker-a:2"]);
    operator.json("updateOrderConf -t Ops -m delete");
    operator.refused("updateOrderConf -t Ops -m get", "Ops");
    let ha = operator.json(&format!("haStatus -b {broker}"));
    assert_eq!(
        (&ha[0]["role"], &ha[0]["inSync"], &ha[0]["peer"]),
        (&json!("master"), &json!(0), &Value::Null)
    );
    assert!(ha[0]["maxOffset"].as_i64() > Some(0), "{ha}");
    let status = node.stop(PATIENCE).expect("it stops");
    assert!(status.success());
}

//! The `hotfire` program as its users meet it: ready lines, exit codes, messages of errors, and that an acknowledged message
//! outlives a killed process.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hotfire_tests::{Node, TempDir, hotfire_program};

const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long a consumer waits for one that does not come before it ends, in seconds.
const IDLE: &str = "30";

fn hotfire(dir: &Path, words: &[&str]) -> Output {
    run(dir, words, b"")
}

fn run(dir: &Path, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(hotfire_program())
        .args(words)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start hotfire");
    child.stdin.take().expect("its stdin").write_all(input).expect("give it its input");
    child.wait_with_output().expect("wait for hotfire")
}

fn standalone(dir: &Path, more: &[&str]) -> Node {
    let words = ["standalone", "--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0"];
    let words: Vec<&str> = words.iter().chain(more).copied().collect();
    Node::start(&hotfire_program(), "standalone", &words, dir).expect("standalone gets ready")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn sorted_lines(output: &Output) -> Vec<String> {
    let mut lines: Vec<String> = out(output).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_version_names_the_commit() {
    let dir = TempDir::new("cli-version");
    let output = hotfire(dir.path(), &["--version"]);
    assert!(output.status.success());
    assert!(out(&output).starts_with("hotfire 0."), "{}", out(&output));
    assert!(out(&output).contains("commit"), "{}", out(&output));
}

#[test]
fn a_wrong_command_line_or_setting_is_exit_code_2_and_creates_nothing() {
    let dir = TempDir::new("cli-usage");
    std::fs::write(dir.path().join("broker.conf"), "# ours\nbrokerName=b\nflushDiskType=FAST\n")
        .expect("write");
    let cases: [(&[&str], &str); 6] = [
        (&["standalone", "--listen", "nowhere"], "--listen"),
        (&["serve"], "unrecognized subcommand"),
        (&["produce", "-t", "T"], "--namesrv"),
        (
            &["broker", "-c", "broker.conf", "--data", "data"],
            "broker.conf:3: flushDiskType: expected ASYNC_FLUSH or SYNC_FLUSH, found FAST",
        ),
        (&["broker", "-c", "absent.conf"], "absent.conf: No such file"),
        (&["broker", "--set", "brokerNme=x"], "did you mean brokerName?"),
    ];
    for (words, expected) in cases {
        let output = hotfire(dir.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", err(&output));
        assert!(err(&output).contains(expected), "{words:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{words:?}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).expect("list").filter_map(Result::ok).collect();
    assert_eq!(left.len(), 1, "only the settings file: {left:?}");
}

#[test]
fn settings_are_shown_with_their_sources() {
    let dir = TempDir::new("cli-settings");
    std::fs::write(dir.path().join("broker.conf"), "brokerName=b\nflushDiskTyp=SYNC_FLUSH\n").expect("write");
    let words = ["broker", "-c", "broker.conf", "--set", "brokerClusterName=c", "--print-config"];
    let output = hotfire(dir.path(), &words);
    assert!(output.status.success());
    let text = out(&output);
    let line = |key: &str| -> Vec<&str> {
        let found = text.lines().find(|line| line.split_whitespace().next() == Some(key));
        found.unwrap_or_else(|| panic!("{key} is listed in {text}")).split_whitespace().collect()
    };
    assert_eq!(line("brokerName"), ["brokerName", "b", "broker-a", "file"]);
    assert_eq!(line("brokerClusterName"), ["brokerClusterName", "c", "DefaultCluster", "flag"]);
    assert_eq!(line("listenPort"), ["listenPort", "10911", "10911", "default"]);
    assert!(err(&output).contains("unknown setting flushDiskTyp is ignored; did you mean flushDiskType?"));
}

#[test]
fn every_setting_of_the_sample_files_acts_and_each_says_one_role() {
    let dir = TempDir::new("cli-samples");
    let folder = hotfire_tests::project_dir().join("conf");
    let mut seen = Vec::new();
    for cluster in std::fs::read_dir(folder).expect("conf").filter_map(Result::ok) {
        for file in std::fs::read_dir(cluster.path()).expect("a folder").filter_map(Result::ok) {
            let path = file.path();
            let output =
                hotfire(dir.path(), &["broker", "-c", path.to_str().expect("a name"), "--print-config"]);
            assert!(output.status.success(), "{}: {}", path.display(), err(&output));
            assert_eq!(err(&output), "", "{}", path.display());
            let value = |key: &str| -> String {
                let text = out(&output);
                let line = text.lines().find(|line| line.split_whitespace().next() == Some(key));
                line.and_then(|line| line.split_whitespace().nth(1)).expect("a value").to_owned()
            };
            assert_eq!(value("brokerRole") == "SLAVE", value("brokerId") == "1", "{}", path.display());
            seen.push(format!("{} {}", cluster.file_name().to_string_lossy(), value("listenPort")));
        }
    }
    seen.sort();
    let count = seen.len();
    seen.dedup();
    assert_eq!((count, seen.len()), (12, 12), "one port twice in a cluster: {seen:?}");
}

#[test]
fn servers_tell_when_they_are_ready_and_stop_in_order() {
    let dir = TempDir::new("cli-ready");
    let program = hotfire_program();
    let name_server = Node::start(&program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir.path())
        .expect("namesrv gets ready");
    let at = name_server.address("namesrv").expect("its address").to_owned();
    assert_eq!(name_server.ready_line(), format!("ready: namesrv {at}"));
    assert!(!at.ends_with(":0"), "the real port");

    let words = ["broker", "-n", &at, "--data", "data", "--listen", "127.0.0.1:0", "--set", "brokerName=b7"];
    let broker = Node::start(&program, "broker", &words, dir.path()).expect("the broker gets ready");
    let own = broker.address("broker").expect("its address").to_owned();
    assert_eq!(broker.ready_line(), format!("ready: broker b7 id 0 {own}"));

    let output = hotfire(dir.path(), &["produce", "-n", &at, "-t", "T", "--count", "3", "--verbose"]);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(out(&output).lines().filter(|line| line.starts_with("SEND_OK ")).count(), 3);

    let status = broker.stop(STOP_PATIENCE).expect("the broker stops");
    assert_eq!(status.code(), Some(0));
    assert!(!dir.path().join("data/abort").exists(), "a clean stop removes the marker");
    let status = name_server.stop(STOP_PATIENCE).expect("the name server stops");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn logs_are_json_where_asked_for_and_never_on_stdout() {
    let dir = TempDir::new("cli-logs");
    let node = standalone(dir.path(), &["--log-format", "json"]);
    let at = node.address("namesrv").expect("its address");
    assert!(hotfire(dir.path(), &["produce", "-n", at, "-t", "T", "--count", "1"]).status.success());
    node.stop(STOP_PATIENCE).expect("it stops");
    let log = std::fs::read_to_string(dir.path().join("standalone.log")).expect("its log");
    assert!(!log.is_empty());
    for line in log.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        assert!(value["message"].is_string() && value["level"].is_string(), "{line}");
    }
}

#[test]
fn an_address_in_use_is_exit_code_1() {
    let dir = TempDir::new("cli-port");
    let program = hotfire_program();
    let first = Node::start(&program, "namesrv", &["namesrv", "--listen", "127.0.0.1:0"], dir.path())
        .expect("namesrv gets ready");
    let at = first.address("namesrv").expect("its address");
    let output = hotfire(dir.path(), &["namesrv", "--listen", at]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&format!("listen on {at}: Address already in use")), "{}", err(&output));
    let output = hotfire(dir.path(), &["broker", "--data", "d", "--listen", at]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&format!("listen on {at}: Address already in use")), "{}", err(&output));
}

#[test]
fn a_data_directory_in_use_is_told_with_its_holder() {
    let dir = TempDir::new("cli-locked");
    let first = standalone(dir.path(), &["--data", "shared"]);
    let words = ["broker", "--data", "shared", "--listen", "127.0.0.1:0"];
    let output = hotfire(dir.path(), &words);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("shared is in use by pid {}", first.pid());
    assert!(err(&output).contains(&expected), "{}", err(&output));
}

#[test]
fn lines_go_in_and_come_out_once() {
    let dir = TempDir::new("cli-round-trip");
    let node = standalone(dir.path(), &[]);
    let at = node.address("namesrv").expect("its address");
    assert!(node.ready_line().ends_with("data ./hotfire-data"), "{}", node.ready_line());

    let words = ["produce", "-n", at, "-t", "T", "--tag", "A", "--key", "k"];
    let produced = run(dir.path(), &words, "one\ntwo\n\nzwölf\n".as_bytes());
    assert!(produced.status.success(), "{}", err(&produced));
    assert!(out(&produced).starts_with("sent 3 messages, "), "{}", out(&produced));

    let consume = ["consume", "-n", at, "-t", "T", "-g", "G", "--from", "earliest"];
    let first = hotfire(dir.path(), &[&consume[..], &["--count", "2"]].concat());
    assert!(first.status.success(), "{}", err(&first));
    let rest = hotfire(dir.path(), &[&consume[..], &["--count", "1"]].concat());
    let mut all = [sorted_lines(&first), sorted_lines(&rest)].concat();
    all.sort();
    assert_eq!(all, ["one", "two", "zwölf"], "each once, over two runs of one group");

    let words = ["consume", "-n", at, "-t", "T", "-g", "H", "--from", "earliest", "--count", "3", "--json"];
    let json = hotfire(dir.path(), &words);
    for line in out(&json).lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
        assert_eq!((value["topic"].as_str(), value["tag"].as_str()), (Some("T"), Some("A")));
        assert_eq!(value["keys"], "k");
    }
    assert_eq!(out(&json).lines().count(), 3);

    let other =
        ["consume", "-n", at, "-t", "T", "-g", "I", "--from", "earliest", "--tag", "B", "--idle", "2"];
    assert_eq!(out(&hotfire(dir.path(), &other)), "", "no message has that tag");
}

#[test]
fn consumers_in_order_and_of_all_messages_go_on_where_they_were() {
    let dir = TempDir::new("cli-consumers");
    let node = standalone(dir.path(), &[]);
    let at = node.address("namesrv").expect("its address");
    let produced = run(dir.path(), &["produce", "-n", at, "-t", "T"], b"one\ntwo\nthree\nfour\n");
    assert!(produced.status.success(), "{}", err(&produced));
    let ways: [&[&str]; 2] = [&["--orderly"], &["--broadcast", "--offsets", "mine/offsets.json"]];
    for (group, way) in ["G", "B"].into_iter().zip(ways) {
        let consume = ["consume", "-n", at, "-t", "T", "-g", group, "--from", "earliest"];
        let consume = [&consume[..], way].concat();
        let mut all = Vec::new();
        for count in ["3", "1"] {
            let output = hotfire(dir.path(), &[&consume[..], &["--count", count]].concat());
            assert!(output.status.success(), "{}", err(&output));
            all.extend(sorted_lines(&output));
        }
        all.sort();
        assert_eq!(all, ["four", "one", "three", "two"], "{way:?}: each once, over two runs");
    }
    assert!(dir.path().join("mine/offsets.json").exists());
    let alone = hotfire(dir.path(), &["consume", "-n", at, "-t", "T", "-g", "G", "--offsets", "x"]);
    assert_eq!(alone.status.code(), Some(2), "a file of offsets is of those who broadcast");
}

#[test]
fn what_was_acknowledged_outlives_a_killed_process() {
    let dir = TempDir::new("cli-kill");
    let node = standalone(dir.path(), &[]);
    let at = node.address("namesrv").expect("its address").to_owned();
    let lines: Vec<String> = (0..500).map(|index| format!("message-{index:03}")).collect();
    let words = ["produce", "-n", &at, "-t", "T", "--async"];
    let produced = run(dir.path(), &words, lines.join("\n").as_bytes());
    assert!(produced.status.success(), "{}", err(&produced));
    node.kill().expect("kill -9");
    assert!(dir.path().join("hotfire-data/abort").exists(), "it was not stopped in order");

    let node = standalone(dir.path(), &[]);
    let at = node.address("namesrv").expect("its address");
    let words = ["consume", "-n", at, "-t", "T", "-g", "G", "--from", "earliest"];
    let words = [&words[..], &["--count", "500", "--idle", IDLE]].concat();
    let consumed = hotfire(dir.path(), &words);
    assert!(consumed.status.success(), "{}", err(&consumed));
    assert_eq!(sorted_lines(&consumed), lines);
}

#[test]
fn a_data_directory_is_checked_offline() {
    let dir = TempDir::new("cli-check");
    let node = standalone(dir.path(), &[]);
    let at = node.address("namesrv").expect("its address").to_owned();
    let produce = ["produce", "-n", &at, "-t", "T", "--count", "10"];
    assert!(hotfire(dir.path(), &produce).status.success());
    let check = ["store", "check", "hotfire-data", "--json"];
    let busy = hotfire(dir.path(), &check);
    assert_eq!(busy.status.code(), Some(1));
    assert!(err(&busy).contains(&format!("hotfire-data is in use by pid {}", node.pid())), "{}", err(&busy));
    node.stop(STOP_PATIENCE).expect("it stops");

    let checked = hotfire(dir.path(), &check);
    assert!(checked.status.success(), "{}", err(&checked));
    let report: serde_json::Value = serde_json::from_str(out(&checked).trim()).expect("one JSON object");
    assert_eq!((report["verdict"].as_str(), &report["clean_shutdown"]), (Some("clean"), &true.into()));
    assert_eq!(report["commit_log"]["records"], 10);
    assert_eq!(report["commit_log"]["damaged"], serde_json::json!([]));

    let dumped = hotfire(dir.path(), &["store", "dump", "hotfire-data", "--topic", "T", "--json"]);
    assert!(dumped.status.success(), "{}", err(&dumped));
    let records =
        out(&dumped).lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>();
    let records = records.expect("one JSON object a line");
    assert_eq!((records.len(), &records[0]["at"], &records[0]["topic"]), (10, &0.into(), &"T".into()));
    let shown = ["store", "dump", "hotfire-data", "--show", "queues,checkpoint", "--count", "3"];
    let shown = hotfire(dir.path(), &shown);
    assert!(shown.status.success(), "{}", err(&shown));
    let lines: Vec<String> = out(&shown).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("T 0 offset 0: at "), "{lines:?}");
    assert!(lines[3].starts_with("checkpoint: log 2"), "{lines:?}");

    let node = standalone(dir.path(), &[]);
    node.kill().expect("kill -9");
    let report = hotfire(dir.path(), &check);
    let report: serde_json::Value = serde_json::from_str(out(&report).trim()).expect("one JSON object");
    assert_eq!((report["verdict"].as_str(), &report["clean_shutdown"]), (Some("recoverable"), &false.into()));

    let absent = hotfire(dir.path(), &["store", "check", "absent"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(err(&absent).contains("absent: No such file or directory"), "{}", err(&absent));
}

#[test]
fn a_start_that_is_refused_names_the_command_that_tells_more() {
    let dir = TempDir::new("cli-refused");
    let node = standalone(dir.path(), &[]);
    node.stop(STOP_PATIENCE).expect("an ordered stop");
    let note = dir.path().join("hotfire-data/commitlog/note.txt");
    std::fs::create_dir_all(note.parent().expect("a folder")).expect("make it");
    std::fs::write(note, "x").expect("write");
    std::fs::write(dir.path().join("b.conf"), "").expect("write the settings");
    let words = ["standalone", "--listen", "127.0.0.1:0", "--namesrv-listen", "127.0.0.1:0", "-c", "b.conf"];
    let refused = hotfire(dir.path(), &words);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("hotfire store check ./hotfire-data -c b.conf"), "{}", err(&refused));
}

#[test]
fn nobody_to_send_to_is_exit_code_1() {
    let dir = TempDir::new("cli-nobody");
    let words = ["produce", "-n", "127.0.0.1:1", "-t", "T", "--count", "1"];
    let output = hotfire(dir.path(), &words);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("127.0.0.1:1: Connection refused"), "{}", err(&output));
}

#[test]
fn load_generators_report_in_one_json_line() {
    let dir = TempDir::new("cli-bench");
    let node = standalone(dir.path(), &[]);
    let at = node.address("namesrv").expect("its address");
    let pid = node.pid().to_string();
    let common = ["-n", at, "-t", "Bench", "--seconds", "1", "--warmup", "0", "--json"];
    let closed = ["--connections", "2", "--server-pid", &pid];
    let produce = [&["bench", "produce", "--inflight", "4", "--size", "64"], &closed[..], &common].concat();
    let report = bench_report(dir.path(), &produce);
    assert!(report["server_cpu_us_per_msg"].is_number(), "{report}");
    assert_eq!(report["settings"]["inflight"], 4);
    let consume = [&["bench", "consume"], &closed[..], &common].concat();
    assert!(bench_report(dir.path(), &consume)["server_cpu_us_per_msg"].is_number());
    bench_report(dir.path(), &[&["bench", "latency", "--rate", "50"], &common[..]].concat());
}

fn bench_report(dir: &Path, words: &[&str]) -> serde_json::Value {
    let output = hotfire(dir, words);
    assert!(output.status.success(), "{words:?}: {}", err(&output));
    let report: serde_json::Value = serde_json::from_str(out(&output).trim()).expect("one JSON object");
    assert!(report["messages"].as_u64().is_some_and(|messages| messages > 0), "{report}");
    assert_eq!(report["errors"], 0);
    for key in ["msg_per_s", "mb_per_s", "p50_us", "p99_us", "p999_us", "max_us"] {
        assert!(report[key].is_number(), "{key} in {report}");
    }
    for key in ["machine", "commit"] {
        assert!(report[key].is_string(), "{key} in {report}");
    }
    report
}

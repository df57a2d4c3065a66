use super::*;

fn broker(text: &str) -> (BrokerConfig, Vec<String>) {
    let (config, warnings) = BrokerConfig::read("broker.conf", text).expect("valid settings");
    (config, warnings.iter().map(ToString::to_string).collect())
}

fn broker_error(text: &str) -> String {
    BrokerConfig::read("broker.conf", text).expect_err("a bad setting").to_string()
}

#[test]
fn values_land_in_their_fields() {
    let (config, warnings) = broker(
        "brokerName = b7\nflushDiskType=SYNC_FLUSH\nlistenPort=0\nbindAddress=127.0.0.1\nautoCreateTopicEnable=FALSE\ntransientStorePoolEnable=true\n",
    );
    assert_eq!(config.identity.name, "b7");
    assert_eq!(config.store.flush, FlushDisk::Sync);
    assert_eq!(config.listen().to_string(), "127.0.0.1:0");
    assert!(!config.topics.auto_create);
    assert!(config.store.transient_pool);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn a_bad_value_names_file_line_key_and_what_was_expected() {
    let cases = [
        (
            "\n# x\nflushDiskType=FAST",
            "broker.conf:3: flushDiskType: expected ASYNC_FLUSH or SYNC_FLUSH, found FAST",
        ),
        ("listenPort=70000", "broker.conf:1: listenPort: expected a number from 0 to 65535, found 70000"),
        ("traceOn=yes", "broker.conf:1: traceOn: expected true or false, found yes"),
        (
            "brokerRole=FOLLOWER",
            "broker.conf:1: brokerRole: expected ASYNC_MASTER, SYNC_MASTER or SLAVE, found FOLLOWER",
        ),
        ("nothing", "broker.conf:1: expected key=value, found nothing"),
        (
            "brokerName=a\naclEnable = TRUE",
            "broker.conf:2: aclEnable=true: this server has no access control and would serve everybody; remove the line to have that",
        ),
    ];
    for (text, expect) in cases {
        assert_eq!(broker_error(text), expect);
    }
}

#[test]
fn a_key_that_does_nothing_gets_one_warning() {
    let (_, warnings) = broker("brokerNme=x\nwarmMapedFileEnable=true\nqqqqqqqqqqqq=1\naclEnable=false\n");
    assert_eq!(
        warnings,
        [
            "broker.conf:1: unknown setting brokerNme is ignored; did you mean brokerName?",
            "broker.conf:2: warmMapedFileEnable is a setting of the Java server that is not implemented here; it is ignored",
            "broker.conf:3: unknown setting qqqqqqqqqqqq is ignored",
            "broker.conf:4: aclEnable is a setting of the Java server that is not implemented here; it is ignored",
        ]
    );
}

#[test]
fn a_flag_wins_over_the_file_and_the_listing_says_so() {
    let (mut config, _) = broker("brokerName=a\nlistenPort=1\n");
    config.set("listenPort", "2").expect("a port");
    let by_key = |key: &str| config.settings().into_iter().find(|s| s.key == key).expect("a setting");
    let port = by_key("listenPort");
    assert_eq!((port.value.as_str(), port.default.as_str(), port.source), ("2", "10911", Source::Flag));
    assert_eq!(by_key("brokerName").source, Source::File);
    assert_eq!(by_key("brokerClusterName").source, Source::Default);
    let error = config.clone().set("listenPrt", "2").expect_err("unknown").to_string();
    assert_eq!(error, "unknown setting listenPrt; did you mean listenPort?");
}

#[test]
fn every_shown_value_is_read_back_and_no_key_is_both_ours_and_not() {
    let config = BrokerConfig::default();
    let text: String = config.settings().iter().map(|s| format!("{}={}\n", s.key, s.value)).collect();
    let (read, warnings) = broker(&text);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!((read.identity, read.store), (config.identity.clone(), config.store.clone()));
    let keys = known_keys(&config);
    assert!(java_keys::BROKER.iter().all(|key| !keys.contains(key)));
    let keys = known_keys(&NameServerConfig::default());
    assert!(java_keys::NAME_SERVER.iter().all(|key| !keys.contains(key)));
}

#[test]
fn the_name_server_has_its_own_keys() {
    let (config, warnings) =
        NameServerConfig::read("namesrv.conf", "listenPort=9999\nclusterTest=true\n").expect("valid");
    assert_eq!(config.listen().to_string(), "0.0.0.0:9999");
    assert_eq!(warnings.len(), 1);
}

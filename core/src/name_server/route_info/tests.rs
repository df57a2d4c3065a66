use super::*;

const RULES: RegisterRules = RegisterRules { delete_missing_topics: false };

fn version(state_version: i64, counter: i64) -> DataVersion {
    DataVersion { state_version, timestamp: 1_700_000_000_000 + counter, counter }
}

fn topic_table(names: &[&str]) -> BTreeMap<String, TopicConfig> {
    names
        .iter()
        .map(|name| {
            let config = TopicConfig {
                topic_name: (*name).to_owned(),
                read_queue_nums: 4,
                write_queue_nums: 4,
                perm: 6,
                ..TopicConfig::default()
            };
            ((*name).to_owned(), config)
        })
        .collect()
}

/// One broker's way to say the same thing again and again.
struct Voice {
    addr: &'static str,
    id: i64,
    acting: Option<bool>,
    connection: u64,
}

const MASTER: Voice = Voice { addr: "m:1", id: 0, acting: None, connection: 1 };
const SLAVE: Voice = Voice { addr: "s:1", id: 1, acting: None, connection: 2 };

impl Voice {
    fn with<T>(&self, version: &DataVersion, topics: &[&str], say: impl FnOnce(&Registration<'_>) -> T) -> T {
        let topics = topic_table(topics);
        say(&Registration {
            cluster: "c",
            broker_name: "a",
            broker_id: self.id,
            addr: self.addr,
            ha_addr: "ha:1",
            timeout_ms: None,
            enable_acting_master: self.acting,
            zone_name: None,
            version,
            topics: &topics,
            filter_servers: &[],
            connection: self.connection,
        })
    }

    fn says(
        &self,
        routes: &mut RouteInfo,
        rules: RegisterRules,
        version: &DataVersion,
        topics: &[&str],
    ) -> Registered {
        self.with(version, topics, |said| routes.register(said, rules, Mono(0)))
    }

    fn registers(&self, routes: &mut RouteInfo, version: &DataVersion, topics: &[&str]) -> Registered {
        self.says(routes, RULES, version, topics)
    }
}

fn is_accepted(outcome: &Registered) -> bool {
    matches!(outcome, Registered::Accepted { .. })
}

fn addrs(routes: &RouteInfo) -> Vec<(i64, String)> {
    routes.member_group("a").map_or(Vec::new(), |group| group.broker_addrs.clone().into_iter().collect())
}

fn topics(routes: &RouteInfo) -> Vec<String> {
    routes.all_topics().topic_list
}

fn perms(routes: &RouteInfo) -> Vec<i32> {
    routes.topics.values().flat_map(|brokers| brokers.values().map(|queue| queue.perm)).collect()
}

#[test]
fn a_single_topic_of_an_unknown_broker_is_refused_and_leaves_nothing() {
    let mut routes = RouteInfo::default();
    assert_eq!(MASTER.registers(&mut routes, &version(0, 9), &["T"]), Registered::Refused);
    assert_eq!(topics(&routes), Vec::<String>::new());
    assert!(routes.cluster_info().broker_addr_table.is_empty());
    assert!(routes.cluster_info().cluster_addr_table.is_empty());
}

#[test]
fn a_single_topic_moves_a_whole_table_by_one_version() {
    let mut routes = RouteInfo::default();
    assert!(is_accepted(&MASTER.registers(&mut routes, &version(0, 1), &["A", "B"])));
    assert!(is_accepted(&MASTER.registers(&mut routes, &version(0, 2), &["C"])));
    assert_eq!(topics(&routes), ["A", "B", "C"]);
    assert_eq!(routes.version_of("c", "m:1"), Some(&version(0, 2)));
}

#[test]
fn after_a_missed_change_a_single_topic_does_not_stand_for_the_whole_table() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    // The registration of version 2 was lost.
    MASTER.registers(&mut routes, &version(0, 3), &["D"]);
    assert_eq!(topics(&routes), ["A", "B", "D"]);
    assert_eq!(routes.version_of("c", "m:1"), Some(&version(0, 1)));
    MASTER.registers(&mut routes, &version(0, 3), &["A", "B", "C", "D"]);
    assert_eq!(routes.version_of("c", "m:1"), Some(&version(0, 3)));
    assert_eq!(topics(&routes), ["A", "B", "C", "D"]);
}

#[test]
fn a_single_topic_that_was_overtaken_is_not_taken() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 5), &["A", "B"]);
    MASTER.registers(&mut routes, &version(0, 4), &["Old"]);
    assert_eq!(topics(&routes), ["A", "B"]);
    assert_eq!(routes.version_of("c", "m:1"), Some(&version(0, 5)));
}

#[test]
fn with_the_first_comer_trusted_a_restarted_name_server_never_learns_the_other_topics() {
    let mut routes = RouteInfo::default();
    let says = |routes: &mut RouteInfo, topics: &[&str]| {
        MASTER.with(&version(0, 9), topics, |said| routes.register_trusting(said, RULES, Mono(0)))
    };
    assert!(is_accepted(&says(&mut routes, &["T"])));
    says(&mut routes, &["A", "B", "T"]);
    assert_eq!(topics(&routes), ["T"]);
}

#[test]
fn a_topic_that_is_missing_is_taken_although_the_version_is_known() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    routes.delete_topic("A", Some("c"));
    routes.delete_topic("B", Some("other"));
    assert_eq!(topics(&routes), ["B"]);
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert_eq!(topics(&routes), ["A", "B"]);
}

#[test]
fn a_wiped_permission_lasts_until_the_version_changes() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert_eq!(routes.wipe_write_perm("a"), 2);
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert_eq!(perms(&routes), [4, 4]);
    MASTER.registers(&mut routes, &version(0, 2), &["A", "B"]);
    assert_eq!(perms(&routes), [6, 6]);
    routes.wipe_write_perm("a");
    assert_eq!(routes.add_write_perm("a"), 2);
    assert_eq!(routes.add_write_perm("other"), 0);
    assert_eq!(perms(&routes), [6, 6]);
}

#[test]
fn topics_that_a_whole_table_lacks_go_only_when_asked_for() {
    let mut routes = RouteInfo::default();
    let deleting = RegisterRules { delete_missing_topics: true };
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B", "C"]);
    MASTER.registers(&mut routes, &version(0, 2), &["A", "B"]);
    assert_eq!(topics(&routes), ["A", "B", "C"]);
    MASTER.says(&mut routes, deleting, &version(0, 3), &["D"]);
    assert_eq!(topics(&routes), ["A", "B", "C", "D"]);
    MASTER.says(&mut routes, deleting, &version(0, 4), &["A", "B"]);
    assert_eq!(topics(&routes), ["A", "B"]);
}

#[test]
fn a_slave_that_became_master_keeps_one_entry() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    SLAVE.registers(&mut routes, &version(0, 1), &["A", "B"]);
    routes.unregister("c", "a", "m:1");
    let promoted = Voice { id: 0, ..SLAVE };
    promoted.registers(&mut routes, &version(0, 2), &["A", "B"]);
    assert_eq!(addrs(&routes), [(0, "s:1".to_owned())]);
}

#[test]
fn the_late_farewell_of_the_old_master_leaves_the_new_one() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(1, 1), &["A", "B"]);
    let successor = Voice { id: 0, ..SLAVE };
    successor.registers(&mut routes, &version(2, 1), &["A", "B"]);
    routes.unregister("c", "a", "m:1");
    assert_eq!(addrs(&routes), [(0, "s:1".to_owned())]);
    assert_eq!(topics(&routes), ["A", "B"]);
}

#[test]
fn of_two_masters_the_one_with_the_higher_epoch_owns_the_id() {
    let mut routes = RouteInfo::default();
    let successor = Voice { id: 0, ..SLAVE };
    successor.registers(&mut routes, &version(2, 1), &["A", "B"]);
    let late = MASTER.registers(&mut routes, &version(1, 7), &["A", "B", "C"]);
    assert_eq!(late, Registered::Superseded);
    assert_eq!(addrs(&routes), [(0, "s:1".to_owned())]);
    assert_eq!(topics(&routes), ["A", "B"]);
    assert_eq!(routes.version_of("c", "m:1"), None);
    let next = MASTER.registers(&mut routes, &version(3, 1), &["A", "B"]);
    assert!(is_accepted(&next));
    assert_eq!(addrs(&routes), [(0, "m:1".to_owned())]);
}

#[test]
fn a_dead_owner_of_a_higher_epoch_gives_way() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(2, 1), &["A", "B"]);
    let topics = topic_table(&["A", "B"]);
    let version = version(1, 1);
    let registration = Registration {
        cluster: "c",
        broker_name: "a",
        broker_id: 0,
        addr: "s:1",
        ha_addr: "ha:1",
        timeout_ms: None,
        enable_acting_master: None,
        zone_name: None,
        version: &version,
        topics: &topics,
        filter_servers: &[],
        connection: 2,
    };
    let later = Mono(1).after_ms(BROKER_TIMEOUT_MS);
    assert!(is_accepted(&routes.register(&registration, RULES, later)));
    assert_eq!(addrs(&routes), [(0, "s:1".to_owned())]);
}

#[test]
fn a_slave_is_told_its_living_master() {
    let mut routes = RouteInfo::default();
    let alone = SLAVE.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert!(matches!(alone, Registered::Accepted { master: None, .. }));
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    let Registered::Accepted { master, .. } = SLAVE.registers(&mut routes, &version(0, 1), &["A", "B"])
    else {
        panic!("a known slave is accepted");
    };
    assert_eq!(master, Some(("ha:1".to_owned(), "m:1".to_owned())));
}

#[test]
fn only_a_master_or_a_prime_slave_fills_the_topic_table() {
    let mut routes = RouteInfo::default();
    SLAVE.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert_eq!(topics(&routes), Vec::<String>::new());
    let prime = Voice { acting: Some(true), ..SLAVE };
    prime.registers(&mut routes, &version(0, 2), &["A", "B"]);
    assert_eq!(perms(&routes), [4, 4]);
}

#[test]
fn a_group_that_allows_it_is_read_from_its_smallest_id_without_a_master() {
    let mut routes = RouteInfo::default();
    let (master, slave) = (Voice { acting: Some(true), ..MASTER }, Voice { acting: Some(true), ..SLAVE });
    master.registers(&mut routes, &version(0, 1), &["A", "B"]);
    slave.registers(&mut routes, &version(0, 1), &["A", "B"]);
    let change = routes.unregister("c", "a", "m:1").expect("the smallest id changed");
    assert_eq!((change.min_id, change.min_addr.as_str()), (1, "s:1"));
    assert_eq!(change.offline_addr.as_deref(), Some("m:1"));
    assert_eq!(change.tell, [2]);
    assert_eq!(perms(&routes), [4, 4]);
    let plain = routes.route("A", false).expect("the slave is there");
    assert_eq!(plain.broker_datas[0].broker_addrs.keys().collect::<Vec<_>>(), [&1]);
    let acting = routes.route("A", true).expect("the slave is there");
    assert_eq!(acting.broker_datas[0].broker_addrs.get(&0).map(String::as_str), Some("s:1"));
}

#[test]
fn without_acting_masters_queues_stay_writable_when_the_master_goes() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    SLAVE.registers(&mut routes, &version(0, 1), &["A", "B"]);
    routes.unregister("c", "a", "m:1");
    assert_eq!(perms(&routes), [6, 6]);
    assert_eq!(addrs(&routes), [(1, "s:1".to_owned())]);
}

#[test]
fn with_its_last_broker_a_group_its_cluster_and_its_topics_go() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert_eq!(routes.unregister("c", "a", "m:1"), None);
    assert_eq!(topics(&routes), Vec::<String>::new());
    assert!(routes.cluster_info().cluster_addr_table.is_empty());
    assert!(routes.route("A", false).is_none());
    assert_eq!(routes.version_of("c", "m:1"), None);
}

#[test]
fn a_broker_that_registered_again_survives_the_end_of_its_old_connection() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    let again = Voice { connection: 9, ..MASTER };
    again.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert!(routes.connection_closed(1).is_empty());
    assert_eq!(topics(&routes), ["A", "B"]);
    assert_eq!(routes.connection_closed(9).len(), 1);
    assert_eq!(topics(&routes), Vec::<String>::new());
}

#[test]
fn a_silent_broker_expires_and_a_heartbeat_prevents_it() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    SLAVE.registers(&mut routes, &version(0, 1), &["A", "B"]);
    assert!(routes.heard("c", "s:1", Mono(0).after_ms(60_000), 2));
    assert!(!routes.heard("c", "unknown:1", Mono(0), 2));
    let gone = routes.expire(Mono(1).after_ms(BROKER_TIMEOUT_MS));
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].0.addr.as_str(), gone[0].2), ("m:1", 1));
    assert_eq!(addrs(&routes), [(1, "s:1".to_owned())]);
}

#[test]
fn a_broker_that_changes_its_group_leaves_the_old_one() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    let table = topic_table(&["A", "C"]);
    let version = version(0, 2);
    let registration = Registration {
        cluster: "c",
        broker_name: "renamed",
        broker_id: 0,
        addr: "m:1",
        ha_addr: "ha:1",
        timeout_ms: None,
        enable_acting_master: None,
        zone_name: None,
        version: &version,
        topics: &table,
        filter_servers: &[],
        connection: 1,
    };
    assert!(is_accepted(&routes.register(&registration, RULES, Mono(0))));
    assert!(routes.member_group("a").is_none());
    assert_eq!(topics(&routes), ["A", "C"]);
}

#[test]
fn with_an_old_connection_counting_as_the_latest_its_end_removes_the_broker() {
    let mut routes = RouteInfo::default();
    MASTER.registers(&mut routes, &version(0, 1), &["A", "B"]);
    let again = Voice { connection: 9, ..MASTER };
    again.registers(&mut routes, &version(0, 1), &["A", "B"]);
    routes.live.heard_last_on(1);
    assert_eq!(routes.connection_closed(1).len(), 1);
    assert_eq!(topics(&routes), Vec::<String>::new());
}

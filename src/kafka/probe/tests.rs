//! The judgement with made-up facts; the gathering against librdkafka's mock cluster and listeners of our own.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};

use rdkafka::mocking::MockCluster;

use super::judge::{Severity, findings};
use super::*;

const MAX_EVENT: usize = 900 << 10;
const PATIENCE: Duration = Duration::from_secs(2);

fn node(address: &str, reach: Reach) -> Node {
    Node { address: address.to_owned(), reach }
}

fn cluster_of(brokers: Option<Vec<Node>>, said: &[&str], topics: Vec<Topic>) -> Facts {
    let said = said.iter().map(|line| (*line).to_owned()).collect();
    Facts { servers: vec![node("kafka-1:9092", Reach::Answers)], brokers, said, topics }
}

fn healthy() -> TopicSettings {
    TopicSettings {
        max_message_bytes: Some(1_048_588),
        retention_ms: Some(604_800_000),
        retention_bytes: Some(-1),
        cleanup_policy: Some("delete".to_owned()),
        min_insync: Some(2),
    }
}

fn topic(replication: usize, settings: Option<TopicSettings>) -> Vec<Topic> {
    vec![Topic { name: "logs".into(), state: TopicState::Exists { partitions: 6, leaderless: 0, replication, settings } }]
}

fn judged(topics: Vec<Topic>) -> Vec<Finding> {
    findings(&cluster_of(Some(vec![node("kafka-1:9092", Reach::Answers)]), &[], topics), MAX_EVENT)
}

/// The only finding of a topic with these settings.
fn only(replication: usize, change: impl FnOnce(&mut TopicSettings)) -> (Severity, String) {
    let mut settings = healthy();
    change(&mut settings);
    let mut found = judged(topic(replication, Some(settings)));
    assert_eq!(found.len(), 1, "{found:?}");
    let found = found.remove(0);
    (found.severity, found.what)
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    assert_eq!(judged(topic(3, Some(healthy()))), []);
}

#[test]
fn an_address_that_is_advertised_but_does_not_resolve_is_named_with_its_cure() {
    let facts = cluster_of(Some(vec![node("kafka:29092", Reach::Unresolved("unknown host".to_owned()))]), &[], Vec::new());
    let expected = "kafka-1:9092 answers, but advertises kafka:29092, which does not resolve: correct advertised.listeners on the broker, or \
                    add the name to DNS or /etc/hosts";
    assert_eq!(judge::one_line(&facts, &findings(&facts, MAX_EVENT)), expected);
}

#[test]
fn one_server_of_two_down_is_a_warning_and_all_down_are_errors() {
    let mut facts = cluster_of(Some(vec![node("kafka-1:9092", Reach::Answers)]), &[], Vec::new());
    facts.servers.push(node("kafka-2:9092", Reach::TimedOut));
    assert_eq!(findings(&facts, MAX_EVENT).iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Warning]);
    assert_eq!(judge::one_line(&facts, &findings(&facts, MAX_EVENT)), "Kafka answers: 1 broker is reachable");
    facts.servers[0].reach = Reach::Refused;
    facts.brokers = None;
    assert_eq!(findings(&facts, MAX_EVENT).iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Error; 2]);
    assert!(judge::one_line(&facts, &findings(&facts, MAX_EVENT)).ends_with("(and 1 more: logferry check --connect)"));
}

#[test]
fn a_compacted_topic_is_an_error_also_when_it_deletes_as_well() {
    for policy in ["compact", "compact,delete"] {
        let (severity, what) = only(3, |settings| settings.cleanup_policy = Some(policy.to_owned()));
        assert_eq!(severity, Severity::Error);
        assert!(what.contains("would delete logs"), "{what}");
    }
}

#[test]
fn a_limit_below_the_longest_event_is_an_error_with_both_values() {
    let (severity, what) = only(3, |settings| settings.max_message_bytes = Some(900 << 10));
    assert_eq!(severity, Severity::Error);
    assert!(what.contains("up to 921600 bytes") && what.contains("kafka.max_event is 921600") && what.contains("920576"), "{what}");
    assert_eq!(judged(topic(3, Some(TopicSettings { max_message_bytes: Some(922_624), ..healthy() }))), []);
}

#[test]
fn replicas_that_can_not_be_in_sync_are_an_error_and_weak_ones_a_warning() {
    assert_eq!(only(3, |settings| settings.min_insync = Some(4)).0, Severity::Error);
    assert_eq!(only(3, |settings| settings.min_insync = Some(3)).0, Severity::Warning);
    assert_eq!(only(3, |settings| settings.min_insync = Some(1)).0, Severity::Warning);
    assert_eq!(only(1, |settings| settings.min_insync = Some(1)).0, Severity::Warning);
    assert_eq!(only(3, |settings| settings.retention_ms = Some(600_000)).0, Severity::Warning);
}

#[test]
fn what_may_not_be_read_or_written_is_said_with_the_command_that_grants_it() {
    let found = judged(topic(3, None));
    assert!(found[0].severity == Severity::Warning && found[0].what.contains("--operation DescribeConfigs --topic logs"), "{found:?}");
    let found = judged(vec![Topic { name: "logs".into(), state: TopicState::Refused(Code::TopicAuthorizationFailed) }]);
    assert!(found[0].severity == Severity::Error && found[0].what.contains("kafka-acls.sh --bootstrap-server kafka-1:9092"), "{found:?}");
}

#[test]
fn a_topic_of_which_nothing_was_heard_is_not_taken_for_good() {
    let found = judged(vec![Topic { name: "logs".into(), state: TopicState::NotSeen }]);
    assert!(found[0].severity == Severity::Error && found[0].what.contains("\"logs\""), "{found:?}");
}

#[test]
fn the_most_telling_of_librdkafkas_words_names_the_cure() {
    let cases = [
        ("SASL authentication error: Authentication failed (after 3ms in state AUTH_REQ)", "kafka.sasl.password"),
        ("SASL SCRAM-SHA-256 mechanism handshake failed: Unsupported: broker's supported mechanisms: PLAIN", "kafka.sasl.mechanism"),
        (
            "Disconnected: verify that security.protocol is correctly configured, broker might require SASL authentication",
            "add [kafka.sasl]",
        ),
        ("Disconnected: connection closed by peer (after 12ms in state UP)", "add [kafka.sasl]"),
        ("SSL handshake failed: certificate verify failed: broker certificate could not be verified", "kafka.tls.ca_file"),
    ];
    for (line, cure) in cases {
        let facts = cluster_of(None, &[line, "1/1 brokers are down"], Vec::new());
        let said = judge::one_line(&facts, &findings(&facts, MAX_EVENT));
        assert!(said.contains(cure) && said.contains(line), "{said}");
    }
}

#[test]
fn servers_are_understood_as_librdkafka_does() {
    for (server, address) in
        [("k1", "k1:9092"), ("k1:19092", "k1:19092"), ("SASL_SSL://k1:1", "k1:1"), ("[::1]:5", "[::1]:5"), ("[::1]", "[::1]:9092")]
    {
        assert_eq!(with_port(server), address);
    }
}

fn settings(servers: &str, properties: &[(&str, &str)]) -> Settings {
    Settings {
        bootstrap_servers: servers.split(',').map(str::to_owned).collect(),
        properties: properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

/// As the producer has it: the probe must not stumble over what is no consumer's.
const PRODUCERS: [(&str, &str); 4] =
    [("enable.idempotence", "true"), ("linger.ms", "20"), ("message.timeout.ms", "0"), ("client.id", "logferry")];

#[test]
fn a_cluster_that_answers_is_seen_with_its_topics_and_none_is_created() {
    let mock = MockCluster::new(2).unwrap();
    mock.create_topic("logs", 6, 2).unwrap();
    let settings = settings(&mock.bootstrap_servers(), &PRODUCERS);
    for _ in 0..2 {
        let report = cluster(&settings, &["logs".into(), "absent".into()], MAX_EVENT, PATIENCE);
        let brokers = report.facts.brokers.clone().unwrap();
        assert_eq!(brokers.len(), 2, "{report:?}");
        assert!(brokers.iter().all(|broker| broker.reach == Reach::Answers), "{report:?}");
        let logs = &report.facts.topics[0].state;
        assert!(matches!(logs, TopicState::Exists { partitions: 6, replication: 2, leaderless: 0, .. }), "{report:?}");
        assert!(matches!(report.facts.topics[1].state, TopicState::Refused(Code::UnknownTopicOrPartition)), "{report:?}");
        assert!(one_line(&report).starts_with("topic \"absent\" does not exist on 127.0.0.1:"), "{}", one_line(&report));
    }
}

#[test]
fn a_port_where_nothing_listens_and_a_name_that_does_not_resolve_are_said() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let report =
        cluster(&settings(&format!("127.0.0.1:{port},no-such-host.invalid:9092"), &PRODUCERS), &["logs".into()], MAX_EVENT, PATIENCE);
    assert_eq!(report.facts.servers[0].reach, Reach::Refused);
    assert!(matches!(report.facts.servers[1].reach, Reach::Unresolved(_)), "{report:?}");
    assert!(
        one_line(&report).starts_with(&format!("127.0.0.1:{port} refuses connections: is a broker running there")),
        "{}",
        one_line(&report)
    );
}

#[test]
fn a_tls_listener_spoken_to_in_plaintext_is_recognised() {
    // As a TLS listener does with what is no handshake: it reads and closes.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().read(&mut [0; 1024]);
        }
    });
    let report = cluster(&settings(&address, &PRODUCERS), &["logs".into()], MAX_EVENT, PATIENCE);
    assert!(one_line(&report).contains("add [kafka.tls]"), "{}", one_line(&report));
}

#[test]
fn a_plaintext_listener_spoken_to_in_tls_is_recognised() {
    let mock = MockCluster::new(1).unwrap();
    let settings = settings(&mock.bootstrap_servers(), &[("security.protocol", "ssl")]);
    let report = cluster(&settings, &["logs".into()], MAX_EVENT, PATIENCE);
    assert!(one_line(&report).contains("remove [kafka.tls]"), "{}", one_line(&report));
}

#[test]
fn a_setting_that_the_client_refuses_is_said() {
    let mock = MockCluster::new(1).unwrap();
    let settings = settings(&mock.bootstrap_servers(), &[("security.protocol", "carrier pigeon")]);
    let report = cluster(&settings, &["logs".into()], MAX_EVENT, PATIENCE);
    assert!(one_line(&report).contains("carrier pigeon"), "{}", one_line(&report));
}

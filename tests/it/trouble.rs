//! A broker that is there and refuses: each kind of trouble is provoked for real, said in words, and passes without a restart of logferry once
//! its cause is gone. Nothing is lost, nothing comes twice, the order holds.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logferry::dead_letters::{DeadLetters, Kept, Letter, Settings};
use logferry::spill::KeepFree;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::LineWriter;
use crate::harness::oracle;
use crate::harness::topic::{self, Format, Isolation};
use crate::harness::{temp_dir, wait_until};
use crate::tls::{keytool, plan_as, secure};

const SOON: Duration = Duration::from_secs(30);
const LATE: Duration = Duration::from_secs(60);

/// Waits until the agent has said so, so many times since it was started.
#[track_caller]
fn wait_for_times(agent: &Agent, text: &str, times: usize) {
    wait_until(&format!("{text:?}, {times} times"), SOON, || agent.log().matches(text).count() >= times);
}

/// Lets a topic refuse so many events for their time, as with a clock that is wrong, and checks that its lane waits with the words for it, and
/// then goes on.
fn refused_for_its_time(topic: &str, events: u64) {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic(topic, 1, &[("message.timestamp.before.max.ms", "0")]);
    let mut written = LineWriter::new("w", logs.path().join("a.log")).limit(events).start().finish();
    let mut agent = Plan::new(&broker.bootstrap(), topic).include(logs.path().join("*.log")).start();
    agent.wait_for_log("clock right (NTP)", SOON);
    assert!(agent.log().contains("blocked: ") && agent.log().contains("reason=\"clock\""), "{}", agent.log());
    written.extend(LineWriter::new("later", logs.path().join("b.log")).limit(3000).start().finish());
    assert_eq!(broker.count(topic), 0);
    broker.configure_topic(topic, &[]);
    oracle::read_when_whole(broker, topic, Format::Raw, &written, LATE).assert_whole(topic, 0, &agent);
    assert!(agent.terminate(SOON).success());
    let list = letters(broker, &agent.state_dir().join("dead-letters"), None).list().unwrap();
    assert!(list.entries.is_empty(), "{list:?}");
}

#[test]
fn a_topic_that_refuses_the_time_of_an_event_blocks_its_lane() {
    refused_for_its_time("clock", 1);
}

/// Of several records refused in one batch librdkafka says of each that it is invalid, whatever the broker said: only a record that was sent alone
/// tells why.
#[test]
fn many_events_refused_for_their_time_are_no_dead_letters() {
    refused_for_its_time("clock-many", 3000);
}

#[test]
fn too_few_replicas_are_waited_for() {
    let (mut broker, logs) = (Broker::start(), temp_dir("logs"));
    let mut second = broker.join();
    broker.create_replicated_topic("replicas", 1, 2, &[("min.insync.replicas", "2")]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(1000).start();
    let mut agent = Plan::new(&broker.bootstrap(), "replicas").include(logs.path().join("*.log")).start();
    broker.wait_for_count("replicas", 1000, SOON);
    second.kill9();
    agent.wait_for_log("no acknowledgement for", SOON);
    let stuck = broker.count("replicas");
    let written = writing.stop();
    assert!(stuck < written.values().sum(), "all {stuck} were taken with one replica of two");
    broker.configure_topic("replicas", &[("min.insync.replicas", "1")]);
    let verdict = oracle::read_when_whole(&broker, "replicas", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("too few replicas", 0, &agent);
}

#[test]
fn a_right_that_is_taken_away_and_given_back_under_load_costs_nothing() {
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    broker.create_topic("flapping", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(2000).start();
    let mut agent = plan_as("flapping", "PLAIN", "ferry", "secret").include(logs.path().join("*.log")).start();
    broker.wait_for_count("flapping", 2000, SOON);
    let acl = |what: &[&str]| {
        let which = ["--deny-principal", "User:ferry", "--operation", "Write", "--topic", "flapping"];
        broker.tool("org.apache.kafka.tools.AclCommand", &[what, &which].concat());
    };
    for time in 1..=3 {
        acl(&["--add"]);
        wait_for_times(&agent, "blocked: ", time);
        acl(&["--remove", "--force"]);
        wait_for_times(&agent, "sending again", time);
    }
    let written = writing.stop();
    let verdict = oracle::read_when_whole(broker, "flapping", Format::Raw, &written, LATE);
    let log = agent.log();
    assert!(log.contains("topic_denied") && log.contains("kafka-acls.sh") && log.contains("--topic flapping"), "{log}");
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("a flapping right", 0, &agent);
}

#[test]
fn a_quota_makes_it_slow_and_loses_nothing() {
    const BYTES_A_SECOND: u64 = 20_000;
    const LINE: u64 = 150;
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    broker.create_topic("quota", 1, &[]);
    let quota = |what: &[&str]| {
        let which = ["--alter", "--entity-type", "clients", "--entity-name", "logferry-quota"];
        broker.tool("kafka.admin.ConfigCommand", &[&which, what].concat());
    };
    quota(&["--add-config", &format!("producer_byte_rate={BYTES_A_SECOND}")]);
    let written = LineWriter::new("w", logs.path().join("a.log")).limit(5000).start().finish();
    // Small requests: the broker's answer to one that is too large for its quota is as long as its window at most.
    let plan = Plan::new(&broker.bootstrap(), "quota").agent("id = \"quota\"").kafka("compression = \"none\"");
    let mut agent = plan.extra("[kafka.librdkafka]\n\"batch.size\" = 8000").include(logs.path().join("a.log")).start();
    broker.wait_for_count("quota", 1, SOON);
    let (before, began) = (broker.count("quota"), Instant::now());
    broker.wait_for_count("quota", before + 400, SOON);
    let rate = (broker.count("quota") - before) * LINE * 1000 / u64::try_from(began.elapsed().as_millis()).unwrap().max(1);
    eprintln!("quota: {rate} bytes a second of {BYTES_A_SECOND}");
    assert!(rate < 3 * BYTES_A_SECOND, "{rate} bytes a second: the quota does nothing, so this proves nothing");
    quota(&["--delete-config", "producer_byte_rate"]);
    let verdict = oracle::read_when_whole(broker, "quota", Format::Raw, &written, LATE);
    assert!(!agent.log().contains("blocked: "), "{}", agent.log());
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("a quota", 0, &agent);
}

#[test]
fn a_user_that_is_made_later_is_let_in_without_a_restart() {
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    broker.create_topic("late-user", 1, &[]);
    let written = LineWriter::new("w", logs.path().join("a.log")).limit(2000).start().finish();
    let mut agent = plan_as("late-user", "SCRAM-SHA-256", "late", "pencil").include(logs.path().join("a.log")).start();
    agent.wait_for_log("blocked: ", SOON);
    assert!(agent.log().contains("authentication") && !agent.log().contains("pencil"), "{}", agent.log());
    let user = ["--alter", "--entity-type", "users", "--entity-name", "late", "--add-config", "SCRAM-SHA-256=[password=pencil]"];
    broker.tool("kafka.admin.ConfigCommand", &user);
    let verdict = oracle::read_when_whole(broker, "late-user", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("a late user", 0, &agent);
}

#[test]
fn a_wrong_authority_blocks_the_lane_and_the_right_one_frees_it() {
    let (broker, logs) = (&secure().0, temp_dir("logs"));
    broker.create_topic("authority", 1, &[]);
    let common = ["-alias", "o", "-storepass", "changeit", "-keystore", "o.p12"];
    keytool(logs.path(), &["-genkeypair", "-keyalg", "RSA", "-dname", "CN=other"], &common);
    keytool(logs.path(), &["-exportcert", "-rfc", "-file", "other.pem"], &common);
    let written = LineWriter::new("w", logs.path().join("a.log")).limit(2000).start().finish();
    let wrong = logs.path().join("other.pem").display().to_string();
    let plan = plan_as("authority", "PLAIN", "ferry", "secret").include(logs.path().join("a.log"));
    let mut agent = plan.env("LOGFERRY__KAFKA__TLS__CA_FILE", &wrong).start();
    agent.wait_for_log("blocked: ", SOON);
    assert!(agent.log().contains("kafka.tls.ca_file"), "{}", agent.log());
    let right = secure().1.path().join("ca.pem").display().to_string();
    agent.restart_with(|plan| plan.env("LOGFERRY__KAFKA__TLS__CA_FILE", &right));
    let verdict = oracle::read_when_whole(broker, "authority", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("authority", 0, &agent);
}

fn letters(broker: &Broker, dir: &std::path::Path, topic: Option<&str>) -> DeadLetters {
    let kafka = logferry::kafka::Settings { bootstrap_servers: vec![broker.bootstrap()], properties: Vec::new() };
    let settings = Settings { dir: dir.into(), max_size: Settings::MAX_SIZE, keep_free: KeepFree::Percent(0), topic: topic.map(Arc::from) };
    DeadLetters::new(&settings, &logferry::kafka::Current::new(kafka), Arc::default())
}

#[test]
fn an_event_that_is_too_large_goes_to_the_dead_letters_and_holds_up_nobody() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    broker.create_topic("lowered", 1, &[]);
    fs::write(&file, "one\n").unwrap();
    let mut agent = Plan::new(&broker.bootstrap(), "lowered").kafka("compression = \"none\"").include(&file).start();
    broker.wait_for_count("lowered", 1, SOON);
    broker.configure_topic("lowered", &[("max.message.bytes", "10000")]);
    let large = "x".repeat(20_000);
    let mut open = fs::File::options().append(true).open(&file).unwrap();
    open.write_all(format!("two\n{large}\nthree\nfour\n").as_bytes()).unwrap();
    broker.wait_for_count("lowered", 4, LATE);
    assert!(agent.terminate(SOON).success());
    let records = topic::records(&broker.bootstrap(), "lowered", Isolation::ReadUncommitted);
    assert_eq!(records.iter().map(|record| &*record.value).collect::<Vec<_>>(), [&b"one"[..], b"two", b"three", b"four"]);
    let letters = letters(broker, &agent.state_dir().join("dead-letters"), None);
    let list = letters.list().unwrap();
    let [entry] = &*list.entries else { panic!("{list:?}") };
    assert_eq!((&*entry.topic, &*entry.source, &*entry.reason, entry.value_bytes), ("lowered", "files", "too_large", 20_000));
    let (_, letter) = letters.letters(&entry.id, usize::MAX).unwrap().remove(0);
    assert_eq!(letter.value, large.as_bytes());
    assert!(letter.id.ends_with(":8"), "where its line begins: {}", letter.id);
    assert!(letter.key.ends_with(file.as_os_str().as_encoded_bytes()));
}

/// A broker knows nothing of a producer on a partition before it has taken something of it there, and takes any sequence number first. So when the
/// first request of a new producer is refused, one that librdkafka had made ready behind it is taken: the order is broken, and what went is sent again.
#[test]
fn a_refused_event_is_not_overtaken() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let file = logs.path().join("a.log");
    broker.create_topic("overtaken", 1, &[("max.message.bytes", "10000")]);
    let large = "x".repeat(20_000);
    fs::write(&file, ["one", &large, "three", "four"].map(|line| format!("{line}\n")).concat()).unwrap();
    let mut agent = Plan::new(&broker.bootstrap(), "overtaken").kafka("compression = \"none\"").include(&file).start();
    wait_for_times(&agent, "refused for good", 1);
    broker.wait_for_count("overtaken", 3, LATE);
    assert!(agent.terminate(SOON).success());
    let records = topic::records(&broker.bootstrap(), "overtaken", Isolation::ReadUncommitted);
    let values: Vec<_> = records.iter().map(|record| &*record.value).collect();
    assert_eq!(values, [&b"one"[..], b"three", b"four"], "each once: nothing went out before its turn");
}

#[test]
fn a_topic_takes_dead_letters_and_the_files_take_what_it_refuses() {
    let (broker, dir) = (Broker::shared(), temp_dir("letters"));
    broker.create_topic("dead", 1, &[("max.message.bytes", "2000")]);
    let letters = letters(broker, dir.path(), Some("dead"));
    let part = vec![("logferry-id".to_owned(), b"00000000000000ab:7:2".to_vec()), ("logferry-part".to_owned(), b"2".to_vec())];
    let small = Letter {
        id: "00000000000000ab:7:2".to_owned(),
        topic: "logs".into(),
        key: b"web:/a".to_vec(),
        value: b"text".to_vec(),
        headers: part,
        reason: "record_refused".to_owned(),
        ..Letter::default()
    };
    assert_eq!(letters.put(&small).unwrap(), Kept::Topic);
    let large = Letter { value: vec![b'x'; 5000], ..small.clone() };
    assert_eq!(letters.put(&large).unwrap(), Kept::Files);
    // It has just failed: the next one does not wait for it.
    assert_eq!(letters.put(&small).unwrap(), Kept::Files);
    let records = topic::records(&broker.bootstrap(), "dead", Isolation::ReadUncommitted);
    let [record] = &*records else { panic!("{records:?}") };
    assert_eq!((record.key.as_deref(), &*record.value), (Some(&b"web:/a"[..]), &b"text"[..]));
    let headers: Vec<(&str, &str)> = record.headers.iter().map(|(name, value)| (&**name, str::from_utf8(value).unwrap())).collect();
    let expected = [
        ("logferry-part", "2"),
        ("logferry-id", "00000000000000ab:7:2"),
        ("logferry-reason", "record_refused"),
        ("logferry-topic", "logs"),
    ];
    assert_eq!(headers, expected);
    let sizes: Vec<usize> = letters.list().unwrap().entries.iter().map(|entry| entry.value_bytes).collect();
    assert_eq!(sizes, [5000, 4]);
}

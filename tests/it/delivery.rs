//! Files arrive: once and in order while all is well, and with nothing lost while the agent is killed or the broker is away, frozen or not there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{LineWriter, Writing, Written};
use crate::harness::oracle::{self, Allowance, Verdict};
use crate::harness::topic::{self, Format, Isolation};
use crate::harness::{free_port, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
/// What the agents here are given as `agent.memory`, and about what a line of the writer takes of it: its bytes, and librdkafka's books.
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;

/// An agent whose budget is small, so that little may come twice.
fn plan(bootstrap: &str, topic: &str) -> Plan {
    Plan::new(bootstrap, topic).agent("memory = \"4MiB\"")
}

/// Lets the writer go on until it has written so many lines more.
fn let_write(writing: &Writing, more: u64) {
    let until = writing.written() + more;
    wait_until("lines to be written", LATE, || writing.written() >= until);
}

#[test]
fn files_arrive_once_and_in_order() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("once", 3, &[]);
    let write = |name: &str| LineWriter::new(name, logs.path().join(format!("{name}.log"))).limit(50_000).start();
    let mut written = Written::new();
    // One file is there before the agent, two grow while it reads.
    written.extend(write("early").finish());
    let mut agent = Plan::new(&broker.bootstrap(), "once").include(logs.path().join("*.log")).start();
    for writing in [write("a"), write("b")] {
        written.extend(writing.finish());
    }
    let verdict = oracle::read_when_whole(broker, "once", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("once", 0, &agent);
    let records = topic::records(&broker.bootstrap(), "once", Isolation::ReadUncommitted);
    let key = format!("harness:{}", logs.path().join("a.log").display());
    assert!(records.iter().filter(|record| record.value.starts_with(b"a:")).all(|record| record.key.as_deref() == Some(key.as_bytes())));
    assert!(records.iter().all(|record| record.headers.is_empty()));
}

#[test]
fn json_events_are_what_the_schema_says() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("json", 3, &[]);
    let file = logs.path().join("app.log");
    let written = LineWriter::new("w", &file).limit(20_000).start().finish();
    let plan =
        Plan::new(&broker.bootstrap(), "json").format(Format::Json).include(&file).agent("labels = { env = \"test\" }").arg("--once");
    let mut agent = plan.start();
    assert!(agent.wait(LATE).success());
    oracle::read_when_whole(broker, "json", Format::Json, &written, SOON).assert_whole("json", 0, &agent);

    let schema: Value = serde_json::from_str(include_str!("../../docs/schema.json")).unwrap();
    let patterns: Vec<(&String, Regex)> = schema["properties"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(key, kind)| Some((key, Regex::new(kind["pattern"].as_str()?).unwrap())))
        .collect();
    let mut stream = None;
    let mut offset = 0;
    for record in topic::records(&broker.bootstrap(), "json", Isolation::ReadUncommitted) {
        let event: Value = serde_json::from_slice(&record.value).unwrap();
        let fields = event.as_object().unwrap();
        assert!(schema["required"].as_array().unwrap().iter().all(|key| fields.contains_key(key.as_str().unwrap())), "{event}");
        assert!(fields.keys().all(|key| schema["properties"].get(key).is_some()), "{event}");
        assert!(
            patterns.iter().all(|(key, pattern)| fields.get(*key).is_none_or(|text| pattern.is_match(text.as_str().unwrap()))),
            "{event}"
        );
        assert_eq!((&event["v"], &event["type"]), (&Value::from(1), &Value::from("file")));
        assert_eq!((&event["host"], &event["source"]), (&Value::from("harness"), &Value::from("files")));
        assert_eq!((&event["path"], &event["labels"]["env"]), (&Value::from(file.display().to_string()), &Value::from("test")));
        let (id, at) = event["event_id"].as_str().unwrap().split_once(':').unwrap();
        assert_eq!(*stream.get_or_insert_with(|| id.to_owned()), id, "one file, one stream");
        assert_eq!((event["offset"].as_u64(), at.parse().ok()), (Some(offset), Some(offset)));
        offset += event["message"].as_str().unwrap().len() as u64 + 1;
    }
    assert_eq!(offset, fs::metadata(&file).unwrap().len());
}

#[test]
fn every_format_arrives_once_and_in_order() {
    let broker = Broker::shared();
    for format in [Format::Ecs, Format::Otlp] {
        let (topic, logs) = (format!("format-{}", format.name()), temp_dir("logs"));
        broker.create_topic(&topic, 3, &[]);
        let file = logs.path().join("app.log");
        let written = LineWriter::new("w", &file).limit(20_000).start().finish();
        let mut agent = Plan::new(&broker.bootstrap(), &topic).format(format).include(&file).arg("--once").start();
        assert!(agent.wait(LATE).success());
        oracle::read_when_whole(broker, &topic, format, &written, SOON).assert_whole(&topic, 0, &agent);
    }
}

#[test]
fn five_kills_under_load_lose_nothing_and_double_no_more_than_is_allowed() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("kills", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    let mut agent = plan(&broker.bootstrap(), "kills").include(logs.path().join("*.log")).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    // At another moment of the snapshot's second each time.
    for lines in [16_000, 17_300, 18_900, 16_700, 19_800] {
        let until = writing.written() + lines;
        allowance.kill(&mut agent, broker, "kills", || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    let verdict = oracle::read_when_whole(broker, "kills", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("five kills", allowance.most(), &agent);
}

#[test]
fn an_event_that_is_sent_twice_has_one_id_and_one_key() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("same-id", 3, &[]);
    let file = logs.path().join("app.log");
    LineWriter::new("w", &file).limit(1000).start().finish();
    let plan = plan(&broker.bootstrap(), "same-id").format(Format::Json).include(logs.path().join("app.log*"));
    let mut agent = plan.agent("snapshot_interval = \"1h\"").start();
    broker.wait_for_count("same-id", 1000, SOON);
    agent.kill9();
    rename(&file, &logs.path().join("app.log.1"));
    agent.restart();
    broker.wait_for_count("same-id", 2000, SOON);
    let mut ids = BTreeMap::<String, BTreeSet<(String, Option<Vec<u8>>)>>::new();
    for record in topic::records(&broker.bootstrap(), "same-id", Isolation::ReadUncommitted) {
        let event: Value = serde_json::from_slice(&record.value).unwrap();
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        ids.entry(text("message")).or_default().insert((text("event_id"), record.key));
    }
    let several: Vec<_> = ids.values().filter(|ids| ids.len() > 1).collect();
    assert!(several.is_empty(), "{} of {} events, first {:?}", several.len(), ids.len(), several[0]);
}

#[expect(clippy::disallowed_methods, reason = "a log is renamed here as any rotator does it, without fsync")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

/// Runs an agent under load, does something to the broker, and lets everything arrive.
fn trouble(topic: &str, change: impl FnOnce(Plan) -> Plan, harm: impl FnOnce(&mut Broker, &Writing)) -> (Verdict, Agent) {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic(topic, 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).start();
    let mut agent = change(plan(&broker.bootstrap(), topic).include(logs.path().join("*.log"))).start();
    broker.wait_for_count(topic, 4000, SOON);
    harm(&mut broker, &writing);
    let written = writing.stop();
    // What was lost in the negative control never comes; the line at the end tells that everything before it has met its fate.
    let last = *written.values().next().unwrap() - 1;
    let verdict = oracle::read_when(&broker, topic, Format::Raw, &written, LATE, |verdict| {
        !verdict.streams.values().any(|stream| stream.lost.last() == Some(&last))
    });
    assert!(agent.terminate(SOON).success());
    (verdict, agent)
}

/// The broker is dead for longer than the three seconds of the negative control.
fn kill_for_a_while(broker: &mut Broker, writing: &Writing) {
    broker.kill9();
    let_write(writing, 4000 * 9 / 2);
    broker.restart();
    let_write(writing, 4000);
}

#[test]
fn a_broker_killed_under_load_costs_nothing_and_doubles_nothing() {
    let (verdict, agent) = trouble("broker-killed", |plan| plan, kill_for_a_while);
    verdict.assert_whole("broker killed", 0, &agent);
}

/// The negative control: an agent that trusts what librdkafka gives up. Were nothing lost here, the test above would prove nothing.
#[test]
fn an_agent_that_gives_up_after_three_seconds_is_seen_to_lose() {
    let unsafe_agent =
        |plan: Plan| plan.env("LOGFERRY_TEST_UNSAFE_LIBRDKAFKA", "message.timeout.ms=3000").env("LOGFERRY_TEST_LOSE_FAILED", "1");
    let (verdict, agent) = trouble("gives-up", unsafe_agent, kill_for_a_while);
    let log = agent.log();
    eprintln!("negative control: {verdict}");
    assert!(log.contains("EVENTS CAN BE LOST"), "{log}");
    assert!(verdict.lost() > 0, "the oracle saw no loss");
    let complaint = std::panic::catch_unwind(|| verdict.assert_nothing_lost()).unwrap_err();
    assert!(complaint.downcast::<String>().unwrap().contains("lines were lost"));
}

#[test]
fn a_frozen_broker_is_waited_for() {
    let (verdict, agent) = trouble(
        "frozen",
        |plan| plan,
        |broker, writing| {
            broker.freeze();
            let_write(writing, 4000 * 5);
            broker.thaw();
            let_write(writing, 4000);
        },
    );
    verdict.assert_whole("broker frozen", 0, &agent);
}

/// A line that comes when nothing has been in flight for a while was held for a second, as if it had waited for an answer all that time.
#[test]
fn a_trickle_of_lines_is_not_held_up() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("trickle", 1, &[]);
    let file = logs.path().join("app.log");
    fs::write(&file, "first\n").unwrap();
    let mut agent = Plan::new(&broker.bootstrap(), "trickle").include(&file).start();
    broker.wait_for_count("trickle", 1, SOON);
    let mut log = fs::OpenOptions::new().append(true).open(&file).unwrap();
    let took = |number: u64| {
        // The pause is what is tested.
        thread::sleep(Duration::from_millis(500));
        let written = Instant::now();
        writeln!(log, "line {number}").unwrap();
        wait_until("the line to arrive", SOON, || broker.count("trickle") > number);
        written.elapsed()
    };
    // The quickest of them: a busy machine may be slow, but not each time.
    let quickest = (1..=8).map(took).min().unwrap();
    assert!(quickest < Duration::from_millis(800), "each took {quickest:?} or more");
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_broker_that_is_not_there_at_start_is_named_and_waited_for() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("later", 3, &[]);
    broker.kill9();
    let written = LineWriter::new("w", logs.path().join("app.log")).limit(20_000).start().finish();
    let mut agent = plan(&broker.bootstrap(), "later").include(logs.path().join("*.log")).start();
    agent.wait_for_log("waiting for Kafka: ", Duration::from_secs(15));
    assert!(agent.log().contains(&format!("{} refuses connections", broker.bootstrap())), "{}", agent.log());
    broker.restart();
    let verdict = oracle::read_when_whole(&broker, "later", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("not there at start", 0, &agent);
}

#[test]
fn once_ends_when_everything_is_acknowledged() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("run-once", 3, &[]);
    let mut written = LineWriter::new("w", logs.path().join("a.log")).limit(30_000).start().finish();
    written.extend(LineWriter::new("w", logs.path().join("b.log")).limit(1).start().finish());
    let mut agent = plan(&broker.bootstrap(), "run-once").include(logs.path().join("*.log")).arg("--once").start();
    assert!(agent.wait(LATE).success());
    assert_eq!(broker.count("run-once"), 30_001, "all of it was there when it ended");
    let verdict = oracle::read(broker, "run-once", Format::Raw, Isolation::ReadUncommitted, &written);
    verdict.assert_whole("run --once", 0, &agent);
    // With nothing new there is nothing to do.
    agent.restart();
    assert!(agent.wait(SOON).success());
    assert_eq!(broker.count("run-once"), 30_001);
}

#[test]
fn a_stop_sends_what_was_read_and_a_start_goes_on_there() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("stops", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(10_000).start();
    let mut agent = plan(&broker.bootstrap(), "stops").include(logs.path().join("*.log")).start();
    for _ in 0..3 {
        broker.wait_for_count("stops", broker.count("stops") + 5000, SOON);
        assert!(agent.terminate(SOON).success());
        assert!(agent.log().contains("stopped delivered=") && agent.log().contains("pending=0"), "{}", agent.log());
        agent.restart();
    }
    let written = writing.stop();
    let verdict = oracle::read_when_whole(broker, "stops", Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole("three stops", 0, &agent);
}

/// An agent that has something to send to a broker that does not answer.
fn stuck(
    broker: &mut Broker,
    topic: &str,
    change: impl FnOnce(Plan) -> Plan,
    harm: impl FnOnce(&mut Broker),
) -> (Agent, Written, tempfile::TempDir) {
    let logs = temp_dir("logs");
    broker.create_topic(topic, 1, &[]);
    let mut written = LineWriter::new("a", logs.path().join("a.log")).limit(2000).start().finish();
    let agent = change(plan(&broker.bootstrap(), topic).include(logs.path().join("*.log"))).start();
    broker.wait_for_count(topic, 2000, SOON);
    harm(broker);
    written.extend(LineWriter::new("b", logs.path().join("b.log")).limit(50_000).start().finish());
    // The file is found and read, so that it is in flight or waiting.
    wait_until("the second file to be read", SOON, || {
        agent.ask(&["explain", &logs.path().join("b.log").display().to_string()]).text.contains("stream ")
    });
    (agent, written, logs)
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut broker = Broker::lent();
    let (mut agent, written, _logs) = stuck(&mut broker, "second-signal", |plan| plan, Broker::freeze);
    agent.signal(Signal::TERM);
    agent.wait_for_log("a second signal stops at once", SOON);
    thread::sleep(Duration::from_millis(500));
    assert!(agent.exited().is_none(), "it waits for the broker as long as it may");
    let asked = Instant::now();
    agent.signal(Signal::TERM);
    agent.wait(Duration::from_secs(10));
    let took = asked.elapsed();
    eprintln!("second signal: ended after {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    broker.thaw();
    agent.restart();
    let verdict = oracle::read_when_whole(&broker, "second-signal", Format::Raw, &written, LATE);
    verdict.assert_whole("second signal", 2000 + MEMORY / LINE, &agent);
}

#[test]
fn a_stop_ends_in_time_with_the_broker_away_and_nothing_is_lost() {
    let mut broker = Broker::lent();
    let (mut agent, written, _logs) = stuck(&mut broker, "stop-timeout", |plan| plan.agent("stop_timeout = \"2s\""), Broker::kill9);
    let asked = Instant::now();
    let status = agent.terminate(Duration::from_secs(10));
    let took = asked.elapsed();
    eprintln!("stop_timeout 2s: ended after {took:?} with {status}");
    // Earlier than that where all that waits is in the spill.
    assert!(took < Duration::from_secs(6), "{took:?}");
    broker.restart();
    agent.restart();
    let verdict = oracle::read_when_whole(&broker, "stop-timeout", Format::Raw, &written, LATE);
    verdict.assert_whole("stop timeout", 2000 + MEMORY / LINE, &agent);
}

/// An agent that needs no broker to show what it does with its state.
fn alone() -> Plan {
    Plan::new(&format!("127.0.0.1:{}", free_port()), "nowhere").include("/nowhere/*.log")
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let mut first = alone().start();
    first.wait_for_log(" runs", SOON);
    let second = first.ask(&["run"]);
    assert_eq!(second.code, Some(1));
    assert!(second.text.contains("another logferry runs on") && second.text.contains("state_dir"), "{}", second.text);
    assert!(first.exited().is_none());
}

#[test]
fn the_state_of_another_agent_is_refused() {
    let mut agent = alone().agent("id = \"first\"").arg("--once").start();
    assert!(agent.wait(SOON).success());
    agent.restart_with(|plan| plan.env("LOGFERRY__AGENT__ID", "second"));
    assert_eq!(agent.wait(SOON).code(), Some(1));
    let said = agent.log();
    assert!(said.contains("belongs to another agent (id first, this one is second)") && said.contains("agent.id = \"first\""), "{said}");
    // It was left to its owner.
    agent.restart_with(|plan| plan.env("LOGFERRY__AGENT__ID", "first"));
    assert!(agent.wait(SOON).success());
}

#[test]
fn a_damaged_state_is_refused_and_left_as_it_was() {
    let mut agent = alone().without_books("they are damaged on purpose").arg("--once").start();
    assert!(agent.wait(SOON).success());
    let path = agent.state_dir().join("state.redb");
    let good = fs::read(&path).unwrap();
    let cut = good[..good.len() / 3].to_vec();
    let mut hit = good.clone();
    hit[4096..].fill(0xA5);
    for (what, damaged) in [("emptied", Vec::new()), ("cut", cut), ("overwritten", b"text\n".repeat(5000)), ("hit behind its head", hit)] {
        fs::File::create(&path).unwrap().write_all(&damaged).unwrap();
        agent.restart();
        assert_eq!(agent.wait(SOON).code(), Some(1), "{what}: {}", agent.log());
        assert!(agent.log().contains("is damaged") && agent.log().contains("mv "), "{what}: {}", agent.log());
        assert!(damaged == fs::read(&path).unwrap(), "{what}: it was changed");
    }
}

#[test]
fn a_count_that_is_left_out_is_noticed_by_the_daemon_itself() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("left-out", 1, &[]);
    LineWriter::new("w", logs.path().join("a.log")).limit(100).start().finish();
    for term in ["read", "delivered"] {
        let plan = plan(&broker.bootstrap(), "left-out").include(logs.path().join("a.log")).env("LOGFERRY_TEST_LEAVE_OUT", term);
        let mut agent = plan.without_books("they are wrong on purpose").start();
        agent.wait_for_log("ledger out of balance", SOON);
        assert!(agent.terminate(SOON).success());
    }
}

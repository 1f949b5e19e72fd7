//! Lines that are joined, in a running agent: killed at any moment, rotated in the middle of an event, read again. Every line arrives in the event
//! that it belongs to, and the books say how many were merged.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::Message;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{self, LineWriter, Rotation, Written};
use crate::harness::oracle::{Allowance, Oracle, Verdict};
use crate::harness::topic::{self, Format, Isolation};
use crate::harness::{free_port, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 4 << 20;
/// Lines of an event: one whose number ends in 0 or 5 begins it.
const LINES: u64 = 5;
const EVENT: u64 = LINES * 140 + 240;

fn plan(broker: &Broker, topic: &str, logs: &Path) -> Plan {
    broker.create_topic(topic, 3, &[]);
    let source = "multiline = { start = ' seq=[0-9]{9}[05] ', timeout = \"3s\" }";
    Plan::new(&broker.bootstrap(), topic).agent("memory = \"4MiB\"").source(source).include(logs.join("app.log*"))
}

/// How many events these lines are.
fn events(written: &Written) -> u64 {
    written.values().map(|lines| lines.div_ceil(LINES)).sum()
}

/// Judges the lines of all events, each of which must be the one that was written.
#[track_caller]
fn read(broker: &Broker, topic: &str, written: &Written) -> Verdict {
    let mut oracle = Oracle::new(written);
    topic::for_each(&broker.bootstrap(), topic, Isolation::ReadUncommitted, |message| {
        assert_eq!(topic::gap(message), None);
        let value = message.payload().unwrap_or_default();
        let lines: Vec<&[u8]> = value.split(|byte| *byte == b'\n').collect();
        let (stream, first) = lines::parse(lines[0]).expect("a whole line");
        let whole = LINES.min(written[stream] - first);
        assert!(first % LINES == 0 && lines.len() as u64 == whole, "{stream} {first}: {} lines, not {whole}", lines.len());
        for line in lines {
            oracle.see(message.partition(), line);
        }
    });
    oracle.verdict()
}

/// Waits until every line has arrived; then nothing is lost, order is kept, and the books tell the same.
#[track_caller]
fn assert_whole(broker: &Broker, topic: &str, written: &Written, doubled_at_most: u64, agent: &Agent) {
    let (started, events) = (Instant::now(), events(written));
    wait_until("all events", LATE, || broker.count(topic) >= events);
    let mut verdict = read(broker, topic, written);
    while verdict.lost() > 0 && started.elapsed() < LATE {
        std::thread::sleep(Duration::from_millis(200));
        verdict = read(broker, topic, written);
    }
    eprintln!("{topic}: {verdict} · duplicates allowed {doubled_at_most}");
    verdict.assert_nothing_lost();
    verdict.assert_order_kept();
    verdict.assert_duplicates_at_most(doubled_at_most);
    let lines = verdict.written();
    let books = agent.settled_books("files", lines);
    assert_eq!((books.delivered.events, books.merged.events), (events, lines - events), "{books}");
    assert!(books.missed.is_empty(), "{books}");
}

#[test]
fn kills_in_the_middle_of_joined_events_lose_and_double_nothing_that_was_settled() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let mut agent = plan(broker, "joined-killed", logs.path()).start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, EVENT);
    for lines in [14_000, 16_300, 15_100, 17_900] {
        let until = writing.written() + lines;
        allowance.kill(&mut agent, broker, "joined-killed", || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    assert_whole(broker, "joined-killed", &written, allowance.most() * LINES, &agent);
    assert!(agent.terminate(SOON).success());
}

/// Rotates in the middle of events, under load, with kills.
fn rotate_and_kill(topic: &str, rotation: Rotation) {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let mut agent = plan(broker, topic, logs.path()).start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(6000).rotation(rotation).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, EVENT);
    for lines in [12_000, 13_500] {
        let until = writing.written() + lines;
        allowance.kill(&mut agent, broker, topic, || writing.written() >= until);
        let until = writing.written() + 7000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    assert_whole(broker, topic, &written, allowance.most() * LINES, &agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn joined_events_survive_renaming_and_kills() {
    rotate_and_kill("joined-renamed", Rotation::Rename { every: 3002 });
}

#[test]
fn joined_events_survive_copytruncate_and_kills() {
    rotate_and_kill("joined-copied", Rotation::CopyTruncate { every: 3003 });
}

#[test]
fn a_stack_trace_arrives_as_one_event_and_run_once_waits_for_its_last_line() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("joined-java", 1, &[]);
    let trace = "2026-11-24 10:00:01 ERROR failed\njava.lang.IllegalStateException: boom\n\tat app.Main.main(Main.java:5)";
    fs::write(logs.path().join("app.log"), format!("2026-11-24 10:00:00 INFO started\n{trace}\n")).unwrap();
    let plan = Plan::new(&broker.bootstrap(), "joined-java").format(Format::Json).source("multiline = { preset = \"java\" }");
    let mut agent = plan.include(logs.path().join("*.log")).arg("--once").start();
    assert!(agent.wait(SOON).success(), "{}", agent.log());
    let records = topic::records(&broker.bootstrap(), "joined-java", Isolation::ReadUncommitted);
    let messages: Vec<serde_json::Value> = records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect();
    let texts: Vec<_> = messages.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(texts, ["2026-11-24 10:00:00 INFO started", trace]);
    assert_eq!(messages[1]["offset"], 33);
    let books = agent.settled_books("files", 4);
    assert_eq!((books.delivered.events, books.merged.events), (2, 2), "{books}");
}

#[test]
fn lines_of_a_tcp_connection_that_belong_together_are_one_message() {
    let (broker, port) = (Broker::shared(), free_port());
    broker.create_topic("joined-net", 1, &[]);
    let source = format!(
        "[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [\"tcp://127.0.0.1:{port}\"]\nmultiline = {{ start = '^<', timeout = \"200ms\" }}\n"
    );
    let mut agent = Plan::new(&broker.bootstrap(), "joined-net").include("/nonexistent/*.log").extra(&source).start();
    agent.wait_for_log("listening", SOON);
    let trace = "<11>Nov 24 10:00:01 web app: failed\njava.lang.IllegalStateException: boom\n\tat app.Main.main(Main.java:5)";
    let mut sender = TcpStream::connect(("127.0.0.1", port)).unwrap();
    sender.write_all(format!("<14>Nov 24 10:00:00 web app: started\n{trace}\n").as_bytes()).unwrap();
    // The last one is complete without another, the connection being open.
    broker.wait_for_count("joined-net", 2, SOON);
    sender.write_all(b"<14>Nov 24 10:00:02 web app: waits\n for").unwrap();
    drop(sender);
    broker.wait_for_count("joined-net", 4, SOON);
    let records = topic::records(&broker.bootstrap(), "joined-net", Isolation::ReadUncommitted);
    let texts: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect();
    assert_eq!(texts, ["<14>Nov 24 10:00:00 web app: started", trace, "<14>Nov 24 10:00:02 web app: waits", " for"]);
    let books = agent.settled_books("net", 4);
    assert_eq!((books.delivered.events, books.merged.events), (4, 0), "{books}");
    assert!(agent.terminate(SOON).success());
}

#[test]
fn rules_see_joined_events_and_the_books_say_what_was_filtered_and_what_merged_over_kills() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let rule = "[[rule]]\nname = 'every other'\nwhen = { message = ' seq=[0-9]{9}5 ' }\ndrop = true";
    let mut agent = plan(broker, "joined-sifted", logs.path()).extra(rule).start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, EVENT);
    for lines in [15_000, 17_300] {
        let until = writing.written() + lines;
        allowance.kill(&mut agent, broker, "joined-sifted", || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    let lines: u64 = written.values().sum();
    let (all, kept) = (events(&written), lines.div_ceil(2 * LINES));
    wait_until("what is kept", LATE, || broker.count("joined-sifted") >= kept);
    let books = agent.settled_books("files", lines);
    assert_eq!((books.delivered.events, books.filtered.events, books.merged.events), (kept, all - kept, lines - all), "{books}");
    let mut seen = BTreeSet::new();
    topic::for_each(&broker.bootstrap(), "joined-sifted", Isolation::ReadUncommitted, |message| {
        let value = message.payload().unwrap_or_default();
        let (_, first) = lines::parse(value.split(|byte| *byte == b'\n').next().unwrap()).expect("a whole line");
        assert_eq!(first % (2 * LINES), 0, "{first} is left out");
        seen.insert(first);
    });
    assert_eq!(seen.len() as u64, kept);
    let came = broker.count("joined-sifted");
    assert!(came - kept <= allowance.most(), "{} came twice, at most {} may", came - kept, allowance.most());
    assert!(agent.terminate(SOON).success());
}

#[test]
fn joined_events_go_through_the_spill_and_kills_while_kafka_is_away() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    let mut agent = plan(&broker, "joined-spill", logs.path()).extra("[spill]\nafter = \"500ms\"").start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    wait_until("some events", LATE, || broker.count("joined-spill") > 1000);
    broker.kill9();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, EVENT);
    for lines in [50_000, 20_000] {
        let until = writing.written() + lines;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        allowance.kill_while_away(&mut agent);
        agent.restart();
    }
    broker.restart();
    let written = writing.stop();
    assert_whole(&broker, "joined-spill", &written, allowance.most() * LINES, &agent);
    assert!(agent.terminate(SOON).success());
}

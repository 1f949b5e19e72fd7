//! What could not be shipped is told in Kafka: with place and amount, after a kill, once and under one number.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::{Broker, Lent};
use crate::harness::topic::{self, Format, Isolation, Record};
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
/// What is written before the broker goes away, and after it: lines of 10 bytes.
const BEFORE: u64 = 100;
const UNREAD: u64 = 1234;

/// A stopped agent whose state knows of lines that it could not ship, and a dead broker.
struct Loss {
    broker: Lent,
    agent: Agent,
    files: Vec<PathBuf>,
    _logs: TempDir,
}

fn append(path: &Path, lines: u64) {
    let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
    (0..lines).for_each(|number| writeln!(file, "{number:09}").unwrap());
}

fn says(agent: &Agent, file: &Path, lag: u64) -> bool {
    agent.ask(&["explain", &file.display().to_string()]).text.contains(&format!("(lag {lag} bytes)"))
}

/// The gaps of `logferry status --json`, waiting and sent.
fn gaps(agent: &Agent) -> Option<(u64, u64)> {
    let text = agent.ask(&["status", "--json"]).text;
    let status: Value = serde_json::from_str(text.get(text.find('{')?..)?).ok()?;
    Some((status["gaps"]["waiting"].as_u64()?, status["gaps"]["sent"].as_u64()?))
}

/// Kills the agent after a while that grows from try to try: snapshots can't be seen from outside, so whether one was written shows afterwards.
fn kill_later(agent: &mut Agent, grace: &mut Duration) {
    thread::sleep(*grace);
    *grace += Duration::from_millis(100);
    agent.kill9();
}

impl Loss {
    /// Ships lines of each file, takes the broker away, writes more lines, and kills the agent when its state has seen them.
    fn of(topic: &str, files: u64, change: impl FnOnce(Plan) -> Plan) -> Loss {
        let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
        broker.create_topic(topic, 1, &[]);
        let paths: Vec<PathBuf> = (0..files).map(|number| logs.path().join(format!("{number}.log"))).collect();
        for path in &paths {
            append(path, BEFORE);
        }
        let plan = Plan::new(&broker.bootstrap(), topic).agent("snapshot_interval = \"100ms\"").include(logs.path().join("*.log"));
        let mut agent = change(plan.extra("[spill]\nafter = \"1h\"")).start();
        broker.wait_for_count(topic, files * BEFORE, SOON);
        wait_until("everything to be delivered", SOON, || paths.iter().all(|path| says(&agent, path, 0)));
        broker.kill9();
        for path in &paths {
            append(path, UNREAD);
        }
        let seen = |agent: &Agent| paths.iter().all(|path| says(agent, path, UNREAD * 10));
        let mut grace = Duration::ZERO;
        wait_until("a snapshot that has seen the files", LATE, || {
            wait_until("the lines to be read", SOON, || seen(&agent));
            kill_later(&mut agent, &mut grace);
            let seen = seen(&agent);
            if !seen {
                agent.restart();
            }
            seen
        });
        Loss { broker, agent, files: paths, _logs: logs }
    }

    /// Empties the files.
    fn truncate(&self) {
        self.files.iter().for_each(|path| drop(fs::File::create(path).unwrap()));
    }

    fn records(&self, topic: &str) -> Vec<Record> {
        topic::records(&self.broker.bootstrap(), topic, Isolation::ReadUncommitted)
    }

    /// The gap records of a topic in the format json.
    fn told(&self, topic: &str) -> Vec<Value> {
        let values = self.records(topic).into_iter().map(|record| serde_json::from_slice::<Value>(&record.value).unwrap());
        values.filter(|value| value["type"] == "gap").collect()
    }
}

fn assert_tells(gap: &Value, file: &Path) {
    assert_eq!((gap["of"].as_str(), gap["source"].as_str(), gap["severity"].as_str()), (Some("file"), Some("files"), Some("error")));
    assert!(matches!(gap["reason"].as_str(), Some("truncated" | "deleted")), "{gap}");
    assert_eq!((gap["path"].as_str(), gap["bytes"].as_u64()), (file.to_str(), Some(UNREAD * 10)));
    assert!(gap["message"].as_str().unwrap().contains("12,340 bytes of "), "{gap}");
}

#[test]
fn what_was_truncated_while_the_agent_was_stopped_is_told() {
    let mut loss = Loss::of("gap-truncated", 1, |plan| plan.format(Format::Json));
    loss.truncate();
    append(&loss.files[0], 1);
    loss.broker.restart();
    loss.agent.restart();
    loss.broker.wait_for_count("gap-truncated", BEFORE + 2, LATE);
    assert!(loss.agent.terminate(SOON).success());
    let told = loss.told("gap-truncated");
    assert_eq!((told.len(), told[0]["number"].as_u64()), (1, Some(1)));
    assert_tells(&told[0], &loss.files[0]);
    assert_eq!(gaps(&loss.agent), Some((0, 1)));
}

#[test]
fn a_gap_that_waits_for_kafka_survives_a_kill_and_arrives_once_under_its_number() {
    let mut loss = Loss::of("gap-killed", 1, |plan| plan.format(Format::Json));
    loss.truncate();
    let mut grace = Duration::ZERO;
    wait_until("a snapshot that has the gap", LATE, || {
        loss.agent.restart();
        wait_until("the gap to wait", SOON, || gaps(&loss.agent) == Some((1, 0)));
        kill_later(&mut loss.agent, &mut grace);
        gaps(&loss.agent) == Some((1, 0))
    });
    loss.broker.restart();
    loss.agent.restart();
    loss.broker.wait_for_count("gap-killed", BEFORE + 1, LATE);
    wait_until("the gap to be booked as sent", SOON, || gaps(&loss.agent) == Some((0, 1)));
    assert!(loss.agent.terminate(SOON).success());
    // With nothing new there is nothing to tell.
    loss.agent.restart_with(|plan| plan.arg("--once"));
    assert!(loss.agent.wait(SOON).success());
    let told = loss.told("gap-killed");
    assert_eq!((told.len(), told[0]["number"].as_u64()), (1, Some(1)));
    assert_tells(&told[0], &loss.files[0]);
}

#[test]
fn once_ends_when_gaps_are_told_in_raw_too_and_one_by_one_where_the_topic_takes_no_more() {
    let mut loss = Loss::of("gap-once", 3, |plan| plan.kafka("gap_topic = \"gap-small\"\ncompression = \"none\""));
    loss.truncate();
    loss.broker.restart();
    // One of them fits, two don't.
    loss.broker.create_topic("gap-small", 1, &[("max.message.bytes", "1300")]);
    loss.agent.restart_with(|plan| plan.arg("--once"));
    assert!(loss.agent.wait(LATE).success(), "{}", loss.agent.log());
    let records = loss.records("gap-small");
    assert_eq!(records.len(), 3);
    for (number, record) in (1..).zip(&records) {
        assert_eq!(record.key.as_deref(), Some(&b"harness:gaps"[..]));
        assert_eq!(record.headers, [("logferry-type".to_owned(), b"gap".to_vec())]);
        let gap: Value = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(gap["number"].as_u64(), Some(number), "in order");
        let file = loss.files.iter().find(|file| file.to_str() == gap["path"].as_str()).unwrap();
        assert_tells(&gap, file);
    }
}

//! Logs are rotated while they are read, while the agent is killed, and while it does not run; every line arrives once all the same.

use std::path::Path;
use std::time::Duration;

use crate::harness::agent::Plan;
use crate::harness::broker::Broker;
use crate::harness::lines::{LineWriter, Rotation};
use crate::harness::oracle::{self, Allowance};
use crate::harness::topic::Format;
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;

fn plan(broker: &Broker, topic: &str, logs: &Path, glob: &str) -> Plan {
    broker.create_topic(topic, 3, &[]);
    Plan::new(&broker.bootstrap(), topic).agent("memory = \"4MiB\"").include(logs.join(glob))
}

/// Rotates under load without touching the agent.
fn rotate_under_load(topic: &str, glob: &str, rotation: Rotation) {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let mut agent = plan(broker, topic, logs.path(), glob).start();
    let written = LineWriter::new("w", logs.path().join("app.log")).rate(8000).rotation(rotation).limit(40_000).start().finish();
    let verdict = oracle::read_when_whole(broker, topic, Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    assert!(!agent.log().contains("lost"), "{}", agent.log());
    verdict.assert_whole(topic, 0, &agent);
}

#[test]
fn renamed_logs_arrive_once() {
    rotate_under_load("renamed", "app.log*", Rotation::Rename { every: 4000 });
}

#[test]
fn renamed_logs_arrive_once_when_no_pattern_matches_their_new_names() {
    rotate_under_load("renamed-away", "*.log", Rotation::Rename { every: 4000 });
}

#[test]
fn copied_and_truncated_logs_arrive_once() {
    rotate_under_load("copytruncate", "app.log*", Rotation::CopyTruncate { every: 4000 });
}

#[test]
fn copied_and_truncated_logs_arrive_once_when_no_pattern_matches_the_copies() {
    rotate_under_load("copytruncate-away", "*.log", Rotation::CopyTruncate { every: 4000 });
}

/// Rotates under load and kills the agent in between.
fn rotate_and_kill(topic: &str, rotation: Rotation) {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let mut agent = plan(broker, topic, logs.path(), "app.log*").start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(6000).rotation(rotation).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    for lines in [12_000, 13_500, 12_900] {
        let until = writing.written() + lines;
        allowance.kill(&mut agent, broker, topic, || writing.written() >= until);
        // More than one rotation happens while nobody looks.
        let until = writing.written() + 7000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    let verdict = oracle::read_when_whole(broker, topic, Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole(topic, allowance.most(), &agent);
}

#[test]
fn renamed_logs_survive_kills() {
    rotate_and_kill("renamed-killed", Rotation::Rename { every: 3000 });
}

#[test]
fn copied_and_truncated_logs_survive_kills() {
    rotate_and_kill("copytruncate-killed", Rotation::CopyTruncate { every: 3000 });
}

/// Stops the agent in good order, rotates several times, and starts it again.
fn rotate_while_stopped(topic: &str, rotation: Rotation) {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let mut agent = plan(broker, topic, logs.path(), "app.log*").start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).rotation(rotation).start();
    for _ in 0..2 {
        broker.wait_for_count(topic, broker.count(topic) + 5000, SOON);
        assert!(agent.terminate(SOON).success());
        let until = writing.written() + 9000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    let verdict = oracle::read_when_whole(broker, topic, Format::Raw, &written, LATE);
    assert!(agent.terminate(SOON).success());
    verdict.assert_whole(topic, 0, &agent);
}

#[test]
fn logs_renamed_while_the_agent_is_stopped_arrive_once() {
    rotate_while_stopped("renamed-stopped", Rotation::Rename { every: 3000 });
}

#[test]
fn logs_copied_and_truncated_while_the_agent_is_stopped_arrive_once() {
    rotate_while_stopped("copytruncate-stopped", Rotation::CopyTruncate { every: 3000 });
}

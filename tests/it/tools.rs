//! The operator's tools: what they tell of a running and of a stopped daemon agrees with what happened, and what they skip or throw away is in
//! the books, with who did it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::agent::{Agent, Plan, Said, ask};
use crate::harness::broker::Broker;
use crate::harness::topic::{Isolation, records};
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn plan(broker: &Broker, topic: &str, logs: &Path) -> Plan {
    Plan::new(&broker.bootstrap(), topic).include(logs.join("*.log")).source("rescan_interval = \"200ms\"")
}

/// Its lines, as they are in the topic, without the records of gaps.
fn lines(broker: &Broker, topic: &str) -> Vec<String> {
    let values = records(&broker.bootstrap(), topic, Isolation::ReadUncommitted).into_iter().map(|record| record.value);
    values.map(|value| String::from_utf8(value).unwrap()).filter(|line| !line.contains("\"type\":\"gap\"")).collect()
}

#[track_caller]
fn assert_says(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!(said.code, Some(code), "{}", said.text);
    for part in parts {
        assert!(said.text.contains(part), "{part:?} is not in:\n{}", said.text);
    }
}

#[track_caller]
fn json(said: &Said) -> Value {
    serde_json::from_str(&said.text).unwrap_or_else(|error| panic!("{error}:\n{}", said.text))
}

/// Waits until so many events are delivered and acknowledged, by its own books.
#[track_caller]
fn wait_for_delivered(agent: &Agent, events: u64) {
    wait_until(&format!("{events} events to be delivered"), SOON, || {
        let said = agent.ask(&["status", "--json"]);
        said.code == Some(0) && json(&said)["sources"]["files"]["delivered"]["events"] == events
    });
}

#[test]
fn status_and_positions_tell_the_same_of_a_running_and_of_a_stopped_daemon() {
    let broker = Broker::shared();
    broker.create_topic("told", 2, &[]);
    let logs = temp_dir("logs");
    fs::write(logs.path().join("a.log"), "one\ntwo\nthree\nhalf").unwrap();
    let mut agent = plan(broker, "told", logs.path()).start();
    wait_for_delivered(&agent, 3);

    assert_says(&agent.ask(&["drain", "--timeout", "20s"]), 0, &["Everything that was there is acknowledged"]);
    assert_says(
        &agent.ask(&["status"]),
        0,
        &[": runs", "The books balance", "= DELIVERED", "files      3            3          0  4 B      1", "told  sending", "of 2 GiB"],
    );
    let running = json(&agent.ask(&["status", "--json"]));
    assert_eq!((&running["running"], &running["balanced"]), (&Value::Bool(true), &Value::Bool(true)));
    let files = &running["sources"]["files"];
    assert_eq!((&files["read"]["events"], &files["read"]["bytes"]), (&3.into(), &14.into()), "{files}");
    assert_eq!((&files["lag_bytes"], &files["files"]), (&4.into(), &1.into()));
    assert_eq!(running["lanes"]["told"]["condition"], "open");

    let listed = agent.ask(&["positions", "ls"]);
    assert_says(&listed, 0, &["STREAM", "live", "14", "18", "4 B", "told", "a.log"]);
    let path = logs.path().join("a.log").display().to_string();
    let shown = agent.ask(&["positions", "show", &path]);
    assert_says(
        &shown,
        0,
        &["up to byte 14 of 18", "told (2 partitions)", "fingerprint", "goes on at the beginning of a line", "three\\n"],
    );
    let all = json(&agent.ask(&["positions", "ls", "--json"]));
    let id = all[0]["id"].as_str().unwrap();
    assert_eq!(agent.ask(&["positions", "show", &id[..8]]).text, shown.text);

    assert!(agent.terminate(SOON).success());
    let stopped = json(&agent.ask(&["status", "--json"]));
    assert_eq!((&stopped["running"], &stopped["sources"]), (&Value::Bool(false), &running["sources"]));
    assert_says(&agent.ask(&["status"]), 0, &["no daemon runs", "told  stopped"]);
    assert_eq!(agent.ask(&["positions", "show", &path]).text, shown.text);
    assert_says(&agent.ask(&["drain", "--timeout", "1s"]), 1, &["run --once"]);
}

#[test]
fn what_a_seek_skips_is_missed_and_what_it_goes_back_over_is_sent_again() {
    let broker = Broker::shared();
    broker.create_topic("sought", 1, &[]);
    let logs = temp_dir("logs");
    let file = logs.path().join("a.log");
    fs::write(&file, "one\ntwo\n").unwrap();
    let path = file.display().to_string();
    let seek = |agent: &Agent, to: &str, more: &[&str]| agent.ask(&[&["positions", "seek", &path, "--to", to], more].concat());
    let mut agent = plan(broker, "sought", logs.path()).start();
    wait_for_delivered(&agent, 2);
    assert_says(&seek(&agent, "end", &["--yes"]), 1, &["stop it first"]);
    assert!(agent.terminate(SOON).success());

    fs::write(&file, "one\ntwo\nthree\nfour\nfive\n").unwrap();
    assert_says(&seek(&agent, "15", &["--yes"]), 1, &["within a line", "byte 14"]);
    assert_says(&seek(&agent, "line:5", &[]), 1, &["11 bytes are skipped", "--yes", "Nothing was changed"]);
    assert_eq!(json(&agent.ask(&["positions", "ls", "--json"]))[0]["offset"], 8);
    assert_says(&seek(&agent, "line:5", &["--yes"]), 0, &["an operator moved a position", "user=", "skipped=11", "Done."]);
    let status = json(&agent.ask(&["status", "--json"]));
    assert_eq!(status["sources"]["files"]["missed"]["operator"]["bytes"], 11, "{status}");
    agent.restart();
    wait_for_delivered(&agent, 3);
    assert_eq!(lines(broker, "sought"), ["one", "two", "five"]);
    assert!(agent.terminate(SOON).success());

    assert_says(&seek(&agent, "line:4", &["--yes"]), 0, &["the 10 bytes in between are read and sent again"]);
    agent.restart();
    wait_for_delivered(&agent, 5);
    assert_eq!(lines(broker, "sought"), ["one", "two", "five", "four", "five"]);
    assert_eq!(json(&agent.ask(&["status", "--json"]))["sources"]["files"]["missed"]["operator"]["bytes"], 11);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_forgotten_stream_is_read_from_its_first_byte_and_is_not_forgotten_while_it_is_read() {
    let broker = Broker::shared();
    broker.create_topic("forgotten", 1, &[]);
    let logs = temp_dir("logs");
    let file = logs.path().join("a.log");
    fs::write(&file, "one\n").unwrap();
    let path = file.display().to_string();
    let mut agent = plan(broker, "forgotten", logs.path()).start();
    wait_for_delivered(&agent, 1);
    assert_says(&agent.ask(&["positions", "forget", &path, "--yes"]), 1, &["the running daemon reads"]);
    assert!(agent.terminate(SOON).success());
    assert_says(&agent.ask(&["positions", "forget", &path]), 1, &["read again from its first byte", "Nothing was changed"]);
    assert_says(&agent.ask(&["positions", "forget", &path, "--yes"]), 0, &["is forgotten", "user="]);
    assert_says(&agent.ask(&["positions", "ls"]), 0, &["No file has been read yet"]);
    agent.restart();
    wait_for_delivered(&agent, 2);
    assert_eq!(lines(broker, "forgotten"), ["one", "one"]);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn without_a_state_and_in_another_language_it_is_said_what_is_wrong() {
    let dir = temp_dir("tools");
    let config = Plan::new("localhost:1", "t").include(dir.path().join("*.log")).write(dir.path());
    for command in [["status"].as_slice(), &["positions", "ls"], &["lane", "pause", "t"], &["drain"]] {
        assert_says(&ask(&config, command), 1, &["no daemon runs, and", "holds no state"]);
    }
    assert_says(&ask(&config, &["positions", "seek", "x", "--to", "middle"]), 2, &["start, end, line:N"]);

    let mut agent = Plan::new("localhost:1", "t").include(dir.path().join("*.log")).start();
    let answer = |question: &str| {
        let mut stream = UnixStream::connect(agent.state_dir().join("control.sock")).ok()?;
        stream.write_all(question.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    wait_until("the daemon to listen", SOON, || answer("explain /x\n").is_some());
    let older = answer("explain /x\n").unwrap();
    assert!(older.contains("the command is older"), "{older}");
    let newer = answer("{\"v\":9,\"request\":{\"ask\":\"status\"}}\n").unwrap();
    assert!(newer.contains("version 9"), "{newer}");
    assert!(answer("{\"v\":1,\"request\":{\"ask\":\"status\"}}\n").unwrap().starts_with("{\"status\":{"));
    assert_says(&agent.ask(&["lane", "pause", "no-such"]), 1, &["there is no lane no-such", "there are: t"]);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_paused_lane_waits_on_disk_and_what_it_holds_can_be_written_out_or_thrown_away() {
    let broker = Broker::shared();
    broker.create_topic("held", 1, &[]);
    let logs = temp_dir("logs");
    let file = logs.path().join("a.log");
    let append = |text: &str| fs::OpenOptions::new().append(true).create(true).open(&file).unwrap().write_all(text.as_bytes()).unwrap();
    append("one\n");
    let mut agent = plan(broker, "held", logs.path()).agent("stop_timeout = \"1s\"").extra("[spill]\nafter = \"200ms\"").start();
    let spilled = |agent: &Agent, events: u64| {
        wait_until(&format!("{events} events to be in the spill"), SOON, || {
            json(&agent.ask(&["status", "--json"]))["lanes"]["held"]["spill"]["pending"]["events"] == events
        });
    };
    wait_for_delivered(&agent, 1);

    assert_says(&agent.ask(&["lane", "pause", "held"]), 0, &["sends nothing until it is resumed"]);
    append("two\nthree\n\u{fffd}\n");
    spilled(&agent, 3);
    assert_says(&agent.ask(&["status"]), 0, &["held  paused by an operator", "3 events"]);
    assert_says(&agent.ask(&["drain", "--timeout", "1s"]), 1, &["3 events", "lane resume held"]);
    assert_says(&agent.ask(&["spill", "ls"]), 0, &["held", "3 events"]);
    assert_says(&agent.ask(&["spill", "show", "held"]), 0, &["RECORD", ".seg"]);
    assert_says(&agent.ask(&["spill", "verify"]), 0, &["held: ", "; 0 faults"]);
    let written = agent.ask(&["spill", "export", "held", "--raw"]);
    assert_says(&written, 0, &["two\nthree\n\u{fffd}\n", "3 messages written"]);
    let first: Value = serde_json::from_str(agent.ask(&["spill", "export", "held"]).text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["source"], &first["value"], &first["offset"]), (&"files".into(), &"two".into(), &4.into()));
    assert_says(&agent.ask(&["spill", "show", "no-such"]), 1, &["nothing is on disk for no-such", "held"]);

    assert_says(&agent.ask(&["lane", "discard", "held"]), 1, &["would be thrown away for good: 3 events", "Nothing was changed"]);
    assert_says(&agent.ask(&["lane", "discard", "held", "--yes"]), 0, &["3 events"]);
    append("five\n");
    spilled(&agent, 1);
    agent.kill9();

    assert_says(&agent.ask(&["lane", "resume", "held"]), 1, &["no daemon runs"]);
    assert_says(&agent.ask(&["lane", "discard", "held", "--yes"]), 0, &["1 events", "user="]);
    assert_says(&agent.ask(&["status"]), 0, &["The books balance", "4 events lost (operator)"]);
    agent.restart();
    append("six\n");
    wait_for_delivered(&agent, 2);
    assert_eq!(lines(broker, "held"), ["one", "six"]);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_dead_letter_is_shown_sent_again_and_thrown_away() {
    let broker = Broker::shared();
    broker.create_topic("refusing", 1, &[]);
    let logs = temp_dir("logs");
    let file = logs.path().join("a.log");
    let append = |text: &str| fs::OpenOptions::new().append(true).create(true).open(&file).unwrap().write_all(text.as_bytes()).unwrap();
    append("one\n");
    let mut agent = plan(broker, "refusing", logs.path()).kafka("compression = \"none\"").start();
    wait_for_delivered(&agent, 1);
    // Behind its back, so that it does not know beforehand what the topic takes.
    broker.configure_topic("refusing", &[("max.message.bytes", "10000")]);
    let long = ["a", "b"].map(|letter| letter.repeat(20_000));
    append(&format!("{}\n{}\nlast\n", long[0], long[1]));
    wait_for_delivered(&agent, 2);
    let of = |agent: &Agent, term: &str| json(&agent.ask(&["status", "--json"]))["sources"]["files"][term]["events"].clone();
    assert_eq!(of(&agent, "dead_lettered"), 2);

    assert_says(&agent.ask(&["dead-letters", "ls"]), 0, &["refusing", "19.5 KiB", "2 letters"]);
    let list = json(&agent.ask(&["dead-letters", "ls", "--json"]));
    let id = |at: usize| list["letters"][at]["id"].as_str().unwrap().to_owned();
    assert_says(&agent.ask(&["dead-letters", "show", &id(0)]), 0, &["refused by refusing", &long[0]]);
    assert_eq!(agent.ask(&["dead-letters", "show", &id(1), "--raw"]).text, long[1]);
    assert_says(&agent.ask(&["dead-letters", "resend", &id(0), "--yes"]), 1, &["0 letters were sent", "refused again"]);
    assert_says(&agent.ask(&["dead-letters", "discard", &id(0)]), 1, &["1 letters", "Nothing was changed"]);
    assert_says(&agent.ask(&["dead-letters", "discard", &id(0), "--yes"]), 0, &["1 letters are removed"]);
    broker.configure_topic("refusing", &[("max.message.bytes", "1000000")]);
    assert!(agent.terminate(SOON).success());

    assert_says(&agent.ask(&["dead-letters", "resend", "--all", "--yes"]), 0, &["1 letters were acknowledged", "user="]);
    assert_says(&agent.ask(&["dead-letters", "ls"]), 0, &["There are no dead letters"]);
    assert_eq!(["delivered", "dead_lettered"].map(|term| of(&agent, term)), [3, 0].map(Value::from));
    assert_says(&agent.ask(&["status"]), 0, &["The books balance", "1 event lost (operator)"]);
    assert!(lines(broker, "refusing").contains(&long[1]) && !lines(broker, "refusing").contains(&long[0]));
}

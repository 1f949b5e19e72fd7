//! What people get wrong: each mistake gets a clear word, and nothing is lost; where it can be put right, logferry goes on by itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::harness::agent::{Agent, Plan, ask};
use crate::harness::broker::{Broker, Listener, Setup};
use crate::harness::lines::{LineWriter, Written};
use crate::harness::oracle;
use crate::harness::topic::Format;
use crate::harness::{free_port, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);

fn plan(broker: &Broker, topic: &str) -> Plan {
    Plan::new(&broker.bootstrap(), topic).source("rescan_interval = \"200ms\"")
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// Every line is there once, in order.
#[track_caller]
fn assert_all_arrives(broker: &Broker, topic: &str, written: &Written, agent: &Agent) {
    oracle::read_when_whole(broker, topic, Format::Raw, written, LATE).assert_whole(topic, 0, agent);
}

#[track_caller]
fn assert_explained(agent: &Agent, path: &Path, parts: &[&str]) {
    wait_until(&format!("explain to say {parts:?}"), SOON, || {
        let said = agent.ask(&["explain", &path.display().to_string()]).text;
        parts.iter().all(|part| said.contains(part))
    });
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once_with_its_place() {
    let dir = temp_dir("config");
    let path = dir.path().join("config.toml");
    let text = "[agent]\nmemmory = \"24MiB\"\nstop_timeout = 20\n[kafka]\nbootstrap_servers = [\"localhost:9092\"]\nformat = \"xml\"\nmax_lanes = \"many\"\nmessage.timeout = 3\n[kafka.librdkafka]\n\"acks\" = 1\n[[source]]\nname = \"a\"\ntype = \"file\"\ninclude = \"/var/log/*.log\"\n[[sauce]]\n";
    fs::write(&path, text).unwrap();
    for command in ["check", "run"] {
        let said = ask(&path, &[command]);
        assert_eq!(said.code, Some(78), "{}", said.text);
        let places = [
            "config.toml:2: agent.memmory",
            "memory",
            ":3: agent.stop_timeout",
            ":6: kafka.format",
            ":7: kafka.max_lanes",
            ":8: kafka.message",
        ];
        assert_says(&said.text, &places);
        assert_says(&said.text, &[":10: kafka.librdkafka", "acks", ":14: source.include", ":15: sauce", "topic"]);
    }
}

#[test]
fn what_is_not_toml_is_told_with_its_line() {
    let dir = temp_dir("config");
    let path = dir.path().join("config.toml");
    fs::write(&path, "[agent]\nhost = \"x\"\n[kafka\ntopic = \"t\"\n").unwrap();
    for command in ["check", "run"] {
        let said = ask(&path, &[command]);
        assert_eq!(said.code, Some(78), "{}", said.text);
        assert_says(&said.text, &["config.toml:3", "not TOML"]);
    }
    let gone = ask(&dir.path().join("nothing.toml"), &["run"]);
    assert_eq!(gone.code, Some(78));
    assert_says(&gone.text, &["nothing.toml", "No such file"]);
}

#[test]
fn secrets_are_not_printed() {
    let dir = temp_dir("config");
    let password = dir.path().join("password");
    fs::write(&password, "hunter2hunter2\n").unwrap();
    let plan = Plan::new("127.0.0.1:9", "t").include("/nowhere/*.log");
    let plan =
        plan.extra(&format!("[kafka.tls]\n[kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"me\"\npassword = {{ file = {password:?} }}"));
    let plan = plan.extra("[kafka.librdkafka]\n\"ssl.key.password\" = \"opensesame\"");
    let said = ask(&plan.write(dir.path()), &["check", "--print"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_says(&said.text, &["username", "me", "ssl.key.password", "config.toml:"]);
    assert!(!said.text.contains("hunter2") && !said.text.contains("opensesame"), "{}", said.text);
}

#[test]
fn globs_that_match_nothing_are_told_and_a_later_file_is_shipped() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("later-file", 1, &[]);
    let mut agent = plan(broker, "later-file").include(logs.path().join("*.log")).include(logs.path().join("no/where/*.log")).start();
    agent.wait_for_log("no file matches", SOON);
    assert_says(&agent.log(), &["matches nothing now", "no/where"]);
    let mut written = LineWriter::new("a", logs.path().join("a.log")).limit(1000).start().finish();
    fs::create_dir_all(logs.path().join("no/where")).unwrap();
    written.extend(LineWriter::new("b", logs.path().join("no/where/b.log")).limit(1000).start().finish());
    assert_all_arrives(broker, "later-file", &written, &agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_directory_may_vanish_and_come_back() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("vanishes", 1, &[]);
    let (here, away, file) = (logs.path().join("app"), logs.path().join("away"), logs.path().join("app/a.log"));
    fs::create_dir(&here).unwrap();
    let writing = LineWriter::new("a", &file).rate(2000).start();
    let mut agent = plan(broker, "vanishes").include(here.join("*.log")).start();
    broker.wait_for_count("vanishes", 1000, SOON);
    // Moved away whole while it is written to, and back: the same file.
    move_dir(&here, &away);
    assert_explained(&agent, &file, &["rotated away"]);
    move_dir(&away, &here);
    let until = writing.written() + 1000;
    wait_until("lines to be written", SOON, || writing.written() >= until);
    let mut written = writing.stop();
    assert_all_arrives(broker, "vanishes", &written, &agent);
    // Deleted, and made anew with another file of that name.
    fs::remove_dir_all(&here).unwrap();
    fs::create_dir(&here).unwrap();
    written.extend(LineWriter::new("b", &file).limit(1000).start().finish());
    assert_all_arrives(broker, "vanishes", &written, &agent);
    assert!(agent.terminate(SOON).success());
}

#[expect(clippy::disallowed_methods, reason = "a directory is moved here as any person does it, without fsync")]
fn move_dir(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[test]
fn a_file_that_may_not_be_read_is_told_and_read_once_it_may() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("denied", 1, &[]);
    let (shut, file) = (logs.path().join("shut"), logs.path().join("a.log"));
    fs::create_dir(&shut).unwrap();
    let mut written = LineWriter::new("a", &file).limit(1000).start().finish();
    written.extend(LineWriter::new("b", shut.join("b.log")).limit(1000).start().finish());
    let set = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set(&file, 0);
    set(&shut, 0);
    let mut agent = plan(broker, "denied").include(logs.path().join("*.log")).include(shut.join("*.log")).restricted().start();
    for path in [&file, &shut] {
        agent.wait_for_log(&format!("permission denied: {} is ", path.display()), SOON);
    }
    assert_says(&agent.log(), &["setfacl -m u:"]);
    assert_eq!(broker.count("denied"), 0);
    set(&file, 0o644);
    broker.wait_for_count("denied", 1000, SOON);
    set(&shut, 0o755);
    assert_all_arrives(broker, "denied", &written, &agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_topic_that_does_not_exist_blocks_its_lane_until_it_is_created() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    let writing = LineWriter::new("a", logs.path().join("a.log")).rate(2000).start();
    let mut agent = plan(broker, "not-yet").include(logs.path().join("*.log")).start();
    agent.wait_for_log("blocked: ", SOON);
    let words = ["unknown_topic", "topic \"not-yet\" does not exist", "kafka-topics.sh", "--create --topic not-yet"];
    assert_says(&agent.log(), &words);
    assert_explained(&agent, &logs.path().join("a.log"), &["stream "]);
    broker.create_topic("not-yet", 3, &[]);
    broker.wait_for_count("not-yet", 1000, SOON);
    assert_all_arrives(broker, "not-yet", &writing.stop(), &agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_compacted_topic_is_refused_by_the_check() {
    let (broker, dir) = (Broker::shared(), temp_dir("config"));
    broker.create_topic("compacted", 1, &[("cleanup.policy", "compact")]);
    broker.create_topic("kept-by-time", 1, &[]);
    let check = |topic: &str| ask(&plan(broker, topic).include("/nowhere/*.log").write(dir.path()), &["check", "--connect"]);
    let said = check("compacted");
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert_says(&said.text, &["error: topic \"compacted\" is compacted (cleanup.policy=compact)", "cleanup.policy=delete"]);
    let said = check("kept-by-time");
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_says(&said.text, &["Events can be delivered."]);
    let said = check("not-made");
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert_says(&said.text, &["topic \"not-made\" does not exist", "--create"]);
}

#[test]
fn a_broker_that_is_not_there_is_named_by_the_check() {
    let dir = temp_dir("config");
    let server = format!("127.0.0.1:{}", free_port());
    let said = ask(&Plan::new(&server, "t").include("/nowhere/*.log").write(dir.path()), &["check", "--connect"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert_says(&said.text, &[&format!("error: {server} refuses connections"), "Events can't be delivered as it is."]);
}

#[test]
fn a_broker_that_advertises_a_name_that_does_not_resolve_is_seen_through() {
    let second = Listener { protocol: "PLAINTEXT", advertised: Some("kafka.invalid:29092".to_owned()) };
    let (broker, logs) = (Broker::start_with(Setup { second: Some(second), ..Setup::default() }), temp_dir("logs"));
    broker.create_topic("t", 1, &[]);
    LineWriter::new("a", logs.path().join("a.log")).limit(10).start().finish();
    let words = format!("{} answers, but advertises kafka.invalid:29092, which does not resolve", broker.second());
    let mut agent = Plan::new(&broker.second(), "t").include(logs.path().join("*.log")).start();
    let said = agent.ask(&["check", "--connect"]);
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert_says(&said.text, &[&words, "advertised.listeners"]);
    agent.wait_for_log(&format!("waiting for Kafka: {words}"), LATE);
}

#[test]
fn explain_says_what_becomes_of_a_file_and_why() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("explained", 2, &[]);
    let at = |name: &str| logs.path().join(name);
    let written = LineWriter::new("a", at("a.log")).limit(1000).start().finish();
    let size = fs::metadata(at("a.log")).unwrap().len();
    fs::write(at("b.debug.log"), "x\n").unwrap();
    fs::create_dir(at("c.log")).unwrap();
    let exclude = format!("exclude = [{:?}]", at("*.debug.log").display().to_string());
    let mut agent = plan(broker, "explained").include(at("*.log")).source(&exclude).start();
    assert_all_arrives(broker, "explained", &written, &agent);

    let delivered = format!("delivered up to byte {size} of {size} (lag 0 bytes)");
    let explain = |agent: &Agent, name: &str| agent.ask(&["explain", &at(name).display().to_string()]);
    assert_explained(&agent, &at("a.log"), &["read: ", "source files", &delivered, "lane explained (2 partitions): sending"]);
    assert_eq!(explain(&agent, "a.log").code, Some(0));
    assert!(agent.terminate(SOON).success());
    let said = explain(&agent, "a.log");
    assert_eq!(said.code, Some(0));
    assert_says(&said.text, &["read: ", &delivered, "lane explained (2 partitions): no daemon runs"]);

    for (name, words) in [
        ("a.txt", "not read: no `include` pattern matches it"),
        ("b.debug.log", "excludes it"),
        ("c.log", "is a directory"),
        ("gone.log", "not read: "),
    ] {
        let said = explain(&agent, name);
        assert_eq!(said.code, Some(1), "{name}: {}", said.text);
        assert_says(&said.text, &[words]);
    }
}

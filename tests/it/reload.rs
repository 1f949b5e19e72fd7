//! Another configuration while logferry runs: what has not changed goes on untouched, nothing is lost or comes twice, and a bad one changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::agent::{Agent, Plan, ask};
use crate::harness::books::Status;
use crate::harness::broker::Broker;
use crate::harness::lines::{self, LineWriter, Rotation, Written};
use crate::harness::oracle::{self, Oracle, Verdict};
use crate::harness::topic::{self, Format, Isolation};
use crate::harness::{Random, free_port, soaking, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);

/// The threads of a process: their numbers, by name.
fn threads(agent: &Agent) -> BTreeMap<String, BTreeSet<String>> {
    let mut threads: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{}/task", agent.process_id())).unwrap().flatten() {
        if let Ok(name) = fs::read_to_string(task.path().join("comm")) {
            threads.entry(name.trim().to_owned()).or_default().insert(task.file_name().to_string_lossy().into_owned());
        }
    }
    threads
}

/// The thread of a source; another one, once the source has begun anew.
fn source_thread(agent: &Agent, source: &str) -> Option<BTreeSet<String>> {
    threads(agent).remove(&format!("source {source}"))
}

fn open_files(agent: &Agent) -> usize {
    fs::read_dir(format!("/proc/{}/fd", agent.process_id())).unwrap().count()
}

/// A further source of files.
fn source(name: &str, dir: &Path, topic: &str) -> String {
    let include = dir.join("*.log*").display().to_string();
    format!("[[source]]\nname = {name:?}\ntype = \"file\"\ninclude = [{include:?}]\ntopic = {topic:?}\n")
}

/// What several topics together hold of what was written. In each, lines of a stream come in order.
#[track_caller]
fn read_all(broker: &Broker, topics: &[&str], written: &Written) -> Verdict {
    let mut oracle = Oracle::new(written);
    for topic in topics {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        topic::for_each(&broker.bootstrap(), topic, Isolation::ReadUncommitted, |message| {
            let line = rdkafka::Message::payload(message).unwrap_or_default();
            oracle.see(rdkafka::Message::partition(message), line);
            let (stream, number) = lines::parse(line).expect("a whole line");
            if let Some(before) = last.insert(stream.to_owned(), number) {
                assert!(before < number, "{topic}: {stream} {number} came after {before}");
            }
        });
    }
    oracle.verdict()
}

/// Everything has arrived, in one topic or another, and once.
#[track_caller]
fn assert_once(test: &str, broker: &Broker, topics: &[&str], written: &Written) {
    let count = || topics.iter().map(|topic| broker.count(topic)).sum::<u64>();
    wait_until("all lines to arrive", LATE, || count() >= written.values().sum());
    let verdict = read_all(broker, topics, written);
    eprintln!("{test}: {verdict}");
    verdict.assert_nothing_lost();
    verdict.assert_duplicates_at_most(0);
}

#[track_caller]
fn good(agent: &Agent, change: impl FnOnce(String) -> String) -> String {
    let said = agent.reload_with(change);
    assert_eq!(said.code, Some(0), "{}\n{}", said.text, agent.log());
    said.text
}

#[test]
fn sources_come_change_their_topic_and_go_while_others_go_on() {
    let (broker, logs, more) = (Broker::shared(), temp_dir("logs"), temp_dir("more"));
    for topic in ["reload-1", "reload-2"] {
        broker.create_topic(topic, 3, &[]);
    }
    let rotation = Rotation::Rename { every: 4000 };
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).rotation(rotation).start();
    let other = LineWriter::new("o", more.path().join("app.log")).rate(2000).rotation(rotation).start();
    let agent = Plan::new(&broker.bootstrap(), "reload-1").include(logs.path().join("*.log*")).start();
    wait_until("lines to arrive", SOON, || broker.count("reload-1") > 4000);

    let began = source_thread(&agent, "files").expect("the source runs");
    let text = good(&agent, |text| text + &source("more", more.path(), "reload-1"));
    assert!(text.contains("new: \"more\"; 1 source goes on untouched"), "{text}");
    wait_until("lines of both", SOON, || agent.status().sources().get("more").is_some_and(|books| books.delivered.events > 2000));
    assert_eq!(source_thread(&agent, "files").as_ref(), Some(&began), "it goes on");

    let text = good(&agent, |text| text.replacen("topic = \"reload-1\"", "topic = \"reload-2\"", 1));
    assert!(text.contains("changed: \"files\"; 1 source goes on untouched"), "{text}");
    assert_ne!(source_thread(&agent, "files").expect("it runs"), began);
    let here = broker.count("reload-2");
    wait_until("lines in the other topic", SOON, || broker.count("reload-2") > here + 4000);

    let written_other = other.stop();
    agent.settled_books("more", written_other.values().sum());
    let text = good(&agent, |text| text.split("[[source]]\nname = \"more\"").next().unwrap().to_owned());
    assert!(text.contains("ended: \"more\""), "{text}");
    assert_eq!(source_thread(&agent, "more"), None);
    wait_until("the lane that nobody needs to end", SOON, || !threads(&agent).contains_key("lane reload-1"));

    let mut written = writing.stop();
    agent.assert_all_delivered("files", written.values().sum());
    written.extend(written_other);
    assert_once("reload: sources", broker, &["reload-1", "reload-2"], &written);
}

#[test]
fn other_rules_hold_at_once_and_no_source_is_stopped() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("reload-rules", 1, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(5000).start();
    let agent = Plan::new(&broker.bootstrap(), "reload-rules").include(logs.path().join("*.log")).start();
    wait_until("lines to arrive", SOON, || broker.count("reload-rules") > 3000);
    let began = source_thread(&agent, "files").expect("the source runs");
    let rule = |digit: u8| format!("[[rule]]\nname = \"digit\"\nwhen = {{ message = ' seq=[0-9]{{9}}{digit} ' }}\ndrop = true\n");
    let mut since = Vec::new();
    for digit in [3, 7] {
        let text = good(&agent, |text| text.split("[[rule]]").next().unwrap().to_owned() + &rule(digit));
        assert!(text.contains("other rules"), "{text}");
        since.push(writing.written());
        let until = writing.written() + 10_000;
        wait_until("lines to be written", SOON, || writing.written() >= until);
    }
    good(&agent, |text| text.split("[[rule]]").next().unwrap().to_owned());
    since.push(writing.written());
    let until = writing.written() + 5000;
    wait_until("lines to be written", SOON, || writing.written() >= until);
    assert_eq!(source_thread(&agent, "files"), Some(began), "it goes on");
    let written = writing.stop();
    let total: u64 = written.values().sum();
    let books = agent.settled_books("files", total);
    assert!(books.filtered.events > 1500 && books.delivered.events + books.filtered.events == total, "{books}");

    let mut numbers = Vec::new();
    topic::for_each(&broker.bootstrap(), "reload-rules", Isolation::ReadUncommitted, |message| {
        numbers.push(lines::parse(rdkafka::Message::payload(message).unwrap()).expect("a whole line").1);
    });
    assert!(numbers.is_sorted_by(|one, other| one < other), "once, and in order");
    let arrived: BTreeSet<u64> = numbers.into_iter().collect();
    // Around a reload there are lines of which nobody knows under which rules they were read; the writer is ahead of what was read.
    let near = |number: u64| since.iter().any(|at| number.abs_diff(*at) < 3000);
    for number in (0..total).filter(|number| !near(*number)) {
        let left_out = match since.iter().filter(|at| number >= **at).count() {
            1 => number % 10 == 3,
            2 => number % 10 == 7,
            _ => false,
        };
        assert_eq!(arrived.contains(&number), !left_out, "line {number} of {since:?}");
    }
    assert_eq!(arrived.len() as u64, books.delivered.events);
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_mistakes_and_changes_nothing() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("reload-bad", 1, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(2000).start();
    let mut agent = Plan::new(&broker.bootstrap(), "reload-bad").include(logs.path().join("*.log")).start();
    wait_until("lines to arrive", SOON, || broker.count("reload-bad") > 1000);
    let began = source_thread(&agent, "files");
    let good_text = fs::read_to_string(agent.dir().join("config.toml")).unwrap();
    let bad =
        good_text.replace("topic = \"reload-bad\"", "topic = \"elsewhere\"\ncompresion = \"zstd\"") + "[[rule]]\nname = \"r\"\ndrop = 3\n";
    let said = agent.reload_with(|_| bad.clone());
    assert_eq!(said.code, Some(1), "{}", said.text);
    for wanted in
        ["config.toml:8: kafka.compresion: unknown key", "did you mean \"compression\"?", "rule", "is refused, and the old one goes on"]
    {
        assert!(said.text.contains(wanted), "{wanted} in: {}", said.text);
    }
    // Commands read the configuration as well, for where the daemon is.
    let beside = agent.dir().join("good.toml");
    fs::write(&beside, &good_text).unwrap();
    let json = |_: &Agent| Status::parse(&ask(&beside, &["status", "--json"]).text).unwrap().json()["reload"].clone();
    let reload = json(&agent);
    assert!(reload["successful"] == false && reload["good_s"].is_null(), "{reload}");
    assert!(reload["refused"].as_str().unwrap().contains("compresion"), "{reload}");
    agent.signal(Signal::HUP);
    wait_until("the second one to be refused", SOON, || json(&agent)["number"] == 2);
    agent.wait_for_log("the new configuration is refused", SOON);
    // What is no TOML at all.
    assert_eq!(agent.reload_with(|_| format!("{good_text}[[source")).code, Some(1));

    fs::write(agent.dir().join("config.toml"), &good_text).unwrap();
    agent.signal(Signal::HUP);
    wait_until("the reload", SOON, || json(&agent)["successful"] == true);
    assert_eq!(source_thread(&agent, "files"), began, "it goes on");
    let text = good(&agent, |text| text.replace("[agent]\n", "[agent]\nsnapshot_interval = \"2s\"\nmemory = \"40MiB\"\n"));
    assert!(text.contains("needs a restart: agent.snapshot_interval") && !text.contains("agent.memory"), "{text}");
    assert_eq!(agent.status().json()["memory"]["limit"], 40 << 20);
    assert_eq!(source_thread(&agent, "files"), began, "it goes on");
    let written = writing.stop();
    oracle::read_when_whole(broker, "reload-bad", Format::Raw, &written, LATE).assert_whole("reload: bad", 0, &agent);

    assert!(agent.terminate(SOON).success());
    let said = agent.ask(&["reload"]);
    assert!(said.code == Some(1) && said.text.contains("No daemon runs on"), "{}", said.text);
}

/// What was read under the old topic is safe in its spill; that is what lets the source begin anew while Kafka is away.
#[test]
fn a_topic_is_changed_while_kafka_is_away() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    for topic in ["reload-away-1", "reload-away-2"] {
        broker.create_topic(topic, 1, &[]);
    }
    let plan = Plan::new(&broker.bootstrap(), "reload-away-1").agent("memory = \"8MiB\"").include(logs.path().join("*.log"));
    let agent = plan.start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(5000).start();
    wait_until("lines to arrive", SOON, || broker.count("reload-away-1") > 3000);
    broker.kill9();
    let until = writing.written() + 10_000;
    wait_until("lines to be written", SOON, || writing.written() >= until);
    let text = good(&agent, |text| text.replacen("reload-away-1", "reload-away-2", 1));
    assert!(text.contains("changed: \"files\"") && !text.contains("begins again"), "{text}");
    let until = writing.written() + 10_000;
    wait_until("lines to be written", SOON, || writing.written() >= until);
    broker.restart();
    let written = writing.stop();
    let total = written.values().sum();
    wait_until("all to arrive", LATE, || broker.count("reload-away-1") + broker.count("reload-away-2") >= total);
    let books = agent.settled_books("files", total);
    let verdict = read_all_unordered(&broker, &["reload-away-1", "reload-away-2"], &written);
    eprintln!("reload: away: {verdict}; {books}");
    verdict.assert_nothing_lost();
    verdict.assert_duplicates_at_most(books.resent.events);
}

/// As [`read_all`], where a broker that was killed may have had lines whose acknowledgement was lost.
#[track_caller]
fn read_all_unordered(broker: &Broker, topics: &[&str], written: &Written) -> Verdict {
    let mut oracle = Oracle::new(written);
    for topic in topics {
        topic::for_each(&broker.bootstrap(), topic, Isolation::ReadUncommitted, |message| {
            oracle.see(rdkafka::Message::partition(message), rdkafka::Message::payload(message).unwrap_or_default());
        });
    }
    oracle.verdict()
}

#[test]
fn a_client_with_other_settings_takes_over_and_nothing_comes_twice() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("reload-client", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(5000).start();
    let agent = Plan::new(&broker.bootstrap(), "reload-client").include(logs.path().join("*.log")).start();
    wait_until("lines to arrive", SOON, || broker.count("reload-client") > 3000);
    let began = source_thread(&agent, "files");
    for (from, to) in [("raw\"\n", "raw\"\ncompression = \"zstd\"\nmax_rate = \"2MiB\"\n"), ("zstd", "lz4"), ("max_rate = \"2MiB\"\n", "")]
    {
        good(&agent, |text| text.replacen(from, to, 1));
        let here = broker.count("reload-client");
        wait_until("lines by the new client", SOON, || broker.count("reload-client") > here + 3000);
    }
    assert_eq!(source_thread(&agent, "files"), began, "it goes on");
    let written = writing.stop();
    let verdict = oracle::read_when_whole(broker, "reload-client", Format::Raw, &written, LATE);
    verdict.assert_whole("reload: client", 0, &agent);
}

#[test]
fn a_syslog_source_changes_its_addresses_and_limits_and_loses_no_message() {
    let broker = Broker::shared();
    broker.create_topic("reload-net", 1, &[]);
    let (one, other) = (free_port(), free_port());
    let net = |ports: &[u16], more: &str| {
        let listen = ports.iter().map(|port| format!("\"tcp://127.0.0.1:{port}\"")).collect::<Vec<_>>().join(", ");
        format!("[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [{listen}]\n{more}")
    };
    let plan = Plan::new(&broker.bootstrap(), "reload-net").include("/nonexistent/*.log").extra(&net(&[one], ""));
    let mut agent = plan.start();
    agent.wait_for_log("listening", SOON);
    let mut written = Written::new();
    let mut send = |agent: &Agent, port: u16| {
        let stream = format!("round-{}", written.len());
        let text: String = (0..20_000).map(|number| lines::line(&stream, number, 60) + "\n").collect();
        wait_until("a connection", SOON, || {
            TcpStream::connect(("127.0.0.1", port)).and_then(|mut to| to.write_all(text.as_bytes())).is_ok()
        });
        written.insert(stream, 20_000);
        let all = written.values().sum::<u64>();
        // Only accepted, not delivered: what is in the arrival log goes over to the next instance.
        agent.wait_for_status("the messages to be accepted", LATE, |status| status.source("net").read.events >= all);
    };
    let change =
        |agent: &Agent, source: &str| good(agent, |text| text.split("[[source]]\nname = \"net\"").next().unwrap().to_owned() + source);
    send(&agent, one);
    let began = source_thread(&agent, "net");
    change(&agent, &(net(&[one], "") + "[[rule]]\nname = \"r\"\nwhen = { message = \"never there\" }\ndrop = true\n"));
    send(&agent, one);
    assert_eq!(source_thread(&agent, "net"), began, "other rules stop nothing");
    // The same address: the old socket is closed before the new one is made.
    change(&agent, &net(&[one], "max_connections = 7\n"));
    assert_ne!(source_thread(&agent, "net"), began);
    send(&agent, one);
    change(&agent, &net(&[one, other], ""));
    send(&agent, other);
    change(&agent, &net(&[other], ""));
    send(&agent, other);
    assert!(TcpStream::connect(("127.0.0.1", one)).is_err(), "nobody listens there any more");
    // Another name: its log is read to the end before it goes.
    change(&agent, &net(&[other], "").replace("\"net\"", "\"other\""));
    let books = agent.settled_books("net", 100_000);
    assert_eq!(books.delivered.events, 100_000, "{books}");
    assert!(!agent.log().contains("in use by another program"), "{}", agent.log());
    assert_once("reload: syslog", broker, &["reload-net"], &written);
    assert!(agent.terminate(SOON).success());
}

/// How many threads of each name there are, without those that live for a question.
fn lasting(threads: &BTreeMap<String, BTreeSet<String>>) -> Vec<(&str, usize)> {
    let passing = |name: &str| matches!(name, "partitions" | "control answer");
    threads.iter().filter(|(name, _)| !passing(name)).map(|(name, ids)| (&**name, ids.len())).collect()
}

/// One of the sources of the long test.
struct Member {
    name: &'static str,
    dir: tempfile::TempDir,
}

#[test]
fn many_reloads_under_load_lose_nothing_and_leave_nothing_behind() {
    let (rounds, broker) = (if soaking() { 200 } else { 20 }, Broker::shared());
    let topics = ["many-1", "many-2"];
    for topic in topics {
        broker.create_topic(topic, 3, &[]);
    }
    let members = ["files", "b", "c", "noise"].map(|name| Member { name, dir: temp_dir(name) });
    let rotation = Rotation::Rename { every: 20_000 };
    let writers: Vec<_> = members
        .iter()
        .map(|member| LineWriter::new(member.name, member.dir.path().join("app.log")).rate(1500).rotation(rotation).start())
        .collect();
    let mut random = Random::new("many_reloads");
    let mut agent = Plan::new(&broker.bootstrap(), topics[0]).agent("memory = \"32MiB\"").include("/nonexistent/*.log").start();
    agent.wait_for_log("runs", SOON);
    let head = fs::read_to_string(agent.dir().join("config.toml")).unwrap().split("[[source]]").next().unwrap().to_owned();
    let rule = |digit: u64| format!("[[rule]]\nname = \"r\"\nwhen = {{ message = '^noise:.* seq=[0-9]{{9}}{digit} ' }}\ndrop = true\n");
    let all = members.iter().map(|member| source(member.name, member.dir.path(), topics[0])).collect::<String>() + &rule(3);
    let full = head.clone() + &all;
    let settle = |agent: &Agent| {
        good(agent, |_| full.clone());
        wait_until("the lane that nobody needs to end", SOON, || !threads(agent).contains_key(&format!("lane {}", topics[1])));
    };
    settle(&agent);
    for _ in 0..3 {
        good(&agent, |_| full.replace(topics[0], topics[1]));
        settle(&agent);
    }
    let before = (threads(&agent), open_files(&agent), agent.usage().rss);
    let mut refused = 0;
    for round in 0..rounds {
        if random.below(5) == 0 {
            let bad = ["[[source", "[kafka]\ncompresion = 1\n", "[[rule]]\nname = \"r\"\n", "[[source]]\nname = \"b\"\ntype = \"fil\"\n"];
            let which = bad[usize::try_from(random.below(4)).unwrap()];
            let said = agent.reload_with(|text| text + which);
            assert_eq!(said.code, Some(1), "round {round}, {which}: {}", said.text);
            refused += 1;
            continue;
        }
        let chosen = members
            .iter()
            .enumerate()
            .filter(|(index, _)| *index == 0 || random.below(4) > 0)
            .map(|(_, member)| member)
            .collect::<Vec<_>>();
        let mut text: String = chosen
            .into_iter()
            .map(|member| source(member.name, member.dir.path(), topics[usize::try_from(random.below(2)).unwrap()]))
            .collect();
        if random.below(3) > 0 {
            text += &rule(random.below(10));
        }
        good(&agent, |_| head.clone() + &text);
    }
    settle(&agent);
    wait_until("what was read to be settled", LATE, || {
        members.iter().all(|member| agent.status().source(member.name).pending.events < 3000)
    });
    let after = (threads(&agent), open_files(&agent), agent.usage().rss);
    eprintln!("{rounds} reloads, {refused} refused; open files {} and {}, rss {} and {}", before.1, after.1, before.2, after.2);
    assert_eq!(lasting(&before.0), lasting(&after.0), "threads before and after");
    // Files that are being rotated come and go.
    assert!(after.1 <= before.1 + 8, "open files {} and {}", before.1, after.1);
    assert!(after.2 < before.2 + (16 << 20), "rss {} and {}", before.2, after.2);

    let mut written = Written::new();
    for (member, writer) in members.iter().zip(writers) {
        let lines = writer.stop();
        let read = lines.values().sum();
        let books = agent.settled_books(member.name, read);
        assert!(books.missed.is_empty() && books.resent.events == 0, "{}: {books}", member.name);
        assert_eq!(books.delivered.events + books.filtered.events, read, "{}: {books}", member.name);
        if member.name != "noise" {
            assert_eq!(books.filtered.events, 0, "{}: {books}", member.name);
            written.extend(lines);
        }
    }
    let verdict = without_noise(broker, &topics, &written);
    eprintln!("reload: many: {verdict}");
    verdict.assert_nothing_lost();
    verdict.assert_duplicates_at_most(0);
    assert!(agent.terminate(SOON).success());
}

/// The lines of all sources but the one of which rules leave some out.
fn without_noise(broker: &Broker, topics: &[&str], written: &Written) -> Verdict {
    let mut oracle = Oracle::new(written);
    for topic in topics {
        topic::for_each(&broker.bootstrap(), topic, Isolation::ReadUncommitted, |message| {
            let line = rdkafka::Message::payload(message).unwrap_or_default();
            if !line.starts_with(b"noise:") {
                oracle.see(rdkafka::Message::partition(message), line);
            }
        });
    }
    oracle.verdict()
}

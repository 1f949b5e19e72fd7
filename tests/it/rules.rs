//! Rules in a running agent: what they leave out never arrives, everything else does, and the books say how much was which, also over kills and
//! an outage that fills the spill.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{self, LineWriter, Written};
use crate::harness::oracle::Allowance;
use crate::harness::topic::{self, Isolation};
use crate::harness::{free_port, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;

/// Leaves out lines whose number ends in 3 or 7, and all of a stretch that is longer than a batch.
const RULES: &str = r"
[[rule]]
name = 'odd ones'
when = { source = 'files', message = ' seq=[0-9]{9}[37] ' }
drop = true
[[rule]]
name = 'a stretch'
when = { type = 'file', message = ' seq=00000[23][0-9]{4} ' }
drop = true
";

fn is_left_out(number: u64) -> bool {
    matches!(number % 10, 3 | 7) || (20_000..40_000).contains(&number)
}

/// Everything that no rule leaves out is there, in order, and nothing else; the books agree to the event.
#[track_caller]
fn assert_sifted(broker: &Broker, topic: &str, written: &Written, doubled_at_most: u64, agent: &Agent) {
    assert_sifted_of("files", broker, topic, written, doubled_at_most, agent);
}

#[track_caller]
fn assert_sifted_of(source: &str, broker: &Broker, topic: &str, written: &Written, doubled_at_most: u64, agent: &Agent) {
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut doubled = 0;
    topic::for_each(&broker.bootstrap(), topic, Isolation::ReadUncommitted, |message| {
        let value = rdkafka::Message::payload(message).unwrap_or_default();
        let (stream, number) = lines::parse(value).expect("a whole line");
        let numbers = seen.entry(stream.to_owned()).or_default();
        match numbers.last() {
            Some(last) if number <= *last => {
                assert!(numbers.binary_search(&number).is_ok(), "{stream} {number} comes late");
                doubled += 1;
            }
            _ => numbers.push(number),
        }
    });
    let mut left_out = 0;
    for (stream, count) in written {
        let (gone, kept): (Vec<u64>, Vec<u64>) = (0..*count).partition(|number| is_left_out(*number));
        left_out += gone.len() as u64;
        assert!(seen.get(stream).is_some_and(|numbers| *numbers == kept), "{stream}: what arrived is not what was to arrive");
    }
    assert!(doubled <= doubled_at_most, "{doubled} lines came twice, at most {doubled_at_most} may");
    let read = written.values().sum();
    let books = agent.settled_books(source, read);
    assert_eq!((books.filtered.events, books.delivered.events), (left_out, read - left_out), "{books}");
}

fn kept(written: &Written) -> u64 {
    written.values().map(|count| (0..*count).filter(|number| !is_left_out(*number)).count() as u64).sum()
}

#[test]
fn kills_change_nothing_about_what_rules_leave_out_and_the_books() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("sifted", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    let plan = Plan::new(&broker.bootstrap(), "sifted").agent("memory = \"4MiB\"").extra(RULES).include(logs.path().join("*.log"));
    let mut agent = plan.start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    for lines in [16_000, 17_300, 18_900] {
        let until = writing.written() + lines;
        allowance.kill(&mut agent, broker, "sifted", || writing.written() >= until);
        agent.restart();
    }
    let written = writing.stop();
    let kept = kept(&written);
    wait_until("what is kept to arrive", LATE, || broker.count("sifted") >= kept);
    agent.settled_books("files", written.values().sum());
    assert_sifted(broker, "sifted", &written, allowance.most(), &agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn what_rules_leave_of_a_batch_goes_through_the_spill_and_a_kill() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("sifted-spill", 3, &[]);
    let plan = Plan::new(&broker.bootstrap(), "sifted-spill").agent("memory = \"4MiB\"").extra(RULES).include(logs.path().join("*.log"));
    let mut agent = plan.extra("[spill]\nafter = \"500ms\"").start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    wait_until("some lines", LATE, || broker.count("sifted-spill") > 2000);
    broker.kill9();
    let until = writing.written() + 60_000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    allowance.kill_while_away(&mut agent);
    agent.restart();
    let until = writing.written() + 16_000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    broker.restart();
    let written = writing.stop();
    let kept = kept(&written);
    wait_until("what is kept to arrive", LATE, || broker.count("sifted-spill") >= kept);
    agent.settled_books("files", written.values().sum());
    assert_sifted(&broker, "sifted-spill", &written, allowance.most(), &agent);
    assert!(agent.terminate(SOON).success());
}

/// An arrival log is read again after a kill, by rules from the position on, and each message is in the books once.
#[test]
fn what_rules_leave_out_of_syslog_is_counted_once_over_kills() {
    let mut broker = Broker::lent();
    broker.create_topic("sifted-net", 1, &[]);
    let port = free_port();
    let source = format!("[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [\"tcp://127.0.0.1:{port}\"]\n");
    let rules = RULES.replace("source = 'files'", "source = 'net'").replace("type = 'file'", "type = 'syslog'");
    let plan = Plan::new(&broker.bootstrap(), "sifted-net").agent("memory = \"4MiB\"").include("/nonexistent/*.log");
    let mut agent = plan.extra(&source).extra(&rules).start();
    let (mut written, mut allowance) = (Written::new(), Allowance::new(Duration::from_secs(1), MEMORY, LINE));
    for round in 0..4 {
        agent.wait_for_log("listening", SOON);
        if round % 2 == 1 {
            broker.kill9();
        }
        let stream = format!("round-{round}");
        let text: String = (0..50_000).map(|number| lines::line(&stream, number, 60) + "\n").collect();
        let before = agent.status().source("net").read.events;
        TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(text.as_bytes()).unwrap();
        written.insert(stream, 50_000);
        agent.wait_for_status("the messages to be accepted", LATE, |status| status.source("net").read.events >= before + 50_000);
        if round % 2 == 1 {
            allowance.kill_while_away(&mut agent);
            broker.restart();
        } else {
            let begun = broker.count("sifted-net");
            allowance.kill(&mut agent, &broker, "sifted-net", || broker.count("sifted-net") > begun);
        }
        agent.restart();
    }
    let kept = kept(&written);
    wait_until("what is kept to arrive", LATE, || broker.count("sifted-net") >= kept);
    agent.settled_books("net", written.values().sum());
    assert_sifted_of("net", &broker, "sifted-net", &written, allowance.most(), &agent);
    assert!(agent.terminate(SOON).success());
}

/// Takes lines apart, and leaves out what their fields say.
const FIELDS: &str = r"
[[rule]]
name = 'numbers'
parse = { regex = ' seq=0*(?<seq>[0-9]+) ' }
[[rule]]
name = 'odd ones'
when = { fields = { seq = { regex = '[37]$' } } }
drop = true
[[rule]]
name = 'a stretch'
when = { fields = { seq = { gte = 20000, lt = 40000 } } }
drop = true
[[rule]]
name = 'all are errors'
severity = 'error'
";

#[test]
fn what_is_found_in_lines_decides_and_is_shipped_over_kills() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("found", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    let plan = Plan::new(&broker.bootstrap(), "found").agent("memory = \"4MiB\"").extra(FIELDS).include(logs.path().join("*.log"));
    let mut agent = plan.format(crate::harness::topic::Format::Json).start();
    for _ in 0..2 {
        let before = broker.count("found");
        wait_until("lines to arrive", SOON, || broker.count("found") >= before + 4000);
        agent.kill9();
        agent.restart();
    }
    wait_until("the stretch to be written", LATE, || writing.written() > 45_000);
    let written = writing.stop();
    wait_until("all that is kept to arrive", LATE, || broker.count("found") >= kept(&written));
    let mut checked = 0;
    topic::for_each(&broker.bootstrap(), "found", Isolation::ReadUncommitted, |message| {
        let event: serde_json::Value = serde_json::from_slice(rdkafka::Message::payload(message).unwrap_or_default()).expect("JSON");
        let (_, number) = lines::parse(event["message"].as_str().unwrap_or_default().as_bytes()).expect("a whole line");
        assert!(!is_left_out(number), "{event}");
        assert_eq!((&event["fields"]["seq"], &event["severity"]), (&number.to_string().into(), &"error".into()));
        checked += 1;
    });
    assert!(checked >= kept(&written));
    let read: u64 = written.values().sum();
    let books = agent.settled_books("files", read);
    assert_eq!((books.filtered.events, books.delivered.events), (read - kept(&written), kept(&written)), "{books}");
}

/// What a limit leaves out is told in records of their own, key by key, and all in all as much as the books say.
#[test]
fn what_a_limit_left_out_is_told_to_the_event_over_kills() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("limited", 1, &[]);
    let rules = r"
[[rule]]
name = 'numbers'
parse = { regex = ' seq=[0-9]{9}(?<digit>[0-9]) ' }
[[rule]]
name = 'evens'
when = { fields = { digit = ['0', '2', '4', '6', '8'] } }
rate_limit = { events = 50, per = '1s', by = 'digit' }
";
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).start();
    let plan = Plan::new(&broker.bootstrap(), "limited").extra(rules).include(logs.path().join("*.log"));
    let mut agent = plan.format(crate::harness::topic::Format::Json).start();
    for _ in 0..2 {
        let until = writing.written() + 8000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        agent.kill9();
        agent.restart();
    }
    let until = writing.written() + 4000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    let read = writing.stop().values().sum();
    let books = agent.settled_books("files", read);
    agent.wait_for_status("all records to be sent", SOON, |status| status.gaps().0 == 0);
    let (mut told, mut keys) = (BTreeMap::new(), BTreeMap::new());
    topic::for_each(&broker.bootstrap(), "limited", Isolation::ReadUncommitted, |message| {
        let event: serde_json::Value = serde_json::from_slice(rdkafka::Message::payload(message).unwrap_or_default()).expect("JSON");
        if event["type"] == "limited" {
            let (events, place) = (event["events"].as_u64().unwrap(), event["place"].as_str().unwrap().to_owned());
            assert!(event["message"].as_str().unwrap().starts_with("suppressed "), "{event}");
            if told.insert(event["event_id"].to_string(), events).is_none() {
                *keys.entry(place).or_insert(0) += events;
            }
        }
    });
    assert!(books.filtered.events > 0);
    assert_eq!(told.values().sum::<u64>(), books.filtered.events, "{keys:?}");
    let places = keys.keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(places, ["rule evens, 0", "rule evens, 2", "rule evens, 4", "rule evens, 6", "rule evens, 8"]);
    let status = agent.status();
    let shown = status.json()["rules"].as_array().unwrap();
    assert_eq!((&shown[1]["name"], shown[1]["errors"].as_u64()), (&"evens".into(), Some(0)));
    assert!(shown[1]["dropped"].as_u64().unwrap() > 0 && shown[0]["matched"].as_u64().unwrap() > 0, "{shown:?}");
    assert!(agent.terminate(SOON).success());
}

//! Rules that give events to other topics: each topic gets what is for it, whole and in order, over kills, an outage that fills the spill, a topic
//! that is not there, and other rules after a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::harness::agent::Plan;
use crate::harness::broker::Broker;
use crate::harness::lines::{self, LineWriter, Written};
use crate::harness::oracle::Allowance;
use crate::harness::topic::{self, Isolation};
use crate::harness::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(60);
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;

/// Numbers that end in 3 go to a topic of their own, those in 5 and 6 to one that their field names, those in 7 are left out.
fn rules(prefix: &str) -> String {
    format!(
        r"
[[rule]]
name = 'threes'
when = {{ message = ' seq=[0-9]{{9}}3 ' }}
route = {{ topic = '{prefix}-three' }}
[[rule]]
name = 'last digit'
parse = {{ regex = ' seq=[0-9]{{9}}(?<digit>[0-9]) ' }}
[[rule]]
name = 'by digit'
when = {{ fields = {{ digit = {{ gte = 5, lt = 9 }} }} }}
route = {{ topic = '{prefix}-{{digit}}', topics = ['{prefix}-5', '{prefix}-6'] }}
[[rule]]
name = 'sevens'
when = {{ fields = {{ digit = '7' }} }}
drop = true
"
    )
}

/// The end of the topic's name that a number goes to; `None`: it is left out.
fn place(number: u64) -> Option<&'static str> {
    match number % 10 {
        3 => Some("-three"),
        5 => Some("-5"),
        6 => Some("-6"),
        7 => None,
        _ => Some(""),
    }
}

const PLACES: [&str; 4] = ["", "-three", "-5", "-6"];

fn expected(written: &Written, of: &str) -> u64 {
    written.values().map(|count| (0..*count).filter(|number| place(*number) == Some(of)).count() as u64).sum()
}

/// The numbers of each stream in a topic, in their order; how many came twice.
fn numbers(broker: &Broker, topic: &str) -> (BTreeMap<String, Vec<u64>>, u64) {
    let (mut by_stream, mut doubled): (BTreeMap<String, Vec<u64>>, u64) = Default::default();
    topic::for_each(&broker.bootstrap(), topic, Isolation::ReadUncommitted, |message| {
        let (stream, number) = lines::parse(rdkafka::Message::payload(message).unwrap_or_default()).expect("a whole line");
        let numbers = by_stream.entry(stream.to_owned()).or_default();
        match numbers.last() {
            Some(last) if number <= *last => {
                assert!(numbers.binary_search(&number).is_ok(), "{topic}: {stream} {number} comes late");
                doubled += 1;
            }
            _ => numbers.push(number),
        }
    });
    (by_stream, doubled)
}

/// Each topic has what is for it, in order; returns how many lines came twice in each.
#[track_caller]
fn assert_routed(broker: &Broker, topic: &str, written: &Written) -> Vec<u64> {
    let mut doubles = Vec::new();
    for of in PLACES {
        let (arrived, twice) = numbers(broker, &format!("{topic}{of}"));
        for (stream, count) in written {
            let wanted: Vec<u64> = (0..*count).filter(|number| place(*number) == Some(of)).collect();
            let got = arrived.get(stream).map(Vec::as_slice).unwrap_or_default();
            assert!(got == wanted, "{topic}{of}: {stream}: {} lines arrived, {} were to", got.len(), wanted.len());
        }
        doubles.push(twice);
    }
    doubles
}

fn create(broker: &Broker, topic: &str, places: &[&str]) {
    for of in places {
        broker.create_topic(&format!("{topic}{of}"), 2, &[]);
    }
}

fn wait_for_all(broker: &Broker, topic: &str, written: &Written) {
    for of in PLACES {
        let wanted = expected(written, of);
        wait_until(&format!("all of {topic}{of}"), LATE, || broker.count(&format!("{topic}{of}")) >= wanted);
    }
}

#[test]
fn each_topic_gets_what_is_for_it_over_kills_and_an_outage() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    create(&broker, "routed", &PLACES);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
    let plan = Plan::new(&broker.bootstrap(), "routed").agent("memory = \"4MiB\"").extra(&rules("routed"));
    let mut agent = plan.extra("[spill]\nafter = \"500ms\"").include(logs.path().join("*.log")).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    for _ in 0..2 {
        let until = writing.written() + 16_000;
        allowance.kill(&mut agent, &broker, "routed", || writing.written() >= until);
        agent.restart();
    }
    broker.kill9();
    for _ in 0..2 {
        let until = writing.written() + 30_000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        allowance.kill_while_away(&mut agent);
        agent.restart();
    }
    let until = writing.written() + 8_000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    broker.restart();
    let written = writing.stop();
    wait_for_all(&broker, "routed", &written);
    let read = written.values().sum();
    let books = agent.settled_books("files", read);
    let dropped: u64 = written.values().map(|count| (0..*count).filter(|number| place(*number).is_none()).count() as u64).sum();
    assert_eq!((books.filtered.events, books.delivered.events), (dropped, read - dropped), "{books}");
    let doubled: u64 = assert_routed(&broker, "routed", &written).iter().sum();
    assert!(doubled <= allowance.most(), "{doubled} came twice, at most {} may", allowance.most());
    assert!(agent.terminate(SOON).success());
}

/// A topic that is not there keeps the position where it is; the marks of the others keep what they have from being sent again.
#[test]
fn a_topic_that_is_missing_holds_up_no_other_and_gets_its_lines_after_kills() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    create(broker, "routed-some", &["", "-5", "-6"]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).start();
    let plan = Plan::new(&broker.bootstrap(), "routed-some").agent("memory = \"32MiB\"").extra(&rules("routed-some"));
    let mut agent = plan.extra("[spill]\nafter = \"10m\"").include(logs.path().join("*.log")).start();
    for _ in 0..3 {
        let until = writing.written() + 12_000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        agent.kill9();
        agent.restart();
    }
    let written = writing.stop();
    for of in ["", "-5", "-6"] {
        let wanted = expected(&written, of);
        wait_until(&format!("all of {of:?} although another topic is missing"), LATE, || {
            broker.count(&format!("routed-some{of}")) >= wanted
        });
    }
    create(broker, "routed-some", &["-three"]);
    wait_for_all(broker, "routed-some", &written);
    let read: u64 = written.values().sum();
    agent.settled_books("files", read);
    let doubled = assert_routed(broker, "routed-some", &written);
    assert_eq!(doubled[1], 0, "what was never sent comes once");
    // The position stood at the beginning all the time: without marks twice as many would have come again as there are.
    assert!(doubled.iter().sum::<u64>() < read, "{doubled:?} came twice, of {read}");
    assert!(agent.terminate(SOON).success());
}

/// What lies between the position and the marks may be for other topics under other rules: it is sent again, and nothing is missing.
#[test]
fn other_rules_after_a_kill_lose_nothing() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    create(broker, "rerouted", &[""]);
    let rule = |ending: char| format!("[[rule]]\nwhen = {{ message = ' seq=[0-9]{{9}}{ending} ' }}\nroute = {{ topic = 'rerouted-x' }}\n");
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).start();
    let plan = Plan::new(&broker.bootstrap(), "rerouted").agent("memory = \"32MiB\"").extra("[spill]\nafter = \"10m\"");
    let mut agent = plan.extra(&rule('3')).include(logs.path().join("*.log")).start();
    let until = |lines| {
        let until = writing.written() + lines;
        wait_until("lines to be written", LATE, || writing.written() >= until);
    };
    until(10_000);
    // The topic of the threes is missing; from now on it is that of the fours.
    let said = agent.reload_with(|config| config.replace("{9}3 ", "{9}4 "));
    assert_eq!(said.code, Some(0), "{}", said.text);
    until(10_000);
    agent.kill9();
    agent.restart_with(|plan| {
        plan.extra("[[rule]]\nname = 'fives'\nwhen = { message = ' seq=[0-9]{9}5 ' }\nroute = { topic = 'rerouted-x' }\n")
    });
    until(10_000);
    let written = writing.stop();
    create(broker, "rerouted", &["-x"]);
    let read: u64 = written.values().sum();
    agent.wait_for_status("all to be delivered", LATE, |status| {
        status.source("files").pending.events == 0 && status.source("files").read.events >= read
    });
    let mut there: BTreeSet<u64> = BTreeSet::new();
    for of in ["rerouted", "rerouted-x"] {
        topic::for_each(&broker.bootstrap(), of, Isolation::ReadUncommitted, |message| {
            there.insert(lines::parse(rdkafka::Message::payload(message).unwrap_or_default()).expect("a whole line").1);
        });
    }
    assert_eq!(there, (0..read).collect(), "every line is in one of the two topics");
    let books = agent.status().source("files");
    assert!(books.resent.events > 0, "what is sent again is counted: {books}");
    assert!(agent.terminate(SOON).success());
}

/// Keys out of the lines: what has one key is in one partition, whole and in order, over kills and an outage; headers go through the spill.
#[test]
fn lines_get_keys_and_headers_over_kills_and_an_outage() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("keyed", 4, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).start();
    let rule = "[[rule]]\nparse = { regex = ' seq=[0-9]{9}(?<digit>[0-9]) ' }\n[spill]\nafter = \"500ms\"\n";
    let headers = "key = \"digit-{digit}\"\nheaders = { source = \"{source}\", digit = \"{digit}\", none = \"{nothing}\" }";
    let plan = Plan::new(&broker.bootstrap(), "keyed").agent("memory = \"4MiB\"").kafka(headers).extra(rule);
    let mut agent = plan.include(logs.path().join("*.log")).start();
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    let until = writing.written() + 8_000;
    allowance.kill(&mut agent, &broker, "keyed", || writing.written() >= until);
    agent.restart();
    let until = writing.written() + 4_000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    broker.kill9();
    let until = writing.written() + 16_000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    allowance.kill_while_away(&mut agent);
    agent.restart();
    let until = writing.written() + 4_000;
    wait_until("lines to be written", LATE, || writing.written() >= until);
    broker.restart();
    let written = writing.stop();
    let read: u64 = written.values().sum();
    wait_until("all lines", LATE, || broker.count("keyed") >= read);
    agent.settled_books("files", read);
    let mut by_digit: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut partitions: BTreeMap<u64, BTreeSet<i32>> = BTreeMap::new();
    let mut doubled = 0;
    for record in topic::records(&broker.bootstrap(), "keyed", Isolation::ReadUncommitted) {
        let (_, number) = lines::parse(&record.value).expect("a whole line");
        let digit = number % 10;
        assert_eq!(record.key.as_deref(), Some(format!("digit-{digit}").as_bytes()));
        let wanted = [("digit".to_owned(), digit.to_string().into_bytes()), ("source".to_owned(), b"files".to_vec())];
        assert_eq!(record.headers, wanted);
        partitions.entry(digit).or_default().insert(record.partition);
        let numbers = by_digit.entry(digit).or_default();
        match numbers.last() {
            Some(last) if number <= *last => {
                assert!(numbers.binary_search(&number).is_ok(), "{number} comes late");
                doubled += 1;
            }
            _ => numbers.push(number),
        }
    }
    for (digit, numbers) in by_digit {
        assert!(numbers.iter().copied().eq((0..read).filter(|number| number % 10 == digit)), "{digit}: {} lines", numbers.len());
        assert_eq!(partitions[&digit].len(), 1, "what has one key is in one partition");
    }
    assert!(doubled <= allowance.most(), "{doubled} came twice, at most {} may", allowance.most());
    let status = agent.status();
    let shown = status.json()["rules"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(shown["name"], "kafka.key and kafka.headers");
    assert_eq!(shown["errors"], shown["matched"], "a header whose field is missing is left out, and counted");
    assert!(agent.terminate(SOON).success());
}

#[test]
fn without_a_key_batches_are_spread_over_partitions() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("spread", 4, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(4000).start();
    let plan = Plan::new(&broker.bootstrap(), "spread").kafka("key = \"round-robin\"").include(logs.path().join("*.log"));
    let mut agent = plan.start();
    for _ in 0..2 {
        let until = writing.written() + 8_000;
        wait_until("lines to be written", LATE, || writing.written() >= until);
        agent.kill9();
        agent.restart();
    }
    let written = writing.stop();
    let read: u64 = written.values().sum();
    wait_until("all lines", LATE, || broker.count("spread") >= read);
    agent.settled_books("files", read);
    let (mut there, mut partitions) = (BTreeSet::new(), BTreeSet::new());
    for record in topic::records(&broker.bootstrap(), "spread", Isolation::ReadUncommitted) {
        assert_eq!(record.key, None);
        partitions.insert(record.partition);
        there.insert(lines::parse(&record.value).expect("a whole line").1);
    }
    assert_eq!((there, partitions.len()), ((0..read).collect(), 4));
    assert!(agent.terminate(SOON).success());
}

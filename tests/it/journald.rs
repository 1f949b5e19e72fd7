//! The journal of a real systemd-journald arrives: at speed, over rotations, deletions, kills of either side and the flush to disk. What journald
//! deleted before it could be read is told by exactly the numbers that are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::journald::Journald;
use crate::harness::topic::{Format, Isolation, records};
use crate::harness::{soaking, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(120);

/// A plan with a source `journal` beside one of files that finds none.
pub(crate) fn plan(bootstrap: &str, topic: &str, more: &str) -> Plan {
    let source = format!("[[source]]\nname = \"journal\"\ntype = \"journald\"\n{more}");
    Plan::new(bootstrap, topic).format(Format::Json).include("/nonexistent/*.log").extra(&source)
}

pub(crate) fn of_directory(journald: &Journald) -> String {
    format!("start_at = \"beginning\"\ndirectory = {:?}\n", journald.lasting().display().to_string())
}

/// What is in the topic.
#[derive(Default)]
pub(crate) struct Arrived {
    /// By the id of the counter, the numbers of the journal that came, and how often.
    pub(crate) entries: BTreeMap<String, BTreeMap<u64, u64>>,
    /// The numbers that the test sent, in the order in which they came first.
    pub(crate) numbers: Vec<u64>,
    /// By reason, what gaps tell.
    pub(crate) gaps: BTreeMap<String, u64>,
    /// How much of that is an upper limit.
    pub(crate) at_most: u64,
    pub(crate) told: Vec<String>,
}

pub(crate) fn arrived(broker: &Broker, topic: &str) -> Arrived {
    let mut arrived = Arrived::default();
    let mut seen = BTreeSet::new();
    for record in records(&broker.bootstrap(), topic, Isolation::ReadUncommitted) {
        let event: Value = serde_json::from_slice(&record.value).expect("JSON");
        if event["type"] == "gap" {
            assert_eq!(event["of"], "journald", "{event}");
            *arrived.gaps.entry(event["reason"].as_str().unwrap().into()).or_default() += event["events"].as_u64().unwrap();
            arrived.at_most += if event["at_most"] == true { event["events"].as_u64().unwrap() } else { 0 };
            arrived.told.push(event["message"].as_str().unwrap().into());
            continue;
        }
        let counter = event["cursor"].as_str().unwrap().split(';').next().unwrap().to_owned();
        *arrived.entries.entry(counter).or_default().entry(event["seqnum"].as_u64().unwrap()).or_default() += 1;
        if let Some(number) = event["journal"]["LOGFERRY_NUMBER"].as_str() {
            let number = number.parse().unwrap();
            if seen.insert(number) {
                arrived.numbers.push(number);
            }
        }
    }
    arrived
}

impl Arrived {
    /// Numbers of the journal between the first and the last that did not come.
    pub(crate) fn missing(&self) -> u64 {
        let of = |numbers: &BTreeMap<u64, u64>| {
            numbers.last_key_value().unwrap().0 - numbers.first_key_value().unwrap().0 + 1 - numbers.len() as u64
        };
        self.entries.values().map(of).sum()
    }

    /// The same as ranges, for people.
    fn holes(&self) -> String {
        let mut text = String::new();
        for (counter, numbers) in &self.entries {
            let (first, last) = (numbers.first_key_value().unwrap().0, numbers.last_key_value().unwrap().0);
            let _ = write!(text, "{counter}: {first} to {last} without");
            for (one, other) in numbers.keys().zip(numbers.keys().skip(1)).filter(|(one, other)| *one + 1 < **other) {
                let _ = write!(text, " {}-{}", one + 1, other - 1);
            }
            text.push_str("; ");
        }
        text
    }

    pub(crate) fn doubled(&self) -> u64 {
        self.entries.values().flat_map(BTreeMap::values).map(|times| times - 1).sum()
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.values().map(|numbers| numbers.len() as u64).sum()
    }
}

/// Waits until this number, the last that was sent, has arrived, and all that was read before it is settled.
#[track_caller]
pub(crate) fn settled(agent: &Agent, broker: &Broker, topic: &str, last: u64) -> Arrived {
    let mut found = Arrived::default();
    wait_until("the last entry to arrive", LATE, || {
        thread::sleep(Duration::from_millis(300));
        found = arrived(broker, topic);
        found.numbers.contains(&last)
    });
    agent.wait_for_status("nothing is on its way", SOON, |status| status.source("journal").pending.events == 0 && status.gaps().0 == 0);
    arrived(broker, topic)
}

#[test]
fn all_that_journald_takes_arrives_in_order_over_rotations() {
    let (broker, journald) = (Broker::shared(), Journald::start("SystemMaxFileSize=1M"));
    broker.create_topic("journal-live", 1, &[]);
    journald.flush();
    let agent = plan(&broker.bootstrap(), "journal-live", &of_directory(&journald)).start();
    let mut sender = journald.sender();
    for number in 1..=10_000 {
        sender.number(number);
    }
    let found = settled(&agent, broker, "journal-live", 10_000);
    assert_eq!(found.numbers, (1..=10_000).collect::<Vec<_>>());
    assert_eq!((found.missing(), found.doubled(), found.gaps.len()), (0, 0, 0));
    let files = std::fs::read_dir(journald.lasting()).unwrap().count();
    assert!(files > 2, "{files} files: it was rotated");
    agent.settled_books("journal", found.count());
}

#[test]
fn over_kills_of_both_sides_rotations_and_deletions_nothing_is_lost_that_is_not_told() {
    let broker = Broker::shared();
    let mut journald = Journald::start("SystemMaxUse=24M\nSystemMaxFileSize=3M");
    broker.create_topic("journal-kills", 1, &[]);
    journald.flush();
    let mut agent = plan(&broker.bootstrap(), "journal-kills", &of_directory(&journald)).agent("snapshot_interval = \"100ms\"").start();
    let end = AtomicBool::new(false);
    let rounds = if soaking() { 10 } else { 3 };
    let last = thread::scope(|scope| {
        let mut sender = journald.sender();
        let end = &end;
        let sending = scope.spawn(move || {
            let begun = Instant::now();
            let mut number = 0_u64;
            while !end.load(Ordering::Relaxed) {
                number += 1;
                sender.number(number);
                let due = Duration::from_micros(number * 1_000 / 15);
                if let Some(early) = due.checked_sub(begun.elapsed()).filter(|early| *early > Duration::from_millis(5)) {
                    thread::sleep(early);
                }
            }
            number
        });
        for round in 0..rounds {
            thread::sleep(Duration::from_millis(1500));
            agent.kill9();
            match round % 3 {
                0 => journald.signal(Signal::USR2),
                1 => journald.kill9_and_run(),
                _ => drop(journald.journalctl(&["--rotate", "--vacuum-size=8M"])),
            }
            thread::sleep(Duration::from_millis(400));
            agent.restart();
        }
        thread::sleep(Duration::from_secs(1));
        end.store(true, Ordering::Relaxed);
        sending.join().unwrap()
    });
    // What tells the end is sent when journald certainly runs.
    journald.sender().number(last + 1);
    let found = settled(&agent, broker, "journal-kills", last + 1);
    let told: u64 = ["vacuumed", "unreadable"].iter().filter_map(|reason| found.gaps.get(*reason)).sum();
    eprintln!(
        "sent {last}, arrived {}, doubled {}, missing {}, told {told}: {:?}; {}",
        found.count(),
        found.doubled(),
        found.missing(),
        found.told,
        found.holes()
    );
    // What had been delivered after the last snapshot before a kill, and was deleted before the next start, may be told as missing too.
    let range = told - found.at_most..=told;
    assert!(range.contains(&found.missing()), "{} of {range:?}: {:?}", found.missing(), found.told);
    assert!(found.count() > 10_000);
}

#[test]
fn stalled_for_longer_than_the_journal_keeps_the_exact_number_is_told() {
    let (broker, journald) = (Broker::shared(), Journald::start("SystemMaxUse=4M\nSystemMaxFileSize=1M"));
    broker.create_topic("journal-stalled", 1, &[]);
    journald.flush();
    let mut agent = plan(&broker.bootstrap(), "journal-stalled", &of_directory(&journald)).start();
    let mut sender = journald.sender();
    for number in 1..=1000 {
        sender.number(number);
    }
    settled(&agent, broker, "journal-stalled", 1000);
    agent.signal(Signal::STOP);
    let last = 1000 + if soaking() { 300_000 } else { 40_000 };
    for number in 1001..=last {
        sender.number(number);
    }
    journald.journalctl(&["--sync"]);
    agent.signal(Signal::CONT);
    let found = settled(&agent, broker, "journal-stalled", last);
    assert!(found.missing() > 5000, "{} were deleted", found.missing());
    assert_eq!(found.gaps, BTreeMap::from([("vacuumed".to_owned(), found.missing())]), "{:?}", found.told);
    assert_eq!(found.doubled(), 0);
    let missed = agent.status().source("journal").missed["vacuumed"].events;
    assert_eq!(missed, found.missing());
}

#[test]
fn what_was_read_before_the_flush_to_disk_does_not_come_again() {
    for stopped in [false, true] {
        let (broker, journald) = (Broker::shared(), Journald::start(""));
        let topic = if stopped { "journal-flush-stopped" } else { "journal-flush" };
        broker.create_topic(topic, 1, &[]);
        let mut sender = journald.sender();
        sender.number(1);
        wait_until("a journal below /run", SOON, || journald.passing().join("system.journal").exists());
        let plan = plan(&broker.bootstrap(), topic, "start_at = \"beginning\"").within(journald.namespace());
        let mut agent = plan.start();
        for number in 2..=2000 {
            sender.number(number);
        }
        settled(&agent, broker, topic, 2000);
        if stopped {
            assert!(agent.terminate(SOON).success());
        }
        for number in 2001..=2500 {
            sender.number(number);
        }
        journald.flush();
        for number in 2501..=4000 {
            sender.number(number);
        }
        if stopped {
            agent.restart();
        }
        let found = settled(&agent, broker, topic, 4000);
        let mut numbers: Vec<u64> = found.numbers.clone();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=4000).collect::<Vec<_>>(), "stopped: {stopped}");
        let all: Vec<Value> = records(&broker.bootstrap(), topic, Isolation::ReadUncommitted)
            .iter()
            .map(|record| serde_json::from_slice(&record.value).unwrap())
            .collect();
        let ours = all.iter().filter(|event| event["journal"]["LOGFERRY_NUMBER"].is_string()).count();
        assert_eq!(ours, 4000, "stopped: {stopped}");
        assert!(!agent.log().contains("ERROR"), "{}", agent.log());
    }
}

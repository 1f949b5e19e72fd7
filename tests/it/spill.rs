//! Kafka is away for longer than memory lasts: events wait on disk, in order, through kills and damage, and go out when they can. The books
//! are taken after each, and what was lost is told exactly.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::lines::{LineWriter, Rotation, Writing, Written};
use crate::harness::oracle::{self, Allowance};
use crate::harness::topic::{Format, Isolation};
use crate::harness::{Random, soaking, temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(90);
/// What the agents here are given as `agent.memory`, and about what a line of the writer takes of it.
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;
/// Lines that don't fit into that memory by far.
const FLOOD: u64 = 150_000;

/// An agent with little memory that goes to its disk soon.
fn plan(broker: &Broker, topic: &str, logs: &Path) -> Plan {
    plan_with(broker, topic, logs, "")
}

/// The same with further keys of `[spill]`.
fn plan_with(broker: &Broker, topic: &str, logs: &Path, spill: &str) -> Plan {
    let plan = Plan::new(&broker.bootstrap(), topic).agent("memory = \"4MiB\"").include(logs.join("app.log*"));
    plan.source("rescan_interval = \"500ms\"").extra(&format!("[spill]\nafter = \"1s\"\n{spill}"))
}

fn write(logs: &Path, lines: u64) -> Written {
    LineWriter::new("w", logs.join("app.log")).limit(lines).start().finish()
}

/// Waits until all of these lines have been read, and whatever of them is not in Kafka is in the spill.
fn wait_until_spilled(agent: &Agent, topic: &str, lines: u64) {
    agent.wait_for_status("everything to be in the spill", LATE, |status| {
        let books = status.source("files");
        let spilled = status.lane(topic).map_or(0, |lane| lane.pending.events);
        books.read.events == lines && books.pending.events == spilled
    });
}

/// Waits until the spill is gone, as it has to be when Kafka has everything.
fn wait_until_empty(agent: &Agent) {
    wait_until("the spill's segments to be gone", SOON, || segments(agent).is_empty());
    agent.wait_for_status("nothing to be in the spill", SOON, |status| status.source("files").pending.events == 0);
}

/// The segments of the spill, in the order of their names; not what was set aside of them because it is damaged.
fn segments(agent: &Agent) -> Vec<PathBuf> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&agent.state_dir().join("spill"), &mut found);
    found.sort();
    found
}

#[test]
fn what_does_not_fit_into_memory_waits_on_disk_and_arrives_once() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("spilled", 3, &[]);
    let mut agent = plan(&broker, "spilled", logs.path()).start();
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(20_000).limit(FLOOD).start();
    broker.wait_for_count("spilled", 5000, SOON);
    broker.kill9();
    let written = writing.finish();
    wait_until_spilled(&agent, "spilled", FLOOD);
    let status = agent.status();
    assert!(status.spill_bytes() > 0 && status.running() && status.spill_full().is_none(), "{status:?}");
    status.assert_balanced();
    let rss = agent.usage().peak_rss;
    assert!(rss < MEMORY + (40 << 20), "{rss} bytes at the peak");
    broker.restart();
    let verdict = oracle::read_when_whole(&broker, "spilled", Format::Raw, &written, LATE);
    // What was in flight when the broker died may have been taken by it before.
    verdict.assert_whole("spilled and back", MEMORY / 2 / LINE, &agent);
    wait_until_empty(&agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn json_events_wait_on_disk_as_well() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("spilled-json", 3, &[]);
    broker.kill9();
    let written = write(logs.path(), FLOOD / 3);
    let mut agent = plan(&broker, "spilled-json", logs.path()).format(Format::Json).start();
    wait_until_spilled(&agent, "spilled-json", FLOOD / 3);
    // What was written is delivered as written, also by another run.
    assert!(agent.terminate(LATE).success() || agent.log().contains("stop_timeout"), "{}", agent.log());
    broker.restart();
    agent.restart();
    let verdict = oracle::read_when_whole(&broker, "spilled-json", Format::Json, &written, LATE);
    verdict.assert_whole("spilled as JSON", 0, &agent);
}

#[test]
fn a_deleted_file_outlives_a_kill_in_the_spill() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("deleted", 3, &[]);
    broker.kill9();
    let lines = 20 * (1 << 20) / 150;
    let written = write(logs.path(), lines);
    let mut agent = plan(&broker, "deleted", logs.path()).start();
    wait_until_spilled(&agent, "deleted", lines);
    fs::remove_file(logs.path().join("app.log")).unwrap();
    agent.kill9();
    agent.restart();
    agent.wait_for_log("waiting for Kafka: ", SOON);
    broker.restart();
    let verdict = oracle::read_when_whole(&broker, "deleted", Format::Raw, &written, LATE);
    verdict.assert_whole("deleted while Kafka was away", 0, &agent);
    wait_until_empty(&agent);
}

/// Kills at random moments: while it spills, while it drains, while it recovers.
#[test]
fn kills_at_any_moment_of_an_outage_lose_nothing() {
    let rounds = if soaking() { 100 } else { 6 };
    let (mut broker, logs, mut random) = (Broker::lent(), temp_dir("logs"), Random::new("kills"));
    broker.create_topic("outage-kills", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(6000).start();
    let mut agent = plan(&broker, "outage-kills", logs.path()).start();
    broker.wait_for_count("outage-kills", 6000, SOON);
    let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
    for round in 0..rounds {
        let kind = round % 3;
        // Long enough for a snapshot to cover what was acknowledged before, and for the spill to begin.
        broker.kill9();
        agent.wait_for_status("the spill to be used", LATE, |status| status.spill_bytes() > 0);
        let_write(&writing, 12_000 + random.below(12_000));
        if kind == 1 {
            broker.restart();
            let begun = broker.count("outage-kills");
            let more = random.below(20_000);
            allowance.kill(&mut agent, &broker, "outage-kills", || broker.count("outage-kills") > begun + more);
        } else {
            allowance.kill_while_away(&mut agent);
        }
        agent.restart();
        if kind == 2 {
            thread::sleep(Duration::from_millis(random.below(400)));
            allowance.kill_while_away(&mut agent);
            agent.restart();
        }
        if kind != 1 {
            broker.restart();
        }
        let before = broker.count("outage-kills");
        wait_until("the lane to go on", LATE, || broker.count("outage-kills") > before);
        let status = agent.wait_for_status("an answer", SOON, |_| true);
        eprintln!("round {round}, kind {kind}: {}", status.source("files"));
        status.assert_balanced();
    }
    let written = writing.stop();
    let verdict = oracle::read_when_whole(&broker, "outage-kills", Format::Raw, &written, LATE * 2);
    verdict.assert_whole("kills during outages", allowance.most(), &agent);
    wait_until_empty(&agent);
}

fn let_write(writing: &Writing, more: u64) {
    let until = writing.written() + more;
    wait_until("lines to be written", LATE, || writing.written() >= until);
}

/// As many bytes as the spill may take and more, from files that are rotated and deleted meanwhile.
#[test]
fn a_full_spill_makes_the_sources_wait_and_nothing_is_lost() {
    // A line takes about 100 bytes of the spill.
    let (spill_mib, lines, rate) = if soaking() { (2048, 30_000_000, 40_000) } else { (64, 900_000, 20_000) };
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("volume", 3, &[("retention.ms", "-1")]);
    broker.kill9();
    let max_size = format!("max_size = \"{spill_mib}MiB\"");
    let mut agent = plan_with(&broker, "volume", logs.path(), &max_size).start();
    agent.wait_for_log(" runs", SOON);
    let rotation = Rotation::Rename { every: lines / 20 };
    let writer = LineWriter::new("w", logs.path().join("app.log")).noisy().padding(130).rotation(rotation).keep(2);
    // Slower than the agent, so that it has each file open before it is deleted.
    let writing = writer.rate(rate).limit(lines).start();
    let patience = Duration::from_secs(lines / rate) + LATE;
    agent.wait_for_status("the spill to be full", patience, |status| status.spill_full().is_some());
    let written = writing.finish();
    let status = agent.status();
    assert_eq!(status.spill_full().as_deref(), Some("max_size"), "{status:?}");
    assert!(status.spill_bytes() <= spill_mib << 20, "{} bytes in the spill", status.spill_bytes());
    assert!(status.source("files").read.events < lines, "the sources wait: {status:?}");
    status.assert_balanced();
    assert!(agent.exited().is_none(), "{}", agent.log());
    broker.restart();
    let verdict = oracle::read_when_whole(&broker, "volume", Format::Raw, &written, if soaking() { LATE * 20 } else { LATE });
    verdict.assert_whole("a full spill", 0, &agent);
    wait_until_empty(&agent);
}

/// A real outage of some minutes, in `make soak` alone: six of them; here a short one, so that the test itself is tried.
#[test]
fn an_outage_of_minutes_is_bridged() {
    let outage = Duration::from_secs(if soaking() { 360 } else { 12 });
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("minutes", 3, &[]);
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(5000).start();
    let mut agent = plan(&broker, "minutes", logs.path()).start();
    broker.wait_for_count("minutes", 5000, SOON);
    broker.kill9();
    let away = Instant::now();
    while away.elapsed() < outage {
        thread::sleep(Duration::from_secs(1));
        agent.status().assert_balanced();
    }
    broker.restart();
    let_write(&writing, 5000);
    let written = writing.stop();
    let verdict = oracle::read_when_whole(&broker, "minutes", Format::Raw, &written, LATE * 2);
    verdict.assert_whole("an outage of minutes", MEMORY / 2 / LINE, &agent);
    wait_until_empty(&agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn a_frozen_broker_costs_no_cpu_and_no_false_alarm() {
    let seconds = if soaking() { 60 } else { 15 };
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("stands-still", 3, &[]);
    let mut written = LineWriter::new("a", logs.path().join("app.log.a")).limit(FLOOD).start().finish();
    let mut agent = plan(&broker, "stands-still", logs.path()).start();
    broker.wait_for_count("stands-still", 1, SOON);
    broker.freeze();
    // All of it is read first: that is work, not waiting.
    wait_until_spilled_or_flying(&agent, FLOOD);
    let (before, started) = (agent.usage().cpu, Instant::now());
    thread::sleep(Duration::from_secs(seconds));
    let percent = 100.0 * (agent.usage().cpu.saturating_sub(before)).as_secs_f64() / started.elapsed().as_secs_f64();
    eprintln!("frozen broker: {percent:.1} % of a core over {seconds} s");
    broker.thaw();
    written.extend(LineWriter::new("b", logs.path().join("app.log.b")).limit(1000).start().finish());
    let verdict = oracle::read_when_whole(&broker, "stands-still", Format::Raw, &written, LATE);
    verdict.assert_whole("a broker that stands still", 0, &agent);
    assert!(agent.terminate(SOON).success());
    let log = agent.log();
    assert!(!log.contains("ERROR"), "{log}");
    assert!(percent < 5.0, "{percent:.1} % of a core");
}

/// librdkafka's thread of a broker without a connection sleeps through the moments in which its partitions are let go, unless it is woken: then
/// a lane went on only when the two happened to meet, within a minute or so.
#[test]
fn a_broker_that_froze_and_died_is_found_again_when_it_is_back() {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("back-from-the-dead", 3, &[]);
    let mut written = LineWriter::new("a", logs.path().join("app.log.a")).limit(1000).start().finish();
    let agent = plan(&broker, "back-from-the-dead", logs.path()).start();
    broker.wait_for_count("back-from-the-dead", 1000, SOON);
    for name in ["b", "c", "d"] {
        broker.freeze();
        written.extend(LineWriter::new(name, logs.path().join(format!("app.log.{name}"))).limit(1000).start().finish());
        agent.wait_for_status("the spill to be used", SOON, |status| status.spill_bytes() > 0);
        broker.kill9();
        broker.restart();
        let (lines, back) = (written.values().sum(), Instant::now());
        wait_until("the lane to go on", Duration::from_secs(12), || broker.count("back-from-the-dead") >= lines);
        eprintln!("found again after {:.1} s", back.elapsed().as_secs_f64());
    }
    let verdict = oracle::read_when_whole(&broker, "back-from-the-dead", Format::Raw, &written, SOON);
    verdict.assert_whole("a broker that froze and died", 3000, &agent);
}

/// Waits until all of these lines are read and the spill has what memory has no room for.
fn wait_until_spilled_or_flying(agent: &Agent, lines: u64) {
    agent.wait_for_status("everything to be read", LATE, |status| {
        let books = status.source("files");
        books.read.events == lines && status.spill_bytes() > 0
    });
    // Until it rests: the last of it is written, synced and settled.
    let mut last = 0;
    wait_until("the spill to rest", SOON, || {
        let bytes = agent.status().spill_bytes();
        std::mem::replace(&mut last, bytes) == bytes
    });
}

#[test]
fn a_missing_topic_holds_up_no_other() {
    let (broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic("present", 3, &[]);
    let other = format!(
        "[[source]]\nname = \"other\"\ntype = \"file\"\nstart_at = \"beginning\"\ntopic = \"missing\"\ninclude = [{:?}]",
        logs.path().join("other.log*").display().to_string()
    );
    let mut agent = plan(&broker, "present", logs.path()).extra(&other).start();
    let mut written = Written::new();
    let mut batch = |name: &str| {
        let started = Instant::now();
        written.extend(LineWriter::new(name, logs.path().join(format!("app.log.{name}"))).limit(FLOOD).start().finish());
        broker.wait_for_count("present", written.values().sum(), LATE);
        started.elapsed()
    };
    batch("warm-up");
    let alone = batch("alone");
    // Now the other topic has more than memory holds.
    let others = LineWriter::new("o", logs.path().join("other.log")).limit(FLOOD).start().finish();
    agent.wait_for_status("the other lane to be blocked and on disk", LATE, |status| {
        let lane = status.lane("missing");
        lane.is_some_and(|lane| lane.condition == "blocked" && lane.pending.events == FLOOD)
    });
    // The best of three: other work on the machine slows a batch as well.
    let beside = ["beside-1", "beside-2", "beside-3"].map(&mut batch).into_iter().min().unwrap();
    eprintln!("one topic alone: {alone:?}, beside a blocked one: {beside:?}");
    assert!(beside < alone * 2, "{alone:?} alone, {beside:?} beside a blocked topic");
    assert_eq!(agent.status().lane("present").unwrap().spill_bytes, 0, "the lane that is well needs no disk");
    broker.create_topic("missing", 3, &[]);
    let verdict = oracle::read_when_whole(&broker, "present", Format::Raw, &written, LATE);
    verdict.assert_whole("the topic that is there", 0, &agent);
    let verdict = oracle::read_when_whole(&broker, "missing", Format::Raw, &others, LATE);
    verdict.assert_whole_of("other", "the topic that was missing", 0, &agent);
    wait_until_empty(&agent);
    assert!(agent.terminate(SOON).success());
}

#[test]
fn while_all_is_well_nothing_is_written_to_the_spill() {
    let (broker, logs) = (Broker::shared(), temp_dir("logs"));
    broker.create_topic("well", 3, &[]);
    // Of a machine that is busy with other tests no acknowledgement within a second can be asked.
    let mut agent = plan(broker, "well", logs.path()).env("LOGFERRY__SPILL__AFTER", "30s").start();
    agent.wait_for_log(" runs", SOON);
    let (before, started) = (agent.process().written_to_disk(), Instant::now());
    let writing = LineWriter::new("w", logs.path().join("app.log")).rate(20_000).limit(100_000).start();
    while broker.count("well") < 100_000 {
        assert_eq!(segments(&agent), Vec::<PathBuf>::new());
        assert!(started.elapsed() < LATE, "{} lines of 100000", broker.count("well"));
        thread::sleep(Duration::from_millis(20));
    }
    let written = writing.finish();
    let (bytes, took) = (agent.process().written_to_disk() - before, started.elapsed());
    let read: u64 = fs::metadata(logs.path().join("app.log")).unwrap().len();
    eprintln!("{bytes} bytes were written to disk for {read} bytes of log in {took:?}");
    // What remains are the snapshots, one a second.
    assert!(bytes < (took.as_secs() + 2) * (256 << 10), "{bytes} bytes in {took:?}");
    let verdict = oracle::read(broker, "well", Format::Raw, Isolation::ReadUncommitted, &written);
    verdict.assert_whole("all is well", 0, &agent);
    assert_eq!(agent.status().spill_bytes(), 0);
}

/// Fills the spill, stops the agent, harms the spill's files, and lets everything that is left arrive. What is missing must be told exactly.
fn harmed(topic: &str, harm: impl FnOnce(&Agent)) -> u64 {
    let (mut broker, logs) = (Broker::lent(), temp_dir("logs"));
    broker.create_topic(topic, 3, &[]);
    broker.kill9();
    // Large enough for several segments.
    let writer = LineWriter::new("w", logs.path().join("app.log")).noisy().limit(FLOOD * 2);
    let mut written = writer.start().finish();
    let mut agent = plan(&broker, topic, logs.path()).start();
    wait_until_spilled(&agent, topic, FLOOD * 2);
    // A snapshot has all of it then: what none has is read again from its file, and not lost.
    agent.terminate(LATE);
    harm(&agent);
    agent.restart();
    agent.wait_for_log(" runs", SOON);
    written.extend(LineWriter::new("later", logs.path().join("app.log.later")).limit(1000).start().finish());
    broker.restart();
    agent.wait_for_status("everything to be settled", LATE, |status| {
        let books = status.source("files");
        books.read.events == FLOOD * 2 + 1000 && books.pending.events == 0 && status.gaps().0 == 0
    });
    let verdict = oracle::read(&broker, topic, Format::Raw, Isolation::ReadUncommitted, &written);
    let lost = verdict.assert_lost_is_told(topic, 0, &agent);
    let reasons: Vec<&String> = lost.keys().collect();
    assert_eq!(reasons, ["spill_damaged"], "{lost:?}");
    wait_until_empty(&agent);
    verdict.lost()
}

#[test]
fn flipped_bytes_in_a_segment_cost_exactly_what_is_told() {
    let lost = harmed("flipped", |agent| {
        let segments = segments(agent);
        let middle = &segments[segments.len() / 2];
        let mut bytes = fs::read(middle).unwrap();
        let at = bytes.len() / 3;
        bytes[at..at + 16].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(middle, bytes).unwrap();
    });
    assert!(lost > 0 && lost < FLOOD, "{lost} lines for 16 bytes");
}

#[test]
fn a_deleted_segment_costs_exactly_what_is_told() {
    let lost = harmed("segment-gone", |agent| {
        let segments = segments(agent);
        assert!(segments.len() >= 3, "{segments:?}");
        fs::remove_file(&segments[segments.len() / 2]).unwrap();
    });
    assert!(lost > 0 && lost < FLOOD * 2, "{lost}");
}

#[test]
fn a_deleted_spill_costs_exactly_what_is_told() {
    let lost = harmed("spill-gone", |agent| fs::remove_dir_all(agent.state_dir().join("spill")).unwrap());
    assert!(lost > 0 && lost <= FLOOD * 2, "{lost}");
}

//! The state directory's file system has no room, or takes no writes: the daemon lives on, what it has read waits, sources wait behind it, and
//! it goes on by itself when there is room again.

use std::path::Path;
use std::time::Duration;

use crate::harness::agent::{Agent, Plan};
use crate::harness::broker::Broker;
use crate::harness::disk::{Disk, Kind, mounting};
use crate::harness::lines::{LineWriter, Written};
use crate::harness::oracle::{self, Allowance};
use crate::harness::temp_dir;
use crate::harness::topic::Format;

const SOON: Duration = Duration::from_secs(20);
const LATE: Duration = Duration::from_secs(90);
const MEMORY: u64 = 4 << 20;
const LINE: u64 = 140 + 240;
/// Lines whose spill takes more than any disk here has, about 90 MiB: they can't be compressed.
const FLOOD: u64 = 600_000;

fn plan(broker: &Broker, topic: &str, logs: &Path, disk: &Disk, spill: &str) -> Plan {
    let plan = Plan::new(&broker.bootstrap(), topic).agent("memory = \"4MiB\"").include(logs.join("app.log*"));
    plan.source("rescan_interval = \"500ms\"").state_dir(&disk.path().join("state")).extra(&format!("[spill]\nafter = \"1s\"\n{spill}"))
}

fn flood(logs: &Path) -> Written {
    LineWriter::new("w", logs.join("app.log")).noisy().limit(FLOOD).start().finish()
}

fn wait_until_full(agent: &Agent, why: &[&str]) {
    let such = |full: String| why.contains(&full.as_str());
    let status = agent.wait_for_status(&format!("the spill to be full: {why:?}"), LATE, |status| status.spill_full().is_some_and(such));
    status.assert_balanced();
    let books = status.source("files");
    assert!(books.read.events < FLOOD, "the sources wait: {books}");
    assert_eq!((books.lost().events, books.missed.len()), (0, 0), "{books}");
}

#[test]
fn the_spill_leaves_free_what_it_is_told_to() {
    mounting(|| {
        let (mut broker, logs, disk) = (Broker::lent(), temp_dir("logs"), Disk::new(160));
        broker.create_topic("keep-free", 3, &[]);
        broker.kill9();
        let written = flood(logs.path());
        let mut agent = plan(&broker, "keep-free", logs.path(), &disk, "keep_free = \"100MiB\"").start();
        wait_until_full(&agent, &["keep_free"]);
        // One record may be under way when the limit is noticed.
        assert!(disk.free() >= 98 << 20, "{} bytes are free", disk.free());
        assert!(agent.exited().is_none());
        broker.restart();
        let verdict = oracle::read_when_whole(&broker, "keep-free", Format::Raw, &written, LATE);
        verdict.assert_whole("keep_free", 0, &agent);
        assert!(agent.terminate(SOON).success());
    });
}

#[test]
fn a_disk_without_room_is_waited_for() {
    mounting(|| {
        let (mut broker, logs, disk) = (Broker::lent(), temp_dir("logs"), Disk::new(160));
        broker.create_topic("no-space", 3, &[]);
        broker.kill9();
        let written = flood(logs.path());
        let mut agent = plan(&broker, "no-space", logs.path(), &disk, "keep_free = \"0%\"").start();
        agent.wait_for_status("the spill to be used", LATE, |status| status.spill_bytes() > 4 << 20);
        // Another program takes the rest, while it is being written to.
        disk.fill(0);
        // With nothing to be kept free both words are right.
        wait_until_full(&agent, &["no_space", "keep_free"]);
        let stuck = agent.status().source("files").read;
        disk.make_room();
        // It goes on by itself, Kafka still being away.
        agent.wait_for_status("more to be read", LATE, |status| status.source("files").read.events > stuck.events);
        assert!(agent.exited().is_none());
        broker.restart();
        let verdict = oracle::read_when_whole(&broker, "no-space", Format::Raw, &written, LATE);
        verdict.assert_whole("no space", 0, &agent);
        assert!(agent.terminate(SOON).success());
    });
}

#[test]
fn with_kafka_there_a_full_disk_stops_nothing_and_a_kill_doubles_no_more_than_is_allowed() {
    mounting(|| {
        let (broker, logs, disk) = (Broker::shared(), temp_dir("logs"), Disk::new(64));
        broker.create_topic("full-at-snapshot", 3, &[]);
        let writing = LineWriter::new("w", logs.path().join("app.log")).rate(8000).start();
        let mut agent = plan(broker, "full-at-snapshot", logs.path(), &disk, "").start();
        broker.wait_for_count("full-at-snapshot", 8000, SOON);
        disk.fill(0);
        let mut allowance = Allowance::new(Duration::from_secs(1), MEMORY, LINE);
        let until = writing.written() + 40_000;
        allowance.kill(&mut agent, broker, "full-at-snapshot", || writing.written() >= until);
        // It starts on a full disk, too.
        agent.restart();
        let before = broker.count("full-at-snapshot");
        broker.wait_for_count("full-at-snapshot", before + 16_000, SOON);
        assert!(agent.exited().is_none(), "{}", agent.log());
        disk.make_room();
        let written = writing.stop();
        let verdict = oracle::read_when_whole(broker, "full-at-snapshot", Format::Raw, &written, LATE);
        verdict.assert_whole("a full disk at the snapshot", allowance.most(), &agent);
        assert!(agent.terminate(SOON).success());
    });
}

#[test]
fn a_state_that_takes_no_writes_for_a_while_is_waited_for() {
    mounting(|| {
        let (mut broker, logs, disk) = (Broker::lent(), temp_dir("logs"), Disk::new(160));
        if disk.kind() != Kind::Ext4 {
            eprintln!("SKIPPED: only ext4 can refuse writes through open files, and it can't be mounted here");
            return;
        }
        broker.create_topic("refuses", 3, &[]);
        broker.kill9();
        let written = flood(logs.path());
        let mut agent = plan(&broker, "refuses", logs.path(), &disk, "keep_free = \"0%\"").start();
        agent.wait_for_status("the spill to be used", LATE, |status| status.spill_bytes() > 4 << 20);
        disk.refuse_writes();
        agent.wait_for_status("the trouble to be told", LATE, |status| status.spill_full().is_some());
        agent.status().assert_balanced();
        let stuck = agent.status().source("files").read;
        disk.allow_writes();
        agent.wait_for_status("more to be read", LATE, |status| status.source("files").read.events > stuck.events);
        assert!(agent.exited().is_none());
        broker.restart();
        let verdict = oracle::read_when_whole(&broker, "refuses", Format::Raw, &written, LATE);
        verdict.assert_whole("no writes for a while", 0, &agent);
        assert!(agent.terminate(SOON).success());
    });
}

#[test]
fn a_file_system_that_turns_read_only_costs_nothing_once_it_is_repaired() {
    mounting(|| {
        let (mut broker, logs, disk) = (Broker::lent(), temp_dir("logs"), Disk::new(160));
        if disk.kind() != Kind::Ext4 {
            eprintln!("SKIPPED: only ext4 can be aborted, and it can't be mounted here");
            return;
        }
        broker.create_topic("read-only", 3, &[]);
        broker.kill9();
        let written = flood(logs.path());
        let mut agent = plan(&broker, "read-only", logs.path(), &disk, "keep_free = \"0%\"").start();
        agent.wait_for_status("the spill to be used", LATE, |status| status.spill_bytes() > 4 << 20);
        disk.abort();
        agent.wait_for_status("the trouble to be told", LATE, |status| status.spill_full().is_some());
        assert!(agent.exited().is_none(), "{}", agent.log());
        agent.status().assert_balanced();
        agent.kill9();
        disk.repair();
        agent.restart();
        broker.restart();
        let verdict = oracle::read_when_whole(&broker, "read-only", Format::Raw, &written, LATE);
        verdict.assert_whole("read-only", MEMORY / 2 / LINE, &agent);
        assert!(agent.terminate(SOON).success());
    });
}

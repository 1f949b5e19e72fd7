//! Lines that are joined: what time, rotation, kills and deletion do to an event of which not all lines are there.

use super::*;
use crate::ledger::Count;
use crate::source::multiline::{Lines, Multiline, Own};
use regex::bytes::Regex;

const TIMEOUT: Duration = Duration::from_secs(1);

fn rig(include: &[&str]) -> Rig {
    let mut rig = Rig::new(include);
    let lines = Lines::Own(Own { next: Some(Regex::new("^-").unwrap()), ..Own::default() });
    rig.settings.multiline = Some(Multiline { lines, max_lines: 1000, max_size: 256 << 10, timeout: TIMEOUT });
    rig
}

/// The books say so many lines read, events delivered and lines merged.
#[track_caller]
fn assert_books(rig: &Rig, read: u64, delivered: u64) {
    let ledger = rig.ledger();
    let merged = Count { events: read - delivered, bytes: 0 };
    assert_eq!((ledger.read.events, ledger.delivered.events, ledger.merged), (read, delivered, merged));
    assert_eq!(ledger.read.bytes, ledger.delivered.bytes);
    assert_eq!(rig.settlement.imbalances(), []);
}

#[test]
fn an_open_event_waits_for_its_lines_and_is_shipped_when_none_came_for_long_enough() {
    let mut rig = rig(&["*.log"]);
    rig.write("a.log", "one\n-a\ntwo\n-b\n");
    rig.settle();
    assert_eq!(rig.texts(), ["one\n-a"]);
    assert!(!rig.source.as_ref().unwrap().is_finished(), "run --once waits for it");
    rig.write("a.log", "-c\n");
    rig.settle();
    rig.wait(TIMEOUT * 9 / 10);
    rig.settle();
    assert_eq!(rig.texts(), [""; 0]);
    rig.wait(TIMEOUT);
    rig.settle();
    assert_eq!(rig.texts(), ["two\n-b\n-c"]);
    assert!(rig.source.as_ref().unwrap().is_finished());
    assert_books(&rig, 5, 2);
    // What comes late is an event of its own; a line without its end is waited for.
    rig.write("a.log", "-d\nhal");
    rig.wait(TIMEOUT * 2);
    rig.settle();
    rig.wait(TIMEOUT * 2);
    rig.settle();
    assert_eq!(rig.texts(), ["-d"]);
    rig.write("a.log", "f\n-e\n");
    rig.settle();
    rig.wait(TIMEOUT);
    rig.settle();
    assert_eq!(rig.texts(), ["half\n-e"]);
    assert_books(&rig, 8, 4);
}

#[test]
fn a_kill_between_the_lines_of_an_event_changes_nothing() {
    let mut rig = rig(&["*.log"]);
    rig.write("a.log", "one\n-a\n-b\ntwo\n-c\n");
    rig.settle();
    rig.commit();
    rig.kill();
    rig.write("a.log", "-d\nthree\n-e\n");
    rig.settle();
    assert_eq!(rig.texts(), ["one\n-a\n-b", "two\n-c\n-d"]);
    // Acknowledged and not in a snapshot: it comes again as it was.
    rig.kill();
    rig.settle();
    assert_eq!(rig.texts(), ["two\n-c\n-d"]);
    rig.wait(TIMEOUT);
    rig.settle();
    assert_eq!(rig.texts(), ["three\n-e"]);
    assert_books(&rig, 8, 3);
}

#[test]
fn merged_is_in_the_books_once_when_a_mark_is_ahead_of_the_position() {
    let mut rig = rig(&["*.log"]);
    rig.write("a.log", "one\n-a\n-b\ntwo\n-c\nthree\nfour\n");
    rig.read();
    rig.ack(Some(2));
    rig.commit();
    rig.kill();
    assert_eq!(rig.ledger().merged.events, 0, "not before the position has passed it");
    rig.settle();
    assert_eq!(rig.texts(), ["one\n-a\n-b", "two\n-c", "three"]);
    rig.wait(TIMEOUT);
    rig.settle();
    assert_books(&rig, 7, 4);
    // A mark behind all that a batch has.
    rig.write("a.log", "five\n-d\nsix\n");
    rig.read();
    rig.write("a.log", "seven\neight\n");
    rig.read();
    rig.ack(Some(1));
    rig.commit();
    rig.kill();
    rig.settle();
    rig.wait(TIMEOUT);
    rig.settle();
    assert_eq!(rig.texts(), ["four", "five\n-d", "six", "seven", "eight"]);
    assert_books(&rig, 12, 8);
}

#[test]
fn what_ended_by_time_and_is_settled_is_not_sent_again_with_what_came_late() {
    let mut rig = rig(&["*.log"]);
    rig.write("a.log", "one\n-a\ntwo\n");
    rig.read();
    rig.wait(TIMEOUT);
    rig.read();
    rig.write("a.log", "-late\nthree\n");
    rig.read();
    rig.ack(None);
    rig.ack(None);
    rig.commit();
    assert_eq!(rig.texts(), ["one\n-a", "two"]);
    // As when they were in a spill, and the snapshot was older.
    rig.store.rows.values_mut().for_each(|row| row.position = crate::batch::Position::START);
    rig.store.ledgers.clear();
    rig.kill();
    rig.settle();
    rig.wait(TIMEOUT);
    rig.settle();
    assert_eq!(rig.texts(), ["-late", "three"]);
}

#[test]
fn the_next_file_waits_for_the_last_event_of_the_one_before() {
    let mut rig = rig(&["*.log"]);
    rig.write("a.log", "one\n-a\n");
    rig.settle();
    rig.rename("a.log", "a.log.1");
    rig.write("a.log", "new\nnewer\n");
    rig.settle();
    assert_eq!(rig.texts(), [""; 0]);
    rig.write("a.log.1", "-b\n");
    for _ in 0..3 {
        rig.wait(TIMEOUT);
        rig.settle();
    }
    assert_eq!(rig.texts(), ["one\n-a\n-b", "new", "newer"]);
    assert_books(&rig, 5, 3);
}

#[test]
fn rotation_deletion_and_copies_end_an_event_without_loss() {
    for how in ["rename", "delete", "copytruncate"] {
        let mut rig = rig(&["*.log"]);
        rig.write("a.log", "one\n-a\n-b\nhal");
        rig.settle();
        match how {
            "rename" => rig.rename("a.log", "a.log.1"),
            "delete" => fs::remove_file(rig.path("a.log")).unwrap(),
            _ => {
                fs::copy(rig.path("a.log"), rig.path("a.log.1")).unwrap();
                rig.truncate("a.log");
            }
        }
        rig.settle();
        for _ in 0..4 {
            rig.wait(Duration::from_secs(3));
            rig.settle();
        }
        assert_eq!(rig.texts(), ["one\n-a\n-b", "hal…"], "{how}");
        assert_books(&rig, 4, 2);
        assert_eq!(rig.ledger().missed, std::collections::BTreeMap::new(), "{how}");
    }
}

#[test]
fn events_that_do_not_fit_into_a_block_are_joined_and_long_lines_stand_alone() {
    let mut rig = rig(&["*.log"]);
    // A block is 16 KiB then, and what is joined may be longer.
    rig.budget = Budget::new(100_000);
    rig.max_event = 8 << 10;
    let line = format!("-{}\n", "x".repeat(999));
    let joined = format!("first\n{}", line.repeat(100));
    let long = format!("-{}\n", "y".repeat(300 << 10));
    rig.write("a.log", format!("{joined}{long}-after\nlast\n"));
    let mut turns = 0;
    while !rig.read() || !rig.batches.lock().unwrap().is_empty() {
        rig.ack_all();
        turns += 1;
        assert!(turns < 10_000, "it does not come to an end");
    }
    rig.wait(TIMEOUT);
    rig.settle();
    let mut events = Vec::new();
    let mut open = Vec::new();
    for got in rig.acked.drain(..) {
        open.extend_from_slice(&got.bytes);
        if got.part.is_none_or(|(_, last)| last) {
            events.push(String::from_utf8(std::mem::take(&mut open)).unwrap() + "\n");
        }
    }
    assert_eq!(events.iter().map(String::len).collect::<Vec<_>>(), [joined.len(), long.len(), 7, 5]);
    assert_eq!(events.concat(), format!("{joined}{long}-after\nlast\n"));
    assert_books(&rig, 104, 4);
}

#[test]
fn what_waits_when_its_file_is_truncated_without_a_copy_is_booked_as_missed() {
    let mut rig = rig(&["*.log"]);
    rig.write("a.log", "one\ntwo\n-a\n");
    rig.settle();
    rig.truncate("a.log");
    rig.settle();
    rig.write("a.log", "new\nnewer\n");
    rig.settle();
    assert_eq!(rig.texts(), ["one", "new"]);
    assert_eq!(rig.missed(Missed::Truncated), 7);
    assert_books(&rig, 2, 2);
}

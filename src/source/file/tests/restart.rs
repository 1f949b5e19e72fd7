//! What happened while the source did not run, and what of it is not settled when it ends.

use super::*;

const GLOBS: [&str; 2] = ["*.log", "app.log*"];

/// A source that has read and settled `one`, and is stopped.
fn stopped(glob: &str) -> Rig {
    let mut rig = Rig::new(&[glob]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.stop();
    rig.acked.clear();
    rig
}

#[test]
fn copytruncate_while_stopped_goes_on_in_the_copy() {
    for glob in GLOBS {
        let mut rig = stopped(glob);
        rig.write("app.log", "two\nhal");
        fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
        rig.truncate("app.log");
        rig.write("app.log", "three, longer than before\n");
        rig.settle();
        assert_eq!(rig.texts(), ["two", "three, longer than before"], "{glob}");
        rig.wait(Duration::from_secs(6));
        rig.settle();
        assert_eq!(rig.texts(), ["hal…"], "{glob}");
        assert!(rig.ledger().missed.is_empty());
    }
}

#[test]
fn a_rename_while_stopped_to_a_name_that_no_pattern_matches_is_followed() {
    for name in ["app.log.1", "2026-01-01.old"] {
        let mut rig = stopped("*.log");
        rig.write("app.log", "two\n");
        rig.rename("app.log", name);
        rig.write("app.log", "three\n");
        rig.settle();
        assert_eq!(rig.texts(), ["two", "three"], "{name}");
    }
}

#[test]
fn a_file_that_gets_the_inode_of_a_deleted_one_while_stopped_is_read_from_its_first_byte() {
    let mut rig = stopped("*.log");
    rig.write("app.log", "lost, but nobody saw it\n");
    let ino = |rig: &Rig| std::os::unix::fs::MetadataExt::ino(&fs::metadata(rig.path("app.log")).unwrap());
    let old = ino(&rig);
    // Most file systems give the number to the next file; the content begins alike on purpose.
    for _ in 0..100 {
        fs::remove_file(rig.path("app.log")).unwrap();
        rig.write("app.log", "one\nnew\n");
        if ino(&rig) == old {
            break;
        }
    }
    rig.settle();
    assert_eq!(rig.texts(), ["one", "new"]);
}

#[test]
fn another_device_number_alone_goes_on() {
    let mut rig = stopped("*.log");
    rig.store.rows.values_mut().for_each(|row| row.evidence.dev += 1);
    rig.kill();
    rig.write("app.log", "two\n");
    rig.settle();
    assert_eq!(rig.texts(), ["two"]);
    assert_eq!(rig.ledger().possible_duplicates, 0);
}

#[test]
fn what_was_not_read_of_a_file_that_is_truncated_or_deleted_while_stopped_is_counted() {
    type Destroy = fn(&Rig);
    let ways: [(Destroy, &[&str]); 4] = [
        (|rig| fs::remove_file(rig.path("app.log")).unwrap(), &[]),
        (|rig| rig.truncate("app.log"), &[]),
        (
            |rig| {
                rig.truncate("app.log");
                rig.write("app.log", "another, longer than what was there before\n");
            },
            &["another, longer than what was there before"],
        ),
        (
            |rig| {
                rig.rename("app.log", "app.log.1");
                rig.truncate("app.log.1");
            },
            &[],
        ),
    ];
    for (number, (destroy, then)) in ways.into_iter().enumerate() {
        let mut rig = Rig::new(&["*.log"]);
        rig.write("app.log", "one\n");
        rig.settle();
        rig.write("app.log", "two\nthree\n");
        rig.read();
        rig.acked.clear();
        rig.stop();
        destroy(&rig);
        rig.settle();
        assert_eq!(rig.texts(), then, "{number}");
        assert_eq!(rig.missed(Missed::Truncated) + rig.missed(Missed::Deleted), 10, "{number}");
        rig.stop();
        rig.settle();
        assert_eq!(rig.missed(Missed::Truncated) + rig.missed(Missed::Deleted), 10, "{number}: counted once");
    }
}

#[test]
fn what_was_read_but_not_settled_of_a_file_that_is_gone_is_counted_at_the_next_start() {
    for delete in [false, true] {
        let mut rig = Rig::new(&["*.log"]);
        rig.write("app.log", "one\ntwo\n");
        rig.read();
        rig.ack(Some(1));
        if delete {
            fs::remove_file(rig.path("app.log")).unwrap();
        } else {
            rig.truncate("app.log");
        }
        rig.read();
        rig.wait(Duration::from_secs(6));
        rig.read();
        rig.read();
        assert!(rig.ledger().missed.is_empty(), "it may yet be acknowledged");
        rig.stop();
        rig.settle();
        assert_eq!(rig.missed(Missed::Deleted), 4);
        rig.stop();
        rig.settle();
        assert_eq!(rig.missed(Missed::Deleted), 4, "once");
    }
}

#[test]
fn what_is_read_again_below_a_mark_is_neither_sent_nor_counted_twice() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\ntwo\nthree\nfour\n");
    rig.read();
    rig.ack(Some(2));
    rig.stop();
    assert_eq!(ahead(&rig), 1);
    rig.read();
    rig.ack(Some(1));
    rig.stop();
    rig.settle();
    assert_eq!(rig.texts(), ["one", "two", "three", "four"]);
    assert_eq!(rig.ledger().delivered, crate::ledger::Count { events: 4, bytes: 19 });
    rig.commit();
    assert_eq!(ahead(&rig), 0);
}

#[test]
fn after_a_kill_what_was_acknowledged_since_the_snapshot_comes_again_and_nothing_else() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.commit();
    rig.write("app.log", "two\n");
    rig.settle();
    rig.write("app.log", "three\n");
    rig.read();
    rig.kill();
    rig.settle();
    assert_eq!(rig.texts(), ["one", "two", "two", "three"]);
    assert_eq!(rig.ledger().delivered.events, 3, "what was booked after the snapshot is forgotten with it");
}

/// How many streams of the stored state have a mark ahead of their position.
fn ahead(rig: &Rig) -> usize {
    rig.store.rows.values().filter(|row| row.feeds.iter().any(|feed| feed.mark > row.position.offset)).count()
}

//! After a restart nothing is missing, and what was settled does not come again.

use super::export::Writer;
use super::patch::renumber;
use super::*;

#[test]
fn what_is_written_while_it_runs_is_shipped_in_order() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    for _ in 0..20 {
        writer.numbered(50);
        writer.write(&rig.path("system.journal"), &[]);
        rig.ship();
    }
    assert_eq!(rig.numbers(), (1..=1000).collect::<Vec<_>>());
    rig.assert_balanced();
}

#[test]
fn reading_goes_on_behind_what_was_settled() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    writer.numbered(1000);
    writer.write(&rig.path("system.journal"), &[]);
    rig.turn();
    let batches = rig.sent.lock().unwrap().len();
    assert!(batches >= 1);
    rig.acknowledge_some(400);
    rig.commit();
    rig.restart();
    writer.numbered(100);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=1100).collect::<Vec<_>>(), "by the mark none comes twice");
    rig.commit();
    rig.restart();
    rig.ship();
    assert_eq!(rig.numbers().len(), 1100);
    rig.assert_balanced();
}

#[test]
fn with_another_filter_what_was_not_settled_up_to_the_position_comes_again() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    writer.numbered(100);
    writer.write(&rig.path("system.journal"), &[]);
    rig.turn();
    rig.acknowledge_some(40);
    rig.commit();
    rig.restart();
    rig.settings.wanted.priority = Some((0, 6));
    rig.ship();
    let mut numbers = rig.numbers();
    assert_eq!(numbers.len(), 140);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=100).collect::<Vec<_>>());
    let books = &rig.settlement.books()[0].1.ledger;
    assert_eq!(books.resent.events, 40);
    rig.assert_balanced();
}

/// Where an event ends in a stream is counted without those that the filter leaves out: what was settled beyond the position is no measure any more.
#[test]
fn what_was_settled_under_another_filter_hides_nothing_after_two_kills() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    let mut write = |rig: &Rig| {
        for _ in 0..50 {
            writer.numbered(1);
            let message = format!("message {} of many", writer.number + 1);
            writer.entry(&[("MESSAGE", message.as_bytes()), ("PRIORITY", b"7")]);
        }
        writer.write(&rig.path("system.journal"), &[]);
    };
    write(&rig);
    rig.turn();
    rig.acknowledge_some(90);
    rig.commit();
    rig.restart();
    rig.settings.wanted.priority = Some((0, 6));
    rig.acked.clear();
    rig.ship();
    assert_eq!(rig.acked.len(), 50);
    rig.commit();
    rig.restart();
    write(&rig);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=200).step_by(2).collect::<Vec<_>>());
    rig.assert_balanced();
}

#[test]
fn what_was_settled_before_a_gap_hides_nothing_behind_it_after_two_kills() {
    let mut rig = Rig::new();
    let path = rig.path("system@07-01-01.journal");
    let mut writer = Writer::default();
    writer.numbered(100);
    writer.write(&path, &[]);
    let id = std::fs::read(&path).unwrap()[72..88].try_into().unwrap();
    rig.turn();
    rig.acknowledge_some(90);
    rig.commit();
    rig.restart();
    std::fs::remove_file(&path).unwrap();
    let path = rig.path("system@07-c9-c9.journal");
    let mut writer = Writer { number: 200, ..Writer::default() };
    writer.numbered(50);
    writer.write(&path, &[]);
    renumber(&path, id, [2; 16], 200);
    rig.ship();
    rig.commit();
    rig.restart();
    let path = rig.path("system@07-fb-fb.journal");
    writer.numbered(50);
    writer.write(&path, &[]);
    renumber(&path, id, [3; 16], 250);
    rig.ship();
    assert_eq!(rig.numbers()[90..], (201..=300).collect::<Vec<_>>());
    rig.assert_balanced();
}

#[test]
fn a_rotated_file_is_read_to_its_end_before_the_next_one() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    writer.numbered(100);
    writer.write(&rig.path("system.journal"), &[]);
    rig.turn();
    rig.acknowledge();
    // Written to, and renamed, between two looks.
    writer.numbered(50);
    writer.write(&rig.path("system.journal"), &[]);
    rename(&rig.path("system.journal"), &rig.path("system@0123-0456-0789.journal"));
    writer.numbered(70);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=220).collect::<Vec<_>>());
}

#[test]
fn the_first_run_begins_at_the_end_and_says_what_it_leaves_out() {
    let mut rig = Rig::new();
    rig.settings.start_at = StartAt::End;
    let mut writer = Writer::default();
    writer.numbered(100);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    assert_eq!(rig.missed(Missed::BeforeFirstRun).events, 100);
    writer.numbered(10);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    assert_eq!(rig.numbers(), (101..=110).collect::<Vec<_>>());
    rig.commit();
    rig.restart();
    writer.numbered(10);
    writer.write(&rig.path("system.journal"), &[]);
    // A journal that comes later is read from its first entry.
    let mut other = Writer { number: 1000, ..Writer::default() };
    other.numbered(5);
    other.write(&rig.path("remote-a.journal"), &[]);
    rig.ship();
    assert_eq!(rig.missed(Missed::BeforeFirstRun).events, 100);
    let mut numbers = rig.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (101..=120).chain(1001..=1005).collect::<Vec<_>>());
}

#[expect(clippy::disallowed_methods, reason = "what journald does, not state")]
fn rename(from: &std::path::Path, to: &std::path::Path) {
    std::fs::rename(from, to).unwrap();
}

//! What the journal deletes before it is read is counted exactly, once, also when logferry is killed in between.

use super::export::Writer;
use super::patch::{renumber, renumber_by};
use super::*;
use crate::gaps::{Bound, words};

const COUNTER: [u8; 16] = [7; 16];

/// Entries `from` to `to` as a file of the journal `base`, closed; its head's number is in its name.
fn file(rig: &Rig, base: &str, from: u64, to: u64) {
    let path = rig.path(&format!("{base}@{:032x}-{from:016x}-{from:016x}.journal", 7));
    let mut writer = Writer { number: from - 1, ..Writer::default() };
    writer.numbered(to + 1 - from);
    writer.write(&path, &[]);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&from.to_le_bytes());
    id[8] = base.len().to_le_bytes()[0];
    renumber(&path, COUNTER, id, from - 1);
}

fn told(rig: &mut Rig) -> Vec<Gap> {
    rig.commit();
    rig.commit();
    rig.settlement.take()
}

#[test]
fn deleted_before_they_were_read_entries_are_counted_by_their_numbers() {
    let mut rig = Rig::new();
    file(&rig, "system", 1, 100);
    rig.ship();
    file(&rig, "system", 201, 300);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=100).chain(201..=300).collect::<Vec<_>>());
    assert_eq!(rig.missed(Missed::Vacuumed).events, 100);
    let gaps = told(&mut rig);
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].amount.events, gaps[0].amount.bound, &*gaps[0].of), (100, Bound::Exact, "file"));
    let sentence = words::sentence(&gaps[0]);
    let expected = format!(
        "100 events of journal {} were deleted from the journal before they were read: numbers 101 to 200",
        rig.dir.path().display()
    );
    assert_eq!(sentence, expected);
    rig.assert_balanced();
}

#[test]
fn killed_at_any_moment_the_same_loss_is_told_once() {
    for kill_after in 0..12 {
        let mut rig = Rig::new();
        file(&rig, "system", 1, 50);
        rig.ship();
        rig.commit();
        file(&rig, "system", 81, 120);
        for _ in 0..kill_after {
            rig.turn();
            if kill_after % 2 == 0 {
                rig.acknowledge();
            }
            rig.commit();
        }
        rig.restart();
        rig.ship();
        let mut numbers = rig.numbers();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, (1..=50).chain(81..=120).collect::<Vec<_>>(), "{kill_after}");
        rig.commit();
        assert_eq!(rig.missed(Missed::Vacuumed).events, 30, "killed after {kill_after} turns");
        let told = told(&mut rig);
        assert_eq!(told.iter().map(|gap| gap.amount.events).sum::<u64>(), 30, "killed after {kill_after} turns");
        // Found at a start, what is missing may have been delivered after the last snapshot.
        assert!(told.iter().all(|gap| gap.amount.bound != Bound::AtLeast), "{told:?}");
    }
}

#[test]
fn with_filters_the_number_is_an_upper_limit() {
    let mut rig = Rig::new();
    rig.settings.wanted.units = vec!["app".into()];
    file(&rig, "system", 1, 10);
    file(&rig, "system", 21, 30);
    rig.ship();
    let gaps = told(&mut rig);
    assert_eq!((gaps[0].amount.events, gaps[0].amount.bound), (10, Bound::AtMost));
    assert!(words::sentence(&gaps[0]).starts_with("at most 10 events"));
}

#[test]
fn numbers_that_another_journal_of_the_same_counter_has_are_not_missing() {
    for foreign in [false, true] {
        let mut rig = Rig::new();
        for base in ["system", "user-1000"] {
            let path = rig.path(&format!("{base}.journal"));
            let mut writer = Writer::default();
            writer.numbered(50);
            writer.write(&path, &[]);
            let users = base != "system";
            let counter = if users && foreign { [9; 16] } else { COUNTER };
            // Odd numbers are the system's, even ones the user's; 39 is nobody's, and from then on it is the other way round.
            renumber_by(&path, counter, [1 + u8::from(users); 16], |number| number * 2 - u64::from(!users) + u64::from(number >= 20));
        }
        rig.ship();
        assert_eq!(rig.acked.len(), 100, "foreign: {foreign}");
        assert_eq!(rig.missed(Missed::Vacuumed).events, 1, "foreign: {foreign}");
        rig.assert_balanced();
    }
}

#[test]
fn a_file_that_is_deleted_under_the_reader_costs_what_was_not_read_of_it() {
    let mut rig = Rig::new();
    file(&rig, "system", 1, 20_000);
    file(&rig, "system", 20_001, 20_010);
    // One turn reads no more than a few blocks; the rest waits for room.
    rig.turn();
    let path = std::fs::read_dir(rig.dir.path()).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    rig.acknowledge();
    let read = rig.acked.len() as u64;
    assert!(read > 100 && read < 20_000, "{read}");
    // As journald does it: the name goes, and the blocks are given back.
    let zeros = std::fs::File::options().write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    zeros.set_len(0).unwrap();
    zeros.set_len(len).unwrap();
    rig.ship();
    let shipped = rig.numbers();
    let missing = 20_010 - shipped.len() as u64;
    assert_eq!(rig.missed(Missed::Vacuumed).events, missing);
    assert_eq!(shipped[shipped.len() - 10..], (20_001..=20_010).collect::<Vec<_>>());
    rig.assert_balanced();
}

#[test]
fn what_journald_suppressed_is_counted_once_with_its_unit() {
    let suppressed = |writer: &mut Writer| {
        writer.entry(&[
            ("MESSAGE", b"Suppressed 4813 messages from noisy.service"),
            ("MESSAGE_ID", b"a596d6fe7bfa4994828e72309e95d61e"),
            ("N_DROPPED", b"4813"),
            ("OBJECT_SYSTEMD_UNIT", b"noisy.service"),
            ("_TRANSPORT", b"driver"),
        ]);
    };
    for kill_after in 0..8 {
        let mut rig = Rig::new();
        let mut writer = Writer::default();
        writer.numbered(10);
        suppressed(&mut writer);
        writer.numbered(10);
        writer.write(&rig.path("system.journal"), &[]);
        for _ in 0..kill_after {
            rig.turn();
            if kill_after % 2 == 0 {
                rig.acknowledge();
            }
            rig.commit();
        }
        rig.restart();
        rig.ship();
        assert_eq!(rig.missed(Missed::Suppressed).events, 4813, "killed after {kill_after} turns");
        let gaps = told(&mut rig);
        assert_eq!(gaps.len(), 1);
        assert!(words::sentence(&gaps[0]).contains("by noisy.service"), "{}", words::sentence(&gaps[0]));
        assert!(
            rig.events().iter().any(|event| event["message"].as_str().unwrap().starts_with("Suppressed")),
            "the entry itself is shipped"
        );
    }
}

#[test]
fn numbering_that_begins_anew_is_no_gap() {
    let mut rig = Rig::new();
    file(&rig, "system", 5_000, 5_100);
    rig.ship();
    let mut writer = Writer { number: 9_000, ..Writer::default() };
    writer.numbered(20);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    assert_eq!(rig.acked.len(), 121);
    assert_eq!(rig.missed(Missed::Vacuumed).events, 0);
}

//! Four losses that a real journald once brought about in silence, by what it does to names and files while nobody looks.

use std::fs;

use super::super::discover;
use super::export::Writer;
use super::patch::renumber;
use super::*;

const COUNTER: [u8; 16] = [7; 16];

/// Entries `from` to `to` of one counter as a file; its id is made of the number of its first entry.
fn bytes(rig: &Rig, from: u64, to: u64) -> Vec<u8> {
    let path = rig.path("made.journal");
    let mut writer = Writer { number: from - 1, ..Writer::default() };
    writer.numbered(to + 1 - from);
    writer.write(&path, &[]);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&from.to_le_bytes());
    renumber(&path, COUNTER, id, from - 1);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    bytes
}

#[expect(clippy::disallowed_methods, reason = "what journald does, not state")]
fn rename(rig: &Rig, from: &str, to: &str) {
    fs::rename(rig.path(from), rig.path(to)).unwrap();
}

#[test]
fn a_name_that_another_file_took_between_listing_and_opening_hides_neither() {
    let mut rig = Rig::new();
    rig.turn();
    fs::write(rig.path("system.journal"), bytes(&rig, 1, 50)).unwrap();
    let listed = discover::files(rig.dir.path()).unwrap().remove(0);
    rename(&rig, "system.journal", "system@07-01-01.journal");
    fs::write(rig.path("system.journal"), bytes(&rig, 51, 80)).unwrap();
    rig.source.as_mut().unwrap().open(0, listed);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=80).collect::<Vec<_>>());
    assert_eq!(rig.missed(Missed::Vacuumed).events, 0);
}

#[test]
fn an_inode_that_is_used_again_under_the_same_name_is_another_file() {
    let mut rig = Rig::new();
    let mut first = bytes(&rig, 1, 50);
    // It says of itself that it is finished, so it is closed once it is read.
    first[16] = 2;
    fs::write(rig.path("system.journal"), first).unwrap();
    rig.ship();
    // Written over, so that it certainly has the same inode.
    fs::write(rig.path("system.journal"), bytes(&rig, 51, 80)).unwrap();
    rig.ship();
    assert_eq!(rig.numbers(), (1..=80).collect::<Vec<_>>());
}

#[test]
fn a_file_that_was_empty_when_it_was_looked_at_last_keeps_its_place_before_the_next_one() {
    let mut rig = Rig::new();
    let whole = bytes(&rig, 1, 50);
    let mut empty = whole.clone();
    // Entries, numbers of the first and the last, their array, times.
    empty[152..208].fill(0);
    fs::write(rig.path("system.journal"), empty).unwrap();
    rig.ship();
    assert_eq!(rig.acked.len(), 0);
    fs::write(rig.path("system.journal"), whole).unwrap();
    rename(&rig, "system.journal", "system@07-01-01.journal");
    fs::write(rig.path("system.journal"), bytes(&rig, 51, 80)).unwrap();
    // The next one is found before the first is looked at again.
    let source = rig.source.as_mut().unwrap();
    source.scan();
    rig.ship();
    assert_eq!(rig.numbers(), (1..=80).collect::<Vec<_>>());
}

#[test]
fn nothing_goes_out_before_the_state_knows_where_the_stream_begins() {
    let mut rig = Rig::new();
    rig.settlement.kept_by(Arc::default());
    fs::write(rig.path("system@07-01-01.journal"), bytes(&rig, 1, 10)).unwrap();
    rig.turn();
    rig.acknowledge();
    assert_eq!(rig.acked.len(), 0);
    // Killed, and 10 entries deleted meanwhile: had the first 10 gone out, that would be a hole of which nobody knows.
    rig.restart();
    fs::remove_file(rig.path("system@07-01-01.journal")).unwrap();
    fs::write(rig.path("system@07-15-15.journal"), bytes(&rig, 21, 30)).unwrap();
    rig.ship();
    assert_eq!(rig.numbers(), (21..=30).collect::<Vec<_>>());
    let mut rig = Rig::new();
    rig.settlement.kept_by(Arc::default());
    fs::write(rig.path("system@07-01-01.journal"), bytes(&rig, 1, 10)).unwrap();
    rig.turn();
    rig.commit();
    rig.ship();
    assert_eq!(rig.numbers(), (1..=10).collect::<Vec<_>>(), "once it does, they do");
}

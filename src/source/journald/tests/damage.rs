//! Damage costs no more than what is damaged, and never an end.

use std::fs;

use proptest::prelude::*;

use super::super::format::{Type, u64_at};
use super::export::Writer;
use super::patch::objects;
use super::*;

fn written(rig: &Rig, count: u64) -> Vec<u8> {
    let path = rig.path("system@00000000000000000000000000000001-0000000000000001-0000000000000001.journal");
    let mut writer = Writer::default();
    writer.numbered(count);
    writer.write(&path, &[]);
    fs::read(&path).unwrap()
}

fn put(rig: &Rig, bytes: &[u8]) {
    fs::write(rig.path("system@00000000000000000000000000000001-0000000000000001-0000000000000001.journal"), bytes).unwrap();
}

#[test]
fn a_damaged_entry_costs_itself_alone_and_is_told() {
    let mut rig = Rig::new();
    let mut bytes = written(&rig, 500);
    let entries: Vec<usize> = objects(&bytes).into_iter().filter(|(_, object)| object.kind == Type::Entry).map(|(at, _)| at).collect();
    for damaged in [99, 100, 250] {
        bytes[entries[damaged]..entries[damaged] + 16].fill(0xFF);
    }
    put(&rig, &bytes);
    rig.ship();
    let left: Vec<u64> = (1..=500).filter(|number| ![100, 101, 251].contains(number)).collect();
    assert_eq!(rig.numbers(), left);
    assert_eq!((rig.missed(Missed::Unreadable).events, rig.missed(Missed::Vacuumed).events), (3, 0));
}

#[test]
fn without_its_list_of_entries_a_file_is_searched_for_them() {
    let mut rig = Rig::new();
    let mut bytes = written(&rig, 500);
    let array = usize::try_from(u64_at(&bytes, 176).unwrap()).unwrap();
    bytes[array..array + 24].fill(0);
    put(&rig, &bytes);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=500).collect::<Vec<_>>());
}

#[test]
fn a_file_that_was_cut_off_is_read_as_far_as_it_goes_and_the_rest_is_told() {
    let mut rig = Rig::new();
    let bytes = written(&rig, 3000);
    let last = objects(&bytes).into_iter().filter(|(_, object)| object.kind == Type::Entry).nth(2000).unwrap().0;
    put(&rig, &bytes[..last]);
    rig.ship();
    let read = rig.numbers();
    assert_eq!(read.len() as u64 + rig.missed(Missed::Unreadable).events, 3000, "{} read", read.len());
    assert!(read.len() > 1900, "{}", read.len());
}

#[test]
fn a_damaged_field_costs_itself_alone_and_is_told() {
    let mut rig = Rig::new();
    let mut bytes = written(&rig, 20);
    let field = objects(&bytes)
        .into_iter()
        .find(|(at, object)| object.kind == Type::Data && bytes[*at + 64..*at + 100].windows(17).any(|text| text == b"MESSAGE=message 7"))
        .unwrap();
    bytes[field.0 + 8..field.0 + 16].fill(0xFF);
    put(&rig, &bytes);
    rig.ship();
    assert_eq!(rig.acked.len(), 20);
    assert_eq!(rig.missed(Missed::Unreadable).unknown, 1);
}

#[test]
fn a_file_of_a_newer_systemd_is_refused_and_the_others_are_read() {
    let mut rig = Rig::new();
    let mut bytes = written(&rig, 10);
    bytes[12] |= 0x80;
    put(&rig, &bytes);
    let mut writer = Writer::default();
    writer.numbered(5);
    writer.write(&rig.path("remote-b.journal"), &[]);
    rig.ship();
    assert_eq!(rig.numbers(), (1..=5).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn whatever_is_damaged_reading_comes_to_an_end(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..400), cut in prop::option::of(any::<prop::sample::Index>())) {
        static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let whole = WHOLE.get_or_init(|| {
            let bytes = written(&Rig::new(), 300);
            let end = bytes.len() - bytes.iter().rev().position(|byte| *byte != 0).unwrap();
            bytes[..end].to_vec()
        });
        let mut bytes = whole.clone();
        // Behind the header, so that it is looked at at all, and most often where objects are.
        for (place, byte) in places {
            let at = 100 + place.index(bytes.len() - 100);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(208 + cut.index(bytes.len() - 208));
        }
        let mut rig = Rig::new();
        put(&rig, &bytes);
        rig.ship();
        rig.assert_balanced();
    }
}

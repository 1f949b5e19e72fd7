//! Dead letters as a whole, in real files: what was put is there, over restarts and damage, until it is removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn settings(dir: &Path) -> Settings {
    Settings { dir: dir.join("dead-letters"), max_size: 1 << 20, keep_free: KeepFree::Percent(0), topic: None }
}

fn open(settings: &Settings) -> DeadLetters {
    let kafka = crate::kafka::Settings { bootstrap_servers: Vec::new(), properties: Vec::new() };
    DeadLetters::new(settings, &crate::kafka::Current::new(kafka), Arc::default())
}

fn letter(id: &str, bytes: usize) -> Letter {
    Letter {
        id: id.to_owned(),
        source: "app".into(),
        topic: "logs".into(),
        key: b"web:/a".to_vec(),
        value: vec![b'x'; bytes],
        reason: "too_large".to_owned(),
        words: "it is".to_owned(),
        time_ns: 5,
        ..Letter::default()
    }
}

#[test]
fn what_was_put_is_listed_shown_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let letters = open(&settings(dir.path()));
    assert!(letters.list().unwrap().entries.is_empty() && !dir.path().join("dead-letters").exists(), "nothing is made before it is needed");
    for id in ["00000000000000ab:5", "00000000000000ab:77:1", "00000000000000ab:77:2", "00000000000000ab:5"] {
        assert_eq!(letters.put(&letter(id, 30)).unwrap(), Kept::Files);
    }
    let list = letters.list().unwrap();
    let shown: Vec<_> = list.entries.iter().map(|entry| (&*entry.id, entry.again, entry.value_bytes, &*entry.reason)).collect();
    assert_eq!(shown[0], ("00000000000000ab:5", false, 30, "too_large"));
    assert_eq!(shown[3], ("00000000000000ab:5", true, 30, "too_large"), "the same event, made twice");
    // A line means all its parts, and no other line that begins like it.
    let ids = |asked: &str, most| letters.letters(asked, most).unwrap().into_iter().map(|(_, letter)| letter.id).collect::<Vec<_>>();
    assert_eq!(ids("00000000000000ab:77", usize::MAX), ["00000000000000ab:77:1", "00000000000000ab:77:2"]);
    assert_eq!(ids("00000000000000ab:77", 1).len(), 1, "at least one, whatever its size");
    assert_eq!((ids("00000000000000ab:7", usize::MAX).len(), ids("00000000000000ab", usize::MAX).len()), (0, 4));
    let both: Vec<Number> = list.entries.iter().filter(|entry| entry.id.ends_with(":5")).map(|entry| entry.number).collect();
    assert_eq!((letters.remove(&both).unwrap(), letters.remove(&both).unwrap()), (2, 0));
    assert_eq!(ids("00000000000000ab", usize::MAX), ["00000000000000ab:77:1", "00000000000000ab:77:2"]);
    letters.put(&letter("c:1", 1)).unwrap();
    let rest: Vec<Number> = letters.list().unwrap().entries.iter().map(|entry| entry.number).collect();
    assert_eq!((letters.remove(&rest).unwrap(), letters.bytes().unwrap()), (3, 0));
    assert_eq!(fs::read_dir(dir.path().join("dead-letters")).unwrap().count(), 0, "files without letters go");
}

#[test]
fn a_full_directory_and_a_full_disk_are_told_and_a_removal_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let letters = open(&Settings { max_size: 3000, ..settings(dir.path()) });
    letters.put(&letter("a:1", 1000)).unwrap();
    letters.put(&letter("a:2", 1000)).unwrap();
    let Err(PutError::NoRoom(words)) = letters.put(&letter("a:3", 1000)) else { panic!("it was kept") };
    assert!(words.contains("full of dead letters") && words.contains("resend or discard"), "{words}");
    let first = letters.list().unwrap().entries[0].number;
    letters.remove(&[first]).unwrap();
    letters.put(&letter("a:3", 1000)).unwrap();
    let ids: Vec<String> = letters.list().unwrap().entries.into_iter().map(|entry| entry.id).collect();
    assert_eq!(ids, ["a:2", "a:3"]);

    let letters = open(&Settings { keep_free: KeepFree::Bytes(u64::MAX), ..settings(dir.path()) });
    let Err(PutError::NoRoom(words)) = letters.put(&letter("b:1", 10)) else { panic!("it was kept") };
    assert!(words.contains("spill.keep_free is left to others"), "{words}");
}

#[test]
fn a_topic_that_does_not_answer_holds_up_no_stop() {
    let dir = tempfile::tempdir().unwrap();
    let stop = Arc::new(Stop::default());
    stop.advance(crate::shutdown::Phase::Now);
    let kafka = crate::kafka::Settings { bootstrap_servers: vec!["127.0.0.1:1".to_owned()], properties: Vec::new() };
    let letters =
        DeadLetters::new(&Settings { topic: Some("dead".into()), ..settings(dir.path()) }, &crate::kafka::Current::new(kafka), stop);
    assert!(matches!(letters.put(&letter("a:1", 1)), Err(PutError::Stopped)));
    assert!(letters.list().unwrap().entries.is_empty());
}

#[test]
fn files_are_of_bounded_size() {
    let dir = tempfile::tempdir().unwrap();
    let letters = open(&Settings { max_size: 1 << 30, ..settings(dir.path()) });
    for number in 0..5 {
        letters.put(&letter(&format!("a:{number}"), 7 << 20)).unwrap();
    }
    let mut sizes: Vec<u64> =
        fs::read_dir(dir.path().join("dead-letters")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len() >> 20).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [7, 14, 14]);
    let list = letters.list().unwrap();
    let files: Vec<_> = list.entries.iter().map(|entry| (entry.number.file, entry.number.index)).collect();
    assert_eq!(files, [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]);
}

#[test]
fn damage_is_told_with_its_place_and_survives_a_removal() {
    let dir = tempfile::tempdir().unwrap();
    let letters = open(&settings(dir.path()));
    for id in ["a:1", "a:2", "a:3"] {
        letters.put(&letter(id, 100)).unwrap();
    }
    let path = dir.path().join("dead-letters/0000000000000001.letters");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xFF;
    fs::write(&path, &bytes).unwrap();
    fs::write(dir.path().join("dead-letters/0000000000000002.letters"), "not letters, but long enough for a head").unwrap();
    let list = letters.list().unwrap();
    assert_eq!(list.entries.iter().map(|entry| &*entry.id).collect::<Vec<_>>(), ["a:1", "a:3"]);
    assert_eq!(list.unreadable.len(), 2, "{:?}", list.unreadable);
    assert!(
        list.unreadable[0].contains("0000000000000001.letters: ") && list.unreadable[0].ends_with("are damaged"),
        "{:?}",
        list.unreadable
    );
    assert!(list.unreadable[1].ends_with("0000000000000002.letters is left as it is: its head is damaged"), "{:?}", list.unreadable);
    let all: Vec<Number> = list.entries.iter().map(|entry| entry.number).collect();
    assert_eq!(letters.remove(&all).unwrap(), 2);
    assert_eq!(letters.list().unwrap().unreadable.len(), 2, "only a person takes damage away");
    assert_eq!(open(&settings(dir.path())).put(&letter("b:1", 1)).unwrap(), Kept::Files);
    assert_eq!(letters.list().unwrap().entries[0].number.file, 3, "never behind what others wrote");
}

#[derive(Clone, Debug)]
enum Operation {
    Put(u8),
    Remove(prop::sample::Index),
    Reopen,
    Tear(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => any::<u8>().prop_map(Operation::Put),
        2 => any::<prop::sample::Index>().prop_map(Operation::Remove),
        1 => Just(Operation::Reopen),
        1 => any::<u8>().prop_map(Operation::Tear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_files_are_as_a_map_whatever_is_done(operations in prop::collection::vec(operation(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let mut letters = open(&settings(dir.path()));
        let mut model: BTreeMap<Number, String> = BTreeMap::new();
        for (step, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Put(size) => {
                    let id = format!("a:{step}");
                    letters.put(&letter(&id, usize::from(size))).unwrap();
                    let list = letters.list().unwrap();
                    let number = list.entries.last().unwrap().number;
                    prop_assert!(model.keys().all(|known| *known < number), "a number is given once, and grows");
                    model.insert(number, id);
                }
                Operation::Remove(which) if !model.is_empty() => {
                    let number = *model.keys().nth(which.index(model.len())).unwrap();
                    prop_assert_eq!(letters.remove(&[number]).unwrap(), 1);
                    model.remove(&number);
                }
                Operation::Remove(_) => {}
                Operation::Reopen => letters = open(&settings(dir.path())),
                // A kill in the middle of a write.
                Operation::Tear(bytes) => {
                    letters = open(&settings(dir.path()));
                    let newest = model.keys().last().map(|number| dir.path().join(format!("dead-letters/{:016x}.letters", number.file)));
                    if let Some(path) = newest {
                        let mut all = fs::read(&path).unwrap();
                        all.extend(vec![b'L'; usize::from(bytes)]);
                        fs::write(&path, all).unwrap();
                    }
                }
            }
            let seen: BTreeMap<Number, String> = letters.list().unwrap().entries.into_iter().map(|entry| (entry.number, entry.id)).collect();
            prop_assert_eq!(&seen, &model);
        }
    }
}

//! A disk that is full, broken, or forgets: nothing that was appended is lost by it, and the spill goes on when it can.

use rustix::io::Errno;

use super::super::room::{Full, Room};
use super::super::{KeepFree, OpenError, SpillError};
use super::faults::{Faulty, Kind, Step};
use super::rig::{Maker, Rig, piece, sent};
use crate::durable::disk::Space;

fn rig() -> (Rig, std::sync::Arc<Faulty>) {
    let disk = Faulty::new();
    (Rig::on(disk.clone()), disk)
}

#[test]
fn the_durable_steps_come_in_their_order() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let batch = Maker::new(1, "a", 0).lines(&["x"]);
    spill.append(&[piece(&batch)]).unwrap();
    spill.sync().unwrap();
    let name = "0000000000000000-0000.seg".to_owned();
    let steps = disk.steps();
    assert_eq!(steps[0], Step::Create(name.clone()));
    assert!(matches!(&steps[1], Step::Write(file, 0, _) if *file == name), "the header");
    assert_eq!(steps[2], Step::SyncDir);
    assert!(matches!(&steps[3], Step::Write(file, at, _) if *file == name && *at > 0), "the record");
    assert_eq!(steps[4..], [Step::SyncData(name)]);
}

#[test]
fn a_failed_fsync_is_final_for_its_file_and_everything_since_is_written_anew() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let batches: Vec<_> = (0..4).map(|i| maker.lines(&[&format!("line {i}")])).collect();
    spill.append(&[piece(&batches[0])]).unwrap();
    spill.sync().unwrap();
    let row = spill.row();
    spill.append(&[piece(&batches[1])]).unwrap();
    spill.append(&[piece(&batches[2])]).unwrap();
    disk.fail(Kind::SyncData, Errno::IO, 1);
    spill.sync().unwrap();
    let old = "0000000000000000-0000.seg";
    let after = disk.steps().len();
    spill.append(&[piece(&batches[3])]).unwrap();
    spill.sync().unwrap();
    let touched = |step: &Step| matches!(step, Step::Write(name, ..) | Step::SyncData(name) | Step::Truncate(name, _) if name == old);
    assert!(!disk.steps()[after..].iter().any(touched));
    assert_eq!(rig.segments().len(), 2);
    let all = batches.iter().flat_map(|batch| sent(batch, 0)).collect::<Vec<_>>();
    let read =
        |spill: &mut super::super::Spill| rig.read_all(spill).iter().flat_map(|(batch, first)| sent(batch, *first)).collect::<Vec<_>>();
    assert_eq!(read(&mut spill), all);
    drop(spill);
    // The kernel may have kept what it said it could not write: then both files have the same records.
    let (mut spill, recovered) = rig.open(Some(&row));
    assert_eq!((recovered.rolled.len(), recovered.lost.len(), recovered.torn_bytes), (3, 0, 0));
    assert_eq!(read(&mut spill), all);
    spill.rewind();
    for (batch, _) in rig.read_all(&mut spill) {
        spill.acknowledged(&batch, batch.events.len());
    }
    spill.release(spill.row().head);
    assert_eq!((rig.segments().len(), spill.bytes()), (0, 0));
}

#[test]
fn a_sync_that_fails_twice_keeps_everything_for_the_next_try() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let (first, second) = (maker.lines(&["one"]), maker.lines(&["two"]));
    spill.append(&[piece(&first)]).unwrap();
    disk.fail(Kind::SyncData, Errno::IO, 2);
    assert!(matches!(spill.sync(), Err(SpillError::Broken(words)) if words.contains("logs")));
    assert_eq!((spill.row().tail, spill.row().pending.len()), (0, 0), "nothing of it counts as safe");
    assert!(spill.unsynced_bytes() > 0);
    disk.fail(Kind::Create, Errno::ROFS, 2);
    assert!(matches!(spill.sync(), Err(SpillError::Broken(_))));
    assert!(matches!(spill.append(&[piece(&second)]), Err(SpillError::Broken(_))));
    spill.append(&[piece(&second)]).unwrap();
    spill.sync().unwrap();
    assert_eq!((spill.row().tail, spill.unsynced_bytes(), rig.read_all(&mut spill).len(), rig.segments().len()), (2, 0, 2, 1));
    assert_eq!(spill.bytes(), std::fs::metadata(&rig.segments()[0]).unwrap().len());
}

#[test]
fn a_full_disk_is_told_and_half_a_record_is_cut_off() {
    for errno in [Errno::NOSPC, Errno::DQUOT] {
        let (rig, disk) = rig();
        let (mut spill, _) = rig.open(None);
        let mut maker = Maker::new(1, "a", 0);
        let (first, second) = (maker.lines(&["one"]), maker.lines(&["two"]));
        disk.fail(Kind::Write, errno, 1);
        assert_eq!(spill.append(&[piece(&first)]), Err(SpillError::Full(Full::NoSpace)));
        assert_eq!((rig.segments().len(), spill.bytes(), spill.records()), (0, 0, 0), "a segment without a record is not kept");
        spill.append(&[piece(&first)]).unwrap();
        let before = spill.bytes();
        disk.fail(Kind::Write, errno, 1);
        assert_eq!(spill.append(&[piece(&second)]), Err(SpillError::Full(Full::NoSpace)));
        assert_eq!((std::fs::metadata(&rig.segments()[0]).unwrap().len(), spill.bytes()), (before, before));
        spill.append(&[piece(&second)]).unwrap();
        spill.sync().unwrap();
        assert_eq!(rig.read_all(&mut spill).len(), 2);
    }
}

#[test]
fn half_a_record_that_cannot_be_cut_off_is_left_behind_with_its_file() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let (first, second) = (maker.lines(&["one"]), maker.lines(&["two"]));
    spill.append(&[piece(&first)]).unwrap();
    spill.sync().unwrap();
    let row = spill.row();
    disk.fail(Kind::Write, Errno::NOSPC, 1);
    disk.fail(Kind::Truncate, Errno::IO, 1);
    assert_eq!(spill.append(&[piece(&second)]), Err(SpillError::Full(Full::NoSpace)));
    spill.append(&[piece(&second)]).unwrap();
    spill.sync().unwrap();
    assert_eq!((rig.segments().len(), rig.read_all(&mut spill).len()), (2, 2));
    drop(spill);
    let (mut spill, recovered) = rig.open(Some(&row));
    assert_eq!((recovered.rolled.len(), recovered.lost.len(), recovered.torn_bytes, rig.read_all(&mut spill).len()), (1, 0, 0, 2));
}

#[test]
fn a_write_that_fails_goes_on_in_a_new_segment_and_if_not_is_told() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let batches: Vec<_> = (0..4).map(|i| maker.lines(&[&format!("line {i}")])).collect();
    spill.append(&[piece(&batches[0])]).unwrap();
    disk.fail(Kind::Write, Errno::IO, 1);
    assert_eq!(spill.append(&[piece(&batches[1])]).unwrap()[0].seq, 1, "a new segment has both");
    assert_eq!(rig.segments().len(), 1, "of the old one nothing was safe");
    disk.fail(Kind::Write, Errno::ROFS, 1000);
    disk.fail(Kind::Create, Errno::ROFS, 1000);
    assert!(matches!(spill.append(&[piece(&batches[2])]), Err(SpillError::Broken(_))));
    assert!(matches!(spill.sync(), Err(SpillError::Broken(_))));
    disk.heal();
    spill.append(&[piece(&batches[2])]).unwrap();
    spill.sync().unwrap();
    let read = rig.read_all(&mut spill);
    assert_eq!(read.iter().map(|(batch, _)| batch.bytes.clone()).collect::<Vec<_>>(), [b"line 0", b"line 1", b"line 2"]);
    assert_eq!(spill.bytes(), rig.segments().iter().map(|file| std::fs::metadata(file).unwrap().len()).sum::<u64>());
}

#[test]
fn an_io_error_while_reading_is_never_damage() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    for i in 0..3 {
        let batch = maker.lines(&[&format!("line {i}")]);
        spill.append(&[piece(&batch)]).unwrap();
    }
    spill.sync().unwrap();
    let row = spill.row();
    for kind in [Kind::Open, Kind::Read] {
        for times in 1..4 {
            disk.fail(kind, Errno::IO, times);
            for _ in 0..times {
                assert!(matches!(spill.read(&rig.budget), Err(SpillError::Unreadable(_))), "{kind:?}");
            }
        }
        let read = rig.read_all(&mut spill);
        assert_eq!((read.len(), spill.records()), (3, 3));
        spill.rewind();
    }
    drop(spill);
    let before = std::fs::read(&rig.segments()[0]).unwrap();
    for kind in [Kind::Open, Kind::Read] {
        for skip in 0..2 {
            disk.fail(kind, Errno::IO, 1 + skip);
            for _ in 0..=skip {
                assert!(matches!(rig.try_open(Some(&row)), Err(OpenError::Io { .. })));
            }
        }
    }
    assert_eq!(std::fs::read(&rig.segments()[0]).unwrap(), before);
    let (mut spill, recovered) = rig.open(Some(&row));
    assert_eq!((rig.read_all(&mut spill).len(), recovered.lost.len()), (3, 0));
    assert_eq!(rig.room.used(), spill.bytes());
}

#[test]
fn what_others_are_to_have_free_is_left_to_them() {
    let disk = Faulty::new();
    let mut rig = Rig::on(disk.clone());
    rig.settings.keep_free = KeepFree::Percent(10);
    let (mut spill, _) = rig.open(None);
    let batch = Maker::new(1, "a", 0).lines(&["x"]);
    disk.set_space(Space { free: 100_000, total: 1_000_000 });
    assert_eq!(spill.append(&[piece(&batch)]), Err(SpillError::Full(Full::KeepFree)));
    assert!(rig.segments().is_empty());
    disk.set_space(Space { free: 101_000, total: 1_000_000 });
    spill.append(&[piece(&batch)]).unwrap();
    disk.set_space(Space { free: 99_999, total: 1_000_000 });
    assert_eq!(spill.append(&[piece(&batch)]), Err(SpillError::Full(Full::KeepFree)));
    assert_eq!((spill.records(), spill.bytes()), (1, std::fs::metadata(&rig.segments()[0]).unwrap().len()));
}

#[test]
fn the_room_of_all_lanes_is_not_exceeded() {
    let mut rig = Rig::new();
    rig.room = Room::new(2000);
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let error = loop {
        let batch = maker.lines(&["some text"]);
        if let Err(error) = spill.append(&[piece(&batch)]) {
            break error;
        }
    };
    assert_eq!(error, SpillError::Full(Full::MaxSize));
    assert!(spill.records() > 3 && spill.bytes() <= 2000 && spill.bytes() > 1600, "{}", spill.bytes());
    spill.sync().unwrap();
    assert_eq!(rig.read_all(&mut spill).len() as u64, spill.records());
}

#[test]
fn what_a_failed_fsync_left_behind_does_not_come_back_at_the_second_start() {
    let (rig, disk) = rig();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let (first, second) = (maker.lines(&["one"]), maker.lines(&["two"]));
    spill.append(&[piece(&first)]).unwrap();
    spill.sync().unwrap();
    let row = spill.row();
    spill.append(&[piece(&second)]).unwrap();
    disk.fail(Kind::SyncData, Errno::IO, 2);
    spill.sync().unwrap_err();
    drop(spill);
    // Of the new segment nothing reached the disk; in the old one the record is whole.
    let newer = rig.segments().remove(1);
    std::fs::OpenOptions::new().write(true).open(&newer).unwrap().set_len(50).unwrap();
    for _ in 0..2 {
        let (mut spill, recovered) = rig.open(Some(&row));
        assert_eq!((recovered.rolled.len(), recovered.lost.len(), rig.read_all(&mut spill).len(), rig.segments().len()), (0, 0, 1, 1));
    }
}

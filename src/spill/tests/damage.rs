//! Bytes that changed on disk: what was in them is counted exactly, all else is still delivered.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::inspect::{Inspector, Item, RecordInfo};
use super::super::{LaneRow, Loaded, OpenError, Recovered, Spill};
use super::rig::{Maker, Rig, Sent, piece, sent, sum};
use crate::ledger::Count;

type BySource = BTreeMap<Arc<str>, Count>;

fn add(sums: &mut BySource, source: &Arc<str>, count: Count) {
    if count != Count::default() {
        *sums.entry(Arc::clone(source)).or_default() += count;
    }
}

/// A spill of 12 records in several segments: two sources, three streams; 8 records known to a snapshot, two runs of them acknowledged.
struct Case {
    rig: Rig,
    row: LaneRow,
    all: Vec<Sent>,
}

impl Case {
    fn new(size: usize) -> Case {
        let rig = Rig::new();
        let (mut spill, _) = rig.open(None);
        let mut makers = [Maker::new(1, "nginx", 0), Maker::new(2, "nginx", 50), Maker::new(3, "app", 7)];
        let (mut all, mut row) = (Vec::new(), LaneRow::default());
        let mut noise = 1_u64;
        for seq in 0..12 {
            let batches: Vec<_> = makers
                .iter_mut()
                .map(|maker| {
                    let text: String = (0..size)
                        .map(|_| {
                            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            char::from(b'!' + u8::try_from(noise >> 58).unwrap())
                        })
                        .collect();
                    maker.lines(&[&format!("{seq}"), &text, ""])
                })
                .collect();
            spill.append(&batches.iter().map(piece).collect::<Vec<_>>()).unwrap();
            spill.sync().unwrap();
            all.extend(batches.iter().flat_map(|batch| sent(batch, 0)));
            if seq == 7 {
                // Of record 0 a run and a half, of record 2 everything.
                for (batch, _) in &rig.read_all(&mut spill) {
                    let place = batch.copy.unwrap();
                    match (place.seq, place.run) {
                        (0, 0) | (2, _) => drop(spill.acknowledged(batch, 3)),
                        (0, 1) => drop(spill.acknowledged(batch, 1)),
                        _ => {}
                    }
                }
                row = spill.row();
            }
        }
        assert_eq!((row.head, row.tail), (0, 8));
        Case { rig, row, all }
    }

    fn records(&self) -> Vec<RecordInfo> {
        let mut records = Vec::new();
        Inspector::open(&self.rig.dir())
            .unwrap()
            .each(|item| {
                let Item::Record(record) = item else { panic!("{item:?}") };
                records.push(*record);
                true
            })
            .unwrap();
        records
    }

    /// Reads everything, damaged as it is, and holds it against what should be there: nothing invented, nothing doubled, in order, and every
    /// event that is not read is counted as lost. Says what was lost.
    fn settle(&self, spill: &mut Spill, recovered: &Recovered) -> BySource {
        let mut expected = BySource::new();
        self.row.pending.iter().for_each(|(source, count)| add(&mut expected, source, *count));
        recovered.rolled.iter().for_each(|rolled| add(&mut expected, &rolled.source, rolled.count));
        let (mut lost, mut read) = (BySource::new(), Vec::new());
        recovered.lost.iter().for_each(|(source, count, _)| add(&mut lost, source, *count));
        let mut pending = lost.clone();
        spill.pending().iter().for_each(|(source, count)| add(&mut pending, source, *count));
        assert_eq!(pending, expected, "what is pending and what is lost is all there was");
        let mut left = lost.clone();
        loop {
            match spill.read(&self.rig.budget).unwrap() {
                Loaded::Nothing => break,
                Loaded::Damaged(damaged) => {
                    assert!(damaged.words.contains("lost"));
                    for (source, count) in &damaged.lost {
                        add(&mut lost, source, *count);
                        add(&mut left, source, *count);
                    }
                }
                Loaded::Record(batches) => {
                    for (batch, first) in batches {
                        add(&mut left, &batch.stream.source, batch.count(first..batch.events.len()));
                        read.extend(sent(&batch, first));
                        spill.acknowledged(&batch, batch.events.len());
                    }
                }
            }
        }
        assert_eq!(left, expected, "what was read and what is lost is all there was");
        assert!(spill.is_empty() && spill.pending().is_empty() && spill.unread() == 0, "{:?} {}", spill.row(), spill.unread());
        assert_eq!(spill.row().head, spill.row().tail);
        let mut rest = self.all.iter();
        assert!(read.iter().all(|message| rest.any(|other| other == message)), "each in order, each once, as it was written");
        spill.release(spill.row().head);
        assert!(self.rig.segments().is_empty());
        lost
    }

    /// Damages while the spill is closed, or open and not read yet.
    fn damage(&self, open: bool, damage: impl FnOnce(&Rig)) -> (BySource, Recovered) {
        if open {
            let (mut spill, recovered) = self.rig.open(Some(&self.row));
            damage(&self.rig);
            return (self.settle(&mut spill, &recovered), recovered);
        }
        damage(&self.rig);
        // What is found is the same however often it is looked for.
        let first = self.rig.open(Some(&self.row)).1;
        let (mut spill, recovered) = self.rig.open(Some(&self.row));
        assert_eq!((&first.lost, &first.rolled), (&recovered.lost, &recovered.rolled));
        assert_eq!(recovered.torn_bytes, 0, "a torn end is cut once");
        (self.settle(&mut spill, &recovered), first)
    }

    /// What of a record is pending.
    fn pending_of(&self, record: &RecordInfo) -> BySource {
        let mut pending = BySource::new();
        for (index, run) in (0..).zip(&record.runs) {
            let mut count = run.count;
            for (_, _, _, acked) in self.row.acked.iter().filter(|(seq, at, ..)| (*seq, *at) == (record.seq, index)) {
                count = Count { events: count.events - acked.events, bytes: count.bytes - acked.bytes };
            }
            add(&mut pending, &run.source, count);
        }
        pending
    }
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

fn truncate(path: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn one_damaged_record_is_lost_and_no_other_one() {
    for open in [false, true] {
        for seq in 0..12 {
            for in_body in [false, true] {
                let case = Case::new(30);
                let record = case.records().remove(seq);
                let at = if in_body { record.at + record.bytes - 3 } else { record.at + 5 };
                let (lost, recovered) = case.damage(open, |rig| flip(&rig.dir().join(record.segment.name()), at));
                let known = seq < 8;
                let expected = if known || open { case.pending_of(&record) } else { BySource::new() };
                assert_eq!(lost, expected, "record {seq}, body {in_body}, open {open}");
                if !open && !known {
                    assert_eq!(recovered.torn_bytes > 0 && !recovered.rolled.iter().any(|rolled| rolled.behind_damage), seq == 11);
                    let behind: Vec<u64> = recovered.rolled.iter().filter(|rolled| rolled.behind_damage).map(|rolled| rolled.seq).collect();
                    assert_eq!(behind.len(), (11 - seq) * 3);
                    assert_eq!(recovered.rolled.len(), 9);
                }
                if seq < 11 && seq != 2 {
                    let kept = case.rig.dir().join(format!("damaged-{seq:016x}"));
                    assert_eq!(std::fs::metadata(kept).unwrap().len(), record.bytes, "set aside");
                }
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_or_zeroed_anywhere_near_a_record_is_counted_exactly() {
    for open in [false, true] {
        let places = Case::new(400).records().len();
        for index in 0..places {
            for (shift, zero) in
                [(0, None), (1, None), (-1, None), (70, None), (0, Some(1)), (0, Some(64)), (-8, Some(16)), (3, Some(100_000))]
            {
                let case = Case::new(400);
                let record = &case.records()[index];
                let path = case.rig.dir().join(record.segment.name());
                let at = record.at.saturating_add_signed(shift);
                case.damage(open, |_| match zero {
                    None => truncate(&path, at),
                    Some(len) => {
                        let len = std::fs::metadata(&path).unwrap().len().saturating_sub(at).min(len);
                        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                        file.write_all_at(&vec![0; usize::try_from(len).unwrap()], at).unwrap();
                    }
                });
            }
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_counted_exactly() {
    for open in [false, true] {
        let files = Case::new(4000).rig.segments().len();
        assert!(files > 2, "{files}");
        for index in 0..files {
            let case = Case::new(4000);
            case.damage(open, |rig| std::fs::remove_file(&rig.segments()[index]).unwrap());
        }
    }
}

#[test]
fn a_directory_that_is_gone_loses_all_that_was_pending() {
    let case = Case::new(100);
    let (lost, recovered) = case.damage(false, |rig| std::fs::remove_dir_all(&rig.settings.dir).unwrap());
    assert_eq!(lost.into_iter().collect::<Vec<_>>(), case.row.pending);
    assert!(recovered.lost.iter().all(|(_, _, words)| words.contains("records 0 to 7")));
    let (mut spill, recovered) = case.rig.open(Some(&LaneRow { pending: Vec::new(), head: 8, acked: Vec::new(), ..case.row.clone() }));
    let batch = Maker::new(1, "a", 0).lines(&["x"]);
    assert_eq!((spill.append(&[piece(&batch)]).unwrap()[0].seq, recovered.lost.len()), (8, 0));
}

#[test]
fn a_damaged_segment_header_loses_nothing() {
    for open in [false, true] {
        let case = Case::new(4000);
        let (lost, _) = case.damage(open, |rig| rig.segments().iter().for_each(|file| flip(file, 17)));
        assert!(lost.is_empty(), "{lost:?}");
    }
}

#[test]
fn what_is_in_memory_is_not_lost_with_its_copy() {
    let case = Case::new(30);
    let (mut spill, _) = case.rig.open(Some(&case.row));
    let read = case.rig.read_all(&mut spill);
    let pending = sum(&spill.pending());
    for record in case.records() {
        flip(&case.rig.dir().join(record.segment.name()), record.at + if record.seq % 2 == 0 { 5 } else { record.bytes - 3 });
    }
    assert!(matches!(spill.read(&case.rig.budget).unwrap(), Loaded::Nothing));
    let mut acknowledged = Count::default();
    for (batch, _) in &read {
        if batch.copy.unwrap().run != 1 {
            acknowledged += spill.acknowledged(batch, batch.events.len());
        }
    }
    // The rest comes back from the producer, and its copies are damaged.
    spill.rewind();
    let mut lost = Count::default();
    loop {
        match spill.read(&case.rig.budget).unwrap() {
            Loaded::Damaged(damaged) => lost += sum(&damaged.lost),
            Loaded::Nothing => break,
            Loaded::Record(batches) => panic!("{batches:?}"),
        }
    }
    acknowledged += lost;
    assert_eq!(acknowledged, pending);
    assert!(spill.is_empty());
}

#[test]
fn no_more_than_a_few_damaged_pieces_are_kept() {
    let rig = Rig::new();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    for _ in 0..40 {
        let batch = maker.lines(&["x"]);
        spill.append(&[piece(&batch)]).unwrap();
    }
    spill.sync().unwrap();
    let mut places = Vec::new();
    let end = |record: &RecordInfo| record.at + record.bytes - 1;
    Inspector::open(&rig.dir())
        .unwrap()
        .each(|item| {
            places.extend(if let Item::Record(record) = item { Some(end(&record)) } else { None });
            true
        })
        .unwrap();
    for at in places {
        flip(&rig.segments()[0], at);
    }
    assert_eq!(Inspector::open(&rig.dir()).unwrap().verify().unwrap().wrong.len(), 40);
    let mut lost = Count::default();
    while let Loaded::Damaged(damaged) = spill.read(&rig.budget).unwrap() {
        lost += sum(&damaged.lost);
    }
    assert_eq!((lost.events, rig.segments().len(), std::fs::read_dir(rig.dir()).unwrap().count()), (40, 1, 17));
    assert_eq!(spill.bytes(), std::fs::read_dir(rig.dir()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>());
}

#[test]
fn a_newer_format_is_refused_untouched_and_a_foreign_segment_left_alone() {
    let case = Case::new(30);
    let file = case.rig.segments().remove(0);
    let good = std::fs::read(&file).unwrap();
    let mut newer = good.clone();
    newer[8] = 2;
    let len = usize::from(u16::from_le_bytes([newer[10], newer[11]]));
    let sum = crc32c::crc32c(&newer[..len - 4]).to_le_bytes();
    newer[len - 4..len].copy_from_slice(&sum);
    std::fs::write(&file, &newer).unwrap();
    assert!(matches!(case.rig.try_open(Some(&case.row)), Err(OpenError::Newer { version: 2, .. })));
    assert_eq!(std::fs::read(&file).unwrap(), newer);
    std::fs::write(&file, &good).unwrap();

    let other = LaneRow { log: case.row.log ^ 1, ..LaneRow::default() };
    let (mut spill, recovered) = case.rig.open(Some(&other));
    assert_eq!((recovered.foreign.len(), recovered.rolled.len(), spill.records()), (1, 0, 0));
    assert_eq!(spill.bytes(), good.len() as u64, "it takes its room");
    let batch = Maker::new(1, "a", 0).lines(&["x"]);
    spill.append(&[piece(&batch)]).unwrap();
    spill.sync().unwrap();
    assert_eq!((rig_read(&case.rig, &mut spill), std::fs::read(&file).unwrap()), (1, good));
}

fn rig_read(rig: &Rig, spill: &mut Spill) -> usize {
    rig.read_all(spill).len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_is_damaged_is_counted_exactly(
        open: bool,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8, 1..5000_u64), 1..5),
    ) {
        let case = Case::new(2000);
        case.damage(open, |rig| {
            for (file, at, how, len) in &places {
                let files = rig.segments();
                let path = file.get(&files);
                let size = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
                if size == 0 {
                    continue;
                }
                let at = at.index(size) as u64;
                let len = (*len).min(size as u64 - at);
                let mut bytes = std::fs::read(path).unwrap();
                let range = usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap();
                match how {
                    0 => flip(path, at),
                    1 => truncate(path, at),
                    2 => { bytes[range].fill(0); std::fs::write(path, bytes).unwrap(); }
                    _ => { bytes.drain(range); std::fs::write(path, bytes).unwrap(); }
                }
            }
        });
    }
}

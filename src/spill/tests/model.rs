//! The spill against a model, operation by operation: push, sync, snapshot, read, acknowledge, let go, rewind, fail, crash, start again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use rustix::io::Errno;

use super::super::{LaneRow, Loaded, Piece, Spill};
use super::faults::{Faulty, Kind};
use super::rig::{Maker, Rig, Sent, sent, sum};
use crate::batch::Batch;
use crate::ledger::Count;

#[derive(Clone, Debug)]
enum Op {
    /// A record of batches: of stream, lines, from which event on, held or not.
    Append(Vec<(usize, usize, prop::sample::Index, bool)>),
    Sync,
    Snapshot,
    Release,
    Read,
    /// Some of a batch that is in memory.
    Acknowledge(prop::sample::Index, prop::sample::Index),
    /// All of the oldest batch that is in memory.
    AcknowledgeFirst,
    LetGo(prop::sample::Index),
    Rewind,
    /// The next operations of this kind fail.
    Fail(Kind, Errno, u32),
    /// The process is killed and starts again. Of the unsynced bytes of the file that is written, so many are left.
    Crash(prop::sample::Index),
    Discard,
}

fn operations() -> impl Strategy<Value = Vec<Op>> {
    let pieces =
        prop::collection::vec((0..3_usize, prop_oneof![1..5_usize, 200..400_usize], any::<prop::sample::Index>(), any::<bool>()), 1..4);
    let kinds = prop::sample::select(vec![
        Kind::Create,
        Kind::Write,
        Kind::SyncData,
        Kind::SyncDir,
        Kind::Truncate,
        Kind::Remove,
        Kind::Read,
        Kind::Open,
    ]);
    let errors = prop::sample::select(vec![Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::DQUOT]);
    let op = prop_oneof![
        8 => pieces.prop_map(Op::Append),
        6 => Just(Op::Sync),
        4 => Just(Op::Snapshot),
        2 => Just(Op::Release),
        6 => Just(Op::Read),
        4 => (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(which, upto)| Op::Acknowledge(which, upto)),
        4 => Just(Op::AcknowledgeFirst),
        2 => any::<prop::sample::Index>().prop_map(Op::LetGo),
        1 => Just(Op::Rewind),
        2 => (kinds, errors, 1..4_u32).prop_map(|(kind, errno, times)| Op::Fail(kind, errno, times)),
        2 => any::<prop::sample::Index>().prop_map(Op::Crash),
        1 => (0..10_u8).prop_map(|dice| if dice == 0 { Op::Discard } else { Op::Rewind }),
    ];
    prop::collection::vec(op, 1..80)
}

/// A run of a record, as it was appended.
#[derive(Clone, Debug)]
struct Expected {
    source: Arc<str>,
    messages: Vec<Sent>,
    /// What the messages before each index count.
    counts: Vec<Count>,
    acked: usize,
    held: bool,
}

type Records = BTreeMap<(u64, u32), Expected>;

struct World {
    rig: Rig,
    disk: Arc<Faulty>,
    spill: Spill,
    makers: Vec<Maker>,
    records: Records,
    /// All that was ever appended, as it was then: a start without a snapshot finds it again.
    all: Records,
    /// In memory: originals that are held, and what was read.
    memory: Vec<Batch>,
    durable: u64,
    tail: u64,
    row: Option<LaneRow>,
    /// The records as the snapshot knew them.
    known: Records,
}

impl World {
    fn new() -> World {
        let disk = Faulty::new();
        let rig = Rig::on(disk.clone());
        let (spill, _) = rig.open(None);
        let makers = vec![Maker::new(1, "a", 0), Maker::new(2, "a", 0), Maker::new(3, "b", 99)];
        let (records, memory, known) = (Records::new(), Vec::new(), Records::new());
        World { rig, disk, spill, makers, records, all: Records::new(), memory, durable: 0, tail: 0, row: None, known }
    }

    fn append(&mut self, pieces: &[(usize, usize, prop::sample::Index, bool)]) {
        let mut batches: Vec<(Batch, usize, bool)> = Vec::new();
        for (stream, lines, first, held) in pieces {
            let texts: Vec<String> =
                (0..*lines).map(|i| format!("{}", (self.tail * 977 + i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
            let batch = self.makers[*stream].lines(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            batches.push((batch, first.index(*lines), *held));
        }
        let parts: Vec<Piece<'_>> = batches.iter().map(|(batch, first, held)| Piece { batch, first: *first, held: *held }).collect();
        let Ok(places) = self.spill.append(&parts) else { return };
        assert!(places.iter().all(|place| place.seq == self.tail));
        self.tail += 1;
        for (place, (mut batch, first, held)) in places.into_iter().zip(batches) {
            let counts = (first..=batch.events.len()).map(|end| batch.count(first..end)).collect();
            let expected = Expected { source: Arc::clone(&batch.stream.source), messages: sent(&batch, first), counts, acked: 0, held };
            self.all.insert((place.seq, place.run), expected.clone());
            self.records.insert((place.seq, place.run), expected);
            batch.copy = Some(place);
            if held {
                self.memory.push(batch);
            }
        }
    }

    fn acknowledge(&mut self, which: usize, prefix: usize) {
        let batch = &self.memory[which];
        let place = batch.copy.unwrap();
        let fresh = self.spill.acknowledged(batch, prefix);
        let Some(expected) = self.records.get_mut(&(place.seq, place.run)) else { return assert_eq!(fresh, Count::default()) };
        let acked = prefix.saturating_sub(place.first as usize).max(expected.acked);
        let mut before = expected.counts[expected.acked];
        before += fresh;
        assert_eq!(before, expected.counts[acked]);
        expected.acked = acked;
        if prefix == batch.events.len() {
            self.memory.remove(which);
        }
    }

    fn read(&mut self) {
        let cost = self.spill.next_cost();
        let Ok(loaded) = self.spill.read(&self.rig.budget) else { return };
        let next = self.records.iter().find(|(_, run)| !run.held && run.acked < run.messages.len()).map(|((seq, _), _)| *seq);
        let next = next.filter(|seq| *seq < self.durable);
        match loaded {
            Loaded::Damaged(damaged) => panic!("{damaged:?}"),
            Loaded::Nothing => assert_eq!(next, None),
            Loaded::Record(batches) => {
                let seq = batches[0].0.copy.unwrap().seq;
                assert_eq!(Some(seq), next, "the first that is to be read");
                assert!(cost.is_err() || cost.unwrap().unwrap() > 0);
                let mut runs =
                    self.records.range_mut((seq, 0)..(seq + 1, 0)).filter(|(_, run)| !run.held && run.acked < run.messages.len());
                for (batch, first) in batches {
                    let (key, run) = runs.next().unwrap();
                    let place = batch.copy.unwrap();
                    assert_eq!(((place.seq, place.run), first), (*key, run.acked));
                    assert_eq!(sent(&batch, 0), run.messages);
                    run.held = true;
                    self.memory.push(batch);
                }
                assert!(runs.next().is_none());
            }
        }
    }

    fn crash(&mut self, keep: prop::sample::Index) {
        self.disk.heal();
        // Not the tail of its row: the head may be further, over records that were acknowledged before they were durable.
        let durable = self.spill.durable;
        let unsynced = self.spill.unsynced_bytes();
        let row = self.row.clone();
        if let (Some(file), true) = (self.rig.segments().last(), unsynced > 0) {
            let len = std::fs::metadata(file).unwrap().len();
            let lost = keep.index(unsynced + 1) as u64;
            std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(len.saturating_sub(lost)).unwrap();
        }
        let (spill, recovered) = self.rig.open(row.as_ref());
        self.spill = spill;
        assert!(recovered.lost.is_empty(), "{recovered:?} {row:?}");
        let rolled: BTreeSet<u64> = recovered.rolled.iter().map(|rolled| rolled.seq).collect();
        assert!(recovered.rolled.iter().all(|rolled| !rolled.behind_damage));
        let (head, tail) = row.as_ref().map_or((0, 0), |row| (row.head, row.tail));
        // Acknowledgements since the snapshot are forgotten; what was never synced may be gone.
        let known = std::mem::take(&mut self.known);
        self.all.retain(|(seq, _), _| *seq < tail || rolled.contains(seq));
        self.records = self.all.iter().filter(|((seq, _), _)| *seq >= head).map(|(key, run)| (*key, run.clone())).collect();
        for (key, run) in &mut self.records {
            run.held = false;
            // A record that was not durable may be another one next time: what was acknowledged of it is not in the snapshot.
            run.acked = known.get(key).filter(|_| key.0 < tail).map_or(0, |known| known.acked);
        }
        let first = rolled.first().copied().unwrap_or(tail);
        let deleted = first.max(tail);
        assert!((deleted..durable.max(deleted)).all(|seq| rolled.contains(&seq)), "durable before {durable}: {rolled:?}");
        self.known = self.records.clone();
        self.memory.clear();
        self.tail = self.spill.row().tail;
        self.durable = self.tail;
        self.row = Some(self.spill.row());
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Append(pieces) => self.append(pieces),
            Op::Sync => drop(self.spill.sync()),
            Op::Snapshot => {
                self.row = Some(self.spill.row());
                self.known = self.records.clone();
            }
            Op::Release => self.spill.release(self.row.as_ref().map_or(0, |row| row.head)),
            Op::Read => self.read(),
            Op::Acknowledge(which, upto) if !self.memory.is_empty() => {
                let which = which.index(self.memory.len());
                let upto = upto.index(self.memory[which].events.len() + 1);
                self.acknowledge(which, upto);
            }
            Op::AcknowledgeFirst if !self.memory.is_empty() => self.acknowledge(0, self.memory[0].events.len()),
            Op::LetGo(which) if !self.memory.is_empty() => {
                let batch = self.memory.remove(which.index(self.memory.len()));
                let place = batch.copy.unwrap();
                self.spill.let_go(&place);
                self.records.get_mut(&(place.seq, place.run)).into_iter().for_each(|run| run.held = false);
            }
            Op::Rewind => {
                self.spill.rewind();
                self.memory.clear();
                self.records.values_mut().for_each(|run| run.held = false);
            }
            Op::Fail(kind, errno, times) => self.disk.fail(*kind, *errno, *times),
            Op::Crash(keep) => self.crash(*keep),
            Op::Discard => {
                let mut pending = Count::default();
                self.records.values().for_each(|run| pending += left(run));
                assert_eq!(sum(&self.spill.discard()), pending);
                self.records.clear();
                self.memory.clear();
            }
            Op::Acknowledge(..) | Op::AcknowledgeFirst | Op::LetGo(_) => {}
        }
        self.check();
    }

    fn check(&mut self) {
        // Rolling over to a new segment syncs as well.
        let row = self.spill.row();
        self.durable = row.tail;
        let open: BTreeSet<u64> = self.records.iter().filter(|(_, run)| run.acked < run.messages.len()).map(|((seq, _), _)| *seq).collect();
        let head = open.first().copied().unwrap_or(self.tail);
        assert_eq!(row.head, head);
        self.records.retain(|(seq, _), _| *seq >= head);
        let seqs: BTreeSet<u64> = self.records.keys().map(|(seq, _)| *seq).collect();
        assert_eq!((self.spill.records(), self.spill.is_empty()), (seqs.len() as u64, seqs.is_empty()));
        let waiting = self.records.iter().filter(|(_, run)| !run.held && run.acked < run.messages.len());
        let waiting: BTreeSet<u64> = waiting.map(|((seq, _), _)| *seq).collect();
        assert_eq!(self.spill.unread(), waiting.len() as u64);
        let mut pending: BTreeMap<Arc<str>, Count> = BTreeMap::new();
        let mut safe = pending.clone();
        for ((seq, _), run) in &self.records {
            for (sums, counts) in [(&mut pending, true), (&mut safe, *seq < row.tail)] {
                if counts && left(run) != Count::default() {
                    *sums.entry(Arc::clone(&run.source)).or_default() += left(run);
                }
            }
        }
        assert_eq!(self.spill.pending(), pending.into_iter().collect::<Vec<_>>());
        assert_eq!(row.pending, safe.into_iter().collect::<Vec<_>>());
        assert_eq!(self.rig.room.used(), self.spill.bytes());
        assert!(self.spill.oldest_ns().is_some() != self.spill.is_empty());
    }
}

fn left(run: &Expected) -> Count {
    let (all, acked) = (run.counts[run.messages.len()], run.counts[run.acked]);
    Count { events: all.events - acked.events, bytes: all.bytes - acked.bytes }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_spill_does_what_the_model_does(operations in operations()) {
        let mut world = World::new();
        for op in &operations {
            world.run(op);
        }
        // And in the end everything can be delivered.
        world.disk.heal();
        world.run(&Op::Sync);
        world.run(&Op::Rewind);
        while world.spill.unread() > 0 {
            world.run(&Op::Read);
        }
        while !world.memory.is_empty() {
            world.run(&Op::AcknowledgeFirst);
        }
        prop_assert!(world.spill.is_empty());
        world.run(&Op::Snapshot);
        world.run(&Op::Release);
        prop_assert_eq!((world.rig.segments().len(), world.spill.bytes()), (0, 0));
    }
}

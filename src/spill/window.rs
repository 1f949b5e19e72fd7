//! Which records are acknowledged, and which are in memory: what the spill must remember of single records. Apart and pure, since here it is
//! decided what is read next and how far the head moves.
//!
//! Most records have no entry: all of them is to be read and nothing acknowledged. An entry is made when a record is read, when it is written
//! while its originals stay in memory, and for records that were acknowledged in part. So there are about as many as batches in memory, which the
//! byte budget bounds, and [`AHEAD`] bounds those that are acknowledged behind one that is not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::counts::{Counts, minus};
use super::format::Run;
use crate::batch::Place;
use crate::ledger::Count;

/// How many acknowledged runs may lie behind an unacknowledged one. At the limit reading waits: each is written with every snapshot.
pub(super) const AHEAD: usize = 4096;

/// What is known of a run of a record that has an entry.
#[derive(Clone, Debug)]
pub(super) struct RunState {
    pub(super) source: Arc<str>,
    pub(super) count: Count,
    pub(super) messages: u32,
    /// How many messages, from the first, are acknowledged (or lost, which passes over them as well).
    pub(super) acked: u32,
    pub(super) acked_count: Count,
    /// It is in memory: the original, or what was read back.
    pub(super) held: bool,
}

impl RunState {
    pub(super) fn of(run: &Run) -> RunState {
        let (source, count, messages) = (Arc::clone(&run.source), run.count, run.messages);
        RunState { source, count, messages, acked: 0, acked_count: Count::default(), held: false }
    }

    fn done(&self) -> bool {
        self.acked >= self.messages
    }

    /// Whether it is to be read.
    pub(super) fn waits(&self) -> bool {
        !self.held && !self.done()
    }

    fn left(&self) -> Count {
        minus(self.count, self.acked_count)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: BTreeMap<u64, Vec<RunState>>,
    /// Entries of which nothing is to be read.
    idle: u64,
    /// Runs of entries that are acknowledged, wholly or in part.
    acked_runs: usize,
    /// The first record that is not acknowledged whole, or the next one to be written.
    pub(super) head: u64,
    /// Records at or behind the head that are lost: sorted, apart from each other. One for each damaged place.
    missing: Vec<Range<u64>>,
    /// Records at or behind the head that are there.
    pub(super) records: u64,
    /// What is in them and not acknowledged.
    pub(super) pending: Counts,
}

/// Records that the head has passed, with all that was in them.
pub(super) type Passed = Vec<(u64, Counts)>;

impl Window {
    /// Nothing, with the next record to come as the head.
    pub(super) fn at(head: u64) -> Window {
        Window { head, ..Window::default() }
    }

    /// A record was written or found.
    pub(super) fn add(&mut self, runs: &[Run]) {
        self.records += 1;
        self.pending.add_all(&Counts::of(runs));
    }

    /// A record that was added last is not there after all.
    pub(super) fn take_back(&mut self, seq: u64, counts: &Counts) {
        self.change(seq, |entry| *entry = None);
        self.records = self.records.saturating_sub(1);
        self.pending.sub_all(counts);
    }

    pub(super) fn runs(&self, seq: u64) -> Option<&[RunState]> {
        self.entries.get(&seq).map(Vec::as_slice)
    }

    /// Every change to an entry goes through here, so that the sums stay right.
    fn change(&mut self, seq: u64, change: impl FnOnce(&mut Option<Vec<RunState>>)) {
        let mut entry = self.entries.remove(&seq);
        let sums = |entry: &Option<Vec<RunState>>| {
            let runs = entry.as_deref().unwrap_or_default();
            let idle = entry.is_some() && !runs.iter().any(RunState::waits);
            (u64::from(idle), runs.iter().filter(|run| run.acked > 0).count())
        };
        let (idle, acked) = sums(&entry);
        (self.idle, self.acked_runs) = (self.idle - idle, self.acked_runs - acked);
        change(&mut entry);
        let (idle, acked) = sums(&entry);
        (self.idle, self.acked_runs) = (self.idle + idle, self.acked_runs + acked);
        if let Some(entry) = entry {
            self.entries.insert(seq, entry);
        }
    }

    /// Makes an entry for a record whose header was read, if it has none.
    pub(super) fn know(&mut self, seq: u64, runs: &[Run]) {
        self.change(seq, |entry| {
            entry.get_or_insert_with(|| runs.iter().map(RunState::of).collect());
        });
    }

    /// Says of a run whether it is in memory.
    pub(super) fn set_held(&mut self, seq: u64, run: u32, held: bool) {
        self.change(seq, |entry| {
            if let Some(run) = entry.as_mut().and_then(|runs| runs.get_mut(run as usize)) {
                run.held = held;
            }
        });
    }

    /// Nothing is in memory any more.
    pub(super) fn let_all_go(&mut self) {
        let held: Vec<u64> = self.entries.keys().copied().collect();
        for seq in held {
            self.change(seq, |entry| entry.iter_mut().flatten().for_each(|run| run.held = false));
        }
    }

    /// The messages of a run before `messages` are acknowledged, which count `count` in all: says what is new of that.
    pub(super) fn acknowledge(&mut self, place: &Place, messages: u32, count: Count) -> Count {
        let mut fresh = Count::default();
        let mut source = None;
        self.change(place.seq, |entry| {
            let Some(run) = entry.as_mut().and_then(|runs| runs.get_mut(place.run as usize)) else { return };
            if messages <= run.acked {
                return;
            }
            run.acked = messages.min(run.messages);
            let count = if run.done() { run.count } else { count };
            fresh = minus(count, run.acked_count);
            run.acked_count += fresh;
            source = Some(Arc::clone(&run.source));
        });
        if let Some(source) = source {
            self.pending.sub(&source, fresh);
        }
        fresh
    }

    /// What of a record with an entry is to be read and can't be: it passes for acknowledged, and this is what is lost.
    pub(super) fn lose(&mut self, seq: u64) -> Counts {
        let mut lost = Counts::default();
        self.change(seq, |entry| {
            for run in entry.iter_mut().flatten().filter(|run| run.waits()) {
                lost.add(&run.source, run.left());
                (run.acked, run.acked_count) = (run.messages, run.count);
            }
        });
        self.pending.sub_all(&lost);
        lost
    }

    /// Records without an entry are gone, with what was in them.
    pub(super) fn lose_unknown(&mut self, seqs: Vec<Range<u64>>, counts: &Counts) {
        self.pending.sub_all(counts);
        for range in seqs {
            self.records = self.records.saturating_sub(range.end - range.start);
            self.note_missing(range);
        }
    }

    /// Records that are not there, and were never counted.
    pub(super) fn note_missing(&mut self, seqs: Range<u64>) {
        if seqs.is_empty() {
            return;
        }
        self.missing.push(seqs);
        self.missing.sort_unstable_by_key(|range| range.start);
    }

    /// What of these ranges is not known to be missing.
    pub(super) fn not_missing(&self, ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
        let mut left = Vec::new();
        for range in ranges {
            let mut from = range.start;
            for missing in self.missing.iter().filter(|missing| missing.start < range.end && missing.end > range.start) {
                left.push(from..missing.start.max(from));
                from = from.max(missing.end);
            }
            left.push(from..range.end.max(from));
        }
        left.retain(|range| !range.is_empty());
        left
    }

    pub(super) fn missing_end(&self, seq: u64) -> Option<u64> {
        self.missing.iter().filter(|range| range.contains(&seq)).map(|range| range.end).max()
    }

    /// Moves the head over all that is acknowledged whole; `tail` is the record that comes next.
    pub(super) fn advance(&mut self, tail: u64) -> Passed {
        let mut passed = Vec::new();
        while self.head < tail {
            if let Some(runs) = self.entries.get(&self.head) {
                if !runs.iter().all(RunState::done) {
                    break;
                }
                passed.push((self.head, all_of(runs)));
                self.change(self.head, |entry| *entry = None);
                self.records = self.records.saturating_sub(1);
                self.head += 1;
            } else if let Some(end) = self.missing_end(self.head) {
                self.head = end;
            } else {
                break;
            }
        }
        let head = self.head;
        self.missing.retain(|range| range.end > head);
        passed
    }

    /// The next record at or behind `from`, before `end`, of which something is to be read, as far as is known.
    pub(super) fn next_waiting(&self, from: u64, end: u64) -> Option<u64> {
        let mut seq = from.max(self.head);
        while seq < end {
            match self.entries.get(&seq) {
                Some(runs) if runs.iter().any(RunState::waits) => return Some(seq),
                Some(_) => seq += 1,
                None => match self.missing_end(seq) {
                    Some(past) => seq = past,
                    None => return Some(seq),
                },
            }
        }
        None
    }

    /// Records of which something is to be read.
    pub(super) fn waiting(&self) -> u64 {
        self.records.saturating_sub(self.idle)
    }

    /// Whether so many runs are acknowledged behind the head that reading has to wait for it.
    pub(super) fn is_far_ahead(&self) -> bool {
        self.acked_runs > AHEAD
    }

    /// Runs before record `end` of which something is acknowledged, as a snapshot has them.
    pub(super) fn acked(&self, end: u64) -> Vec<(u64, u32, u32, Count)> {
        let records = self.entries.range(..end);
        let runs = records.flat_map(|(seq, runs)| (0..).zip(runs).map(move |(index, run)| (*seq, index, run.acked, run.acked_count)));
        runs.filter(|(_, _, acked, _)| *acked > 0).collect()
    }

    /// What of a record is acknowledged.
    pub(super) fn acked_of(&self, seq: u64) -> Counts {
        let mut counts = Counts::default();
        self.entries.get(&seq).into_iter().flatten().for_each(|run| counts.add(&run.source, run.acked_count));
        counts
    }

    /// Records with entries within `seqs`, and all that is in each.
    pub(super) fn known(&self, seqs: Range<u64>) -> Vec<(u64, Counts)> {
        self.entries.range(seqs).map(|(seq, runs)| (*seq, all_of(runs))).collect()
    }

    /// Forgets all before `tail`: an operator dropped it.
    pub(super) fn discard(&mut self, tail: u64) -> Counts {
        let head = tail;
        *self = Window { head, pending: std::mem::take(&mut self.pending), ..Window::default() };
        std::mem::take(&mut self.pending)
    }
}

/// All that is in a record, acknowledged or not.
fn all_of(runs: &[RunState]) -> Counts {
    let mut counts = Counts::default();
    for run in runs {
        counts.add(&run.source, run.count);
    }
    counts
}

//! The settlement and its snapshots: what was kept, what a spill adds to that at a start, what is to be kept next, and what people are shown of it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{
    Arc, Bell, Book, Count, Entry, Fate, FileState, Inner, LaneRow, Ledger, Lost, Outbox, Settlement, Shown, StreamId, StreamRow, Totals,
};
use crate::gaps::Gap;
use crate::gaps::outbox::{self, Counters};
use crate::gaps::sender::Store;
use crate::spill::Rolled;

/// What a snapshot holds.
#[derive(Debug, Default)]
pub struct Kept {
    /// Streams with their resume positions and marks.
    pub streams: Vec<(StreamId, StreamRow)>,
    /// Books by source.
    pub ledgers: Vec<(Arc<str>, Ledger)>,
    /// Lanes that have used their spill.
    pub lanes: Vec<(Arc<str>, LaneRow)>,
}

/// What a snapshot holds of gaps.
#[derive(Debug, Default)]
pub struct KeptGaps {
    /// Those that wait.
    pub waiting: Vec<Gap>,
    /// Their numbers.
    pub counters: Counters,
}

/// What a snapshot writes: rows that changed since the last one.
#[derive(Debug, Default)]
pub struct Changes {
    /// What is new or has changed.
    pub kept: Kept,
    /// Streams that left the state.
    pub forgotten: Vec<StreamId>,
    /// What changed about gaps.
    pub gaps: outbox::Changes,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Kept { streams, ledgers, lanes } = &self.kept;
        streams.is_empty() && ledgers.is_empty() && lanes.is_empty() && self.forgotten.is_empty() && self.gaps.is_empty()
    }
}

impl Store for Settlement {
    fn take(&self) -> Vec<Gap> {
        self.lock().gaps.take()
    }

    fn sent(&self, number: u64) {
        self.lock().gaps.sent(number);
    }

    fn is_empty(&self) -> bool {
        self.lock().gaps.is_empty()
    }
}

impl Settlement {
    /// What the last snapshot held.
    #[must_use]
    pub fn restored(kept: Kept, gaps: KeptGaps) -> Settlement {
        let mut inner = Inner { gaps: Outbox::restored(gaps.waiting, gaps.counters), ..Inner::default() };
        let entry = |row: StreamRow| {
            let head = row.evidence.head_len;
            Entry::new(row, head)
        };
        inner.streams.extend(kept.streams.into_iter().map(|(id, row)| (id, entry(row))));
        inner.books.extend(kept.ledgers.into_iter().map(|(name, ledger)| (name, Book { ledger, waiting: Count::default() })));
        inner.durable_heads.extend(kept.lanes.iter().map(|(topic, row)| (Arc::clone(topic), row.head)));
        inner.lanes.extend(kept.lanes);
        Settlement { inner: inner.into(), ..Settlement::default() }
    }

    /// What the last snapshot knew of each lane's spill.
    #[must_use]
    pub fn lanes(&self) -> Vec<(Arc<str>, LaneRow)> {
        self.lock().lanes.iter().map(|(topic, row)| (Arc::clone(topic), row.clone())).collect()
    }

    /// At the start: the spill of `topic` holds these records behind the snapshot, has lost what it should hold, by source, and stands as `row`
    /// says. What the records hold is settled; what lies between is delivered, or lost where a record in between is damaged.
    pub fn roll(&self, topic: &Arc<str>, row: LaneRow, runs: &[Rolled], lost: &[(Arc<str>, Count)]) {
        let mut inner = self.lock();
        for run in runs {
            let mut read = run.count;
            let known = inner.streams.get_mut(&run.stream);
            if let Some(between) = known.map(|entry| entry.roll(topic, (run.to, run.routed), run.before, run.count)) {
                inner.dirty.insert(run.stream);
                read += between;
                let fate = if run.behind_damage { Fate::Lost(Lost::SpillDamaged) } else { Fate::Delivered };
                inner.end(&run.source, between, fate, topic);
            }
            inner.book(&run.source).ledger.read += read;
        }
        for (source, count) in lost {
            inner.end(source, *count, Fate::Lost(Lost::SpillDamaged), topic);
        }
        inner.lane(topic, row);
    }

    /// The streams of a source.
    #[must_use]
    pub fn streams_of(&self, source: &str) -> Vec<(StreamId, StreamRow)> {
        let inner = self.lock();
        let of_source = inner.streams.iter().filter(|(_, entry)| &*entry.known().source == source);
        of_source.map(|(id, entry)| (*id, entry.to_row())).collect()
    }

    /// One stream as it is settled now, and how much of it is only in memory.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<(StreamRow, Count)> {
        let inner = self.lock();
        let entry = inner.streams.get(&id)?;
        Some((entry.to_row(), entry.pending()))
    }

    /// The streams that were first or last seen at `path`, newest position first.
    #[must_use]
    pub fn streams_at(&self, path: &[u8]) -> Vec<(StreamId, StreamRow)> {
        let inner = self.lock();
        let at = inner.streams.iter().filter(|(_, entry)| *entry.known().path == *path || *entry.known().first_path == *path);
        let mut rows: Vec<_> = at.map(|(id, entry)| (*id, entry.to_row())).collect();
        rows.sort_by_key(|(id, row)| (row.state != FileState::Live, std::cmp::Reverse(row.seen_s), *id));
        rows
    }

    /// How far a stream is settled: where it would be resumed now, and where after a crash.
    #[must_use]
    pub fn reached(&self, id: StreamId) -> (u64, u64) {
        let inner = self.lock();
        inner.streams.get(&id).map_or((0, 0), |entry| (entry.known().position.offset, entry.durable_at))
    }

    /// Bytes that are there and not settled, over all streams whose file is.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let inner = self.lock();
        let there = inner.streams.values().map(Entry::known).filter(|row| !matches!(row.state, FileState::Gone | FileState::Copy));
        there.map(|row| row.size.saturating_sub(row.position.offset)).sum()
    }

    /// Whether a source has run before on this state.
    #[must_use]
    pub fn knows_source(&self, source: &str) -> bool {
        self.lock().books.contains_key(source)
    }

    /// Notes that a source has run.
    pub fn note_source(&self, source: &Arc<str>) {
        self.lock().book(source);
    }

    /// The type of a source; of one that does not run, `file`.
    #[must_use]
    pub fn kind(&self, source: &str) -> &'static str {
        self.lock().kinds.get(source).copied().unwrap_or("file")
    }

    /// Notes the type of a source that is about to run, for its gaps.
    pub fn note_kind(&self, source: &Arc<str>, kind: &'static str) {
        self.lock().kinds.insert(Arc::clone(source), kind);
    }

    /// Takes what changed since the last call.
    #[must_use]
    pub fn changes(&self) -> Changes {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let streams = inner.dirty.drain().filter_map(|id| inner.streams.get(&id).map(|entry| (id, entry.to_row()))).collect();
        let lanes = inner.lanes_dirty.drain().filter_map(|topic| inner.lanes.get(&topic).cloned().map(|row| (topic, row))).collect();
        let ledger = |book: &Book| Ledger { read: book.ledger.read - book.waiting, ..book.ledger.clone() };
        let ledgers =
            inner.books_dirty.drain().filter_map(|name| inner.books.get(&name).map(ledger).map(|ledger| (name, ledger))).collect();
        let gaps = inner.gaps.changes();
        Changes { kept: Kept { streams, ledgers, lanes }, forgotten: std::mem::take(&mut inner.forgotten), gaps }
    }

    /// These changes are durable.
    pub fn committed(&self, changes: &Changes) {
        let mut inner = self.lock();
        for (id, row) in &changes.kept.streams {
            if let Some(entry) = inner.streams.get_mut(id) {
                entry.durable_head = row.evidence.head_len;
                entry.durable_at = row.position.offset;
            }
        }
        for (topic, row) in &changes.kept.lanes {
            inner.durable_heads.insert(Arc::clone(topic), row.head);
        }
        if inner.gaps.committed(&changes.gaps)
            && let Some(bell) = self.gap_bell.get()
        {
            bell.ring();
        }
    }

    /// Gives back changes that could not be written, so that the next snapshot has them.
    pub fn give_back(&self, changes: Changes) {
        let mut inner = self.lock();
        inner.dirty.extend(changes.kept.streams.iter().map(|(id, _)| *id));
        inner.books_dirty.extend(changes.kept.ledgers.into_iter().map(|(name, _)| name));
        inner.lanes_dirty.extend(changes.kept.lanes.into_iter().map(|(topic, _)| topic));
        inner.forgotten.extend(changes.forgotten);
        inner.gaps.give_back(&changes.gaps);
    }

    /// From now on `bell` calls for a snapshot, and new streams wait for one.
    pub fn kept_by(&self, bell: Arc<Bell>) {
        // A settlement has one keeper for its life.
        let _ = self.keeper.set(bell);
    }

    /// From now on `bell` is rung when there are gaps that may be sent.
    pub fn gaps_sent_by(&self, bell: Arc<Bell>) {
        // There is one sender.
        let _ = self.gap_bell.set(bell);
    }

    /// How many gaps wait, and how many were sent, over restarts.
    #[must_use]
    pub fn gaps(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.gaps.waiting().len(), inner.gaps.counters().sent)
    }

    /// The gaps that were noticed last, the newest first; a few.
    #[must_use]
    pub fn last_gaps(&self) -> Vec<Gap> {
        self.lock().gaps.last().iter().cloned().collect()
    }

    /// Whether snapshots can't be written: then more may be sent twice after a kill, but nothing stands still.
    pub fn keeper_fails(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Whether snapshots can be written.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    /// For each source of which something is on its way, since when the oldest of it is; what is in a spill is not among it.
    #[must_use]
    pub fn waits_since(&self) -> HashMap<Arc<str>, Instant> {
        let inner = self.lock();
        let mut since: HashMap<Arc<str>, Instant> = HashMap::new();
        for entry in inner.streams.values() {
            let Some(at) = entry.waits_since() else { continue };
            since.entry(Arc::clone(&entry.known().source)).and_modify(|oldest| *oldest = at.min(*oldest)).or_insert(at);
        }
        since
    }

    /// How many events each source has read, over restarts.
    #[must_use]
    pub fn reads(&self) -> Vec<(Arc<str>, u64)> {
        self.lock().books.iter().map(|(name, book)| (Arc::clone(name), book.ledger.read.events)).collect()
    }

    /// Whether a snapshot has the stream with a fingerprint of its file; calls for one if not.
    #[must_use]
    pub fn is_recognisable(&self, id: StreamId) -> bool {
        let Some(bell) = self.keeper.get().filter(|_| !self.failing.load(Ordering::Relaxed)) else { return true };
        let is = self.lock().streams.get(&id).is_none_or(|entry| entry.durable_head > 0);
        if !is {
            bell.ring();
        }
        is
    }

    /// Sums over all sources.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let mut totals = Totals::default();
        for book in inner.books.values() {
            totals.delivered += book.ledger.delivered;
            totals.waiting += book.waiting;
        }
        totals.spilled = inner.lanes.values().flat_map(|row| &row.pending).map(|(_, count)| *count).sum();
        totals
    }

    /// The books of every source, in order of their names.
    #[must_use]
    pub fn books(&self) -> Vec<(Arc<str>, Shown)> {
        let inner = self.lock();
        let spilled = |name: &Arc<str>| {
            inner.lanes.values().flat_map(|row| &row.pending).filter(|(source, _)| source == name).map(|(_, count)| *count).sum()
        };
        let shown =
            |name: &Arc<str>, book: &Book| Shown { ledger: book.ledger.clone(), pending: [book.waiting, spilled(name)].into_iter().sum() };
        let mut books: Vec<_> = inner.books.iter().map(|(name, book)| (Arc::clone(name), shown(name, book))).collect();
        books.sort_by(|left, right| left.0.cmp(&right.0));
        books
    }
}

//! What is settled: the one place that knows, per stream, how far its events have met their fate, and so where the stream is to be resumed after
//! a kill. Sources admit batches, lanes settle them, the snapshot takes what changed. Pure bookkeeping behind one lock, taken once per batch.

mod entry;
mod kept;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::batch::{Batch, Position, StreamId};
use crate::bell::Bell;
use crate::gaps::outbox::Outbox;
use crate::gaps::{self, Bound, Gap, Place};
use crate::ledger::{Amount, Count, Fate, Ledger, Lost, Missed};
use crate::rules::engine::Sifted;
use crate::snapshot::rows::{FileState, StreamRow};
use crate::spill::LaneRow;
use entry::{Entry, Share};
pub use kept::{Changes, Kept, KeptGaps};

/// The books of one source while logferry runs.
#[derive(Debug, Default)]
struct Book {
    ledger: Ledger,
    /// What was read and is not settled, for the stored books and for showing; the balance is checked with what is counted anew.
    waiting: Count,
}

#[derive(Debug, Default)]
struct Inner {
    streams: HashMap<StreamId, Entry>,
    books: HashMap<Arc<str>, Book>,
    lanes: HashMap<Arc<str>, LaneRow>,
    /// The head of each lane's spill in the last snapshot: what lies before it may be deleted.
    durable_heads: HashMap<Arc<str>, u64>,
    dirty: HashSet<StreamId>,
    books_dirty: HashSet<Arc<str>>,
    lanes_dirty: HashSet<Arc<str>>,
    forgotten: Vec<StreamId>,
    gaps: Outbox,
    /// The type of each source that runs, as in an event's `type`; of others it is not known any more.
    kinds: HashMap<Arc<str>, &'static str>,
    next_ticket: u64,
    /// For the test that the balance is checked, in debug builds alone: one increment of this term is left out.
    leaves_out: Option<String>,
}

/// Totals over all sources, for the progress line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acknowledged by Kafka, over restarts.
    pub delivered: Count,
    /// Read and not settled yet: only in memory, or in an arrival log.
    pub waiting: Count,
    /// In the spills.
    pub spilled: Count,
}

impl Totals {
    /// Read and not delivered.
    #[must_use]
    pub fn pending(&self) -> Count {
        [self.waiting, self.spilled].into_iter().sum()
    }
}

/// The books of one source, as they are shown.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The books.
    pub ledger: Ledger,
    /// Read and neither ended nor lost: in memory and in the spills.
    pub pending: Count,
}

/// Where something is missing.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The file or topic.
    pub place: &'a Place,
    /// The stream, if it concerns one.
    pub stream: Option<StreamId>,
    /// From where in it.
    pub from: Option<u64>,
    /// What else a person should know, a few words; may be empty.
    pub words: &'a str,
}

/// Where a stream is read again what was settled before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Began {
    /// What ends there or before is settled, for each lane that was asked for.
    pub settled: Vec<u64>,
    /// What ends there or before may have been sent, by other rules, and is sent again; 0: nothing.
    pub again_to: u64,
}

/// A stream that goes on elsewhere, nothing of it being on its way.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// Which.
    pub stream: StreamId,
    /// Where it goes on.
    pub to: Position,
    /// The size last seen, bytes.
    pub size: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Settlement {
    inner: Mutex<Inner>,
    /// Rung when a snapshot is wanted at once; without a keeper of snapshots nothing waits for one.
    keeper: OnceLock<Arc<Bell>>,
    /// Snapshots can't be written now: nothing waits for one.
    failing: AtomicBool,
    /// Rung when there are gaps that may be sent.
    gap_bell: OnceLock<Arc<Bell>>,
}

impl Settlement {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new stream in, or replaces what is known of one.
    pub fn put(&self, id: StreamId, row: StreamRow) {
        let mut inner = self.lock();
        inner.dirty.insert(id);
        match inner.streams.get_mut(&id) {
            Some(entry) => entry.change(|known| *known = row),
            None => drop(inner.streams.insert(id, Entry::new(row, 0))),
        }
    }

    /// Changes what is known of a stream, its resume position excepted, which moves by what is settled alone.
    pub fn update(&self, id: StreamId, change: impl FnOnce(&mut StreamRow)) {
        let mut inner = self.lock();
        let Some(entry) = inner.streams.get_mut(&id) else { return };
        entry.change(change);
        inner.dirty.insert(id);
    }

    /// The partition count that fixes a stream's partition in `topic`: the one at its first send, unless the topic has fewer by now.
    #[must_use]
    pub fn partition_count(&self, id: StreamId, topic: &Arc<str>, now: i32) -> i32 {
        let mut inner = self.lock();
        let Some(entry) = inner.streams.get_mut(&id) else { return now };
        let (count, new) = entry.partitions(topic, now);
        if new {
            inner.dirty.insert(id);
        }
        count
    }

    /// A batch is on its way: events from `base` to `to`, of a file whose size was last seen as `size`, so many for each lane. Its ticket, and
    /// what each lane had been given of the stream before, go into the batches. Nothing is admitted of a stream that is not known.
    pub fn admit(&self, id: StreamId, span: (u64, Position, u64), parts: &[(Arc<str>, Count)]) -> (u64, Vec<Count>) {
        self.admit_joined(id, span, parts, 0)
    }

    /// The same, `merged` events of the source having been joined into those that the batch has: they are read, and merged when the resume
    /// position passes the batch. Their bytes are counted with what they were joined to.
    pub fn admit_joined(
        &self,
        id: StreamId,
        (base, to, size): (u64, Position, u64),
        parts: &[(Arc<str>, Count)],
        merged: u64,
    ) -> (u64, Vec<Count>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.next_ticket += 1;
        let ticket = inner.next_ticket;
        let Some(entry) = inner.streams.get_mut(&id) else { return (ticket, vec![Count::default(); parts.len()]) };
        let before = entry.admit((ticket, Instant::now()), (base, to), parts, merged);
        entry.change(|row| row.size = size);
        inner.dirty.insert(id);
        let joined = Count { events: merged, bytes: 0 };
        let count = entry.take_unread(parts.iter().map(|(_, count)| *count).chain([joined]).sum());
        inner.read(id, count);
        (ticket, before)
    }

    /// So much is safe in the arrival log that a stream is, and counts as read: it is pending there until it is admitted.
    pub fn arrived(&self, id: StreamId, count: Count) {
        let mut inner = self.lock();
        let Some(entry) = inner.streams.get_mut(&id) else { return };
        entry.arrived(count);
        inner.read(id, count);
    }

    /// An arrival log has been read to its end: what was counted in it and was not there any more is taken back. Returns how much that is.
    pub fn read_whole(&self, id: StreamId) -> Count {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(entry) = inner.streams.get_mut(&id) else { return Count::default() };
        let gone = entry.read_whole();
        let source = Arc::clone(&entry.known().source);
        let book = inner.book(&source);
        (book.ledger.read, book.waiting) = (book.ledger.read - gone, book.waiting - gone);
        gone
    }

    /// Moves a stream's resume position over bytes that hold no event for anyone: behind what is on its way, at once if nothing is.
    pub fn pass(&self, id: StreamId, to: Position, size: u64) {
        self.pass_joined(id, to, size, 0);
    }

    /// The same over events that are settled already, into which `merged` others were joined.
    pub fn pass_joined(&self, id: StreamId, to: Position, size: u64, merged: u64) {
        self.admit_joined(id, (to.offset, to, size), &[], merged);
        let mut inner = self.lock();
        if let Some(entry) = inner.streams.get_mut(&id) {
            entry.move_on();
            inner.book_passed(id);
        }
    }

    /// Up to where these lanes had settled events of a stream when this run began: what is read again of them is not sent again. From now on the
    /// rules of the number `routed` give them their shares.
    pub fn began(&self, id: StreamId, topics: &[Arc<str>], routed: u64) -> Began {
        let mut inner = self.lock();
        let Some(entry) = inner.streams.get_mut(&id) else { return Began { settled: vec![0; topics.len()], again_to: 0 } };
        let changes = entry.known().routed != routed;
        let again_to = entry.route_by(routed);
        let settled = topics.iter().map(|topic| entry.began(topic)).collect();
        if changes {
            inner.dirty.insert(id);
        }
        Began { settled, again_to }
    }

    /// Whether rules had given lanes their shares of some stream of this source.
    #[must_use]
    pub fn was_routed(&self, source: &str) -> bool {
        self.lock().streams.values().map(Entry::known).any(|row| row.routed != 0 && *row.source == *source)
    }

    /// What became of the events of a batch that was admitted with this ticket for the lane of `topic`, before that lane gets the rest; with
    /// `all` nothing is left for it. What rules have left out is booked when the resume position passes the batch, so that what will be read
    /// again is not in the stored books.
    ///
    /// `others` is what goes another way than the batch: to which topic, where it begins in the stream, and what it counts. Returned is for each the
    /// number of its part of the batch, and what its lane had been given of the stream before.
    pub fn sift(&self, (id, ticket): (StreamId, u64), topic: &Arc<str>, sifted: Sifted, others: &[Share], all: bool) -> Vec<(u32, Count)> {
        let mut inner = self.lock();
        let (known, again) = (inner.streams.get_mut(&id), sifted.again);
        let sifted = known.and_then(|entry| Some((entry.sift(ticket, topic, sifted, others)?, Arc::clone(&entry.known().source))));
        let Some(((twice, before), source)) = sifted else { return vec![(u32::MAX, Count::default()); others.len()] };
        let book = inner.book(&source);
        (book.waiting, book.ledger.read) = (book.waiting - twice, book.ledger.read - twice);
        book.ledger.resent += again;
        if all {
            inner.settle(id, (ticket, 0), topic, None, Fate::Filtered);
        }
        before
    }

    /// Offsets of a stream beyond its position count otherwise from now on, as under another filter: what was settled there hides nothing that gets
    /// such an offset.
    pub fn unmark(&self, id: StreamId) {
        let mut inner = self.lock();
        let Some(entry) = inner.streams.get_mut(&id) else { return };
        entry.unmark();
        inner.dirty.insert(id);
    }

    /// Where something of a source is on its way in memory alone: the topics. Without any, all its streams stand where they were read to.
    #[must_use]
    pub fn on_its_way(&self, source: &str) -> HashSet<Arc<str>> {
        let inner = self.lock();
        let streams = inner.streams.values().filter(|entry| !entry.waiting.is_empty() && *entry.known().source == *source);
        streams.flat_map(Entry::unsettled).collect()
    }

    /// Whether nothing is on its way to a topic, in memory or on disk.
    #[must_use]
    pub fn is_done_with(&self, topic: &str) -> bool {
        let inner = self.lock();
        let spilled = inner.lanes.get(topic).is_some_and(|row| !row.pending.is_empty());
        !spilled && !inner.streams.values().filter(|entry| !entry.waiting.is_empty()).flat_map(Entry::unsettled).any(|lane| *lane == *topic)
    }

    /// Whether nothing of a stream is on its way: its position is where it was read to.
    #[must_use]
    pub fn is_idle(&self, id: StreamId) -> bool {
        self.lock().streams.get(&id).is_none_or(|entry| entry.waiting.is_empty())
    }

    /// The events of `batch` before `prefix` have met their fate, which those that were settled before keep.
    pub fn settled(&self, batch: &Batch, prefix: usize, fate: Fate) {
        let Some(last) = prefix.checked_sub(1).and_then(|index| batch.events.get(index)) else { return };
        let upto = (prefix < batch.events.len()).then(|| (batch.count(0..prefix), batch.base + u64::from(last.to)));
        self.lock().settle(batch.stream.id, (batch.ticket, batch.part), &batch.stream.topic, upto, fate);
    }

    /// Kafka has acknowledged the events of `batch` before `prefix`.
    pub fn acknowledged(&self, batch: &Batch, prefix: usize) {
        self.settled(batch, prefix, Fate::Delivered);
    }

    /// What was left of these parts of batches (stream, ticket, part) is durable in the spill of `topic`, which now stands as `row` says.
    pub fn spilled(&self, topic: &Arc<str>, row: LaneRow, parts: &[(StreamId, u64, u32)]) {
        let mut inner = self.lock();
        for (id, ticket, part) in parts {
            inner.settle(*id, (*ticket, *part), topic, None, Fate::Spilled);
        }
        inner.lane(topic, row);
    }

    /// What the spill of `topic` held has met its fate, by source; it now stands as `row` says.
    pub fn spill_ended(&self, topic: &Arc<str>, row: LaneRow, ended: &[(Arc<str>, Count)], fate: Fate) {
        let mut inner = self.lock();
        for (source, count) in ended {
            inner.end(source, *count, fate, topic);
        }
        inner.lane(topic, row);
    }

    /// Events handed to Kafka once more.
    pub fn resent(&self, source: &Arc<str>, count: Count) {
        let mut inner = self.lock();
        inner.book(source).ledger.resent += count;
    }

    /// So many events have left the dead letters of `topic`: they were sent again, or discarded.
    pub fn left_letters(&self, source: &Arc<str>, topic: &str, events: u64, fate: Fate) {
        let mut inner = self.lock();
        let count = inner.book(source).ledger.take_letters(events);
        inner.end(source, count, fate, topic);
    }

    /// The head of a lane's spill as the last snapshot has it: nothing before it is needed any more.
    #[must_use]
    pub fn durable_head(&self, topic: &str) -> u64 {
        self.lock().durable_heads.get(topic).copied().unwrap_or(0)
    }

    /// Events or bytes of a stream that were never read.
    pub fn missed(&self, source: &Arc<str>, reason: Missed, amount: Amount, at: &At<'_>) {
        self.missed_behind(source, reason, (amount, false), at, &[]);
    }

    /// The same, perhaps an upper limit; streams that are idle go on behind it, so that no snapshot has the one without the other.
    pub fn missed_behind(&self, source: &Arc<str>, reason: Missed, (amount, at_most): (Amount, bool), at: &At<'_>, passed: &[Passed]) {
        let mut inner = self.lock();
        *inner.book(source).ledger.missed.entry(reason).or_default() += amount;
        if reason.is_gap() {
            let Amount { events, bytes, unknown } = amount;
            let bound = match (reason.is_at_least(), at_most) {
                (true, _) => Bound::AtLeast,
                (false, true) => Bound::AtMost,
                (false, false) => Bound::Exact,
            };
            inner.gap(source, reason.word(), gaps::Amount { events, bytes, unknown, bound }, at);
        }
        for Passed { stream, to, size } in passed {
            inner.next_ticket += 1;
            let ticket = inner.next_ticket;
            if let Some(entry) = inner.streams.get_mut(stream) {
                entry.admit((ticket, Instant::now()), (to.offset, *to), &[], 0);
                entry.change(|row| row.size = *size);
                entry.move_on();
                inner.dirty.insert(*stream);
                inner.book_passed(*stream);
            }
        }
    }

    /// A source has read nothing for `silence`, which is longer than it may be: a record of type `quiet` says so. It is no loss, and in no books.
    pub fn silent(&self, source: &Arc<str>, silence: Duration, words: &str) {
        let place = Place::Named(format!("source {source}").into());
        let at = At { place: &place, stream: None, from: None, words };
        self.lock().gap_of(source, gaps::QUIET, gaps::Amount::default(), &at, silence);
    }

    /// A file was read that may repeat what was read already.
    pub fn possible_duplicate(&self, source: &Arc<str>) {
        self.lock().book(source).ledger.possible_duplicates += 1;
    }

    /// Removes a stream from the state; refused (false) while something of it is on its way.
    pub fn forget(&self, id: StreamId) -> bool {
        let mut inner = self.lock();
        if inner.streams.get(&id).is_some_and(|entry| !entry.waiting.is_empty()) {
            return false;
        }
        inner.streams.remove(&id);
        inner.dirty.remove(&id);
        inner.forgotten.push(id);
        true
    }

    /// Calls for a snapshot at once.
    pub fn hurry(&self) {
        if let Some(bell) = self.keeper.get().filter(|_| !self.failing.load(Ordering::Relaxed)) {
            bell.ring();
        }
    }

    /// What is wrong with the books, by source; empty if they balance. What is pending is counted anew, where it is.
    #[must_use]
    pub fn imbalances(&self) -> Vec<(Arc<str>, String)> {
        let inner = self.lock();
        let mut pending: HashMap<&str, Count> = HashMap::new();
        for entry in inner.streams.values().filter(|entry| entry.is_pending()) {
            *pending.entry(&entry.known().source).or_default() += entry.pending();
        }
        for (source, count) in inner.lanes.values().flat_map(|row| &row.pending) {
            *pending.entry(source).or_default() += *count;
        }
        let of = |name: &str| pending.get(name).copied().unwrap_or_default();
        let wrong = |(name, book): (&Arc<str>, &Book)| Some((Arc::clone(name), book.ledger.imbalance(of(name))?));
        inner.books.iter().filter_map(wrong).collect()
    }

    /// For the test that the balance is checked: from now on one increment of `term` is left out. Does nothing in release builds.
    pub fn leave_out(&self, term: &str) {
        if cfg!(debug_assertions) {
            self.lock().leaves_out = Some(term.to_owned());
        }
    }
}

impl Inner {
    /// The books of a source, to be changed.
    fn book(&mut self, source: &Arc<str>) -> &mut Book {
        if !self.books_dirty.contains(source) {
            self.books_dirty.insert(Arc::clone(source));
        }
        self.books.entry(Arc::clone(source)).or_default()
    }

    /// Books what was read of a stream.
    fn read(&mut self, id: StreamId, count: Count) {
        let Some(entry) = self.streams.get(&id).filter(|_| count != Count::default()) else { return };
        let source = Arc::clone(&entry.known().source);
        let left_out = self.leave_out("read");
        let book = self.book(&source);
        book.waiting += count;
        if !left_out {
            book.ledger.read += count;
        }
    }

    fn settle(&mut self, id: StreamId, part: (u64, u32), topic: &str, upto: Option<(Count, u64)>, fate: Fate) {
        let Some(entry) = self.streams.get_mut(&id) else { return };
        let booked = entry.settle(part, upto, fate);
        let source = Arc::clone(&entry.known().source);
        self.dirty.insert(id);
        for (fate, count) in booked.into_iter().filter(|(_, count)| *count != Count::default()) {
            let book = self.book(&source);
            book.waiting = book.waiting - count;
            self.end(&source, count, fate, topic);
        }
        self.book_passed(id);
    }

    /// Books what rules have left out, and what was joined into others, of what the resume position has just passed.
    fn book_passed(&mut self, id: StreamId) {
        let Some(entry) = self.streams.get_mut(&id).filter(|entry| !entry.passed.is_empty() || entry.merged > 0) else { return };
        let (passed, source) = (std::mem::take(&mut entry.passed), Arc::clone(&entry.known().source));
        let merged = Count { events: std::mem::take(&mut entry.merged), bytes: 0 };
        if merged.events > 0 {
            self.end(&source, merged, Fate::Merged, "");
            let book = self.book(&source);
            book.waiting = book.waiting - merged;
        }
        for Sifted { filtered, by_rule, limited, .. } in passed {
            self.end(&source, filtered, Fate::Filtered, "");
            let book = self.book(&source);
            book.waiting = book.waiting - filtered;
            for (rule, count) in by_rule {
                *book.ledger.filtered_by.entry(rule).or_default() += count;
            }
            for (place, count) in limited {
                let amount = gaps::Amount { events: count.events, bytes: count.bytes, ..gaps::Amount::default() };
                self.gap(&source, gaps::LIMITED, amount, &At { place: &Place::Named(place), stream: None, from: None, words: "" });
            }
        }
    }

    /// Books the fate of events that were on their way to this topic; where they are lost, a gap says so.
    fn end(&mut self, source: &Arc<str>, count: Count, fate: Fate, topic: &str) {
        if let Fate::Lost(reason) = fate
            && count != Count::default()
        {
            let amount = gaps::Amount { events: count.events, bytes: count.bytes, ..gaps::Amount::default() };
            self.gap(source, reason.word(), amount, &At { place: &Place::Topic(topic.into()), stream: None, from: None, words: "" });
        }
        let term = match fate {
            Fate::Delivered => "delivered",
            Fate::Filtered => "filtered",
            Fate::Merged => "merged",
            Fate::DeadLettered => "dead_lettered",
            Fate::Lost(_) => "lost",
            Fate::Spilled => "",
        };
        if !self.leave_out(term) {
            self.book(source).ledger.book(fate, count);
        }
    }

    fn lane(&mut self, topic: &Arc<str>, mut row: LaneRow) {
        if self.leave_out("pending") {
            row.pending.clear();
        }
        self.lanes_dirty.insert(Arc::clone(topic));
        self.lanes.insert(Arc::clone(topic), row);
    }

    fn gap(&mut self, source: &Arc<str>, reason: &str, amount: gaps::Amount, at: &At<'_>) {
        self.gap_of(source, reason, amount, at, Duration::ZERO);
    }

    /// A gap that began so long ago.
    fn gap_of(&mut self, source: &Arc<str>, reason: &str, amount: gaps::Amount, at: &At<'_>, age: Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let now_ns = now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0);
        self.gaps.add(Gap {
            number: 0,
            source: Arc::clone(source),
            of: self.kinds.get(source).copied().unwrap_or("file").into(),
            reason: reason.into(),
            place: at.place.clone(),
            stream: at.stream,
            from: at.from,
            to: at.from.filter(|_| amount.events == 0 && amount.unknown == 0).map(|from| from + amount.bytes),
            amount,
            first_ns: now_ns.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)),
            last_ns: now_ns,
            words: at.words.into(),
        });
    }

    fn leave_out(&mut self, term: &str) -> bool {
        self.leaves_out.take_if(|left_out| left_out == term).is_some()
    }
}

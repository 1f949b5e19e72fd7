//! When a lane uses its spill: what is unsettled for `spill.after` is copied to disk, what comes behind it is written as it comes, and all of it is
//! read back in order when Kafka takes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Lane;
use crate::batch::{Batch, Place, StreamId};
use crate::kafka::producer::Producer;
use crate::lane::{Condition, SpillView};
use crate::ledger::{Count, Fate, Lost};
use crate::settlement::Settlement;
use crate::spill::{Loaded, Piece, Recovered, Settings, Spill, SpillError};

/// A record takes about so many bytes of messages: enough to compress well, few enough to be read back in one go.
const RECORD: usize = 1 << 20;
/// How soon a disk that is full or broken is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// With memory full, the spill is used when nothing was acknowledged for so long.
const SHORT: Duration = Duration::from_secs(1);
/// The same while Kafka has not even told the topic's partitions: longer than a cluster in reach takes to answer.
const UNANSWERED: Duration = Duration::from_millis(250);
/// How often memory is looked at once that time has passed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often what is shown of the spill is brought up to date.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// Encoded records that may wait to be durable, bytes; they are kept in memory until then. At the limit they are made durable early.
const UNSYNCED: usize = 3 << 20;

/// A lane's spill, and how it is used just now.
#[derive(Debug)]
pub(super) struct Spilling {
    pub(super) log: Spill,
    /// What becomes settled with the next sync. Bounded by [`UNSYNCED`].
    tickets: Vec<(StreamId, u64, u32)>,
    /// When the first record was written that is not durable.
    written: Option<Instant>,
    /// All goes to disk until something is acknowledged after this: Kafka takes too little.
    on: Option<Instant>,
    pub(super) retry_at: Instant,
    shown: Instant,
    /// Why nothing can be written; said once.
    full: Option<&'static str>,
    /// The last head that old segments were deleted for.
    released: u64,
}

impl Spilling {
    pub(super) fn new(log: Spill, now: Instant) -> Spilling {
        Spilling { log, tickets: Vec::new(), written: None, on: None, retry_at: now, shown: now, full: None, released: 0 }
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.written.is_some()
    }

    /// Whether what comes has to be written behind what is on disk already.
    fn is_behind(&self) -> bool {
        self.on.is_some() || self.log.unread() > 0 || self.is_unsynced()
    }

    /// Whether it keeps the lane from resting.
    pub(super) fn has_work(&self) -> bool {
        self.is_behind() || self.log.has_segments()
    }

    /// How many fresh bytes are worth waking up for (`None`: it doesn't matter here), and when something is to be done.
    pub(super) fn next(&self, settings: &Settings, oldest_fresh: Option<Instant>) -> (Option<usize>, Option<Instant>) {
        if !self.is_behind() {
            return (None, None);
        }
        let due = [oldest_fresh, self.written].into_iter().flatten().min().map(|since| (since + settings.sync).max(self.retry_at));
        (Some(RECORD / 2), due)
    }
}

/// At the start: what the spill holds is pending; what it should hold and does not is lost, and said.
pub(super) fn take_in(topic: &Arc<str>, settlement: &Settlement, log: &Spill, recovered: Recovered) {
    if recovered.torn_bytes > 0 {
        tracing::info!(%topic, bytes = recovered.torn_bytes, "the spill's end was not written whole when logferry was killed: it is cut, and read again from its source");
    }
    for (source, count, words) in &recovered.lost {
        say_lost(topic, source, *count, words);
    }
    let lost: Vec<_> = recovered.lost.into_iter().map(|(source, count, _)| (source, count)).collect();
    settlement.roll(topic, log.row(), &recovered.rolled, &lost);
    if !log.is_empty() {
        let pending = log.pending_total();
        tracing::info!(%topic, events = pending.events, bytes = log.bytes(), "the spill holds events from before; they go out first");
    }
}

fn say_lost(topic: &Arc<str>, source: &Arc<str>, count: Count, words: &str) {
    tracing::error!(%topic, %source, events = count.events, bytes = count.bytes, "lost: {words}");
}

impl Lane {
    /// Everything that concerns the spill in one round. `closing`: nothing more comes.
    pub(super) fn spill(&mut self, closing: bool) {
        let now = Instant::now();
        self.release();
        if self.spilling.on.is_some_and(|on| self.moved > on && self.proven && self.spilling.log.unread() == 0) {
            self.spilling.on = None;
        }
        let after = self.shared.spill.after;
        // Over the budget: memory that Kafka does not empty is not waited for.
        let budget = &self.shared.budget;
        let short = self.patience_ends().is_some_and(|at| at <= now) && !budget.has_room(budget.limit() / 4);
        let after = if short { Duration::ZERO } else { after };
        if now >= self.spilling.retry_at && self.first_uncopied().is_some_and(|since| since + after <= now) && self.copy() {
            self.spilling.on = Some(now);
            tracing::debug!(topic = %self.topic, "events wait for longer than spill.after: the spill is used");
        }
        // Kafka takes nothing: what is queued need not wait in memory.
        if self.spilling.on.is_some_and(|on| self.moved <= on || self.count.is_none()) {
            self.park();
        }
        if self.spilling.is_behind() {
            self.write(now, closing);
            self.sync(now, closing);
        }
        if !self.spilling.is_behind() {
            self.queue.extend(self.fresh.drain(..).map(|batch| (batch, 0)));
        }
        if now.saturating_duration_since(self.spilling.shown) >= SHOW_EVERY && self.spilling.has_work() {
            self.spilling.shown = now;
            self.show_spill();
        }
    }

    /// When it has lasted for so long that Kafka takes nothing of what is queued that memory may not be full as well.
    fn patience_ends(&self) -> Option<Instant> {
        let patience = if self.count.is_none() { UNANSWERED } else { SHORT };
        (!self.queue.is_empty()).then(|| self.moved + patience)
    }

    /// When what has no copy is to be copied at the latest, or memory to be looked at because it may have to be copied before.
    pub(super) fn copy_due(&self, now: Instant) -> Option<Instant> {
        let overdue = self.first_uncopied()? + self.shared.spill.after;
        let look = self.patience_ends().map(|at| if at > now { at } else { now + LOOK_EVERY });
        Some(look.map_or(overdue, |look| look.min(overdue)).max(self.spilling.retry_at))
    }

    pub(super) fn show_spill(&self) {
        let log = &self.spilling.log;
        let pending = log.pending_total();
        let (bytes, records, oldest_ns) = (log.bytes(), log.records(), log.oldest_ns());
        self.inbox.set_spill(SpillView { bytes, records, pending, oldest_ns, full: self.spilling.full });
    }

    /// Since when the oldest event in flight or queued waits that has no copy.
    pub(super) fn first_uncopied(&self) -> Option<Instant> {
        let flights = self.producer.as_ref().and_then(|producer| producer.waiting().find(|batch| batch.copy.is_none()));
        let first = flights.or_else(|| self.queue.iter().map(|(batch, _)| batch).find(|batch| batch.copy.is_none()));
        first.map(|batch| batch.since)
    }

    pub(super) fn is_copied(&self) -> bool {
        self.first_uncopied().is_none()
    }

    /// Copies all that is in flight or queued and has no copy, oldest first, and makes it durable. Returns whether all of it has one now.
    pub(super) fn copy(&mut self) -> bool {
        let now = Instant::now();
        // What was written before is to be settled first.
        if self.spilling.is_unsynced() && !self.sync(now, true) {
            return false;
        }
        let mut producer = self.producer.take();
        if let Some(producer) = &mut producer {
            self.book(producer);
        }
        let flights = producer.iter_mut().flat_map(Producer::in_flight);
        let queued = self.queue.iter_mut().map(|(batch, first)| (batch, *first));
        let mut bare: Vec<(&mut Batch, usize)> = flights.chain(queued).filter(|(batch, _)| batch.copy.is_none()).collect();
        let mut places: Vec<Place> = Vec::with_capacity(bare.len());
        let mut outcome = Ok(());
        while places.len() < bare.len() && outcome.is_ok() {
            let rest = bare.get(places.len()..).unwrap_or_default();
            let group = record_of(rest.iter().map(|(batch, first)| Piece { batch, first: *first, held: true }));
            match self.spilling.log.append(&group) {
                Ok(written) if written.is_empty() => break,
                Ok(written) => places.extend(written),
                Err(error) => outcome = Err(error),
            }
        }
        let synced = if places.is_empty() { Ok(()) } else { self.spilling.log.sync() };
        if let Err(error) = synced {
            self.spilling.log.cancel();
            places.clear();
            outcome = Err(error);
        }
        let mut tickets = Vec::with_capacity(places.len());
        for ((batch, _), place) in bare.iter_mut().zip(&places) {
            batch.copy = Some(*place);
            tickets.push((batch.stream.id, batch.ticket, batch.part));
        }
        let all = places.len() == bare.len();
        self.producer = producer;
        if !tickets.is_empty() {
            self.shared.settlement.spilled(&self.topic, self.spilling.log.row(), &tickets);
        }
        self.written_or_not(outcome);
        all
    }

    /// Frees what is queued and has a copy; it is read back later.
    fn park(&mut self) {
        if self.is_copied() {
            for place in self.queue.drain(..).filter_map(|(batch, _)| batch.copy) {
                self.spilling.log.let_go(&place);
            }
        }
    }

    /// Writes what has come behind what is on disk.
    fn write(&mut self, now: Instant, closing: bool) {
        while now >= self.spilling.retry_at {
            let group = record_of(self.fresh.iter().map(|batch| Piece { batch, first: 0, held: false }));
            let bytes: usize = group.iter().map(|piece| piece.batch.bytes.len()).sum();
            let due = closing || group.first().is_some_and(|piece| piece.batch.since + self.shared.spill.sync <= now);
            if group.is_empty() || (bytes < RECORD / 2 && !due) {
                return;
            }
            let outcome = self.spilling.log.append(&group).map(|_| group.len());
            let written = outcome.as_ref().copied().unwrap_or(0);
            for batch in self.fresh.drain(..written) {
                self.spilling.tickets.push((batch.stream.id, batch.ticket, batch.part));
                self.shared.pool.give_block(batch.bytes);
                self.shared.pool.give_events(batch.events);
            }
            if written > 0 {
                self.spilling.written.get_or_insert(now);
                self.busy = true;
            }
            self.written_or_not(outcome.map(drop));
            if self.spilling.log.unsynced_bytes() > UNSYNCED && !self.sync(now, true) {
                return;
            }
        }
    }

    /// Makes durable what was written, when that is due, or when the reader waits for it. Returns whether nothing is left to do.
    fn sync(&mut self, now: Instant, early: bool) -> bool {
        let Some(since) = self.spilling.written else { return true };
        let starved = self.queue.is_empty() && self.count.is_some() && matches!(self.spilling.log.next_cost(), Ok(None));
        if !early && !starved && since + self.shared.spill.sync > now {
            return false;
        }
        let outcome = self.spilling.log.sync();
        let done = outcome.is_ok();
        if done {
            self.spilling.written = None;
            let tickets = std::mem::take(&mut self.spilling.tickets);
            self.shared.settlement.spilled(&self.topic, self.spilling.log.row(), &tickets);
        }
        self.written_or_not(outcome);
        done
    }

    /// Says once that nothing can be written, and once that it can again.
    fn written_or_not(&mut self, outcome: Result<(), SpillError>) {
        let topic = &self.topic;
        match outcome {
            Ok(()) if self.spilling.full.take().is_some() => tracing::info!(%topic, "the spill can be written again"),
            Ok(()) => {}
            Err(error) => {
                self.spilling.retry_at = Instant::now() + TRY_AGAIN;
                let word = error.word();
                if self.spilling.full.replace(word) != Some(word) {
                    tracing::error!(%topic, reason = word, "the spill can't be written: {error}. Nothing is lost: what is not in it waits in memory and in its source");
                }
            }
        }
    }

    /// Deletes what no snapshot needs any more.
    fn release(&mut self) {
        if !self.spilling.log.has_segments() {
            return;
        }
        let head = self.shared.settlement.durable_head(&self.topic);
        if head > self.spilling.released || (self.spilling.log.is_empty() && self.in_flight() == 0) {
            self.spilling.released = head;
            self.spilling.log.release(head);
        }
        // Whoever waits for room waits for a snapshot as well.
        if self.spilling.full.is_some() && self.spilling.log.row().head > head {
            self.shared.settlement.hurry();
        }
    }

    /// Reads the next record into the queue; false when there is nothing to read now.
    pub(super) fn read_record(&mut self) -> bool {
        match self.spilling.log.read(&self.shared.budget) {
            Ok(Loaded::Record(batches)) => {
                self.queue.extend(batches);
                true
            }
            Ok(Loaded::Damaged(damaged)) => {
                let lost = damaged.lost;
                for (source, count) in &lost {
                    say_lost(&self.topic, source, *count, &damaged.words);
                }
                self.shared.settlement.spill_ended(&self.topic, self.spilling.log.row(), &lost, Fate::Lost(Lost::SpillDamaged));
                true
            }
            Ok(Loaded::Nothing) => false,
            Err(error) => {
                self.retry_at = Instant::now() + self.retry.wait();
                let words = format!("the spill can't be read: {error}; it is tried again");
                if self.inbox.set_condition(Condition::Blocked { reason: "spill_unreadable", words: words.clone() }) {
                    tracing::error!(topic = %self.topic, "{words}");
                }
                false
            }
        }
    }

    /// Drops all that waits, for an operator; returns what that was, by source.
    pub(super) fn discard(&mut self) -> Vec<(Arc<str>, Count)> {
        self.close();
        let mut gone: Vec<(Arc<str>, Count)> = Vec::new();
        let fresh = self.fresh.drain(..).map(|batch| (batch, 0));
        for (batch, first) in self.queue.drain(..).chain(fresh).filter(|(batch, _)| batch.copy.is_none()) {
            gone.push((Arc::clone(&batch.stream.source), batch.count_from(first)));
            self.shared.settlement.settled(&batch, batch.events.len(), Fate::Lost(Lost::Operator));
        }
        if self.spilling.is_unsynced() {
            self.sync(Instant::now(), true);
        }
        let dropped = self.spilling.log.discard();
        self.shared.settlement.spill_ended(&self.topic, self.spilling.log.row(), &dropped, Fate::Lost(Lost::Operator));
        gone.extend(dropped);
        (self.careful, self.stuck) = (None, None);
        gone
    }
}

/// As many of these as make a record; one at least.
fn record_of<'a>(pieces: impl Iterator<Item = Piece<'a>>) -> Vec<Piece<'a>> {
    let mut bytes = 0;
    pieces
        .take_while(|piece| {
            let first = bytes == 0;
            bytes += piece.batch.bytes.len().max(1);
            first || bytes <= RECORD
        })
        .collect()
}

//! One stream in the settlement: what is on its way, how far each lane that it feeds has come, and where it is to be resumed. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::batch::Position;
use crate::ledger::{Count, Fate};
use crate::rules::engine::Sifted;
use crate::snapshot::rows::{FeedRow, MIXED, StreamRow};

/// What of a batch goes the same way: for one lane, and with one key.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) topic: Arc<str>,
    /// All its events.
    pub(super) count: Count,
    /// Those whose fate is known.
    done: Count,
    /// How much of `done` is in the books and has moved the lane's mark.
    passed: Count,
    /// The fates of the rest of `done`, in their order.
    fates: Vec<(Fate, Count)>,
    /// Where its first event begins in the stream, or before that.
    from: u64,
    /// Where the last event of `done` ends in the stream.
    upto: u64,
    pub(super) settled: bool,
}

impl Part {
    fn new(topic: Arc<str>, count: Count, from: u64) -> Part {
        let (done, passed) = <(Count, Count)>::default();
        Part { topic, count, done, passed, fates: Vec::new(), from, upto: from, settled: false }
    }

    /// What of it is not in the books yet.
    pub(super) fn left(&self) -> Count {
        self.count - self.passed
    }
}

/// A batch that is on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    ticket: u64,
    /// When it was admitted.
    since: Instant,
    to: Position,
    /// What of it was not counted as read before it was admitted.
    fresh: Count,
    pub(super) parts: Vec<Part>,
    /// What rules have made of it; what they have left out is booked when the resume position passes it.
    sifted: Sifted,
    /// How many events of the source were joined into others of it; booked likewise.
    merged: u64,
}

/// What goes another way than the rest of its batch: to which topic, where it begins in the stream, and what it counts.
pub(super) type Share = (Arc<str>, u64, Count);

impl Waiting {
    fn is_settled(&self) -> bool {
        self.parts.iter().all(|part| part.settled)
    }
}

/// How far one lane has come in the stream.
#[derive(Debug)]
struct Feed {
    row: FeedRow,
    /// All that was admitted for it, what was settled before included.
    admitted: Count,
    /// How many batches at the front are settled in it.
    cursor: usize,
    /// What is newly in the books of the lane; to be taken by who moved it.
    booked: Vec<(Fate, Count)>,
    /// Its mark at the start of this run.
    began: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its feeds are kept in [`Entry::feeds`] while it is here, and put into the row for the snapshot.
    row: StreamRow,
    feeds: Vec<Feed>,
    /// What is safe in an arrival log and not admitted yet: read, and pending.
    unread: Count,
    /// In order of admission. Bounded by the byte budget: each holds a charge until it is settled.
    pub(super) waiting: VecDeque<Waiting>,
    /// How much of the file's head the fingerprint covers that the last snapshot has; 0 without a snapshot.
    pub(super) durable_head: u16,
    /// The offset of its position in the last snapshot.
    pub(super) durable_at: u64,
    /// What rules have left out of batches that the position has passed; to be taken and booked by who moved it.
    pub(super) passed: Vec<Sifted>,
    /// How many events of those batches were joined into others; likewise.
    pub(super) merged: u64,
}

impl Entry {
    /// A stream as a row has it; `durable_head` says how much of a head a snapshot has.
    pub(super) fn new(mut row: StreamRow, durable_head: u16) -> Entry {
        let feeds = std::mem::take(&mut row.feeds)
            .into_iter()
            .map(|row| Feed { admitted: row.settled, began: row.mark, row, cursor: 0, booked: Vec::new() })
            .collect();
        let durable_at = row.position.offset;
        Entry { row, feeds, unread: Count::default(), waiting: VecDeque::new(), durable_head, durable_at, passed: Vec::new(), merged: 0 }
    }

    /// What is known of the stream, without its feeds.
    pub(super) fn known(&self) -> &StreamRow {
        &self.row
    }

    /// The whole row.
    pub(super) fn to_row(&self) -> StreamRow {
        let routed = if self.waiting.iter().any(|waiting| waiting.sifted.routed != self.row.routed) { MIXED } else { self.row.routed };
        StreamRow { feeds: self.feeds.iter().map(|feed| feed.row.clone()).collect(), routed, ..self.row.clone() }
    }

    /// Changes the row, its position, its feeds and the number of its rules excepted, which move by what is settled alone.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut StreamRow)) {
        let (position, routed) = (self.row.position, self.row.routed);
        change(&mut self.row);
        (self.row.position, self.row.routed) = (position, routed);
        self.row.feeds.clear();
    }

    /// How far this lane has come, to be changed.
    #[expect(clippy::indexing_slicing, reason = "a position that was just found, or the last one")]
    fn feed(&mut self, topic: &Arc<str>) -> &mut Feed {
        let at = self.feeds.iter().position(|feed| feed.row.topic == *topic).unwrap_or_else(|| {
            let row = FeedRow { topic: Arc::clone(topic), ..FeedRow::default() };
            self.feeds.push(Feed { row, admitted: Count::default(), cursor: 0, booked: Vec::new(), began: 0 });
            self.feeds.len() - 1
        });
        &mut self.feeds[at]
    }

    /// The partition count at the first send, set to `now` if there was none or the topic has fewer by now. Returns it and whether it is new.
    pub(super) fn partitions(&mut self, topic: &Arc<str>, now: i32) -> (i32, bool) {
        let row = &mut self.feed(topic).row;
        let new = row.partitions == 0 || row.partitions > now;
        if new {
            row.partitions = now;
        }
        (row.partitions, new)
    }

    /// A batch from `base` to `to` is on its way; `merged` events more were joined into those that it has. Returns for each lane what it had been
    /// given before.
    pub(super) fn admit(
        &mut self,
        (ticket, since): (u64, Instant),
        (base, to): (u64, Position),
        parts: &[(Arc<str>, Count)],
        merged: u64,
    ) -> Vec<Count> {
        let mut before = Vec::with_capacity(parts.len());
        let mut waiting = Vec::with_capacity(parts.len());
        for (topic, count) in parts {
            let feed = self.feed(topic);
            before.push(feed.admitted);
            feed.admitted += *count;
            let topic = Arc::clone(&feed.row.topic);
            waiting.push(Part::new(topic, *count, base));
        }
        let (sifted, fresh) = (Sifted { routed: self.row.routed, ..Sifted::default() }, Count::default());
        self.waiting.push_back(Waiting { ticket, since, to, parts: waiting, sifted, merged, fresh });
        before
    }

    /// A part of a batch is settled, whole or up to `upto` = (what that counts, stream offset). Returns what is newly in the books: what is settled
    /// without a break from the front, so that after a kill nothing is counted that will be read again.
    pub(super) fn settle(&mut self, (ticket, part): (u64, u32), upto: Option<(Count, u64)>, fate: Fate) -> Vec<(Fate, Count)> {
        // Tickets grow, so a search by halves finds one.
        let Ok(at) = self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket) else { return Vec::new() };
        let Some(waiting) = self.waiting.get_mut(at) else { return Vec::new() };
        let end = waiting.to.offset;
        let Some(part) = waiting.parts.get_mut(part as usize).filter(|part| !part.settled) else { return Vec::new() };
        let before = part.done;
        match upto {
            None => (part.done, part.upto, part.settled) = (part.count, end, true),
            Some((done, offset)) => (part.done, part.upto) = (done, offset),
        }
        let fresh = part.done - before;
        match part.fates.last_mut().filter(|(last, _)| *last == fate) {
            Some((_, count)) => *count += fresh,
            None => part.fates.push((fate, fresh)),
        }
        let topic = Arc::clone(&part.topic);
        self.advance(&topic);
        self.move_on();
        self.feeds.iter_mut().find(|feed| feed.row.topic == topic).map(|feed| std::mem::take(&mut feed.booked)).unwrap_or_default()
    }

    /// Moves the resume position over all at the front that is settled in every lane.
    pub(super) fn move_on(&mut self) {
        while self.waiting.front().is_some_and(Waiting::is_settled) {
            let Some(done) = self.waiting.pop_front() else { break };
            self.row.position = done.to;
            if done.sifted.filtered != Count::default() {
                self.passed.push(done.sifted);
            }
            self.merged += done.merged;
            self.feeds.iter_mut().for_each(|feed| feed.cursor = feed.cursor.saturating_sub(1));
        }
    }

    /// Moves a lane's mark over what is settled in it without a break.
    fn advance(&mut self, topic: &str) {
        let Some(feed) = self.feeds.iter_mut().find(|feed| &*feed.row.topic == topic) else { return };
        while let Some(waiting) = self.waiting.get_mut(feed.cursor) {
            // A batch that has nothing for this lane holds it up no more than one that is settled.
            let mut upto = None;
            for part in waiting.parts.iter_mut().filter(|part| &*part.topic == topic) {
                let fresh = part.done - part.passed;
                feed.row.settled += fresh;
                part.passed = part.done;
                feed.booked.append(&mut part.fates);
                upto = Some(part.upto);
                if !part.settled {
                    break;
                }
            }
            // Events of several keys lie between each other: before the first that is not settled all are.
            let open = waiting.parts.iter().filter(|part| &*part.topic == topic && !part.settled);
            let (mut is_open, mut first) = (false, u64::MAX);
            for part in open {
                (is_open, first) = (true, first.min(part.from.max(if part.passed == Count::default() { 0 } else { part.upto })));
            }
            if let Some(upto) = upto {
                feed.row.mark = feed.row.mark.max(upto.min(first));
            }
            if is_open {
                break;
            }
            feed.cursor += 1;
        }
    }

    /// What was settled beyond the position will be sent again: offsets from here on count otherwise.
    pub(super) fn unmark(&mut self) {
        let at = self.row.position.offset;
        for feed in &mut self.feeds {
            (feed.row.mark, feed.began) = (feed.row.mark.min(at), 0);
        }
    }

    /// Rules of this number give lanes their shares from now on. Where others did, what they gave beyond the position hides nothing any more.
    /// Returns up to where that is read again in this run: 0 if nothing is.
    pub(super) fn route_by(&mut self, routed: u64) -> u64 {
        if self.row.routed == routed {
            return 0;
        }
        self.row.routed = routed;
        let again = self.feeds.iter().map(|feed| feed.began).max().unwrap_or(0);
        self.unmark();
        if again > self.row.position.offset { again } else { 0 }
    }

    /// A spill's record behind the last snapshot holds events up to `to`, before which this lane had been given `before`, by the rules of the number
    /// `routed`: they are settled. Returns what lies between this and what was known to be settled.
    pub(super) fn roll(&mut self, topic: &Arc<str>, (to, routed): (u64, u64), before: Count, count: Count) -> Count {
        if self.row.routed != routed {
            let marked = self.feeds.iter().any(|feed| feed.row.mark > self.row.position.offset);
            self.row.routed = if marked { MIXED } else { routed };
        }
        let feed = self.feed(topic);
        let between = before - feed.row.settled;
        let mut settled = before;
        settled += count;
        (feed.row.settled, feed.admitted) = (settled, settled);
        feed.row.mark = feed.row.mark.max(to);
        feed.began = feed.row.mark;
        between
    }

    /// So much has come into its arrival log.
    pub(super) fn arrived(&mut self, count: Count) {
        self.unread += count;
    }

    /// Takes so much, which has just been admitted, out of what is unread; what of it is not counted as read yet.
    pub(super) fn take_unread(&mut self, count: Count) -> Count {
        let known = least(count, self.unread);
        self.unread = self.unread - known;
        let fresh = count - known;
        if let Some(last) = self.waiting.back_mut() {
            last.fresh = fresh;
        }
        fresh
    }

    /// All of the arrival log has been read; what was counted in it and was not there.
    pub(super) fn read_whole(&mut self) -> Count {
        std::mem::take(&mut self.unread)
    }

    /// Up to where this lane had settled events when this run began; says something only beyond the position.
    pub(super) fn began(&self, topic: &str) -> u64 {
        self.feeds.iter().find(|feed| &*feed.row.topic == topic).map_or(0, |feed| feed.began)
    }

    /// Of the batch with this ticket, rules have left some out or given it to other lanes, and some was settled before this run: its lane gets the
    /// rest. Returns what of the skipped was counted as read for the second time (what was not is still to be read), and for each of the others the
    /// number of its part, and what its lane had been given before; `None` if the batch is not known.
    pub(super) fn sift(&mut self, ticket: u64, topic: &Arc<str>, sifted: Sifted, others: &[Share]) -> Option<(Count, Vec<(u32, Count)>)> {
        let skipped = sifted.skipped;
        let at = self.waiting.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok()?;
        let waiting = self.waiting.get_mut(at)?;
        let part = waiting.parts.iter_mut().find(|part| part.topic == *topic)?;
        let elsewhere = others.iter().map(|(.., count)| *count);
        let gone: Count = elsewhere.chain([skipped, sifted.filtered]).sum();
        part.count = part.count - gone;
        waiting.sifted = sifted;
        let twice = least(skipped, waiting.fresh);
        let first = u32::try_from(waiting.parts.len()).unwrap_or(u32::MAX);
        waiting.parts.extend(others.iter().map(|(topic, from, count)| Part::new(Arc::clone(topic), *count, *from)));
        let feed = self.feed(topic);
        feed.admitted = feed.admitted - gone;
        let mut others_had = Vec::with_capacity(others.len());
        for (part, (topic, _, count)) in (first..).zip(others) {
            let feed = self.feed(topic);
            others_had.push((part, feed.admitted));
            feed.admitted += *count;
            // Before this the batch had nothing for the lane, which may have gone past it.
            feed.cursor = feed.cursor.min(at);
        }
        self.unread += skipped - twice;
        Some((twice, others_had))
    }

    /// The first part of a ticket for this lane that is not settled.
    #[cfg(test)]
    pub(super) fn part_of(&self, ticket: u64, topic: &str) -> u32 {
        let waiting = self.waiting.iter().find(|waiting| waiting.ticket == ticket);
        let at = waiting.and_then(|waiting| waiting.parts.iter().position(|part| &*part.topic == topic && !part.settled));
        at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX)
    }

    /// When the oldest of what is on its way was admitted.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.since)
    }

    /// What is on its way and not settled, or unread, counted where it is.
    pub(super) fn pending(&self) -> Count {
        let parts = self.waiting.iter().flat_map(|waiting| &waiting.parts).map(Part::left);
        let gone = self.waiting.iter().flat_map(|waiting| [waiting.sifted.filtered, Count { events: waiting.merged, bytes: 0 }]);
        parts.chain(gone).chain([self.unread]).sum()
    }

    /// The lanes that have something of it that is not settled.
    pub(super) fn unsettled(&self) -> impl Iterator<Item = Arc<str>> {
        self.waiting.iter().flat_map(|waiting| &waiting.parts).filter(|part| !part.settled).map(|part| Arc::clone(&part.topic))
    }

    /// Whether [`Entry::pending`] has anything to count.
    pub(super) fn is_pending(&self) -> bool {
        !self.waiting.is_empty() || self.unread != Count::default()
    }
}

/// The lesser of both, events and bytes each.
fn least(one: Count, other: Count) -> Count {
    Count { events: one.events.min(other.events), bytes: one.bytes.min(other.bytes) }
}

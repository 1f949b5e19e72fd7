//! The gaps that wait to be sent. Pure bookkeeping, kept behind the settlement's lock so that a gap and the position that hides its loss are
//! written in one transaction.
//!
//! A gap takes in its like while it waits: same source, type, reason, place and stream. That ends when it is *closed*, and only a gap is sent of which a
//! snapshot has that it is closed. So whatever is sent under a number, also again after a kill, is the same; nothing is told twice under two numbers;
//! and what was sent never grows. The way of a gap:
//!
//! ```text
//! add ─▶ open, merges ─▶ changes(): closed, if the sender wants some ─▶ committed(): may be taken ─▶ take() ─▶ sent() ─▶ gone with the next snapshot
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::last::Last;
use super::{Gap, Place};
use crate::batch::StreamId;

/// The most gaps that wait, each with a place of its own. Beyond, further ones are told per source, type and reason, with the place
/// [`Place::Several`]: amounts and times stay right, only the places are no longer told one by one.
pub const MOST: usize = 10_000;
/// The most gaps that are closed and not sent yet; the others go on merging while the sender waits for Kafka.
pub const HANDED: usize = 100;

/// What a state keeps beside its gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The number of the next gap; numbers are never used again.
    pub next: u64,
    /// Gaps up to this number change no more.
    pub closed: u64,
    /// Gaps that were acknowledged, over restarts.
    pub sent: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { next: 1, closed: 0, sent: 0 }
    }
}

/// What a snapshot writes: what changed since the last one.
#[derive(Debug, Default)]
pub struct Changes {
    /// Gaps by number; `None` removes one.
    pub gaps: Vec<(u64, Option<Gap>)>,
    /// The counters, if they moved.
    pub counters: Option<Counters>,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gaps.is_empty() && self.counters.is_none()
    }
}

/// By what gaps are merged.
type Like = (Arc<str>, Arc<str>, Arc<str>, Place, Option<StreamId>);

fn like(gap: &Gap) -> Like {
    (Arc::clone(&gap.source), Arc::clone(&gap.of), Arc::clone(&gap.reason), gap.place.clone(), gap.stream)
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    waiting: BTreeMap<u64, Gap>,
    /// The open gap of each kind.
    open: HashMap<Like, u64>,
    counters: Counters,
    /// What the last snapshot has of `counters.closed`: gaps up to this number may be sent.
    sendable: u64,
    /// The sender has nothing to send.
    wanted: bool,
    changed: BTreeSet<u64>,
    counted: bool,
    last: Last,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::restored(Vec::new(), Counters::default())
    }
}

impl Outbox {
    /// What the last snapshot held.
    #[must_use]
    pub fn restored(gaps: Vec<Gap>, mut counters: Counters) -> Outbox {
        let waiting: BTreeMap<u64, Gap> = gaps.into_iter().map(|gap| (gap.number, gap)).collect();
        counters.next = waiting.keys().next_back().map_or(1, |last| last.saturating_add(1)).max(counters.next);
        let open = waiting.values().filter(|gap| gap.number > counters.closed).map(|gap| (like(gap), gap.number)).collect();
        Outbox {
            waiting,
            open,
            counters,
            sendable: counters.closed,
            wanted: true,
            changed: BTreeSet::new(),
            counted: false,
            last: Last::default(),
        }
    }

    /// Takes a gap in, merged with its like where that still can be. Returns the number under which it is told.
    pub fn add(&mut self, mut gap: Gap) -> u64 {
        self.last.note(&gap);
        let mut kind = like(&gap);
        if !self.open.contains_key(&kind) && self.waiting.len() >= MOST {
            (gap.place, gap.stream, gap.from, gap.to, gap.words) = (Place::Several, None, None, None, "".into());
            kind = like(&gap);
        }
        if let Some(number) = self.open.get(&kind).copied()
            && let Some(waiting) = self.waiting.get_mut(&number)
        {
            waiting.merge(&gap);
            self.changed.insert(number);
            return number;
        }
        let number = self.counters.next;
        gap.number = number;
        self.counters.next += 1;
        self.counted = true;
        self.open.insert(kind, number);
        self.waiting.insert(number, gap);
        self.changed.insert(number);
        number
    }

    /// Those that were noticed last, the newest first; sent ones too.
    #[must_use]
    pub fn last(&self) -> &Last {
        &self.last
    }

    /// The gaps that may be sent, in order of their numbers, at most [`HANDED`]; they stay until [`Outbox::sent`]. Where there are none, the next
    /// snapshot closes some: then [`Outbox::committed`] says so.
    pub fn take(&mut self) -> Vec<Gap> {
        let gaps: Vec<Gap> = self.waiting.range(..=self.sendable).map(|(_, gap)| gap.clone()).collect();
        self.wanted = gaps.is_empty();
        gaps
    }

    /// Kafka has acknowledged this gap. If the process is killed before the next snapshot, it is sent again under the same number.
    pub fn sent(&mut self, number: u64) {
        if self.waiting.remove(&number).is_some() {
            self.changed.insert(number);
            self.counters.sent += 1;
            self.counted = true;
        }
    }

    /// Takes what changed since the last call, and closes gaps if the sender wants some.
    #[must_use]
    pub fn changes(&mut self) -> Changes {
        if self.wanted {
            self.close();
        }
        let changed = std::mem::take(&mut self.changed);
        let gaps = changed.into_iter().map(|number| (number, self.waiting.get(&number).cloned())).collect();
        Changes { gaps, counters: std::mem::take(&mut self.counted).then_some(self.counters) }
    }

    fn close(&mut self) {
        let Some(last) = self.waiting.keys().nth(HANDED - 1).or(self.waiting.keys().next_back()).copied() else { return };
        self.wanted = false;
        if last <= self.counters.closed {
            return;
        }
        for gap in self.waiting.range(self.counters.closed + 1..=last).map(|(_, gap)| gap) {
            self.open.remove(&like(gap));
        }
        self.counters.closed = last;
        self.counted = true;
    }

    /// These changes are durable. Returns whether there is something new to take: then the sender is to be woken.
    pub fn committed(&mut self, changes: &Changes) -> bool {
        let closed = changes.counters.map_or(0, |counters| counters.closed);
        let more = closed > self.sendable;
        self.sendable = self.sendable.max(closed);
        more
    }

    /// Gives back changes that could not be written, so that the next snapshot has them.
    pub fn give_back(&mut self, changes: &Changes) {
        self.changed.extend(changes.gaps.iter().map(|(number, _)| *number));
        self.counted |= changes.counters.is_some();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The gaps that wait, in order of their numbers.
    #[must_use]
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Gap> {
        self.waiting.values()
    }

    /// The counters as they are now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

#[cfg(test)]
mod tests;

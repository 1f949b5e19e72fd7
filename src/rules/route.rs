//! Which lane gets an event, and a batch of finished messages by lanes. Apart because here alone an event leaves its source's topic. Pure.
//!
//! Lane 0 is the source's own topic, lane `n` the topic `n - 1` of those that rules name. After [`own_their_bytes`] each event counts from where it
//! begins to where the next one does, so that what several lanes are given of a stretch is together what was read.

use std::collections::HashMap;
use std::sync::Arc;

use super::stamp::Class;
use super::template::Template;
use super::when::Look;
use crate::batch::{Batch, Origin, Stream};
use crate::encode::{LineStarts, charge_for};
use crate::ledger::Count;

/// Where a rule sends events.
#[derive(Clone, Debug)]
pub struct Route {
    /// What makes the topic's name.
    pub topic: Template,
    /// The topics that it may make; of any other, the event stays where it was going.
    pub topics: Vec<Arc<str>>,
}

impl Route {
    /// The topic for this event, as a number in [`Route::topics`]; `None` if a field is missing, or what comes out is none of them.
    #[must_use]
    pub fn choose(&self, look: &Look<'_>, name: &mut Vec<u8>) -> Option<usize> {
        name.clear();
        if !self.topic.fill(look, name) {
            return None;
        }
        self.topics.iter().position(|topic| topic.as_bytes() == name.as_slice())
    }
}

/// Lets each event count all up to the next one, and the last one all up to the end of the batch.
pub fn own_their_bytes(batch: &mut Batch) {
    let mut next = u32::try_from(batch.to.offset.saturating_sub(batch.base)).unwrap_or(u32::MAX);
    for event in batch.events.iter_mut().rev() {
        event.to = next.max(event.to);
        next = event.from;
    }
}

/// What of a batch goes the same way: to one lane, with the same key and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The lane.
    pub lane: u16,
    /// What its events have in common around their values, a number of the engine's classes.
    pub class: u16,
    /// Where its first event begins in the stream.
    pub from: u64,
    /// What its events count.
    pub count: Count,
    /// Which of the batch's events it has.
    pub events: Vec<u32>,
}

/// Entries that are found without hashing.
const NEAR: usize = 16;

/// Where each event of a batch goes: its lane, and its class.
pub type Way = (u16, u16);

/// The shares of a batch, in the order of their first events, and what is left with the batch itself: events of lane 0 and class 0. `key_of` says
/// by a number which classes have the same key: for those the order of events is kept, so a share ends where another class comes between.
#[must_use]
pub fn shares(batch: &Batch, ways: &[Way], key_of: impl Fn(u16) -> u16) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut last: HashMap<(u16, u16), usize> = HashMap::new();
    // A few of its entries, so that most events are sorted without hashing.
    let mut near = [((0, 0), usize::MAX); NEAR];
    for (at, (lane, class)) in ways.iter().enumerate() {
        if (*lane, *class) == (0, 0) {
            continue;
        }
        let which = (*lane, key_of(*class));
        let place = (usize::from(which.0) + usize::from(which.1)) % NEAR;
        let found = near.get(place).filter(|(known, _)| *known == which).map(|(_, share)| *share).or_else(|| last.get(&which).copied());
        let open = found.filter(|share| shares.get(*share).is_some_and(|share| share.class == *class));
        let index = open.unwrap_or_else(|| {
            let from = batch.base + batch.events.get(at).map_or(0, |event| u64::from(event.from));
            shares.push(Share { lane: *lane, class: *class, from, count: Count::default(), events: Vec::new() });
            last.insert(which, shares.len() - 1);
            shares.len() - 1
        });
        if let Some(near) = near.get_mut(place) {
            *near = (which, index);
        }
        if let Some(share) = shares.get_mut(index) {
            share.count += batch.count(at..at + 1);
            share.events.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
    }
    shares
}

/// A share of a batch of finished messages, in a batch of its own: for this topic, with what its events have in common; `part` and `before` are what
/// the settlement says of it.
#[must_use]
pub fn take(batch: &Batch, share: &Share, topic: &Arc<str>, class: Class, (part, before): (u32, Count)) -> Batch {
    let chosen = || share.events.iter().filter_map(|at| batch.events.get(*at as usize));
    let mut bytes = Vec::with_capacity(chosen().map(|event| event.len as usize).sum());
    let mut events = Vec::with_capacity(share.events.len());
    for event in chosen() {
        events.push(event.moved(u32::try_from(bytes.len()).unwrap_or(u32::MAX), event.len));
        bytes.extend_from_slice(batch.event_bytes(event));
    }
    let first = share.events.first().map_or(0, |at| *at as usize);
    let mut starts = LineStarts::of(batch);
    let line_start = batch.events.iter().take(first + 1).map(|event| starts.next(event)).last().unwrap_or(batch.line_start);
    let Stream { id, source, key, .. } = &*batch.stream;
    let (key, headers) = (class.key.unwrap_or_else(|| key.clone()), class.headers);
    let stream = Stream { id: *id, source: Arc::clone(source), key, headers, origin: Origin::Finished, topic: Arc::clone(topic) };
    let charge = batch.charge.another(charge_for(bytes.capacity(), events.len()));
    Batch {
        stream: Arc::new(stream),
        bytes,
        events,
        extras: Vec::new(),
        base: batch.base,
        line_start,
        to: batch.to,
        observed_ns: batch.observed_ns,
        ticket: batch.ticket,
        part,
        since: batch.since,
        before,
        copy: None,
        part_headers: batch.part_headers,
        routed: batch.routed,
        charge,
    }
}

/// Takes out of the batch what is in shares.
pub fn keep_rest(batch: &mut Batch, ways: &[Way]) {
    let (mut starts, mut line_start, mut at) = (LineStarts::of(batch), None, 0);
    let mut events = std::mem::take(&mut batch.events);
    events.retain(|event| {
        let (line, own) = (starts.next(event), ways.get(at).is_none_or(|way| *way == (0, 0)));
        at += 1;
        if own {
            line_start.get_or_insert(line);
        }
        own
    });
    batch.events = events;
    batch.line_start = line_start.unwrap_or(batch.line_start);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Event, Position, StreamId};
    use crate::budget::Budget;
    use proptest::prelude::*;
    use std::time::Instant;

    /// Events of these lengths, each with a byte behind it, the messages being their numbers; between two of them lies so much of no event.
    fn batch(lengths: &[(u8, u8)], parts: bool) -> Batch {
        let (mut events, mut bytes, mut at) = (Vec::new(), Vec::new(), 0_u32);
        for (index, (len, hole)) in lengths.iter().enumerate() {
            at += u32::from(*hole);
            let to = at + u32::from(*len) + 1;
            let start = u32::try_from(bytes.len()).unwrap();
            bytes.extend_from_slice(index.to_string().as_bytes());
            let event = Event::whole(start, u32::try_from(bytes.len()).unwrap() - start, at, to);
            events.push(if parts { event.as_part(u32::try_from(index).unwrap() + 1, index + 1 == lengths.len()) } else { event });
            at = to;
        }
        let to = 500 + u64::from(at) + 3;
        let stream = Stream {
            id: StreamId(1),
            source: "s".into(),
            key: (*b"k").into(),
            headers: vec![],
            origin: Origin::Finished,
            topic: "own".into(),
        };
        Batch {
            stream: Arc::new(stream),
            bytes,
            events,
            extras: Vec::new(),
            base: 500,
            line_start: 500,
            to: Position { offset: to, line_start: to, ..Position::START },
            observed_ns: 7,
            ticket: 9,
            part: 0,
            since: Instant::now(),
            before: Count::default(),
            copy: None,
            part_headers: parts,
            routed: 5,
            charge: Budget::new(1 << 20).charge(0),
        }
    }

    proptest! {
        #[test]
        fn what_the_lanes_get_is_together_what_there_was(lengths in prop::collection::vec((0..9_u8, 0..3_u8), 1..12), ways in prop::collection::vec((0..3_u16, 0..4_u16), 12), parts: bool) {
            let mut whole = batch(&lengths, parts);
            own_their_bytes(&mut whole);
            let front = u64::from(whole.events[0].from);
            let all = whole.count_from(0);
            prop_assert_eq!(all.bytes + front, whole.to.offset - whole.base);
            let ways = &ways[..whole.events.len()];
            // Classes 0 and 1 have one key, 2 and 3 another.
            let key_of = |class: u16| class / 2;
            let shares = shares(&whole, ways, key_of);
            let number = |batch: &Batch, event: &Event| String::from_utf8(batch.event_bytes(event).to_vec()).unwrap().parse::<usize>().unwrap();
            let (mut sum, mut seen) = (Count::default(), Vec::new());
            for (part, share) in (1..).zip(&shares) {
                let class = Class { key: Some((*b"k").into()), headers: vec![] };
                let taken = take(&whole, share, &"t".into(), class, (part, Count { events: 1, bytes: 2 }));
                prop_assert_eq!(taken.count_from(0), share.count);
                prop_assert_eq!((&*taken.stream.topic, taken.ticket, taken.part, taken.routed, &*taken.stream.key), ("t", 9, part, 5, b"k".as_slice()));
                prop_assert_eq!(taken.base + u64::from(taken.events[0].from), share.from);
                for event in &taken.events {
                    let at = number(&taken, event);
                    prop_assert_eq!((ways[at], event.to), ((share.lane, share.class), whole.events[at].to));
                    seen.push((share.lane, key_of(share.class), at));
                }
                sum += taken.count_from(0);
            }
            // In each lane, what has one key keeps its order over all shares.
            for (lane, key) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
                let of: Vec<usize> = seen.iter().filter(|(of, k, _)| (*of, *k) == (lane, key)).map(|(.., at)| *at).collect();
                prop_assert!(of.is_sorted(), "{:?}", of);
            }
            keep_rest(&mut whole, ways);
            sum += whole.count_from(0);
            seen.extend(whole.events.iter().map(|event| (0, 0, number(&whole, event))));
            seen.sort_by_key(|(.., at)| *at);
            prop_assert!(seen.iter().map(|(.., at)| *at).eq(0..ways.len()));
            prop_assert_eq!(sum, all);
        }
    }
}

//! Which lane gets an event, and a batch of finished messages by lanes. Apart because here alone an event leaves its source's topic. Pure.
//!
//! Lane 0 is the source's own topic, lane `n` the topic `n - 1` of those that rules name. After [`own_their_bytes`] each event counts from where it
//! begins to where the next one does, so that what several lanes are given of a stretch is together what was read.

use std::sync::Arc;

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

/// What each lane from 1 on gets of a batch, `lanes` being the lane of each of its events.
#[must_use]
pub fn shares(batch: &Batch, lanes: &[u16], topics: usize) -> Vec<Count> {
    let mut shares = vec![Count::default(); topics];
    for (at, lane) in lanes.iter().enumerate() {
        if let Some(share) = usize::from(*lane).checked_sub(1).and_then(|lane| shares.get_mut(lane)) {
            *share += batch.count(at..at + 1);
        }
    }
    shares
}

/// Splits a batch of finished messages: what goes to other lanes leaves it. `topics` are those from lane 1 on; with each comes what its lane was
/// given of the stream before. The batch itself may have no events in the end.
pub fn split(batch: &mut Batch, lanes: &[u16], topics: &[(Arc<str>, Count)]) -> Vec<(usize, Batch)> {
    let mut out = Vec::new();
    if lanes.iter().all(|lane| *lane == 0) {
        return out;
    }
    for (at, (topic, before)) in topics.iter().enumerate() {
        let is_there = |lane: &u16| usize::from(*lane) == at + 1;
        if lanes.iter().any(is_there) {
            out.push((at, part(batch, lanes, is_there, topic, *before)));
        }
    }
    let (mut starts, mut line_start, mut at) = (LineStarts::of(batch), None, 0);
    let mut events = std::mem::take(&mut batch.events);
    events.retain(|event| {
        let (line, own) = (starts.next(event), lanes.get(at).is_none_or(|lane| *lane == 0));
        at += 1;
        if own {
            line_start.get_or_insert(line);
        }
        own
    });
    batch.events = events;
    batch.line_start = line_start.unwrap_or(batch.line_start);
    out
}

/// Those of its events that are there, in a batch of their own.
fn part(batch: &Batch, lanes: &[u16], is_there: impl Fn(&u16) -> bool, topic: &Arc<str>, before: Count) -> Batch {
    let chosen = || batch.events.iter().zip(lanes).filter(|(_, lane)| is_there(lane)).map(|(event, _)| event);
    let mut bytes = Vec::with_capacity(chosen().map(|event| event.len as usize).sum());
    let (mut events, mut starts, mut line_start) = (Vec::with_capacity(chosen().count()), LineStarts::of(batch), None);
    for (event, lane) in batch.events.iter().zip(lanes) {
        let line = starts.next(event);
        if is_there(lane) {
            line_start.get_or_insert(line);
            events.push(event.moved(u32::try_from(bytes.len()).unwrap_or(u32::MAX), event.len));
            bytes.extend_from_slice(batch.event_bytes(event));
        }
    }
    let Stream { id, source, key, .. } = &*batch.stream;
    let stream = Stream { id: *id, source: Arc::clone(source), key: key.clone(), origin: Origin::Finished, topic: Arc::clone(topic) };
    let charge = batch.charge.another(charge_for(bytes.capacity(), events.len()));
    Batch {
        stream: Arc::new(stream),
        bytes,
        events,
        extras: Vec::new(),
        base: batch.base,
        line_start: line_start.unwrap_or(batch.line_start),
        to: batch.to,
        observed_ns: batch.observed_ns,
        ticket: batch.ticket,
        since: batch.since,
        before,
        copy: None,
        part_headers: batch.part_headers,
        routed: batch.routed,
        charge,
    }
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
        let stream = Stream { id: StreamId(1), source: "s".into(), key: (*b"k").into(), origin: Origin::Finished, topic: "own".into() };
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
        fn what_the_lanes_get_is_together_what_there_was(lengths in prop::collection::vec((0..9_u8, 0..3_u8), 1..12), lanes in prop::collection::vec(0..4_u16, 12), parts: bool) {
            let mut whole = batch(&lengths, parts);
            own_their_bytes(&mut whole);
            let front = u64::from(whole.events[0].from);
            let all = whole.count_from(0);
            prop_assert_eq!(all.bytes + front, whole.to.offset - whole.base);
            let lanes = &lanes[..whole.events.len()];
            let given = shares(&whole, lanes, 3);
            let topics: Vec<(Arc<str>, Count)> = ["a", "b", "c"].map(|topic| (topic.into(), Count { events: 1, bytes: 2 })).into();
            let expected: Vec<(u16, u64, String)> = whole.events.iter().zip(lanes).map(|(event, lane)| {
                (*lane, whole.base + u64::from(event.to), String::from_utf8(whole.event_bytes(event).to_vec()).unwrap())
            }).collect();
            let split = split(&mut whole, lanes, &topics);
            let mut sum = whole.count_from(0);
            for (at, part) in &split {
                prop_assert_eq!(part.count_from(0), given[*at]);
                prop_assert_eq!((&part.stream.topic, part.ticket, part.before, part.routed), (&topics[*at].0, 9, topics[*at].1, 5));
                sum += part.count_from(0);
            }
            prop_assert_eq!(sum, all);
            for lane in 0..4 {
                let part = if lane == 0 { Some(&whole) } else { split.iter().find(|(at, _)| at + 1 == usize::from(lane)).map(|(_, part)| part) };
                let got = part.into_iter().flat_map(|part| part.events.iter().map(|event| {
                    (lane, part.base + u64::from(event.to), String::from_utf8(part.event_bytes(event).to_vec()).unwrap())
                }));
                prop_assert_eq!(got.collect::<Vec<_>>(), expected.iter().filter(|(of, ..)| *of == lane).cloned().collect::<Vec<_>>());
            }
        }
    }
}

//! What flows through logferry: a [`Batch`] of consecutive events of one [`Stream`], in one arena of bytes, with the [`Position`]s before and
//! after it. Apart because every stage handles batches and none owns them. Pure: no I/O, no clock.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::budget::Charge;
use crate::ledger::Count;
use crate::source::syslog::intake::Transport;

/// How many bytes before an offset are kept to recognise a file by.
pub const TAIL: usize = 64;

/// The minted identity of a stream, unique on this host for ever (random, 64 bits). Printed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Headers of Kafka messages: names and values, in order.
pub type Headers = Vec<(Arc<str>, Box<[u8]>)>;

/// An ordered, resumable origin inside a source, as the stages after the source need to know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its minted id.
    pub id: StreamId,
    /// The name of the `[[source]]` it belongs to.
    pub source: Arc<str>,
    /// The key of its Kafka messages; for a file `host:` and the path under which it was first seen. Empty: they have none.
    pub key: Box<[u8]>,
    /// The headers of its Kafka messages, beside those of parts.
    pub headers: Headers,
    /// What its events are before they are encoded.
    pub origin: Origin,
    /// The topic that its source names.
    pub topic: Arc<str>,
}

/// What the events of a stream are before they are encoded.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// Lines of a file; with the path under which it was first seen, shipped as `path`.
    File(Box<[u8]>),
    /// Messages of a syslog source's arrival log, each with the log's header in front of it; all of one sender.
    Arrivals {
        /// Who sent them, as seen.
        peer: Box<str>,
        /// How they came.
        transport: Transport,
    },
    /// Finished messages: what a source has rendered itself, or what was read back from a spill.
    Finished,
}

impl Stream {
    /// For a file, the path under which it was first seen; else empty.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        match &self.origin {
            Origin::File(path) => path,
            Origin::Arrivals { .. } | Origin::Finished => &[],
        }
    }
}

/// The last bytes (at most [`TAIL`]) before an offset: evidence that a file still is what it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    len: u8,
    bytes: [u8; TAIL],
}

impl Tail {
    /// No bytes: the tail at offset 0.
    pub const EMPTY: Tail = Tail { len: 0, bytes: [0; TAIL] };

    /// The tail after `bytes` have followed this one.
    #[must_use]
    pub fn after(&self, bytes: &[u8]) -> Tail {
        let fresh = bytes.len().min(TAIL);
        let old = self.as_bytes();
        let all = old.iter().chain(bytes.iter().skip(bytes.len() - fresh));
        let len = (old.len() + fresh).min(TAIL);
        let mut tail = Tail { len: u8::try_from(len).unwrap_or(0), bytes: [0; TAIL] };
        for (to, from) in tail.bytes.iter_mut().zip(all.skip(old.len() + fresh - len)) {
            *to = *from;
        }
        tail
    }

    /// The bytes, oldest first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tail({:?})", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// Where a file is to be resumed, and the evidence that it is still the same file there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes from the start of the file: all before it has been read.
    pub offset: u64,
    /// Where the line begins that `offset` lies in; equal to `offset` between lines.
    pub line_start: u64,
    /// How many parts of that line have been made; 0 between lines.
    pub part: u32,
    /// CRC-32C of the bytes from the start of the file (or from where reading began) to `offset`.
    pub hash: u32,
    /// The bytes before `offset`.
    pub tail: Tail,
}

impl Position {
    /// The start of a file.
    pub const START: Position = Position { offset: 0, line_start: 0, part: 0, hash: 0, tail: Tail::EMPTY };
}

/// One event of a batch: a span of the batch's bytes, and where in its stream it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// First byte in [`Batch::bytes`].
    pub start: u32,
    /// Length in [`Batch::bytes`], bytes.
    pub len: u32,
    /// Where the event's source bytes begin in the stream, relative to [`Batch::base`].
    pub from: u32,
    /// Where they end, its line end included, relative to [`Batch::base`]. Grows strictly within a batch.
    pub to: u32,
    /// 0 for a whole event, else the number of the part, from 1, in the low bits; see [`Event::part`].
    form: u32,
}

const LAST: u32 = 1 << 31;
const PARTIAL: u32 = 1 << 30;

impl Event {
    /// A whole event.
    #[must_use]
    pub fn whole(start: u32, len: u32, from: u32, to: u32) -> Event {
        Event { start, len, from, to, form: 0 }
    }

    /// The same event as part `number` (from 1) of a longer one; `last` on the final part.
    #[must_use]
    pub fn as_part(mut self, number: u32, last: bool) -> Event {
        self.form = (self.form & PARTIAL) | (number & !(LAST | PARTIAL)) | if last { LAST } else { 0 };
        self
    }

    /// The same event marked as one whose line never got its end.
    #[must_use]
    pub fn as_partial(mut self) -> Event {
        self.form |= PARTIAL;
        self
    }

    /// The number of the part, from 1, and whether it is the last one; `None` for a whole event.
    #[must_use]
    pub fn part(&self) -> Option<(u32, bool)> {
        let number = self.form & !(LAST | PARTIAL);
        (number > 0).then_some((number, self.form & LAST != 0))
    }

    /// Whether the line was shipped without its end having been seen.
    #[must_use]
    pub fn partial(&self) -> bool {
        self.form & PARTIAL != 0
    }

    /// Whether it counts as an event of the source: one in parts counts with its last part.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.part().is_none_or(|(_, last)| last)
    }

    /// How many bytes of the stream are its own.
    #[must_use]
    pub fn own_bytes(&self) -> u64 {
        self.to.saturating_sub(self.from).into()
    }

    /// Part and partial in one number, for formats on disk; see [`Event::with_form`].
    #[must_use]
    pub fn form(&self) -> u32 {
        self.form
    }

    /// The same event with what [`Event::form`] gave for another.
    #[must_use]
    pub fn with_form(mut self, form: u32) -> Event {
        self.form = form;
        self
    }

    /// The same event, its bytes now at another place.
    #[must_use]
    pub fn moved(mut self, start: u32, len: u32) -> Event {
        self.start = start;
        self.len = len;
        self
    }
}

/// What rules have found out about an event beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Its fields as a JSON object, a span of [`Batch::bytes`]: start, length. None: length 0.
    pub fields: (u32, u32),
    /// Why a parser could not read it, likewise.
    pub error: (u32, u32),
    /// When it happened, nanoseconds since 1970.
    pub time: Option<i64>,
    /// 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
}

/// Where in a lane's spill the messages of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The record.
    pub seq: u64,
    /// The run within it, from 0.
    pub run: u32,
    /// Which event of the batch is the first message of the run.
    pub first: u32,
}

/// Consecutive events of one stream. Before encoding `bytes` is what was read, after it the finished messages.
#[derive(Debug)]
pub struct Batch {
    /// The stream they are of.
    pub stream: Arc<Stream>,
    /// The arena the events are spans of.
    pub bytes: Vec<u8>,
    /// The events, in order; never empty.
    pub events: Vec<Event>,
    /// What rules have found out: one for each event, or none at all. Of no use once events are encoded.
    pub extras: Vec<Extra>,
    /// The stream offset that [`Event::from`] and [`Event::to`] count from.
    pub base: u64,
    /// Where the line begins that the first event continues (equal to the first event's own start when it continues none).
    pub line_start: u64,
    /// The position after the last event.
    pub to: Position,
    /// When the bytes were read, nanoseconds since 1970 (UTC).
    pub observed_ns: i64,
    /// The settlement's ticket for this batch, see [`crate::settlement`].
    pub ticket: u64,
    /// Which part of what the ticket is for; 0 where all goes the same way.
    pub part: u32,
    /// When it was read, or read back from the spill: what is unsettled for long goes to the spill.
    pub since: Instant,
    /// All that its stream had sent to this lane before this batch: by it what a spill holds is told from what came before.
    pub before: Count,
    /// Where the spill has it, from event [`Place::first`] on; then it is settled there, and acknowledgements go to the spill.
    pub copy: Option<Place>,
    /// Whether parts among the events are told by message headers, as `raw` does; set by the encoder.
    pub part_headers: bool,
    /// 0: it has all of its stream in this stretch, and each event counts the bytes since the one before. Else rules gave it what is for its lane,
    /// each event counts its own bytes, and this number is theirs, see [`crate::rules::engine::Engine::number`].
    pub routed: u64,
    /// What it takes from the byte budget; given back when the batch is dropped.
    pub charge: Charge,
}

impl Batch {
    /// The bytes of one event; empty if the span lies outside, which no stage makes.
    #[must_use]
    pub fn event_bytes(&self, event: &Event) -> &[u8] {
        let start = event.start as usize;
        self.bytes.get(start..start + event.len as usize).unwrap_or_default()
    }

    /// A span of [`Batch::bytes`].
    #[must_use]
    pub fn span(&self, (start, len): (u32, u32)) -> &[u8] {
        self.bytes.get(start as usize..start as usize + len as usize).unwrap_or_default()
    }

    /// Where an event ends in its stream.
    #[must_use]
    pub fn end_of(&self, index: usize) -> Option<u64> {
        Some(self.base + u64::from(self.events.get(index)?.to))
    }

    /// What its events from `first` on count.
    #[must_use]
    pub fn count_from(&self, first: usize) -> Count {
        self.count(first..self.events.len())
    }

    /// What these events count.
    #[must_use]
    pub fn count(&self, range: std::ops::Range<usize>) -> Count {
        let events = self.events.get(range.clone()).unwrap_or_default();
        let bytes = if self.routed == 0 {
            let to = |index: usize| self.events.get(index).map_or(0, |event| event.to);
            let end = range.end.checked_sub(1).filter(|_| !events.is_empty()).map_or(0, to);
            u64::from(end.saturating_sub(range.start.checked_sub(1).map_or(0, to)))
        } else {
            events.iter().map(Event::own_bytes).sum()
        };
        Count { events: self.whole_events(range), bytes }
    }

    /// How many events of the source these are: one in parts counts with its last part.
    #[must_use]
    pub fn whole_events(&self, range: std::ops::Range<usize>) -> u64 {
        let events = self.events.get(range).unwrap_or_default();
        events.iter().filter(|event| event.ends()).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tail_built_in_pieces_is_the_end_of_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..8)) {
            let mut tail = Tail::EMPTY;
            let mut all = Vec::new();
            for piece in &pieces {
                tail = tail.after(piece);
                all.extend_from_slice(piece);
            }
            prop_assert_eq!(tail.as_bytes(), &all[all.len().saturating_sub(TAIL)..]);
        }
    }

    #[test]
    fn forms_do_not_disturb_each_other() {
        let event = Event::whole(0, 1, 0, 2).as_partial().as_part(7, true);
        assert_eq!((event.part(), event.partial()), (Some((7, true)), true));
        assert_eq!(Event::whole(0, 1, 0, 2).with_form(event.form()), event);
        assert_eq!(Event::whole(0, 1, 0, 2).part(), None);
    }
}

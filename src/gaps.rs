//! Gaps: what is told of events that could not be shipped: what, where, when, how much, why. A gap waits in the [`outbox::Outbox`], which is part
//! of the state and is written in the same transaction as the position that hides the loss, until its record is acknowledged by Kafka.
//!
//! | what | where |
//! | --- | --- |
//! | the gaps that wait: numbers, merging, what a snapshot writes | [`outbox`] |
//! | those that were noticed last, for who looks | [`last`] |
//! | their rows as bytes | [`row`] |
//! | the thread that sends them | [`sender`] |
//! | a gap in a sentence for people; as a message it is made by [`crate::encode::gap`] | [`words`] |

pub mod last;
pub mod outbox;
pub mod row;
pub mod sender;
pub mod words;

use std::sync::Arc;

use crate::batch::StreamId;

/// The reason of what is no gap, and goes the same way: a source is silent for longer than it may be. Its record has this type.
pub const QUIET: &str = "quiet";
/// The reason of what is no gap either: a rule with a limit has left events out, which are in the books as filtered. Its record has this type.
pub const LIMITED: &str = "limited";

/// The type of a record.
#[must_use]
pub fn type_of(reason: &str) -> &'static str {
    match reason {
        QUIET => QUIET,
        LIMITED => LIMITED,
        _ => "gap",
    }
}

/// Where something was lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A file, by the bytes of its path.
    Path(Arc<[u8]>),
    /// What was on its way to this topic, in a spill.
    Topic(Arc<str>),
    /// Where a source listens, or a journal: by its name.
    Named(Arc<str>),
    /// Several places: told together, since too many gaps wait to keep them apart.
    Several,
}

/// How much was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Events, where they are known.
    pub events: u64,
    /// Bytes of the source, where they are known.
    pub bytes: u64,
    /// Incidents of which it is not known how much they cost.
    pub unknown: u64,
    /// What the figures are.
    pub bound: Bound,
}

/// How exact figures are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// They are what was lost.
    #[default]
    Exact,
    /// They are a lower limit.
    AtLeast,
    /// They are an upper limit.
    AtMost,
}

impl Amount {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Amount) -> Amount {
        Amount {
            events: self.events.saturating_add(other.events),
            bytes: self.bytes.saturating_add(other.bytes),
            unknown: self.unknown.saturating_add(other.unknown),
            // Of a lower and an upper limit together the lower one is said: more may be lost than is told.
            bound: match (self.bound, other.bound) {
                (Bound::AtLeast, _) | (_, Bound::AtLeast) => Bound::AtLeast,
                (Bound::AtMost, _) | (_, Bound::AtMost) => Bound::AtMost,
                _ => Bound::Exact,
            },
        }
    }
}

/// One gap: incidents of one kind at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Counted per state, from 1; 0 until the outbox has given one.
    pub number: u64,
    /// The name of the source whose events they were.
    pub source: Arc<str>,
    /// The source's type, as in an event's `type`. What a spill lost keeps it.
    pub of: Arc<str>,
    /// Why, in one word: that of the ledger, a label of metrics.
    pub reason: Arc<str>,
    /// Where.
    pub place: Place,
    /// The stream, where it was one.
    pub stream: Option<StreamId>,
    /// The first offset of the stream that was lost, where it is known.
    pub from: Option<u64>,
    /// The offset behind the last one that was lost, where it is known.
    pub to: Option<u64>,
    /// How much.
    pub amount: Amount,
    /// When it was noticed first, or began; nanoseconds since 1970.
    pub first_ns: i64,
    /// When it was noticed last, or ended; nanoseconds since 1970.
    pub last_ns: i64,
    /// What else a person should know, a few words of the code's own (below 1 KiB); may be empty.
    pub words: Arc<str>,
}

impl Gap {
    /// Takes in a later one of the same source, type, reason, place and stream. Amounts are added, times widened. The offsets stay while both
    /// are one run, adjoining or overlapping; else they are dropped, since what lies between them was not lost. The words are those of the first.
    pub fn merge(&mut self, other: &Gap) {
        self.amount = self.amount.and(other.amount);
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        (self.from, self.to) = match ((self.from, self.to), (other.from, other.to)) {
            ((Some(a), Some(b)), (Some(c), Some(d))) if a <= d && c <= b => (Some(a.min(c)), Some(b.max(d))),
            (one, two) if one == two => one,
            _ => (None, None),
        };
    }
}

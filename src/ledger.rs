//! The books of a source: what became of its events. Pure counting; where each count is made stands in [`crate::settlement`].
//!
//! `read = delivered + filtered + merged + dead_lettered + pending + lost`, for events and for bytes. What was never read stands beside it.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Sub};
use std::sync::Arc;

/// Events and the source bytes they came from (line ends included).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Events; parts of one event count once, with the last part.
    pub events: u64,
    /// Bytes of the source.
    pub bytes: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Count) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

/// Not below nothing.
impl Sub for Count {
    type Output = Count;

    fn sub(self, other: Count) -> Count {
        Count { events: self.events.saturating_sub(other.events), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Count>>(counts: I) -> Count {
        counts.fold(Count::default(), |mut sum, count| {
            sum += count;
            sum
        })
    }
}

/// Why events that had been read were lost. The words are fixed: they are labels of metrics and keys of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lost {
    /// The spill's file was damaged or taken away.
    SpillDamaged,
    /// An operator discarded them.
    Operator,
}

impl Lost {
    /// All reasons.
    pub const ALL: [Lost; 2] = [Lost::SpillDamaged, Lost::Operator];

    /// The word for people and labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Lost::SpillDamaged => "spill_damaged",
            Lost::Operator => "operator",
        }
    }
}

/// Why bytes or events were never read. The words are fixed: they are labels of metrics and keys of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Missed {
    /// A file was truncated before all of it was read.
    Truncated,
    /// A file was deleted before all of it was read.
    Deleted,
    /// A hole in a sparse file, which holds nothing.
    Hole,
    /// Existed before the source's first run and was left out by `start_at` or `ignore_older`.
    BeforeFirstRun,
    /// An operator skipped them.
    Operator,
    /// A compressed file is damaged, or was never finished.
    Damaged,
    /// A deleted file held more of the disk than `agent.hold_deleted` allows.
    HoldDeleted,
    /// A deleted file was let go because its file system had less free than `spill.keep_free`.
    KeepFree,
    /// Datagrams that the kernel dropped since the socket's buffer was full.
    KernelDrop,
    /// Refused at admission, since there was no room (`when_full = "shed"`).
    Shed,
    /// Refused, since one sender sent more than the source's `peer_rate`.
    RateLimit,
    /// From senders that `allow` does not name, or on connections beyond `max_connections`, or with a TLS handshake that failed.
    Refused,
    /// Cut off from a message longer than the source takes.
    Cut,
    /// Bytes that belong to no message, since a sender's framing is broken.
    Framing,
    /// What an arrival log held and had not made durable when the power went.
    PowerLoss,
    /// Entries that the journal deleted before they were read.
    Vacuumed,
    /// What journald's own rate limit suppressed: it never was in the journal.
    Suppressed,
    /// Entries in a damaged part of a journal.
    Unreadable,
    /// Events of which some bytes are no characters in the encoding of their file: shipped with U+FFFD in their place.
    Undecodable,
}

impl Missed {
    /// All reasons, in the order of their codes.
    pub const ALL: [Missed; 19] = [
        Missed::Truncated,
        Missed::Deleted,
        Missed::Hole,
        Missed::BeforeFirstRun,
        Missed::Operator,
        Missed::Damaged,
        Missed::HoldDeleted,
        Missed::KeepFree,
        Missed::KernelDrop,
        Missed::Shed,
        Missed::RateLimit,
        Missed::Refused,
        Missed::Cut,
        Missed::Framing,
        Missed::PowerLoss,
        Missed::Vacuumed,
        Missed::Suppressed,
        Missed::Unreadable,
        Missed::Undecodable,
    ];

    /// The word for people and labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Missed::Truncated => "truncated",
            Missed::Deleted => "deleted",
            Missed::Hole => "hole",
            Missed::BeforeFirstRun => "before_first_run",
            Missed::Operator => "operator",
            Missed::Damaged => "damaged",
            Missed::HoldDeleted => "hold_deleted",
            Missed::KeepFree => "keep_free",
            Missed::KernelDrop => "kernel_drop",
            Missed::Shed => "shed",
            Missed::RateLimit => "rate_limit",
            Missed::Refused => "refused",
            Missed::Cut => "cut",
            Missed::Framing => "framing",
            Missed::PowerLoss => "power_loss",
            Missed::Vacuumed => "vacuumed",
            Missed::Suppressed => "suppressed",
            Missed::Unreadable => "unreadable",
            Missed::Undecodable => "undecodable",
        }
    }

    /// Whether something is missing that should be there, so that a gap record says so. A hole holds nothing, what is left out before the
    /// first run, or is refused, is left out by the configuration, and what can't be decoded shows that itself.
    #[must_use]
    pub fn is_gap(self) -> bool {
        !matches!(self, Missed::Hole | Missed::BeforeFirstRun | Missed::Refused | Missed::Undecodable)
    }

    /// Whether the amount is the least that was missed: what a file held is known from when it was last seen.
    #[must_use]
    pub fn is_at_least(self) -> bool {
        matches!(self, Missed::Truncated | Missed::Deleted | Missed::Damaged | Missed::HoldDeleted | Missed::KeepFree)
    }
}

/// How much was missed, in what is known of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
    /// Times that something was missed and nobody knows how much.
    pub unknown: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.events += other.events;
        self.bytes += other.bytes;
        self.unknown += other.unknown;
    }
}

/// What became of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged by Kafka.
    Delivered,
    /// Left out by a rule.
    Filtered,
    /// Joined into another event.
    Merged,
    /// In the dead letters.
    DeadLettered,
    /// In a spill and durable there: settled, and still pending.
    Spilled,
    /// Lost after they had been read.
    Lost(Lost),
}

/// The books of one source, kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// All that was read. In the state: what a position or a mark has passed, so that what is read again after a kill counts once.
    pub read: Count,
    /// Acknowledged by Kafka.
    pub delivered: Count,
    /// Left out by a rule. What a rule leaves out of a batch of which something is shipped has its bytes counted with that.
    pub filtered: Count,
    /// The same events by the rule's name, with the bytes that they had; no term of the sum. Bounded by the names that rules ever had.
    pub filtered_by: BTreeMap<Arc<str>, Count>,
    /// Joined into another event, with which their bytes are counted.
    pub merged: Count,
    /// In the dead letters.
    pub dead_lettered: Count,
    /// Lost after they had been read, by reason.
    pub lost: BTreeMap<Lost, Count>,
    /// Never read, by reason.
    pub missed: BTreeMap<Missed, Amount>,
    /// Handed to Kafka once more, because the producer that had them was made anew: they may be there twice.
    pub resent: Count,
    /// Files that were read although they may be copies of what was read already.
    pub possible_duplicates: u64,
}

impl Ledger {
    /// Books what became of events. [`Fate::Spilled`] is booked nowhere: such events are pending.
    pub fn book(&mut self, fate: Fate, count: Count) {
        match fate {
            Fate::Delivered => self.delivered += count,
            Fate::Filtered => self.filtered += count,
            Fate::Merged => self.merged += count,
            Fate::DeadLettered => self.dead_lettered += count,
            Fate::Lost(reason) => *self.lost.entry(reason).or_default() += count,
            Fate::Spilled => {}
        }
    }

    /// Takes so many events out of the dead letters, with their share of the bytes, for another fate.
    pub fn take_letters(&mut self, events: u64) -> Count {
        let all = self.dead_lettered;
        let events = events.min(all.events);
        // A letter does not tell how many bytes of its source it was; when the last one goes, all of them have gone.
        let bytes = u128::from(all.bytes) * u128::from(events) / u128::from(all.events.max(1));
        let taken = Count { events, bytes: u64::try_from(bytes).unwrap_or(all.bytes) };
        self.dead_lettered = all - taken;
        taken
    }

    /// All whose fate is known.
    #[must_use]
    pub fn ended(&self) -> Count {
        [self.delivered, self.filtered, self.merged, self.dead_lettered].into_iter().chain(self.lost.values().copied()).sum()
    }

    /// What is wrong if `pending` is all that is neither ended nor forgotten; `None` if the books balance.
    #[must_use]
    pub fn imbalance(&self, pending: Count) -> Option<String> {
        let mut sum = self.ended();
        sum += pending;
        (sum != self.read).then(|| {
            format!(
                "read {} events ({} bytes), but delivered {} + filtered {} + merged {} + dead_lettered {} + pending {} + lost {} are {} events ({} bytes)",
                self.read.events,
                self.read.bytes,
                self.delivered.events,
                self.filtered.events,
                self.merged.events,
                self.dead_lettered.events,
                pending.events,
                self.lost.values().copied().sum::<Count>().events,
                sum.events,
                sum.bytes
            )
        })
    }
}

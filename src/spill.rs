//! The spill: a lane's buffer on disk, a log of segments of final messages. Memory takes hiccups, the spill takes outages, the source takes the
//! rest. When it is used is [`crate::delivery`]'s business; here is how it is kept.
//!
//! A lane's thread owns its [`Spill`] and calls it; nothing waits but for the disk. The order of durable steps: segment created, directory
//! fsynced, records, `fdatasync` ([`Spill::sync`]; then what was written is settled), snapshot ([`Spill::row`]), and only then segments whose
//! messages are acknowledged are deleted ([`Spill::release`]).
//!
//! | what | where |
//! | --- | --- |
//! | the bytes on disk | `spill/format.rs`, `spill/body.rs`, `spill/bytes.rs` |
//! | records to bytes and back | `spill/codec.rs` |
//! | names in a lane's directory | `spill/directory.rs` |
//! | from record to record in a file | `spill/walk.rs` |
//! | what is acknowledged, what is in memory | `spill/window.rs`, `spill/counts.rs` |
//! | appending and making durable | `spill/write.rs` |
//! | reading back, and damage found then | `spill/read.rs`, `spill/damage.rs` |
//! | what a start finds, and puts right | `spill/recover.rs`, `spill/repair.rs` |
//! | how much all lanes may take | `spill/room.rs` |
//! | for operators, without a lane | `spill/inspect.rs` |
//! | for fuzz targets | `spill/fuzz.rs` |

mod body;
mod bytes;
mod codec;
mod counts;
mod damage;
mod directory;
mod format;
pub mod fuzz;
pub mod inspect;
mod read;
mod recover;
mod repair;
pub mod room;
#[cfg(test)]
pub(crate) mod tests;
mod walk;
mod window;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Place};
use crate::durable::disk::Disk;
use crate::ledger::Count;
use codec::Codec;
use counts::Counts;
pub use damage::Damaged;
pub use directory::SegmentId;
pub use format::Run;
pub use read::Loaded;
pub use recover::{OpenError, Recovered, Rolled};
use room::{Full, Room, Share};
use window::Window;
pub use write::Piece;

/// What the spills need to know; built by `config/resolve.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The directory that holds one directory for each lane.
    pub dir: PathBuf,
    /// `spill.max_size`: what all lanes together may take, bytes. At the limit the sources wait.
    pub max_size: u64,
    /// `spill.keep_free`: what is left free of the file system. Beyond it nothing is written, and the sources wait.
    pub keep_free: KeepFree,
    /// `spill.after`: what is unsettled for longer goes to disk.
    pub after: Duration,
    /// `spill.sync`: what was written becomes durable, and so settled, this often.
    pub sync: Duration,
}

/// How much of a file system is left to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepFree {
    /// Per cent of its size, 0 to 100.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

/// What a snapshot knows of a lane's spill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneRow {
    /// The number that all segments of this log bear, drawn at random when it was begun.
    pub log: u64,
    /// The first record that is not acknowledged whole.
    pub head: u64,
    /// The record that comes next: all before it were durable.
    pub tail: u64,
    /// Runs of records from the head on of which some messages are acknowledged: record, run, how many messages from its first, what they count.
    pub acked: Vec<(u64, u32, u32, Count)>,
    /// What of each source is in the records and not acknowledged.
    pub pending: Vec<(Arc<str>, Count)>,
}

/// Why something could not be done. Everything is as before, and it can be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpillError {
    /// There is no room.
    #[error("{0}")]
    Full(Full),
    /// The messages of one record come to more than 64 MiB; they can't be spilled.
    #[error("{0} bytes of messages in one piece are more than a record of the spill may have: lower agent.labels or kafka.max_event")]
    TooLarge(usize),
    /// It can't be written, and a new segment neither.
    #[error("the spill can't be written: {0}")]
    Broken(String),
    /// It can't be read now: an I/O error, never damage.
    #[error("the spill can't be read: {0}")]
    Unreadable(String),
}

impl SpillError {
    /// The word for status and metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            SpillError::Full(full) => full.word(),
            SpillError::TooLarge(_) => "too_large",
            SpillError::Broken(_) | SpillError::Unreadable(_) => "broken",
        }
    }
}

/// What is known of a segment file.
#[derive(Debug, Default)]
struct Segment {
    /// What it takes on disk, bytes.
    size: u64,
    /// Its durable records end here.
    data: u64,
    /// Its records are before this one.
    end: u64,
    /// When its first record was read, ns since 1970.
    first_ns: i64,
    /// All that is in those of its records that are at or behind the head, acknowledged or not.
    left: Counts,
}

/// A lane's spill; see the module.
#[derive(Debug)]
pub struct Spill {
    topic: Arc<str>,
    dir: PathBuf,
    settings: Settings,
    disk: Arc<dyn Disk>,
    share: Share,
    codec: Codec,
    /// 0 before the first record.
    log: u64,
    segments: BTreeMap<SegmentId, Segment>,
    window: Window,
    writer: write::Writer,
    reader: read::Reader,
    /// Segments that were never begun well and could not be deleted, with what each takes of the room, which bounds them.
    litter: Vec<(PathBuf, u64)>,
    /// The record that comes next.
    tail: u64,
    /// All records before this one are durable.
    durable: u64,
}

impl Spill {
    /// Opens the spill of `topic`, and says what was found that the last snapshot does not know. Nothing is made on disk before the first record.
    ///
    /// # Errors
    /// Something can't be read, or was written by a newer release. Nothing was changed then, and it can be tried again.
    pub fn open(settings: &Settings, topic: &Arc<str>, room: &Arc<Room>, known: Option<&LaneRow>) -> Result<(Spill, Recovered), OpenError> {
        Spill::open_on(Arc::new(crate::durable::disk::Real), settings, topic, room, known)
    }

    /// What a snapshot is to know: all of it is durable. Acknowledgements of messages that are not durable in the spill are not in it (after a
    /// crash their record's number may be another's); such a message may be sent again.
    #[must_use]
    pub fn row(&self) -> LaneRow {
        let head = self.window.head;
        let mut pending = self.window.pending.clone();
        for unsynced in self.writer.records.iter().filter(|record| record.seq >= head) {
            let mut left = unsynced.counts.clone();
            left.sub_all(&self.window.acked_of(unsynced.seq));
            pending.sub_all(&left);
        }
        LaneRow { log: self.log, head, tail: self.durable.max(head), acked: self.window.acked(self.durable), pending: pending.list() }
    }

    /// What of each source is in the records and not acknowledged; of what is not durable yet too.
    #[must_use]
    pub fn pending(&self) -> Vec<(Arc<str>, Count)> {
        self.window.pending.list()
    }

    /// The sum of [`Spill::pending`].
    #[must_use]
    pub fn pending_total(&self) -> Count {
        self.window.pending.total()
    }

    /// What the files take, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.share.used()
    }

    /// Whether there are segments, done with or not.
    #[must_use]
    pub fn has_segments(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Records that are not acknowledged whole, and those behind them.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.window.records
    }

    /// Durable or not, whether every record is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.window.records == 0
    }

    /// Records of which something is neither acknowledged nor in memory; those that are not durable yet are among them, but can't be read yet.
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.window.waiting()
    }

    /// When the oldest of what is pending was read, ns since 1970: that of the first record of the segment it is in.
    #[must_use]
    pub fn oldest_ns(&self) -> Option<i64> {
        let id = self.segment_of(self.window.head)?;
        (!self.is_empty()).then(|| self.segments.get(&id).map(|segment| segment.first_ns))?
    }

    /// The directory it is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The segment that has, or would have, record `seq`.
    fn segment_of(&self, seq: u64) -> Option<SegmentId> {
        let upto = SegmentId { first: seq, attempt: u32::MAX };
        self.segments.range(..=upto).next_back().map(|(id, _)| *id)
    }

    /// Everything before event `prefix` of a batch with a place in this spill is acknowledged: of the original, or of what was read back. Says
    /// what is new of it (its source is the batch's). Runs may be acknowledged in any order.
    pub fn acknowledged(&mut self, batch: &Batch, prefix: usize) -> Count {
        let Some(place) = &batch.copy else { return Count::default() };
        let first = place.first as usize;
        let Some(messages) = prefix.checked_sub(first).and_then(|messages| u32::try_from(messages).ok()) else { return Count::default() };
        let fresh = self.window.acknowledge(place, messages, batch.count(first..prefix));
        self.settle();
        fresh
    }

    /// The batch of this place leaves memory and is not acknowledged whole: it is to be read again.
    pub fn let_go(&mut self, place: &Place) {
        self.window.set_held(place.seq, place.run, false);
        self.reader.back_to(place.seq);
    }

    /// Nothing of it is in memory or in flight any more (the producer was closed): reading starts again at the first unacknowledged message.
    pub fn rewind(&mut self) {
        self.window.let_all_go();
        self.reader.back_to(self.window.head);
    }

    /// Moves the head over what is acknowledged.
    fn settle(&mut self) {
        for (seq, counts) in self.window.advance(self.tail) {
            if let Some(segment) = self.segment_of(seq).and_then(|id| self.segments.get_mut(&id)) {
                segment.left.sub_all(&counts);
            }
        }
    }

    /// Deletes the segments that are wholly before `durable_head`, the head in the last durable snapshot. What can't be deleted now is tried again
    /// with the next call.
    pub fn release(&mut self, durable_head: u64) {
        if self.window.head == self.tail && durable_head >= self.tail {
            self.writer.close();
            self.durable = self.tail;
            self.codec = Codec::default();
        }
        self.litter.retain(|(path, bytes)| {
            let gone = self.disk.remove(path).map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |()| true);
            self.share.shrink(if gone { *bytes } else { 0 });
            !gone
        });
        let active = self.writer.active();
        let done: Vec<SegmentId> =
            self.segments.iter().filter(|(id, s)| s.end <= durable_head && active != Some(**id)).map(|(id, _)| *id).collect();
        for id in done {
            self.reader.leave(id);
            let path = self.dir.join(id.name());
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(file = %path.display(), %error, "a segment of the spill that is done with can't be deleted; trying again");
                }
                _ => self.share.shrink(self.segments.remove(&id).map_or(0, |segment| segment.size)),
            }
        }
    }

    /// An operator drops all that is pending, also what is in flight (close the producer first, or it may be delivered all the same). Says what
    /// that was. The files go with the next [`Spill::release`].
    pub fn discard(&mut self) -> Vec<(Arc<str>, Count)> {
        self.writer.close();
        self.durable = self.tail;
        self.reader.back_to(self.tail);
        self.segments.values_mut().for_each(|segment| segment.left = Counts::default());
        self.window.discard(self.tail).list()
    }
}

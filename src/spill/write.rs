//! Appending to the spill, and making it durable. Apart because here is decided what a full or failing disk means.
//!
//! At any time at most one segment has records that are not durable, the active one, and what it has is kept in memory as well. A failed fsync is
//! final for that file, and so is a write that failed for another reason than room: it is neither written nor synced again, and all since its last
//! good sync goes into a new segment, with the same numbers. A start never appends to what it finds.

use std::io;

use rustix::io::Errno;

use super::codec::{EncodeError, Encoded, Record};
use super::counts::Counts;
use super::directory::SegmentId;
use super::format::{Header, SegmentHeader};
use super::room::Full;
use super::{KeepFree, Segment, Spill, SpillError};
use crate::batch::{Batch, Place};
use crate::durable::disk::{Handle, write_full};

/// How large a segment gets before the next one is begun, bytes; the last record may go beyond.
const SEGMENT: u64 = if cfg!(test) { 32 << 10 } else { 8 << 20 };
/// How many names are tried for a new segment: one for each earlier attempt at the same record that could not be deleted.
const ATTEMPTS: u32 = 1000;

/// What goes into a record: the events of `batch` from `first` on.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The batch.
    pub batch: &'a Batch,
    /// Its first event that is written; those before are acknowledged.
    pub first: usize,
    /// Whether the batch stays in memory or in flight: then it is not read back before [`Spill::let_go`] or [`Spill::rewind`].
    pub held: bool,
}

/// A record that is not durable yet.
#[derive(Debug)]
pub(super) struct Unsynced {
    pub(super) seq: u64,
    pub(super) counts: Counts,
    first_ns: i64,
}

#[derive(Debug)]
struct Active {
    id: SegmentId,
    handle: Handle,
    len: u64,
    /// A write or an fsync has failed: it is not touched again.
    failed: bool,
}

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    active: Option<Active>,
    /// The records since the last good sync, as they are in the file. The lane bounds them: it syncs when [`Spill::unsynced_bytes`] is large.
    encoded: Encoded,
    pub(super) records: Vec<Unsynced>,
}

impl Writer {
    pub(super) fn active(&self) -> Option<SegmentId> {
        self.active.as_ref().map(|active| active.id)
    }

    /// Nothing more goes into the active segment, and nothing of it is wanted.
    pub(super) fn close(&mut self) {
        *self = Writer::default();
    }
}

impl Spill {
    /// Writes one record of these pieces; the lane keeps it to about 1 MiB. It is not durable before [`Spill::sync`]. Says where each is.
    ///
    /// # Errors
    /// No room, or the disk fails. Nothing was written then.
    pub fn append(&mut self, pieces: &[Piece<'_>]) -> Result<Vec<Place>, SpillError> {
        let parts: Vec<(&Batch, usize)> = pieces.iter().map(|piece| (piece.batch, piece.first)).collect();
        if !parts.iter().any(|(batch, first)| *first < batch.events.len()) {
            return Ok(Vec::new());
        }
        self.prepare()?;
        let before = self.writer.encoded.len();
        let record = Record { log: self.log, seq: self.tail, parts: &parts };
        let header = self.codec.encode(&record, &mut self.writer.encoded).map_err(|error| match error {
            EncodeError::TooLarge(bytes) => SpillError::TooLarge(bytes),
            EncodeError::Zstd(error) => SpillError::Broken(format!("zstd: {error}")),
        })?;
        let seq = self.tail;
        let counts = Counts::of(&header.runs);
        self.writer.records.push(Unsynced { seq, counts, first_ns: header.first_ns });
        if let Err(error) = self.write_last(before, &header) {
            self.writer.records.pop();
            self.writer.encoded.cut(before);
            return Err(error);
        }
        self.window.add(&header.runs);
        if pieces.iter().any(|piece| piece.held) {
            self.window.know(seq, &header.runs);
        }
        let mut places = Vec::with_capacity(pieces.len());
        for (run, piece) in (0..).zip(pieces) {
            if piece.held {
                self.window.set_held(seq, run, true);
            }
            places.push(Place { seq, run, first: u32::try_from(piece.first).unwrap_or(u32::MAX) });
        }
        self.tail += 1;
        Ok(places)
    }

    /// What is kept in memory because it is not durable, bytes.
    #[must_use]
    pub fn unsynced_bytes(&self) -> usize {
        self.writer.encoded.len()
    }

    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// The disk fails or is full. What was appended is kept, and the next call, or the next [`Spill::append`], writes it anew.
    pub fn sync(&mut self) -> Result<(), SpillError> {
        if self.writer.records.is_empty() {
            return Ok(());
        }
        if self.writer.active.as_ref().is_some_and(|active| !active.failed) && self.sync_active().is_ok() {
            return Ok(());
        }
        self.renew()?;
        self.sync_active().map_err(|error| self.broken("sync", &error))
    }

    /// Forgets what was appended and is not durable, as if it had never been: for originals that are still in memory.
    pub fn cancel(&mut self) {
        for record in std::mem::take(&mut self.writer.records) {
            self.window.take_back(record.seq, &record.counts);
            if let Some(segment) = self.segment_of(record.seq).and_then(|id| self.segments.get_mut(&id)) {
                segment.left.sub_all(&record.counts);
                segment.end = segment.end.min(record.seq);
            }
        }
        self.writer.encoded.cut(0);
        self.tail = self.durable;
        // Nothing is written behind what its file has after the last sync: a new one supersedes that.
        if let Some(active) = &mut self.writer.active {
            active.failed = true;
        }
    }

    fn sync_active(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.writer.active else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = self.disk.sync_data(&active.handle) {
            tracing::warn!(file = %active.handle.path.display(), %error, "fsync failed: what it did not make safe is written anew into a new segment");
            active.failed = true;
            return Err(error);
        }
        if let Some(segment) = self.segments.get_mut(&active.id) {
            segment.data = active.len;
        }
        self.durable = self.tail;
        self.writer.records.clear();
        self.writer.encoded.cut(0);
        Ok(())
    }

    /// Sees to a segment that can be written, and that there is room at all.
    fn prepare(&mut self) -> Result<(), SpillError> {
        if self.log == 0 {
            self.log = new_log();
        }
        match &self.writer.active {
            Some(active) if active.failed => self.renew()?,
            Some(active) if active.len >= SEGMENT => {
                self.sync()?;
                self.writer.active = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the record that was encoded last, from `before` on.
    fn write_last(&mut self, before: usize, header: &Header) -> Result<(), SpillError> {
        if self.writer.active.is_none() {
            return self.renew();
        }
        let len = header.record_len();
        let room = self.take_room(len);
        let Some(active) = &mut self.writer.active else { return room };
        // Somebody may have removed the directory: then the next record begins a new one.
        active.failed |= matches!(room, Err(SpillError::Broken(_)));
        room?;
        let bytes = self.writer.encoded.bytes().get(before..).unwrap_or_default();
        let Err(error) = write_full(&*self.disk, &active.handle, bytes, active.len) else {
            active.len += len;
            let id = active.id;
            self.book(id, len);
            return Ok(());
        };
        self.share.shrink(len);
        let cut = self.disk.truncate(&active.handle, active.len);
        if is_full(&error) {
            // What could not be cut off stands behind the good records, and is passed over; but nothing may be written behind it.
            active.failed = cut.is_err();
            return Err(SpillError::Full(Full::NoSpace));
        }
        tracing::warn!(file = %active.handle.path.display(), %error, "a write failed: what is not safe is written anew into a new segment");
        active.failed = true;
        self.renew()
    }

    /// Books the record that was written last to the segment it is in.
    fn book(&mut self, id: SegmentId, len: u64) {
        let (Some(record), Some(segment)) = (self.writer.records.last(), self.segments.get_mut(&id)) else { return };
        segment.first_ns = if segment.left.is_empty() { record.first_ns } else { segment.first_ns };
        segment.size += len;
        segment.end = record.seq + 1;
        segment.left.add_all(&record.counts);
    }

    /// Begins a new segment with all that is not durable.
    fn renew(&mut self) -> Result<(), SpillError> {
        let first = self.writer.records.first().map_or(self.tail, |record| record.seq);
        let header = SegmentHeader { log: self.log, first, topic: self.topic.to_string() }.encode();
        let start = header.len() as u64;
        let len = start + self.writer.encoded.len() as u64;
        self.make_dirs().map_err(|error| self.failed("make directory", &error))?;
        self.take_room(len)?;
        let (id, handle) = match self.create(first) {
            Ok(created) => created,
            Err(error) => {
                self.share.shrink(len);
                return Err(self.failed("create a segment", &error));
            }
        };
        let disk = &*self.disk;
        let written = write_full(disk, &handle, &header, 0)
            .and_then(|()| disk.sync_dir(&self.dir))
            .and_then(|()| write_full(disk, &handle, self.writer.encoded.bytes(), start));
        if let Err(error) = written {
            match self.disk.remove(&handle.path) {
                Ok(()) => self.share.shrink(len),
                // It has nothing that is wanted, but takes room until it is gone.
                Err(_) => self.litter.push((handle.path, len)),
            }
            return Err(self.failed("write a new segment", &error));
        }
        self.hand_over(Active { id, handle, len, failed: false }, start);
        Ok(())
    }

    /// A new active segment has taken over what is not durable.
    fn hand_over(&mut self, active: Active, start: u64) {
        let (head, records) = (self.window.head, &self.writer.records);
        let mut left = Counts::default();
        records.iter().filter(|record| record.seq >= head).for_each(|record| left.add_all(&record.counts));
        let end = records.last().map_or(self.tail, |record| record.seq + 1);
        let first_ns = records.first().map_or(0, |record| record.first_ns);
        if let Some(old) = self.writer.active.take()
            && let Some(segment) = self.segments.get_mut(&old.id)
        {
            // Its records that are not durable are the new one's; the last one, being written now, was never booked to it.
            let moved = records.iter().filter(|record| record.seq >= head && record.seq < segment.end);
            moved.for_each(|record| segment.left.sub_all(&record.counts));
            segment.end = segment.end.min(active.id.first);
            if segment.end <= old.id.first && self.disk.remove(&old.handle.path).is_ok() {
                self.share.shrink(segment.size);
                self.segments.remove(&old.id);
            }
        }
        let segment = Segment { size: active.len, data: start, end, first_ns, left };
        self.segments.insert(active.id, segment);
        self.writer.active = Some(active);
    }

    fn make_dirs(&self) -> io::Result<()> {
        self.disk.make_dir(&self.settings.dir)?;
        self.disk.make_dir(&self.dir)
    }

    fn create(&self, first: u64) -> io::Result<(SegmentId, Handle)> {
        let used = self.segments.keys().filter(|id| id.first == first).map(|id| id.attempt).max();
        let from = used.map_or(0, |attempt| attempt + 1);
        for attempt in from..from + ATTEMPTS {
            let id = SegmentId { first, attempt };
            match self.disk.create(&self.dir.join(id.name())) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return Ok((id, created?)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Takes `len` bytes of `spill.max_size`, if that leaves `spill.keep_free`.
    fn take_room(&self, len: u64) -> Result<(), SpillError> {
        let space = self.disk.space(&self.dir).map_err(|error| self.broken("ask for the free space of", &error))?;
        let keep = match self.settings.keep_free {
            KeepFree::Bytes(bytes) => bytes,
            KeepFree::Percent(percent) => space.total / 100 * u64::from(percent),
        };
        if space.free < keep.saturating_add(len) {
            return Err(SpillError::Full(Full::KeepFree));
        }
        self.share.grow(len).map_err(SpillError::Full)
    }

    fn failed(&self, what: &str, error: &io::Error) -> SpillError {
        if is_full(error) { SpillError::Full(Full::NoSpace) } else { self.broken(what, error) }
    }

    fn broken(&self, what: &str, error: &io::Error) -> SpillError {
        SpillError::Broken(format!("{what} {}: {error}", self.dir.display()))
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// A new log's id: random, so that no stray segment passes for one of this log; never 0.
fn new_log() -> u64 {
    let mut bytes = [0_u8; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_ne_bytes(bytes).max(1),
        _ => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)),
    }
}

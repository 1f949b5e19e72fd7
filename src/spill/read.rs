//! Reading the spill back, record by record, as batches that can be sent as the originals would have been. Apart because it has a place of its
//! own in the log, between the head and the tail.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::body::Messages;
use super::damage::KEPT;
use super::directory::SegmentId;
use super::format::{Header, Run};
use super::walk::{Step, Walk};
use super::{Damaged, Spill, SpillError};
use crate::batch::{Batch, Origin, Place, Position, Stream, Tail};
use crate::budget::Budget;
use crate::durable::disk::Disk;
use crate::encode::charge_for;
use crate::ledger::Count;

/// What [`Spill::read`] found.
#[derive(Debug)]
pub enum Loaded {
    /// The batches of the next record that are neither acknowledged nor in memory, in order, each with the index of its first unacknowledged
    /// message. They are in memory now, until they are acknowledged, [let go](Spill::let_go), or all are [rewound](Spill::rewind).
    Record(Vec<(Batch, usize)>),
    /// Something is damaged; reading goes on behind it.
    Damaged(Damaged),
    /// Nothing is to be read, or nothing durable, or (with thousands of runs acknowledged behind one that is not) not before the head moves.
    Nothing,
}

/// Where reading is.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Everything before this record is read, acknowledged or lost.
    cursor: u64,
    walk: Option<Walk>,
    /// The record at the cursor, once its header was read, and where it begins.
    found: Option<(u64, Header)>,
}

impl Reader {
    /// Reading goes on at `seq`, if it is further.
    pub(super) fn back_to(&mut self, seq: u64) {
        self.cursor = self.cursor.min(seq);
        self.found = None;
    }

    /// The file that is being read.
    pub(super) fn walk_path(&self) -> String {
        self.walk.as_ref().map(|walk| walk.handle.path.display().to_string()).unwrap_or_default()
    }

    /// Bytes of it, to be set aside; none if they can't be read.
    pub(super) fn bytes_of(&self, disk: &dyn Disk, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(walk) = &self.walk
            && walk.read(disk, range.start..range.end.min(range.start + KEPT), &mut bytes).is_err()
        {
            bytes.clear();
        }
        bytes
    }

    /// Forgets a segment that is to be deleted.
    pub(super) fn leave(&mut self, id: SegmentId) {
        if self.walk.as_ref().is_some_and(|walk| walk.id == id) {
            (self.walk, self.found) = (None, None);
        }
    }
}

/// What is at the cursor.
enum Next {
    Record,
    Damage(SegmentId),
    Nothing,
}

impl Spill {
    /// What [`Spill::read`] would take from the byte budget now, bytes; `None` when there is nothing to read. Damage takes nothing.
    ///
    /// # Errors
    /// An I/O error.
    pub fn next_cost(&mut self) -> Result<Option<usize>, SpillError> {
        Ok(match self.locate()? {
            Next::Nothing => None,
            Next::Damage(_) => Some(0),
            Next::Record => self.reader.found.as_ref().map(|(_, header)| charge_for(header.raw_len, header.messages())),
        })
    }

    /// Reads the next record of which something is neither acknowledged nor in memory; its batches are charged to `budget`.
    ///
    /// # Errors
    /// An I/O error. Nothing has moved then, and it can be tried again.
    pub fn read(&mut self, budget: &Arc<Budget>) -> Result<Loaded, SpillError> {
        match self.locate()? {
            Next::Nothing => return Ok(Loaded::Nothing),
            Next::Damage(id) => return self.lose_headers(id).map(Loaded::Damaged),
            Next::Record => {}
        }
        let (Some((at, header)), Some(walk)) = (&self.reader.found, &self.reader.walk) else { return Ok(Loaded::Nothing) };
        let body = at + header.len as u64..at + header.record_len();
        let read = walk.read(&*self.disk, body, &mut self.codec.packed);
        read.map_err(|error| self.unreadable(&error))?;
        let decoded = self.codec.decode(header).map_err(|error| self.unreadable(&error))?;
        let Some((at, header)) = self.reader.found.take() else { return Ok(Loaded::Nothing) };
        self.window.know(header.seq, &header.runs);
        let Some(messages) = decoded else { return Ok(Loaded::Damaged(self.lose_body(at, &header))) };
        self.reader.cursor = header.seq + 1;
        let mut batches = Vec::new();
        for (index, (run, messages)) in (0..).zip(header.runs.iter().zip(messages)) {
            let state = self.window.runs(header.seq).and_then(|runs| runs.get(index as usize));
            let Some(acked) = state.filter(|state| state.waits()).map(|state| state.acked) else { continue };
            self.window.set_held(header.seq, index, true);
            let place = Place { seq: header.seq, run: index, first: 0 };
            batches.push((restore(&self.topic, run, messages, place, budget), acked as usize));
        }
        Ok(Loaded::Record(batches))
    }

    /// Finds what comes next; the header of a record is read and kept.
    fn locate(&mut self) -> Result<Next, SpillError> {
        if self.window.is_far_ahead() {
            return Ok(Next::Nothing);
        }
        let Some(seq) = self.window.next_waiting(self.reader.cursor, self.durable) else { return Ok(Next::Nothing) };
        self.reader.cursor = seq;
        if self.reader.found.as_ref().is_some_and(|(_, header)| header.seq == seq) {
            return Ok(Next::Record);
        }
        self.reader.found = None;
        let Some(id) = self.segment_of(seq) else {
            return Err(SpillError::Unreadable(format!("record {seq} is in no segment of {}", self.dir.display())));
        };
        match self.find(id, seq) {
            Ok(Some(found)) => {
                self.reader.found = Some(found);
                Ok(Next::Record)
            }
            Ok(None) => {
                self.reader.walk = None;
                Ok(Next::Damage(id))
            }
            Err(error) => {
                self.reader.walk = None;
                Err(self.unreadable(&error))
            }
        }
    }

    /// Walks to the record `seq` of a segment; `None` if it is not there.
    fn find(&mut self, id: SegmentId, seq: u64) -> io::Result<Option<(u64, Header)>> {
        let Some(segment) = self.segments.get(&id) else { return Ok(None) };
        let (data, end) = (segment.data, segment.end);
        if self.reader.walk.as_ref().is_none_or(|walk| walk.id != id || walk.least > seq) {
            self.reader.walk = match self.disk.open(&self.dir.join(id.name()), false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => Some(Walk::begin(&*self.disk, id, opened?, self.log, end, data)?),
            };
        }
        let Some(walk) = &mut self.reader.walk else { return Ok(None) };
        walk.extend(end, data);
        loop {
            match walk.next(&*self.disk)? {
                Step::Record(_, header) if header.seq < seq => {}
                Step::Record(at, header) if header.seq == seq => return Ok(Some((at, header))),
                Step::Damage(_) => {}
                Step::Record(..) | Step::End => return Ok(None),
            }
        }
    }

    pub(super) fn unreadable(&self, error: &io::Error) -> SpillError {
        SpillError::Unreadable(format!("{}: {error}", self.dir.display()))
    }
}

/// A batch as it was when it was written, its source bytes counted from where the run begins.
pub(super) fn restore(topic: &Arc<str>, run: &Run, messages: Messages, place: Place, budget: &Arc<Budget>) -> Batch {
    let Messages { key, headers, line_start, observed_ns, events, bytes } = messages;
    let stream =
        Stream { id: run.stream, source: Arc::clone(&run.source), key, headers, origin: Origin::Finished, topic: Arc::clone(topic) };
    let charge = budget.charge(charge_for(bytes.capacity(), events.len()));
    let to = Position { offset: run.to, line_start: run.to, part: 0, hash: 0, tail: Tail::EMPTY };
    let before: Count = run.before;
    Batch {
        stream: Arc::new(stream),
        bytes,
        events,
        base: run.from,
        line_start,
        to,
        observed_ns,
        ticket: 0,
        part: 0,
        since: Instant::now(),
        before,
        copy: Some(place),
        extras: Vec::new(),
        part_headers: run.part_headers,
        routed: run.routed,
        charge,
    }
}

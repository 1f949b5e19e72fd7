//! What a start finds on disk, held against what the last snapshot knew. Apart because it is the one place that tells a torn tail (cut), damage
//! (set aside, counted, passed over) and an I/O error (never damage: nothing is changed, and it is tried again) from each other.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::counts::Counts;
use super::damage::lost_words;
use super::directory::{self, SegmentId};
use super::format::{Header, Malformed, Run};
use super::walk::{ANY, Step, Walk};
use super::window::Window;
use super::{Codec, LaneRow, Room, Segment, Settings, Share, Spill};
use crate::batch::{Place, StreamId};
use crate::durable::disk::{Disk, Handle};
use crate::ledger::Count;

/// Why a spill can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An I/O error; it may pass.
    #[error("the spill in {} can't be read: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A newer release wrote it.
    #[error("{} has version {version} of the spill's format: a newer logferry wrote it, start that one", path.display())]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// A topic's name that can be no directory.
    #[error("{0:?} can be no topic: letters, digits, '.', '_' and '-' only, at most 249")]
    Topic(String),
}

/// A run that the last snapshot does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// Its record.
    pub seq: u64,
    /// Its number in the record.
    pub run: u32,
    /// The stream.
    pub stream: StreamId,
    /// Its source.
    pub source: Arc<str>,
    /// Where its source bytes begin in the stream.
    pub from: u64,
    /// Where they end.
    pub to: u64,
    /// All that the stream had sent to this lane before.
    pub before: Count,
    /// Whole events, and the source bytes.
    pub count: Count,
    /// Records that no snapshot knew are missing before it: what was in them is read again from the source, later than this.
    pub behind_damage: bool,
    /// See [`crate::batch::Batch::routed`].
    pub routed: u64,
}

/// What a start found that the last snapshot does not say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Runs behind the known tail, in order. They are durable and in the spill.
    pub rolled: Vec<Rolled>,
    /// What the snapshot says is pending and is not there: of each source exactly, and what is wrong, for people.
    pub lost: Vec<(Arc<str>, Count, String)>,
    /// Bytes of a torn end that were cut off: records whose write the end of the last run had interrupted.
    pub torn_bytes: u64,
    /// Segments of another log, which were left as they are: set aside by hand, or from another state directory.
    pub foreign: Vec<PathBuf>,
}

/// Bytes that are no record, and the record that should have been there.
pub(super) struct Hole {
    pub(super) id: SegmentId,
    pub(super) bytes: Range<u64>,
    pub(super) seq: u64,
}

/// A segment that is there.
struct Listed {
    id: SegmentId,
    len: u64,
    /// `None` where nothing in it is good.
    log: Option<u64>,
}

/// Goes over all segments.
pub(super) struct Recovery<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) dir: &'a Path,
    pub(super) row: LaneRow,
    acked: BTreeMap<u64, Vec<(u32, u32, Count)>>,
    codec: Codec,
    window: Window,
    pub(super) segments: BTreeMap<SegmentId, Segment>,
    /// The number that the next record should have; `None` before the first of a log that no snapshot knew.
    expected: Option<u64>,
    /// Bytes that are damage.
    pub(super) holes: Vec<Hole>,
    /// Bytes behind the last good record so far: damage if a record is missing there, else a torn end or what a failed fsync left.
    pub(super) open_holes: Vec<Hole>,
    /// Of what the snapshot says is pending, what has not been found.
    unfound: Counts,
    /// A record is missing that no snapshot knew.
    gap: bool,
    pub(super) out: Recovered,
}

impl Spill {
    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        settings: &Settings,
        topic: &Arc<str>,
        room: &Arc<Room>,
        known: Option<&LaneRow>,
    ) -> Result<(Spill, Recovered), OpenError> {
        let dir = directory::of_topic(&settings.dir, topic).ok_or_else(|| OpenError::Topic(topic.to_string()))?;
        let mut recovery = Recovery::new(&*disk, &dir, known.cloned().unwrap_or_default());
        let listing = directory::list(&*disk, &dir).map_err(io_at(&dir))?;
        let mut segments = Vec::new();
        for id in listing.segments {
            segments.push(recovery.look_at(id)?);
        }
        let share = room.enter();
        let mine = recovery.choose_log(segments, &share);
        for name in &listing.damaged {
            let path = dir.join(name);
            share.note(disk.open(&path, false).and_then(|handle| disk.len(&handle)).map_err(io_at(&path))?);
        }
        for (index, segment) in mine.iter().enumerate() {
            let bound = mine.get(index + 1).map_or(u64::MAX, |next| next.id.first);
            recovery.segment(segment, bound).map_err(io_at(&dir.join(segment.id.name())))?;
        }
        let tail = recovery.finish();
        // Nothing on disk has been changed so far.
        recovery.repair(&share).map_err(io_at(&dir))?;
        let Recovery { window, segments, row, out, .. } = recovery;
        let (codec, writer, reader, litter) = Default::default();
        let (topic, settings) = (Arc::clone(topic), settings.clone());
        let mut spill =
            Spill { topic, dir, settings, disk, share, codec, log: row.log, segments, window, writer, reader, litter, tail, durable: tail };
        spill.settle();
        Ok((spill, out))
    }
}

impl<'a> Recovery<'a> {
    fn new(disk: &'a dyn Disk, dir: &'a Path, row: LaneRow) -> Recovery<'a> {
        let mut acked: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (seq, run, messages, count) in &row.acked {
            acked.entry(*seq).or_default().push((*run, *messages, *count));
        }
        let mut unfound = Counts::default();
        row.pending.iter().for_each(|(source, count)| unfound.add(source, *count));
        Recovery {
            disk,
            dir,
            acked,
            codec: Codec::default(),
            window: Window::at(row.head),
            segments: BTreeMap::new(),
            expected: (row.log != 0).then_some(row.head),
            holes: Vec::new(),
            open_holes: Vec::new(),
            unfound,
            gap: false,
            out: Recovered::default(),
            row,
        }
    }

    pub(super) fn open(&self, id: SegmentId, write: bool) -> io::Result<Handle> {
        self.disk.open(&self.dir.join(id.name()), write)
    }

    fn look_at(&self, id: SegmentId) -> Result<Listed, OpenError> {
        let path = self.dir.join(id.name());
        let look = || {
            let handle = self.open(id, false)?;
            let len = self.disk.len(&handle)?;
            let mut walk = Walk::begin(self.disk, id, handle, ANY, u64::MAX, len)?;
            let header = walk.segment_header(self.disk)?.map(|(header, _)| Some(header.log));
            if matches!(header, Ok(_) | Err(Malformed::Newer(_))) {
                return Ok((len, header));
            }
            // Its records bear the log's id as well.
            loop {
                match walk.next(self.disk)? {
                    Step::Record(_, header) => return Ok((len, Ok(Some(header.log)))),
                    Step::Damage(_) => {}
                    Step::End => return Ok((len, Ok(None))),
                }
            }
        };
        match look().map_err(io_at(&path))? {
            (_, Err(Malformed::Newer(version))) => Err(OpenError::Newer { path, version }),
            (len, header) => Ok(Listed { id, len, log: header.ok().flatten() }),
        }
    }

    /// Which segments are of this log; where no snapshot knew one, that of the newest segment is it.
    fn choose_log(&mut self, segments: Vec<Listed>, share: &Share) -> Vec<Listed> {
        if self.row.log == 0 {
            self.row.log = segments.iter().rev().find_map(|segment| segment.log).unwrap_or(0);
        }
        let log = self.row.log;
        share.note(segments.iter().map(|segment| segment.len).sum());
        let (mine, foreign): (Vec<_>, Vec<_>) = segments.into_iter().partition(|segment| segment.log.is_none_or(|of| of == log));
        for segment in foreign {
            let path = self.dir.join(segment.id.name());
            tracing::warn!(file = %path.display(), bytes = segment.len, "this segment belongs to no log that is known; it is left as it is");
            self.out.foreign.push(path);
        }
        mine
    }

    fn segment(&mut self, listed: &Listed, bound: u64) -> io::Result<()> {
        let id = listed.id;
        self.segments.insert(id, Segment { size: listed.len, data: 0, end: id.first, ..Segment::default() });
        if bound <= self.row.head.max(id.first) {
            return Ok(());
        }
        let mut walk = Walk::begin(self.disk, id, self.open(id, false)?, self.row.log, bound, listed.len)?;
        loop {
            match walk.next(self.disk)? {
                Step::End => return Ok(()),
                Step::Damage(bytes) => self.hole(id, bytes),
                // Before the known tail a header is enough: the body is checked when it is read.
                Step::Record(at, header) if header.seq >= self.row.tail && !self.has_body(&walk, at, &header)? => {
                    self.hole(id, at..at + header.record_len());
                }
                Step::Record(at, header) => self.record(id, at, &header),
            }
        }
    }

    fn hole(&mut self, id: SegmentId, bytes: Range<u64>) {
        self.open_holes.push(Hole { id, bytes, seq: self.expected.unwrap_or(id.first) });
    }

    fn has_body(&mut self, walk: &Walk, at: u64, header: &Header) -> io::Result<bool> {
        walk.read(self.disk, at + header.len as u64..at + header.record_len(), &mut self.codec.packed)?;
        Ok(self.codec.is_body_of(header))
    }

    fn record(&mut self, id: SegmentId, at: u64, header: &Header) {
        let seq = header.seq;
        if let Some(segment) = self.segments.get_mut(&id) {
            (segment.data, segment.end) = (at + header.record_len(), seq + 1);
        }
        if seq < self.row.head {
            return;
        }
        if self.expected.is_none() {
            self.window.head = seq;
        }
        self.missing(self.expected.unwrap_or(seq)..seq);
        self.expected = Some(seq + 1);
        let counts = Counts::of(&header.runs);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.first_ns = if segment.left.is_empty() { header.first_ns } else { segment.first_ns };
            segment.left.add_all(&counts);
        }
        self.window.add(&header.runs);
        if let Some(acked) = self.acked.remove(&seq) {
            self.window.know(seq, &header.runs);
            for (run, messages, count) in acked {
                self.window.acknowledge(&Place { seq, run, first: 0 }, messages, count);
            }
        }
        if seq < self.row.tail {
            let mut pending = counts;
            pending.sub_all(&self.window.acked_of(seq));
            self.unfound.sub_all(&pending);
        } else {
            self.out.rolled.extend((0..).zip(&header.runs).map(|(index, run)| rolled(seq, index, run, self.gap)));
        }
    }

    /// These records are not there, but what comes behind them is: what stands in their place is damage.
    fn missing(&mut self, seqs: Range<u64>) {
        let holes = std::mem::take(&mut self.open_holes);
        if !seqs.is_empty() {
            self.holes.extend(holes);
            self.gap |= seqs.end > self.row.tail;
            self.window.note_missing(seqs);
        }
    }

    /// All segments have been gone over: what is the tail, and what is lost?
    fn finish(&mut self) -> u64 {
        let expected = self.expected.unwrap_or(self.row.tail);
        let tail = expected.max(self.row.tail);
        if expected < tail {
            self.missing(expected..tail);
        }
        let lost = std::mem::take(&mut self.unfound);
        if !lost.is_empty() {
            let words = format!(
                "the spill of this lane should have records {} to {}, and some are missing or damaged: {}",
                self.row.head,
                tail.saturating_sub(1),
                lost_words(&lost)
            );
            self.out.lost = lost.iter().map(|(source, count)| (Arc::clone(source), count, words.clone())).collect();
        }
        tail
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path, error }
}

fn rolled(seq: u64, index: u32, run: &Run, behind_damage: bool) -> Rolled {
    let Run { stream, source, from, to, before, count, routed, .. } = run.clone();
    Rolled { seq, run: index, stream, source, from, to, before, count, behind_damage, routed }
}

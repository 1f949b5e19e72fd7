//! What is done about damage that is found while reading: set aside, counted exactly, passed over. Apart because recovery counts against the
//! snapshot, and this against what the headers said at the start.

use std::ops::Range;
use std::sync::Arc;

use super::counts::Counts;
use super::directory::{SegmentId, set_aside};
use super::format::Header;
use super::walk::{Step, Walk};
use super::{Spill, SpillError};
use crate::ledger::Count;

/// The most that is kept of one damaged place, bytes.
pub(super) const KEPT: u64 = 16 << 20;

/// Records that were there and are not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Their numbers.
    pub seqs: Vec<Range<u64>>,
    /// What of each source was in them, neither acknowledged nor in memory: exactly.
    pub lost: Vec<(Arc<str>, Count)>,
    /// What and where, for people.
    pub words: String,
}

impl Spill {
    /// The body of a record is not what its header says.
    pub(super) fn lose_body(&mut self, at: u64, header: &Header) -> Damaged {
        let seq = header.seq;
        let file = self.reader.walk_path();
        let kept = self.reader.bytes_of(&*self.disk, at..at + header.record_len());
        self.share.note(set_aside(&*self.disk, &self.dir, seq, &kept));
        let lost = self.window.lose(seq);
        self.settle();
        let words = format!("record {seq} at byte {at} of {file} is damaged: {}", lost_words(&lost));
        Damaged { seqs: std::iter::once(seq..seq + 1).collect(), lost: lost.list(), words }
    }

    /// Records of a segment can't be found any more: counts all of them at once, since only their sum is known.
    pub(super) fn lose_headers(&mut self, id: SegmentId) -> Result<Damaged, SpillError> {
        let path = self.dir.join(id.name());
        let (found, gaps, holes) = self.search(id).map_err(|error| self.unreadable(&error))?;
        let mut rest = self.segments.get(&id).map(|segment| segment.left.clone()).unwrap_or_default();
        let head = self.window.head;
        rest.sub_all(&found);
        self.writer.records.iter().filter(|record| record.seq >= head.max(id.first)).for_each(|record| rest.sub_all(&record.counts));
        let (mut lost, mut unknown) = (Counts::default(), Vec::new());
        for gap in &gaps {
            let mut from = gap.start;
            for (seq, counts) in self.window.known(gap.clone()) {
                rest.sub_all(&counts);
                lost.add_all(&self.window.lose(seq));
                unknown.push(from..seq);
                from = seq + 1;
            }
            unknown.push(from..gap.end);
        }
        unknown.retain(|range| !range.is_empty());
        lost.add_all(&rest);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.left.sub_all(&rest);
        }
        self.window.lose_unknown(unknown, &rest);
        self.settle();
        for (seq, bytes) in holes {
            self.share.note(set_aside(&*self.disk, &self.dir, seq, &bytes));
        }
        let records: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
        let words = format!("{records} records from {} on are gone from {}: {}", gap_start(&gaps), path.display(), lost_words(&lost));
        Ok(Damaged { seqs: gaps, lost: lost.list(), words })
    }

    /// Goes over a segment again: what is in its records from the head on, which are not there, and the bytes in their place.
    #[expect(clippy::type_complexity, reason = "three results of one pass, used in one place")]
    fn search(&self, id: SegmentId) -> std::io::Result<(Counts, Vec<Range<u64>>, Vec<(u64, Vec<u8>)>)> {
        let (mut found, mut gaps, mut holes) = (Counts::default(), Vec::new(), Vec::new());
        let Some(segment) = self.segments.get(&id) else { return Ok((found, gaps, holes)) };
        let end = segment.end.min(self.durable);
        let mut expected = id.first.max(self.window.head);
        match self.disk.open(&self.dir.join(id.name()), false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            handle => {
                let mut walk = Walk::begin(&*self.disk, id, handle?, self.log, end, segment.data)?;
                loop {
                    match walk.next(&*self.disk)? {
                        Step::End => break,
                        Step::Record(_, header) if header.seq < expected => {}
                        Step::Record(_, header) => {
                            gaps.push(expected..header.seq);
                            expected = header.seq + 1;
                            found.add_all(&Counts::of(&header.runs));
                        }
                        Step::Damage(range) if holes.len() < 16 => {
                            let mut bytes = Vec::new();
                            walk.read(&*self.disk, range.start..range.end.min(range.start + KEPT), &mut bytes)?;
                            holes.push((expected, bytes));
                        }
                        Step::Damage(_) => {}
                    }
                }
            }
        }
        gaps.push(expected..end.max(expected));
        Ok((found, self.window.not_missing(gaps), holes))
    }
}

fn gap_start(gaps: &[Range<u64>]) -> u64 {
    gaps.first().map_or(0, |gap| gap.start)
}

/// What was lost, for people.
pub(super) fn lost_words(lost: &Counts) -> String {
    let Count { events, bytes } = lost.total();
    format!("{events} events of {bytes} bytes are lost")
}

//! Goes over one segment file from record to record, by their headers, and finds the next good one behind bytes that are none. Apart because
//! recovery, reading and an operator's commands all walk alike. An I/O error is never taken for damage.

use std::io;
use std::ops::Range;

use memchr::memmem;

use super::directory::SegmentId;
use super::format::{Header, Malformed, RECORD_MAGIC, SegmentHeader};
use crate::durable::disk::{Disk, Handle, read_full};

/// How much is read at once where records are large and only their headers are wanted, and where they are small.
const CHUNKS: Range<usize> = 4 << 10..64 << 10;

/// In place of a log's id: any.
pub(super) const ANY: u64 = 0;

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Step {
    /// A record whose header is good and whose body lies within the file. It begins here.
    Record(u64, Header),
    /// These bytes are no record, and behind them is a good one, or the end.
    Damage(Range<u64>),
    End,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) id: SegmentId,
    pub(super) handle: Handle,
    log: u64,
    /// Where the next record should begin.
    at: u64,
    /// Bytes behind this are not looked at.
    pub(super) end: u64,
    /// Records from this one on are another segment's.
    bound: u64,
    /// Where to look for the next good record if none is at `at`: within the last one, should bytes of that be gone.
    scan_from: u64,
    /// The least number the next record can have.
    pub(super) least: u64,
    chunk: usize,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl Walk {
    /// At the first record of a segment: of log `log`, before record `bound`, within the first `end` bytes.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn begin(disk: &dyn Disk, id: SegmentId, handle: Handle, log: u64, bound: u64, end: u64) -> io::Result<Walk> {
        let chunk = CHUNKS.start;
        let mut walk = Walk { id, handle, log, at: 0, scan_from: 0, end, bound, least: id.first, chunk, buffer: Vec::new(), buffer_at: 0 };
        // Without a good header the records are looked for from the start; they bear the log's id as well.
        walk.at = walk.segment_header(disk)?.map_or(0, |(_, len)| len as u64);
        Ok(walk)
    }

    /// More of the file is durable now.
    pub(super) fn extend(&mut self, bound: u64, end: u64) {
        (self.bound, self.end) = (bound, end.max(self.end));
    }

    /// The segment's header and its length.
    pub(super) fn segment_header(&mut self, disk: &dyn Disk) -> io::Result<Result<(SegmentHeader, usize), Malformed>> {
        let mut parsed = SegmentHeader::parse(self.bytes(disk, 0, 64)?);
        if let Err(Malformed::Short(len)) = parsed {
            parsed = SegmentHeader::parse(self.bytes(disk, 0, len)?);
        }
        Ok(parsed)
    }

    /// What comes next.
    ///
    /// # Errors
    /// The file can't be read; the same step can be tried again.
    pub(super) fn next(&mut self, disk: &dyn Disk) -> io::Result<Step> {
        if self.at >= self.end || self.least >= self.bound {
            return Ok(Step::End);
        }
        let begin = self.at;
        if let Some(header) = self.header(disk, begin)? {
            self.chunk = if header.record_len() > CHUNKS.end as u64 { CHUNKS.start } else { CHUNKS.end };
            self.at = begin + header.record_len();
            self.scan_from = begin + 1;
            if header.seq >= self.bound {
                self.at = self.end;
                return Ok(Step::End);
            }
            self.least = header.seq + 1;
            return Ok(Step::Record(begin, header));
        }
        let found = self.scan(disk, self.scan_from.min(begin + 1))?;
        (self.at, self.scan_from) = (found, found);
        if found < begin { self.next(disk) } else { Ok(Step::Damage(begin..found)) }
    }

    /// Where the next good record begins at or behind `from`, else the end.
    fn scan(&mut self, disk: &dyn Disk, mut from: u64) -> io::Result<u64> {
        loop {
            let bytes = self.bytes(disk, from, CHUNKS.end)?;
            let len = bytes.len();
            let hits: Vec<u64> = memmem::find_iter(bytes, RECORD_MAGIC).map(|hit| from + hit as u64).collect();
            for hit in hits {
                if self.header(disk, hit)?.is_some() {
                    return Ok(hit);
                }
            }
            if len < RECORD_MAGIC.len() || from + len as u64 >= self.end {
                return Ok(self.end);
            }
            from += (len - (RECORD_MAGIC.len() - 1)) as u64;
        }
    }

    /// The header at `at`, if it is one of this log that follows, with its body within the file.
    fn header(&mut self, disk: &dyn Disk, at: u64) -> io::Result<Option<Header>> {
        let mut parsed = Header::parse(self.bytes(disk, at, 256)?);
        if let Err(Malformed::Short(len)) = parsed {
            parsed = Header::parse(self.bytes(disk, at, len)?);
        }
        let follows =
            |header: &Header| [ANY, header.log].contains(&self.log) && header.seq >= self.least && at + header.record_len() <= self.end;
        Ok(parsed.ok().filter(follows))
    }

    /// The bytes from `at` on: `len` of them, or more, or all there are.
    fn bytes(&mut self, disk: &dyn Disk, at: u64, len: usize) -> io::Result<&[u8]> {
        let len = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX).min(len);
        let has = self.buffer_at + self.buffer.len() as u64;
        if at < self.buffer_at || at + len as u64 > has {
            let want = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX).min(len.max(self.chunk));
            self.buffer.clear();
            self.buffer.resize(want, 0);
            let got = read_full(disk, &self.handle, &mut self.buffer, at);
            self.buffer.truncate(*got.as_ref().unwrap_or(&0));
            self.buffer_at = at;
            got?;
        }
        Ok(usize::try_from(at - self.buffer_at).ok().and_then(|skip| self.buffer.get(skip..)).unwrap_or_default())
    }

    /// Reads any bytes of the file into `room`; fewer where it has been cut.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn read(&self, disk: &dyn Disk, range: Range<u64>, room: &mut Vec<u8>) -> io::Result<()> {
        room.clear();
        room.resize(usize::try_from(range.end - range.start).unwrap_or(0), 0);
        let got = read_full(disk, &self.handle, room, range.start)?;
        room.truncate(got);
        Ok(())
    }
}

//! A lane's directory, looked at without a lane: for `spill ls/show/verify/export`. Apart because it only reads. While the daemon runs, the end of
//! the last segment may be half a record: that is no damage.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::Codec;
use super::directory::{self, SegmentId};
use super::format::{Header, Malformed, Run};
use super::read::restore;
use super::walk::{Step, Walk};
use crate::batch::{Batch, Place};
use crate::budget::Budget;
use crate::durable::disk::{Disk, Real};

/// A segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Which.
    pub id: SegmentId,
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its log and topic; `None` when its header is damaged.
    pub of: Option<(u64, String)>,
}

/// A record, by its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// The segment it is in.
    pub segment: SegmentId,
    /// Where it begins, bytes.
    pub at: u64,
    /// Its length in the file, bytes.
    pub bytes: u64,
    /// Its number.
    pub seq: u64,
    /// When the first and the last of it were read, ns since 1970.
    pub observed_ns: (i64, i64),
    /// What is in it, acknowledged or not: that stands in the state database.
    pub runs: Vec<Run>,
    header: Header,
}

/// What stands in a segment, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A record with a good header.
    Record(Box<RecordInfo>),
    /// Bytes that are no record.
    Damage {
        /// Of this segment.
        segment: SegmentId,
        /// From where to where.
        bytes: Range<u64>,
    },
}

/// What [`Inspector::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Good records.
    pub records: u64,
    /// Messages in them.
    pub messages: u64,
    /// Their bytes in the files.
    pub bytes: u64,
    /// What is wrong, for people: file, place, what.
    pub wrong: Vec<String>,
}

/// A lane's directory.
#[derive(Debug)]
pub struct Inspector {
    dir: PathBuf,
    topic: Arc<str>,
    /// In order.
    pub segments: Vec<SegmentInfo>,
    log: u64,
    codec: Codec,
    /// What is read back is charged here, to no daemon's budget.
    budget: Arc<Budget>,
}

impl Inspector {
    /// Looks at the segments in `dir`, the directory of a lane.
    ///
    /// # Errors
    /// Something can't be read.
    pub fn open(dir: &Path) -> io::Result<Inspector> {
        let mut segments = Vec::new();
        for id in directory::list(&Real, dir)?.segments {
            let path = dir.join(id.name());
            let handle = Real.open(&path, false)?;
            let bytes = Real.len(&handle)?;
            let header = Walk::begin(&Real, id, handle, 0, u64::MAX, bytes)?.segment_header(&Real)?;
            if let Err(Malformed::Newer(version)) = header {
                return Err(io::Error::other(format!("{} has version {version}: a newer logferry wrote it", path.display())));
            }
            segments.push(SegmentInfo { id, path, bytes, of: header.ok().map(|(header, _)| (header.log, header.topic)) });
        }
        let log = segments.iter().rev().find_map(|segment| segment.of.as_ref()).map_or(0, |(log, _)| *log);
        let topic = dir.file_name().unwrap_or_default().to_string_lossy().into();
        Ok(Inspector { dir: dir.to_owned(), topic, segments, log, codec: Codec::default(), budget: Budget::new(usize::MAX / 2) })
    }

    /// Calls `each` with what stands in the segments, in order, until it says false. Records that a later segment has again are left out.
    ///
    /// # Errors
    /// Something can't be read.
    pub fn each(&self, mut each: impl FnMut(Item) -> bool) -> io::Result<()> {
        for (index, segment) in self.segments.iter().enumerate() {
            let bound = self.segments.get(index + 1).map_or(u64::MAX, |next| next.id.first);
            let handle = Real.open(&segment.path, false)?;
            let mut walk = Walk::begin(&Real, segment.id, handle, self.log, bound, segment.bytes)?;
            loop {
                let item = match walk.next(&Real)? {
                    Step::End => break,
                    Step::Damage(bytes) => Item::Damage { segment: segment.id, bytes },
                    Step::Record(at, header) => Item::Record(Box::new(RecordInfo {
                        segment: segment.id,
                        at,
                        bytes: header.record_len(),
                        seq: header.seq,
                        observed_ns: (header.first_ns, header.last_ns),
                        runs: header.runs.clone(),
                        header,
                    })),
                };
                if !each(item) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The messages of a record, as batches; `None` if its body is damaged.
    ///
    /// # Errors
    /// It can't be read.
    pub fn messages(&mut self, record: &RecordInfo) -> io::Result<Option<Vec<Batch>>> {
        let handle = Real.open(&self.dir.join(record.segment.name()), false)?;
        let header = &record.header;
        let walk = Walk::begin(&Real, record.segment, handle, self.log, u64::MAX, record.at + record.bytes)?;
        walk.read(&Real, record.at + header.len as u64..record.at + record.bytes, &mut self.codec.packed)?;
        let Some(messages) = self.codec.decode(header)? else { return Ok(None) };
        let runs = (0..).zip(header.runs.iter().zip(messages));
        let place = |run| Place { seq: record.seq, run, first: 0 };
        Ok(Some(runs.map(|(index, (run, messages))| restore(&self.topic, run, messages, place(index), &self.budget)).collect()))
    }

    /// Reads everything and says what is wrong.
    ///
    /// # Errors
    /// Something can't be read.
    pub fn verify(&mut self) -> io::Result<Verified> {
        let (mut found, mut records) = (Verified::default(), Vec::new());
        let name = |segment: SegmentId| self.dir.join(segment.name()).display().to_string();
        let mut expected = None;
        self.each(|item| {
            match item {
                Item::Damage { segment, bytes } => {
                    found.wrong.push(format!("{}: bytes {} to {} are no record", name(segment), bytes.start, bytes.end));
                }
                Item::Record(record) => {
                    if let Some(expected) = expected.filter(|expected| *expected != record.seq) {
                        found.wrong.push(format!("{}: records {expected} to {} are missing", name(record.segment), record.seq - 1));
                    }
                    expected = Some(record.seq + 1);
                    records.push(record);
                }
            }
            true
        })?;
        for record in records {
            if self.messages(&record)?.is_some() {
                found.records += 1;
                found.messages += record.header.messages() as u64;
                found.bytes += record.bytes;
            } else {
                let file = self.dir.join(record.segment.name());
                found.wrong.push(format!("{}: the body of record {} at byte {} is damaged", file.display(), record.seq, record.at));
            }
        }
        Ok(found)
    }
}

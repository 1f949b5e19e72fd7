//! The spill's bytes on disk, versions 1 and 2: the one file that knows them, with [`super::body`] for what is inside a record's body. Pure. All
//! numbers are little-endian; sums are CRC-32C.
//!
//! A segment file is a header and records:
//! ```text
//!   at  size  segment header                          at  size  record header
//!    0     8  magic "LFSPILL\n"                        0     4  magic "LFRC"
//!    8     2  version, 1                               4     2  version, 1 or 2
//!   10     2  length of this header, all of it         6     2  0
//!   12     4  0                                        8     4  length of this header, all of it
//!   16     8  log: the id of this log, never 0        12     4  length of the body as it is in the file
//!   24     8  seq of its first record                 16     4  length of the body before compression, at most 64 MiB
//!   32     2  length of the topic                     20     4  sum of the body as it is in the file
//!   34     .  topic                                   24     8  log
//!    .     4  sum of all before                       32     8  seq: the record's number in its log, each one more than the last
//!                                                     40     8  when the first of it was read, ns since 1970
//!                                                     48     8  when the last of it was read
//!                                                     56     4  number of source names
//!                                                     60     4  number of runs
//!                                                     64     .  source names: length (2), UTF-8
//!                                                      .  56 a  runs, see below; in version 2 72 bytes a run
//!                                                      .     4  sum of all before
//!                                                      .     .  body
//!
//!   at  size  run: consecutive messages of one stream
//!    0     8  stream id
//!    8     8  from: where its source bytes begin in the stream
//!   16     8  to: where they end
//!   24     8  events that its stream had sent to this lane before
//!   32     8  bytes of the same
//!   40     8  whole events: one in parts counts with its last part
//!   48     4  messages
//!   52     2  source: index into the names
//!   54     2  flags: 1 = parts are told by message headers; in version 2 also 2 = its messages have headers of their own
//!            and in version 2
//!   56     8  source bytes of these messages alone; in version 1, and where the next is 0: all from `from` to `to`
//!   64     8  the number of the rules that gave this lane its share of the stream; 0: it has all
//! ```
//! A record is written in version 2 only where a run has a share of its stream, or headers, so that a release before both reads all others.
//!
//! The body is one zstd frame. A record is found again behind damage by its magic, its header's sum, the log's id and a seq that follows.

use std::sync::Arc;

use super::bytes::Bytes;
use crate::batch::StreamId;
use crate::ledger::Count;

/// The version of segments, and of records whose lane has all of each stream.
pub(super) const VERSION: u16 = 1;
/// The version of records with a run that has a share of its stream.
pub(super) const SHARES: u16 = 2;
/// The most a body may be before compression, bytes; more is not written, and not believed.
pub(super) const MAX_RAW: usize = 64 << 20;
/// The most a record's header may be, bytes.
const MAX_HEADER: usize = 16 << 20;
/// With what a record begins.
pub(super) const RECORD_MAGIC: &[u8; 4] = b"LFRC";
const SEGMENT_MAGIC: &[u8; 8] = b"LFSPILL\n";
const FIXED: usize = 64;
const RUN: usize = 56;
const SHARE: usize = 16;
const PART_HEADERS: u16 = 1;
const HEADERS: u16 = 2;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// They end before this many.
    Short(usize),
    /// They are something else, or were changed.
    Bad,
    /// A later release wrote them in this version.
    Newer(u16),
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log: u64,
    pub(super) first: u64,
    pub(super) topic: String,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let topic = self.topic.as_bytes();
        let len = 38 + topic.len();
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&short(len).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&short(topic.len()).to_le_bytes());
        out.extend_from_slice(topic);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Parses what `bytes` begin with; gives its length too.
    pub(super) fn parse(bytes: &[u8]) -> Result<(SegmentHeader, usize), Malformed> {
        let mut fixed = Bytes(bytes);
        let (magic, version, len) = (|| Some((fixed.take(8)?, fixed.u16()?, fixed.u16()?)))().ok_or(Malformed::Short(12))?;
        if magic != SEGMENT_MAGIC {
            return Err(Malformed::Bad);
        }
        let len = usize::from(len);
        let mut rest = checked(bytes, len)?;
        if version != VERSION {
            return Err(Malformed::Newer(version));
        }
        (|| {
            rest.take(16)?;
            let (log, first, topic) = (rest.u64()?, rest.u64()?, rest.u16()?);
            let topic = String::from_utf8(rest.take(usize::from(topic))?.to_vec()).ok()?;
            (rest.0.is_empty() && log != 0).then_some((SegmentHeader { log, first, topic }, len))
        })()
        .ok_or(Malformed::Bad)
    }
}

/// Consecutive messages of one stream within a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The stream.
    pub stream: StreamId,
    /// The source it belongs to.
    pub source: Arc<str>,
    /// Where the source bytes begin in the stream.
    pub from: u64,
    /// Where they end.
    pub to: u64,
    /// All that the stream had sent to this lane before.
    pub before: Count,
    /// Whole events, and the source bytes.
    pub count: Count,
    /// Messages; more than events where an event is in parts.
    pub messages: u32,
    /// Whether parts are told by message headers.
    pub part_headers: bool,
    /// Whether its messages have headers of their own, which are in the body.
    pub headers: bool,
    /// See [`crate::batch::Batch::routed`].
    pub routed: u64,
}

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log: u64,
    pub(super) seq: u64,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
    /// Bytes of this header.
    pub(super) len: usize,
    pub(super) body_len: usize,
    pub(super) raw_len: usize,
    pub(super) body_sum: u32,
    pub(super) runs: Vec<Run>,
}

impl Header {
    /// Header and body.
    pub(super) fn record_len(&self) -> u64 {
        (self.len + self.body_len) as u64
    }

    /// All messages.
    pub(super) fn messages(&self) -> usize {
        self.runs.iter().map(|run| run.messages as usize).sum()
    }

    /// How long the header of these runs is.
    pub(super) fn len_of(runs: &[Run]) -> usize {
        FIXED + names(runs).iter().map(|name| 2 + name.len()).sum::<usize>() + runs.len() * run_len(version_of(runs)) + 4
    }

    /// Writes it into `out`, which must have [`Header::len_of`] bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (names, version) = (names(&self.runs), version_of(&self.runs));
        out.clear();
        out.extend_from_slice(RECORD_MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        for number in [self.len, self.body_len, self.raw_len] {
            out.extend_from_slice(&long(number).to_le_bytes());
        }
        out.extend_from_slice(&self.body_sum.to_le_bytes());
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.first_ns.to_le_bytes());
        out.extend_from_slice(&self.last_ns.to_le_bytes());
        out.extend_from_slice(&long(names.len()).to_le_bytes());
        out.extend_from_slice(&long(self.runs.len()).to_le_bytes());
        for name in &names {
            out.extend_from_slice(&short(name.len()).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        for run in &self.runs {
            for number in [run.stream.0, run.from, run.to, run.before.events, run.before.bytes, run.count.events] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&run.messages.to_le_bytes());
            let source = names.iter().position(|name| *name == &run.source).unwrap_or(0);
            out.extend_from_slice(&short(source).to_le_bytes());
            let flags = if run.part_headers { PART_HEADERS } else { 0 } | if run.headers { HEADERS } else { 0 };
            out.extend_from_slice(&flags.to_le_bytes());
            if version == SHARES {
                out.extend_from_slice(&run.count.bytes.to_le_bytes());
                out.extend_from_slice(&run.routed.to_le_bytes());
            }
        }
        out.extend_from_slice(&crc32c::crc32c(out).to_le_bytes());
    }

    /// Parses what `bytes` begin with. The body need not be there.
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
        let mut fixed = Bytes(bytes);
        let start = (|| Some((fixed.take(4)?, fixed.u16()?, fixed.u16()?, fixed.u32()?)))();
        let (magic, version, _, len) = start.ok_or(Malformed::Short(FIXED))?;
        let len = len as usize;
        if magic != RECORD_MAGIC || !(FIXED + 4..=MAX_HEADER).contains(&len) {
            return Err(Malformed::Bad);
        }
        let rest = checked(bytes, len)?;
        if !(VERSION..=SHARES).contains(&version) {
            return Err(Malformed::Newer(version));
        }
        Header::fields(rest, len, version).ok_or(Malformed::Bad)
    }

    fn fields(mut rest: Bytes<'_>, len: usize, version: u16) -> Option<Header> {
        rest.take(12)?;
        let (body_len, raw_len, body_sum) = (rest.u32()? as usize, rest.u32()? as usize, rest.u32()?);
        let (log, seq, first_ns, last_ns) = (rest.u64()?, rest.u64()?, rest.i64()?, rest.i64()?);
        let (sources, runs) = (rest.u32()? as usize, rest.u32()? as usize);
        // No count is believed that its bytes could not hold.
        if raw_len > MAX_RAW
            || body_len > 2 * MAX_RAW
            || log == 0
            || seq == u64::MAX
            || sources > len / 2
            || rest.0.len() < runs * run_len(version)
        {
            return None;
        }
        let mut names: Vec<Arc<str>> = Vec::with_capacity(sources);
        for _ in 0..sources {
            let name = rest.u16()?;
            names.push(std::str::from_utf8(rest.take(usize::from(name))?).ok()?.into());
        }
        let runs = (0..runs).map(|_| run(&mut rest, &names, version)).collect::<Option<Vec<Run>>>()?;
        (rest.0.is_empty() && !runs.is_empty()).then_some(Header { log, seq, first_ns, last_ns, len, body_len, raw_len, body_sum, runs })
    }
}

/// The version that a record of these runs is written in.
fn version_of(runs: &[Run]) -> u16 {
    if runs.iter().any(|run| run.routed != 0 || run.headers) { SHARES } else { VERSION }
}

fn run_len(version: u16) -> usize {
    if version == SHARES { RUN + SHARE } else { RUN }
}

fn run(rest: &mut Bytes<'_>, names: &[Arc<str>], version: u16) -> Option<Run> {
    let (stream, from, to) = (StreamId(rest.u64()?), rest.u64()?, rest.u64()?);
    let before = Count { events: rest.u64()?, bytes: rest.u64()? };
    let (events, messages, source, flags) = (rest.u64()?, rest.u32()?, rest.u16()?, rest.u16()?);
    let all = to.checked_sub(from)?;
    let (bytes, routed) = if version == SHARES { (rest.u64()?, rest.u64()?) } else { (all, 0) };
    let source = Arc::clone(names.get(usize::from(source))?);
    let known = if version == SHARES { PART_HEADERS | HEADERS } else { PART_HEADERS };
    let sound = events <= u64::from(messages) && messages > 0 && flags & !known == 0 && (bytes == all || (routed != 0 && bytes < all));
    let (part_headers, headers) = (flags & PART_HEADERS != 0, flags & HEADERS != 0);
    sound.then_some(Run { stream, source, from, to, before, count: Count { events, bytes }, messages, part_headers, headers, routed })
}

/// The names of the sources, each once.
fn names(runs: &[Run]) -> Vec<&Arc<str>> {
    let mut names: Vec<&Arc<str>> = Vec::new();
    for run in runs {
        // Few sources feed one lane; those of one record fewer still.
        if !names.contains(&&run.source) {
            names.push(&run.source);
        }
    }
    names
}

/// The first `len` bytes without the sum that they end with, if it is right.
fn checked(bytes: &[u8], len: usize) -> Result<Bytes<'_>, Malformed> {
    let header = bytes.get(..len).ok_or(Malformed::Short(len))?;
    let (content, sum) = header.split_last_chunk::<4>().ok_or(Malformed::Bad)?;
    if crc32c::crc32c(content) == u32::from_le_bytes(*sum) { Ok(Bytes(content)) } else { Err(Malformed::Bad) }
}

/// Lengths are bounded before they come here: names by the configuration, records by [`MAX_RAW`].
fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn long(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

//! The rows of the state database as bytes. Pure; the one file that knows the layout. Little-endian throughout.
//!
//! ```text
//! stream row, versions 1 and 2                         ledger row, version 1
//!   u8   version                                         u8   version (1)
//!   u8   state: 0 live, 1 rotated, 2 gone, 3 copy        6 counts: read, delivered, filtered,
//!   u64  dev                                                  merged, dead-lettered, resent
//!   u64  ino                                             u64  possible duplicates
//!   u8   birth time known; i64 birth time, ns            u16  lost, each: str reason, count
//!   u16  head length, u64 head xxh3                      u16  missed, each: str reason, u64 events,
//!   u64  size last seen, u64 begun at                         u64 bytes, u64 times unknown
//!   i64  last seen, s since 1970                         u16  filtered, each: str rule, count;
//!                                                             left out where there is none
//!   u64  offset, u64 line start, u32 part,             lane row, version 1
//!   u32  hash, u8 tail length, tail bytes                u8   version (1)
//!   str  source, str key, str first path, str path       u64  log, u64 head, u64 tail
//!   u16  feeds, each: str topic,                         u32  acked, each: u64 record, u32 run,
//!        i32 partitions, count settled, u64 mark              u32 messages, count
//!   u64  number of the rules that route,                 u16  pending, each: str source, count
//!        in version 2 alone
//! str: u32 length, bytes
//! count: u64 events, u64 bytes
//! ```
//! redb keeps a checksum over its pages, so rows carry none; a row that doesn't parse is damage all the same and stops the start.

use std::sync::Arc;

use crate::batch::{Position, Tail};
use crate::ledger::{Amount, Count, Ledger, Lost, Missed};
use crate::spill::LaneRow;

/// What a stream's file is to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// At its path.
    Live,
    /// Renamed away, perhaps still written to.
    Rotated,
    /// Deleted or truncated: nothing more will come.
    Gone,
    /// Left behind by copytruncate: what it holds was read from its original.
    Copy,
}

/// By what a file is recognised, beside its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Device number; may change over a reboot.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Birth time, nanoseconds since 1970, where the file system has one.
    pub btime_ns: Option<i64>,
    /// How many bytes of the file's head the fingerprint covers.
    pub head_len: u16,
    /// xxh3 of them.
    pub head_hash: u64,
}

/// What is known of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its source's name.
    pub source: Arc<str>,
    /// The key of its messages.
    pub key: Box<[u8]>,
    /// The path under which it was first seen.
    pub first_path: Box<[u8]>,
    /// The path under which it was last seen.
    pub path: Box<[u8]>,
    /// What its file is.
    pub state: FileState,
    /// By what it is recognised.
    pub evidence: Evidence,
    /// The size last seen, bytes.
    pub size: u64,
    /// When it was last seen, seconds since 1970.
    pub seen_s: i64,
    /// The offset at which reading began; the position's hash counts from here.
    pub begun_at: u64,
    /// All before it is settled in every lane.
    pub position: Position,
    /// How it stands with each lane that it feeds.
    pub feeds: Vec<FeedRow>,
    /// The number of the rules that gave lanes their shares of what lies between the position and the marks, see [`crate::batch::Batch::routed`];
    /// 0: there was one lane, which had all. [`MIXED`]: several gave.
    pub routed: u64,
}

/// In place of the number of the rules: no rules have it.
pub const MIXED: u64 = u64::MAX;

/// How a stream stands with one lane that it feeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedRow {
    /// The lane's topic.
    pub topic: Arc<str>,
    /// The topic's partition count at the stream's first send, which fixes its partition; 0 before.
    pub partitions: i32,
    /// All of the stream that is settled in this lane, up to the mark or the position, whichever is further on.
    pub settled: Count,
    /// Events that end at or before this offset are settled in this lane; says something only beyond the position.
    pub mark: u64,
}

impl StreamRow {
    /// A stream that begins at this position, at a path or none, of which nothing else is known.
    #[must_use]
    pub fn begun(source: Arc<str>, key: Box<[u8]>, path: &[u8], position: Position) -> StreamRow {
        StreamRow {
            source,
            key,
            first_path: path.into(),
            path: path.into(),
            state: FileState::Live,
            evidence: Evidence::default(),
            size: 0,
            seen_s: 0,
            begun_at: position.offset,
            position,
            feeds: Vec::new(),
            routed: 0,
        }
    }

    /// How it stands with this lane.
    #[must_use]
    pub fn feed(&self, topic: &str) -> Option<&FeedRow> {
        self.feeds.iter().find(|feed| &*feed.topic == topic)
    }

    /// Up to where this lane has all events of the stream; 0 where there is none, or rules had given it a share: then they know what it has.
    #[must_use]
    pub fn mark(&self, topic: &str) -> u64 {
        self.feed(topic).filter(|_| self.routed == 0).map_or(0, |feed| feed.mark)
    }
}

/// A row that doesn't parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Written by a newer release.
    #[error("its version {0} is newer than this release knows")]
    Version(u8),
    /// Too short, too long, or a value that can't be.
    #[error("its bytes make no sense")]
    Damaged,
}

const VERSION: u8 = 1;
/// Of a stream row with the number of rules that route; others are written in version 1, which releases before `route` read.
const ROUTED: u8 = 2;

/// Appends values to a row.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: usize) -> &mut Self {
        // Reasons, lanes and sources are far fewer; more would not come back and be refused as damage.
        self.put(&u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn count(&mut self, count: Count) -> &mut Self {
        self.u64(count.events).u64(count.bytes)
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    pub(crate) fn str(&mut self, bytes: &[u8]) -> &mut Self {
        // Paths and names are far below 4 GiB; a longer one would not come back and be refused as damage.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&len.to_le_bytes()).put(bytes)
    }
}

/// Takes values from a row.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], RowError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(RowError::Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], RowError> {
        self.take(N)?.try_into().map_err(|_| RowError::Damaged)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, RowError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, RowError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, RowError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, RowError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, RowError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn count(&mut self) -> Result<Count, RowError> {
        Ok(Count { events: self.u64()?, bytes: self.u64()? })
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], RowError> {
        let len = self.u32()? as usize;
        self.take(len)
    }

    pub(crate) fn str(&mut self) -> Result<Arc<str>, RowError> {
        std::str::from_utf8(self.bytes()?).map(Arc::from).map_err(|_| RowError::Damaged)
    }

    pub(crate) fn version(&mut self) -> Result<(), RowError> {
        match self.u8()? {
            VERSION => Ok(()),
            newer if newer > VERSION => Err(RowError::Version(newer)),
            _ => Err(RowError::Damaged),
        }
    }

    pub(crate) fn end(&self) -> Result<(), RowError> {
        if self.0.is_empty() { Ok(()) } else { Err(RowError::Damaged) }
    }
}

impl StreamRow {
    /// The row as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer(Vec::with_capacity(256));
        let state = match self.state {
            FileState::Live => 0,
            FileState::Rotated => 1,
            FileState::Gone => 2,
            FileState::Copy => 3,
        };
        let evidence = &self.evidence;
        w.put(&[if self.routed == 0 { VERSION } else { ROUTED }, state]).u64(evidence.dev).u64(evidence.ino);
        w.put(&[u8::from(evidence.btime_ns.is_some())]).put(&evidence.btime_ns.unwrap_or(0).to_le_bytes());
        w.put(&evidence.head_len.to_le_bytes()).u64(evidence.head_hash).u64(self.size).u64(self.begun_at).put(&self.seen_s.to_le_bytes());
        let position = &self.position;
        w.u64(position.offset).u64(position.line_start).put(&position.part.to_le_bytes()).put(&position.hash.to_le_bytes());
        let tail = position.tail.as_bytes();
        w.put(&[u8::try_from(tail.len()).unwrap_or(0)]).put(tail);
        w.str(self.source.as_bytes()).str(&self.key).str(&self.first_path).str(&self.path);
        w.u16(self.feeds.len());
        for feed in &self.feeds {
            w.str(feed.topic.as_bytes()).put(&feed.partitions.to_le_bytes()).count(feed.settled).u64(feed.mark);
        }
        if self.routed != 0 {
            w.u64(self.routed);
        }
        w.0
    }

    /// The row from bytes.
    ///
    /// # Errors
    /// Damage, or a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<StreamRow, RowError> {
        let mut r = Reader(bytes);
        let version = r.u8()?;
        if !(VERSION..=ROUTED).contains(&version) {
            return Err(if version > ROUTED { RowError::Version(version) } else { RowError::Damaged });
        }
        let state = match r.u8()? {
            0 => FileState::Live,
            1 => FileState::Rotated,
            2 => FileState::Gone,
            3 => FileState::Copy,
            _ => return Err(RowError::Damaged),
        };
        let (dev, ino) = (r.u64()?, r.u64()?);
        let known = r.u8()? != 0;
        let btime = r.i64()?;
        let evidence = Evidence { dev, ino, btime_ns: known.then_some(btime), head_len: r.u16()?, head_hash: r.u64()? };
        let (size, begun_at, seen_s) = (r.u64()?, r.u64()?, r.i64()?);
        let (offset, line_start, part, hash) = (r.u64()?, r.u64()?, r.u32()?, r.u32()?);
        let tail_len = usize::from(r.u8()?);
        if tail_len > crate::batch::TAIL {
            return Err(RowError::Damaged);
        }
        let tail = Tail::EMPTY.after(r.take(tail_len)?);
        let (source, key, first_path, path) = (r.str()?, r.bytes()?.into(), r.bytes()?.into(), r.bytes()?.into());
        let mut feeds = Vec::new();
        for _ in 0..r.u16()? {
            feeds.push(FeedRow { topic: r.str()?, partitions: i32::from_le_bytes(r.array()?), settled: r.count()?, mark: r.u64()? });
        }
        let routed = if version == ROUTED { r.u64()? } else { 0 };
        r.end()?;
        let position = Position { offset, line_start, part, hash, tail };
        Ok(StreamRow { source, key, first_path, path, state, evidence, size, seen_s, begun_at, position, feeds, routed })
    }
}

impl Ledger {
    /// The row as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer(vec![VERSION]);
        w.count(self.read).count(self.delivered).count(self.filtered).count(self.merged).count(self.dead_lettered).count(self.resent);
        w.u64(self.possible_duplicates).u16(self.lost.len());
        for (reason, count) in &self.lost {
            w.str(reason.word().as_bytes()).count(*count);
        }
        w.u16(self.missed.len());
        for (reason, amount) in &self.missed {
            w.str(reason.word().as_bytes()).u64(amount.events).u64(amount.bytes).u64(amount.unknown);
        }
        // Left out where there is none, as in rows from before there were rules.
        if !self.filtered_by.is_empty() {
            w.u16(self.filtered_by.len());
        }
        for (rule, count) in &self.filtered_by {
            w.str(rule.as_bytes()).count(*count);
        }
        w.0
    }

    /// The row from bytes.
    ///
    /// # Errors
    /// Damage, or a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Ledger, RowError> {
        let mut r = Reader(bytes);
        r.version()?;
        let mut ledger = Ledger {
            read: r.count()?,
            delivered: r.count()?,
            filtered: r.count()?,
            merged: r.count()?,
            dead_lettered: r.count()?,
            resent: r.count()?,
            possible_duplicates: r.u64()?,
            ..Ledger::default()
        };
        for _ in 0..r.u16()? {
            let word = r.str()?;
            let reason = Lost::ALL.into_iter().find(|reason| reason.word() == &*word).ok_or(RowError::Damaged)?;
            ledger.lost.insert(reason, r.count()?);
        }
        for _ in 0..r.u16()? {
            let word = r.str()?;
            let reason = Missed::ALL.into_iter().find(|reason| reason.word() == &*word).ok_or(RowError::Damaged)?;
            ledger.missed.insert(reason, Amount { events: r.u64()?, bytes: r.u64()?, unknown: r.u64()? });
        }
        let rules = if r.0.is_empty() { 0 } else { r.u16()? };
        for _ in 0..rules {
            ledger.filtered_by.insert(r.str()?, r.count()?);
        }
        r.end()?;
        Ok(ledger)
    }
}

impl LaneRow {
    /// The row as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer(vec![VERSION]);
        w.u64(self.log).u64(self.head).u64(self.tail);
        w.u32(u32::try_from(self.acked.len()).unwrap_or(u32::MAX));
        for (seq, run, messages, count) in &self.acked {
            w.u64(*seq).u32(*run).u32(*messages).count(*count);
        }
        w.u16(self.pending.len());
        for (source, count) in &self.pending {
            w.str(source.as_bytes()).count(*count);
        }
        w.0
    }

    /// The row from bytes.
    ///
    /// # Errors
    /// Damage, or a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<LaneRow, RowError> {
        let mut r = Reader(bytes);
        r.version()?;
        let mut row = LaneRow { log: r.u64()?, head: r.u64()?, tail: r.u64()?, ..LaneRow::default() };
        for _ in 0..r.u32()? {
            row.acked.push((r.u64()?, r.u32()?, r.u32()?, r.count()?));
        }
        for _ in 0..r.u16()? {
            row.pending.push((r.str()?, r.count()?));
        }
        r.end()?;
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed((topic, partitions, mark): (String, i32, u64)) -> FeedRow {
        FeedRow { topic: topic.into(), partitions, settled: Count { events: mark / 3, bytes: mark }, mark }
    }

    fn row() -> impl Strategy<Value = StreamRow> {
        let evidence = (any::<u64>(), any::<u64>(), any::<Option<i64>>(), any::<u16>(), any::<u64>());
        let position = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..80));
        let names = (
            any::<String>(),
            any::<Vec<u8>>(),
            any::<Vec<u8>>(),
            prop::collection::vec((any::<String>(), any::<i32>(), any::<u64>()), 0..3),
        );
        (evidence, position, names, any::<(u64, i64)>(), 0..4_u8).prop_map(|(e, p, n, (size, seen_s), state)| StreamRow {
            source: n.0.into(),
            key: n.1.into(),
            first_path: n.2.clone().into(),
            path: n.2.into(),
            state: [FileState::Live, FileState::Rotated, FileState::Gone, FileState::Copy][usize::from(state)],
            evidence: Evidence { dev: e.0, ino: e.1, btime_ns: e.2, head_len: e.3, head_hash: e.4 },
            size,
            seen_s,
            begun_at: size / 2,
            position: Position { offset: p.0, line_start: p.1, part: p.2, hash: p.3, tail: Tail::EMPTY.after(&p.4) },
            feeds: n.3.into_iter().map(feed).collect(),
            routed: size % 3,
        })
    }

    proptest! {
        #[test]
        fn a_stream_row_comes_back_as_it_was_and_no_cut_or_longer_one_does(row in row(), cut in any::<prop::sample::Index>()) {
            let bytes = row.to_bytes();
            prop_assert_eq!(StreamRow::from_bytes(&bytes), Ok(row));
            prop_assert!(StreamRow::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
            let longer = [bytes.as_slice(), &[0]].concat();
            prop_assert_eq!(StreamRow::from_bytes(&longer), Err(RowError::Damaged));
        }

        #[test]
        fn any_bytes_at_all_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StreamRow::from_bytes(&bytes);
            let _ = Ledger::from_bytes(&bytes);
            let _ = LaneRow::from_bytes(&bytes);
        }
    }

    fn count(events: u64) -> Count {
        Count { events, bytes: events * 100 }
    }

    #[test]
    fn a_ledger_comes_back_as_it_was() {
        let ledger = Ledger {
            read: count(21),
            delivered: count(7),
            filtered: count(2),
            filtered_by: [("health checks".into(), count(2))].into(),
            merged: count(4),
            dead_lettered: count(5),
            lost: Lost::ALL.into_iter().zip([count(1), count(2)]).collect(),
            missed: Missed::ALL.into_iter().zip((1..).map(|bytes| Amount { events: 3, bytes, unknown: 8 })).collect(),
            resent: count(6),
            possible_duplicates: 3,
        };
        assert_eq!(Ledger::from_bytes(&ledger.to_bytes()), Ok(ledger.clone()));
        let old = Ledger { filtered_by: [].into(), ..ledger };
        assert_eq!(Ledger::from_bytes(&old.to_bytes()), Ok(old));
    }

    #[test]
    fn a_lane_row_comes_back_as_it_was_and_no_cut_one_does() {
        let row = LaneRow { log: 9, head: 4, tail: 8, acked: vec![(4, 1, 17, count(5))], pending: vec![("web".into(), count(3))] };
        let bytes = row.to_bytes();
        (0..bytes.len()).for_each(|cut| assert!(LaneRow::from_bytes(&bytes[..cut]).is_err()));
        assert_eq!(LaneRow::from_bytes(&bytes), Ok(row));
    }

    #[test]
    fn a_newer_row_is_refused_as_newer() {
        assert_eq!(StreamRow::from_bytes(&[3, 0]), Err(RowError::Version(3)));
        assert_eq!(LaneRow::from_bytes(&[2, 0]), Err(RowError::Version(2)));
    }
}

//! What a start finds of an arrival log: which files belong to it, where it ends, and whether the power went. Reads, and changes nothing but what it
//! cuts off.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{BLOCK_HEADER, Block, BlockHeader, LEAP, NoSegment, SEGMENT_HEADER, SegmentHeader, next_block, parse_segment_name};
use super::log::{Log, Place, Store};
use crate::batch::StreamId;
use crate::durable::disk::{Disk, Handle, read_full};
use crate::ledger::Count;
use crate::spill::KeepFree;
use crate::spill::room::Share;

/// What is read at a time, bytes.
const WINDOW: usize = 1 << 20;
/// The same where only headers are looked at: what follows of a longer block is left out.
const GLANCE: usize = 16 << 10;

/// Why a log can't be taken in. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An I/O error, which is never taken for damage.
    #[error("the arrival log {} can't be read: {error}; nothing was changed, try again", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Of a newer release.
    #[error("the arrival log {} was written by a newer release of logferry: start that one", .0.display())]
    Newer(PathBuf),
}

/// What was found beside the log itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of a block that was not written whole, or of what a crash left; they were never accepted.
    pub torn: u64,
    /// The machine has started anew without a clean stop before: what was accepted last may be gone. When the last message that is there was
    /// received, ns since 1970; 0 if none is.
    pub power_loss: Option<i64>,
    /// Bytes that were accepted, as the state says, and are neither there nor settled.
    pub lost: u64,
    /// What is there and not settled. A message in parts counts with each of them, since only headers are looked at; what is read corrects it.
    pub unread: Count,
}

/// What the state knows of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) stream: StreamId,
    /// All before it is settled.
    pub(super) position: u64,
    /// Up to here some is settled.
    pub(super) mark: u64,
    /// Up to here there was something.
    pub(super) size: u64,
    /// Where the last run began to write, and in which boot: see [`boot_mark`].
    pub(super) begun: u64,
    pub(super) boot: u64,
}

/// What a log is opened with.
pub(super) struct Opening {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) boot: [u8; 16],
    pub(super) share: Share,
    pub(super) keep_free: KeepFree,
    pub(super) known: Option<Known>,
}

struct Found {
    header: SegmentHeader,
    attempt: u32,
    handle: Arc<Handle>,
    /// Bytes of blocks.
    len: u64,
}

impl Found {
    fn end(&self) -> u64 {
        self.header.first.saturating_add(self.len)
    }
}

/// Opens a log; `mint` gives the stream of one that is begun.
pub(super) fn open(opening: Opening, mint: impl FnOnce() -> StreamId) -> Result<(Log, Recovered), OpenError> {
    let Opening { disk, dir, boot, share, keep_free, known } = opening;
    let (mut found, unreadable_to) = list(&*disk, &dir)?;
    // A state that was removed leaves the log: then it goes on as the log says.
    let stream = known.map(|known| known.stream).or_else(|| found.last().map(|last| last.header.stream)).unwrap_or_else(mint);
    found.retain(|segment| {
        let ours = segment.header.stream == stream;
        if !ours {
            tracing::warn!(file = %segment.handle.path.display(), "a segment of another stream lies in the arrival log; it is left alone");
        }
        ours
    });
    one_for_each_offset(&*disk, &mut found);
    let mut recovered = Recovered::default();
    let ended_in_order = cut(&*disk, &mut found, (&boot, known), &mut recovered)?;

    let begin = found.first().map_or(0, |first| first.header.first);
    let known = known.unwrap_or(Known { stream, position: begin, mark: 0, size: 0, begun: 0, boot: 0 });
    let after = found.iter().map(Found::end).max().unwrap_or(0).max(unreadable_to).max(known.position);
    recovered.lost = known.size.saturating_sub(after.max(known.mark));
    // No offset is given twice (what memory alone held may be in Kafka), and none that a mark is ahead of: it would pass for settled.
    let named = after.max(known.mark).max(known.size).max(known.begun);
    let leaps_on = !ended_in_order || named > after;
    let tail = if leaps_on { (named / LEAP).saturating_add(1).saturating_mul(LEAP) } else { after };

    let mut log = Log {
        disk,
        dir,
        stream,
        boot,
        share,
        keep_free,
        stores: BTreeMap::new(),
        active: None,
        tail,
        after,
        // What is found was never synced by this process.
        synced: known.position.min(tail),
        held: 0,
        memory: 0,
        leaps: Vec::new(),
        // By the last run, perhaps.
        made: true,
    };
    let nexts: Vec<u64> = found.iter().skip(1).map(|next| next.header.first).chain([u64::MAX]).collect();
    for (segment, next) in found.iter().zip(nexts) {
        let SegmentHeader { first, after, .. } = segment.header;
        let end = segment.end().min(next);
        log.share.note(segment.len);
        log.held += end - first;
        log.leaps.extend((after < first).then_some((after, first)));
        let place = Place::File(Arc::clone(&segment.handle));
        log.stores.insert(first, Store { place, end, after, charged: segment.len, failed: false });
        let counted = count(&*log.disk, segment, end, known.position.max(known.mark));
        recovered.unread += counted.map_err(|error| OpenError::Io { path: segment.handle.path.clone(), error })?;
    }
    log.leaps.extend(leaps_on.then_some((after, tail)));
    Ok((log, recovered))
}

/// Of files that begin alike the longest counts: the others are empty, or were written anew.
fn one_for_each_offset(disk: &dyn Disk, found: &mut Vec<Found>) {
    found.sort_by_key(|segment| (segment.header.first, segment.len, segment.attempt));
    let firsts: Vec<u64> = found.iter().skip(1).map(|next| next.header.first).collect();
    let mut nexts = firsts.into_iter();
    found.retain(|segment| {
        let counts = nexts.next() != Some(segment.header.first);
        if !counts {
            drop(disk.remove(&segment.handle.path));
        }
        counts
    });
}

/// Cuts off what was not written whole at the end, and finds out how the log ended; says whether in order.
fn cut(
    disk: &dyn Disk,
    found: &mut [Found],
    (boot, known): (&[u8; 16], Option<Known>),
    recovered: &mut Recovered,
) -> Result<bool, OpenError> {
    let io = |segment: &Found, error| OpenError::Io { path: segment.handle.path.clone(), error };
    let Some((last, before)) = found.split_last_mut() else {
        // Each run leaves a segment, unless it could not write one or the power took it.
        recovered.power_loss = known.filter(|known| known.boot != boot_mark(boot)).map(|_| 0);
        return Ok(known.is_none());
    };
    let walked = walk(disk, last).map_err(|error| io(last, error))?;
    recovered.torn = last.len - walked.len;
    if recovered.torn > 0 {
        // It would not be read in any case; a file that can't be cut is no reason to stay down.
        drop(disk.truncate(&last.handle, SEGMENT_HEADER as u64 + walked.len));
        last.len = walked.len;
    }
    // The last run's own files may be gone; what is there is of an earlier one then.
    let gone = known.filter(|known| known.begun >= last.end() && known.begun > last.header.first);
    let in_order = walked.clean && gone.is_none();
    let other_boot = gone.map_or(last.header.boot != *boot, |known| known.boot != boot_mark(boot));
    if other_boot && !in_order {
        let mut received_ns = walked.received_ns;
        if let Some(segment) = before.iter().rfind(|segment| segment.len > 0).filter(|_| received_ns == 0) {
            received_ns = walk(disk, segment).map_err(|error| io(segment, error))?.received_ns;
        }
        recovered.power_loss = Some(received_ns);
    }
    Ok(in_order)
}

/// What the state keeps of a boot's id.
pub(super) fn boot_mark(boot: &[u8; 16]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| boot.get(at).copied().unwrap_or(0)))
}

/// The segments that are there, and up to where those reach whose header is damaged.
fn list(disk: &dyn Disk, dir: &Path) -> Result<(Vec<Found>, u64), OpenError> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        names => names.map_err(|error| OpenError::Io { path: dir.to_owned(), error })?,
    };
    let mut ids: Vec<_> = names.iter().filter_map(|name| Some((parse_segment_name(name)?, name))).collect();
    ids.sort_unstable();
    let (mut found, mut unreadable_to) = (Vec::new(), 0);
    for ((first, attempt), name) in ids {
        let path = dir.join(name);
        let io = |error| OpenError::Io { path: path.clone(), error };
        let handle = disk.open(&path, true).map_err(io)?;
        let len = disk.len(&handle).map_err(io)?;
        let mut head = [0; SEGMENT_HEADER];
        let got = read_full(disk, &handle, &mut head, 0).map_err(io)?;
        let len = len.saturating_sub(SEGMENT_HEADER as u64);
        match SegmentHeader::parse(head.get(..got).unwrap_or_default()) {
            Ok(header) if header.first == first => found.push(Found { header, attempt, handle: Arc::new(handle), len }),
            Err(NoSegment::Newer) => return Err(OpenError::Newer(path)),
            // Half a copy; or a kill came between making it and its first byte. With blocks behind it, damage.
            Err(NoSegment::Unfinished) => drop(disk.remove(&path)),
            _ if len == 0 => drop(disk.remove(&path)),
            _ => {
                tracing::error!(file = %path.display(), bytes = len, "a segment of the arrival log has a damaged header; it is left alone, and what it held counts as missed");
                unreadable_to = unreadable_to.max(first.saturating_add(len));
            }
        }
    }
    Ok((found, unreadable_to))
}

/// What a segment holds behind `from`, by the headers of its blocks: a start must not wait until gigabytes are read.
fn count(disk: &dyn Disk, segment: &Found, end: u64, from: u64) -> io::Result<Count> {
    let (mut sum, mut window) = (Count::default(), Vec::new());
    let mut at = segment.header.first;
    while at < end && end > from {
        let want = usize::try_from(end - at).unwrap_or(GLANCE).min(GLANCE);
        window.resize(want, 0);
        let got = read_full(disk, &segment.handle, &mut window, SEGMENT_HEADER as u64 + (at - segment.header.first))?;
        window.truncate(got);
        let mut read = 0;
        while let Some(header) = window.get(read..).and_then(BlockHeader::parse) {
            let (begin, len) = (at + read as u64, header.block_len() as u64);
            // Of a block that is settled in part, what is not: about, as messages go.
            let left = (begin + len).saturating_sub(from.max(begin));
            sum += Count { events: (u64::from(header.messages) * left).div_ceil(len), bytes: left };
            read += header.block_len();
        }
        if read == 0 {
            // Damage: who reads it counts it.
            break;
        }
        at += read as u64;
    }
    Ok(sum)
}

/// What the blocks of a segment come to.
struct Walked {
    /// Bytes up to behind the last good block.
    len: u64,
    /// The last thing is the end of a clean stop.
    clean: bool,
    received_ns: i64,
}

/// Walks all blocks. Damage with good blocks behind it is no end: who reads it counts it.
fn walk(disk: &dyn Disk, segment: &Found) -> io::Result<Walked> {
    let mut walked = Walked { len: 0, clean: false, received_ns: 0 };
    let (mut at, mut window) = (0_u64, Vec::new());
    while at < segment.len {
        let want = usize::try_from(segment.len - at).unwrap_or(WINDOW).min(WINDOW);
        window.resize(want, 0);
        let got = read_full(disk, &segment.handle, &mut window, SEGMENT_HEADER as u64 + at)?;
        window.truncate(got);
        // A block longer than the window is read whole.
        if let Some(header) = BlockHeader::parse(&window).filter(|header| header.block_len() > got) {
            window.resize(header.block_len(), 0);
            let got = read_full(disk, &segment.handle, &mut window, SEGMENT_HEADER as u64 + at)?;
            window.truncate(got);
        }
        if window.len() < BLOCK_HEADER {
            break;
        }
        let step = match Block::parse(&window) {
            Some(block) => {
                (walked.clean, walked.received_ns) = (block.header.end, block.header.received_ns);
                walked.len = at + block.header.block_len() as u64;
                block.header.block_len()
            }
            // Kept at its last bytes, where a header may be cut.
            None => next_block(&window, 1).unwrap_or_else(|| window.len().saturating_sub(BLOCK_HEADER - 1).max(1)),
        };
        at += step as u64;
    }
    Ok(walked)
}

//! One file that is being read: where reading stands, and one turn of it. Apart because a turn concerns one file alone; what files are to each
//! other is [`super::scan`] and [`super::rotation`].

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::charset::{Charset, Named};
use super::content::Content;
use super::identity::{HEAD, compression, head_agrees};
use super::reader::{self, Found};
use super::rotation::QUIET;

use super::unpack::Packed;
use super::{Common, Settings};
use crate::batch::{Position, Stream, TAIL};

use crate::gaps;
use crate::ledger::{Amount, Missed};
use crate::settlement::At;
use crate::snapshot::rows::Evidence;
use crate::source::Outlet;

/// How long after its last growth a file counts as being written to.
const HOT: Duration = Duration::from_secs(3);

/// Where the file is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At its path, the one that it was first seen under.
    AtPath,
    /// Renamed or replaced, since then.
    Rotated(Instant),
    /// Deleted, since then; only this descriptor holds it.
    Deleted(Instant),
    /// In its compressed form, all of which has been read.
    Finished,
}

impl Place {
    /// Whether only a descriptor holds it.
    #[must_use]
    pub fn is_deleted(self) -> bool {
        matches!(self, Place::Deleted(_))
    }
}

/// What a turn works with.
pub struct Hands<'a> {
    /// The source's settings.
    pub settings: &'a Settings,
    /// What the source shares with the daemon.
    pub common: &'a Common,
    /// Where events go.
    pub outlet: &'a mut dyn Outlet,
    /// For small reads; keeps its capacity.
    pub scratch: &'a mut Vec<u8>,
    /// How much is read at once, bytes.
    pub block: usize,
    /// The time of the turn.
    pub now: Instant,
}

/// The encoding of a file; kept in `known` once it is sure.
fn charset_of(known: &mut Option<Charset>, named: Named, file: &Content) -> io::Result<Charset> {
    if let Some(charset) = known {
        return Ok(*charset);
    }
    let head = if named.is_by_mark() { file.head()? } else { Vec::new() };
    let charset = named.of_file(&head);
    // Before there are as many bytes as a mark has there is no line, either.
    if !named.is_by_mark() || head.len() >= named.unit() {
        *known = Some(charset);
    }
    Ok(charset)
}

/// How much is read where a block does not hold one event: more than any message has, and than lines are joined to.
fn long_block(settings: &Settings, common: &Common) -> usize {
    let joined = settings.multiline.as_ref().map_or(0, |lines| lines.max_size);
    common.max_event.max(joined) + (64 << 10)
}

/// What came of a turn.
#[derive(Debug)]
pub enum Turn {
    /// There is more at once.
    More,
    /// All that is there has been read.
    End,
    /// The file is not what it was.
    Truncated {
        /// Its size now, bytes.
        size: u64,
    },
    /// Its first bytes are those of a compressed file.
    Compressed(&'static str),
    /// It is read from a compressed file, which turned out to be whole and the right one.
    Proved {
        /// Its size when it is unpacked, bytes.
        size: u64,
    },
    /// The compressed file is not the one that it was taken for.
    Other,
    /// It can't be read.
    Failed(io::Error),
}

/// A file that is being read.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Tailed {
    /// The stream its events are of.
    pub stream: Arc<Stream>,
    /// Where it was last seen.
    pub path: PathBuf,
    /// Closed while many others are busier.
    pub file: Option<Content>,
    /// By what it is recognised.
    pub evidence: Evidence,
    /// All before it has been handed on.
    pub at: Position,
    /// Events that end at or before this offset are settled already.
    pub skip_to: u64,
    /// The size last seen, bytes.
    pub size: u64,
    /// Where it is.
    pub place: Place,
    /// When it was last written to, as the search saw it, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When it last grew.
    pub grew: Instant,
    /// Whether it stands in line to be read.
    pub queued: bool,
    /// Read only when that stream is at its end: both have one key.
    pub after: Option<crate::batch::StreamId>,
    /// The search in which it was last found.
    pub found_in: u64,
    /// Set when a line longer than a block needs a larger one.
    pub long: bool,
    /// The last read came to the end.
    pub ended: bool,
    /// At its end are whole lines that may be joined with more; they are shipped when `multiline` has waited long enough.
    pub open: bool,
    /// Its encoding, when that is known; `None`: not yet, or it does not matter.
    pub charset: Option<Charset>,
    /// That something in it is no character was said.
    pub told_replaced: bool,
    /// The offset at which reading began; the position's hash counts from here.
    pub begun_at: u64,
    /// When the state last noted that it is there, seconds since 1970.
    pub seen_s: i64,
}

impl Tailed {
    /// A file to be read from `at`.
    #[must_use]
    pub fn new(stream: Arc<Stream>, path: PathBuf, file: Option<Content>, evidence: Evidence, at: Position, now: Instant) -> Tailed {
        Tailed {
            stream,
            path,
            file,
            evidence,
            at,
            skip_to: 0,
            size: at.offset,
            place: Place::AtPath,
            mtime_ns: 0,
            grew: now,
            queued: false,
            after: None,
            found_in: 0,
            long: false,
            ended: false,
            open: false,
            charset: None,
            told_replaced: false,
            begun_at: at.offset,
            seen_s: 0,
        }
    }

    /// How many bytes its next read may take.
    #[must_use]
    pub fn appetite(&self, block: usize) -> usize {
        let left = usize::try_from(self.size.saturating_sub(self.at.offset)).unwrap_or(usize::MAX);
        left.clamp(4096, block * if self.long { 2 } else { 1 })
    }

    /// Whether all that is known to be there has been read, a last line without its end excepted.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.ended && !self.queued && !self.waits_for_lines()
    }

    /// Whether nothing but time is missing to its end: lines wait for others that may be joined to them.
    #[must_use]
    pub fn waits_for_lines(&self) -> bool {
        self.ended && self.open && !self.queued && self.file.is_some()
    }

    /// Bytes of a last line that waits for its end.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        if self.ended { self.size.saturating_sub(self.at.offset) } else { 0 }
    }

    /// Whether it is to be looked at again soon, whatever the watcher says: it is being written to, it has just left its path, or its last line
    /// is to be shipped when it has waited long enough.
    #[must_use]
    pub fn wants_a_look(&self, settings: &Settings, now: Instant) -> bool {
        let recent = |since: Instant, time: Duration| now.saturating_duration_since(since) < time;
        let leaving = self.left_since().is_some_and(|since| recent(since.max(self.grew), QUIET + HOT));
        let late = settings.partial_line_timeout.is_some_and(|timeout| self.unfinished() > 0 && recent(self.grew, timeout + HOT));
        let joined = settings.multiline.as_ref().is_some_and(|lines| self.open && !recent(self.grew, lines.timeout));
        recent(self.grew, HOT) || leaving || late || joined
    }

    /// Its file, if that is open and not compressed.
    #[must_use]
    pub fn plain(&self) -> Option<&File> {
        self.file.as_ref().and_then(Content::plain)
    }

    /// The compressed file that it is read from.
    #[must_use]
    pub fn packed(&self) -> Option<&Packed> {
        match &self.file {
            Some(Content::Packed(packed)) => Some(packed),
            _ => None,
        }
    }

    /// Whether its file is not what was read of it any more: truncated or written over, and not noticed yet.
    #[must_use]
    pub fn was_written_over(&self) -> bool {
        self.plain().is_some_and(|file| self.disagrees(file))
    }

    /// Whether that file, which has its inode, does not hold what was read of it.
    #[must_use]
    pub fn disagrees(&self, file: &File) -> bool {
        if self.at.offset == 0 {
            return reader::head(file, HEAD).is_ok_and(|head| !head_agrees(&self.evidence, &head));
        }
        reader::tail_agrees(file, &self.at).is_ok_and(|agrees| !agrees)
    }

    /// Whether it was first seen under this path.
    #[must_use]
    pub fn is_first_path(&self, path: &Path) -> bool {
        self.stream.path() == path.as_os_str().as_bytes()
    }

    /// How long it has been away from its path without growing.
    #[must_use]
    pub fn left_for(&self, now: Instant) -> Option<Duration> {
        self.left_since().map(|since| now.saturating_duration_since(since.max(self.grew)))
    }

    /// Books bytes of it that were never read.
    pub fn missed(&self, common: &Common, reason: Missed, bytes: u64) {
        let at = At {
            place: &gaps::Place::Path(self.path.as_os_str().as_bytes().into()),
            stream: Some(self.stream.id),
            from: Some(self.at.offset),
            words: "",
        };
        common.settlement.missed(&self.stream.source, reason, Amount { bytes, ..Amount::default() }, &at);
    }

    /// Since when it is not at its path any more.
    #[must_use]
    pub fn left_since(&self) -> Option<Instant> {
        match self.place {
            Place::AtPath | Place::Finished => None,
            Place::Rotated(since) | Place::Deleted(since) => Some(since),
        }
    }

    /// Reads one block and hands its events on.
    pub fn read(&mut self, hands: &mut Hands<'_>) -> Turn {
        let Some(file) = &mut self.file else { return Turn::End };
        let common = hands.common;
        let limit = if self.long { long_block(hands.settings, common).max(hands.block * 2) } else { hands.block };
        // A little is read into the scratch block and copied out to its size; a lot goes on in the block it was read into.
        let small = self.size.saturating_sub(self.at.offset) < (hands.block / 2) as u64;
        let mut block = if small { std::mem::take(hands.scratch) } else { common.pool.block(hands.block + TAIL) };
        let unit = hands.settings.charset.map_or(1, Named::unit);
        let charset = hands.settings.charset.map(|named| charset_of(&mut self.charset, named, file)).transpose();
        let found = charset.and_then(|charset| Ok((file.read(&self.at, (limit, unit), &mut block)?, charset)));
        let judged = found.as_ref().ok().and_then(|(found, _)| self.judge(hands.settings, common, found, &block));
        let turn = match (judged, found) {
            (Some(turn), _) => turn,
            (None, Err(error)) => Turn::Failed(error),
            (None, Ok((Found::Truncated { size }, _))) => Turn::Truncated { size },
            (None, Ok((Found::End { size }, _))) => self.end(common, size),
            (None, Ok((Found::Busy, _))) => Turn::More,
            (None, Ok((Found::Proved { size }, _))) => Turn::Proved { size },
            (None, Ok((Found::Other, _))) => Turn::Other,
            (None, Ok((Found::Hole { to }, _))) => self.hole(hands.settings, common, to),
            (None, Ok((Found::Data { data, size, full, hole }, charset))) => {
                if size > self.size {
                    self.grew = hands.now;
                    common.settlement.update(self.stream.id, |row| row.size = size);
                }
                self.size = size;
                let rest = self.rest(hands.settings, full, hole, hands.now);
                self.take(hands, &mut block, (data, charset), rest, small)
            }
        };
        if small {
            *hands.scratch = block;
        } else if block.capacity() > 0 {
            common.pool.give_block(block);
        }
        turn
    }

    /// What a read tells besides what was read: the position alone says nothing of a file that nothing was read of, nor of bytes that were seen
    /// behind it and are not there any more.
    fn judge(&self, settings: &Settings, common: &Common, found: &Found, block: &[u8]) -> Option<Turn> {
        let (size, data) = match *found {
            Found::Data { data, size, .. } => (size, block.get(data..)),
            Found::End { size } => (size, None),
            _ => return None,
        };
        if self.at.offset == 0 {
            if size < self.size || data.is_some_and(|data| !head_agrees(&self.evidence, data)) {
                return Some(Turn::Truncated { size });
            }
            return data.and_then(compression).map(Turn::Compressed);
        }
        if size < self.size && !self.ended {
            let bytes = self.size - size;
            tracing::error!(source = %settings.name, path = %self.path.display(), size, bytes, "cut back before it was read to its end: at least these bytes are lost");
            self.missed(common, Missed::Truncated, bytes);
        }
        None
    }

    fn end(&mut self, common: &Common, size: u64) -> Turn {
        if size > self.at.offset {
            // Nothing but room set aside: should the file go, nothing of it is lost.
            common.settlement.update(self.stream.id, |row| row.size = self.at.offset);
        }
        self.size = size;
        (self.ended, self.open) = (true, false);
        Turn::End
    }

    fn hole(&mut self, settings: &Settings, common: &Common, to: u64) -> Turn {
        let bytes = to - self.at.offset;
        tracing::info!(source = %settings.name, path = %self.path.display(), offset = self.at.offset, bytes, "a hole in the file is skipped: it holds nothing");
        self.missed(common, Missed::Hole, bytes);
        self.at = reader::behind_hole(&self.at, to);
        common.settlement.pass(self.stream.id, self.at, self.size);
        Turn::More
    }
}

//! The life of a stream: begun with a new file, gone on with after a restart. How it ends is `leaving.rs`, what is found where
//! [`super::scan`].

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::access::FileStat;
use super::content::Content;
use super::identity::{self, HEAD, Seen, Verdict, fingerprint, judge};
use super::tailed::{Place, Tailed};
use super::{FileSource, StartAt, reader};
use crate::batch::{Origin, Position, Stream, StreamId};
use crate::gaps;
use crate::ledger::{Amount, Missed};
use crate::settlement::At;
use crate::snapshot::rows::{Evidence, FileState, StreamRow};
use crate::source::new_stream;

/// How far back a line's beginning is looked for when reading starts at a file's end, bytes.
const LINE_SEARCH: u64 = 1 << 20;

impl FileSource {
    /// The known stream that this file belongs to by its inode, taken out of the dormant ones; [`Verdict::Other`] if there is none.
    pub(super) fn wake_dormant(&mut self, file: &File, stat: &FileStat, head: &[u8]) -> Option<(Verdict, (StreamId, StreamRow, u64))> {
        let rows = self.dormant.get_mut(&stat.ino)?;
        // One that was truncated away does not come before the one that has its inode now.
        rows.sort_by_key(|(_, row, _)| row.state == FileState::Gone);
        let mut best: Option<(Verdict, usize)> = None;
        for (at, (_, row, _)) in rows.iter().enumerate() {
            let tail_agrees = stat.size >= row.position.offset && reader::tail_agrees(file, &row.position).unwrap_or(false);
            let verdict =
                judge(&row.evidence, row.position.offset, &Seen { evidence: evidence_of(stat, head), size: stat.size, head, tail_agrees });
            match verdict {
                Verdict::Same if best.is_none_or(|(best, _)| best != Verdict::Same) => best = Some((verdict, at)),
                Verdict::Truncated if best.is_none() && row.state != FileState::Gone => best = Some((verdict, at)),
                Verdict::Doubt if best.is_none() => best = Some((verdict, at)),
                _ => {}
            }
        }
        let (verdict, at) = best?;
        Some((verdict, rows.swap_remove(at)))
    }

    /// Goes on with a known stream.
    pub(super) fn adopt(&mut self, known: (StreamId, StreamRow, u64), path: &Path, file: File, stat: &FileStat, now: Instant) {
        let id = known.0;
        let mut tailed = self.tailed_again(known, path, now);
        let evidence = Evidence { dev: stat.dev, ino: stat.ino, btime_ns: stat.btime_ns, ..tailed.evidence };
        let (place, seen_s) = (tailed.place, tailed.seen_s);
        self.common.settlement.update(id, |row| {
            row.evidence = evidence;
            row.path = path.as_os_str().as_bytes().into();
            row.size = row.size.max(stat.size);
            row.seen_s = seen_s;
            row.state = if place == Place::AtPath { FileState::Live } else { FileState::Rotated };
        });
        (tailed.file, tailed.evidence) = (Some(Content::Plain(file)), evidence);
        (tailed.size, tailed.mtime_ns) = (stat.size, stat.mtime_ns);
        self.take_in(tailed);
    }

    /// Takes a known stream in whose file is gone, or compressed; whoever calls says where it goes on.
    pub(super) fn adopt_without_file(&mut self, known: (StreamId, StreamRow, u64), path: &Path, now: Instant) {
        let (id, size) = (known.0, known.1.size);
        let mut tailed = self.tailed_again(known, path, now);
        tailed.size = size;
        let seen_s = tailed.seen_s;
        self.common.settlement.update(id, |row| (row.path, row.seen_s) = (path.as_os_str().as_bytes().into(), seen_s));
        self.take_in(tailed);
    }

    /// A known stream as it was left.
    fn tailed_again(&self, (id, row, skip_to): (StreamId, StreamRow, u64), path: &Path, now: Instant) -> Tailed {
        let is_first = row.first_path.as_ref() == path.as_os_str().as_bytes();
        let (source, topic) = (Arc::clone(&self.settings.name), Arc::clone(&self.settings.topic));
        let stream = Arc::new(Stream { id, source, key: row.key, headers: Vec::new(), origin: Origin::File(row.first_path), topic });
        let mut tailed = Tailed::new(stream, path.to_owned(), None, row.evidence, row.position, now);
        (tailed.skip_to, tailed.begun_at, tailed.seen_s) = (skip_to, row.begun_at, now_s());
        tailed.place = if is_first { Place::AtPath } else { Place::Rotated(now) };
        tailed
    }

    /// Takes a stream out of the dormant ones.
    pub(super) fn take_dormant(&mut self, id: StreamId, ino: u64) -> Option<(StreamId, StreamRow, u64)> {
        let rows = self.dormant.get_mut(&ino)?;
        let at = rows.iter().position(|(other, ..)| *other == id)?;
        Some(rows.swap_remove(at))
    }

    pub(super) fn adopt_same(&mut self, known: (StreamId, StreamRow, u64), path: &Path, file: File, stat: &FileStat, now: Instant) {
        let id = known.0;
        self.adopt(known, path, file, stat, now);
        self.refresh_head(id);
    }

    /// Goes on with a known stream whose file was truncated or written anew meanwhile: what it was last seen to hold counts.
    pub(super) fn adopt_truncated(&mut self, known: (StreamId, StreamRow, u64), path: &Path, file: File, stat: &FileStat, now: Instant) {
        let (id, seen) = (known.0, known.1.size);
        self.adopt(known, path, file, stat, now);
        if let Some(tailed) = self.tailed.get_mut(&id) {
            tailed.size = seen;
        }
        self.truncated(id, stat.size, now);
    }

    /// Begins a new stream.
    pub(super) fn begin(&mut self, path: &Path, file: File, stat: &FileStat, head: &[u8], now: Instant) {
        let mut at = Position::START;
        if self.first_run
            && let Some(offset) = self.first_offset(&file, stat, head)
        {
            let Ok(Some(tail)) = reader::tail_before(&file, offset) else { return };
            at = Position { offset, line_start: offset, tail, ..at };
            self.skipped.0 += 1;
            self.skipped.1 += offset;
            let at = At { place: &gaps::Place::Path(path.as_os_str().as_bytes().into()), stream: None, from: Some(0), words: "" };
            self.common.settlement.missed(&self.settings.name, Missed::BeforeFirstRun, Amount { bytes: offset, ..Amount::default() }, &at);
        }
        let evidence = evidence_of(stat, head);
        self.found_stream(path, Some(Content::Plain(file)), evidence, (at, stat.size, stat.mtime_ns), FileState::Live, now);
    }

    /// Begins a new stream with a compressed file; what the first run is to leave out of those is left out whole.
    pub(super) fn begin_packed(&mut self, path: &Path, stat: &FileStat, head: &[u8], now: Instant) {
        let evidence = evidence_of(stat, head);
        let skipped = self.first_run && self.is_left_out(stat);
        let state = if skipped { FileState::Copy } else { FileState::Live };
        let id = self.found_stream(path, None, evidence, (Position::START, 0, stat.mtime_ns), state, now);
        if !skipped {
            return self.take_up_own(id, now);
        }
        self.skipped.0 += 1;
        self.skipped.1 += stat.size;
        if let Some(tailed) = self.tailed.get(&id) {
            tailed.missed(&self.common, Missed::BeforeFirstRun, stat.size);
        }
        self.finish_packed(id);
    }

    /// Takes a new stream in.
    fn found_stream(
        &mut self,
        path: &Path,
        file: Option<Content>,
        evidence: Evidence,
        (at, size, mtime_ns): (Position, u64, i64),
        state: FileState,
        now: Instant,
    ) -> StreamId {
        let bytes = path.as_os_str().as_bytes();
        let key: Box<[u8]> = [self.common.host.as_bytes(), b":", bytes].concat().into();
        let (id, seen_s) = (new_stream(), now_s());
        let (source, topic) = (Arc::clone(&self.settings.name), Arc::clone(&self.settings.topic));
        let begun = StreamRow::begun(Arc::clone(&source), key.clone(), bytes, at);
        let row = StreamRow { state, evidence, size, seen_s, ..begun };
        self.common.settlement.put(id, row);
        let stream = Stream { id, source, key, headers: Vec::new(), origin: Origin::File(bytes.into()), topic };
        let mut tailed = Tailed::new(Arc::new(stream), path.to_owned(), file, evidence, at, now);
        (tailed.size, tailed.mtime_ns, tailed.begun_at, tailed.seen_s) = (size, mtime_ns, at.offset, seen_s);
        self.take_in(tailed);
        id
    }

    /// Whether the first run leaves a file out.
    fn is_left_out(&self, stat: &FileStat) -> bool {
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return false };
        let age = now.saturating_sub(Duration::from_nanos(u64::try_from(stat.mtime_ns).unwrap_or(0)));
        self.settings.start_at == StartAt::End || self.settings.ignore_older.is_some_and(|limit| age > limit)
    }

    /// Where a file that exists at the first run is begun; `None`: at its first byte.
    pub(super) fn first_offset(&self, file: &File, stat: &FileStat, head: &[u8]) -> Option<u64> {
        if !self.is_left_out(stat) {
            return None;
        }
        let charset = self.settings.charset.map(|named| named.of_file(head));
        reader::last_line_end(file, stat.size, LINE_SEARCH, charset).ok().filter(|offset| *offset > 0)
    }

    pub(super) fn say_what_was_skipped(&mut self) {
        let (files, bytes) = std::mem::take(&mut self.skipped);
        if files > 0 {
            tracing::info!(source = %self.settings.name, files, bytes, "first run: what these files hold already is not sent (start_at, ignore_older); what is added from now on is");
        }
    }

    pub(super) fn take_in(&mut self, mut tailed: Tailed) {
        let id = tailed.stream.id;
        tailed.found_in = self.scanned;
        tailed.after = self.by_key.insert(tailed.stream.path().into(), id);
        self.by_inode.entry(tailed.evidence.ino).or_default().push(id);
        self.by_path.insert(tailed.path.clone(), id);
        if let Some(names) = &mut self.names {
            names.add(&tailed);
        }
        self.tailed.insert(id, tailed);
        self.queue(id);
    }

    /// Beyond `max_open` descriptors, closes files that were quiet longest.
    pub(super) fn close_quiet(&mut self) {
        let open = self.tailed.values().filter(|tailed| tailed.file.is_some()).count();
        let Some(excess) = open.checked_sub(self.common.max_open.load(Ordering::Relaxed)).filter(|excess| *excess > 0) else { return };
        let mut quiet: Vec<_> = self
            .tailed
            .values_mut()
            .filter(|tailed| tailed.file.is_some() && tailed.place == Place::AtPath && tailed.is_at_end())
            .collect();
        quiet.sort_by_key(|tailed| tailed.grew);
        quiet.into_iter().take(excess).for_each(|tailed| tailed.file = None);
    }

    /// Opens a file again that was closed while it was quiet.
    pub(super) fn reopen(&mut self, id: StreamId) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        match self.finder.open(&tailed.path) {
            Ok((file, stat)) if is_same_inode(&tailed.evidence, &stat) => tailed.file = Some(Content::Plain(file)),
            // Another file by now: the search sorts it out.
            Ok(_) => (tailed.ended, self.scan_wanted) = (true, true),
            Err(refusal) => {
                (tailed.ended, self.scan_wanted) = (true, true);
                let path = tailed.path.clone();
                self.tell(&path, format!("not read: {refusal}"));
            }
        }
    }

    /// The fingerprint covers more of a file's head as it grows.
    pub(super) fn refresh_head(&mut self, id: StreamId) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        let covered = u64::from(tailed.evidence.head_len);
        if covered >= HEAD as u64 || (covered > 0 && covered >= tailed.size) {
            return;
        }
        let Some(Ok(head)) = tailed.plain().map(|file| reader::head(file, HEAD)) else { return };
        if identity::head_agrees(&tailed.evidence, &head) {
            (tailed.evidence.head_len, tailed.evidence.head_hash) = fingerprint(&head);
            let evidence = tailed.evidence;
            self.common.settlement.update(id, |row| row.evidence = evidence);
        }
    }
}

/// A path from its bytes.
pub(super) fn path_of(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Whether a file is the inode of this evidence, and not another one that got its number.
pub(super) fn is_same_inode(evidence: &Evidence, stat: &FileStat) -> bool {
    (evidence.ino, evidence.dev, evidence.btime_ns) == (stat.ino, stat.dev, stat.btime_ns)
}

fn evidence_of(stat: &FileStat, head: &[u8]) -> Evidence {
    let (head_len, head_hash) = fingerprint(head);
    Evidence { dev: stat.dev, ino: stat.ino, btime_ns: stat.btime_ns, head_len, head_hash }
}

pub(super) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|time| i64::try_from(time.as_secs()).ok()).unwrap_or(0)
}

//! What becomes of a stream when its file is truncated, renamed or deleted. A copy that copytruncate left behind is never read again from its
//! start: it serves to finish the stream it was copied from.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::access::FileStat;
use super::content::Content;
use super::discover::Found;
use super::identity::{HEAD, head_agrees, is_rotated_name};
use super::names::Names;
use super::streams::path_of;
use super::tailed::{Place, Tailed};
use super::unpack::{self, Kind};
use super::{FileSource, reader};
use crate::batch::StreamId;
use crate::gaps;
use crate::ledger::{Amount, Missed};
use crate::settlement::At;
use crate::snapshot::rows::FileState;

/// A file that left its path and has not grown for this long is read to its end: a last line without its end goes out as partial.
pub(super) const QUIET: Duration = Duration::from_secs(5);
/// A renamed file is held open for this long after its last growth, for writers that have not noticed.
const LINGER: Duration = Duration::from_secs(600);
/// A file that looks like a copy in the making is waited for until it has not grown for this long.
const COPY_QUIET: Duration = Duration::from_secs(5);
/// Copies that are looked at when a file was truncated, newest first.
const COPIES: usize = 8;

/// A file that begins like one that is being read and has a name that rotation gives to copies.
#[derive(Debug)]
pub(super) struct Suspect {
    size: u64,
    ino: u64,
    changed: Instant,
    found_in: u64,
    /// It is held back however long that takes.
    bound: bool,
}

impl Suspect {
    pub(super) fn new(stat: &FileStat, bound: bool, found_in: u64, now: Instant) -> Suspect {
        Suspect { size: stat.size, ino: stat.ino, changed: now, found_in, bound }
    }
}

impl FileSource {
    /// A file has been read to its end.
    pub(super) fn at_end(&mut self, id: StreamId, now: Instant) {
        self.refresh_head(id);
        if self.pursued.contains_key(&id) {
            return self.finish_packed(id);
        }
        let Some(tailed) = self.tailed.get(&id) else { return };
        if tailed.wants_a_look(&self.settings, now) || tailed.open {
            self.hot.insert(id);
        }
        let Some(quiet) = tailed.left_for(now) else { return };
        match tailed.place {
            Place::Deleted(_) if quiet >= QUIET => self.retire(id, FileState::Gone),
            // The search looks at it on, and it is opened again should it grow.
            Place::Rotated(_) if quiet >= LINGER && self.is_wanted(&tailed.path) => self.close(id),
            Place::Rotated(_) if quiet >= LINGER => self.retire(id, FileState::Rotated),
            _ => {}
        }
    }

    /// The file of a stream was truncated or written anew: what was not read is finished from a copy if there is one, else it is missed, and
    /// the file goes on as a new stream.
    pub(super) fn truncated(&mut self, id: StreamId, size: u64, now: Instant) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        let Some(Content::Plain(file)) = tailed.file.take() else { return };
        let (path, at_path) = (tailed.path.clone(), tailed.place == Place::AtPath);
        let offset = tailed.at.offset;
        let unread = tailed.size.saturating_sub(offset.max(tailed.skip_to));
        self.listings.clear();
        if let Some((copy, opened, stat)) = self.find_copy(id) {
            tracing::info!(source = %self.settings.name, path = %path.display(), copy = %copy.display(), offset, rest = stat.size - offset, "truncated after it was copied: what was not read yet is read from the copy");
            self.go_on_in_copy(id, &copy, opened, &stat, now);
        } else if self.pursue(id, Missed::Truncated, now) {
            tracing::info!(source = %self.settings.name, path = %path.display(), offset, "truncated; what was not read of it yet is looked for in compressed files");
        } else {
            if unread > 0 {
                tracing::error!(source = %self.settings.name, path = %path.display(), offset, bytes = unread, "truncated before it was read to its end, and no copy of it was found: at least these bytes are lost");
                let bytes = Amount { bytes: unread, ..Amount::default() };
                let at =
                    At { place: &gaps::Place::Path(path.as_os_str().as_bytes().into()), stream: Some(id), from: Some(offset), words: "" };
                self.common.settlement.missed(&self.settings.name, Missed::Truncated, bytes, &at);
            } else {
                tracing::info!(source = %self.settings.name, path = %path.display(), offset, size, "truncated; all that was seen of it had been read");
            }
            self.retire(id, FileState::Gone);
        }
        // A rotated file that was written anew is most likely a newer copy: the search judges it as any file that it finds.
        self.scan_wanted = true;
        let (Ok(stat), Ok(head)) = (FileStat::of(&file), reader::head(&file, HEAD)) else { return };
        if at_path && stat.nlink > 0 && self.known_by_inode(&stat).is_none() && !self.suspect(&path, &file, &stat, &head, now) {
            self.begin(&path, file, &stat, &head, now);
        }
    }

    fn close(&mut self, id: StreamId) {
        if let Some(tailed) = self.tailed.get_mut(&id) {
            tailed.file = None;
        }
    }

    /// What looked like text when it was still empty is a compressed file: it is no stream.
    pub(super) fn compressed(&mut self, id: StreamId, kind: &str) {
        let Some(tailed) = self.tailed.get(&id) else { return };
        let path = tailed.path.clone();
        if let Some(Ok(stat)) = tailed.file.as_ref().map(|content| FileStat::of(content.file())) {
            self.ignored.insert(path.clone(), (stat.ino, stat.mtime_ns, stat.size));
        }
        self.retire(id, FileState::Gone);
        self.forget_now(id);
        self.tell(&path, format!("not read: its content is compressed ({kind}), not text"));
    }

    /// From here on the copy is the stream's file.
    fn go_on_in_copy(&mut self, id: StreamId, path: &Path, file: File, stat: &FileStat, now: Instant) {
        self.suspects.remove(path);
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        let ino = tailed.evidence.ino;
        (tailed.evidence.dev, tailed.evidence.ino, tailed.evidence.btime_ns) = (stat.dev, stat.ino, stat.btime_ns);
        (tailed.file, tailed.size, tailed.place) = (Some(Content::Plain(file)), stat.size, Place::Rotated(now));
        tailed.mtime_ns = stat.mtime_ns;
        (tailed.ended, tailed.found_in) = (tailed.at.offset >= stat.size, self.scanned);
        let evidence = tailed.evidence;
        if self.by_path.get(&tailed.path) == Some(&id) {
            self.by_path.remove(&tailed.path);
        }
        path.clone_into(&mut tailed.path);
        if let Some(names) = &mut self.names {
            names.add(tailed);
        }
        self.leave_inode(ino, id);
        self.by_inode.entry(stat.ino).or_default().push(id);
        self.by_path.insert(path.to_owned(), id);
        self.hot.insert(id);
        self.common.settlement.update(id, |row| {
            (row.evidence, row.state, row.size) = (evidence, FileState::Rotated, stat.size);
            row.path = path.as_os_str().as_bytes().into();
        });
        self.queue(id);
    }

    /// The copy of a stream's file: it has a rotated name in the same directory, and head, tail and running hash agree. One that another stream
    /// reads is left to that, unless it was written over.
    fn find_copy(&mut self, id: StreamId) -> Option<(PathBuf, File, FileStat)> {
        let tailed = self.tailed.get(&id)?;
        let mut files = self.finder.list_dir(tailed.path.parent()?).ok()?;
        files.retain(|file| is_named_like(tailed, &file.path) && file.stat.size >= tailed.at.offset);
        files.sort_by_key(|file| std::cmp::Reverse(file.stat.mtime_ns));
        files.into_iter().take(COPIES).find_map(|file| {
            let (opened, stat) = self.finder.open(&file.path).ok()?;
            let other = self.tailed_inode(&stat).and_then(|other| self.tailed.get(&other));
            let free = other.is_none_or(|other| other.disagrees(&opened));
            (free && is_copy(tailed, &opened, &stat)).then_some((file.path, opened, stat))
        })
    }

    fn tailed_inode(&self, stat: &FileStat) -> Option<StreamId> {
        let ids = self.by_inode.get(&stat.ino)?;
        ids.iter().copied().find(|id| self.tailed.get(id).is_some_and(|tailed| tailed.evidence.dev == stat.dev))
    }

    /// Files that are being read and that a file of this path may be a copy of, by its name.
    pub(super) fn named_like(&mut self, path: &Path) -> impl Iterator<Item = &Tailed> {
        let ids = self.names.get_or_insert_with(|| Names::of(self.tailed.values())).originals(path);
        let path = path.to_owned();
        ids.into_iter().filter_map(|id| self.tailed.get(&id)).filter(move |tailed| is_named_like(tailed, &path))
    }

    /// Of these the ones that may be copied, or were just truncated.
    fn originals(&mut self, path: &Path) -> impl Iterator<Item = &Tailed> {
        let there = |tailed: &&Tailed| tailed.evidence.head_len > 0 && (tailed.place == Place::AtPath || tailed.was_written_over());
        self.named_like(path).filter(there)
    }

    /// Whether a new file looks like a copy of one that is being read; then it is held back until that is clear.
    pub(super) fn suspect(&mut self, path: &Path, file: &File, stat: &FileStat, head: &[u8], now: Instant) -> bool {
        let looks_alike = self.originals(path).any(|original| may_be_copy(original, file, stat.size, head));
        if looks_alike {
            self.suspects.insert(path.to_owned(), Suspect::new(stat, false, self.scanned, now));
        }
        looks_alike
    }

    /// Whether a found file is held back already, and still looks like a copy: what it was taken for may have become clear.
    pub(super) fn suspect_again(&mut self, found: &Found, now: Instant) -> bool {
        let Some(before) = self.suspects.remove(&found.path).filter(|suspect| suspect.ino == found.stat.ino) else { return false };
        let Ok((file, stat)) = self.finder.open(&found.path) else { return false };
        let held = reader::head(&file, HEAD).is_ok_and(|head| match Kind::of(&head) {
            Some(kind) => self.belongs_to_known(&found.path, &stat, &unpack::head(&file, kind).unwrap_or_default(), now),
            None => self.suspect(&found.path, &file, &stat, &head, now),
        });
        if let Some(suspect) = self.suspects.get_mut(&found.path).filter(|suspect| suspect.size == before.size) {
            suspect.changed = before.changed;
        }
        held
    }

    /// Copies whose original was not truncated meanwhile are files of their own.
    pub(super) fn resolve_suspects(&mut self, now: Instant) {
        let scanned = self.scanned;
        self.suspects.retain(|_, suspect| suspect.found_in == scanned);
        let quiet =
            self.suspects.iter().filter(|(_, suspect)| !suspect.bound && now.saturating_duration_since(suspect.changed) >= COPY_QUIET);
        // One whose original was truncated waits until that is noticed, and the copy is gone on in.
        for path in quiet.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            if self.originals(&path).any(Tailed::was_written_over) {
                continue;
            }
            self.suspects.remove(&path);
            let Ok((file, stat)) = self.finder.open(&path) else { continue };
            let Ok(head) = reader::head(&file, HEAD) else { continue };
            tracing::info!(source = %self.settings.name, path = %path.display(), "begins like a file that is being read, which was not truncated: it is read as a file of its own");
            self.common.settlement.possible_duplicate(&self.settings.name);
            match Kind::of(&head) {
                Some(kind) => self.begin_packed(&path, &stat, &unpack::head(&file, kind).unwrap_or_default(), now),
                None => self.begin(&path, file, &stat, &head, now),
            }
        }
        if !self.suspects.is_empty() {
            self.scan_due = self.scan_due.min(now + Duration::from_secs(1));
        }
    }
}

/// Whether a path is named like a rotated copy of a file, by the name that this has or the one that it was first seen under.
fn is_named_like(original: &Tailed, path: &Path) -> bool {
    has_rotated_name([&original.path, path_of(original.stream.path())], path)
}

/// Whether a path is named like a rotated copy of any of these, and beside it.
pub(super) fn has_rotated_name(originals: [&Path; 2], path: &Path) -> bool {
    let name = |path: &'_ Path| path.file_name().map(OsStrExt::as_bytes).unwrap_or_default().to_vec();
    let named = |original: &Path| is_rotated_name(&name(original), &name(path));
    originals[0].parent() == path.parent() && originals.into_iter().any(named)
}

/// Whether a file with this head is, so far, the beginning of `original`, or could be what that was before it was truncated.
fn may_be_copy(original: &Tailed, file: &File, size: u64, head: &[u8]) -> bool {
    if head.len() >= usize::from(original.evidence.head_len) && !head_agrees(&original.evidence, head) {
        return false;
    }
    let Some(of) = original.plain() else { return true };
    let end = |file| reader::tail_before(file, size).ok().flatten();
    end(file) == end(of) || original.was_written_over()
}

/// Whether `file` holds, up to the stream's position, exactly what was read of it.
fn is_copy(tailed: &Tailed, file: &File, stat: &FileStat) -> bool {
    // Without a fingerprint nothing was read either, and any file would look like a copy.
    let head = tailed.evidence.head_len > 0 && reader::head(file, HEAD).is_ok_and(|head| head_agrees(&tailed.evidence, &head));
    head && stat.size >= tailed.at.offset
        && reader::tail_agrees(file, &tailed.at).unwrap_or(false)
        && reader::hash_range(file, tailed.begun_at, tailed.at.offset).is_ok_and(|hash| hash == Some(tailed.at.hash))
}

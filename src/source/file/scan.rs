//! The search of directories, and what is found against what is known: new files, renamed ones, those that are gone, those that come back. The
//! search is the truth; the watcher only says when it is worth doing.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::access::FileStat;
use super::discover::Found;
use super::identity::{HEAD, Verdict, compression};
use super::streams::{is_same_inode, now_s, path_of};
use super::tailed::Place;
use super::unpack::{self, Kind};
use super::{FileSource, reader};
use crate::batch::StreamId;
use crate::ledger::Missed;
use crate::snapshot::rows::{FileState, StreamRow};
use crate::source::pulse::Files;

/// How often it is noted in the state that a file is still there.
const SEEN_EVERY_S: i64 = 3600;

impl FileSource {
    /// Searches all directories once.
    pub(super) fn scan(&mut self, now: Instant) {
        self.scanned += 1;
        self.listings.clear();
        self.names = None;
        let first = self.scanned == 1;
        let mut scan = self.finder.scan();
        self.watcher.watch_only(std::mem::take(&mut scan.dirs).into_iter());
        for (path, refusal) in &scan.refused {
            self.tell(path, format!("not read: {refusal}"));
        }
        for pattern in &scan.nothing_matched {
            if first {
                tracing::warn!(source = %self.settings.name, "no file matches {pattern} now; files that come later are read from their first byte");
            }
        }
        if let Some(limit) = &scan.limit {
            self.tell(Path::new("/"), limit.to_string());
        }
        if first {
            self.pursue_absent(&scan.found, now);
        }
        self.find_renamed(&scan.found, now);
        self.look_at_pursued(now);
        // What is known goes first, what has left its path before all: it comes earlier under the same key, and finds its copies.
        scan.found.sort_by_key(|found| self.rank(found));
        for found in &scan.found {
            self.found(found, now);
            if found.linked
                && let Some(id) = self.known_by_inode(&found.stat)
            {
                self.linked.insert(id);
            }
        }
        self.look_for_missing(now);
        if first {
            self.account_for_absent();
            self.common.settlement.note_source(&self.settings.name);
            self.say_what_was_skipped();
            self.common.pulse.opened();
        }
        self.first_run = false;
        self.resolve_suspects(now);
        self.close_quiet();
        self.let_go_of_held();
        self.tell_what_is_open();
        self.forget(now);
        self.listings.clear();
    }

    fn tell_what_is_open(&self) {
        let mut open = Files::default();
        for tailed in self.tailed.values().filter(|tailed| tailed.file.is_some()) {
            match tailed.place {
                Place::AtPath => open.live += 1,
                Place::Rotated(_) | Place::Finished => open.rotated += 1,
                Place::Deleted(_) => open.deleted += 1,
            }
        }
        self.common.pulse.hold(open);
    }

    /// A file that the search found.
    fn found(&mut self, found: &Found, now: Instant) {
        if let Some(id) = self.known_by_inode(&found.stat) {
            return self.found_again(id, found, now);
        }
        if self.suspect_again(found, now) || self.ignored.get(&found.path) == Some(&(found.stat.ino, found.stat.mtime_ns, found.stat.size))
        {
            return;
        }
        let (file, stat) = match self.finder.open(&found.path) {
            Ok(opened) => opened,
            Err(refusal) => return self.tell(&found.path, format!("not read: {refusal}")),
        };
        let head = match reader::head(&file, HEAD) {
            Ok(head) => head,
            Err(error) => return self.tell(&found.path, format!("can't be read: {error}")),
        };
        if self.told.remove(&found.path).is_some() {
            tracing::info!(source = %self.settings.name, path = %found.path.display(), "can be read now");
        }
        if let Some(kind) = Kind::of(&head) {
            return self.found_packed(found, (file, stat), kind, now);
        }
        match self.wake_dormant(&file, &stat, &head) {
            Some((Verdict::Same, row)) => return self.adopt_same(row, &found.path, file, &stat, now),
            Some((Verdict::Truncated, row)) => {
                return self.adopt_truncated(row, &found.path, file, &stat, now);
            }
            Some((Verdict::Doubt, (id, ..))) => {
                // It is settled as far as it was read, and its file is another one's from here on.
                self.common.settlement.forget(id);
                tracing::info!(source = %self.settings.name, path = %found.path.display(), "may be a file that was read before, which can't be proved here: it is read");
                self.common.settlement.possible_duplicate(&self.settings.name);
            }
            _ => {}
        }
        if let Some(kind) = compression(&head) {
            self.ignored.insert(found.path.clone(), (stat.ino, stat.mtime_ns, stat.size));
            return self.tell(&found.path, format!("not read: its content is compressed ({kind}), not text"));
        }
        if !self.first_run && self.suspect(&found.path, &file, &stat, &head, now) {
            return;
        }
        self.begin(&found.path, file, &stat, &head, now);
    }

    pub(super) fn known_by_inode(&self, stat: &FileStat) -> Option<StreamId> {
        let ids = self.by_inode.get(&stat.ino)?;
        ids.iter().copied().find(|id| {
            self.tailed.get(id).is_some_and(|tailed| tailed.evidence.dev == stat.dev && tailed.evidence.btime_ns == stat.btime_ns)
        })
    }

    fn found_again(&mut self, id: StreamId, found: &Found, now: Instant) {
        if self.tailed.get(&id).is_none_or(|tailed| tailed.found_in == self.scanned) {
            // A second name of the same file: a hard link, or a link to it. It is read once.
            return;
        }
        if self.is_packed(id) {
            return self.found_packed_again(id, found, now);
        }
        if self.tailed.get(&id).is_some_and(|tailed| tailed.file.is_none() && found.stat.size > tailed.size) {
            self.reopen(id);
        }
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        tailed.found_in = self.scanned;
        // A file may be written anew to the very same size.
        let changed = found.stat.size != tailed.size || found.stat.mtime_ns != tailed.mtime_ns;
        tailed.mtime_ns = found.stat.mtime_ns;
        // What a file holds that was truncated meanwhile is not of this stream.
        if found.stat.size > tailed.size && !tailed.was_written_over() {
            (tailed.size, tailed.grew, tailed.ended) = (found.stat.size, now, false);
            self.common.settlement.update(id, |row| row.size = found.stat.size);
            self.refresh_head(id);
        }
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        let unread = found.stat.size > tailed.at.offset + tailed.unfinished();
        let leaving = tailed.file.is_some() && tailed.left_for(now).is_some_and(|time| time >= super::rotation::QUIET);
        if tailed.path != found.path {
            // One that still has its old name has only got a second one.
            let stat = self.finder.stat(&tailed.path);
            if !stat.is_ok_and(|stat| (stat.ino, stat.dev) == (found.stat.ino, found.stat.dev)) {
                self.moved(id, &found.path, now);
            }
        } else if tailed.left_since().is_some() && tailed.is_first_path(&found.path) {
            tailed.place = Place::AtPath;
            self.common.settlement.update(id, |row| row.state = FileState::Live);
        }
        if changed || unread || leaving {
            self.queue(id);
        }
        self.note_seen(id);
    }

    /// A file has another name now.
    pub(super) fn moved(&mut self, id: StreamId, path: &Path, now: Instant) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        if self.by_path.get(&tailed.path) == Some(&id) {
            self.by_path.remove(&tailed.path);
        }
        tailed.place = match tailed.place {
            Place::Finished => Place::Finished,
            _ if tailed.is_first_path(path) => Place::AtPath,
            Place::AtPath => Place::Rotated(now),
            away => away,
        };
        let state = match tailed.place {
            Place::AtPath => FileState::Live,
            Place::Finished => FileState::Copy,
            Place::Rotated(_) | Place::Deleted(_) => FileState::Rotated,
        };
        path.clone_into(&mut tailed.path);
        if let Some(names) = &mut self.names {
            names.add(tailed);
        }
        self.by_path.insert(path.to_owned(), id);
        self.common.settlement.update(id, |row| (row.path, row.state) = (path.as_os_str().as_bytes().into(), state));
        if !self.is_packed(id) {
            self.hot.insert(id);
            self.queue(id);
        }
    }

    pub(super) fn note_seen(&mut self, id: StreamId) {
        let now = now_s();
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        if now - tailed.seen_s > SEEN_EVERY_S {
            tailed.seen_s = now;
            self.common.settlement.update(id, |row| row.seen_s = now);
        }
    }

    /// In what order files are taken in at the first search.
    fn rank(&self, found: &Found) -> u8 {
        let rows = self.dormant.get(&found.stat.ino).into_iter().flatten();
        // Inode numbers are given out again; the time of birth tells.
        let mut known = rows.filter(|(_, row, _)| row.evidence.btime_ns == found.stat.btime_ns).peekable();
        if known.peek().is_none() {
            return 2;
        }
        u8::from(known.any(|(_, row, _)| path_of(&row.first_path) == found.path))
    }

    /// At the first search: streams whose file has another name by now, which the patterns need not match, go first, so that order is kept.
    fn find_renamed(&mut self, found: &[Found], now: Instant) {
        if self.scanned != 1 || self.dormant.is_empty() {
            return;
        }
        let here: HashSet<u64> = found.iter().map(|found| found.stat.ino).collect();
        // What was read to its end from a compressed file is not looked for, either.
        let gone = |row: &StreamRow| match row.state {
            FileState::Gone => true,
            FileState::Copy => row.position.offset >= row.size,
            FileState::Live | FileState::Rotated => false,
        };
        let away = self.dormant.iter().filter(|(ino, _)| !here.contains(ino)).flat_map(|(_, rows)| rows);
        let dirs: HashSet<PathBuf> =
            away.filter(|(_, row, _)| !gone(row)).filter_map(|(_, row, _)| path_of(&row.path).parent().map(Path::to_owned)).collect();
        for dir in dirs {
            let Ok(mut files) = self.finder.list_dir(&dir) else { continue };
            files.retain(|file| !here.contains(&file.stat.ino) && self.dormant.contains_key(&file.stat.ino));
            files.sort_by_key(|file| file.stat.mtime_ns);
            for file in files {
                let Ok((opened, stat)) = self.finder.open(&file.path) else { continue };
                let Ok(head) = reader::head(&opened, HEAD) else { continue };
                if let Some(kind) = Kind::of(&head) {
                    let known = unpack::head(&opened, kind).ok().and_then(|head| self.wake_packed(&stat, &head));
                    if let Some(known) = known {
                        self.adopt_packed(known, &file.path, &stat, now);
                    }
                    continue;
                }
                match self.wake_dormant(&opened, &stat, &head) {
                    Some((Verdict::Same, row)) => self.adopt_same(row, &file.path, opened, &stat, now),
                    Some((Verdict::Truncated, row)) => self.adopt_truncated(row, &file.path, opened, &stat, now),
                    // In doubt it stays with those that are nowhere.
                    Some((_, row)) => self.dormant.entry(stat.ino).or_default().push(row),
                    None => {}
                }
            }
        }
    }

    /// Files that this search did not find: renamed to a name that no pattern matches, or deleted.
    fn look_for_missing(&mut self, now: Instant) {
        let scanned = self.scanned;
        let missing: Vec<_> = self.tailed.iter().filter(|(_, tailed)| tailed.found_in != scanned).map(|(id, _)| *id).collect();
        for id in missing {
            if self.pursued.contains_key(&id) {
                continue;
            }
            let packed = self.is_packed(id);
            let Some(tailed) = self.tailed.get_mut(&id) else { continue };
            let stat = tailed.plain().and_then(|file| FileStat::of(file).ok());
            if stat.as_ref().is_some_and(|stat| stat.nlink == 0) {
                if !tailed.place.is_deleted() {
                    tailed.place = Place::Deleted(now);
                    self.hot.insert(id);
                    self.protect(id);
                }
                self.queue(id);
                continue;
            }
            let dir = tailed.path.parent().map(Path::to_owned).unwrap_or_default();
            let evidence = tailed.evidence;
            let file = self.listings.of(&self.finder, &dir).inode(evidence.ino);
            let there = file.filter(|file| is_same_inode(&evidence, &file.stat)).map(|file| file.path.clone());
            match (there, stat) {
                (Some(path), _) if path != tailed.path => self.moved(id, &path, now),
                (Some(_), _) if packed => {}
                (Some(_), _) => self.queue(id),
                (None, Some(_)) => {
                    if tailed.place == Place::AtPath {
                        tailed.place = Place::Rotated(now);
                        self.hot.insert(id);
                        self.common.settlement.update(id, |row| row.state = FileState::Rotated);
                    }
                    self.queue(id);
                }
                // Closed while it was quiet, and gone since: what it may have got in between only a compressed form can tell.
                (None, None) if !packed && self.pursue(id, Missed::Deleted, now) => {}
                (None, None) => {
                    let Some(tailed) = self.tailed.get(&id) else { continue };
                    let unread = tailed.size.saturating_sub(tailed.at.offset);
                    if unread > 0 {
                        tracing::error!(source = %self.settings.name, path = %tailed.path.display(), bytes = unread, "deleted before it was read to its end: at least these bytes are lost");
                        tailed.missed(&self.common, Missed::Deleted, unread);
                    }
                    self.retire(id, FileState::Gone);
                }
            }
        }
    }
}

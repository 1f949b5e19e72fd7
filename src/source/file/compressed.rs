//! Compressed files. A stream whose file is gone may live on in a compressed form beside it: that is looked for, proved, and read on at the right
//! byte. With `compressed = "read"` others are read as files of their own.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::access::FileStat;
use super::content::Content;
use super::discover::Found;
use super::identity::{HEAD, fingerprint, head_agrees};
use super::streams::is_same_inode;
use super::tailed::{Place, Tailed};
use super::unpack::{self, Kind, Packed};
use super::{FileSource, reader};
use crate::batch::StreamId;
use crate::ledger::Missed;
use crate::snapshot::rows::FileState;

mod find;
mod pursuit;

use pursuit::{Broken, Sought, look};
pub(super) use pursuit::{Look, Pursuit};

/// Compressed files whose beginning is looked at for one stream, newest first; what is older is not found.
const FORMS: usize = 256;

/// A file that may be the compressed form of another one.
struct Form {
    path: PathBuf,
    file: File,
    stat: FileStat,
    kind: Kind,
}

impl FileSource {
    /// The file of a stream is gone: goes on in its compressed form, if there is one that may be it; else nothing is done, and it says so.
    pub(super) fn pursue(&mut self, id: StreamId, reason: Missed, now: Instant) -> bool {
        let mut pursuit = Pursuit::new(reason, false);
        let Some(tailed) = self.tailed.get(&id) else { return false };
        let sought = Sought::of_file(tailed);
        if self.forms_of(&sought, &mut pursuit, now).is_empty() {
            return false;
        }
        self.take_up(id, pursuit, now);
        true
    }

    /// A stream that begins with a compressed file goes on in that.
    pub(super) fn take_up_own(&mut self, id: StreamId, now: Instant) {
        self.take_up(id, Pursuit::new(Missed::Damaged, true), now);
    }

    fn take_up(&mut self, id: StreamId, pursuit: Pursuit, now: Instant) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        (tailed.file, tailed.ended) = (None, false);
        if !pursuit.own {
            tailed.place = Place::Rotated(now);
            let (path, ino) = (tailed.path.clone(), tailed.evidence.ino);
            // What is there now under its name and its number is another file.
            self.by_path.remove(&path);
            self.leave_inode(ino, id);
        }
        self.linked.remove(&id);
        self.pursued.insert(id, pursuit);
        self.try_forms(id, now);
    }

    /// Files that may be the compressed form of a stream's file, and were not tried yet: with a rotated name in its directory, or the one that it
    /// was read from before.
    fn forms_of(&mut self, sought: &Sought, pursuit: &mut Pursuit, now: Instant) -> Vec<Form> {
        let Some(dir) = sought.names[0].parent() else { return Vec::new() };
        let names = [&*sought.names[0], &*sought.names[1]];
        let mut files: Vec<Found> = self.listings.of(&self.finder, dir).like(&names).cloned().collect();
        files.retain(|file| {
            let same = is_same_inode(&sought.evidence, &file.stat);
            let beside = !pursuit.own && sought.evidence.head_len > 0 && self.known_by_inode(&file.stat).is_none();
            (same || beside) && pursuit.is_due(&file.path, &file.stat, now)
        });
        files.sort_by_key(|file| std::cmp::Reverse(file.stat.mtime_ns));
        let opened = files.into_iter().take(FORMS).filter_map(|found| {
            let (file, stat) = self.finder.open(&found.path).ok()?;
            let kind = Kind::of(&reader::head(&file, HEAD).ok()?)?;
            Some(Form { path: found.path, file, stat, kind })
        });
        opened.collect()
    }

    /// Begins to read the next file that may be it; without one, waits for those that are not whole, or gives up.
    fn try_forms(&mut self, id: StreamId, now: Instant) {
        let Some(mut pursuit) = self.pursued.remove(&id) else { return };
        let Some(sought) = self.tailed.get(&id).map(Sought::of_file) else { return };
        let forms = self.forms_of(&sought, &mut pursuit, now);
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        (tailed.file, pursuit.form) = (None, None);
        for Form { path, file, stat, kind } in forms {
            let head = unpack::head(&file, kind);
            let read_before = tailed.size <= tailed.at.offset && unpack::notes_length(&file, kind, tailed.at.offset);
            match head.and_then(|head| Ok((head, Packed::new(file, kind, tailed.begun_at, &tailed.at)?))) {
                Ok((head, packed)) if head_agrees(&tailed.evidence, &head) => {
                    if pursuit.own && tailed.evidence.head_len == 0 {
                        (tailed.evidence.head_len, tailed.evidence.head_hash) = fingerprint(&head);
                    }
                    tailed.file = Some(Content::Packed(Box::new(packed)));
                    pursuit.form = Some((path, stat));
                    let (evidence, offset) = (tailed.evidence, tailed.at.offset);
                    self.pursued.insert(id, pursuit);
                    self.common.settlement.update(id, |row| row.evidence = evidence);
                    if read_before && offset > 0 {
                        self.proved(id, offset, now);
                        return self.finish_packed(id);
                    }
                    return self.queue(id);
                }
                Ok(_) => pursuit.others.push(look(&stat)),
                Err(error) => pursuit.is_broken(&path, &stat, &error, now),
            }
        }
        let hope = pursuit.has_hope(now);
        self.pursued.insert(id, pursuit);
        if hope {
            self.scan_due = self.scan_due.min(now + Duration::from_secs(1));
        } else {
            self.give_up(id);
        }
    }

    /// At each search: those that wait.
    pub(super) fn look_at_pursued(&mut self, now: Instant) {
        for id in self.pursued.iter().filter(|(_, pursuit)| pursuit.waits()).map(|(id, _)| *id).collect::<Vec<_>>() {
            self.try_forms(id, now);
        }
    }

    /// The compressed file is whole and the right one: from here on it is the stream's file.
    pub(super) fn proved(&mut self, id: StreamId, size: u64, now: Instant) {
        let (Some(tailed), Some(pursuit)) = (self.tailed.get_mut(&id), self.pursued.get(&id)) else { return };
        let Some((path, stat)) = pursuit.form.clone() else { return };
        let (ino, offset) = (tailed.evidence.ino, tailed.at.offset);
        let cut = tailed.size.saturating_sub(size.max(tailed.skip_to));
        (tailed.evidence.dev, tailed.evidence.ino, tailed.evidence.btime_ns) = (stat.dev, stat.ino, stat.btime_ns);
        (tailed.size, tailed.mtime_ns, tailed.ended, tailed.found_in) = (size, stat.mtime_ns, false, self.scanned);
        tailed.grew = now;
        let old = std::mem::replace(&mut tailed.path, path.clone());
        if let Some(names) = &mut self.names {
            names.add(tailed);
        }
        let (evidence, name) = (tailed.evidence, &self.settings.name);
        if !pursuit.own {
            tracing::info!(source = %name, path = %old.display(), compressed = %path.display(), offset, rest = size - offset, "its file is gone: it is finished from its compressed form");
        }
        if cut > 0 && !pursuit.own {
            tracing::error!(source = %name, path = %old.display(), compressed = %path.display(), bytes = cut, "was compressed before its last bytes were in it: at least these are lost");
            tailed.missed(&self.common, pursuit.reason, cut);
        }
        let state = if pursuit.own { FileState::Live } else { FileState::Rotated };
        if self.by_path.get(&old) == Some(&id) {
            self.by_path.remove(&old);
        }
        self.leave_inode(ino, id);
        self.by_inode.entry(stat.ino).or_default().push(id);
        self.by_path.insert(path.clone(), id);
        self.common.settlement.update(id, |row| {
            (row.evidence, row.state, row.size) = (evidence, state, size);
            row.path = path.as_os_str().as_bytes().into();
        });
        self.queue(id);
    }

    /// The compressed file is another one than it was taken for.
    pub(super) fn refuted(&mut self, id: StreamId) {
        if let Some(pursuit) = self.pursued.get_mut(&id)
            && let Some((_, stat)) = pursuit.form.take()
        {
            pursuit.others.push(look(&stat));
        }
        self.try_others(id);
    }

    /// The search goes on with what is there then.
    fn try_others(&mut self, id: StreamId) {
        if let Some(tailed) = self.tailed.get_mut(&id) {
            tailed.file = None;
        }
        self.scan_wanted = true;
    }

    /// The compressed file is damaged, or not whole yet, or can't be read.
    pub(super) fn broken(&mut self, id: StreamId, error: &std::io::Error, now: Instant) {
        if let Some(pursuit) = self.pursued.get_mut(&id)
            && let Some((path, stat)) = pursuit.form.take()
        {
            pursuit.is_broken(&path, &stat, error, now);
        }
        self.try_others(id);
    }

    /// All of a stream has been read from its compressed file.
    pub(super) fn finish_packed(&mut self, id: StreamId) {
        self.pursued.remove(&id);
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        (tailed.file, tailed.place, tailed.ended) = (None, Place::Finished, true);
        let (path, size) = (tailed.path.clone(), tailed.at.offset);
        self.hot.remove(&id);
        // So that a restart knows that it has been read, and yet reads on what was not settled by then.
        self.common.settlement.update(id, |row| (row.state, row.size) = (FileState::Copy, size));
        self.release_followers(id);
        // One that the patterns ask for stays known as long as it is there.
        if !self.is_wanted(&path) {
            self.retire(id, FileState::Copy);
        }
    }

    fn give_up(&mut self, id: StreamId) {
        let (Some(pursuit), Some(tailed)) = (self.pursued.remove(&id), self.tailed.get(&id)) else { return };
        let (path, at, name) = (tailed.path.clone(), tailed.at.offset.max(tailed.skip_to), &self.settings.name);
        let damage = pursuit.broken.first();
        // Of one that was never unpacked no more is known than the bytes that it has.
        let held = damage.filter(|_| pursuit.own).map_or(0, |broken| broken.last.2);
        let unread = tailed.size.max(held).saturating_sub(at);
        let reason = if damage.is_some() { Missed::Damaged } else { pursuit.reason };
        match damage {
            Some(Broken { path: form, error, .. }) => {
                tracing::error!(source = %name, path = %path.display(), compressed = %form.display(), offset = at, bytes = unread, %error, "its compressed form is damaged or not whole: at least these bytes are lost");
            }
            None if unread > 0 => {
                tracing::error!(source = %name, path = %path.display(), offset = at, bytes = unread, "gone before it was read to its end, and no compressed form of it was found: at least these bytes are lost");
            }
            None => {}
        }
        if unread > 0 {
            tailed.missed(&self.common, reason, unread);
        }
        let own = pursuit.own.then(|| damage.map(|broken| broken.last)).flatten();
        if self.strangers.len() > 100_000 {
            self.strangers.clear();
        }
        self.strangers.extend(pursuit.others.iter().map(|look| (id, *look)));
        self.release_followers(id);
        self.retire(id, FileState::Gone);
        if let Some(look) = own {
            // Should it be mended, it is a file of its own.
            self.ignored.insert(path, look);
            self.forget_now(id);
        }
    }

    /// Files that come after this one under the same key need not wait any more.
    pub(super) fn release_followers(&mut self, id: StreamId) {
        let followers: Vec<_> = self.tailed.iter().filter(|(_, tailed)| tailed.after == Some(id)).map(|(id, _)| *id).collect();
        for id in followers {
            self.queue(id);
        }
    }

    /// Whether a stream is in the hands of this file: its own is gone, or is a compressed one.
    pub(super) fn is_packed(&self, id: StreamId) -> bool {
        self.pursued.contains_key(&id) || self.tailed.get(&id).is_some_and(|tailed| tailed.place == Place::Finished)
    }

    /// Whether a file is in the middle of being unpacked.
    pub(super) fn unpacks(&self) -> bool {
        let busy = |tailed: &Tailed| tailed.queued && tailed.packed().is_some_and(Packed::is_busy);
        self.unpacking.and_then(|id| self.tailed.get(&id)).is_some_and(busy)
    }

    /// Whether this stream may unpack now: one does at a time, so that there is one decoder's memory and not one for each file. The others wait
    /// in line.
    pub(super) fn may_unpack(&mut self, id: StreamId) -> bool {
        if self.unpacking != Some(id) && self.unpacks() {
            if let Some(tailed) = self.tailed.get_mut(&id) {
                tailed.queued = true;
                self.to_unpack.push_back(id);
            }
            return false;
        }
        self.unpacking = Some(id);
        true
    }
}

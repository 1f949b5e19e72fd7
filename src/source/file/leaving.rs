//! How streams end: their file is let go of, what is not settled by then is protected, and at last they leave the state. What stays is bounded by
//! the files that are there, and by what happens in `forget_after`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::FileSource;
use super::discover::Finder;
use super::listings::Listings;
use super::streams::{now_s, path_of};
use crate::batch::StreamId;
use crate::gaps;
use crate::ledger::{Amount, Count, Missed};
use crate::settlement::At;
use crate::snapshot::rows::{FileState, StreamRow};

/// How often it is looked whether files of streams that were read are still there.
const TIDY: Duration = Duration::from_secs(600);

impl FileSource {
    /// At the first search: streams whose file is nowhere any more. What was not settled of them is missed: by the size last seen, or of one that
    /// was gone before, by what had been read of it.
    pub(super) fn account_for_absent(&mut self) {
        for (id, row, skip_to) in self.dormant.values_mut().flatten() {
            let settled = row.position.offset.max(*skip_to);
            let lost = row.size.saturating_sub(settled);
            let path = path_of(&row.path);
            // Where a directory can't be looked into now (permission, not mounted yet), its files may well be there.
            let seen = row.state == FileState::Gone || path.parent().is_some_and(|dir| self.listings.of(&self.finder, dir).is_there());
            if !seen {
                if lost == 0 {
                    continue;
                }
                tracing::warn!(source = %self.settings.name, path = %path.display(), bytes = lost, "was not read to its end, and its directory can't be looked into now: it is read on when it is found");
                continue;
            }
            if lost > 0 {
                tracing::error!(source = %self.settings.name, path = %path.display(), bytes = lost, "deleted or truncated before it was sent to its end, and logferry did not run on: up to these bytes are lost");
                let at = At { place: &gaps::Place::Path(row.path.as_ref().into()), stream: Some(*id), from: Some(settled), words: "" };
                self.common.settlement.missed(&self.settings.name, Missed::Deleted, Amount { bytes: lost, ..Amount::default() }, &at);
            }
            // One that was read to its end from a compressed file may well be there.
            if lost > 0 || !matches!(row.state, FileState::Gone | FileState::Copy) {
                (row.state, row.size) = (FileState::Gone, settled.min(row.size));
                let size = row.size;
                self.common.settlement.update(*id, |row| (row.state, row.size) = (FileState::Gone, size));
            }
        }
    }

    /// Lets go of a file; its stream stays known.
    pub(super) fn retire(&mut self, id: StreamId, state: FileState) {
        if state == FileState::Gone && self.tailed.get(&id).is_some_and(|tailed| !tailed.place.is_deleted()) {
            self.protect(id);
        }
        let Some(tailed) = self.tailed.remove(&id) else { return };
        if tailed.open {
            self.release_followers(id);
        }
        if self.by_path.get(&tailed.path) == Some(&id) {
            self.by_path.remove(&tailed.path);
        }
        self.leave_inode(tailed.evidence.ino, id);
        if self.by_key.get(tailed.stream.path()) == Some(&id) {
            self.by_key.remove(tailed.stream.path());
        }
        if let Some(before) = tailed.after {
            // What waits for it, or comes next, waits for what it waited for.
            self.tailed.values_mut().filter(|other| other.after == Some(id)).for_each(|other| other.after = Some(before));
            self.by_key.entry(tailed.stream.path().into()).or_insert(before);
        }
        self.hot.remove(&id);
        self.linked.remove(&id);
        self.common.settlement.update(id, |row| {
            row.state = state;
            if state == FileState::Gone {
                // What was not read is booked by now; what was read may yet be lost, if it is not settled before an end.
                row.size = tailed.at.offset;
            }
        });
        if let Some((mut row, _)) = self.common.settlement.stream(id) {
            row.position = tailed.at;
            self.dormant.entry(row.evidence.ino).or_default().push((id, row, 0));
        }
    }

    pub(super) fn leave_inode(&mut self, ino: u64, id: StreamId) {
        if let Some(ids) = self.by_inode.get_mut(&ino) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_inode.remove(&ino);
            }
        }
    }

    /// Takes a stream out of the state at once, if nothing of it is pending.
    pub(super) fn forget_now(&mut self, id: StreamId) {
        if self.common.settlement.forget(id) {
            self.dormant.values_mut().for_each(|rows| rows.retain(|(other, ..)| *other != id));
        }
    }

    /// Streams that are gone, with nothing pending, unseen for `forget_after`, leave the state; their counts stay with the source.
    fn forget_old(&mut self) {
        let limit = now_s().saturating_sub(i64::try_from(self.common.forget_after.as_secs()).unwrap_or(i64::MAX));
        let settlement = &self.common.settlement;
        for rows in self.dormant.values_mut() {
            rows.retain(|(id, row, _)| row.seen_s >= limit || !settlement.forget(*id));
        }
        self.dormant.retain(|_, rows| !rows.is_empty());
        if self.ignored.len() > 100_000 {
            self.ignored.clear();
        }
    }

    /// Forgets what has been gone for long, and what can't come back.
    pub(super) fn forget(&mut self, now: Instant) {
        self.forget_old();
        if now >= self.tidy_due {
            self.tidy_due = now + TIDY;
            self.forget_impossible();
        }
    }

    /// Streams that are settled and can't come back leave the state early, so that frequent rotation does not fill it for `forget_after`. That is
    /// safe because nothing that may be found later could be theirs: see [`is_impossible`]. Should it be wrong all the same (a file was
    /// moved to another directory and comes back), the file is read once more, and nothing is lost. Two looks in a row must agree, ten minutes
    /// apart, so that a compressed form of a file has been found and given to its stream by then.
    fn forget_impossible(&mut self) {
        let mut impossible = HashSet::new();
        for (id, row, _) in self.dormant.values().flatten() {
            if is_impossible(&mut self.listings, &self.finder, row) {
                impossible.insert(*id);
            }
        }
        let settlement = &self.common.settlement;
        let settled = |id| settlement.stream(id).is_none_or(|(row, _)| row.position.offset >= row.size);
        let before = std::mem::take(&mut self.impossible);
        for rows in self.dormant.values_mut() {
            let leaves = |id: &StreamId| before.contains(id) && impossible.contains(id) && settled(*id);
            rows.retain(|(id, ..)| !(leaves(id) && settlement.forget(*id)));
        }
        self.dormant.retain(|_, rows| !rows.is_empty());
        self.impossible = impossible;
    }

    /// What was read of a stream and is not settled can't be read again.
    pub(super) fn protect(&mut self, id: StreamId) {
        if self.common.settlement.stream(id).is_some_and(|(_, pending)| pending != Count::default()) {
            self.outlet.protect(id);
        }
    }
}

/// Whether nothing that is found from now on can be this stream's file: its content was truncated away or deleted, or the directory that it was
/// in is there, on the same file system as ever (not one that is not mounted yet), and has no such inode with such a time of birth.
fn is_impossible(listings: &mut Listings, finder: &Finder, row: &StreamRow) -> bool {
    let Some(dir) = path_of(&row.path).parent() else { return false };
    let listing = listings.of(finder, dir);
    let there = listing.device() == Some(row.evidence.dev);
    match row.state {
        FileState::Live => false,
        FileState::Gone => there,
        FileState::Rotated | FileState::Copy => there && !listing.has(row.evidence.ino, row.evidence.btime_ns),
    }
}

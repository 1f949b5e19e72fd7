//! Compressed files as the search finds them: whose they are.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::time::Instant;

use super::super::access::FileStat;
use super::super::discover::Found;
use super::super::identity::head_agrees;
use super::super::rotation::{Suspect, has_rotated_name};
use super::super::streams::path_of;
use super::super::tailed::{Place, Tailed};
use super::super::unpack::{self, Kind};
use super::super::{Compressed, FileSource};
use super::pursuit::{Pursuit, Sought, look};
use crate::batch::StreamId;
use crate::ledger::Missed;
use crate::snapshot::rows::{Evidence, FileState, StreamRow};

impl FileSource {
    /// At the first search: streams whose file is nowhere, and may have been compressed. They are older than what was not compressed yet, and come
    /// first.
    pub(in super::super) fn pursue_absent(&mut self, found: &[Found], now: Instant) {
        let ended = |row: &StreamRow, skip_to: u64| {
            let settled = row.size <= row.position.offset.max(skip_to);
            settled && matches!(row.state, FileState::Gone | FileState::Copy)
        };
        let rows = || self.dormant.values().flatten().filter(|(_, row, skip_to)| row.evidence.head_len > 0 && !ended(row, *skip_to));
        let mut here: HashSet<_> = found.iter().map(|found| (found.stat.ino, found.stat.btime_ns)).collect();
        let dirs: HashSet<_> = rows().filter_map(|(_, row, _)| path_of(&row.path).parent()).collect();
        for dir in dirs {
            here.extend(self.listings.of(&self.finder, dir).files().iter().map(|found| (found.stat.ino, found.stat.btime_ns)));
        }
        let absent = rows().filter(|(_, row, _)| !here.contains(&(row.evidence.ino, row.evidence.btime_ns)));
        let mut absent: Vec<_> = absent.map(|(id, row, _)| (row.seen_s, *id, row.evidence.ino)).collect();
        absent.sort_unstable();
        for (_, id, ino) in absent {
            let row = self.dormant.get(&ino).and_then(|rows| rows.iter().find(|(other, ..)| *other == id));
            let Some(sought) = row.map(|(_, row, _)| Sought::of_row(row)) else { continue };
            if !self.forms_of(&sought, &mut Pursuit::new(Missed::Deleted, false), now).is_empty()
                && let Some(known) = self.take_dormant(id, ino)
            {
                self.adopt_without_file(known, &sought.names[0], now);
                self.take_up(id, Pursuit::new(Missed::Deleted, false), now);
            }
        }
    }

    /// A compressed file that the search found.
    pub(in super::super) fn found_packed(&mut self, found: &Found, (file, stat): (File, FileStat), kind: Kind, now: Instant) {
        let tried = |pursuit: &Pursuit| pursuit.form.as_ref().is_some_and(|(_, form)| (form.ino, form.dev) == (stat.ino, stat.dev));
        if self.pursued.values().any(tried) {
            return;
        }
        let head = unpack::head(&file, kind);
        if let Ok(head) = &head
            && let Some(known) = self.wake_packed(&stat, head)
        {
            return self.adopt_packed(known, &found.path, &stat, now);
        }
        if self.settings.compressed == Compressed::Continue {
            self.ignored.insert(found.path.clone(), look(&stat));
            let kind = format!("{kind:?}").to_lowercase();
            return self
                .tell(&found.path, format!("not read: its content is compressed ({kind}), not text; compressed = \"read\" would read it"));
        }
        let head = head.unwrap_or_default();
        if !self.first_run && self.belongs_to_known(&found.path, &stat, &head, now) {
            return;
        }
        self.begin_packed(&found.path, &stat, &head, now);
    }

    /// The known stream that has gone over to this compressed file before.
    pub(in super::super) fn wake_packed(&mut self, stat: &FileStat, head: &[u8]) -> Option<(StreamId, StreamRow, u64)> {
        let rows = self.dormant.get_mut(&stat.ino)?;
        let same =
            |row: &StreamRow| row.evidence.btime_ns == stat.btime_ns && head_agrees(&row.evidence, head) && row.state != FileState::Gone;
        let at = rows.iter().position(|(_, row, _)| same(row))?;
        Some(rows.swap_remove(at))
    }

    /// Goes on with a stream in the compressed file that it was read from before.
    pub(in super::super) fn adopt_packed(&mut self, known: (StreamId, StreamRow, u64), path: &Path, stat: &FileStat, now: Instant) {
        let (id, own) = (known.0, known.1.state == FileState::Live);
        let read = known.1.state == FileState::Copy && known.1.position.offset.max(known.2) >= known.1.size;
        self.adopt_without_file(known, path, now);
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        (tailed.evidence.dev, tailed.mtime_ns) = (stat.dev, stat.mtime_ns);
        if read {
            // Nothing of it is read again.
            return self.finish_packed(id);
        }
        self.take_up(id, Pursuit::new(Missed::Deleted, own), now);
    }

    /// Whether a compressed file may be the form of a known stream, and has to wait until that is clear.
    pub(in super::super) fn belongs_to_known(&mut self, path: &Path, stat: &FileStat, head: &[u8], now: Instant) -> bool {
        let like =
            |names: [&Path; 2], evidence: &Evidence| evidence.head_len > 0 && head_agrees(evidence, head) && has_rotated_name(names, path);
        let alike =
            |tailed: &&Tailed| tailed.place != Place::Finished && tailed.evidence.head_len > 0 && head_agrees(&tailed.evidence, head);
        let owner = self.named_like(path).find(alike).map(|tailed| (tailed.stream.id, tailed.place.is_deleted()));
        if let Some((owner, deleted)) = owner {
            // One that is there may just be being compressed; one that is gone is read to its end first.
            let leaving = deleted || self.pursued.contains_key(&owner);
            self.suspects.insert(path.to_owned(), Suspect::new(stat, leaving, self.scanned, now));
            return true;
        }
        let like_row = |(id, row, _): &&(StreamId, StreamRow, u64)| {
            like([path_of(&row.path), path_of(&row.first_path)], &row.evidence) && !self.strangers.contains(&(*id, look(stat)))
        };
        let Some((id, row, _)) = self.dormant.values().flatten().find(like_row) else { return false };
        let (id, ino) = (*id, row.evidence.ino);
        let Some(known) = self.take_dormant(id, ino) else { return false };
        let last = path_of(&known.1.path).to_owned();
        self.adopt_without_file(known, &last, now);
        self.take_up(id, Pursuit::new(Missed::Deleted, false), now);
        true
    }

    /// A compressed file that is in its stream's hands was found by the search.
    pub(in super::super) fn found_packed_again(&mut self, id: StreamId, found: &Found, now: Instant) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        tailed.found_in = self.scanned;
        if tailed.place == Place::Finished && tailed.mtime_ns != found.stat.mtime_ns {
            // Written over: another file, as the next search sees it.
            self.scan_wanted = true;
            return self.retire(id, FileState::Gone);
        }
        if tailed.path != found.path {
            self.moved(id, &found.path, now);
            if let Some((path, _)) = self.pursued.get_mut(&id).and_then(|pursuit| pursuit.form.as_mut()) {
                found.path.clone_into(path);
            }
        }
        self.note_seen(id);
    }
}

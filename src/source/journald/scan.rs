//! What is found in the directories: new files, renamed ones, deleted ones; and what the state has of their streams. Apart from `follow.rs`,
//! which reads them.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::discover::{Directory, Found, files};
use super::follow::{Counter, Journals, clock_ns};
use super::format::{Id, Unfit};
use super::gaps::Series;
use super::position::Place as Spot;
use super::reader::{JournalFile, ReadError};
use super::streams::{JournalStream, Part};
use super::{Handover, Journald};
use crate::batch::{Origin, Stream, StreamId};
use crate::gaps::Place;
use crate::ledger::{Amount, Missed};
use crate::settlement::At;
use crate::snapshot::rows::{FileState, StreamRow};
use crate::source::file::StartAt;

/// Of a journal that had no entry yet when it was found it is not known at which number it begins.
const UNBEGUN: u64 = u64::MAX;
/// The state notes so often that a stream is there, seconds.
const NOTE_EVERY: i64 = 3600;

impl Journald {
    /// Searches all directories.
    pub(super) fn scan(&mut self) {
        let (directories, troubles) = self.settings.place.directories();
        for (path, error) in troubles {
            self.unreadable(&path, &ReadError::Io(error));
        }
        let first = self.scanned == 0;
        self.journals.iter_mut().for_each(|journals| journals.there = false);
        for directory in directories {
            let at = self.journals.iter().position(|journals| journals.directory == directory);
            let at = at.unwrap_or_else(|| {
                self.journals.push(new_journals(directory));
                self.journals.len() - 1
            });
            self.scan_one(at);
        }
        for at in 0..self.journals.len() {
            if self.journals.get(at).is_some_and(|journals| !journals.there) {
                self.all_gone(at);
            }
        }
        self.journals.sort_by_key(|journals| !journals.directory.volatile);
        if first {
            self.restore_handovers();
            self.common.settlement.note_source(&self.settings.name);
        }
        self.note_streams();
        self.scanned += 1;
        self.watch();
        self.say_what_is_there();
        self.first_run = false;
    }

    /// Searches those that do not outlive a reboot: what is copied from them must be known before the copies are read.
    pub(super) fn scan_volatile(&mut self) {
        for at in 0..self.journals.len() {
            if self.journals.get(at).is_some_and(|journals| journals.directory.volatile) {
                self.scan_one(at);
            }
        }
    }

    fn watch(&mut self) {
        let directories = self.journals.iter().filter(|journals| journals.there).map(|journals| journals.directory.path.clone());
        let parents = self.settings.place.parents().into_iter().filter(|path| path.is_dir());
        let all: HashSet<PathBuf> = directories.chain(parents).collect();
        self.watcher.watch_only(all.into_iter());
    }

    fn say_what_is_there(&mut self) {
        let any = self.journals.iter().any(|journals| !journals.streams.is_empty());
        let nowhere = PathBuf::new();
        if !any && self.told.insert(nowhere.clone(), String::new()).is_none() {
            tracing::warn!(source = %self.settings.name, "there is no journal in {}: waiting for one", self.settings.place.words());
        }
        if any && self.told.remove(&nowhere).is_some() {
            tracing::info!(source = %self.settings.name, "there is a journal now");
        }
        if any && !std::mem::replace(&mut self.units_checked, true) {
            self.check_units();
        }
    }

    /// The files of one directory.
    fn scan_one(&mut self, at: usize) {
        let Some(journals) = self.journals.get_mut(at) else { return };
        journals.there = true;
        let found = match files(&journals.directory.path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.all_gone(at),
            Err(error) => {
                journals.unreadable = journals.unreadable.max(1);
                let path = journals.directory.path.clone();
                return self.unreadable(&path, &ReadError::Io(error));
            }
        };
        journals.unreadable = 0;
        journals.files.retain(|path, inode| found.iter().any(|found| found.path == *path && found.inode == *inode));
        // Those that are open are known by their inode, whatever their names are now.
        for part in journals.streams.iter_mut().flat_map(|stream| &mut stream.parts) {
            let now = found.iter().find(|found| found.inode == part.inode);
            match now {
                Some(now) if part.reader.is_some() || now.path == part.path => {
                    part.gone = false;
                    part.closed |= now.closed;
                    if part.path != now.path {
                        part.path.clone_from(&now.path);
                    }
                    journals.files.insert(now.path.clone(), now.inode);
                }
                _ => part.gone = true,
            }
        }
        // A closed file keeps its name and its inode. Of the others the inode is known for certain only while the file is open here: when one that
        // is finished was deleted, the next to have the name may have its inode too.
        let open = |found: &Found| {
            journals.streams.iter().flat_map(|stream| &stream.parts).any(|part| part.reader.is_some() && part.inode == found.inode)
        };
        let known = |found: &Found| if found.closed { journals.files.get(&found.path) == Some(&found.inode) } else { open(found) };
        let fresh: Vec<Found> = found.into_iter().filter(|found| !known(found)).collect();
        for found in fresh {
            self.open(at, found);
        }
        self.count_again(at);
    }

    /// A directory that is not there any more.
    fn all_gone(&mut self, at: usize) {
        let Some(journals) = self.journals.get_mut(at) else { return };
        journals.there = false;
        journals.files.clear();
        journals.streams.iter_mut().flat_map(|stream| &mut stream.parts).for_each(|part| part.gone = true);
    }

    /// A file that was not there before, or under another name.
    pub(super) fn open(&mut self, at: usize, found: Found) {
        self.next_key += 1;
        let key = self.next_key;
        // Between the listing and this another may have taken the name.
        let mut found = found;
        let opened = File::open(&found.path).and_then(|file| Ok((file.metadata()?, file))).map_err(ReadError::Io);
        let opened = opened.and_then(|(meta, file)| {
            let inode = (meta.dev(), meta.ino());
            self.scan_wanted |= inode != found.inode;
            found.inode = inode;
            JournalFile::open(Box::new(file), key, found.closed)
        });
        let Some(journals) = self.journals.get_mut(at) else { return };
        let file = match opened {
            Ok(file) => file,
            // Just deleted, or just made: the next search tells.
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(ReadError::Unfit(Unfit::Zeroed)) => return self.scan_wanted |= !found.closed,
            Err(error) => {
                journals.unreadable += 1;
                return self.unreadable(&found.path, &error);
            }
        };
        journals.files.insert(found.path.clone(), found.inode);
        self.told.remove(&found.path);
        let header = *file.header();
        let same = |stream: &&mut JournalStream| stream.base == found.base && stream.seqnum_id == header.seqnum_id;
        let part = Part::new(found.path, found.inode, found.closed, file, key);
        if let Some(stream) = journals.streams.iter_mut().find(same) {
            let known = stream.parts.iter_mut().find(|part| part.header.file_id == header.file_id);
            if let Some(known) = known {
                (known.path, known.inode, known.gone) = (part.path, part.inode, false);
                known.closed |= part.closed;
            } else if !stream.has(&header.file_id) {
                stream.add(part, &mut self.windows);
            }
            return;
        }
        let mut stream = self.stream(at, &found.base, header.seqnum_id);
        stream.add(part, &mut self.windows);
        if let Some(journals) = self.journals.get_mut(at) {
            journals.streams.push(stream);
        }
    }

    /// A stream as the state has it, or a new one.
    fn stream(&self, at: usize, base: &str, seqnum_id: Id) -> JournalStream {
        let dir = self.journals.get(at).map_or(Path::new(""), |journals| journals.directory.path.as_path());
        let path = dir.join(base).as_os_str().as_bytes().to_vec();
        let settlement = &self.common.settlement;
        let known = settlement.streams_at(&path).into_iter().find_map(|(id, row)| {
            let spot = Spot::unpack(&row.position).filter(|spot| spot.seqnum_id == seqnum_id)?;
            (row.source == self.settings.name).then_some((id, row, spot))
        });
        let (id, row, spot) = known.unwrap_or_else(|| {
            let spot = Spot { seqnum_id, through: UNBEGUN, filter: self.renderer.filter().hash() & !1, ..Spot::default() };
            ((self.common.mint)(), self.first_row(&path, &spot), spot)
        });
        let stream = Stream {
            id,
            source: Arc::clone(&self.settings.name),
            key: row.key.clone(),
            origin: Origin::Finished,
            topic: Arc::clone(&self.settings.topic),
        };
        let begun = spot.through != UNBEGUN;
        let through = if begun { spot.through } else { 0 };
        let mut stream = JournalStream::new(Arc::new(stream), base.to_owned(), Spot { through, ..spot });
        (stream.begun, stream.resumes) = (begun, begun);
        stream.skip_to = row.feed(&self.settings.topic).map_or(0, |feed| feed.mark);
        stream.waits = row.size > row.position.offset;
        settlement.put(id, StreamRow { state: FileState::Live, ..row });
        stream
    }

    fn first_row(&self, path: &[u8], spot: &Spot) -> StreamRow {
        StreamRow {
            source: Arc::clone(&self.settings.name),
            key: format!("{}:journal", self.common.host).into_bytes().into(),
            first_path: path.into(),
            path: path.into(),
            state: FileState::Live,
            evidence: Spot::evidence(&spot.seqnum_id),
            size: 0,
            seen_s: clock_ns() / 1_000_000_000,
            begun_at: 0,
            position: spot.pack(),
            feeds: Vec::new(),
        }
    }

    /// Which streams share a counter: those with its id; and the journals of users, which may have an id of their own, the newest counter.
    fn count_again(&mut self, at: usize) {
        if self.first_run && self.settings.start_at == StartAt::End {
            self.leave_out(at);
        }
        self.note_beginnings(at);
        let Some(journals) = self.journals.get_mut(at) else { return };
        let newest = |stream: &JournalStream| stream.parts.iter().map(|part| part.header.head_realtime).max().unwrap_or(0);
        let own: HashSet<Id> = journals.streams.iter().filter(|stream| !is_users(&stream.base)).map(|stream| stream.seqnum_id).collect();
        let mut order: Vec<(u64, Id)> = Vec::new();
        for stream in &journals.streams {
            let time = newest(stream);
            let is_own = own.contains(&stream.seqnum_id) || own.is_empty();
            match order.iter_mut().find(|(_, id)| *id == stream.seqnum_id) {
                Some((known, _)) => *known = time.max(*known),
                None if is_own => order.push((time, stream.seqnum_id)),
                None => {}
            }
        }
        order.sort_unstable();
        let mut counters: Vec<Counter> = Vec::new();
        for (_, id) in &order {
            let known = journals.counters.iter().position(|counter| counter.id == *id);
            let mut counter = known.map_or_else(|| Counter::new(*id), |at| journals.counters.swap_remove(at));
            counter.members.clear();
            counters.push(counter);
        }
        for (index, stream) in journals.streams.iter().enumerate() {
            let own = counters.iter().position(|counter| counter.id == stream.seqnum_id).unwrap_or(counters.len().saturating_sub(1));
            if let Some(counter) = counters.get_mut(own) {
                counter.members.push(index);
            }
        }
        for counter in counters.iter_mut().filter(|counter| counter.series.last().is_none()) {
            begin(counter, &mut journals.streams);
        }
        journals.counters = counters;
    }

    /// Of streams that are new, the state has from now on where they begin: what is missing behind that is missing.
    fn note_beginnings(&mut self, at: usize) {
        let Some(journals) = self.journals.get_mut(at) else { return };
        for stream in journals.streams.iter_mut().filter(|stream| !stream.begun && stream.before.is_none()) {
            let heads = stream.parts.iter().map(|part| part.header.head_seqnum).filter(|head| *head > 0);
            let Some(before) = heads.min().and_then(|head| head.checked_sub(1)) else { continue };
            stream.at.through = before;
            (stream.known, stream.read, stream.begun) = (before, before, true);
            self.common.settlement.pass(stream.stream.id, stream.at.pack(), 0);
        }
    }

    /// At the first run: what is there already is left out, and that is told.
    fn leave_out(&mut self, at: usize) {
        let Some(journals) = self.journals.get_mut(at) else { return };
        let (source, settlement) = (&self.settings.name, &self.common.settlement);
        let mut events = 0;
        for stream in journals.streams.iter_mut().filter(|stream| !stream.begun) {
            let through = stream.parts.iter().map(|part| part.header.tail_seqnum).max().unwrap_or(0);
            events += stream.parts.iter().map(|part| part.header.entries).sum::<u64>();
            stream.at.through = through;
            (stream.known, stream.read, stream.begun) = (through, through, true);
            settlement.pass(stream.stream.id, stream.at.pack(), 0);
        }
        if events > 0 {
            let place = Place::Named(format!("journal {}", journals.directory.path.display()).into());
            tracing::info!(%source, journal = %journals.directory.path.display(), events, "start_at = \"end\": what the journal held before the first run is left out");
            let here = At { place: &place, stream: None, from: None, words: "" };
            settlement.missed(source, Missed::BeforeFirstRun, Amount { events, ..Amount::default() }, &here);
        }
    }

    /// What was read, before this start, of journals that do not outlive a reboot.
    fn restore_handovers(&mut self) {
        let volatile = |path: &Path| match &self.settings.place {
            super::discover::Where::Machine { roots, .. } => roots.iter().any(|(root, volatile)| *volatile && path.starts_with(root)),
            super::discover::Where::Given(_) => false,
        };
        let mut handovers = Vec::new();
        for (stream, row) in self.common.settlement.streams_of(&self.settings.name) {
            let path = Path::new(OsStr::from_bytes(&row.path));
            let (Some(last), Some(directory)) = (Spot::unpack(&row.position), path.parent().and_then(Path::file_name)) else { continue };
            if volatile(path) && last.monotonic > 0 {
                handovers.push(Handover { directory: directory.to_owned(), stream, first: row.begun_at, last });
            }
        }
        self.handovers.extend(handovers);
    }

    /// Tells the state which streams are there, and lets those go that were not for long.
    fn note_streams(&mut self) {
        let now_s = clock_ns() / 1_000_000_000;
        let settlement = &self.common.settlement;
        let mut here: HashSet<StreamId> = HashSet::new();
        for journals in &mut self.journals {
            for stream in &mut journals.streams {
                here.insert(stream.stream.id);
                let there = !stream.parts.is_empty();
                let (was, seen_s) = stream.noted;
                if there != was || (there && now_s - seen_s >= NOTE_EVERY) {
                    stream.noted = (there, now_s);
                    settlement.update(stream.stream.id, |row| {
                        row.state = if there { FileState::Live } else { FileState::Gone };
                        row.seen_s = now_s;
                    });
                }
            }
        }
        let limit = now_s.saturating_sub(i64::try_from(self.common.forget_after.as_secs()).unwrap_or(i64::MAX));
        for (id, row) in settlement.streams_of(&self.settings.name) {
            if here.contains(&id) {
                continue;
            }
            if row.state == FileState::Live {
                settlement.update(id, |row| row.state = FileState::Gone);
            }
            if row.seen_s < limit {
                settlement.forget(id);
            }
        }
    }

    /// A unit that is asked for and that no entry has is most likely a mistake.
    fn check_units(&mut self) {
        let wanted = self.settings.wanted.units.clone();
        if wanted.is_empty() {
            return;
        }
        let mut known: Vec<String> = Vec::new();
        for journals in &self.journals {
            for part in journals.streams.iter().flat_map(|stream| &stream.parts).rev().take(32) {
                let Ok(file) = File::open(&part.path) else { continue };
                let Ok(file) = JournalFile::open(Box::new(file), u64::MAX, true) else { continue };
                for field in ["_SYSTEMD_UNIT", "UNIT"] {
                    known.extend(file.values_of(&mut self.windows, field.as_bytes()));
                }
                self.windows.forget(u64::MAX);
            }
        }
        known.sort_unstable();
        known.dedup();
        for unit in wanted {
            let Some(near) = super::filter::nobody_is(&unit, &known) else { continue };
            let near = if near.is_empty() { String::new() } else { format!("; there are {}", near.join(", ")) };
            tracing::warn!(source = %self.settings.name, %unit, "no entry of the journal is of this unit yet{near}");
        }
    }
}

fn is_users(base: &str) -> bool {
    base.starts_with("user-")
}

fn new_journals(directory: Directory) -> Journals {
    Journals { directory, streams: Vec::new(), counters: Vec::new(), files: std::collections::HashMap::new(), unreadable: 0, there: true }
}

/// Up to which number all was accounted for before this start. Streams that wait for nothing are as far as the counter was; if one had something on
/// its way or unread, numbers are looked at from there on, those that other streams have shipped already included.
fn begin(counter: &mut Counter, streams: &mut [JournalStream]) {
    let own = |member: &usize| streams.get(*member).filter(|stream| stream.seqnum_id == counter.id && stream.begun);
    let own: Vec<&JournalStream> = counter.members.iter().filter_map(own).collect();
    let resumed = own.iter().any(|stream| stream.resumes);
    let known: Vec<(u64, bool)> = own.iter().map(|stream| (stream.known, stream.waits)).collect();
    let Some(most) = known.iter().map(|(known, _)| *known).max() else { return };
    let last = known.iter().filter(|(_, waits)| *waits).map(|(known, _)| *known).min().unwrap_or(most);
    counter.series = Series::from(Some(last));
    // What comes next may have been delivered after the last snapshot, and before a kill.
    counter.unsure_to = if resumed { most.saturating_add(1) } else { 0 };
    if last < most {
        for member in &counter.members {
            if let Some(stream) = streams.get_mut(*member) {
                stream.read = stream.read.min(last);
            }
        }
    }
}

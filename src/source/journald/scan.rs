//! What is found in the directories: new files, renamed ones, deleted ones. Apart from `follow.rs`, which reads them, and `known.rs`, which has what
//! the state knows.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use super::Journald;
use super::discover::{Directory, Found, files};
use super::follow::Journals;
use super::format::Unfit;
use super::reader::{JournalFile, ReadError};
use super::streams::{JournalStream, Part};

/// A file that has nothing yet is looked at again at once for so long after it was made; then with the others.
const YOUNG: Duration = Duration::from_secs(10);

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
            self.common.pulse.opened();
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
        let mut is_young = false;
        let opened = File::open(&found.path).and_then(|file| Ok((file.metadata()?, file))).map_err(ReadError::Io);
        let opened = opened.and_then(|(meta, file)| {
            let inode = (meta.dev(), meta.ino());
            is_young = meta.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age < YOUNG));
            self.scan_wanted |= inode != found.inode;
            found.inode = inode;
            JournalFile::open(Box::new(file), key, found.closed)
        });
        let Some(journals) = self.journals.get_mut(at) else { return };
        let file = match opened {
            Ok(file) => file,
            // Just deleted, or just made: the next search tells.
            Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(ReadError::Unfit(Unfit::Zeroed)) => return self.scan_wanted |= is_young && !found.closed,
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

fn new_journals(directory: Directory) -> Journals {
    Journals { directory, streams: Vec::new(), counters: Vec::new(), files: std::collections::HashMap::new(), unreadable: 0, there: true }
}

//! The file source: finds files, tells them apart, reads them in fair turns. This file has its settings and its loop; [`FileSource::turn`] does one
//! round of work without ever sleeping, so that tests can play it step by step.

pub mod access;
pub mod charset;
mod compressed;
pub mod content;
pub mod discover;
pub mod held;
pub mod identity;
mod leaving;
mod listings;
mod making;
mod names;
pub mod pattern;
pub mod reader;
pub mod rotation;
pub mod scan;
pub mod split;
pub mod streams;
pub mod tailed;
pub mod unpack;
pub mod watch;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::batch::StreamId;
use crate::bell::Bell;
use crate::budget::Budget;
use crate::encode::charge_for;
use crate::pool::Pool;
use crate::settlement::Settlement;
use crate::shutdown::{Phase, Stop};
use crate::snapshot::rows::StreamRow;
use crate::source::multiline::Multiline;
use crate::source::pulse::Pulse;
use crate::source::{Opening, Outlet};
use crate::spill::KeepFree;
use discover::Finder;
use tailed::{Hands, Tailed, Turn};
use watch::Watcher;

/// Where a file that exists when its source first runs is read from. Every later file is read from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Its first byte.
    Beginning,
    /// Its end.
    End,
}

/// What is read of compressed files (gzip, zstd). A file that is being read is never left behind because it was compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compressed {
    /// The rest of files that were not read to their end before they were compressed.
    #[default]
    Continue,
    /// Others that match the patterns as well, as files of their own.
    Read,
}

/// What the file source needs to know; built by `config/resolve.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of the source.
    pub name: Arc<str>,
    /// Files to read: absolute paths with `*`, `?`, `[…]`, `{a,b}` and `**`.
    pub include: Vec<discover::Pattern>,
    /// Files not to read, same form.
    pub exclude: Vec<discover::Pattern>,
    /// For files that exist when the source first runs.
    pub start_at: StartAt,
    /// Files that were last written longer ago than this when the source first runs are not read; `None`: all are.
    pub ignore_older: Option<Duration>,
    /// A last line without newline is shipped as partial after this long; `None`: it waits for its end.
    pub partial_line_timeout: Option<Duration>,
    /// How often all directories are searched, whatever the watcher said.
    pub rescan_interval: Duration,
    /// What is read of compressed files.
    pub compressed: Compressed,
    /// What its files are written in; `None`: their bytes are shipped as they are.
    pub charset: Option<charset::Named>,
    /// Which lines are joined; `None`: each line is an event.
    pub multiline: Option<Multiline>,
    /// The topic its events go to.
    pub topic: Arc<str>,
}

/// How much of a file is read at once, bytes: enough to make system calls cheap, little enough to stay in the processor's cache.
const BLOCK: usize = 512 << 10;
/// A file that is being written to is looked at this often, instead of waking up for each of its lines.
const HOT_INTERVAL: Duration = Duration::from_millis(50);
/// How soon a stream that waits for a snapshot is looked at again.
const UNBORN_INTERVAL: Duration = Duration::from_millis(2);
/// A file that is reached through a link is looked at this often, since no watcher tells of it.
const LINKED_INTERVAL: Duration = Duration::from_secs(1);
/// Between two searches of the directories at least this long, and at least 20 times as long as the last one took: 5 % of a core at the most.
const SCAN_GAP: Duration = Duration::from_millis(100);
/// Blocks read in one turn before hints and the word to stop are looked at again.
const BLOCKS_PER_TURN: usize = 32;

/// What the source shares with the rest of the daemon.
#[derive(Debug)]
pub struct Common {
    /// `agent.host`, the beginning of every key.
    pub host: Arc<str>,
    /// Where positions and counts are kept.
    pub settlement: Arc<Settlement>,
    /// Readers wait for it.
    pub budget: Arc<Budget>,
    /// Buffers.
    pub pool: Arc<Pool>,
    /// The longest value that one message may have, bytes: no line that fits may be cut by a block.
    pub max_event: usize,
    /// Streams that are gone leave the state when they were unseen for this long.
    pub forget_after: Duration,
    /// What deleted files may hold of the disk, over all sources.
    pub held: Arc<held::Held>,
    /// Deleted files that are not read to their end are let go when their file system has less than this free.
    pub keep_free: KeepFree,
    /// Files of one source that are held open at most; beyond it those that were quiet longest are closed until they grow.
    pub max_open: Arc<AtomicUsize>,
    /// What is told of it while it runs.
    pub pulse: Arc<Pulse>,
}

/// What [`FileSource::turn`] wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to read at once.
    Again,
    /// The budget has no room for this many bytes.
    Room(usize),
    /// Nothing to do until then, or until the watcher wakes it.
    Rest(Instant),
}

/// The source.
pub struct FileSource {
    settings: Settings,
    common: Common,
    outlet: Box<dyn Outlet>,
    finder: Finder,
    watcher: Watcher,
    /// Streams whose file is known to be there.
    tailed: HashMap<StreamId, Tailed>,
    /// Streams that are known but whose file has not been found, by inode number.
    dormant: HashMap<u64, Vec<(StreamId, StreamRow, u64)>>,
    by_path: HashMap<PathBuf, StreamId>,
    by_inode: HashMap<u64, Vec<StreamId>>,
    /// The newest stream under each first path: those share a key, and go one after the other.
    by_key: HashMap<Box<[u8]>, StreamId>,
    /// Files with something to read, in fair turns.
    ready: VecDeque<StreamId>,
    hot: HashSet<StreamId>,
    /// Streams that a kill now would leave unrecognisable: nothing of them goes out before a snapshot has them.
    unborn: Vec<StreamId>,
    /// Files that are links: the watcher sees their directory, not the one they point into.
    linked: HashSet<StreamId>,
    linked_due: Instant,
    /// Files that look like copies of one that is being read, see [`rotation`].
    suspects: HashMap<PathBuf, rotation::Suspect>,
    /// Streams that are read from a compressed file, or for which one is looked for, see [`compressed`].
    pursued: HashMap<StreamId, compressed::Pursuit>,
    /// The stream that unpacks a file now, and those that are in line for it.
    unpacking: Option<StreamId>,
    to_unpack: VecDeque<StreamId>,
    /// Compressed files that are known not to be a stream's.
    strangers: HashSet<(StreamId, compressed::Look)>,
    listings: listings::Listings,
    /// Made when it is first asked for in a search.
    names: Option<names::Names>,
    /// What its deleted files held of the disk when it was last looked, bytes.
    held: u64,
    /// Streams that could not come back when it was last looked, and when it is looked again.
    impossible: HashSet<StreamId>,
    tidy_due: Instant,
    /// What was said of a path, so that it is said once.
    told: HashMap<PathBuf, String>,
    /// Compressed files, by path: inode, time of change and size when they were looked at.
    ignored: HashMap<PathBuf, (u64, i64, u64)>,
    /// Files and bytes that the first run leaves out.
    skipped: (u64, u64),
    /// Before the first scan: whether the source has never run on this state.
    first_run: bool,
    scanned: u64,
    scan_due: Instant,
    scan_wanted: bool,
    scan_earliest: Instant,
    hot_due: Instant,
    /// Small reads go here and are copied out to their size.
    scratch: Vec<u8>,
}

impl std::fmt::Debug for FileSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSource").field("name", &self.settings.name).field("tailed", &self.tailed.len()).finish_non_exhaustive()
    }
}

impl FileSource {
    /// A source that knows what the settlement knows of its streams. `watcher` wakes whoever sleeps between turns.
    #[must_use]
    pub fn new(settings: Settings, common: Common, outlet: Box<dyn Outlet>, watcher: Watcher) -> FileSource {
        let finder = Finder::new(settings.include.clone(), settings.exclude.clone());
        let first_run = !common.settlement.knows_source(&settings.name);
        let mut dormant: HashMap<u64, Vec<_>> = HashMap::new();
        for (id, row) in common.settlement.streams_of(&settings.name) {
            let skip_to = row.mark(&settings.topic);
            dormant.entry(row.evidence.ino).or_default().push((id, row, skip_to));
        }
        let now = Instant::now();
        FileSource {
            settings,
            common,
            outlet,
            finder,
            watcher,
            tailed: HashMap::new(),
            dormant,
            by_path: HashMap::new(),
            by_inode: HashMap::new(),
            by_key: HashMap::new(),
            ready: VecDeque::new(),
            hot: HashSet::new(),
            unborn: Vec::new(),
            linked: HashSet::new(),
            linked_due: now,
            suspects: HashMap::new(),
            pursued: HashMap::new(),
            unpacking: None,
            to_unpack: VecDeque::new(),
            strangers: HashSet::new(),
            listings: listings::Listings::default(),
            names: None,
            held: 0,
            impossible: HashSet::new(),
            tidy_due: now,
            told: HashMap::new(),
            ignored: HashMap::new(),
            skipped: (0, 0),
            first_run,
            scanned: 0,
            scan_due: now,
            scan_wanted: true,
            scan_earliest: now,
            hot_due: now,
            scratch: Vec::new(),
        }
    }

    /// Works until the word to stop; with `once` until all that exists is read. It is open when it has searched for the first time.
    pub fn run(mut self, stop: &Stop, bell: &Bell, opening: Opening, once: bool) {
        let mut opening = Some(opening);
        while stop.phase() == Phase::Run || (stop.phase() == Phase::Leave && self.has_unread_deleted()) {
            let next = self.turn(Instant::now());
            drop(opening.take());
            match next {
                Next::Again => {}
                Next::Room(bytes) => drop(self.common.budget.wait_for_room(bytes, Duration::from_millis(100))),
                Next::Rest(_) if once && self.is_finished() => break,
                Next::Rest(until) => bell.wait_until(until),
            }
        }
        self.say_goodbye();
    }

    /// One round: hints, the search of directories if it is due, files that are being written to, and a bounded number of blocks.
    pub fn turn(&mut self, now: Instant) -> Next {
        self.take_hints();
        for id in std::mem::take(&mut self.unborn) {
            self.queue(id);
        }
        if now >= self.scan_due || (self.scan_wanted && now >= self.scan_earliest) {
            (self.scan_wanted, self.scan_due) = (false, now + self.settings.rescan_interval);
            let begun = Instant::now();
            self.scan(now);
            let took = begun.elapsed();
            self.scan_earliest = now + SCAN_GAP.max(took * 20);
        }
        if now >= self.hot_due {
            self.look_at_hot(now);
            self.hot_due = now + HOT_INTERVAL;
        }
        if now >= self.linked_due {
            for id in self.linked.iter().copied().collect::<Vec<_>>() {
                self.queue(id);
            }
            self.linked_due = now + LINKED_INTERVAL;
        }
        if !self.unpacks()
            && let Some(id) = self.to_unpack.pop_front()
        {
            self.ready.push_back(id);
        }
        for _ in 0..BLOCKS_PER_TURN {
            let Some(id) = self.ready.pop_front().or_else(|| self.to_unpack.pop_front()) else { return Next::Rest(self.rest_until()) };
            let need = self.tailed.get(&id).map_or(0, |tailed| tailed.appetite(self.block()));
            if !self.common.budget.has_room(charge_for(need, need / 64)) {
                self.ready.push_front(id);
                return Next::Room(charge_for(need, need / 64));
            }
            self.read_turn(id, now);
        }
        Next::Again
    }

    /// How much is read at once: with little memory less, so that half of it, which is free while the other is in flight, has room for a block and
    /// the bookkeeping of its lines.
    fn block(&self) -> usize {
        BLOCK.min(self.common.budget.limit() / 12).max(16 << 10)
    }

    fn rest_until(&self) -> Instant {
        let scan = if self.scan_wanted { self.scan_earliest.min(self.scan_due) } else { self.scan_due };
        let hot = if self.hot.is_empty() { scan } else { scan.min(self.hot_due) };
        let linked = if self.linked.is_empty() { hot } else { hot.min(self.linked_due) };
        if self.unborn.is_empty() { linked } else { linked.min(Instant::now() + UNBORN_INTERVAL) }
    }

    /// Whether all that exists has been read: for `run --once`.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.scanned > 0
            && self.ready.is_empty()
            && self.unborn.is_empty()
            && self.suspects.is_empty()
            && self.tailed.values().all(Tailed::is_at_end)
    }

    /// Whether a deleted file is not read to its end: once it is closed nobody can.
    fn has_unread_deleted(&self) -> bool {
        self.tailed.values().any(|tailed| tailed.place.is_deleted() && tailed.file.is_some() && !tailed.is_at_end())
    }

    fn take_hints(&mut self) {
        let hints = self.watcher.take();
        self.scan_wanted |= hints.structure || hints.everything;
        if hints.everything {
            let all: Vec<_> = self.tailed.keys().copied().collect();
            for id in all {
                self.queue(id);
            }
        }
        for path in hints.changed {
            match self.by_path.get(&path) {
                Some(id) => self.queue(*id),
                // A file that could not be opened before, perhaps, or one that is not ours.
                None => self.scan_wanted |= !self.ignored.contains_key(&path) && self.is_wanted(&path),
            }
        }
    }

    fn look_at_hot(&mut self, now: Instant) {
        for id in self.hot.iter().copied().collect::<Vec<_>>() {
            match self.tailed.get(&id) {
                Some(tailed) if tailed.wants_a_look(&self.settings, now) => self.queue(id),
                // Its time comes, however long that takes.
                Some(tailed) if tailed.waits_for_lines() => {}
                _ => drop(self.hot.remove(&id)),
            }
        }
    }

    /// Whether a path is one that the patterns ask for.
    pub(super) fn is_wanted(&self, path: &Path) -> bool {
        let any = |patterns: &[discover::Pattern]| patterns.iter().any(|pattern| pattern.matches(path));
        any(&self.settings.include) && !any(&self.settings.exclude)
    }

    /// Puts a file in line to be read, once.
    fn queue(&mut self, id: StreamId) {
        if let Some(tailed) = self.tailed.get_mut(&id)
            && !tailed.queued
        {
            tailed.queued = true;
            self.ready.push_back(id);
        }
    }

    /// One block of one file.
    fn read_turn(&mut self, id: StreamId, now: Instant) {
        if self.is_packed(id) {
            if self.tailed.get(&id).is_some_and(|tailed| tailed.file.is_none()) {
                self.tailed.entry(id).and_modify(|tailed| tailed.queued = false);
                return;
            }
        } else if self.tailed.get(&id).is_some_and(|tailed| tailed.file.is_none()) {
            self.reopen(id);
        }
        let waits_for = self.tailed.get(&id).and_then(|tailed| tailed.after);
        let waits = waits_for.is_some_and(|before| self.tailed.get(&before).is_some_and(|before| !before.is_at_end()));
        let only_time = waits_for.is_some_and(|before| self.tailed.get(&before).is_some_and(Tailed::waits_for_lines));
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        tailed.queued = false;
        if waits && only_time {
            // What is shipped of the one before queues this one again; that this one was truncated meanwhile is noticed at once.
            self.hot.extend(waits_for);
            if !tailed.was_written_over() {
                return;
            }
        } else if waits {
            if waits_for.is_some_and(|before| self.pursued.get(&before).is_some_and(compressed::Pursuit::waits)) {
                // Its end queues this one again.
                return;
            }
            // What comes before it under the same key goes first.
            return self.queue_all([waits_for, Some(id)]);
        }
        if !waits {
            tailed.after = None;
        }
        if tailed.at.offset == tailed.begun_at && !self.is_recognisable(id) {
            return;
        }
        if self.pursued.contains_key(&id) && !self.may_unpack(id) {
            return;
        }
        let block = self.block();
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        let (settings, common, outlet) = (&self.settings, &self.common, self.outlet.as_mut());
        let (before, open) = (tailed.at.offset, tailed.open);
        let turn = tailed.read(&mut Hands { settings, common, outlet, scratch: &mut self.scratch, block, now });
        let closed = open && !tailed.open;
        if tailed.place.is_deleted() && tailed.at.offset > before {
            self.protect(id);
        }
        if closed {
            self.release_followers(id);
        }
        match turn {
            Turn::More => self.queue(id),
            Turn::End => self.at_end(id, now),
            Turn::Truncated { size } => self.truncated(id, size, now),
            Turn::Compressed(kind) => self.compressed(id, kind),
            Turn::Proved { size } => self.proved(id, size, now),
            Turn::Other => self.refuted(id),
            Turn::Failed(error) if self.pursued.contains_key(&id) => self.broken(id, &error, now),
            Turn::Failed(error) => self.read_failed(id, &error),
        }
    }

    /// Whether a snapshot has the stream with a fingerprint of its file. Without that, after a kill, what was sent of the file would be sent
    /// again under another key once rotation has given its name to another one.
    fn is_recognisable(&mut self, id: StreamId) -> bool {
        self.refresh_head(id);
        let has_head = self.tailed.get(&id).is_some_and(|tailed| tailed.evidence.head_len > 0);
        if has_head && !self.common.settlement.is_recognisable(id) {
            self.unborn.push(id);
            return false;
        }
        true
    }

    fn queue_all(&mut self, ids: [Option<StreamId>; 2]) {
        ids.into_iter().flatten().for_each(|id| self.queue(id));
    }

    fn read_failed(&mut self, id: StreamId, error: &std::io::Error) {
        let Some(tailed) = self.tailed.get_mut(&id) else { return };
        tailed.file = None;
        // So that nothing waits for it, and the next search sees that there is something to read.
        (tailed.ended, tailed.size) = (true, tailed.at.offset);
        let path = tailed.path.clone();
        self.tell(&path, format!("can't be read: {error}; tried again at each search"));
    }

    /// Logs `words` of a path unless that was the last thing said of it.
    fn tell(&mut self, path: &std::path::Path, words: String) {
        if self.told.get(path) == Some(&words) {
            return;
        }
        // Beyond this many paths with something to say, repeating oneself is the lesser evil.
        if self.told.len() >= 100_000 {
            self.told.clear();
        }
        tracing::warn!(source = %self.settings.name, path = %path.display(), "{words}");
        self.told.insert(path.to_owned(), words);
    }

    fn say_goodbye(&self) {
        let waiting: Vec<_> = self.tailed.values().filter(|tailed| tailed.unfinished() > 0).collect();
        if let Some(one) = waiting.first() {
            let bytes: u64 = waiting.iter().map(|tailed| tailed.unfinished()).sum();
            tracing::info!(source = %self.settings.name, files = waiting.len(), bytes, example = %one.path.display(), "last lines without their end, or that may be joined with more, stay unsent until that comes");
        }
    }
}

//! The segments of an arrival log: appending, reading, deleting. Apart from [`super`], which has the threads and the locks around it; what is
//! written a second time is in [`super::anew`].
//!
//! Blocks are appended to one file after the other; a start never appends to a file that it finds. When no file can be written, blocks are kept in
//! memory, each a store of its own, until one can: then the source is unprotected.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::format::{SEGMENT_HEADER, SegmentHeader, segment_name};
use crate::batch::StreamId;
use crate::durable::disk::{Disk, Handle, read_full, write_full};
use crate::spill::KeepFree;
use crate::spill::room::{Full, Share};

/// How large a segment gets before the next one is begun, bytes; the last block may go beyond.
pub(super) const SEGMENT: u64 = if cfg!(test) { 4 << 10 } else { 8 << 20 };
/// How many names are tried for a new segment: one for each earlier attempt that could not be deleted.
const ATTEMPTS: u32 = 1000;
/// What a block in memory takes beside its bytes: its store and the allocator's own words.
const AROUND: usize = 128;

/// Where a run of blocks is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(Arc<Handle>),
    Memory(Arc<[u8]>),
}

/// A run of blocks, from the offset that is its key in [`Log::stores`] to `end`.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) place: Place,
    pub(super) end: u64,
    /// The offset behind the last block before it.
    pub(super) after: u64,
    /// What it takes of the room, bytes.
    pub(super) charged: u64,
    /// An fsync of it has failed.
    pub(super) failed: bool,
}

impl Store {
    pub(super) fn memory(&self) -> usize {
        if let Place::Memory(bytes) = &self.place { bytes.len() + AROUND } else { 0 }
    }
}

/// Why a block was not appended. Nothing was written then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AppendError {
    /// There is no room.
    Full(Full),
    /// No file can be written.
    Broken(String),
}

impl AppendError {
    pub(super) fn of(error: &io::Error) -> AppendError {
        if is_full(error) { AppendError::Full(Full::NoSpace) } else { AppendError::Broken(error.to_string()) }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) stream: StreamId,
    pub(super) boot: [u8; 16],
    pub(super) share: Share,
    pub(super) keep_free: KeepFree,
    pub(super) stores: BTreeMap<u64, Store>,
    /// The store that is appended to, by its first offset.
    pub(super) active: Option<u64>,
    /// Where the next block begins.
    pub(super) tail: u64,
    /// Behind the last block.
    pub(super) after: u64,
    /// All before it is durable.
    pub(super) synced: u64,
    /// What the stores hold, bytes.
    pub(super) held: u64,
    /// What is kept in memory, bytes.
    pub(super) memory: usize,
    /// Offsets that were left out: from, to. As few as ends in disorder that something is kept of.
    pub(super) leaps: Vec<(u64, u64)>,
    /// A file was made since the directory was synced.
    pub(super) made: bool,
}

impl Log {
    /// Appends one block; says where it ends.
    pub(super) fn append(&mut self, block: &[u8]) -> Result<u64, AppendError> {
        let mut why = String::new();
        // A file that can't be written is left behind, and a new one is tried once.
        for _ in 0..2 {
            let first = self.writable()?;
            let Some(Store { place: Place::File(handle), .. }) = self.stores.get(&first) else { break };
            let (handle, at) = (Arc::clone(handle), SEGMENT_HEADER as u64 + (self.tail - first));
            let Err(error) = write_full(&*self.disk, &handle, block, at) else {
                self.note(block.len());
                if let Some(store) = self.stores.get_mut(&first) {
                    store.end = self.tail;
                }
                return Ok(self.tail);
            };
            // Half a block that can't be cut off ends the file.
            if self.disk.truncate(&handle, at).is_err() || !is_full(&error) {
                self.active = None;
            }
            if is_full(&error) {
                return Err(AppendError::Full(Full::NoSpace));
            }
            why = error.to_string();
        }
        Err(AppendError::Broken(why))
    }

    /// Keeps one block in memory; says where it ends.
    pub(super) fn remember(&mut self, block: &[u8]) -> u64 {
        let (first, after) = (self.tail, self.after);
        self.note(block.len());
        self.active = None;
        self.drop_empty(first);
        let store = Store { place: Place::Memory(block.into()), end: self.tail, after, charged: 0, failed: false };
        self.memory += store.memory();
        self.stores.insert(first, store);
        self.tail
    }

    fn note(&mut self, len: usize) {
        self.tail += len as u64;
        self.held += len as u64;
        self.after = self.tail;
    }

    /// The store to append to; a new one where there is none, or the last is large enough.
    pub(super) fn writable(&mut self) -> Result<u64, AppendError> {
        if let Some(first) = self.active
            && self.tail - first < SEGMENT
        {
            return Ok(first);
        }
        self.active = None;
        let (first, after) = (self.tail, self.after);
        self.drop_empty(first);
        let handle = self.make(first, Some(after))?;
        self.stores.insert(first, Store { place: Place::File(Arc::new(handle)), end: first, after, charged: SEGMENT, failed: false });
        self.active = Some(first);
        Ok(first)
    }

    /// A file that could not be written, or was left empty by an earlier run, makes way for what begins there.
    fn drop_empty(&mut self, first: u64) {
        if self.stores.get(&first).is_some_and(|store| store.end == first)
            && let Some(Store { place: Place::File(handle), charged, .. }) = self.stores.remove(&first)
        {
            // What stays is a file without a block, which the next start takes away.
            drop(self.disk.remove(&handle.path));
            self.share.shrink(charged);
        }
    }

    /// A new file for blocks from `first` on, charged to the room; with a header, or room for one.
    pub(super) fn make(&mut self, first: u64, after: Option<u64>) -> Result<Handle, AppendError> {
        self.share.grow(SEGMENT).map_err(AppendError::Full)?;
        let made = self.make_file(first, after);
        if made.is_err() {
            self.share.shrink(SEGMENT);
        }
        made
    }

    fn make_file(&mut self, first: u64, after: Option<u64>) -> Result<Handle, AppendError> {
        self.disk.make_dir(&self.dir).map_err(|error| AppendError::of(&error))?;
        if self.usable().map_err(|error| AppendError::Broken(error.to_string()))? < SEGMENT {
            return Err(AppendError::Full(Full::KeepFree));
        }
        for attempt in 0..ATTEMPTS {
            let path = self.dir.join(segment_name(first, attempt));
            match self.disk.create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(AppendError::of(&error)),
                Ok(handle) => {
                    let wrote = after.map_or(Ok(()), |after| self.head(&handle, first, after));
                    if let Err(error) = wrote {
                        drop(self.disk.remove(&path));
                        return Err(AppendError::of(&error));
                    }
                    self.made = true;
                    return Ok(handle);
                }
            }
        }
        Err(AppendError::Broken("too many segments of this name are left over".into()))
    }

    /// Writes a segment's header.
    pub(super) fn head(&self, handle: &Handle, first: u64, after: u64) -> io::Result<()> {
        let header = SegmentHeader { stream: self.stream, first, after, boot: self.boot };
        write_full(&*self.disk, handle, &header.to_bytes(), 0)
    }

    /// How much of the file system may still be written, bytes.
    fn usable(&self) -> io::Result<u64> {
        let space = self.disk.space(&self.dir)?;
        let kept = match self.keep_free {
            KeepFree::Percent(share) => space.total / 100 * u64::from(share),
            KeepFree::Bytes(bytes) => bytes,
        };
        Ok(space.free.saturating_sub(kept))
    }

    /// What more segments may take, bytes.
    fn left(&self) -> u64 {
        // What a file system does not tell limits nothing: it says so itself when it is full.
        self.share.left().min(self.usable().unwrap_or(u64::MAX)) / SEGMENT * SEGMENT
    }

    /// How many bytes it may come to: what its files have, and what room and file system have left.
    pub(super) fn capacity(&self) -> u64 {
        self.share.used().saturating_add(self.left()).max(1)
    }

    /// Whether a block may be appended, as far as can be known before.
    pub(super) fn has_room(&self) -> bool {
        self.active.is_some_and(|first| self.tail - first < SEGMENT) || self.left() >= SEGMENT
    }

    /// The offset of the first block that is kept.
    pub(super) fn first(&self) -> u64 {
        self.stores.first_key_value().map_or(self.tail, |(first, _)| *first)
    }

    /// Where `offset` is kept: the store, its first offset, and its end. `None`: nothing is kept of that offset.
    pub(super) fn locate(&self, offset: u64) -> Option<(Place, u64, u64)> {
        let (first, store) = self.stores.range(..=offset).next_back()?;
        (offset < store.end).then(|| (store.place.clone(), *first, store.end))
    }

    /// Of an offset at which nothing is kept: up to where something was, and where the next begins that is kept.
    pub(super) fn next_kept(&self, offset: u64) -> (u64, u64) {
        let next = self.stores.range(offset..).find(|(_, store)| store.end > offset);
        let (after, first) = next.map_or((self.after, self.tail), |(first, store)| (store.after, *first));
        (after.clamp(offset, first), first)
    }

    /// How many offsets at or behind this one were left out.
    pub(super) fn left_out(&self, offset: u64) -> u64 {
        self.leaps.iter().map(|(from, to)| to.saturating_sub(offset.max(*from))).sum()
    }

    /// Deletes files of what lies wholly before `durable`, the position in the last snapshot, and gives back the memory of what lies before
    /// `settled`, since no snapshot can save that. What can't be deleted now is tried again with the next call.
    pub(super) fn release(&mut self, settled: u64, durable: u64) {
        if self.memory > 0 {
            let (held, memory) = (&mut self.held, &mut self.memory);
            self.stores.retain(|first, store| {
                let keep = store.memory() == 0 || store.end > settled;
                if !keep {
                    *held -= store.end - first;
                    *memory = memory.saturating_sub(store.memory());
                }
                keep
            });
        }
        while let Some((&first, Store { place: Place::File(handle), end, charged, .. })) = self.stores.first_key_value() {
            if *end > durable || self.active == Some(first) {
                break;
            }
            if let Err(error) = self.disk.remove(&handle.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(file = %handle.path.display(), %error, "a segment of the arrival log that is done with can't be deleted; trying again");
                break;
            }
            self.share.shrink(*charged);
            self.held -= end - first;
            self.stores.remove(&first);
        }
        self.synced = self.synced.max(durable.min(self.tail));
        self.leaps.retain(|(_, to)| *to > durable);
    }
}

/// Reads from a store; no further than its end.
pub(super) fn read(
    disk: &dyn Disk,
    (place, first, end): &(Place, u64, u64),
    offset: u64,
    room: &mut Vec<u8>,
    most: usize,
) -> io::Result<()> {
    let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(most).min(most);
    let at = offset.saturating_sub(*first);
    room.clear();
    match place {
        Place::Memory(bytes) => {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            room.extend_from_slice(bytes.get(at..at.saturating_add(len)).unwrap_or_default());
        }
        Place::File(handle) => {
            room.resize(len, 0);
            let got = read_full(disk, handle, room, SEGMENT_HEADER as u64 + at)?;
            room.truncate(got);
        }
    }
    Ok(())
}

/// Whether the system says that there is no room.
fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// The log's directory for a source; its name is one of the configuration's (`A-Z a-z 0-9 . _ -`), and `.` and `..` lead nowhere else.
pub(super) fn dir_of(arrivals: &Path, source: &str) -> PathBuf {
    arrivals.join(format!("{source}.log"))
}

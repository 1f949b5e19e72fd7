//! The arrival log: what a syslog source accepts is written here, raw, before anything else; from then on it can be read again like a file. This
//! file has the log as all its parts share it; [`super::reader`] reads it.
//!
//! Accepted means that the write has returned: it survives a kill. It is made durable when something in it is unsettled for `spill.sync`, or when a
//! RELP sender waits. In steady state Kafka acknowledges sooner, and segments are deleted without ever having been synced.
//!
//! | what | where |
//! | --- | --- |
//! | what is accepted, what is refused | `arrival/admit.rs` |
//! | what is kept safe, what is deleted | `arrival/keep.rs` |
//! | the bytes on disk | [`mod@format`] |
//! | segments: appending, reading, deleting | `arrival/log.rs` |
//! | syncing, and what is written a second time | `arrival/anew.rs` |
//! | what a start finds | [`recover`] |
//! | which severities are refused when it fills | [`shed`] |

mod admit;
mod anew;
pub mod format;
mod keep;
mod log;
pub mod recover;
pub mod shed;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::intake::Transport;
use crate::batch::StreamId;
use crate::bell::Bell;
use crate::durable::disk::Disk;
use crate::gaps;
use crate::ledger::{Amount, Missed};
use crate::settlement::{At, Settlement};
use crate::spill::KeepFree;
use crate::spill::room::{Full, Room};
use log::Log;
use recover::{Known, OpenError, Recovered};

/// How soon a log that can't be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How soon a log is looked at again of which nothing is to be made safe or deleted.
const REST: Duration = Duration::from_secs(5);
/// Senders whose message in parts is not whole yet. Beyond it all are forgotten (mostly connections that broke): a part is judged by itself then.
const PARTS_KEPT: usize = 1024;
/// How full a log that sheds is when it begins to, per cent.
const SHEDS_FROM: u64 = 80;

/// What happens to what comes while there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Nothing is accepted: the sender waits.
    Block,
    /// It is refused, the least important first, and counted.
    Shed,
}

impl WhenFull {
    /// What holds for a transport where the configuration says nothing: who can wait waits; a datagram can't, and a blocked `/dev/log` hangs sshd.
    #[must_use]
    pub fn of(transport: Transport) -> WhenFull {
        match transport {
            Transport::Udp | Transport::Unixgram => WhenFull::Shed,
            _ => WhenFull::Block,
        }
    }
}

/// What an arrival log needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source it is of.
    pub source: Arc<str>,
    /// The directory of all arrival logs.
    pub dir: PathBuf,
    /// `spill.keep_free`.
    pub keep_free: KeepFree,
    /// `spill.sync`.
    pub sync: Duration,
    /// What may be kept in memory while no file can be written, bytes. Beyond it there is no room.
    pub memory: usize,
    /// `when_full`, where it is set.
    pub when_full: Option<WhenFull>,
    /// What is refused first.
    pub shed_first: shed::First,
    /// The boot id of the machine.
    pub boot: [u8; 16],
}

/// What is behind the lock.
#[derive(Debug)]
struct Writing {
    log: Log,
    /// The block that is being made; keeps its capacity.
    block: Vec<u8>,
    /// How many bytes the log may come to, as of the last look.
    capacity: u64,
    /// Why nothing can be written, and since when; said once, until something is written again.
    full: Option<(Why, Instant)>,
    /// How many messages were refused since the log began to shed; said at its beginning and end.
    shedding: Option<u64>,
    /// Since when no file can be written, and when it is tried again.
    broken: Option<(Instant, Instant)>,
    /// Messages that come in parts, by sender: whether they are refused, and where they began.
    parts: HashMap<Box<str>, (bool, u64)>,
}

/// Why nothing more is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("{0}")]
    Disk(Full),
    #[error("no file can be written, and a quarter of agent.memory is used up")]
    Memory,
}

/// See the module.
#[derive(Debug)]
pub struct Arrivals {
    settings: Settings,
    stream: StreamId,
    disk: Arc<dyn Disk>,
    settlement: Arc<Settlement>,
    writing: Mutex<Writing>,
    roomy: Condvar,
    tail: AtomicU64,
    safe: AtomicU64,
    is_full: AtomicBool,
    /// Wakes the reader.
    came: Arc<Bell>,
    /// Wakes the one that keeps it safe.
    asked: Bell,
    wanted: AtomicBool,
    /// That one rests for long, and wants to be woken by the next message.
    resting: AtomicBool,
}

/// One block or more as read: where they are, see [`Arrivals::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes from the offset on.
    Bytes,
    /// Nothing is kept from the offset on.
    Hole {
        /// Up to here there was something, which is lost.
        lost_to: u64,
        /// Here goes on what is kept.
        to: u64,
    },
    /// All has been read.
    End,
}

impl Arrivals {
    /// Opens the log of a source: what is in it is to be read from where the state says. `came` is rung when something is accepted.
    ///
    /// # Errors
    /// It can't be read, or is a newer release's.
    pub fn open(
        settings: Settings,
        disk: Arc<dyn Disk>,
        room: &Arc<Room>,
        settlement: Arc<Settlement>,
        came: Arc<Bell>,
        mint: impl FnOnce() -> StreamId,
    ) -> Result<(Arc<Arrivals>, Recovered), OpenError> {
        // A source that was of another type before has streams that are no log's: only those of files have a path that they were first seen under.
        let rows = settlement.streams_of(&settings.source).into_iter().filter(|(_, row)| row.first_path.is_empty());
        let known = rows.max_by_key(|(_, row)| row.position.offset).map(|(stream, row)| Known {
            stream,
            position: row.position.offset,
            mark: row.feeds.iter().map(|feed| feed.mark).max().unwrap_or(0),
            size: row.size,
            begun: row.begun_at,
            boot: row.evidence.head_hash,
        });
        let opening = recover::Opening {
            disk: Arc::clone(&disk),
            dir: log::dir_of(&settings.dir, &settings.source),
            boot: settings.boot,
            share: room.enter(),
            keep_free: settings.keep_free,
            known,
        };
        let (mut log, recovered) = recover::open(opening, mint)?;
        begin(&mut log);
        let (stream, tail, safe) = (log.stream, log.tail, log.synced);
        let capacity = log.capacity();
        let writing = Writing { log, block: Vec::new(), capacity, full: None, shedding: None, broken: None, parts: HashMap::new() };
        let arrivals = Arrivals {
            settings,
            stream,
            disk,
            settlement,
            writing: Mutex::new(writing),
            roomy: Condvar::new(),
            tail: AtomicU64::new(tail),
            safe: AtomicU64::new(safe),
            is_full: AtomicBool::new(false),
            came,
            asked: Bell::default(),
            wanted: AtomicBool::new(false),
            resting: AtomicBool::new(false),
        };
        arrivals.tell(&recovered, known.map_or(0, |known| known.size));
        Ok((Arc::new(arrivals), recovered))
    }

    /// Books what a start has found to be gone; the state knows of messages up to `size`.
    fn tell(&self, recovered: &Recovered, size: u64) {
        let Recovered { power_loss, lost, .. } = *recovered;
        let (source, sync) = (&self.settings.source, self.settings.sync);
        let (reason, unknown, words) = if let Some(last_ns) = power_loss {
            let last = jiff::Timestamp::from_nanosecond(i128::from(last_ns)).ok().filter(|_| last_ns > 0);
            let last = last.map_or_else(|| "none is there".to_owned(), |last| format!("the last that is there was received at {last:.3}"));
            let words = format!("up to {sync:?} of what was accepted before the machine went down; {last}");
            tracing::error!(%source, bytes = lost, "the machine has started anew without logferry having ended: lost is {words}");
            (Missed::PowerLoss, 1, words)
        } else if lost > 0 {
            // It was in memory alone, or somebody has deleted files.
            let words = "they were accepted, and could not be written, or their files were deleted";
            tracing::error!(%source, bytes = lost, "the arrival log does not have all messages that the state knows of: {words}");
            (Missed::Unreadable, 0, words.to_owned())
        } else {
            return;
        };
        let place = gaps::Place::Named(format!("arrival log of {source}").into());
        let from = Some(size.saturating_sub(lost)).filter(|_| lost > 0);
        let at = At { place: &place, stream: from.map(|_| self.stream), from, words: &words };
        self.settlement.missed(source, reason, Amount { bytes: lost, unknown, ..Amount::default() }, &at);
        if lost > 0 {
            // With the same snapshot the state knows of no more than there is.
            self.settlement.update(self.stream, |row| row.size = size.saturating_sub(lost));
        }
    }

    /// By what the state recognises the boot in which it was last written.
    #[must_use]
    pub fn boot_mark(&self) -> u64 {
        recover::boot_mark(&self.settings.boot)
    }

    /// The directory it is in.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        log::dir_of(&self.settings.dir, &self.settings.source)
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of the source.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The offset behind all that was accepted.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    /// The offset behind all that was accepted, less the offsets at or behind `at` that were left out: what is behind `at` is what waits there.
    #[must_use]
    pub fn size(&self, at: u64) -> u64 {
        let writing = self.lock();
        writing.log.tail - writing.log.left_out(at)
    }

    /// The offset of the first block that is kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.lock().log.first()
    }

    /// What it takes on disk, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lock().log.share.used()
    }

    /// Reads at most `most` bytes at `offset` into `room`; see [`Piece`].
    ///
    /// # Errors
    /// An I/O error: to be tried again, never damage.
    pub fn read(&self, offset: u64, room: &mut Vec<u8>, most: usize) -> io::Result<Piece> {
        if offset >= self.tail() {
            return Ok(Piece::End);
        }
        let place = {
            let writing = self.lock();
            if let Some(place) = writing.log.locate(offset) {
                place
            } else {
                let (lost_to, to) = writing.log.next_kept(offset);
                return Ok(Piece::Hole { lost_to, to });
            }
        };
        log::read(&*self.disk, &place, offset, room, most)?;
        Ok(if room.is_empty() { Piece::Hole { lost_to: place.2, to: place.2 } } else { Piece::Bytes })
    }

    /// How full the log is, per cent; 100 only if it really is.
    fn percent(&self, writing: &Writing) -> u64 {
        if self.is_full.load(Ordering::Acquire) { 100 } else { (writing.log.held.saturating_mul(100) / writing.capacity.max(1)).min(99) }
    }

    fn mended(&self, writing: &mut Writing) {
        if let Some((since, _)) = writing.broken.take() {
            tracing::info!(source = %self.settings.source, seconds = since.elapsed().as_secs(), "the arrival log can be written again: the source is protected");
        }
    }

    /// Whether no file can be written, so that what comes is in memory alone.
    #[must_use]
    pub fn is_unprotected(&self) -> bool {
        self.lock().broken.is_some()
    }

    /// Why nothing more is accepted, or not everything; `None`: it has room.
    #[must_use]
    pub fn why_full(&self) -> Option<String> {
        let writing = self.lock();
        let shedding = || writing.shedding.map(|refused| format!("it fills: {refused} messages were refused, the least severe first"));
        writing.full.map(|(why, _)| why.to_string()).or_else(shedding)
    }
}

/// Begins a segment at once, and makes sure that it is there after a loss of power: by it the next start tells that from a clean end. Where that
/// can't be done now, messages show why.
fn begin(log: &mut Log) {
    let Ok(first) = log.writable() else { return };
    let Some(log::Place::File(handle)) = log.stores.get(&first).map(|store| &store.place) else { return };
    if log.disk.sync_data(handle).is_ok() && log.disk.sync_dir(&log.dir).is_ok() {
        log.made = false;
    } else {
        log.active = None;
    }
}

/// The arrival logs below `dir` that hold something and belong to none of `sources`: the names of their sources, and bytes.
#[must_use]
pub fn left_over<'a>(dir: &Path, sources: impl IntoIterator<Item = &'a str>) -> Vec<(String, u64)> {
    let sources: std::collections::HashSet<&str> = sources.into_iter().collect();
    let bytes = |log: &Path| {
        let files = std::fs::read_dir(log).into_iter().flatten().flatten();
        let lens = files.filter_map(|file| file.metadata().ok()).map(|file| file.len().saturating_sub(format::SEGMENT_HEADER as u64));
        // An end in order is no message.
        lens.filter(|len| *len > format::BLOCK_HEADER as u64).sum::<u64>()
    };
    let logs = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| {
        let source = entry.file_name().to_str()?.strip_suffix(".log")?.to_owned();
        (!sources.contains(source.as_str())).then(|| (source, bytes(&entry.path())))
    });
    let mut logs: Vec<_> = logs.filter(|(_, bytes)| *bytes > 0).collect();
    logs.sort();
    logs
}

fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0)
}

//! The arrival log: what a syslog source accepts is written here, raw, before anything else; from then on it can be read again like a file. This
//! file decides what is accepted and keeps the log safe; [`super::reader`] reads it.
//!
//! Accepted means that the write has returned: it survives a kill. It is made durable when something in it is unsettled for `spill.sync`, or when a
//! RELP sender waits. In steady state Kafka acknowledges sooner, and segments are deleted without ever having been synced.
//!
//! | what | where |
//! | --- | --- |
//! | the bytes on disk | [`mod@format`] |
//! | segments: appending, reading, deleting | `arrival/log.rs` |
//! | syncing, and what is written a second time | `arrival/anew.rs` |
//! | what a start finds | [`recover`] |
//! | which severities are refused when it fills | [`shed`] |

mod anew;
pub mod format;
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

use super::intake::{Frame, Frames, Intake, Taken, Transport};
use crate::batch::StreamId;
use crate::bell::Bell;
use crate::durable::disk::Disk;
use crate::gaps;
use crate::ledger::{Amount, Missed};
use crate::settlement::{At, Settlement};
use crate::shutdown::{Phase, Stop};
use crate::spill::KeepFree;
use crate::spill::room::{Full, Room};
use log::{AppendError, Log};
use recover::{Known, OpenError, Recovered};
use shed::Severity;

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

    /// Keeps the log safe and its files few, until the word to stop is `Now` or `done` says so.
    pub fn keep(&self, stop: &Stop, done: &AtomicBool) {
        let mut seen = self.tail();
        while stop.phase() < Phase::Now && !done.load(Ordering::Acquire) {
            let rest = if self.may_rest(seen) { REST } else { self.settings.sync };
            self.asked.wait_until(Instant::now() + rest);
            self.resting.store(false, Ordering::SeqCst);
            let (settled, durable) = self.settlement.reached(self.stream);
            self.safe.fetch_max(settled, Ordering::AcqRel);
            let asked = self.wanted.swap(false, Ordering::AcqRel);
            // What was there a while ago already and is still not settled.
            if asked || self.safe.load(Ordering::Acquire) < seen {
                self.sync();
            }
            seen = self.tail();
            self.tidy(settled, durable);
        }
    }

    /// Whether nothing is to be done before the next message; who accepts that one rings then.
    fn may_rest(&self, seen: u64) -> bool {
        {
            let writing = self.lock();
            let done = writing.log.stores.len() <= 1 && writing.log.memory == 0 && writing.shedding.is_none();
            if !done || self.is_full.load(Ordering::Acquire) || self.safe.load(Ordering::Acquire) < writing.log.tail {
                return false;
            }
        }
        self.resting.store(true, Ordering::SeqCst);
        self.tail.load(Ordering::SeqCst) == seen
    }

    /// Ends [`Arrivals::keep`], once `done` says so.
    pub fn wake_keeper(&self) {
        self.asked.ring();
    }

    /// Makes all that is accepted durable, without holding up who accepts.
    fn sync(&self) {
        let safe = self.safe.load(Ordering::Acquire);
        let (files, upto, dir) = {
            let mut writing = self.lock();
            for first in writing.log.failed(safe) {
                if !writing.log.renew(first, safe) {
                    return;
                }
            }
            let (files, upto) = writing.log.to_sync(safe);
            (files, upto, std::mem::take(&mut writing.log.made).then(|| writing.log.dir.clone()))
        };
        if let Some(dir) = dir
            && let Err(error) = self.disk.sync_dir(&dir)
        {
            tracing::warn!(dir = %dir.display(), %error, "fsync of the arrival log's directory failed; trying again");
            self.lock().log.made = true;
            return;
        }
        for (first, handle) in files {
            if let Err(error) = self.disk.sync_data(&handle) {
                tracing::warn!(file = %handle.path.display(), %error, "fsync failed: what it did not make safe is written anew into a new segment");
                self.lock().log.renew(first, safe);
                self.wanted.store(true, Ordering::Release);
                return;
            }
        }
        let mut writing = self.lock();
        writing.log.synced = writing.log.synced.max(upto);
        self.safe.fetch_max(upto, Ordering::AcqRel);
    }

    /// Deletes what is done with, writes what is in memory alone if that can be done by now, and looks at the room anew.
    fn tidy(&self, settled: u64, durable: u64) {
        let mut guard = self.lock();
        let writing = &mut *guard;
        writing.log.release(settled, durable);
        if writing.log.memory > 0 && writing.broken.is_none_or(|(_, again)| again <= Instant::now()) {
            match writing.log.rescue() {
                Ok(()) => self.mended(writing),
                Err(_) => writing.broken = writing.broken.map(|(since, _)| (since, Instant::now() + TRY_AGAIN)),
            }
        }
        writing.capacity = writing.log.capacity();
        if self.is_full.load(Ordering::Acquire) && self.may_have_room(writing) {
            self.is_full.store(false, Ordering::Release);
            self.roomy.notify_all();
        }
        let percent = self.percent(writing);
        if let Some(refused) = writing.shedding.take_if(|_| percent < SHEDS_FROM) {
            tracing::info!(source = %self.settings.source, refused, "the arrival log has room again: no message is refused any more");
        }
    }

    /// Whether something may be accepted again after the log was full. Whether it really can, the next message shows.
    fn may_have_room(&self, writing: &Writing) -> bool {
        if writing.broken.is_some() {
            return writing.log.memory < self.settings.memory / 4 * 3;
        }
        match writing.full {
            // What a file system refused that says it has room, as under a quota.
            Some((Why::Disk(Full::NoSpace), since)) => since.elapsed() >= TRY_AGAIN && writing.log.has_room(),
            _ => writing.log.has_room(),
        }
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

    /// The end of a clean stop: all is made durable, and the log says that it ended in order.
    pub fn close(&self) {
        {
            let mut writing = self.lock();
            if !writing.log.stores.is_empty() {
                let end = format::end_block(now_ns());
                // Without it the next start of another boot takes the end for a loss of power, and says so.
                if let Ok(tail) = writing.log.append(&end) {
                    self.tail.store(tail, Ordering::Release);
                }
            }
        }
        self.sync();
        let (settled, durable) = self.settlement.reached(self.stream);
        self.tidy(settled, durable);
    }

    /// Writes the block that was made; says where it ends.
    fn write(&self, writing: &mut Writing) -> Result<u64, Why> {
        let block = std::mem::take(&mut writing.block);
        let now = Instant::now();
        let outcome = match writing.broken {
            Some((_, again)) if now < again => Err(AppendError::Broken(String::new())),
            _ => writing.log.append(&block),
        };
        let outcome = match outcome {
            Ok(end) => {
                // What was kept in memory before follows at once.
                if writing.broken.is_some() && writing.log.rescue().is_ok() {
                    self.mended(writing);
                }
                Ok(end)
            }
            Err(AppendError::Full(full)) => Err(Why::Disk(full)),
            Err(AppendError::Broken(_)) if writing.log.memory + block.len() > self.settings.memory => Err(Why::Memory),
            Err(AppendError::Broken(words)) => {
                if writing.broken.is_none() {
                    tracing::error!(source = %self.settings.source, error = words, "the arrival log can't be written: what comes is kept in memory alone, and a kill would lose it");
                }
                let since = writing.broken.map_or(now, |(since, _)| since);
                if !words.is_empty() {
                    writing.broken = Some((since, now + TRY_AGAIN));
                }
                Ok(writing.log.remember(&block))
            }
        };
        writing.block = block;
        if outcome.is_ok() && writing.full.take().is_some() {
            tracing::info!(source = %self.settings.source, "the arrival log has room again");
        }
        outcome
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

    fn fills(&self, writing: &mut Writing, why: Why) {
        if writing.full.replace((why, Instant::now())).is_none() {
            tracing::warn!(source = %self.settings.source, "the arrival log has no more room: {why}");
        }
        self.is_full.store(true, Ordering::Release);
    }

    fn count_shed(&self, transport: Transport, shed: &shed::Counts) {
        let all: u64 = shed.iter().map(|(_, count)| count).sum();
        if all == 0 {
            return;
        }
        {
            let mut writing = self.lock();
            if writing.shedding.is_none() {
                tracing::warn!(source = %self.settings.source, transport = transport.word(), "the arrival log fills: messages are refused and counted, the least severe first");
            }
            *writing.shedding.get_or_insert(0) += all;
        }
        for (severity, count) in shed.iter() {
            let place = format!("{}, severity {}", transport.word(), severity.word());
            self.missed(Missed::Shed, Amount { events: count, ..Amount::default() }, &place.into(), "");
        }
    }
}

impl Intake for Arrivals {
    fn take(&self, frames: &Frames<'_>) -> Taken {
        let sheds = self.settings.when_full.unwrap_or(WhenFull::of(frames.transport)) == WhenFull::Shed;
        let mut guard = self.lock();
        let writing = &mut *guard;
        let percent = self.percent(writing);
        if !sheds && percent >= 100 {
            return Taken::Full;
        }
        let mut shed = shed::Counts::default();
        let least = if sheds { shed::least_accepted(percent) } else { Some(Severity::Debug) };
        let mut block = std::mem::take(&mut writing.block);
        block.clear();
        let (parts, tail) = (&mut writing.parts, writing.log.tail);
        let kept = format::write_block(&mut block, frames, |frame, at| {
            let severity = Severity::of(frames.bytes_of(frame));
            let (refused, began) = judge(parts, frames.peer, frame, least.is_none_or(|least| severity > least), tail + at);
            if refused && frame.last {
                shed.add(severity);
            }
            (!refused).then_some(began)
        });
        writing.block = block;
        let outcome = if kept == 0 { Ok(writing.log.tail) } else { self.write(writing) };
        match outcome {
            Ok(end) => {
                self.tail.store(end, Ordering::SeqCst);
                drop(guard);
                self.count_shed(frames.transport, &shed);
                self.came.ring();
                if self.resting.swap(false, Ordering::SeqCst) {
                    self.asked.ring();
                }
                Taken::Accepted { end }
            }
            Err(full) => {
                self.fills(writing, full);
                let end = writing.log.tail;
                if !sheds {
                    return Taken::Full;
                }
                // What follows of a message whose beginning is refused is refused as well.
                if let Some(part) = writing.parts.get_mut(frames.peer) {
                    part.0 = true;
                }
                drop(guard);
                let mut shed = shed::Counts::default();
                for frame in frames.frames.iter().filter(|frame| frame.last) {
                    shed.add(Severity::of(frames.bytes_of(frame)));
                }
                self.count_shed(frames.transport, &shed);
                Taken::Accepted { end }
            }
        }
    }

    fn wait_for_room(&self, patience: Duration) -> bool {
        let guard = self.lock();
        drop(self.roomy.wait_timeout_while(guard, patience, |_| self.is_full.load(Ordering::Acquire)));
        self.has_room()
    }

    fn has_room(&self) -> bool {
        !self.is_full.load(Ordering::Acquire)
    }

    fn ask_for_safety(&self) {
        if !self.wanted.swap(true, Ordering::AcqRel) {
            self.asked.ring();
        }
    }

    fn is_safe(&self, end: u64) -> bool {
        self.safe.load(Ordering::Acquire) >= end
    }

    fn missed(&self, reason: Missed, amount: Amount, place: &Arc<str>, words: &str) {
        let at = At { place: &gaps::Place::Named(Arc::clone(place)), stream: None, from: None, words };
        self.settlement.missed(&self.settings.source, reason, amount, &at);
    }
}

/// Whether a frame is refused, and where its message began: the first part of a message decides for all of them.
fn judge(parts: &mut HashMap<Box<str>, (bool, u64)>, peer: &str, frame: &Frame, judged: bool, at: u64) -> (bool, u64) {
    if frame.part == 0 {
        return (judged, at);
    }
    let (refused, began) = if frame.part == 1 { (judged, at) } else { parts.get(peer).copied().unwrap_or((false, at)) };
    if frame.last {
        parts.remove(peer);
    } else if frame.part == 1 {
        if parts.len() >= PARTS_KEPT {
            parts.clear();
        }
        parts.insert(peer.into(), (refused, began));
    }
    (refused, began)
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

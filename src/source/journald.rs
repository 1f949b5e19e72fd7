//! The journal source: reads the files of systemd's journal as they are written, rotated and deleted, and ships their entries. This file has its
//! settings and its loop; [`Journald::turn`] does one round of work without ever sleeping, so that tests can play it step by step.
//!
//! | what | where |
//! | --- | --- |
//! | the bytes of a file; compressed fields | [`mod@format`], [`unpack`] |
//! | one file, entry by entry, with `pread` | [`reader`] |
//! | one journal over its files: rotation, deletion | [`streams`] |
//! | where journals are; what of a directory is known | [`discover`], `journald/scan.rs` |
//! | whether a file is read, for people | [`explain`] |
//! | all journals of a directory, in the order of their numbers | `journald/follow.rs` |
//! | which numbers are missing; how that and other losses are told | [`gaps`], `journald/told.rs` |
//! | what the state has of streams; what was read before a flush to disk | `journald/known.rs`, `journald/handover.rs` |
//! | where a stream is to be resumed | [`position`] |
//! | what a fuzz target calls | [`fuzz`] |
//! | which entries are shipped, as journalctl would show them | [`filter`] |
//! | an entry as a message; fields that recur | [`render`], [`cache`] |

pub mod cache;
pub mod discover;
pub mod explain;
pub mod filter;
mod follow;
pub mod format;
pub mod fuzz;
pub mod gaps;
mod handover;
mod host;
mod known;
pub mod position;
pub mod reader;
pub mod render;
mod scan;
pub mod streams;
#[cfg(test)]
mod tests;
mod told;
pub mod unpack;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::StreamId;
use crate::bell::Bell;
use crate::budget::Budget;
use crate::encode::{self, charge_for};
use crate::pool::Pool;
use crate::settlement::Settlement;
use crate::shutdown::{Phase, Stop};
use crate::source::file::StartAt;
use crate::source::file::watch::Watcher;
use crate::source::pulse::Pulse;
use crate::source::{Opening, Outlet};
use discover::Where;
use filter::{Filter, Wanted};
use follow::Journals;
use handover::Handover;
use reader::Windows;
use render::{Fields, Renderer};

/// What the configuration says of a source; built by `config/sources.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of the source.
    pub name: Arc<str>,
    /// The topic its events go to.
    pub topic: Arc<str>,
    /// Which journals.
    pub place: Where,
    /// Where journals that exist when the source first runs are read from.
    pub start_at: StartAt,
    /// Only entries of the boot that is going on.
    pub current_boot: bool,
    /// Which entries.
    pub wanted: Wanted,
    /// Which fields of them.
    pub fields: Fields,
}

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
    /// How messages look: the source renders them itself.
    pub encode: encode::Settings,
    /// Streams that are gone leave the state when they were unseen for this long.
    pub forget_after: Duration,
    /// A number that no stream has.
    pub mint: fn() -> StreamId,
    /// What is told of it while it runs.
    pub pulse: Arc<Pulse>,
}

/// About how much is rendered into one batch, bytes.
const BLOCK: usize = 512 << 10;
/// How often the files are looked at while something is written to them …
const ACTIVE: Duration = Duration::from_millis(100);
/// … for so long after something was.
const CALM: Duration = Duration::from_secs(3);
/// How often else, when a watcher tells of changes; without one, [`UNWATCHED`].
const IDLE: Duration = Duration::from_secs(2);
const UNWATCHED: Duration = Duration::from_millis(250);
/// Two looks are at least so far apart, whatever the watcher says.
const LOOK_GAP: Duration = Duration::from_millis(50);
/// How often the directories are searched, whatever the watcher says.
const RESCAN: Duration = Duration::from_secs(10);
/// Two searches are at least so far apart.
const SCAN_GAP: Duration = Duration::from_millis(100);
/// How soon something is looked at again that waits for what is on its way.
const HELD: Duration = Duration::from_millis(20);
/// Batches in one turn before hints and the word to stop are looked at again.
const BATCHES_PER_TURN: usize = 8;

/// What [`Journald::turn`] wants next.
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
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own; together they are no state machine")]
pub struct Journald {
    settings: Settings,
    common: Common,
    outlet: Box<dyn Outlet>,
    watcher: Watcher,
    renderer: Renderer,
    windows: Windows,
    /// In the order in which they are read: what does not outlive a reboot first.
    journals: Vec<Journals>,
    /// What was read of journals that journald has copied elsewhere since.
    handovers: Vec<Handover>,
    next_key: u64,
    /// What was said of a path, so that it is said once.
    told: HashMap<PathBuf, String>,
    first_run: bool,
    scanned: u64,
    scan_wanted: bool,
    scan_due: Instant,
    scan_earliest: Instant,
    look_due: Instant,
    looked: Instant,
    /// When something was read last.
    active: Instant,
    /// Something waits for what is on its way to be settled.
    held: bool,
    rested: bool,
    units_checked: bool,
    /// Ends of the messages of one entry.
    ends: Vec<usize>,
}

impl std::fmt::Debug for Journald {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journald").field("name", &self.settings.name).field("journals", &self.journals).finish_non_exhaustive()
    }
}

impl Journald {
    /// A source that knows what the settlement knows of its streams. `watcher` wakes whoever sleeps between turns.
    #[must_use]
    pub fn new(mut settings: Settings, common: Common, outlet: Box<dyn Outlet>, watcher: Watcher) -> Journald {
        let first_run = !common.settlement.knows_source(&settings.name);
        if settings.current_boot {
            settings.wanted.boot = host::boot_id();
        }
        settings.wanted.own_unit = settings.wanted.own_unit.or_else(host::own_unit);
        let renderer = Renderer::new(&common.encode, &settings.name, &settings.fields, Filter::new(&settings.wanted));
        let now = Instant::now();
        Journald {
            settings,
            common,
            outlet,
            watcher,
            renderer,
            windows: Windows::default(),
            journals: Vec::new(),
            handovers: Vec::new(),
            next_key: 1,
            told: HashMap::new(),
            first_run,
            scanned: 0,
            scan_wanted: true,
            scan_due: now,
            scan_earliest: now,
            look_due: now,
            looked: now,
            active: now,
            held: false,
            rested: false,
            units_checked: false,
            ends: Vec::new(),
        }
    }

    /// Works until the word to stop; with `once` until all that exists is read. It is open when it has searched for the first time.
    pub fn run(mut self, stop: &Stop, bell: &Bell, opening: Opening, once: bool) {
        let mut opening = Some(opening);
        while stop.phase() == Phase::Run {
            let next = self.turn(Instant::now());
            drop(opening.take());
            match next {
                Next::Again => {}
                Next::Room(bytes) => drop(self.common.budget.wait_for_room(bytes, Duration::from_millis(100))),
                Next::Rest(_) if once && self.is_finished() => break,
                Next::Rest(until) => bell.wait_until(until),
            }
        }
    }

    /// Whether all that exists has been read: for `run --once`.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.scanned > 0 && !self.held && !self.scan_wanted
    }

    /// One round: hints, the search of directories if it is due, the headers of open files, and a bounded number of batches.
    pub fn turn(&mut self, now: Instant) -> Next {
        let hints = self.watcher.take();
        self.scan_wanted |= hints.structure || hints.everything;
        if !hints.is_empty() {
            self.look_due = self.look_due.min(self.looked + LOOK_GAP);
        }
        if now >= self.scan_due || (self.scan_wanted && now >= self.scan_earliest) {
            (self.scan_wanted, self.scan_due) = (false, now + RESCAN);
            let begun = Instant::now();
            self.scan();
            self.scan_earliest = now + SCAN_GAP.max(begun.elapsed() * 20);
            self.look_due = now;
        }
        if now >= self.look_due {
            self.look();
            self.looked = now;
        }
        self.held = false;
        for _ in 0..BATCHES_PER_TURN {
            let need = charge_for(self.block(), self.block() / 512);
            if !self.common.budget.has_room(need) {
                return Next::Room(need);
            }
            if !self.read(now) {
                return Next::Rest(self.rest_until(now));
            }
            (self.active, self.rested) = (now, false);
        }
        Next::Again
    }

    /// How much is made into one batch: with little memory less, so that half of it, which is free while the other is in flight, has room for it.
    fn block(&self) -> usize {
        BLOCK.min(self.common.budget.limit() / 12).max(16 << 10)
    }

    fn rest_until(&mut self, now: Instant) -> Instant {
        let quiet = now.saturating_duration_since(self.active);
        let pause = match () {
            () if self.held => HELD,
            () if quiet < CALM => ACTIVE,
            () if self.watcher.watching() == 0 => UNWATCHED,
            () => IDLE,
        };
        if quiet >= CALM && !std::mem::replace(&mut self.rested, true) {
            self.windows.clear();
            self.renderer.rest();
        }
        self.look_due = self.looked + if self.held { pause.min(ACTIVE) } else { pause };
        let scan = if self.scan_wanted { self.scan_earliest.min(self.scan_due) } else { self.scan_due };
        scan.min(if self.held { now + HELD } else { self.look_due })
    }
}

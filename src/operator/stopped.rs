//! What an operator may see of and do with the state of a stopped daemon. Its lock is held meanwhile, so that none starts and nobody else changes
//! it; each change is one transaction.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::letters::{self, Deed};
use super::{Settings, journal, seek, view};
use crate::batch::StreamId;
use crate::control::letters::{Letter, List};
use crate::control::protocol::{Change, Left, SeekTo, Spilled};
use crate::control::status::{self, Status, Stream};
use crate::control::user::User;
use crate::control::{Operator, Refusal};
use crate::dead_letters::DeadLetters;
use crate::durable::{Lock, LockError};
use crate::gaps;
use crate::ledger::{Amount, Count, Fate, Lost, Missed};
use crate::settlement::{At, Settlement};
use crate::snapshot::State;
use crate::snapshot::rows::StreamRow;
use crate::source::journald::position::Place;
use crate::spill::Spill;
use crate::spill::room::Room;
use crate::tap::Flow;

/// A stopped daemon.
#[derive(Debug)]
pub struct Stopped {
    settings: Settings,
    state: Mutex<State>,
    /// What the last snapshot holds.
    settlement: Settlement,
    _lock: Lock,
}

/// Why its state can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum StoppedError {
    /// There is none.
    #[error("no daemon runs, and {0} holds no state: logferry has not run with this configuration yet, or agent.state_dir is another")]
    NoState(String),
    /// It runs after all, but did not answer.
    #[error(
        "a daemon holds the lock of {0}, but does not listen on its control socket: it is starting or ending (try again), or could not make the socket (its log says why)"
    )]
    Held(String),
    /// It can't be opened.
    #[error("{0}")]
    Refused(String),
}

impl Stopped {
    /// Takes the lock of `dir` and reads the state in it.
    ///
    /// # Errors
    /// See [`StoppedError`]; nothing was changed.
    pub fn open(dir: &Path, settings: Settings) -> Result<Stopped, StoppedError> {
        let refused = |error: &dyn std::fmt::Display| StoppedError::Refused(error.to_string());
        match dir.join("state.redb").try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(StoppedError::NoState(dir.display().to_string())),
            Err(error) => {
                let what = format!("{} can't be looked into: {error}. Ask as root or as the user that logferry runs as", dir.display());
                return Err(StoppedError::Refused(what));
            }
        }
        let lock = Lock::take(dir).map_err(|error| match error {
            LockError::Held(_) => StoppedError::Held(dir.display().to_string()),
            LockError::Io { .. } => refused(&error),
        })?;
        let state = State::open(dir, &settings.agent).map_err(|error| refused(&error))?;
        let settlement = state.restore().map_err(|error| refused(&error))?;
        settings.journals.iter().for_each(|source| settlement.note_kind(source, "journald"));
        Ok(Stopped { settings, state: Mutex::new(state), settlement, _lock: lock })
    }

    /// Makes what changed durable, in one transaction; `more` is changed beside.
    fn keep(&self, more: Option<(StreamId, StreamRow)>) -> Result<(), Refusal> {
        let mut changes = self.settlement.changes();
        changes.kept.streams.extend(more);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.commit(&changes).map_err(|error| Refusal(error.to_string()))?;
        self.settlement.committed(&changes);
        Ok(())
    }

    /// A stream as it would be after a seek, and what that does.
    fn seek(&self, stream: &str, to: &SeekTo) -> Result<(StreamId, StreamRow, Seek), Refusal> {
        let id = view::stream_id(stream)?;
        let (mut row, _) = self.settlement.stream(id).ok_or_else(|| view::no_stream(stream))?;
        let path = Path::new(OsStr::from_bytes(&row.path)).display().to_string();
        if let Some(place) = Place::of(&row) {
            let sought = journal::seek(&self.settings, &row, &place, to)?;
            row.feeds.iter_mut().for_each(|feed| feed.mark = 0);
            (row.position, row.size) = (sought.place.pack(), sought.place.offset);
            let skipped = Amount { events: sought.skipped, ..Amount::default() };
            let (from, to) = (place.through, sought.place.through);
            return Ok((id, row, Seek { words: sought.words(&path, from), from, to, done: None, skipped }));
        }
        let position = seek::position(&seek::open(&self.settings, &row)?, &row, to)?;
        // What the marks of all lanes cover is settled: it is not skipped by passing over it.
        let done = row.feeds.iter().map(|feed| feed.mark).min().unwrap_or(0).max(row.position.offset);
        let (from, to) = (row.position.offset, position.offset);
        let skipped = Amount { bytes: to.saturating_sub(done), ..Amount::default() };
        let outcome = Seek { words: words(&path, (from, to), done), from, to, done: Some(done), skipped };
        // A mark ahead of the position would leave out what is to be read again.
        row.feeds.iter_mut().for_each(|feed| feed.mark = 0);
        (row.position, row.begun_at) = (position, position.offset);
        Ok((id, row, outcome))
    }

    /// What a lane's spill holds is lost, and its files go.
    fn discard(&self, lane: &str, user: &User) -> Result<String, Refusal> {
        let topic: Arc<str> = lane.into();
        let refusal = |error: &dyn std::fmt::Display| Refusal(error.to_string());
        let row = self.settlement.lanes().into_iter().find(|(known, _)| *known == topic).map(|(_, row)| row);
        let room = Room::new(self.settings.spill.max_size);
        let (mut spill, found) = Spill::open(&self.settings.spill, &topic, &room, row.as_ref()).map_err(|error| refusal(&error))?;
        let lost: Vec<_> = found.lost.into_iter().map(|(source, count, _)| (source, count)).collect();
        self.settlement.roll(&topic, spill.row(), &found.rolled, &lost);
        let gone = spill.discard();
        self.settlement.spill_ended(&topic, spill.row(), &gone, Fate::Lost(Lost::Operator));
        self.keep(None)?;
        spill.release(self.settlement.durable_head(lane));
        for (source, Count { events, bytes }) in &gone {
            tracing::error!(%user, topic = lane, %source, events, bytes, "lost: an operator discarded what waited in a lane");
        }
        let Count { events, bytes } = gone.iter().map(|(_, count)| *count).sum();
        Ok(format!("{events} events ({bytes} bytes) of lane {lane} are thrown away; they are counted as lost (operator)."))
    }

    fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(&self.settings.letters, &crate::kafka::Current::new(self.settings.kafka.clone()), Arc::default())
    }

    fn with_letters(&self, id: &str, deed: Deed, user: &User) -> Result<String, Refusal> {
        let mut book = |whose: &letters::Letters, events, fate| {
            self.settlement.left_letters(&whose.source, &whose.topic, events, fate);
            self.keep(None)
        };
        letters::carry_out(&self.dead_letters(), &self.settings.kafka, (id, deed), user, &mut book)
    }

    /// Whether a lane of this name is configured, or has something in its spill.
    fn judge_lane(&self, lane: &str) -> Result<(), Refusal> {
        let mut lanes: BTreeSet<Arc<str>> = self.settings.topics.values().map(Arc::clone).collect();
        lanes.extend(self.settlement.lanes().into_iter().map(|(topic, _)| topic));
        if lanes.contains(lane) { Ok(()) } else { Err(view::no_lane(lane, lanes.iter())) }
    }
}

/// A lane sends nothing now, so it can be neither paused nor resumed.
fn not_running() -> Refusal {
    Refusal("no daemon runs, so no lane sends: a lane is paused and resumed while one does".into())
}

/// What a seek does.
struct Seek {
    words: String,
    /// Bytes of a file, or numbers of entries.
    from: u64,
    to: u64,
    /// Of a file, up to where all was delivered.
    done: Option<u64>,
    /// What will never be read.
    skipped: Amount,
}

/// What a seek in a file does, for people.
fn words(path: &str, (from, to): (u64, u64), done: u64) -> String {
    match to.cmp(&done) {
        Ordering::Greater => format!(
            "{path} goes on at byte {to} instead of {from}: {} bytes are skipped and never sent; they are counted as missed (operator).",
            to - done
        ),
        Ordering::Less => {
            format!("{path} goes on at byte {to} instead of {from}: the {} bytes in between are read and sent again.", done - to)
        }
        Ordering::Equal => format!("{path} goes on at byte {to}: nothing is skipped and nothing is sent again."),
    }
}

impl Operator for Stopped {
    fn status(&self) -> Result<Status, Refusal> {
        let topics = self.settings.topics.values();
        let mut lanes: BTreeMap<_, _> = topics.map(|topic| (topic.to_string(), view::lane(None))).collect();
        for (topic, row) in self.settlement.lanes() {
            lanes.entry(topic.to_string()).or_default().spill = view::spill(&row);
        }
        Ok(Status {
            running: false,
            lanes,
            spill: status::Spill { max_bytes: self.settings.spill.max_size, ..status::Spill::default() },
            ..view::books(&self.settings, &self.settlement)
        })
    }

    fn explain(&self, path: &OsStr) -> String {
        view::streams_at(&self.settlement, path).iter().map(|(id, row)| view::describe(*id, row, &|_| None)).collect()
    }

    fn streams(&self) -> Vec<Stream> {
        view::streams(&self.settings, &self.settlement)
    }

    fn spilled(&self, lane: &str) -> Spilled {
        view::spilled(lane, &self.settlement)
    }

    fn letters(&self) -> Result<List, Refusal> {
        letters::list(&self.dead_letters())
    }

    fn letter(&self, id: &str) -> Result<Letter, Refusal> {
        letters::show(&self.dead_letters(), id)
    }

    fn plan(&self, change: &Change) -> Result<String, Refusal> {
        match change {
            Change::Seek { stream, to } => Ok(self.seek(stream, to)?.2.words),
            Change::Forget { stream } => view::plan_forget(view::stream_id(stream)?, &self.settlement, false),
            Change::Pause { .. } | Change::Resume { .. } => Err(not_running()),
            Change::Discard { lane } => {
                self.judge_lane(lane)?;
                Ok(view::plan_lane(change, lane, &self.settlement, false))
            }
            Change::Resend { id } => letters::plan(&self.dead_letters(), id, Deed::Resend),
            Change::DiscardLetters { id } => letters::plan(&self.dead_letters(), id, Deed::Discard),
        }
    }

    fn change(&self, change: &Change, user: &User) -> Result<String, Refusal> {
        match change {
            Change::Seek { stream, to } => {
                let (id, row, outcome) = self.seek(stream, to)?;
                let Seek { words, from, to, done, skipped } = outcome;
                if skipped != Amount::default() {
                    let place = Place::of(&row).map_or_else(|| gaps::Place::Path(row.path.as_ref().into()), |_| view::journal_place(&row));
                    let at = At { place: &place, stream: Some(id), from: done, words: "" };
                    self.settlement.missed(&row.source, Missed::Operator, skipped, &at);
                }
                let path = Path::new(OsStr::from_bytes(&row.path)).display().to_string();
                self.keep(Some((id, row)))?;
                let skipped = skipped.bytes + skipped.events;
                tracing::warn!(%user, %stream, path, from, to, skipped, "an operator moved a position");
                Ok(words)
            }
            Change::Forget { stream } => {
                self.plan(change)?;
                let id = view::stream_id(stream)?;
                self.settlement.forget(id);
                self.keep(None)?;
                tracing::warn!(%user, %stream, "an operator took a stream out of the state");
                Ok(format!("Stream {id} is forgotten."))
            }
            Change::Pause { .. } | Change::Resume { .. } => Err(not_running()),
            Change::Discard { lane } => {
                self.judge_lane(lane)?;
                self.discard(lane, user)
            }
            Change::Resend { id } => self.with_letters(id, Deed::Resend, user),
            Change::DiscardLetters { id } => self.with_letters(id, Deed::Discard, user),
        }
    }

    fn reload(&self) -> Result<String, Refusal> {
        Err(Refusal("no daemon runs: there is nothing to reload".into()))
    }

    fn log_level(&self, _: Option<&str>, _: Duration, _: &User) -> Result<String, Refusal> {
        Err(Refusal("no daemon runs, so nothing logs: log.level is what it begins with".into()))
    }

    fn tap(&self, _: &str, _: u32, _: &mut dyn FnMut(Flow) -> bool) -> Result<(), Refusal> {
        Err(Refusal("no daemon runs, so nothing flows".into()))
    }

    fn drain(&self, _: Duration, _: &mut dyn FnMut(&Left) -> bool) -> Result<Option<Left>, Refusal> {
        Err(Refusal("no daemon runs, so nothing is sent: logferry run --once sends all that exists, and ends".into()))
    }
}

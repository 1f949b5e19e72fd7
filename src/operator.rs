//! What an operator may see of and do with the running daemon, behind the control socket. What of it is the same for a stopped one is
//! [`view`]; the stopped one itself is [`stopped`].

pub mod drain;
pub mod journal;
pub mod letters;
pub mod pages;
pub mod resend;
pub mod seek;
pub mod stopped;
pub mod tap;
pub mod view;

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use letters::Deed;
use pages::Beginning;

use crate::control::letters::{Letter, List};
use crate::control::protocol::{Change, Left, Spilled};
use crate::control::status::{Reload, Status, Stream};
use crate::control::user::User;
use crate::control::{Operator, Refusal};
use crate::dead_letters;
use crate::forecast::{self, Forecast, Teller};
use crate::kafka;
use crate::lane::{Condition, Lanes, Order};
use crate::ledger::Count;
use crate::logging::{self, level::Level};
use crate::metrics::text::Growth;
use crate::quiet::Quiet;
use crate::rules::Rule;
use crate::rules::stamp::Stamp;
use crate::settlement::Settlement;
use crate::source::file::discover::Finder;
use crate::source::journald::position::Place;
use crate::source::pulse::Pulse;
use crate::source::syslog::arrival::Arrivals;
use crate::spill;
use crate::tap::{Flow, Taps};

/// How long a snapshot may take to be written after a change by an operator.
const KEEP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a lane may take to discard what it holds.
const DISCARD_PATIENCE: Duration = Duration::from_secs(10);

/// What of the configuration the tools need to know; built by the command line and the daemon.
#[derive(Debug)]
pub struct Settings {
    /// The agent's id.
    pub agent: String,
    /// `agent.host`.
    pub host: String,
    /// The topic of every source.
    pub topics: HashMap<Arc<str>, Arc<str>>,
    /// For how long a source may be silent, of those for which that is known.
    pub expect_every: HashMap<Arc<str>, Duration>,
    /// How every source finds and opens its files.
    pub finders: HashMap<Arc<str>, Finder>,
    /// The sources that read journals.
    pub journals: HashSet<Arc<str>>,
    /// Where the lanes' buffers on disk are.
    pub spill: spill::Settings,
    /// Where dead letters are.
    pub letters: dead_letters::Settings,
    /// For the client that sends dead letters again.
    pub kafka: kafka::Settings,
}

/// The running daemon.
pub struct Running {
    settings: Mutex<Arc<Settings>>,
    settlement: Arc<Settlement>,
    lanes: Arc<Lanes>,
    forecast: Mutex<(Forecast, Teller)>,
    live: Mutex<Live>,
    growth: Mutex<Growth>,
    quiet: Mutex<Quiet>,
    reloads: Mutex<Reload>,
    reload: Box<Reloader>,
}

/// What the sources and rules tell of themselves while they run.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The arrival log of each source that has one.
    pub arrivals: Vec<(Arc<str>, Arc<Arrivals>)>,
    /// Of each source, whether it is open.
    pub pulses: Vec<(Arc<str>, Arc<Pulse>)>,
    /// In their order.
    pub rules: Arc<[Rule]>,
    /// What is put around all messages.
    pub stamp: Option<Arc<Stamp>>,
    /// Of the sources.
    pub taps: Arc<Taps>,
}

/// Has the configuration read anew, and waits for what comes of it, in words.
type Reloader = dyn Fn() -> Result<String, String> + Send + Sync;

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Running {
    /// What the control socket and monitoring need of the daemon. `beginning` is how things stood when it started; `reload` has the configuration read anew and says what came of it, in half a minute at most.
    #[must_use]
    pub fn new(
        settings: Settings,
        settlement: Arc<Settlement>,
        lanes: Arc<Lanes>,
        Beginning { growth, quiet }: Beginning,
        reload: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Running {
        let settings = Mutex::new(Arc::new(settings));
        let (forecast, live, reloads) = Default::default();
        let (growth, quiet) = (growth.into(), quiet.into());
        Running { settings, settlement, lanes, forecast, live, growth, quiet, reloads, reload: Box::new(reload) }
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these settings hold.
    pub fn reconfigure(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// From now on these sources and rules run.
    pub fn show(&self, live: Live) {
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    fn live(&self) -> Live {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration was read anew just now; or it was refused, for these reasons.
    pub fn note_reload(&self, outcome: Result<(), String>) {
        let at_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut reloads = self.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        let successful = outcome.is_ok();
        let good_s = if successful { Some(at_s) } else { reloads.good_s };
        *reloads = Reload { number: reloads.number + 1, successful: Some(successful), at_s: Some(at_s), good_s, refused: outcome.err() };
    }

    /// To be called about once a second: notes what the spills take, and logs when they will be full, as often as that is worth it.
    pub fn watch_spill(&self, now: Instant) {
        let room = &self.lanes.shared().room;
        let (bytes, max) = (room.used(), room.max());
        let mut guard = self.forecast.lock().unwrap_or_else(PoisonError::into_inner);
        let (forecast, teller) = &mut *guard;
        forecast.note(now, bytes);
        let full_in = forecast.full_in(max);
        if teller.is_worth_saying(now, full_in)
            && let Some(time) = full_in.filter(|time| !time.is_zero())
        {
            tracing::warn!(bytes, max, "spill full in {}, if it goes on like this: the sources wait then", forecast::words(time));
        }
    }

    fn pause(&self, lane: &str, pause: bool, user: &User) -> Result<String, Refusal> {
        if !self.lanes.order(lane, Order::Pause(pause)) {
            return Err(view::no_lane(lane, self.conditions().keys()));
        }
        tracing::warn!(%user, topic = lane, "an operator has {} a lane", if pause { "paused" } else { "resumed" });
        Ok(if pause {
            format!("Lane {lane} sends nothing until it is resumed, or logferry is started again; what comes waits in its spill.")
        } else {
            format!("Lane {lane} sends again.")
        })
    }

    fn discard(&self, lane: &str, user: &User) -> Result<String, Refusal> {
        let (tell, told) = std::sync::mpsc::channel();
        if !self.lanes.order(lane, Order::Discard(tell)) {
            return Err(view::no_lane(lane, self.conditions().keys()));
        }
        let gone = told.recv_timeout(DISCARD_PATIENCE);
        let gone = gone.map_err(|_| Refusal("the lane has not answered yet: it may still discard; see logferry status".into()))?;
        for (source, count) in &gone {
            tracing::warn!(%user, topic = lane, %source, events = count.events, bytes = count.bytes, "an operator has discarded what a lane held");
        }
        let sum: Count = gone.iter().map(|(_, count)| *count).sum();
        let done =
            format!("{} events ({} bytes) of lane {lane} are discarded; they are in the books as lost (operator).", sum.events, sum.bytes);
        if self.is_kept(lane) {
            return Ok(done);
        }
        Ok(format!(
            "{done} No snapshot could be written yet (the daemon's log says why): after a kill before the next one they would be back."
        ))
    }

    /// Waits until a snapshot has where the spill of `lane` stands now; before, a kill would bring back what was discarded.
    fn is_kept(&self, lane: &str) -> bool {
        let head = self.settlement.lanes().into_iter().find(|(topic, _)| **topic == *lane).map_or(0, |(_, row)| row.head);
        let until = Instant::now() + KEEP_PATIENCE;
        self.settlement.hurry();
        while self.settlement.durable_head(lane) < head {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(KEEP_PATIENCE / 500);
        }
        true
    }

    fn with_letters(&self, id: &str, deed: Deed, user: &User) -> Result<String, Refusal> {
        let shared = self.lanes.shared();
        let mut book = |whose: &letters::Letters, events, fate| {
            self.settlement.left_letters(&whose.source, &whose.topic, events, fate);
            self.settlement.hurry();
            Ok(())
        };
        letters::carry_out(&shared.letters, &shared.kafka.get(), (id, deed), user, &mut book)
    }

    fn conditions(&self) -> HashMap<Arc<str>, Condition> {
        self.lanes.conditions().into_iter().collect()
    }
}

impl Operator for Running {
    fn status(&self) -> Result<Status, Refusal> {
        Ok(self.now())
    }

    fn explain(&self, path: &OsStr) -> String {
        let conditions = self.conditions();
        let streams = view::streams_at(&self.settlement, path);
        streams.iter().map(|(id, row)| view::describe(*id, row, &|topic| conditions.get(topic).cloned())).collect()
    }

    fn streams(&self) -> Vec<Stream> {
        view::streams(&self.settings(), &self.settlement)
    }

    fn spilled(&self, lane: &str) -> Spilled {
        view::spilled(lane, &self.settlement)
    }

    fn letters(&self) -> Result<List, Refusal> {
        letters::list(&self.lanes.shared().letters)
    }

    fn letter(&self, id: &str) -> Result<Letter, Refusal> {
        letters::show(&self.lanes.shared().letters, id)
    }

    fn plan(&self, change: &Change) -> Result<String, Refusal> {
        match change {
            Change::Resend { id } => letters::plan(&self.lanes.shared().letters, id, Deed::Resend),
            Change::DiscardLetters { id } => letters::plan(&self.lanes.shared().letters, id, Deed::Discard),
            Change::Seek { stream, to } => {
                let id = view::stream_id(stream)?;
                let (row, _) = self.settlement.stream(id).ok_or_else(|| view::no_stream(stream))?;
                let place = match Place::of(&row) {
                    Some(place) => format!("entry {}", journal::seek(&self.settings(), &row, &place, to)?.place.through),
                    None => format!("byte {}", seek::position(&seek::open(&self.settings(), &row)?, &row, to)?.offset),
                };
                // The thread of the source has its own idea of where it stands, and takes no other while it runs.
                Err(Refusal(format!(
                    "the daemon is reading this stream: stop it first (systemctl stop logferry), seek to {place}, and start it again"
                )))
            }
            Change::Forget { stream } => view::plan_forget(view::stream_id(stream)?, &self.settlement, true),
            Change::Pause { lane } | Change::Resume { lane } | Change::Discard { lane } => {
                if !self.conditions().contains_key(lane.as_str()) {
                    return Err(view::no_lane(lane, self.conditions().keys()));
                }
                Ok(view::plan_lane(change, lane, &self.settlement, true))
            }
        }
    }

    fn change(&self, change: &Change, user: &User) -> Result<String, Refusal> {
        self.plan(change)?;
        match change {
            Change::Forget { stream } => {
                let id = view::stream_id(stream)?;
                if !self.settlement.forget(id) {
                    return Err(Refusal("something of it is on its way by now: try again when it has been acknowledged".into()));
                }
                self.settlement.hurry();
                tracing::warn!(%user, stream = %id, "an operator took a stream out of the state");
                Ok(format!("Stream {id} is forgotten."))
            }
            Change::Pause { lane } => self.pause(lane, true, user),
            Change::Resume { lane } => self.pause(lane, false, user),
            Change::Discard { lane } => self.discard(lane, user),
            Change::Resend { id } => self.with_letters(id, Deed::Resend, user),
            Change::DiscardLetters { id } => self.with_letters(id, Deed::Discard, user),
            Change::Seek { .. } => Err(Refusal("stop the daemon first".into())),
        }
    }

    fn reload(&self) -> Result<String, Refusal> {
        (self.reload)().map_err(Refusal)
    }

    fn log_level(&self, level: Option<&str>, time: Duration, user: &User) -> Result<String, Refusal> {
        let Some(name) = level else { return Ok(logging::words()) };
        let level = Level::named(name).ok_or_else(|| Refusal(format!("there is no level {name:?}: {}", Level::NAMES.join(", "))))?;
        let words = logging::raise(level, time, &user.to_string());
        tracing::warn!(%user, "an operator has changed the log: {words}");
        Ok(words)
    }

    fn tap(&self, source: &str, rate: u32, tell: &mut dyn FnMut(Flow) -> bool) -> Result<(), Refusal> {
        let settings = self.settings();
        let Some(source) = settings.topics.keys().find(|name| ***name == *source) else {
            let mut names: Vec<&str> = settings.topics.keys().map(|name| &**name).collect();
            names.sort_unstable();
            return Err(Refusal(format!("there is no source {source:?}; there are {}", names.join(", "))));
        };
        tap::flow(&self.live().taps, source, rate, tell)
    }

    fn drain(&self, timeout: Duration, tell: &mut dyn FnMut(&Left) -> bool) -> Result<Option<Left>, Refusal> {
        let settings = self.settings();
        let mut drain = drain::Drain::begin(&settings, &self.settlement);
        let until = Instant::now() + timeout;
        loop {
            let Some(mut left) = drain.left(&settings, &self.settlement) else { return Ok(None) };
            left.blocked = view::obstacles(&self.lanes.conditions());
            if Instant::now() >= until || !tell(&left) {
                return Ok(Some(left));
            }
            std::thread::sleep(drain::LOOK_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

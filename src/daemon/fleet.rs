//! The sources that run, and how they become those of another configuration: the thread "sources". It owns them, so that a reload needs no lock;
//! it never waits for one source while another could be helped.
//!
//! A source that changes ends first: it hands over what it has read, and what nobody could read later. It begins anew when all of that is settled, by
//! Kafka or the spill: then its streams stand where it had read to, and nothing is sent twice. All that begin wait until those that end have
//! closed their sockets and files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::sources::{self, Ground, Source};
use super::{Live, StartError, reload};
use crate::lane::Order;
use crate::operator;
use crate::shutdown::{Phase, Stop};
use crate::source::Opening;

/// How long a source that ends may read what nobody can read later; then it ends all the same.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);
/// How long others wait for one that ends before they begin. One that hangs (a file system that does not answer) holds up no longer.
const START_PATIENCE: Duration = Duration::from_secs(12);
/// How long what a source has read may take to be acknowledged; then its lanes are told to make it safe on disk.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);
/// How long whoever asked for a reload waits for all of it; then it is told what is still to come.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// How soon it is looked again while sources end or begin.
const LOOK: Duration = Duration::from_millis(20);
/// How soon it is looked again whether a lane that nobody needs has nothing left.
const TIDY: Duration = Duration::from_secs(5);
/// How long the thread rests when nobody asks.
const REST: Duration = Duration::from_secs(3600);

/// What came of a reload, in lines for people; or why it was refused.
pub(super) type Verdict = Result<String, String>;

/// What the thread is told.
pub(super) enum Ask {
    /// Reads the configuration anew; the verdict goes there, if somebody waits for it.
    Reload(Option<Sender<Verdict>>),
    /// The word to stop was said.
    Look,
}

/// Somebody who waits for a reload: what is said already, and when the rest is.
pub(super) type Waiting = (Sender<Verdict>, String, Instant);

/// A source that ends.
struct Leaving {
    name: Arc<str>,
    source: Source,
    since: Instant,
}

/// A source that is to begin anew, and waits for what it has read before to be settled.
struct Settling {
    since: Instant,
    /// Whether its lanes were told to make that safe on disk.
    protected: bool,
}

/// See the module.
pub(super) struct Fleet {
    pub(super) path: PathBuf,
    /// The configuration that holds.
    pub(super) live: Arc<Live>,
    pub(super) ground: Ground,
    pub(super) operator: Arc<operator::Running>,
    pub(super) running: BTreeMap<Arc<str>, Source>,
    leaving: Vec<Leaving>,
    settling: BTreeMap<Arc<str>, Settling>,
    /// Why sources could not begin; tried again at the next reload.
    pub(super) failed: BTreeMap<Arc<str>, String>,
    /// Who is told of the reload. One for each command; the control socket bounds them.
    pub(super) waiting: Vec<Waiting>,
    pub(super) stamps: reload::Stamps,
}

impl Fleet {
    /// Starts the sources of the configuration.
    ///
    /// # Errors
    /// One of them can't begin.
    pub(super) fn begin(path: PathBuf, live: Arc<Live>, mut ground: Ground, operator: Arc<operator::Running>) -> Result<Fleet, StartError> {
        let config = live.get();
        sources::tell_left_over(&config);
        let mut running = BTreeMap::new();
        for named in &config.named {
            if let Some(source) = ground.start(&config, &named.name)? {
                running.insert(Arc::clone(&named.name), source);
            }
        }
        let (leaving, settling, failed, waiting) = Default::default();
        let stamps = reload::stamps(&config.kafka);
        // Those that begin later don't make it less ready.
        ground.opening = Opening::default();
        let fleet = Fleet { path, live, ground, operator, running, leaving, settling, failed, waiting, stamps };
        fleet.show();
        Ok(fleet)
    }

    /// Reloads when it is asked to, until the word to stop; then waits until all sources have ended. With `once` they end by themselves.
    pub(super) fn run(mut self, asks: &Receiver<Ask>, stop: &Stop, once: bool) {
        let mut rest = TIDY;
        while !once && stop.phase() == Phase::Run {
            if let Ok(Ask::Reload(answer)) = asks.recv_timeout(rest) {
                self.reload(answer);
            }
            let busy = self.step(Instant::now());
            self.answer(busy, Instant::now());
            rest = if busy { LOOK } else { self.tidy() };
        }
        for (answer, _, _) in self.waiting {
            // Whoever asked may have gone.
            let _ = answer.send(Err("logferry is stopping; the configuration is read at the next start".into()));
        }
        let leaving = self.leaving.into_iter().map(|leaving| leaving.source);
        self.running.into_values().chain(leaving).for_each(join);
    }

    /// Tells a source to end while the others go on.
    pub(super) fn leave(&mut self, name: &Arc<str>) {
        let Some(source) = self.running.remove(name) else { return };
        source.stop.advance(Phase::Leave);
        self.leaving.push(Leaving { name: Arc::clone(name), source, since: Instant::now() });
        self.show();
    }

    /// Goes on with what has begun; whether it is to be looked again soon.
    fn step(&mut self, now: Instant) -> bool {
        for leaving in &self.leaving {
            if now.duration_since(leaving.since) >= LEAVE_PATIENCE {
                leaving.source.stop.advance(Phase::Drain);
            }
        }
        let (ended, leaving) =
            std::mem::take(&mut self.leaving).into_iter().partition(|leaving: &Leaving| leaving.source.thread.is_finished());
        self.leaving = leaving;
        for Leaving { name, source, .. } in ended {
            if let Some((arrivals, _)) = &source.syslog {
                // What is left in its log is counted when somebody reads it again.
                self.ground.lanes.shared().settlement.read_whole(arrivals.stream());
            }
            tracing::debug!(source = %name, "ended");
            join(source);
        }
        let others_wait = self.leaving.iter().any(|leaving| now.duration_since(leaving.since) < START_PATIENCE);
        let config = self.live.get();
        self.settling.retain(|name, _| config.named.iter().any(|named| named.name == *name));
        let mut missing = false;
        for name in config.named.iter().map(|named| &named.name) {
            if self.running.contains_key(name) || self.failed.contains_key(name) {
                continue;
            }
            missing = true;
            if !others_wait && !self.leaving.iter().any(|leaving| leaving.name == *name) && self.is_settled(name, now) {
                self.start(name);
            }
        }
        missing || !self.leaving.is_empty()
    }

    /// Ends lanes that nobody needs; how soon it is to be looked again.
    fn tidy(&self) -> Duration {
        let config = self.live.get();
        let others_left = self.ground.lanes.retire(&config.topics().into_iter().collect());
        if others_left { TIDY } else { REST }
    }

    /// Whether all that a source has read is settled; where that takes long, what is not is made safe on disk.
    fn is_settled(&mut self, name: &Arc<str>, now: Instant) -> bool {
        let lanes = &self.ground.lanes;
        let topics = lanes.shared().settlement.on_its_way(name);
        if topics.is_empty() {
            self.settling.remove(name);
            return true;
        }
        let settling = self.settling.entry(Arc::clone(name)).or_insert(Settling { since: now, protected: false });
        if !settling.protected && now.duration_since(settling.since) >= SETTLE_PATIENCE {
            settling.protected = true;
            for topic in topics {
                lanes.order(&topic, Order::Protect);
            }
        }
        false
    }

    fn start(&mut self, name: &Arc<str>) {
        match self.ground.start(&self.live.get(), name) {
            Ok(source) => {
                self.running.extend(source.map(|source| (Arc::clone(name), source)));
                self.show();
            }
            Err(error) => {
                tracing::error!(source = %name, %error, "could not begin; it is tried again at the next reload");
                self.failed.insert(Arc::clone(name), error.to_string());
            }
        }
    }

    /// Tells those who wait for a reload what came of it, once nothing is to come or the time is up.
    fn answer(&mut self, busy: bool, now: Instant) {
        let (due, waiting): (Vec<Waiting>, Vec<Waiting>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, _, asked)| !busy || now.duration_since(*asked) >= ANSWER_PATIENCE);
        self.waiting = waiting;
        for (answer, text, _) in due {
            let _ = answer.send(reload::verdict(text, &self.still_to_come(), &self.failed));
        }
    }

    /// What is not done yet, a sentence each.
    fn still_to_come(&self) -> Vec<String> {
        let leaving = self.leaving.iter().map(|leaving| format!("source {:?} has not ended yet", leaving.name));
        let settling = self.settling.keys().map(|name| {
            format!(
                "source {name:?} begins again when what it has read is settled: Kafka and the spill take nothing now, see logferry status"
            )
        });
        leaving.chain(settling).collect()
    }

    /// The operator's tools and monitoring look at what runs.
    pub(super) fn show(&self) {
        let arrivals = |(name, source): (&Arc<str>, &Source)| Some((Arc::clone(name), Arc::clone(&source.syslog.as_ref()?.0)));
        let pulse = |(name, source): (&Arc<str>, &Source)| (Arc::clone(name), Arc::clone(&source.pulse));
        self.operator.show(operator::Live {
            arrivals: self.running.iter().filter_map(arrivals).collect(),
            pulses: self.running.iter().map(pulse).collect(),
            rules: Arc::clone(&self.live.get().rules),
            stamp: self.live.get().stamp.clone(),
            taps: Arc::clone(&self.ground.taps),
        });
    }
}

fn join(source: Source) {
    if source.thread.join().is_err() {
        tracing::error!("a source's thread panicked");
    }
}

//! How a source of each type is made, and its thread. Apart from the rest of the wiring because it grows with the types.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use super::way::{Exchange, Routing, Way};
use super::{StartError, raise_descriptor_limit};
use crate::bell::Bell;
use crate::budget::Budget;
use crate::config::Config;
use crate::encode::{self, Encoder};
use crate::lane::{Entrance, LaneError, Lanes};
use crate::rules::engine::Engine;
use crate::shutdown::Stop;
use crate::source::file::held::Held;
use crate::source::file::watch::Watcher;
use crate::source::file::{self, FileSource};
use crate::source::journald::{self, Journald};
use crate::source::pulse::Pulse;
use crate::source::syslog::arrival::{self, Arrivals};
use crate::source::syslog::listen::tls::Renew;
use crate::source::syslog::{self, Syslog};
use crate::source::{Opening, new_stream};
use crate::tap::Taps;

/// A source that runs.
pub(super) struct Source {
    pub(super) thread: JoinHandle<()>,
    /// Its own word to stop.
    pub(super) stop: Arc<Stop>,
    /// Where other rules are left for it.
    rules: Exchange,
    /// Its arrival log, and what has its certificates read again.
    pub(super) syslog: Option<(Arc<Arrivals>, Renew)>,
    pub(super) pulse: Arc<Pulse>,
}

/// What sources are made with.
pub(super) struct Ground {
    pub(super) lanes: Arc<Lanes>,
    stop: Arc<Stop>,
    once: bool,
    /// By the topics that sources feed: those that feed the same may hold an equal share of the memory at most, so that one bad topic leaves
    /// memory to sources that do not feed it.
    portions: HashMap<Vec<Arc<str>>, Arc<Budget>>,
    held: Arc<Held>,
    descriptors: usize,
    /// Files that each source may hold open.
    max_open: Arc<AtomicUsize>,
    /// Held by those that are not open yet.
    pub(super) opening: Opening,
    pub(super) bells: Bells,
    pub(super) taps: Arc<Taps>,
}

/// The bells at which the threads of sources rest, with their names; for the watchdog. A source that has ended leaves it at the next look.
#[derive(Clone, Debug, Default)]
pub(super) struct Bells(Arc<Mutex<Vec<NamedBell>>>);

type NamedBell = (Arc<str>, Weak<Bell>);

impl Bells {
    fn add(&self, name: &str, bell: &Arc<Bell>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name.into(), Arc::downgrade(bell)));
    }

    /// Those of sources that run.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Arc<Bell>)> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|(_, bell)| bell.strong_count() > 0);
        bells.iter().filter_map(|(name, bell)| Some((Arc::clone(name), bell.upgrade()?))).collect()
    }
}

/// What a source's thread is begun with.
struct Begin {
    stop: Arc<Stop>,
    bell: Arc<Bell>,
    rules: Exchange,
    thread: std::thread::Builder,
}

impl Ground {
    /// For the sources of this configuration.
    pub(super) fn new(config: &Config, lanes: Arc<Lanes>, stop: Arc<Stop>, once: bool) -> Ground {
        let held = Held::new(config.agent.hold_deleted);
        let (portions, max_open, opening, bells, taps) = Default::default();
        let mut ground =
            Ground { lanes, stop, once, portions, held, descriptors: raise_descriptor_limit(), max_open, opening, bells, taps };
        ground.measure(config);
        ground
    }

    /// Memory and open files are shared among the sources of this configuration from now on.
    pub(super) fn measure(&mut self, config: &Config) {
        let whole = &self.lanes.shared().budget;
        whole.set_limit(config.agent.memory);
        let fed: HashSet<Vec<Arc<str>>> = config.named.iter().map(|source| config.topics_of(&source.name)).collect();
        let share = config.agent.memory / fed.len().max(1);
        self.portions.retain(|topics, _| fed.contains(topics));
        for topics in fed {
            self.portions.entry(topics).or_insert_with(|| whole.share(share)).set_limit(share);
        }
        self.max_open.store(self.descriptors / 2 / config.files.len().max(1), Ordering::Relaxed);
    }

    /// Starts the source of this name; does nothing if there is none.
    ///
    /// # Errors
    /// See [`StartError`]; the source does not run then.
    pub(super) fn start(&self, config: &Config, name: &str) -> Result<Option<Source>, StartError> {
        if let Some(settings) = config.files.iter().find(|source| *source.name == *name) {
            return self.file(config, settings).map(Some);
        }
        if let Some(settings) = config.syslogs.iter().find(|source| *source.name == *name) {
            return self.syslog(config, settings).map(Some);
        }
        config.journals.iter().find(|source| *source.name == *name).map(|settings| self.journal(config, settings)).transpose()
    }

    fn file(&self, config: &Config, settings: &file::Settings) -> Result<Source, StartError> {
        let shared = self.lanes.shared();
        let pulse = Pulse::new(1);
        let common = file::Common {
            host: Arc::clone(&config.agent.host),
            settlement: Arc::clone(&shared.settlement),
            budget: self.budget(config, &settings.name),
            pool: Arc::clone(&shared.pool),
            max_event: config.encode.max_event,
            forget_after: config.agent.forget_after,
            held: Arc::clone(&self.held),
            keep_free: config.spill.keep_free,
            max_open: Arc::clone(&self.max_open),
            pulse: Arc::clone(&pulse),
        };
        let Begin { stop, bell, rules, thread } = self.begin(&settings.name, "file");
        let rung = Arc::clone(&bell);
        let way = self.way(config, &settings.topic, &config.encode, (&settings.name, "file"), &rules)?;
        let source = FileSource::new(settings.clone(), common, way, Watcher::new(move || rung.ring()));
        let (stopping, opening, once) = (Arc::clone(&stop), self.opening.clone(), self.once);
        let thread = thread.spawn(move || source.run(&stopping, &bell, opening, once))?;
        Ok(Source { thread, stop, rules, syslog: None, pulse })
    }

    fn syslog(&self, config: &Config, settings: &syslog::Settings) -> Result<Source, StartError> {
        let shared = self.lanes.shared();
        let pulse = Pulse::new(settings.sockets());
        let encode = encoded(config, settings);
        let common = syslog::Common {
            host: Arc::clone(&config.agent.host),
            settlement: Arc::clone(&shared.settlement),
            budget: self.budget(config, &settings.name),
            pool: Arc::clone(&shared.pool),
            room: Arc::clone(&shared.room),
            spill: config.spill.clone(),
            dir: arrivals_dir(config),
            piece: encode::always_fits(&encode),
            mint: new_stream,
            pulse: Arc::clone(&pulse),
        };
        let Begin { stop, bell, rules, thread } = self.begin(&settings.name, "syslog");
        let way = self.way(config, &settings.topic, &encode, (&settings.name, "syslog"), &rules)?;
        let source = Syslog::open(settings.clone(), common, way, &bell)?;
        let syslog = Some((source.arrivals(), source.renew()));
        let (stopping, opening, once) = (Arc::clone(&stop), self.opening.clone(), self.once);
        let thread = thread.spawn(move || source.run(&stopping, &bell, opening, once))?;
        Ok(Source { thread, stop, rules, syslog, pulse })
    }

    fn journal(&self, config: &Config, settings: &journald::Settings) -> Result<Source, StartError> {
        let shared = self.lanes.shared();
        let pulse = Pulse::new(1);
        let common = journald::Common {
            host: Arc::clone(&config.agent.host),
            settlement: Arc::clone(&shared.settlement),
            budget: self.budget(config, &settings.name),
            pool: Arc::clone(&shared.pool),
            encode: config.encode.before_rewriting(),
            forget_after: config.agent.forget_after,
            mint: new_stream,
            pulse: Arc::clone(&pulse),
        };
        let Begin { stop, bell, rules, thread } = self.begin(&settings.name, "journald");
        let rung = Arc::clone(&bell);
        let way = self.way(config, &settings.topic, &config.encode, (&settings.name, "journald"), &rules)?;
        let source = Journald::new(settings.clone(), common, way, Watcher::new(move || rung.ring()));
        let (stopping, opening, once) = (Arc::clone(&stop), self.opening.clone(), self.once);
        let thread = thread.spawn(move || source.run(&stopping, &bell, opening, once))?;
        Ok(Source { thread, stop, rules, syslog: None, pulse })
    }

    fn begin(&self, name: &Arc<str>, kind: &'static str) -> Begin {
        self.lanes.shared().settlement.note_kind(name, kind);
        let bell = Arc::new(Bell::default());
        let thread_name = format!("source {name}");
        self.bells.add(&thread_name, &bell);
        let thread = std::thread::Builder::new().name(thread_name);
        Begin { stop: self.stop.below(Arc::clone(&bell)), bell, rules: Exchange::default(), thread }
    }

    /// A way to the lane of this topic, for events of this form from the source of this name and type.
    fn way(
        &self,
        config: &Config,
        topic: &Arc<str>,
        encode: &encode::Settings,
        source: (&str, &str),
        others: &Exchange,
    ) -> Result<Box<Way>, StartError> {
        let shared = self.lanes.shared();
        // What rules had given to lanes is not known to the source.
        let needed = config.needs_engine(source) || shared.settlement.was_routed(source.0);
        Ok(Box::new(Way {
            routing: needed.then(|| routing(&self.lanes, config.engine(source, encode))).transpose()?,
            others: others.clone(),
            settlement: Arc::clone(&shared.settlement),
            encoder: Encoder::new(encode),
            lane: Entrance::new(self.lanes.inbox(topic)?),
            pool: Arc::clone(&shared.pool),
            tap: self.taps.of(&source.0.into()),
        }))
    }

    /// The share of the memory that this source has, together with others that feed the same topics.
    fn budget(&self, config: &Config, source: &str) -> Arc<Budget> {
        Arc::clone(self.portions.get(&config.topics_of(source)).unwrap_or(&self.lanes.shared().budget))
    }
}

/// These rules with the lanes that they need.
fn routing(lanes: &Lanes, rules: Engine) -> Result<Routing, StartError> {
    let topics = Arc::clone(rules.topics());
    let lanes = topics.iter().map(|topic| Ok(Entrance::new(lanes.inbox(topic)?))).collect::<Result<_, LaneError>>()?;
    Ok(Routing { rules, lanes })
}

/// Gives a source that goes on the rules of this configuration.
///
/// # Errors
/// A lane that they need can't begin; the old ones hold then.
pub(super) fn exchange_rules(config: &Config, lanes: &Lanes, name: &str, source: &Source) -> Result<(), StartError> {
    let types = config.types();
    let Some((_, kind)) = types.iter().find(|(known, _)| **known == *name) else { return Ok(()) };
    let encode = config.syslogs.iter().find(|settings| *settings.name == *name).map_or(config.encode.clone(), |it| encoded(config, it));
    tracing::debug!(source = name, kind, "other rules");
    source.rules.leave(routing(lanes, config.engine((name, kind), &encode))?);
    Ok(())
}

/// How a syslog source's events are encoded.
fn encoded(config: &Config, settings: &syslog::Settings) -> encode::Settings {
    encode::Settings { zone: settings.zone.clone(), ..config.encode.clone() }
}

fn arrivals_dir(config: &Config) -> std::path::PathBuf {
    config.agent.state_dir.join("arrivals")
}

/// Says which arrival logs hold something that nobody reads.
pub(super) fn tell_left_over(config: &Config) {
    let dir = arrivals_dir(config);
    for (source, bytes) in arrival::left_over(&dir, config.syslogs.iter().map(|source| &*source.name)) {
        tracing::warn!(source, bytes, log = %dir.join(format!("{source}.log")).display(), "the arrival log of a source of type syslog that the configuration does not have is kept, and not read: give the source back, or delete the log");
    }
}

//! The sources of the daemon: what each type is made with, and its threads. Apart from the rest of the wiring because it grows with the types.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{StartError, raise_descriptor_limit};
use crate::batch::{Batch, StreamId};
use crate::bell::Bell;
use crate::budget::Budget;
use crate::config::Config;
use crate::encode::{self, Encoder};
use crate::lane::{Entrance, LaneError, Lanes};
use crate::pool::Pool;
use crate::shutdown::Stop;
use crate::source::file::held::Held;
use crate::source::file::watch::Watcher;
use crate::source::file::{Common, FileSource};
use crate::source::journald::{self, Journald};
use crate::source::syslog::arrival::{self, Arrivals};
use crate::source::syslog::{self, Syslog};
use crate::source::{Outlet, new_stream};

/// Between a source and its lane: encodes each batch and queues it.
struct Way {
    encoder: Encoder,
    lane: Entrance,
    pool: Arc<Pool>,
}

impl Outlet for Way {
    fn push(&mut self, batch: Batch) {
        let arena = self.encoder.arena_for(&batch).map(|capacity| self.pool.block(capacity)).unwrap_or_default();
        let (batch, freed) = self.encoder.encode(batch, arena);
        if let Some(block) = freed {
            self.pool.give_block(block);
        }
        self.lane.send(batch);
    }

    fn protect(&mut self, _: StreamId) {
        // All of the lane: what is on disk has to come before what is only in memory.
        self.lane.protect();
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        self.encoder.fits(bytes)
    }
}

/// The sources that run.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) threads: Vec<JoinHandle<()>>,
    /// What wakes each of them.
    pub(super) bells: Vec<Arc<Bell>>,
    /// The arrival log of each source that has one.
    pub(super) arrivals: Vec<(Arc<str>, Arc<Arrivals>)>,
}

/// What sources are made with.
struct Ground<'a> {
    config: &'a Config,
    lanes: &'a Lanes,
    /// One lane may hold an equal share of the memory at most.
    portions: HashMap<&'a str, Arc<Budget>>,
}

impl Ground<'_> {
    /// A way to the lane of this topic, for events of this form.
    fn way(&self, topic: &Arc<str>, encode: &encode::Settings) -> Result<Way, LaneError> {
        let pool = Arc::clone(&self.lanes.shared().pool);
        Ok(Way { encoder: Encoder::new(encode), lane: Entrance::new(self.lanes.inbox(topic)?), pool })
    }

    /// The share of the memory that sources of this topic have.
    fn budget(&self, topic: &str) -> Arc<Budget> {
        Arc::clone(self.portions.get(topic).unwrap_or(&self.lanes.shared().budget))
    }
}

/// Starts one thread for each source.
pub(super) fn start(config: &Config, lanes: &Lanes, stop: &Arc<Stop>, once: bool) -> Result<Sources, StartError> {
    let shared = lanes.shared();
    let topics = config.topics();
    let portions = topics.iter().map(|topic| (*topic, shared.budget.share(config.agent.memory / topics.len()))).collect();
    let ground = Ground { config, lanes, portions };
    let mut sources = Sources::default();
    start_files(&ground, &mut sources, stop, once)?;
    start_syslogs(&ground, &mut sources, stop, once)?;
    start_journals(&ground, &mut sources, stop, once)?;
    Ok(sources)
}

fn start_files(ground: &Ground<'_>, sources: &mut Sources, stop: &Arc<Stop>, once: bool) -> Result<(), StartError> {
    let (config, shared) = (ground.config, ground.lanes.shared());
    let descriptors = raise_descriptor_limit();
    let held = Held::new(config.agent.hold_deleted);
    for settings in &config.files {
        shared.settlement.note_kind(&settings.name, "file");
        let common = Common {
            host: Arc::clone(&config.agent.host),
            settlement: Arc::clone(&shared.settlement),
            budget: ground.budget(&settings.topic),
            pool: Arc::clone(&shared.pool),
            max_event: config.encode.max_event,
            forget_after: config.agent.forget_after,
            held: Arc::clone(&held),
            keep_free: config.spill.keep_free,
            max_open: descriptors / 2 / config.files.len().max(1),
        };
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let way = Box::new(ground.way(&settings.topic, &config.encode)?);
        let source = FileSource::new(settings.clone(), common, way, Watcher::new(move || rung.ring()));
        let (stopping, resting) = (Arc::clone(stop), Arc::clone(&bell));
        let thread = std::thread::Builder::new().name(format!("source {}", settings.name));
        sources.threads.push(thread.spawn(move || source.run(&stopping, &resting, once))?);
        sources.bells.push(bell);
    }
    Ok(())
}

fn start_syslogs(ground: &Ground<'_>, sources: &mut Sources, stop: &Arc<Stop>, once: bool) -> Result<(), StartError> {
    let (config, shared) = (ground.config, ground.lanes.shared());
    let dir = config.agent.state_dir.join("arrivals");
    for (source, bytes) in arrival::left_over(&dir, config.syslogs.iter().map(|source| &*source.name)) {
        tracing::warn!(source, bytes, log = %dir.join(format!("{source}.log")).display(), "the arrival log of a source of type syslog that the configuration does not have is kept, and not read: give the source back, or delete the log");
    }
    for settings in &config.syslogs {
        shared.settlement.note_kind(&settings.name, "syslog");
        let encode = encode::Settings { zone: settings.zone.clone(), ..config.encode.clone() };
        let common = syslog::Common {
            host: Arc::clone(&config.agent.host),
            settlement: Arc::clone(&shared.settlement),
            budget: ground.budget(&settings.topic),
            pool: Arc::clone(&shared.pool),
            room: Arc::clone(&shared.room),
            spill: config.spill.clone(),
            dir: dir.clone(),
            piece: encode::always_fits(&encode),
            mint: new_stream,
        };
        let bell = Arc::new(Bell::default());
        let way = Box::new(ground.way(&settings.topic, &encode)?);
        let source = Syslog::open(settings.clone(), common, way, &bell)?;
        sources.arrivals.push((Arc::clone(&settings.name), source.arrivals()));
        let (stopping, resting) = (Arc::clone(stop), Arc::clone(&bell));
        let thread = std::thread::Builder::new().name(format!("source {}", settings.name));
        sources.threads.push(thread.spawn(move || source.run(&stopping, &resting, once))?);
        sources.bells.push(bell);
    }
    Ok(())
}

fn start_journals(ground: &Ground<'_>, sources: &mut Sources, stop: &Arc<Stop>, once: bool) -> Result<(), StartError> {
    let (config, shared) = (ground.config, ground.lanes.shared());
    for settings in &config.journals {
        shared.settlement.note_kind(&settings.name, "journald");
        let common = journald::Common {
            host: Arc::clone(&config.agent.host),
            settlement: Arc::clone(&shared.settlement),
            budget: ground.budget(&settings.topic),
            pool: Arc::clone(&shared.pool),
            encode: config.encode.before_rewriting(),
            forget_after: config.agent.forget_after,
            mint: new_stream,
        };
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let way = Box::new(ground.way(&settings.topic, &config.encode)?);
        let source = Journald::new(settings.clone(), common, way, Watcher::new(move || rung.ring()));
        let (stopping, resting) = (Arc::clone(stop), Arc::clone(&bell));
        let thread = std::thread::Builder::new().name(format!("source {}", settings.name));
        sources.threads.push(thread.spawn(move || source.run(&stopping, &resting, once))?);
        sources.bells.push(bell);
    }
    Ok(())
}

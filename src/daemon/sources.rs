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
use crate::rules::engine::Engine;
use crate::settlement::Settlement;
use crate::shutdown::Stop;
use crate::source::file::held::Held;
use crate::source::file::watch::Watcher;
use crate::source::file::{Common, FileSource};
use crate::source::journald::{self, Journald};
use crate::source::pulse::Pulse;
use crate::source::syslog::arrival::{self, Arrivals};
use crate::source::syslog::{self, Syslog};
use crate::source::{Outlet, new_stream};

/// Between a source and its lane: takes each batch through the rules, encodes it and queues it.
struct Way {
    /// `None`: no rule concerns the source.
    rules: Option<Engine>,
    settlement: Arc<Settlement>,
    encoder: Encoder,
    lane: Entrance,
    pool: Arc<Pool>,
}

impl Outlet for Way {
    fn push(&mut self, mut batch: Batch) {
        if !self.sift(&mut batch) {
            self.pool.give_block(batch.bytes);
            self.pool.give_events(batch.events);
            return;
        }
        let arena = self.encoder.arena_for(&batch).map(|capacity| self.pool.block(capacity)).unwrap_or_default();
        let (batch, freed) = self.encoder.encode(batch, arena);
        if let Some(block) = freed {
            self.pool.give_block(block);
        }
        self.lane.send(batch);
    }

    fn skips(&self) -> bool {
        self.rules.is_some()
    }

    fn protect(&mut self, _: StreamId) {
        // All of the lane: what is on disk has to come before what is only in memory.
        self.lane.protect();
    }

    fn fits(&self, bytes: &[u8]) -> usize {
        self.encoder.fits(bytes)
    }
}

impl Way {
    /// Takes the batch through the rules; whether anything of it is left.
    fn sift(&mut self, batch: &mut Batch) -> bool {
        let Some(rules) = &mut self.rules else { return true };
        let stream = Arc::clone(&batch.stream);
        let sifted = rules.run(batch, || self.settlement.began(stream.id, &stream.topic));
        batch.charge.resize(encode::charge_for(batch.bytes.capacity(), batch.events.len()));
        if let Some(sifted) = sifted {
            self.settlement.sift(stream.id, batch.ticket, &stream.topic, sifted, batch.events.is_empty());
        }
        !batch.events.is_empty()
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
    /// Of each, whether it is open.
    pub(super) pulses: Vec<(Arc<str>, Arc<Pulse>)>,
}

impl Sources {
    /// What a source of this name, which is open when so many parts of it are, tells of itself.
    fn pulse(&mut self, name: &Arc<str>, parts: usize) -> Arc<Pulse> {
        let pulse = Pulse::new(parts);
        self.pulses.push((Arc::clone(name), Arc::clone(&pulse)));
        pulse
    }
}

/// What sources are made with.
struct Ground<'a> {
    config: &'a Config,
    lanes: &'a Lanes,
    /// One lane may hold an equal share of the memory at most.
    portions: HashMap<&'a str, Arc<Budget>>,
}

impl Ground<'_> {
    /// A way to the lane of this topic, for events of this form from the source of this name and type.
    fn way(&self, topic: &Arc<str>, encode: &encode::Settings, source: (&str, &str)) -> Result<Way, LaneError> {
        let shared = self.lanes.shared();
        Ok(Way {
            rules: Engine::new(&self.config.rules, source, encode.zone.clone(), encode::always_fits(encode)),
            settlement: Arc::clone(&shared.settlement),
            encoder: Encoder::new(encode),
            lane: Entrance::new(self.lanes.inbox(topic)?),
            pool: Arc::clone(&shared.pool),
        })
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
            pulse: sources.pulse(&settings.name, 1),
        };
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let way = Box::new(ground.way(&settings.topic, &config.encode, (&settings.name, "file"))?);
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
            pulse: sources.pulse(&settings.name, settings.sockets()),
        };
        let bell = Arc::new(Bell::default());
        let way = Box::new(ground.way(&settings.topic, &encode, (&settings.name, "syslog"))?);
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
            pulse: sources.pulse(&settings.name, 1),
        };
        let bell = Arc::new(Bell::default());
        let rung = Arc::clone(&bell);
        let way = Box::new(ground.way(&settings.topic, &config.encode, (&settings.name, "journald"))?);
        let source = Journald::new(settings.clone(), common, way, Watcher::new(move || rung.ring()));
        let (stopping, resting) = (Arc::clone(stop), Arc::clone(&bell));
        let thread = std::thread::Builder::new().name(format!("source {}", settings.name));
        sources.threads.push(thread.spawn(move || source.run(&stopping, &resting, once))?);
        sources.bells.push(bell);
    }
    Ok(())
}

//! The wiring: start-up from top to bottom in the order in which it happens, and the stop. The only file that knows all parts.

mod fleet;
mod reload;
mod service;
mod sources;
mod watch;
mod way;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::bell::Bell;
use crate::budget::Budget;
use crate::config::Config;
use crate::control::{self, Control};
use crate::dead_letters::DeadLetters;
use crate::durable::{self, Lock, LockError};
use crate::encode::gap::GapEncoder;
use crate::gaps;
use crate::http::{self, Http};
use crate::kafka;
use crate::lane::{LaneError, Lanes, Shared};
use crate::operator;
use crate::operator::pages::Beginning;
use crate::pool::Pool;
use crate::rate::Rate;
use crate::settlement::Settlement;
use crate::shutdown::{Phase, Stop};
use crate::snapshot::{Keeper, State, StateError};
use crate::source;
use crate::source::syslog::arrival::recover::OpenError;
use crate::spill::room::Room;
use fleet::{Ask, Fleet};
use service::Service;
use sources::{Bells, Ground};
use watch::Watch;

/// How long the lock is waited for: a command that looks at the state of a stopped daemon has it for moments.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How long threads may take to end once the word is to stop now; the last snapshot does not wait for them longer.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// The producer of gap records is closed after so long without one.
const GAPS_IDLE: Duration = Duration::from_secs(600);
/// For the test that the balance is checked, in debug builds alone: one increment of this term of the books is left out.
const LEAVE_OUT: &str = "LOGFERRY_TEST_LEAVE_OUT";
/// How soon it is seen that all sources are open.
const OPEN_EVERY: Duration = Duration::from_millis(20);
/// How often the live line is drawn anew.
const SHOW_EVERY: Duration = Duration::from_millis(250);
/// How often the state of things is looked at where no line is drawn.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory can't be made.
    #[error("the state directory {0} can't be made: {1}; set agent.state_dir to a directory that this user may write to")]
    StateDir(String, std::io::Error),
    /// A second daemon, or no lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state is damaged, foreign or newer.
    #[error(transparent)]
    State(#[from] StateError),
    /// What a spill holds can't be read.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// What an arrival log holds can't be read.
    #[error(transparent)]
    Arrivals(#[from] OpenError),
    /// The system gives no thread or no signal handler.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}

/// The signals that are heard.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The configuration that holds: what was read at the start, or at the last reload.
struct Live(Mutex<Arc<Config>>);

impl Live {
    fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, config: Arc<Config>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

/// What wakes the thread of snapshots, and the thread.
type Snapshots = (Arc<Bell>, JoinHandle<Keeper>);

/// Everything that runs.
struct Running {
    stop: Arc<Stop>,
    settlement: Arc<Settlement>,
    lanes: Arc<Lanes>,
    live: Arc<Live>,
    fleet: Fleet,
    asks: (Sender<Ask>, Receiver<Ask>),
    snapshots: Snapshots,
    gaps: gaps::sender::Sender,
    service: Service,
    bells: Bells,
    operator: Arc<operator::Running>,
    once: bool,
    _control: Option<Control>,
    _http: Option<Http>,
    _lock: Lock,
}

/// Runs with the configuration that was read from `path`, where a reload reads it again, until told to stop; with `once` until all that exists is acknowledged. Returns whether everything that was read is acknowledged.
///
/// # Errors
/// See [`StartError`]; nothing was sent then.
pub fn run(path: &Path, config: Config, once: bool) -> Result<bool, StartError> {
    crate::trim::one_heap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Heard from the first moment on, so that a stop during start-up is a stop in order.
    let signals = {
        let _entered = runtime.enter();
        Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        }
    };
    let live = Arc::new(Live(Mutex::new(Arc::new(config))));
    let running = start(path, live, once)?;
    let config = running.live.get();
    tracing::info!(agent = %config.agent.id, host = %config.agent.host, state = %config.agent.state_dir.display(), "logferry {} runs", env!("CARGO_PKG_VERSION"));
    runtime.block_on(attend(running, signals))
}

/// Start-up, in order: the state and its lock, what is shared, the lanes, the sources.
fn start(path: &Path, live: Arc<Live>, once: bool) -> Result<Running, StartError> {
    let config = &*live.get();
    let dir = &config.agent.state_dir;
    durable::make_dir(dir).map_err(|error| StartError::StateDir(dir.display().to_string(), error))?;
    let lock = Lock::take_within(dir, LOCK_PATIENCE)?;
    let state = State::open(dir, &config.agent.id)?;
    let settlement = Arc::new(state.restore()?);

    tidy(config, &settlement);
    let settings = config.operator();
    let beginning = Beginning::of(&settings, &settlement);

    let stop = Arc::new(Stop::default());
    let budget = Budget::new(config.agent.memory);
    let pool = Arc::new(Pool::default());
    let kafka = kafka::Current::new(config.kafka.clone());
    let shared = Shared {
        kafka: Arc::clone(&kafka),
        budget: Arc::clone(&budget),
        settlement: Arc::clone(&settlement),
        pool: Arc::clone(&pool),
        stop: Arc::clone(&stop),
        spill: config.spill.clone(),
        room: Room::new(config.spill.max_size),
        letters: DeadLetters::new(&config.dead_letters, &kafka, Arc::clone(&stop)),
        rate: Mutex::new(config.max_rate.map(|rate| Arc::new(Rate::new(rate)))),
        open: AtomicUsize::new(0),
    };
    let lanes = Arc::new(Lanes::new(shared));
    for topic in spilled_topics(config, &settlement) {
        lanes.inbox(&topic)?;
    }
    let snapshots = keep_snapshots(state, &settlement, config.agent.snapshot_interval, &stop)?;

    let asks = mpsc::channel();
    let ask = asks.0.clone();
    let reload = move || ask_for_reload(&ask, once);
    let operator = operator::Running::new(settings, Arc::clone(&settlement), Arc::clone(&lanes), beginning, reload);
    let operator = Arc::new(operator);
    let ground = Ground::new(config, Arc::clone(&lanes), Arc::clone(&stop), once);
    let service = Service::new(Arc::clone(&kafka), ground.opening.clone());
    let bells = ground.bells.clone();
    let fleet = Fleet::begin(path.to_owned(), Arc::clone(&live), ground, Arc::clone(&operator))?;
    let gaps = send_gaps(config, kafka, &settlement, &stop)?;
    let control = control::serve(dir, Arc::<operator::Running>::clone(&operator));
    let http = config.http.and_then(|settings| http::serve(&settings, Arc::<operator::Running>::clone(&operator)));
    Ok(Running {
        stop,
        settlement,
        lanes,
        live,
        fleet,
        asks,
        snapshots,
        gaps,
        service,
        bells,
        operator,
        once,
        _control: control,
        _http: http,
        _lock: lock,
    })
}

/// Asks the thread of the sources for a reload, and waits for what comes of it: for at most half a minute, see [`fleet`].
fn ask_for_reload(ask: &Sender<Ask>, once: bool) -> Result<String, String> {
    if once {
        return Err("a run --once reads its configuration only at its start".into());
    }
    let (answer, answered) = mpsc::channel();
    let asked = ask.send(Ask::Reload(Some(answer)));
    asked.ok().and_then(|()| answered.recv().ok()).unwrap_or_else(|| Err("logferry is ending".into()))
}

/// What is known of the files of sources that the configuration no longer has leaves the state in the end.
fn tidy(config: &Config, settlement: &Settlement) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|time| i64::try_from(time.as_secs()).ok());
    let present = config.named.iter().map(|source| &*source.name);
    source::absent::forget_absent(settlement, present, config.agent.forget_after, now.unwrap_or(0));
    if let Ok(term) = std::env::var(LEAVE_OUT) {
        settlement.leave_out(&term);
    }
}

/// Topics whose spill may hold something, whether the configuration still names them or not.
fn spilled_topics(config: &Config, settlement: &Settlement) -> BTreeSet<Arc<str>> {
    let known = settlement.lanes().into_iter().filter(|(_, row)| !row.pending.is_empty()).map(|(topic, _)| topic);
    let dirs = std::fs::read_dir(&config.spill.dir).into_iter().flatten().flatten();
    known
        .chain(dirs.filter(|dir| dir.file_type().is_ok_and(|kind| kind.is_dir())).filter_map(|dir| dir.file_name().to_str().map(Arc::from)))
        .collect()
}

/// The thread that sends gap records.
fn send_gaps(
    config: &Config,
    kafka: Arc<kafka::Current>,
    settlement: &Arc<Settlement>,
    stop: &Arc<Stop>,
) -> std::io::Result<gaps::sender::Sender> {
    let topics = config.topics();
    let topic = config.gap_topic.as_deref().or(topics.first().copied()).unwrap_or_default().to_owned();
    let encoder = GapEncoder::new(&config.encode, &config.agent.id);
    let settings = gaps::sender::Settings { kafka, topic, encoder, idle: GAPS_IDLE };
    let bell = Arc::new(Bell::default());
    settlement.gaps_sent_by(Arc::clone(&bell));
    gaps::sender::Sender::start(settings, Arc::clone(settlement) as Arc<dyn gaps::sender::Store>, bell, Arc::clone(stop))
}

fn keep_snapshots(state: State, settlement: &Arc<Settlement>, interval: Duration, stop: &Arc<Stop>) -> std::io::Result<Snapshots> {
    let bell = Arc::new(Bell::default());
    settlement.kept_by(Arc::clone(&bell));
    let mut keeper = Keeper::new(state, Arc::clone(settlement), interval);
    let (rung, stop) = (Arc::clone(&bell), Arc::clone(stop));
    let thread = std::thread::Builder::new().name("snapshots".into()).spawn(move || {
        keeper.run(&rung, &stop);
        keeper
    })?;
    Ok((bell, thread))
}

/// Hears signals, shows progress, says what is waited for, until everything has ended; then writes the last snapshot.
async fn attend(running: Running, signals: Signals) -> Result<bool, StartError> {
    let Running {
        stop,
        settlement,
        lanes,
        live,
        fleet,
        asks: (ask, asks),
        snapshots: (bell, keeper),
        gaps,
        mut service,
        bells,
        operator,
        once,
        _control,
        _http,
        _lock,
    } = running;
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    let (finishing, settling, stopping) = (Arc::clone(&lanes), Arc::clone(&settlement), Arc::clone(&stop));
    let mut end = until_ended(move || {
        // In the order of the data: when the sources have ended, nothing more comes to the lanes.
        fleet.run(&asks, &stopping, once);
        finishing.finish();
        // Gaps go out when a snapshot has them.
        settling.hurry();
        gaps.finish();
    })?;
    let mut watch = Watch::new(&settlement);
    let (mut deadline, mut stopped): (Option<Instant>, Option<Instant>) = (None, None);
    let mut show = tokio::time::interval(if watch.line.is_some() { SHOW_EVERY } else { LOOK_EVERY });
    let mut open = tokio::time::interval(OPEN_EVERY);
    loop {
        if deadline.is_some() {
            service.stopping();
        }
        tokio::select! {
            _ = &mut end => break,
            _ = open.tick(), if service.is_opening() => service.open(),
            _ = terminate.recv() => deadline = Some(heard(&stop, &ask, deadline, live.get().agent.stop_timeout)),
            _ = interrupt.recv() => deadline = Some(heard(&stop, &ask, deadline, live.get().agent.stop_timeout)),
            _ = hangup.recv() => reload_unasked(&ask, once),
            _ = show.tick() => {
                watch.tick(&live.get(), &settlement, &lanes);
                service.tick(&lanes, &threads(&bells, &bell), settlement.totals());
                operator.watch_spill(Instant::now());
                operator.watch_sources(Instant::now());
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) && stop.phase() != Phase::Now {
                    tracing::warn!("agent.stop_timeout has passed; what was not acknowledged is read again at the next start");
                    stop.advance(Phase::Now);
                }
                if stop.phase() == Phase::Now && *stopped.get_or_insert_with(Instant::now) + END_PATIENCE < Instant::now() {
                    tracing::warn!("something does not end (a file system or a name server that does not answer?): logferry ends without it");
                    break;
                }
            }
        }
    }
    drop(watch);
    stop.advance(Phase::Now);
    Ok(write_last((bell, keeper), &settlement))
}

/// The last snapshot; whether it was written and everything that was read is settled.
fn write_last((bell, keeper): Snapshots, settlement: &Settlement) -> bool {
    bell.ring();
    let durable = keeper.join().is_ok_and(|mut keeper| keeper.write());
    let totals = settlement.totals();
    let (pending, delivered) = (totals.pending(), totals.delivered);
    tracing::info!(delivered = delivered.events, pending = pending.events, "stopped");
    durable && pending.events == 0
}

/// The thread that owns the sources; tells when everything has ended.
fn until_ended(run: impl FnOnce() + Send + 'static) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("sources".into()).spawn(move || {
        run();
        // Nobody waits any more only if the main task is gone.
        let _ = ended.send(());
    })?;
    Ok(end)
}

/// The threads that the watchdog expects to come when they are called.
fn threads(bells: &Bells, snapshots: &Arc<Bell>) -> Vec<(Arc<str>, Arc<Bell>)> {
    let mut threads = bells.all();
    threads.push(("snapshots".into(), Arc::clone(snapshots)));
    threads
}

/// SIGHUP.
fn reload_unasked(ask: &Sender<Ask>, once: bool) {
    if once {
        tracing::warn!("SIGHUP: a run --once reads its configuration only at its start");
    } else if ask.send(Ask::Reload(None)).is_err() {
        tracing::debug!("SIGHUP: too late, logferry is ending");
    }
}

/// The first signal drains, the second one stops at once. Returns when draining ends at the latest.
fn heard(stop: &Stop, ask: &Sender<Ask>, deadline: Option<Instant>, timeout: Duration) -> Instant {
    let phase = if stop.phase() == Phase::Run { Phase::Drain } else { Phase::Now };
    tracing::info!(
        "{}",
        if phase == Phase::Drain {
            "stopping: what has been read is sent first; a second signal stops at once"
        } else {
            "stopping at once"
        }
    );
    stop.advance(phase);
    // It may have ended by itself.
    let _ = ask.send(Ask::Look);
    deadline.unwrap_or_else(|| Instant::now() + timeout)
}

/// Raises the limit of open files to what the system allows; returns it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(65_536)
}

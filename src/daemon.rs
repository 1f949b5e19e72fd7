//! The wiring: start-up from top to bottom in the order in which it happens, and the stop. The only file that knows all parts.

mod sources;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::bell::Bell;
use crate::budget::Budget;
use crate::cli::progress::{Figures, Line};
use crate::config::Config;
use crate::control::{self, Control};
use crate::dead_letters::DeadLetters;
use crate::durable::{self, Lock, LockError};
use crate::encode::gap::GapEncoder;
use crate::gaps;
use crate::http::{self, Http};
use crate::kafka::probe;
use crate::lane::{Condition, LaneError, Lanes, Shared};
use crate::operator;
use crate::operator::pages::Beginning;
use crate::pool::Pool;
use crate::rate::Rate;
use crate::settlement::{Settlement, Totals};
use crate::shutdown::{Phase, Stop};
use crate::snapshot::{Keeper, State, StateError};
use crate::source;
use crate::source::syslog::arrival::recover::OpenError;
use crate::spill::room::Room;
use sources::Sources;

/// How long the lock is waited for: a command that looks at the state of a stopped daemon has it for moments.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is said what is waited for while Kafka takes nothing.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How long threads may take to end once the word is to stop now; the last snapshot does not wait for them longer.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// The producer of gap records is closed after so long without one.
const GAPS_IDLE: Duration = Duration::from_secs(600);
/// For the test that the balance is checked, in debug builds alone: one increment of this term of the books is left out.
const LEAVE_OUT: &str = "LOGFERRY_TEST_LEAVE_OUT";
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

/// What wakes the thread of snapshots, and the thread.
type Snapshots = (Arc<Bell>, JoinHandle<Keeper>);

/// Everything that runs.
struct Running {
    stop: Arc<Stop>,
    settlement: Arc<Settlement>,
    lanes: Arc<Lanes>,
    sources: Vec<JoinHandle<()>>,
    bells: Vec<Arc<Bell>>,
    snapshots: Snapshots,
    gaps: gaps::sender::Sender,
    operator: Arc<operator::Running>,
    _control: Option<Control>,
    _http: Option<Http>,
    _lock: Lock,
}

/// Runs until told to stop; with `once` until all that exists is acknowledged. Returns whether everything that was read is acknowledged.
///
/// # Errors
/// See [`StartError`]; nothing was sent then.
pub fn run(config: &Config, once: bool) -> Result<bool, StartError> {
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
    let running = start(config, once)?;
    tracing::info!(agent = %config.agent.id, host = %config.agent.host, state = %config.agent.state_dir.display(), "logferry {} runs", env!("CARGO_PKG_VERSION"));
    runtime.block_on(attend(config, running, signals))
}

/// Start-up, in order: the state and its lock, what is shared, the lanes, the sources.
fn start(config: &Config, once: bool) -> Result<Running, StartError> {
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
    let shared = Shared {
        kafka: config.kafka.clone(),
        budget: Arc::clone(&budget),
        settlement: Arc::clone(&settlement),
        pool: Arc::clone(&pool),
        stop: Arc::clone(&stop),
        spill: config.spill.clone(),
        room: Room::new(config.spill.max_size),
        letters: DeadLetters::new(&config.dead_letters, &config.kafka, Arc::clone(&stop)),
        rate: config.max_rate.map(Rate::new),
        open: AtomicUsize::new(0),
    };
    let lanes = Arc::new(Lanes::new(shared));
    for topic in spilled_topics(config, &settlement) {
        lanes.inbox(&topic)?;
    }
    let snapshots = keep_snapshots(state, &settlement, config.agent.snapshot_interval, &stop)?;

    let Sources { threads: sources, bells, arrivals, pulses } = sources::start(config, &lanes, &stop, once)?;
    let gaps = send_gaps(config, &settlement, &stop)?;
    let live = operator::Live { arrivals, pulses, rules: Arc::clone(&config.rules) };
    let operator = Arc::new(operator::Running::new(settings, Arc::clone(&settlement), Arc::clone(&lanes), live, beginning));
    let control = control::serve(dir, Arc::<operator::Running>::clone(&operator));
    let http = config.http.and_then(|settings| http::serve(&settings, Arc::<operator::Running>::clone(&operator)));
    Ok(Running { stop, settlement, lanes, sources, bells, snapshots, gaps, operator, _control: control, _http: http, _lock: lock })
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
fn send_gaps(config: &Config, settlement: &Arc<Settlement>, stop: &Arc<Stop>) -> std::io::Result<gaps::sender::Sender> {
    let topics = config.topics();
    let topic = config.gap_topic.as_deref().or(topics.first().copied()).unwrap_or_default().to_owned();
    let encoder = GapEncoder::new(&config.encode, &config.agent.id);
    let settings = gaps::sender::Settings { kafka: config.kafka.clone(), topic, encoder, idle: GAPS_IDLE };
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
async fn attend(config: &Config, running: Running, signals: Signals) -> Result<bool, StartError> {
    let Running { stop, settlement, lanes, sources, bells, snapshots: (bell, keeper), gaps, operator, _control, _http, _lock } = running;
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    let (ended, mut end) = oneshot::channel();
    let (finishing, settling) = (Arc::clone(&lanes), Arc::clone(&settlement));
    std::thread::Builder::new().name("finish".into()).spawn(move || {
        // In the order of the data: when the sources have ended, nothing more comes to the lanes.
        for source in sources {
            if source.join().is_err() {
                tracing::error!("a source's thread panicked");
            }
        }
        finishing.finish();
        // Gaps go out when a snapshot has them.
        settling.hurry();
        gaps.finish();
        // Nobody waits any more only if the main task is gone.
        let _ = ended.send(());
    })?;
    let mut watch = Watch::new(config, &settlement);
    let (mut deadline, mut stopped): (Option<Instant>, Option<Instant>) = (None, None);
    let mut show = tokio::time::interval(if watch.line.is_some() { SHOW_EVERY } else { LOOK_EVERY });
    loop {
        tokio::select! {
            _ = &mut end => break,
            _ = terminate.recv() => deadline = Some(heard(&stop, &bells, deadline, config.agent.stop_timeout)),
            _ = interrupt.recv() => deadline = Some(heard(&stop, &bells, deadline, config.agent.stop_timeout)),
            _ = hangup.recv() => tracing::warn!("SIGHUP: this version reads its configuration only at start; restart it"),
            _ = show.tick() => {
                watch.tick(&settlement, &lanes);
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
    bell.ring();
    let durable = keeper.join().is_ok_and(|mut keeper| keeper.write());
    let totals = settlement.totals();
    let (pending, delivered) = (totals.pending(), totals.delivered);
    tracing::info!(delivered = delivered.events, pending = pending.events, "stopped");
    Ok(durable && pending.events == 0)
}

/// The first signal drains, the second one stops at once. Returns when draining ends at the latest.
fn heard(stop: &Stop, bells: &[Arc<Bell>], deadline: Option<Instant>, timeout: Duration) -> Instant {
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
    for bell in bells {
        bell.ring();
    }
    deadline.unwrap_or_else(|| Instant::now() + timeout)
}

/// What people see: the live line, and every ten seconds what is waited for while nothing is acknowledged.
struct Watch {
    line: Option<Line>,
    before: Totals,
    delivered: u64,
    said: Instant,
    kafka: crate::kafka::Settings,
    topics: Vec<Arc<str>>,
    max_event: usize,
    asking: Option<JoinHandle<()>>,
}

impl Watch {
    fn new(config: &Config, settlement: &Settlement) -> Watch {
        let before = settlement.totals();
        let topics = config.topics().into_iter().map(Arc::from).collect();
        Watch {
            line: Line::on_terminal(),
            before,
            delivered: before.delivered.events,
            said: Instant::now(),
            kafka: config.kafka.clone(),
            topics,
            max_event: config.encode.max_event,
            asking: None,
        }
    }

    fn tick(&mut self, settlement: &Settlement, lanes: &Lanes) {
        let totals = settlement.totals();
        let conditions: Vec<Condition> = lanes.conditions().into_iter().map(|(_, condition)| condition).collect();
        if let Some(line) = &mut self.line {
            line.show(&Figures {
                events: totals.delivered.events - self.before.delivered.events,
                bytes: totals.delivered.bytes - self.before.delivered.bytes,
                lag: settlement.lag(),
                lanes: conditions.clone(),
            });
        }
        if totals.delivered.events != self.delivered || totals.pending().events == 0 {
            (self.delivered, self.said) = (totals.delivered.events, Instant::now());
        } else if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            self.say(totals, &conditions);
        }
    }

    /// Asks the cluster, in a thread of its own since it may take seconds, and logs what is waited for.
    fn say(&mut self, totals: Totals, conditions: &[Condition]) {
        if self.asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
            return;
        }
        let blocked = conditions.iter().find_map(|condition| match condition {
            Condition::Blocked { words, .. } => Some(words.clone()),
            _ => None,
        });
        let (kafka, topics, max_event) = (self.kafka.clone(), self.topics.clone(), self.max_event);
        let ask = move || {
            let words = blocked.unwrap_or_else(|| probe::one_line(&probe::cluster(&kafka, &topics, max_event, Duration::from_secs(5))));
            tracing::warn!(events = totals.pending().events, "waiting for Kafka: {words}");
        };
        self.asking = std::thread::Builder::new().name("probe".into()).spawn(ask).ok();
    }
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

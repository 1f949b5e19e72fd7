//! A lane: everything bound for one topic, with a queue, a thread and a producer of its own, so that one bad topic holds up no other. This file has
//! the queue and the registry; what a lane's thread does is [`crate::delivery`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use crate::batch::Batch;
use crate::budget::Budget;
use crate::dead_letters::DeadLetters;
use crate::delivery;
use crate::durations::{Durations, Took};
use crate::kafka::queue::Queue;
use crate::ledger::Count;
use crate::pool::Pool;
use crate::rate::Rate;
use crate::settlement::Settlement;
use crate::shutdown::Stop;
use crate::spill::room::Room;
use crate::spill::{self, OpenError};
use crate::watchdog::LaneLook;

/// What all lanes share.
#[derive(Debug)]
pub struct Shared {
    /// For the producers.
    pub kafka: Arc<crate::kafka::Current>,
    /// When the spills are used, and where they are.
    pub spill: spill::Settings,
    /// What the spills may take together.
    pub room: Arc<Room>,
    /// Where events go that a topic refuses for good.
    pub letters: DeadLetters,
    /// `kafka.max_rate`.
    pub rate: Mutex<Option<Arc<Rate>>>,
    /// The byte budget; all lanes' windows in librdkafka together take at most half of it.
    pub budget: Arc<Budget>,
    /// Where acknowledgements go.
    pub settlement: Arc<Settlement>,
    /// Where buffers go back to.
    pub pool: Arc<Pool>,
    /// The word to stop.
    pub stop: Arc<Stop>,
    /// Lanes with a producer.
    pub open: AtomicUsize,
}

impl Shared {
    /// How many bytes one lane may have in librdkafka now. At the limit the rest waits in the lane's queue.
    #[must_use]
    pub fn window(&self) -> usize {
        // What is in flight stays there while Kafka is away: the other half goes on being read into.
        self.budget.limit() / 2 / self.open.load(Ordering::Relaxed).max(1)
    }
}

/// What a lane is doing, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing to send yet.
    #[default]
    Idle,
    /// Waiting for a broker; the words say for what.
    Connecting(String),
    /// Sending.
    Open,
    /// Waiting for a person: a short reason, and words with the remedy.
    Blocked {
        /// One of the table of [`crate::kafka::errors`].
        reason: &'static str,
        /// What is wrong and how to cure it.
        words: String,
    },
    /// An operator has stopped it; what comes goes to the spill.
    Paused,
}

/// What is in a lane's spill, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpillView {
    /// Bytes on disk.
    pub bytes: u64,
    /// Records that are not acknowledged whole.
    pub records: u64,
    /// What waits there.
    pub pending: Count,
    /// When the oldest of it was read, nanoseconds since 1970.
    pub oldest_ns: Option<i64>,
    /// Why nothing more can be written, in a word, while that is so.
    pub full: Option<&'static str>,
}

/// What a lane's thread says of itself in each of its turns, for the watchdog.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// When something was heard of Kafka last, or was given to it; `None` while there is nothing to do, or what there is has to wait.
    pub heard: Option<Instant>,
    /// Something was delivered since the start.
    pub proven: bool,
}

/// What a lane is told beside batches.
#[derive(Debug)]
pub enum Order {
    /// How many partitions the topic has, asked for by the producer with this number.
    Partitions(u64, Result<i32, RDKafkaErrorCode>),
    /// What is unsettled can't be read again: it is to be made durable at once.
    Protect,
    /// Whether to stop sending.
    Pause(bool),
    /// The settings of Kafka are others: the producer is to be made anew.
    Renew,
    /// All that waits is dropped; what that was is told.
    Discard(Sender<Vec<(Arc<str>, Count)>>),
}

/// A lane's queue, between sources and its thread. Bounded by the byte budget: each batch in it holds a charge. Orders are few: one for each
/// answer, and what operators ask for.
#[derive(Debug, Default)]
pub struct Inbox {
    state: Mutex<Waiting>,
    came: Condvar,
    condition: Mutex<(Condition, SpillView)>,
    progress: Mutex<Progress>,
    /// How long Kafka takes for a batch.
    pub produced: Durations,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    /// What they are charged with.
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    orders: Vec<Order>,
    closed: bool,
    /// Set while the lane waits inside librdkafka.
    waker: Option<Queue>,
    /// The lane sleeps until so many bytes are there.
    wanted: usize,
}

impl Waiting {
    fn is_worth_waking(&self) -> bool {
        self.closed || !self.orders.is_empty() || (!self.batches.is_empty() && self.bytes >= self.wanted)
    }
}

/// What [`Inbox::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There may be more later.
    Open,
    /// Nothing more will come.
    Closed,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, batch: Batch) {
        let mut waiting = self.lock();
        waiting.bytes += batch.charge.bytes();
        if waiting.batches.is_empty() {
            waiting.since = Some(Instant::now());
        }
        waiting.batches.push_back(batch);
        self.wake(waiting);
    }

    /// Tells the lane something; it is heard before the next batch.
    pub fn order(&self, order: Order) {
        let mut waiting = self.lock();
        waiting.orders.push(order);
        self.wake(waiting);
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.wake(waiting);
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if !waiting.is_worth_waking() {
            return;
        }
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
        self.came.notify_one();
    }

    /// Takes what waits.
    pub fn take(&self, batches: &mut VecDeque<Batch>, orders: &mut Vec<Order>) -> Taken {
        let mut waiting = self.lock();
        batches.append(&mut waiting.batches);
        orders.append(&mut waiting.orders);
        (waiting.bytes, waiting.since) = (0, None);
        if waiting.closed { Taken::Closed } else { Taken::Open }
    }

    /// Sleeps until an order comes, or batches of `wanted` bytes, or the queue is closed, at most `patience`.
    pub fn wait(&self, wanted: usize, patience: Duration) {
        let mut waiting = self.lock();
        waiting.wanted = wanted;
        let known = waiting.closed;
        drop(self.came.wait_timeout_while(waiting, patience, |waiting| !waiting.is_worth_waking() || (known && waiting.orders.is_empty())));
    }

    /// Leaves a waker for the same; if something is there already, nothing is left, and false is returned.
    pub fn leave_waker(&self, wanted: usize, waker: Option<Queue>) -> bool {
        let mut waiting = self.lock();
        waiting.wanted = wanted;
        if waiting.is_worth_waking() && !waiting.closed {
            return false;
        }
        waiting.waker = waker;
        true
    }

    /// Takes the waker back; must be called before its producer is closed.
    pub fn take_waker(&self) {
        self.lock().waker = None;
    }

    fn shown(&self) -> MutexGuard<'_, (Condition, SpillView)> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the lane is doing.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.shown().0.clone()
    }

    /// Says what the lane is doing; returns whether that is new.
    pub fn set_condition(&self, condition: Condition) -> bool {
        let mut now = self.shown();
        let new = now.0 != condition;
        now.0 = condition;
        new
    }

    /// Says how it goes.
    pub fn set_progress(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Since when something waits and nothing was heard, and whether anything was delivered since the start.
    fn stillness(&self) -> (Option<Instant>, bool) {
        let waits = self.lock().since;
        let Progress { heard, proven } = *self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        ([waits, heard].into_iter().flatten().min(), proven)
    }

    /// Says what is in the lane's spill.
    pub fn set_spill(&self, view: SpillView) {
        self.shown().1 = view;
    }
}

/// A lane's queue and thread.
type Running = (Arc<Inbox>, JoinHandle<()>);

/// All lanes. A lane's thread begins with its first batch.
#[derive(Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
    lanes: Mutex<HashMap<Arc<str>, Running>>,
}

impl Lanes {
    /// No lane yet. How many there can be is bounded by the topics that the configuration names (`kafka.max_lanes`).
    #[must_use]
    pub fn new(shared: Shared) -> Lanes {
        Lanes { shared: Arc::new(shared), lanes: Mutex::new(HashMap::new()) }
    }

    /// What the lanes share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The queue of the lane for `topic`; if there is none, what its spill holds is taken in, and its thread is started.
    ///
    /// # Errors
    /// Its spill can't be read, or the system gives no thread.
    pub fn inbox(&self, topic: &Arc<str>) -> Result<Arc<Inbox>, LaneError> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((inbox, _)) = lanes.get(topic) {
            return Ok(Arc::clone(inbox));
        }
        let inbox = Arc::new(Inbox::default());
        let lane = delivery::Lane::new(Arc::clone(topic), Arc::clone(&self.shared), Arc::clone(&inbox))?;
        let thread = std::thread::Builder::new().name(format!("lane {topic}")).spawn(move || lane.run())?;
        lanes.insert(Arc::clone(topic), (Arc::clone(&inbox), thread));
        Ok(inbox)
    }

    /// What each lane is doing, in order of their topics.
    #[must_use]
    pub fn conditions(&self) -> Vec<(Arc<str>, Condition)> {
        self.shown().into_iter().map(|(topic, condition, _)| (topic, condition)).collect()
    }

    /// The same, and what is in each lane's spill.
    #[must_use]
    pub fn shown(&self) -> Vec<(Arc<str>, Condition, SpillView)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shown: Vec<_> = lanes
            .iter()
            .map(|(topic, (inbox, _))| {
                let (condition, view) = inbox.shown().clone();
                (Arc::clone(topic), condition, view)
            })
            .collect();
        shown.sort_by(|left, right| left.0.cmp(&right.0));
        shown
    }

    /// How the lanes look to the watchdog.
    #[must_use]
    pub fn looks(&self) -> Vec<LaneLook> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let look = |(topic, (inbox, _)): (&Arc<str>, &Running)| {
            let (still_since, proven) = inbox.stillness();
            LaneLook { topic: Arc::clone(topic), still_since, proven }
        };
        lanes.iter().map(look).collect()
    }

    /// How long Kafka took for the batches of each lane.
    #[must_use]
    pub fn produced(&self) -> Vec<(Arc<str>, Took)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|(topic, (inbox, _))| (Arc::clone(topic), inbox.produced.took())).collect()
    }

    /// Tells the lane of `topic` something; false if there is none.
    pub fn order(&self, topic: &str, order: Order) -> bool {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(topic).is_some_and(|(inbox, _)| {
            inbox.order(order);
            true
        })
    }

    /// Tells every lane something.
    pub fn order_all(&self, order: impl Fn() -> Order) {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.values().for_each(|(inbox, _)| inbox.order(order()));
    }

    /// Ends the lanes of topics that are not `wanted`, that nobody has an entrance to, and that have nothing left. Whether lanes are left that
    /// are not wanted.
    pub fn retire(&self, wanted: &HashSet<&str>) -> bool {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = |topic: &Arc<str>, inbox: &Arc<Inbox>| {
            // Its thread has one, the list has the other.
            let alone = Arc::strong_count(inbox) <= 2 && inbox.condition() != Condition::Paused;
            !wanted.contains(&**topic) && alone && self.shared.settlement.is_done_with(topic)
        };
        let left: Vec<Arc<str>> =
            lanes.iter().filter(|(topic, (inbox, _))| is_left(topic, inbox)).map(|(topic, _)| Arc::clone(topic)).collect();
        for (inbox, thread) in left.iter().filter_map(|topic| lanes.remove(topic)) {
            inbox.close();
            if thread.join().is_err() {
                tracing::error!("a lane's thread panicked");
            }
        }
        lanes.keys().any(|topic| !wanted.contains(&**topic))
    }

    /// Tells every lane that nothing more comes, and waits until all have ended: they have sent everything, or [`Stop`] said now.
    pub fn finish(&self) {
        let lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for (inbox, _) in lanes.values() {
            inbox.close();
        }
        for (topic, (_, thread)) in lanes {
            if thread.join().is_err() {
                tracing::error!(%topic, "the lane's thread panicked");
            }
        }
    }
}

/// Why a lane could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// What its spill holds can't be read.
    #[error(transparent)]
    Spill(#[from] OpenError),
    /// The system gives no thread.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
}

/// A way to one lane, as an outlet of a source needs it.
#[derive(Clone, Debug)]
pub struct Entrance(Arc<Inbox>);

impl Entrance {
    /// To the lane of `inbox`.
    #[must_use]
    pub fn new(inbox: Arc<Inbox>) -> Entrance {
        Entrance(inbox)
    }

    /// Has what is unsettled in the lane made durable at once.
    pub fn protect(&self) {
        self.0.order(Order::Protect);
    }

    /// Queues a batch; never blocks.
    pub fn send(&self, batch: Batch) {
        self.0.push(batch);
    }
}

//! What a lane's thread does: takes what comes, sends it, settles it, and keeps on disk what waits for long. One thread owns a lane's queue, spill and
//! producer, so that order needs no lock.
//!
//! ```text
//!  in flight ─▶ queue ─▶ spill, not read yet ─▶ fresh
//!  (librdkafka) (memory)      (disk)            (memory, to be queued, or written while older ones are on disk)
//! ```
//! Oldest first, from left to right. What is in flight or queued may have a copy on disk: then it is settled, and its acknowledgement passes over
//! the copy. Those with a copy come before those without.

mod sending;
mod spilling;
mod trouble;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::batch::{Batch, StreamId};
use crate::kafka::producer::Producer;
use crate::lane::{Condition, Inbox, LaneError, Order, Progress, Shared, Taken};
use crate::retry::Retry;
use crate::shutdown::Phase;
use crate::spill::Spill;
use spilling::Spilling;
use trouble::Careful;

/// A producer that has had nothing to do for this long is closed: its threads and connections cost the host and the brokers.
const IDLE: Duration = Duration::from_secs(600);
/// A lane that has had nothing to do for this long gives memory back.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest sleep while there is something to do; the word to stop is looked at after it.
const POLL: Duration = Duration::from_millis(500);
/// What is in flight under old settings of Kafka is waited for so long; what is not reported by then is sent again.
const RENEW_PATIENCE: Duration = Duration::from_secs(5);
/// A stop waits no longer than this for acknowledgements of what is on disk as well.
const LAST_ACKS: Duration = Duration::from_secs(2);

/// One lane, owned by its thread.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own; together they are no state machine")]
pub struct Lane {
    topic: Arc<str>,
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// What has come and is neither queued nor written. Bounded by the byte budget.
    fresh: VecDeque<Batch>,
    /// What is to be sent next, with the index of the first event to send. Bounded by the byte budget.
    queue: VecDeque<(Batch, usize)>,
    orders: Vec<Order>,
    spilling: Spilling,
    producer: Option<Producer>,
    /// Producers made so far: an answer to an earlier one's question is of no use.
    made: u64,
    /// Until when the topic's partitions are waited for.
    asked: Option<Instant>,
    /// Partitions of the topic, known once the cluster has told.
    count: Option<i32>,
    /// The partition count that holds for each stream.
    partitions: HashMap<StreamId, i32>,
    /// Batches without a key that were sent so far.
    turn: u32,
    /// Partitions that the producer has delivered to.
    tried: HashSet<i32>,
    /// The partition whose first record is in flight, alone.
    trying: Option<i32>,
    /// Until when reports are waited for after a failure.
    ending: Option<Instant>,
    retry: Retry,
    retry_at: Instant,
    /// `kafka.max_rate` has nothing for this lane before.
    rate_at: Instant,
    moved: Instant,
    /// When Kafka, or librdkafka for it, said anything last, be it a refusal.
    heard: Instant,
    /// Something was acknowledged since the start.
    delivered: bool,
    stalled: bool,
    paused: bool,
    /// The producer is made anew as soon as nothing is in flight, and then at the latest.
    renewing: Option<Instant>,
    /// Something was acknowledged since the last pause.
    busy: bool,
    /// Something was acknowledged since the producer was opened.
    proven: bool,
    /// The event that was first in line when something failed: until it is acknowledged, what others get through says nothing.
    stuck: Option<(StreamId, u64)>,
    careful: Option<Careful>,
    /// The largest batch that the topic takes, bytes, known once it has refused a larger one; 1: every message goes by itself.
    batch_limit: Option<u64>,
    done: Vec<(Batch, usize)>,
}

impl Lane {
    /// A lane for `topic`, fed by `inbox`. What its spill holds is taken in.
    ///
    /// # Errors
    /// The spill can't be read.
    pub fn new(topic: Arc<str>, shared: Arc<Shared>, inbox: Arc<Inbox>) -> Result<Lane, LaneError> {
        let now = Instant::now();
        let known = shared.settlement.lanes().into_iter().find(|(lane, _)| *lane == topic).map(|(_, row)| row);
        let (log, recovered) = Spill::open(&shared.spill, &topic, &shared.room, known.as_ref())?;
        spilling::take_in(&topic, &shared.settlement, &log, recovered);
        let spilling = Spilling::new(log, now);
        let lane = Lane {
            topic,
            shared,
            inbox,
            fresh: VecDeque::new(),
            queue: VecDeque::new(),
            orders: Vec::new(),
            spilling,
            producer: None,
            made: 0,
            asked: None,
            count: None,
            partitions: HashMap::new(),
            turn: 0,
            tried: HashSet::new(),
            trying: None,
            ending: None,
            retry: Retry::new(Duration::from_millis(250), Duration::from_secs(10)),
            retry_at: now,
            rate_at: now,
            moved: now,
            heard: now,
            delivered: false,
            stalled: false,
            paused: false,
            renewing: None,
            busy: false,
            proven: false,
            stuck: None,
            careful: None,
            batch_limit: None,
            done: Vec::new(),
        };
        lane.show_spill();
        Ok(lane)
    }

    /// Works until the inbox is closed and everything is acknowledged, or is at least safe when the word is to stop.
    pub fn run(mut self) {
        loop {
            let taken = self.inbox.take(&mut self.fresh, &mut self.orders);
            self.obey();
            self.renew();
            self.spill(taken == Taken::Closed);
            self.show_progress();
            if self.shared.stop.phase() == Phase::Now || (taken == Taken::Closed && self.is_finished()) {
                break;
            }
            if self.is_idle() {
                self.rest();
            } else {
                if self.ready() {
                    self.fill();
                    self.send();
                }
                self.wait();
                self.settle();
            }
        }
        self.close();
        self.show_spill();
    }

    fn in_flight(&self) -> usize {
        self.producer.as_ref().map_or(0, Producer::outstanding)
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.fresh.is_empty() && self.in_flight() == 0 && !self.spilling.has_work() && self.ending.is_none()
    }

    /// Whether nothing is left to do once nothing more comes. After the word to stop, what is on disk goes out after the next start.
    fn is_finished(&self) -> bool {
        if self.shared.stop.phase() == Phase::Run {
            return self.queue.is_empty() && self.fresh.is_empty() && self.in_flight() == 0 && self.spilling.log.is_empty();
        }
        let safe = self.fresh.is_empty() && !self.spilling.is_unsynced() && self.is_copied();
        let sent = self.queue.is_empty() && self.fresh.is_empty() && !self.spilling.is_unsynced() && self.in_flight() == 0;
        sent || (safe && self.moved.elapsed() > LAST_ACKS)
    }

    /// Tells the watchdog how it goes. What waits for an operator or for `kafka.max_rate` is no work.
    fn show_progress(&self) {
        let held = self.paused || (self.rate_at > Instant::now() && self.in_flight() == 0);
        let heard = (!held && !self.is_idle()).then(|| self.moved.max(self.heard));
        self.inbox.set_progress(Progress { heard, proven: self.delivered });
    }

    fn obey(&mut self) {
        for order in std::mem::take(&mut self.orders) {
            match order {
                Order::Partitions(made, answer) if made == self.made && self.asked.is_some() => self.answered(answer),
                Order::Partitions(..) => {}
                Order::Protect => drop(self.copy()),
                Order::Pause(paused) => self.pause(paused),
                Order::Renew => {
                    let now = Instant::now();
                    (self.retry_at, self.renewing) = (now, Some(now + RENEW_PATIENCE));
                }
                Order::Discard(answer) => {
                    // Whoever asked may have gone; it is in the books all the same.
                    let _ = answer.send(self.discard());
                }
            }
        }
    }

    /// Closes a producer of old settings, once nothing is in flight; the next one has the new ones.
    fn renew(&mut self) {
        let due = self.renewing.is_some_and(|until| self.in_flight() == 0 || Instant::now() >= until);
        if due && self.ending.is_none() {
            self.renewing = None;
            self.close();
        }
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        let condition = if paused { Condition::Paused } else { Condition::Idle };
        if self.inbox.set_condition(condition) {
            tracing::info!(topic = %self.topic, "{}", if paused { "paused by an operator: what comes goes to the spill" } else { "resumed by an operator" });
        }
        if !paused {
            (self.proven, self.retry_at) = (false, Instant::now());
        }
    }

    /// Nothing to do: sleeps, and closes a producer that has been idle for long.
    fn rest(&mut self) {
        if self.producer.is_some() && self.moved.elapsed() >= IDLE {
            tracing::debug!(topic = %self.topic, "producer closed after ten idle minutes");
            self.close();
            self.batch_limit = None;
            self.inbox.set_condition(Condition::Idle);
        }
        if self.busy && self.moved.elapsed() >= PAUSE {
            // What the last burst took is free by now: other programs may want it.
            self.busy = false;
            self.queue.shrink_to_fit();
            self.fresh.shrink_to_fit();
            self.shared.pool.clear();
            if let Some(producer) = &mut self.producer {
                producer.slim();
            }
            crate::trim::heap();
        }
        self.sleep(1, if self.busy { PAUSE } else { POLL * 20 });
        self.fail_if_broken();
    }

    /// Sleeps until there is a report, an order, batches of `wanted` bytes, at most `patience`.
    fn sleep(&mut self, wanted: usize, patience: Duration) {
        let Some(producer) = &mut self.producer else { return self.inbox.wait(wanted, patience) };
        let left = self.inbox.leave_waker(wanted, producer.waker());
        producer.poll(if left { patience } else { Duration::ZERO });
        self.inbox.take_waker();
    }

    /// Sleeps until something can be done.
    fn wait(&mut self) {
        let now = Instant::now();
        let mut until = now + POLL;
        if self.producer.is_none() || (self.count.is_none() && self.asked.is_none()) {
            until = until.min(self.retry_at.max(now));
        }
        if self.rate_at > now {
            until = until.min(self.rate_at);
        }
        if let Some(due) = self.producer.as_mut().and_then(|producer| producer.keep_calm(now)) {
            until = until.min(due.max(now));
        }
        let (wanted, due) = self.next_spill(now);
        let patience = until.min(due.unwrap_or(until)).saturating_duration_since(now);
        // With an empty queue the next batch is waited for as well.
        let wanted = if self.queue.is_empty() { wanted.unwrap_or(1) } else { wanted.unwrap_or(usize::MAX) };
        // Reports that are there already are taken in at once; a sleep shorter than librdkafka can measure would be none.
        self.sleep(wanted, if self.can_go_on() { Duration::ZERO } else { patience.max(Duration::from_millis(1)) });
    }

    /// Ends the producer; what it had not had acknowledged goes back to the front of the queue, in order.
    fn close(&mut self) {
        self.inbox.take_waker();
        (self.count, self.asked, self.ending) = (None, None, None);
        (self.stalled, self.proven) = (false, false);
        self.tried.clear();
        self.trying = None;
        let Some(mut producer) = self.producer.take() else { return };
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        self.book(&mut producer);
        for (batch, first) in producer.close().into_iter().rev() {
            self.shared.settlement.resent(&batch.stream.source, batch.count_from(first));
            self.queue.push_front((batch, first));
        }
    }
}

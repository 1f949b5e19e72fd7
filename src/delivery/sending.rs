//! The lane and its producer while all is well: opened at the first event, fed as far as the window has room, its reports booked.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode;

use super::{Lane, POLL};
use crate::batch::Batch;
use crate::kafka::partition::partition_for;
use crate::kafka::producer::Producer;
use crate::lane::{Condition, Order};
use crate::ledger::{Count, Fate};

/// How long the cluster is asked for the topic's partitions.
const METADATA_PATIENCE: Duration = Duration::from_secs(5);
/// No report for this long while something is in flight is worth a word.
const STALLED: Duration = Duration::from_secs(10);
/// Partition counts of streams that are remembered; beyond it they are looked up again.
const PARTITIONS_KEPT: usize = 50_000;

impl Lane {
    /// Whether there is a producer that knows its topic; asks for one when it is time.
    pub(super) fn ready(&mut self) -> bool {
        if self.ending.is_some() || self.renewing.is_some() || self.paused {
            return false;
        }
        if self.producer.is_some() && self.count.is_some() {
            return true;
        }
        let now = Instant::now();
        match self.asked {
            // The one who asks has no answer, and may be no more.
            Some(until) if now >= until => {
                self.asked = None;
                self.failed(RDKafkaErrorCode::OperationTimedOut, None);
            }
            None if now >= self.retry_at => self.open(now),
            _ => {}
        }
        false
    }

    fn open(&mut self, now: Instant) {
        if self.queue.is_empty() && self.fresh.is_empty() && self.spilling.log.unread() == 0 {
            return;
        }
        self.heard = now;
        if self.producer.is_none() {
            match Producer::open(&self.settings(), &self.topic) {
                Ok(producer) => {
                    self.shared.open.fetch_add(1, Ordering::Relaxed);
                    self.producer = Some(producer);
                    self.made += 1;
                }
                Err(error) => {
                    let words = format!("librdkafka refuses the configuration: {error}; correct [kafka] and reload");
                    return self.blocked("configuration", &words);
                }
            }
        }
        let Some(producer) = &self.producer else { return };
        self.asked = Some(now + METADATA_PATIENCE * 2);
        let (inbox, made) = (Arc::clone(&self.inbox), self.made);
        producer.ask_partitions(METADATA_PATIENCE, move |answer| inbox.order(Order::Partitions(made, answer)));
    }

    pub(super) fn answered(&mut self, answer: Result<i32, RDKafkaErrorCode>) {
        (self.asked, self.heard) = (None, Instant::now());
        match answer {
            Ok(count) => {
                self.count = Some(count);
                self.partitions.clear();
                self.moved = Instant::now();
                // A lane that was blocked is freed by the first acknowledgement, not by a topic that can be seen.
                if !matches!(self.inbox.condition(), Condition::Blocked { .. }) && self.inbox.set_condition(Condition::Open) {
                    tracing::info!(topic = %self.topic, partitions = count, "sending");
                }
            }
            Err(code) => {
                if let Some(producer) = &mut self.producer {
                    producer.poll(Duration::ZERO);
                }
                self.failed(code, None);
            }
        }
    }

    /// Whether the window has room for more that is at hand.
    pub(super) fn can_go_on(&self) -> bool {
        let Some(producer) = &self.producer else { return false };
        let at_hand = !self.queue.is_empty() && self.careful.is_none() && self.trying.is_none();
        let open = self.count.is_some()
            && self.ending.is_none()
            && self.renewing.is_none()
            && !self.paused
            && !producer.is_broken()
            && Instant::now() >= self.rate_at;
        at_hand && open && self.has_window(producer)
    }

    fn has_window(&self, producer: &Producer) -> bool {
        let next = self.queue.front().map_or(0, |(batch, _)| batch.charge.bytes());
        producer.window() == 0 || producer.window() + next <= self.shared.window()
    }

    /// Hands over what the window has room for.
    pub(super) fn send(&mut self) {
        let Some(mut producer) = self.producer.take() else { return };
        let now = Instant::now();
        while self.count.is_some() && !producer.is_broken() && self.trying.is_none() && now >= self.rate_at && self.has_window(&producer) {
            // One step after the other: what comes next depends on how this one ends.
            if self.careful.is_some() && (producer.outstanding() > 0 || !self.step_carefully()) {
                break;
            }
            let Some((batch, first)) = self.queue.pop_front() else { break };
            if let Some(wait) = self.rate_says_wait(&batch, now) {
                self.rate_at = now + wait;
                self.queue.push_front((batch, first));
                break;
            }
            if producer.outstanding() == 0 {
                self.moved = now;
            }
            let partition = self.partition(&batch);
            // A broker that knows nothing of this producer takes its first record for this partition whatever came before. So that goes alone: were
            // it refused, what is behind it would overtake it.
            let first_ever = !self.tried.contains(&partition);
            if first_ever && producer.outstanding() > 0 {
                self.queue.push_front((batch, first));
                break;
            }
            let most = if first_ever { 1 } else { self.careful.as_ref().map_or(usize::MAX, |careful| careful.size) };
            let end = batch.events.len().min(first.saturating_add(most));
            producer.send(batch, (first, end), partition);
            if first_ever {
                self.trying = Some(partition);
                break;
            }
        }
        self.producer = Some(producer);
    }

    fn rate_says_wait(&self, batch: &Batch, now: Instant) -> Option<Duration> {
        let rate = self.shared.rate.lock().unwrap_or_else(PoisonError::into_inner).clone();
        rate?.take(&self.topic, batch.bytes.len(), now).err()
    }

    fn partition(&mut self, batch: &Batch) -> i32 {
        // Without a key each batch goes to the next partition.
        if batch.stream.key.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            return i32::try_from(self.turn % u32::try_from(self.count.unwrap_or(1)).unwrap_or(1).max(1)).unwrap_or(0);
        }
        if self.partitions.len() >= PARTITIONS_KEPT {
            self.partitions.clear();
        }
        let (settlement, count) = (&self.shared.settlement, self.count.unwrap_or(1));
        let fixed = self.partitions.entry(batch.stream.id);
        // The batches of one stream may have different keys.
        partition_for(&batch.stream.key, *fixed.or_insert_with(|| settlement.partition_count(batch.stream.id, &self.topic, count)))
    }

    /// Books reports, and what follows from them.
    pub(super) fn settle(&mut self) {
        if let Some(mut producer) = self.producer.take() {
            self.book(&mut producer);
            self.producer = Some(producer);
        }
        self.watch_progress();
        self.fail_if_broken();
    }

    /// Books what was reported: acknowledgements of what has a copy pass over the copy.
    pub(super) fn book(&mut self, producer: &mut Producer) {
        let (settlement, log) = (&self.shared.settlement, &mut self.spilling.log);
        let mut ended: Vec<(Arc<str>, Count)> = Vec::new();
        let (mut moved, mut freed) = (false, false);
        let stuck = self.stuck;
        producer.progress(
            |batch, prefix| {
                if batch.copy.is_some() {
                    ended.push((Arc::clone(&batch.stream.source), log.acknowledged(batch, prefix)));
                } else {
                    settlement.acknowledged(batch, prefix);
                }
                moved = true;
                let reached = prefix.checked_sub(1).and_then(|index| batch.end_of(index));
                freed |= stuck.is_none_or(|(stream, end)| batch.stream.id == stream && reached.is_some_and(|reached| reached >= end));
            },
            &mut self.done,
        );
        producer.took().for_each(|took| self.inbox.produced.note(took));
        if !ended.is_empty() {
            settlement.spill_ended(&self.topic, log.row(), &ended, Fate::Delivered);
        }
        if moved {
            (self.moved, self.busy, self.delivered) = (Instant::now(), true, true);
        }
        if freed && !self.proven {
            (self.proven, self.stuck) = (true, None);
            producer.forget_error();
            self.retry.reset();
            if !self.paused && self.inbox.set_condition(Condition::Open) {
                tracing::info!(topic = %self.topic, "sending again");
            }
        }
        if moved && producer.outstanding() == 0 && !producer.is_broken() {
            self.tried.extend(self.trying.take());
        }
        for (batch, end) in self.done.drain(..).rev() {
            if end < batch.events.len() {
                self.queue.push_front((batch, end));
            } else {
                self.shared.pool.give_block(batch.bytes);
                self.shared.pool.give_events(batch.events);
            }
        }
    }

    /// Says once when acknowledgements stop coming, and once when they come again.
    fn watch_progress(&mut self) {
        let Some(producer) = &self.producer else { return };
        let stalled = producer.outstanding() > 0 && self.moved.elapsed() >= STALLED;
        if stalled == self.stalled || self.paused {
            return;
        }
        self.stalled = stalled;
        if stalled {
            let words = producer.last_error().unwrap_or_else(|| "the broker does not answer".into());
            tracing::warn!(topic = %self.topic, in_flight = producer.outstanding(), "no acknowledgement for {} s: {words}; waiting", STALLED.as_secs());
            self.inbox.set_condition(Condition::Connecting(words));
        } else {
            tracing::info!(topic = %self.topic, "acknowledgements come again");
            self.inbox.set_condition(Condition::Open);
        }
    }

    /// Reads back from the spill what the window has room for.
    pub(super) fn fill(&mut self) {
        let stopping = self.shared.stop.phase() != crate::shutdown::Phase::Run;
        // No more than the producer can take: all else would only wait in memory.
        while !stopping && self.queue.len() < 2 && self.producer.as_ref().is_some_and(|producer| self.has_window(producer)) {
            let idle = self.queue.is_empty() && self.in_flight() == 0;
            // One record may always be read when nothing else is under way: what is in memory waits for it.
            let cost = self.spilling.log.next_cost().unwrap_or(Some(0));
            if !cost.is_some_and(|cost| idle || self.shared.budget.has_room(cost)) || !self.read_record() {
                return;
            }
        }
    }

    /// Until when nothing needs to be done for the spill, and how many fresh bytes are worth waking up for.
    pub(super) fn next_spill(&self, now: Instant) -> (Option<usize>, Option<Instant>) {
        let (wanted, due) = self.spilling.next(&self.shared.spill, self.fresh.front().map(|batch| batch.since));
        let soonest = [due, self.copy_due(now)].into_iter().flatten().min();
        (wanted, soonest.map(|at| at.max(now)).filter(|at| *at < now + POLL))
    }
}

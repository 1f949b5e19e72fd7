//! What a lane does when Kafka refuses: the producer is ended, what was not acknowledged is sent again in order, and what the table of
//! [`crate::kafka::errors`] says decides when. A single event that is refused for its own sake goes to the dead letters.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::types::RDKafkaErrorCode;

use super::Lane;
use crate::batch::{Batch, Event, StreamId};
use crate::dead_letters::Letter;
use crate::encode::{LineStarts, raw};
use crate::kafka::errors::{self, Class};
use crate::kafka::probe;
use crate::kafka::producer::Producer;
use crate::lane::Condition;
use crate::ledger::Fate;
use crate::shutdown::Phase;

/// How long reports of what is in flight are waited for after a failure; what is not reported by then is sent again.
const REPORTS_PATIENCE: Duration = Duration::from_secs(10);
/// How long a topic's limit is asked for after it has refused a batch for its size.
const LIMIT_PATIENCE: Duration = Duration::from_secs(2);
/// What a batch has beside its messages, bytes: its header (KIP-98), and the little that compression may add.
const BATCH_OVERHEAD: u64 = 512;

/// A record was refused for its own sake: until it is found, events go out in small groups, each waited for.
#[derive(Debug)]
pub(super) struct Careful {
    /// The event that was refused, as far as is known: its stream, and where it ends in that.
    event: (StreamId, u64),
    /// How many events go out at once.
    pub(super) size: usize,
    /// Why it was refused.
    code: RDKafkaErrorCode,
    /// It was refused when it went out alone: it is put aside.
    certain: bool,
}

impl Lane {
    /// After a permanent error: nothing new goes out, reports are waited for, and all that is unsettled is sent again in order by a new producer.
    pub(super) fn fail_if_broken(&mut self) {
        let Some(producer) = &self.producer else { return };
        if !producer.is_broken() {
            return;
        }
        let now = Instant::now();
        let until = *self.ending.get_or_insert_with(|| {
            producer.withdraw();
            now + REPORTS_PATIENCE
        });
        if producer.outstanding() > 0 && now < until && self.shared.stop.phase() != Phase::Now {
            return;
        }
        let failure = producer.failure();
        let code = failure.as_ref().map_or(RDKafkaErrorCode::Unknown, |failure| failure.code);
        // Why the client could not connect may tell more.
        let cause = self.producer.as_ref().and_then(Producer::last_error_code);
        let alone = self.alone_in_flight();
        self.close();
        self.stuck = self.queue.front().and_then(|(batch, first)| Some((batch.stream.id, batch.end_of(*first)?)));
        if self.narrow(code, failure.and_then(|failure| failure.event), alone) {
            return;
        }
        self.failed(code, cause);
    }

    /// The event in flight, if it was sent alone: then the verdict is its own.
    fn alone_in_flight(&mut self) -> Option<(StreamId, u64)> {
        let single = self.trying.is_some() || self.careful.as_ref().is_some_and(|careful| careful.size == 1);
        let (batch, first) = self.producer.as_mut()?.in_flight().next().filter(|_| single)?;
        Some((batch.stream.id, batch.end_of(first)?))
    }

    /// Decides when to try again, and says why.
    pub(super) fn failed(&mut self, mut code: RDKafkaErrorCode, cause: Option<RDKafkaErrorCode>) {
        self.heard = Instant::now();
        // A request that only timed out: why the client could not connect may be for a person to cure.
        let cause = cause.or_else(|| self.producer.as_ref().and_then(Producer::last_error_code));
        if let Some(cause) = cause.filter(|cause| errors::class(code) == Class::Retry && errors::class(*cause) == Class::WaitForPerson) {
            code = cause;
        }
        match errors::class(code) {
            Class::Retry | Class::Purged => {
                let words = self.producer.as_ref().and_then(Producer::last_error).unwrap_or_else(|| code.to_string());
                if self.inbox.set_condition(Condition::Connecting(words.clone())) {
                    tracing::debug!(topic = %self.topic, "waiting for Kafka: {words}");
                }
                self.retry_at = Instant::now() + self.retry.wait();
            }
            Class::Fatal => {
                tracing::warn!(topic = %self.topic, %code, "the producer is made anew; what was not acknowledged is sent again");
                self.close();
                self.retry_at = Instant::now() + self.retry.wait();
            }
            Class::WaitForPerson | Class::Poison | Class::BatchTooLarge => {
                let words = errors::words(code, &self.topic, &self.shared.kafka.get().bootstrap_servers.join(","));
                self.blocked(errors::reason(code), &words);
            }
        }
    }

    /// Something was refused for its content or its size: smaller batches are tried first, then smaller groups of events, until it is one event.
    /// Returns whether that is what happened.
    fn narrow(&mut self, code: RDKafkaErrorCode, event: Option<(StreamId, u64)>, alone: Option<(StreamId, u64)>) -> bool {
        let class = errors::class(code);
        if !matches!(class, Class::Poison | Class::BatchTooLarge) {
            return false;
        }
        if class == Class::BatchTooLarge && alone.is_none() && self.shrink_batches() {
            return true;
        }
        let Some(event) = alone.or(event).or(self.stuck) else { return false };
        // The events before the one that was named go out together, then that one alone.
        let size = self.queue.front().filter(|(batch, _)| batch.stream.id == event.0).map_or(1, |(batch, first)| {
            let before = batch.events.iter().skip(*first).take_while(|it| batch.base + u64::from(it.to) < event.1).count();
            before.max(1)
        });
        self.careful = Some(Careful { event, size, code, certain: alone.is_some() });
        self.retry_at = Instant::now();
        true
    }

    /// The topic refuses batches of this size: smaller ones are tried, down to a single message. Returns whether they are smaller now.
    fn shrink_batches(&mut self) -> bool {
        let limit = probe::message_limit(&self.shared.kafka.get(), &self.topic, LIMIT_PATIENCE);
        let now = self.batch_limit.unwrap_or(u64::MAX);
        let smaller = match limit {
            Some(limit) => limit.saturating_sub(BATCH_OVERHEAD).max(1),
            None => now.min(1 << 20) / 2,
        };
        if smaller == 0 || smaller >= now {
            return false;
        }
        self.batch_limit = Some(smaller);
        self.retry_at = Instant::now();
        tracing::info!(topic = %self.topic, bytes = smaller, "the topic refuses batches of this size: smaller ones are sent");
        true
    }

    /// Before the next group goes out: puts the refused event aside once it is certain which one it is. False if that could not be done now.
    pub(super) fn step_carefully(&mut self) -> bool {
        let Some(careful) = &mut self.careful else { return true };
        let Some((batch, first)) = self.queue.front() else { return true };
        let (stream, end) = (batch.stream.id, batch.end_of(*first).unwrap_or(0));
        if stream != careful.event.0 {
            careful.size = usize::MAX >> 1;
            return true;
        }
        if end > careful.event.1 {
            // All up to it has met its fate.
            self.careful = None;
            return true;
        }
        if careful.certain && end == careful.event.1 {
            return self.put_aside();
        }
        let before = batch.events.iter().skip(*first).take_while(|it| batch.base + u64::from(it.to) < careful.event.1).count();
        careful.size = before.max(1);
        true
    }

    /// The first event of the queue goes to the dead letters, and all parts of its line that follow with it.
    fn put_aside(&mut self) -> bool {
        let Some((mut batch, mut first)) = self.queue.pop_front() else { return true };
        let Some(code) = self.careful.as_ref().map(|careful| careful.code) else { return true };
        let servers = self.shared.kafka.get().bootstrap_servers.join(",");
        loop {
            let letter = letter(&batch, first, code, &servers);
            if let Err(error) = self.shared.letters.put(&letter) {
                self.queue.push_front((batch, first));
                self.blocked("dead_letters", &format!("an event that topic {:?} refuses can't be put aside: {error}", self.topic));
                return false;
            }
            tracing::warn!(topic = %self.topic, id = letter.id, reason = errors::reason(code), "refused for good: it is in the dead letters");
            let settled = first + 1;
            if batch.copy.is_some() {
                let ended = [(Arc::clone(&batch.stream.source), self.spilling.log.acknowledged(&batch, settled))];
                self.shared.settlement.spill_ended(&self.topic, self.spilling.log.row(), &ended, Fate::DeadLettered);
            } else {
                self.shared.settlement.settled(&batch, settled, Fate::DeadLettered);
            }
            let goes_on = batch.events.get(first).and_then(Event::part).is_some_and(|(_, last)| !last);
            first = settled;
            if first < batch.events.len() {
                if !goes_on {
                    self.queue.push_front((batch, first));
                    break;
                }
                continue;
            }
            match self.queue.pop_front() {
                Some((next, at)) if goes_on && next.stream.id == batch.stream.id && next.line_start < next.base => {
                    (batch, first) = (next, at);
                }
                Some(other) => {
                    self.queue.push_front(other);
                    break;
                }
                None => break,
            }
        }
        (self.careful, self.moved) = (None, Instant::now());
        self.shared.settlement.hurry();
        true
    }

    /// The producer's settings, with what was learnt of the topic.
    pub(super) fn settings(&self) -> crate::kafka::Settings {
        let mut settings = (*self.shared.kafka.get()).clone();
        let set = settings.properties.iter().rev().find(|(name, _)| name == "batch.size").and_then(|(_, value)| value.parse().ok());
        if let Some(limit) = self.batch_limit.filter(|limit| set.is_none_or(|set: u64| set > *limit)) {
            settings.properties.push(("batch.size".to_owned(), limit.to_string()));
        }
        settings
    }

    pub(super) fn blocked(&mut self, reason: &'static str, words: &str) {
        self.heard = Instant::now();
        self.retry_at = Instant::now() + self.retry.wait();
        if self.inbox.set_condition(Condition::Blocked { reason, words: words.to_owned() }) {
            tracing::error!(topic = %self.topic, reason, "blocked: {words}. Nothing is lost; logferry tries again by itself");
        }
    }
}

/// The message of this event as a dead letter.
fn letter(batch: &Batch, index: usize, code: RDKafkaErrorCode, servers: &str) -> Letter {
    let topic = &batch.stream.topic;
    let mut lines = LineStarts::of(batch);
    let start = batch.events.iter().take(index + 1).map(|event| lines.next(event)).last().unwrap_or(batch.base);
    let event = batch.events.get(index);
    let headers = event.filter(|_| batch.part_headers).and_then(|event| raw::part_headers(batch.stream.id, start, event));
    let own = batch.stream.headers.iter().map(|(name, value)| (name.to_string(), value.to_vec()));
    let part = event.and_then(Event::part).map_or_else(String::new, |(part, _)| format!(":{part}"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    Letter {
        id: format!("{}:{start}{part}", batch.stream.id),
        source: Arc::clone(&batch.stream.source),
        topic: Arc::clone(topic),
        key: batch.stream.key.to_vec(),
        value: event.map_or_else(Vec::new, |event| batch.event_bytes(event).to_vec()),
        headers: own.chain(headers.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.into_bytes()))).collect(),
        reason: errors::reason(code).to_owned(),
        words: errors::words(code, topic, servers),
        time_ns: now.and_then(|time| i64::try_from(time.as_nanos()).ok()).unwrap_or(0),
    }
}

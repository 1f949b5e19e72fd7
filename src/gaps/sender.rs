//! The thread "gaps": takes gaps that may be sent, in order of their numbers, and sends them with a producer of its own until Kafka has acknowledged
//! them. Apart from the lanes, since it needs neither spill nor budget: it can say that these are full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::types::RDKafkaErrorCode as Code;

use super::Gap;
use crate::bell::Bell;
use crate::encode::gap::GapEncoder;
use crate::kafka::errors::{self, Class};
use crate::kafka::producer::is_consequence;
use crate::kafka::single::Single;
use crate::retry::Retry;
use crate::shutdown::{Phase, Stop};

/// How long librdkafka is listened to at a time.
const POLL: Duration = Duration::from_millis(100);
/// Without an acknowledgement for so long it is said what is waited for.
const STALLED: Duration = Duration::from_secs(10);
/// How long the other reports are waited for after one message has failed.
const REPORTS_PATIENCE: Duration = Duration::from_secs(5);
/// How long the thread rests with nothing to send, if nobody rings: what librdkafka says meanwhile is heard then.
const REST: Duration = Duration::from_secs(30);
/// The same while gaps wait for a snapshot, which rings; and so the time in which a stop is heard that did not ring.
const REST_WAITING: Duration = Duration::from_secs(1);

/// Where gaps wait: the settlement, behind its lock, with an [`super::outbox::Outbox`] in it. Each call is short and does not block.
pub trait Store: Send + Sync {
    /// See [`super::outbox::Outbox::take`].
    fn take(&self) -> Vec<Gap>;
    /// See [`super::outbox::Outbox::sent`].
    fn sent(&self, number: u64);
    /// Whether nothing waits, sent or not.
    fn is_empty(&self) -> bool;
}

/// What the sender needs to know; built by `config/resolve.rs`.
#[derive(Debug)]
pub struct Settings {
    /// For the producer.
    pub kafka: Arc<crate::kafka::Current>,
    /// `kafka.gap_topic`.
    pub topic: String,
    /// Makes the messages.
    pub encoder: GapEncoder,
    /// The producer is closed after so long without a gap.
    pub idle: Duration,
}

/// The running thread.
#[derive(Debug)]
pub struct Sender {
    thread: JoinHandle<()>,
    bell: Arc<Bell>,
    ending: Arc<AtomicBool>,
    open: Arc<AtomicBool>,
}

impl Sender {
    /// Starts the thread. `bell` is to be rung whenever [`super::outbox::Outbox::committed`] says that there is something new to take.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: Settings, store: Arc<dyn Store>, bell: Arc<Bell>, stop: Arc<Stop>) -> std::io::Result<Sender> {
        let (ending, open) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let sending = Sending {
            store,
            bell: Arc::clone(&bell),
            stop,
            ending: Arc::clone(&ending),
            open: Arc::clone(&open),
            producer: None,
            alone: false,
            retry: Retry::new(Duration::from_millis(250), Duration::from_secs(10)),
            trouble: None,
            opened: settings.kafka.get(),
            settings,
        };
        let thread = std::thread::Builder::new().name("gaps".into()).spawn(move || sending.run())?;
        Ok(Sender { thread, bell, ending, open })
    }

    /// Whether it has a producer now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// To be called when nothing adds gaps any more, while snapshots still are written: waits until all are acknowledged, or [`Stop`] says now. What
    /// is left then goes out after the next start.
    pub fn finish(self) {
        self.ending.store(true, Ordering::Relaxed);
        self.bell.ring();
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends gap records panicked");
        }
    }
}

/// What the thread owns.
struct Sending {
    settings: Settings,
    store: Arc<dyn Store>,
    bell: Arc<Bell>,
    stop: Arc<Stop>,
    ending: Arc<AtomicBool>,
    open: Arc<AtomicBool>,
    producer: Option<Single>,
    /// What it was opened with.
    opened: Arc<crate::kafka::Settings>,
    /// One message at a time: the topic has refused several in one batch for their size.
    alone: bool,
    retry: Retry,
    /// What was last said to be in the way.
    trouble: Option<&'static str>,
}

impl Sending {
    fn run(mut self) {
        let mut busy = Instant::now();
        while self.stop.phase() != Phase::Now {
            let gaps = self.store.take();
            if !gaps.is_empty() {
                self.deliver(&gaps);
                busy = Instant::now();
                continue;
            }
            let empty = self.store.is_empty();
            if empty && self.ending.load(Ordering::Relaxed) {
                break;
            }
            if busy.elapsed() >= self.settings.idle {
                self.close();
            }
            if let Some(producer) = &self.producer {
                // Nothing is outstanding; what the client says of its connections is heard.
                drop(producer.poll(POLL));
            }
            let left = self.settings.idle.saturating_sub(busy.elapsed());
            let rest = if empty { REST } else { REST_WAITING };
            self.bell.wait_until(Instant::now() + if self.producer.is_some() { rest.min(left) } else { rest });
        }
        self.close();
    }

    /// Sends these gaps and waits for what becomes of them. Returns early when something failed, after a wait: what was not acknowledged is taken
    /// again. Without an answer it waits for ever.
    fn deliver(&mut self, gaps: &[Gap]) {
        let Some(producer) = self.ready() else { return };
        let gaps = if self.alone { gaps.get(..1).unwrap_or_default() } else { gaps };
        let (mut outstanding, mut failure) = (0_usize, None);
        for (index, gap) in gaps.iter().enumerate() {
            let message = self.settings.encoder.encode(gap);
            match producer.send(index, &message.key, &message.value, message.header) {
                Ok(()) => outstanding += 1,
                Err(code) => {
                    failure = Some(code);
                    break;
                }
            }
        }
        let (mut moved, mut until) = (Instant::now(), None);
        while outstanding > 0 && self.stop.phase() != Phase::Now && until.is_none_or(|until| Instant::now() < until) {
            for (index, error) in producer.poll(POLL) {
                outstanding = outstanding.saturating_sub(1);
                match (error, gaps.get(index)) {
                    (None, Some(gap)) => {
                        self.store.sent(gap.number);
                        moved = Instant::now();
                        producer.forget_error();
                        self.well();
                    }
                    (Some(code), _) if failure.is_none_or(is_consequence) => failure = Some(code),
                    _ => {}
                }
            }
            if failure.is_some() && until.is_none() {
                // The cause is among the reports that come now.
                producer.withdraw();
                until = Some(Instant::now() + REPORTS_PATIENCE);
            }
            if moved.elapsed() >= STALLED {
                self.stalled(&producer);
                moved = Instant::now();
            }
        }
        match failure {
            None => self.producer = Some(producer),
            Some(code) => self.failed(code, &producer, gaps.len()),
        }
        self.open.store(self.producer.is_some(), Ordering::Relaxed);
    }

    /// The producer, opened if there is none; `None` after a wait where librdkafka refuses.
    fn ready(&mut self) -> Option<Single> {
        let kafka = self.settings.kafka.get();
        let held = self.producer.take();
        if let Some(producer) = held.filter(|_| Arc::ptr_eq(&kafka, &self.opened)) {
            return Some(producer);
        }
        self.opened = Arc::clone(&kafka);
        match Single::open(&kafka, &self.settings.topic) {
            Ok(producer) => {
                self.open.store(true, Ordering::Relaxed);
                Some(producer)
            }
            Err(error) => {
                self.tell("configuration", &format!("librdkafka refuses the configuration: {error}; correct [kafka] and reload"));
                self.pause();
                None
            }
        }
    }

    /// After a failed message: the producer is made anew after a wait, and what was not acknowledged is sent again.
    fn failed(&mut self, mut code: Code, producer: &Single, sent: usize) {
        if errors::class(code) == Class::BatchTooLarge && sent > 1 {
            self.alone = true;
            return;
        }
        // A request that only timed out: why the client could not connect may be for a person to cure.
        let cause = producer.last_error().map(|(code, _)| code);
        if let Some(cause) = cause.filter(|cause| errors::class(code) == Class::Retry && errors::class(*cause) == Class::WaitForPerson) {
            code = cause;
        }
        self.tell(errors::reason(code), &self.words(code));
        self.pause();
    }

    /// No answer: the messages stay with librdkafka, which tries on by itself.
    fn stalled(&mut self, producer: &Single) {
        match producer.last_error() {
            Some((code, _)) => self.tell(errors::reason(code), &self.words(code)),
            None => self.tell("no_answer", "the broker does not answer"),
        }
    }

    fn words(&self, code: Code) -> String {
        errors::words(code, &self.settings.topic, &self.opened.bootstrap_servers.join(","))
    }

    /// Says what is in the way, once while it stays the same.
    fn tell(&mut self, reason: &'static str, words: &str) {
        if self.trouble.replace(reason) != Some(reason) {
            tracing::warn!(topic = %self.settings.topic, reason, "gap records can't be sent: {words}. They wait in the state; logferry tries again by itself");
        }
    }

    fn well(&mut self) {
        self.retry.reset();
        if self.trouble.take().is_some() {
            tracing::info!(topic = %self.settings.topic, "gap records are sent again");
        }
    }

    fn pause(&mut self) {
        self.stop.sleep_unless(Phase::Now, self.retry.wait());
    }

    fn close(&mut self) {
        self.producer = None;
        self.alone = false;
        self.open.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;

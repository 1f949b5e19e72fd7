//! The topic for dead letters: a small producer of its own, that sends one letter at a time and waits for its acknowledgement. What it can't be rid
//! of in ten seconds goes to the files, also when it is only slow: then it may be in both, with one id.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::Letter;
use crate::kafka;
use crate::shutdown::{Phase, Stop};

/// How long a letter may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the topic is left alone after it has failed: a thousand letters must not wait ten seconds each.
const REST: Duration = Duration::from_secs(60);

/// Why a letter is not in the topic.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It failed a short while ago and was not asked.
    Resting,
    /// The word is to stop now.
    Stopped,
    /// What Kafka said.
    Words(String),
}

/// The topic, and its producer while it is in use.
pub(super) struct Topic {
    name: Arc<str>,
    kafka: Arc<kafka::Current>,
    /// What the producer was opened with.
    opened: Arc<kafka::Settings>,
    producer: Option<BaseProducer<Context>>,
    rest_until: Option<Instant>,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Keeps the one report that is waited for.
#[derive(Default)]
struct Context(Mutex<Option<Result<(), String>>>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = result.as_ref().map(drop).map_err(|(error, _)| error.to_string());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}

impl Topic {
    pub(super) fn new(name: Arc<str>, kafka: Arc<kafka::Current>) -> Topic {
        Topic { name, opened: kafka.get(), kafka, producer: None, rest_until: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a letter and waits for the acknowledgement.
    pub(super) fn put(&mut self, letter: &Letter, stop: &Stop) -> Result<(), Refusal> {
        if self.rest_until.is_some_and(|until| Instant::now() < until) {
            return Err(Refusal::Resting);
        }
        let outcome = self.send(letter, stop);
        self.rest_until = None;
        if let Err(refusal) = &outcome {
            // After a failure a producer may be of no use any more; the next letter gets a new one.
            self.producer = None;
            if let Refusal::Words(_) = refusal {
                self.rest_until = Some(Instant::now() + REST);
            }
        }
        outcome
    }

    fn send(&mut self, letter: &Letter, stop: &Stop) -> Result<(), Refusal> {
        let words = |error: &dyn std::fmt::Display| Refusal::Words(error.to_string());
        let kafka = self.kafka.get();
        if !Arc::ptr_eq(&kafka, &self.opened) {
            (self.opened, self.producer) = (kafka, None);
        }
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(open(&self.opened).map_err(|error| words(&error))?),
        };
        let report = || producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(report());
        let mut record = BaseRecord::to(&self.name).payload(&letter.value).headers(headers(letter));
        // An empty key is none.
        if !letter.key.is_empty() {
            record = record.key(&letter.key);
        }
        producer.send(record).map_err(|(error, _)| words(&error))?;
        let until = Instant::now() + PATIENCE + Duration::from_secs(1);
        while stop.phase() != Phase::Now {
            producer.poll(Duration::from_millis(100));
            match report() {
                Some(outcome) => return outcome.map_err(Refusal::Words),
                // The client gives up by itself before; this is in case it does not.
                None if Instant::now() >= until => return Err(Refusal::Words("no report in time".to_owned())),
                None => {}
            }
        }
        Err(Refusal::Stopped)
    }
}

/// A producer with the lanes' settings, but one that gives up.
fn open(settings: &kafka::Settings) -> rdkafka::error::KafkaResult<BaseProducer<Context>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings.bootstrap_servers.join(","));
    for (key, value) in &settings.properties {
        config.set(key, value);
    }
    config.set("enable.gapless.guarantee", "false").set("linger.ms", "0").set("message.timeout.ms", PATIENCE.as_millis().to_string());
    config.create_with_context(Context::default())
}

/// The message's own, then those of the letter; a part bears its id already.
fn headers(letter: &Letter) -> OwnedHeaders {
    const ID: &str = "logferry-id";
    let own = letter.headers.iter().filter(|(name, _)| name != ID).map(|(name, value)| (name.as_str(), value.as_slice()));
    let more = [(ID, letter.id.as_bytes()), ("logferry-reason", letter.reason.as_bytes()), ("logferry-topic", letter.topic.as_bytes())];
    own.chain(more).fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }))
}

//! Sends dead letters once more, each to the topic that refused it, and waits until Kafka has acknowledged or refused them. Apart from the lanes:
//! what was refused once must hold up nobody. Events of one key may come behind younger ones; they are as old as their letters.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::dead_letters::Letter;
use crate::kafka;

/// How long a letter may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Collects the reports: the letter's index, and what Kafka said against it.
#[derive(Default)]
struct Context(Mutex<Vec<(usize, Option<String>)>>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Box<usize>) {
        let words = result.as_ref().err().map(|(error, _)| error.to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((*index, words));
    }
}

/// Sends letters. Returns for each whether it was acknowledged, and the first words that were said against one.
pub fn send<'a>(settings: &kafka::Settings, letters: impl Iterator<Item = &'a Letter>) -> (Vec<bool>, Option<String>) {
    let letters: Vec<&Letter> = letters.collect();
    let mut sent = vec![false; letters.len()];
    let producer = match open(settings) {
        Ok(producer) => producer,
        Err(error) => return (sent, Some(error.to_string())),
    };
    let mut words = letters.iter().enumerate().find_map(|(index, letter)| queue(&producer, letter, index).err());
    // Every letter has a report by then; this is in case the client fails at that.
    let until = Instant::now() + PATIENCE + Duration::from_secs(2);
    while producer.in_flight_count() > 0 && Instant::now() < until {
        producer.poll(Duration::from_millis(100));
    }
    for (index, refused) in producer.context().0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(sent) = sent.get_mut(index) {
            *sent = refused.is_none();
        }
        words = words.or(refused);
    }
    if words.is_none() && sent.contains(&false) {
        words = Some("Kafka did not answer in time".into());
    }
    (sent, words)
}

fn open(settings: &kafka::Settings) -> rdkafka::error::KafkaResult<BaseProducer<Context>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings.bootstrap_servers.join(","));
    for (key, value) in &settings.properties {
        config.set(key, value);
    }
    // The partition that the lanes choose, as long as the topic has as many as at the stream's first send.
    config.set("partitioner", "murmur2_random");
    config.set("enable.gapless.guarantee", "false").set("message.timeout.ms", PATIENCE.as_millis().to_string());
    config.create_with_context(Context::default())
}

fn queue(producer: &BaseProducer<Context>, letter: &Letter, index: usize) -> Result<(), String> {
    let headers = letter.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(value) }));
    let mut record = BaseRecord::with_opaque_to(&letter.topic, Box::new(index)).payload(&letter.value);
    if !letter.key.is_empty() {
        record = record.key(&letter.key);
    }
    if !letter.headers.is_empty() {
        record = record.headers(headers);
    }
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            // It gives up what it holds after PATIENCE, so this ends.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(100));
            }
            Err((error, _)) => return Err(error.to_string()),
        }
    }
}

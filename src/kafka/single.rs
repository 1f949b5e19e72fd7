//! A producer for a few messages that no batch holds: they are copied, and each is reported by a number. Apart from [`super::producer`], which hands
//! over memory of ours for speed; here nothing is unsafe.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;

use super::Settings;
use super::context::Context;
use super::producer::code_of;

/// A message's number, and why it failed; `None`: acknowledged.
pub type Outcome = (usize, Option<RDKafkaErrorCode>);

/// The reports that came. Bounded by what was sent and not asked for.
#[derive(Default)]
struct Reports {
    words: Context,
    came: Mutex<Vec<Outcome>>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.words.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let error = result.as_ref().err().map(|(error, _)| code_of(error));
        self.came.lock().unwrap_or_else(PoisonError::into_inner).push((number, error));
    }
}

/// See the module. Dropping it withdraws what is not acknowledged, and takes at most half a second.
pub struct Single {
    client: BaseProducer<Reports>,
    topic: String,
}

impl fmt::Debug for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Single").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Single {
    /// Opens a client. Does not wait for a broker.
    ///
    /// # Errors
    /// A property that librdkafka refuses; `check` finds it first.
    pub fn open(settings: &Settings, topic: &str) -> KafkaResult<Single> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", settings.bootstrap_servers.join(","));
        for (key, value) in &settings.properties {
            config.set(key, value);
        }
        // As lanes and Kafka's Java clients choose it; see `super::partition`.
        config.set("partitioner", "murmur2_random");
        Ok(Single { client: config.create_with_context(Reports::default())?, topic: topic.to_owned() })
    }

    /// Hands over one message; its outcome comes under `number`. Never blocks.
    ///
    /// # Errors
    /// librdkafka does not take it; then it has no outcome.
    pub fn send(&self, number: usize, key: &[u8], value: &[u8], header: Option<(&str, &str)>) -> Result<(), RDKafkaErrorCode> {
        let mut record = BaseRecord::with_opaque_to(&self.topic, number).key(key).payload(value);
        if let Some((key, value)) = header {
            record = record.headers(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        }
        self.client.send(record).map_err(|(error, _)| code_of(&error))
    }

    /// Lets librdkafka report for this long; returns what came, in its order.
    #[must_use]
    pub fn poll(&self, time: Duration) -> Vec<Outcome> {
        self.client.poll(time);
        std::mem::take(&mut *self.reports().came.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Withdraws what librdkafka has not begun to send; its reports come at once.
    pub fn withdraw(&self) {
        self.client.purge(PurgeConfig::default().queue());
    }

    /// What the client last said of its connections, code and words.
    #[must_use]
    pub fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.reports().words.last_error()
    }

    /// It is over: something was acknowledged.
    pub fn forget_error(&self) {
        self.reports().words.forget_error();
    }

    fn reports(&self) -> &Reports {
        self.client.client().context()
    }
}

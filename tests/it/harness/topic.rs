//! Reads a topic from its first record to its present end, with a plain consumer that belongs to no group and changes nothing.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

/// How long reading may take, and one request of it.
const PATIENCE: Duration = Duration::from_secs(120);
const REQUEST: Duration = Duration::from_secs(10);

/// What the reader gets to see of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything, aborted transactions too.
    ReadUncommitted,
    /// Only what was committed.
    ReadCommitted,
}

/// How a line stands in a record's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The value is the line.
    Raw,
    /// The value is a JSON object, the line is its `message`.
    Json,
    /// The same with other names.
    Ecs,
    /// The value is a request of OpenTelemetry, the line is the body of its record.
    Otlp,
}

/// What of OpenTelemetry's request leads to the body.
mod otlp {
    #[derive(prost::Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub resources: Vec<Resource>,
    }
    #[derive(prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "2")]
        pub scopes: Vec<Scope>,
    }
    #[derive(prost::Message)]
    pub struct Scope {
        #[prost(message, repeated, tag = "2")]
        pub records: Vec<Record>,
    }
    #[derive(prost::Message)]
    pub struct Record {
        #[prost(message, optional, tag = "5")]
        pub body: Option<Value>,
    }
    #[derive(prost::Message)]
    pub struct Value {
        #[prost(string, tag = "1")]
        pub text: String,
    }
}

impl Format {
    /// Its name in logferry's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Json => "json",
            Format::Ecs => "ecs",
            Format::Otlp => "otlp",
        }
    }

    /// The line in a record's value; the value itself where it has none, for the oracle to call it damaged.
    pub fn line(self, value: &[u8]) -> Vec<u8> {
        let message = match self {
            Format::Raw => None,
            Format::Json | Format::Ecs => serde_json::from_slice::<Value>(value)
                .ok()
                .and_then(|object| object.get("message").and_then(|message| message.as_str()).map(|message| message.as_bytes().to_vec())),
            Format::Otlp => <otlp::Request as prost::Message>::decode(value).ok().and_then(|mut request| {
                let mut scope = request.resources.pop()?.scopes.pop()?;
                Some(scope.records.pop()?.body?.text.into_bytes())
            }),
        };
        message.unwrap_or_else(|| value.to_vec())
    }
}

/// The gap record that a message is; `None` if it is an event.
pub fn gap(message: &BorrowedMessage<'_>) -> Option<Value> {
    let marked =
        message.headers().is_some_and(|headers| headers.iter().any(|header| header.key == "logferry-type" && header.value == Some(b"gap")));
    let value = message.payload().unwrap_or_default();
    // Numbered lines don't begin so; parsing each of them would take long.
    if !marked && !value.starts_with(b"{") {
        return None;
    }
    serde_json::from_slice::<Value>(value).ok().filter(|record| record["type"] == "gap")
}

/// A record, copied out of the topic.
#[derive(Clone, Debug)]
pub struct Record {
    /// The partition it is in.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; empty if it has none.
    pub value: Vec<u8>,
    /// Its headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its time, milliseconds since 1970.
    pub time_ms: Option<i64>,
}

/// All records of a topic, partition by partition in order.
#[track_caller]
pub fn records(bootstrap: &str, topic: &str, isolation: Isolation) -> Vec<Record> {
    let mut all = Vec::new();
    for_each(bootstrap, topic, isolation, |message| {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        all.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect(),
            time_ms: message.timestamp().to_millis(),
        });
    });
    all
}

/// Shows every record of a topic to `see`, each partition in order, until every partition's end has been reached once.
#[track_caller]
pub fn for_each(bootstrap: &str, topic: &str, isolation: Isolation, mut see: impl FnMut(&BorrowedMessage<'_>)) {
    let consumer = consumer(bootstrap, isolation);
    let partitions = partitions(&consumer, topic);
    assert!(!partitions.is_empty(), "topic {topic} does not exist");
    let mut from = TopicPartitionList::new();
    for &partition in &partitions {
        from.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    }
    consumer.assign(&from).expect("assign all partitions");

    let mut ended = std::collections::BTreeSet::new();
    let started = Instant::now();
    while ended.len() < partitions.len() {
        assert!(started.elapsed() < PATIENCE, "topic {topic} could not be read to its end within {PATIENCE:?}");
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => see(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            // Connections that break are made anew by the client.
            Some(Err(_)) | None => {}
        }
    }
}

/// How many records the topic holds by its watermarks (aborted ones and transaction markers counted); `None` if it does not exist or the
/// broker does not answer.
pub fn count(consumer: &BaseConsumer, topic: &str) -> Option<u64> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).ok()?;
    let partitions = metadata.topics().first()?.partitions();
    let mut sum = 0;
    for partition in partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), REQUEST).ok()?;
        sum += u64::try_from(high - low).ok()?;
    }
    (!partitions.is_empty()).then_some(sum)
}

/// A consumer that reads nothing yet.
pub fn consumer(bootstrap: &str, isolation: Isolation) -> BaseConsumer {
    let isolation = if isolation == Isolation::ReadCommitted { "read_committed" } else { "read_uncommitted" };
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "harness")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation)
        .set("reconnect.backoff.max.ms", "200")
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("make a consumer")
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST).unwrap_or_else(|error| panic!("metadata of {topic}: {error}"));
    metadata.topics().iter().flat_map(|topic| topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id)).collect()
}

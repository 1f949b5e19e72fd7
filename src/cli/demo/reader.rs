//! The other end: a consumer that reads the topic from its beginning, all the time, and counts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memchr::memmem;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use xxhash_rust::xxh3::xxh3_64;

use super::tally::{Arrival, Tally};
use super::writer::{self, Counts};

/// The topic of the demo.
pub const TOPIC: &str = "demo";
/// Its partitions.
pub const PARTITIONS: i32 = 6;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(50);
/// How long the last messages are waited for when logferry has ended.
const LAST: Duration = Duration::from_secs(15);

/// Keeps librdkafka's words about the outage, which the demo itself makes, off the terminal.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

/// The consumer and what it counted.
pub struct Reader {
    consumer: BaseConsumer<Quiet>,
    books: Books,
}

/// What came out of the topic.
pub struct Books {
    /// The lines.
    pub tally: Tally,
    /// Messages that the embedded Kafka let go of before they were read, since it keeps a few megabytes only. They count as lost, though it was not
    /// logferry that lost them.
    pub forgotten: i64,
    /// By partition: the offset that comes next.
    next: Vec<i64>,
}

impl Reader {
    /// A reader of all partitions, for logs of at most `limit` lines each. Does not wait for the broker.
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn open(servers: &str, limit: u64) -> KafkaResult<Reader> {
        let consumer: BaseConsumer<Quiet> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "demo")
            .set("enable.auto.commit", "false")
            // What is skipped by it is noticed by its offsets.
            .set("auto.offset.reset", "earliest")
            // The mock cluster lets an empty fetch wait for all of its time, whatever comes meanwhile.
            .set("fetch.wait.max.ms", "10")
            // It keeps little: never pause.
            .set("queued.min.messages", "1000000")
            .set("fetch.error.backoff.ms", "10")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "50")
            .create_with_context(Quiet)?;
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(TOPIC, partition, Offset::Offset(0))?;
        }
        consumer.assign(&all)?;
        let next = (0..PARTITIONS).map(|_| 0).collect();
        Ok(Reader { consumer, books: Books { tally: Tally::new(writer::LOGS.len(), limit), forgotten: 0, next } })
    }

    /// Reads until `finish` is set and all that the topic holds then is read.
    ///
    /// # Errors
    /// What ended the reading, in words.
    pub fn run(mut self, counts: &Counts, finish: &AtomicBool) -> Result<Books, String> {
        let mut deadline: Option<Instant> = None;
        loop {
            let finishing = finish.load(Ordering::Acquire);
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => self.books.take(&message, counts),
                // Away for a while, as the demo wants it; librdkafka connects again by itself.
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::OperationTimedOut,
                ))) => {}
                Some(Err(error)) => return Err(format!("the consumer can't read the topic: {error}")),
                None if finishing => {
                    if self.is_at_end().map_err(|error| format!("the end of the topic is not known: {error}"))? {
                        return Ok(self.books);
                    }
                    if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + LAST) {
                        return Err(format!("the topic could not be read to its end within {} s", LAST.as_secs()));
                    }
                }
                None => {}
            }
        }
    }

    fn is_at_end(&self) -> KafkaResult<bool> {
        for (partition, next) in (0..).zip(&self.books.next) {
            let (_, end) = self.consumer.fetch_watermarks(TOPIC, partition, LAST)?;
            if *next < end {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Books {
    fn take(&mut self, message: &BorrowedMessage<'_>, counts: &Counts) {
        if let Some(next) = usize::try_from(message.partition()).ok().and_then(|partition| self.next.get_mut(partition)) {
            self.forgotten += message.offset() - *next;
            *next = message.offset() + 1;
        }
        let payload = message.payload().unwrap_or_default();
        let (Some(id), Some(line)) = (text_of(payload, br#","event_id":""#), text_of(payload, br#","message":""#)) else {
            self.tally.unknown();
            return;
        };
        let Some((log, number)) = std::str::from_utf8(line).ok().and_then(writer::parse) else {
            self.tally.unknown();
            return;
        };
        match self.tally.take(log, number, xxh3_64(id)) {
            Arrival::New => {
                counts.received.fetch_add(1, Ordering::Relaxed);
                counts.received_bytes.fetch_add(line.len() as u64 + 1, Ordering::Relaxed);
            }
            Arrival::Again => drop(counts.doubled.fetch_add(1, Ordering::Relaxed)),
            Arrival::Unknown => {}
        }
    }
}

/// What stands in the message under a key, as `key` has it with its colon and quote. Enough here, and quick: the demo's lines need no escaping.
fn text_of<'a>(message: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (_, text) = message.split_at_checked(memmem::find(message, key)? + key.len())?;
    text.get(..memchr::memchr(b'"', text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_its_key() {
        let message = br#"{"v":1,"event_id":"77:12","message":"app 000000012 GET /","path":"x"}"#;
        assert_eq!(text_of(message, br#","event_id":""#), Some(&b"77:12"[..]));
        assert_eq!(text_of(message, br#","message":""#), Some(&b"app 000000012 GET /"[..]));
        assert_eq!(text_of(message, br#","offset":""#), None);
        assert_eq!(text_of(br#"{"v":1,"event_id":"77"#, br#","event_id":""#), None);
    }
}

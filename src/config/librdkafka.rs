//! Which of librdkafka's properties `[kafka.librdkafka]` takes: not those that would break a promise, nor those that have a key of their own,
//! nor what librdkafka itself does not know. Apart because it is a table of reasons.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use super::document::Value;
use super::problem::Fault;
use super::schema::is_secret;

const WAITS: &str = "events wait for Kafka for ever, a limit would drop them";
const ALL: &str = "an event counts as delivered when all in-sync replicas have it; less can lose events";
const BUDGET: &str = "what may be in memory is bounded by agent.memory";
const ITSELF: &str = "logferry does this itself";
const PARTITION: &str = "logferry chooses the partition itself, so that the order of a file is kept";
const SASL: &str = "it has keys of its own: set [kafka.sasl]";

/// Refused names (a `*` stands for anything at that end) and why.
const REFUSED: &[(&str, &str)] = &[
    ("acks", ALL),
    ("request.required.acks", ALL),
    ("enable.idempotence", "without it retries can double and reorder events"),
    ("message.timeout.ms", WAITS),
    ("delivery.timeout.ms", WAITS),
    ("retries", WAITS),
    ("message.send.max.retries", WAITS),
    ("enable.gapless.guarantee", "logferry sends again by itself, in order, what was not delivered"),
    ("transactional.id", "transactions are not in this version"),
    ("delivery.report.only.error", "every acknowledgement is needed to know what is delivered"),
    ("enabled_events", ITSELF),
    ("*_cb", ITSELF),
    ("opaque", ITSELF),
    ("queuing.strategy", "another order than first in, first out would reorder events"),
    ("queue.buffering.max.ms", "it has another name: set \"linger.ms\""),
    ("queue.buffering.max.*", BUDGET),
    ("message.copy.max.bytes", "messages must be copied into requests, their memory is given back earlier"),
    ("message.max.bytes", "it has a key of its own: set kafka.max_event"),
    ("partitioner*", PARTITION),
    ("sticky.partitioning.linger.ms", PARTITION),
    ("bootstrap.servers", "it has a key of its own: set kafka.bootstrap_servers"),
    ("metadata.broker.list", "it has a key of its own: set kafka.bootstrap_servers"),
    ("compression.codec", "it has a key of its own: set kafka.compression"),
    ("compression.type", "it has a key of its own: set kafka.compression"),
    ("security.protocol", "it has keys of its own: set [kafka.tls] and [kafka.sasl]"),
    ("sasl.*", SASL),
    ("enable.sasl.*", SASL),
    ("ssl.ca.location", "it has a key of its own: set kafka.tls.ca_file"),
    ("ssl.certificate.location", "it has a key of its own: set kafka.tls.cert_file"),
    ("ssl.key.location", "it has a key of its own: set kafka.tls.key_file"),
    ("client.id", "it is made from agent.id: set that"),
    ("statistics.interval.ms", "nothing reads librdkafka's statistics"),
    ("test.mock.*", "a mock cluster keeps nothing"),
    ("plugin.library.paths", "a plugin can change or drop any event"),
];

/// Judges one property; what is good comes back as librdkafka takes it.
///
/// # Errors
/// What is wrong with it and what would be right; never with the value of a secret.
pub fn judge(name: &str, value: &Value) -> Result<String, Fault> {
    if let Some((_, reason)) = REFUSED.iter().find(|(pattern, _)| matches(pattern, name)) {
        return Err(Fault::new("refused", *reason));
    }
    let value = match value {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => return Err(Fault::new(format!("{} is no property's value", other.what()), "write a string, a number, true or false")),
    };
    if name.starts_with("max.in.flight") && value.trim().parse::<u32>().is_ok_and(|requests| requests > 5) {
        return Err(Fault::new(format!("refused: {value}"), "with more than 5 requests in flight the order of events can't be kept"));
    }
    match ClientConfig::new().set(name, &value).create_native_config() {
        Ok(_) => Ok(value),
        Err(_) if is_secret(name) => Err(Fault::new("librdkafka refuses the name or the value", "see librdkafka's CONFIGURATION.md")),
        Err(KafkaError::ClientConfig(_, reason, ..)) => Err(Fault::new(format!("librdkafka says: {reason}"), "see its CONFIGURATION.md")),
        Err(error) => Err(Fault::new(format!("librdkafka says: {error}"), "see its CONFIGURATION.md")),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name == pattern,
    }
}

/// What a person should know about properties that are accepted.
#[must_use]
pub fn warning(name: &str, value: &str) -> Option<String> {
    let unverified = (name == "enable.ssl.certificate.verification" && value == "false")
        || (name == "ssl.endpoint.identification.algorithm" && value == "none");
    unverified.then(|| format!("kafka.librdkafka.{name:?} = {value:?}: whoever answers in the broker's place is believed to be it"))
}

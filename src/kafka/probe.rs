//! Looks at a cluster from outside, for `check --connect` and for the daemon while it waits: names, connections, what brokers advertise, what
//! topics allow. Here the facts are gathered; [`judge`] says what they mean. Creates no topic and sends no message.

pub mod alive;
pub mod judge;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientContext, statistics::Statistics};

use super::Settings;
use judge::{Facts, Finding, Node, Reach, Topic, TopicSettings, TopicState};

/// The most addresses that are tried in one step, each in a thread of its own; further ones are taken to answer.
const MOST_ADDRESSES: usize = 64;

/// The most lines of librdkafka's that are kept; then the oldest goes.
const MOST_LINES: usize = 64;

/// Properties that say how to connect: what the probe takes over from the producer's. The others mean nothing to it or are refused.
const CONNECTING: [&str; 9] =
    ["client.", "security.", "ssl.", "sasl.", "socket.", "broker.address.", "enable.ssl.", "enable.sasl.", "reconnect."];

/// What was found, and what it means.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was seen.
    pub facts: Facts,
    /// What it means, in the order of the data's way; never empty of errors when events could not be delivered.
    pub findings: Vec<Finding>,
}

/// Looks at the cluster of these settings and at these topics; `max_event` is the longest value that will be sent. Blocks: each of its four
/// steps (bootstrap servers, metadata, advertised addresses, topics' settings) takes at most `patience`.
#[must_use]
pub fn cluster(settings: &Settings, topics: &[Arc<str>], max_event: usize, patience: Duration) -> Report {
    let facts = gather(settings, topics, patience);
    let findings = judge::findings(&facts, max_event);
    Report { facts, findings }
}

/// What stands in the way, or that nothing does, in one line.
#[must_use]
pub fn one_line(report: &Report) -> String {
    judge::one_line(&report.facts, &report.findings)
}

fn gather(settings: &Settings, topics: &[Arc<str>], patience: Duration) -> Facts {
    let servers = reach_all(settings.bootstrap_servers.iter().map(|server| with_port(server)).collect(), patience);
    let topic = |name: &Arc<str>, state| Topic { name: Arc::clone(name), state };
    let mut facts = Facts { servers, brokers: None, said: Vec::new(), topics: Vec::new() };
    if !facts.servers.iter().any(|server| server.reach == Reach::Answers) {
        facts.topics = topics.iter().map(|name| topic(name, TopicState::NotSeen)).collect();
        return facts;
    }
    let (metadata, said) = metadata(settings, topics, patience);
    facts.said = said;
    facts.brokers = metadata.values().next().map(|metadata| advertised(metadata, &facts.servers, patience));
    let reachable = facts.reachable();
    let there: Vec<&str> = topics.iter().map(|name| &**name).filter(|name| seen(&metadata, name).is_ok()).collect();
    let mut limits = if there.is_empty() || !reachable { HashMap::new() } else { topic_settings(settings, &there, patience) };
    facts.topics = topics
        .iter()
        .map(|name| {
            let state = seen(&metadata, name).map_or_else(|state| state, |found| existing(found, limits.remove(&**name)));
            topic(name, state)
        })
        .collect();
    facts
}

/// What metadata says of a topic: that it is there, or what instead.
fn seen<'a>(metadata: &'a HashMap<&str, Metadata>, name: &str) -> Result<&'a MetadataTopic, TopicState> {
    let found = metadata.get(name).and_then(|all| all.topics().iter().find(|topic| topic.name() == name)).ok_or(TopicState::NotSeen)?;
    match found.error() {
        None => Ok(found),
        Some(error) => Err(TopicState::Refused(Code::from(error))),
    }
}

fn existing(found: &MetadataTopic, settings: Option<TopicSettings>) -> TopicState {
    let partitions = found.partitions();
    TopicState::Exists {
        partitions: partitions.len(),
        leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        replication: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
        settings,
    }
}

/// The addresses that brokers give to clients, and whether they can be reached.
fn advertised(metadata: &Metadata, servers: &[Node], patience: Duration) -> Vec<Node> {
    let brokers = metadata.brokers().iter().map(|broker| match broker.host() {
        host if host.contains(':') => format!("[{host}]:{}", broker.port()),
        host => format!("{host}:{}", broker.port()),
    });
    let (known, fresh): (Vec<_>, Vec<_>) = brokers.partition(|address| servers.iter().any(|server| server.address == *address));
    let mut nodes: Vec<Node> = servers.iter().filter(|server| known.contains(&server.address)).cloned().collect();
    nodes.extend(reach_all(fresh, patience));
    nodes
}

/// Tries all addresses at once. A thread that is still resolving when patience ends is left behind: the resolver ends it by its own limit.
fn reach_all(addresses: Vec<String>, patience: Duration) -> Vec<Node> {
    let deadline = Instant::now() + patience;
    let (results, inbox) = mpsc::channel();
    let mut nodes: Vec<Node> = addresses.into_iter().map(|address| Node { address, reach: Reach::TimedOut }).collect();
    for (i, node) in nodes.iter_mut().enumerate() {
        let (results, address) = (results.clone(), node.address.clone());
        let attempt = move || drop(results.send((i, reach(&address, deadline))));
        if i >= MOST_ADDRESSES {
            node.reach = Reach::Answers;
        } else if let Err(error) = thread::Builder::new().name("probe".to_owned()).spawn(attempt) {
            node.reach = Reach::Failed(error.to_string());
        }
    }
    drop(results);
    while let Ok((i, reach)) = inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some(node) = nodes.get_mut(i) {
            node.reach = reach;
        }
    }
    nodes
}

/// Resolves a `host:port` and connects to the first of its addresses that takes it.
fn reach(address: &str, deadline: Instant) -> Reach {
    let addresses = match address.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Reach::Unresolved(error.to_string()),
    };
    let mut outcome = Reach::Unresolved("the name has no address".to_owned());
    for address in addresses {
        // A little less than the deadline, so that the outcome is still heard.
        let left = deadline.saturating_duration_since(Instant::now()).mul_f32(0.9);
        if left.is_zero() {
            return Reach::TimedOut;
        }
        outcome = match TcpStream::connect_timeout(&address, left) {
            Ok(_) => return Reach::Answers,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Reach::Refused,
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Reach::TimedOut,
                _ => Reach::Failed(error.to_string()),
            },
        };
    }
    outcome
}

/// A bootstrap server as librdkafka understands it: a protocol before it is not part of its address, 9092 is the port that need not be said.
fn with_port(server: &str) -> String {
    let address = server.split_once("://").map_or(server, |(_, address)| address).trim();
    match address.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => address.to_owned(),
        _ => format!("{address}:9092"),
    }
}

/// Keeps what librdkafka says, which is often the only place where the cause of a failed connection stands.
#[derive(Default)]
struct Ear(Mutex<VecDeque<String>>);

impl Ear {
    fn keep(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

impl ClientContext for Ear {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, line: &str) {
        self.keep(line);
    }

    fn error(&self, _error: KafkaError, line: &str) {
        self.keep(line);
    }

    fn stats(&self, _statistics: Statistics) {}
}

impl ConsumerContext for Ear {}

/// How to connect, without what makes a producer of it.
fn connecting(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings.properties.iter().filter(|(name, _)| CONNECTING.iter().any(|prefix| name.starts_with(prefix))) {
        config.set(name, value);
    }
    config.set("bootstrap.servers", settings.bootstrap_servers.join(",")).set("allow.auto.create.topics", "false");
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// Metadata, asked topic by topic, and what librdkafka said meanwhile. A consumer asks: a producer's question would create the topic.
fn metadata<'a>(settings: &Settings, topics: &'a [Arc<str>], patience: Duration) -> (HashMap<&'a str, Metadata>, Vec<String>) {
    let deadline = Instant::now() + patience;
    let mut found = HashMap::new();
    let client: BaseConsumer<Ear> = match connecting(settings).create_with_context(Ear::default()) {
        Ok(client) => client,
        Err(error) => return (found, vec![error.to_string()]),
    };
    let questions: Vec<Option<&str>> = if topics.is_empty() { vec![None] } else { topics.iter().map(|name| Some(&**name)).collect() };
    for question in questions {
        match client.fetch_metadata(question, deadline.saturating_duration_since(Instant::now())) {
            Ok(metadata) => drop(found.insert(question.unwrap_or_default(), metadata)),
            Err(error) => {
                client.context().keep(&error.to_string());
                break;
            }
        }
    }
    // Bounded: what comes while it is emptied may wait.
    for _ in 0..10 * MOST_LINES {
        if client.poll(Duration::ZERO).is_none() {
            break;
        }
    }
    let said = client.context().0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
    (found, said)
}

/// The largest batch that a topic takes (its `max.message.bytes`); `None` when the cluster does not say within `patience`, or may not.
#[must_use]
pub fn message_limit(settings: &Settings, topic: &str, patience: Duration) -> Option<u64> {
    topic_settings(settings, &[topic], patience).remove(topic)?.max_message_bytes
}

/// The settings of these topics; a topic that says nothing (no right to describe it) is left out.
fn topic_settings(settings: &Settings, topics: &[&str], patience: Duration) -> HashMap<String, TopicSettings> {
    let Ok(client) = connecting(settings).create_with_context::<Ear, AdminClient<Ear>>(Ear::default()) else { return HashMap::new() };
    let options = AdminOptions::new().request_timeout(Some(patience));
    let mut found = HashMap::new();
    let deadline = Instant::now() + patience;
    // One by one: a topic that is refused must not take the others' answers with it.
    for topic in topics {
        let answer = wait_for(client.describe_configs(&[ResourceSpecifier::Topic(topic)], &options), deadline);
        let Some(Ok(resources)) = answer else { continue };
        let described = resources.into_iter().flatten().find(|resource| !resource.entries.is_empty());
        if let Some(resource) = described {
            found.insert((*topic).to_owned(), limits(&resource));
        }
    }
    found
}

fn limits(resource: &ConfigResource) -> TopicSettings {
    TopicSettings {
        max_message_bytes: setting(resource, "max.message.bytes"),
        retention_ms: setting(resource, "retention.ms"),
        retention_bytes: setting(resource, "retention.bytes"),
        cleanup_policy: setting(resource, "cleanup.policy"),
        min_insync: setting(resource, "min.insync.replicas"),
    }
}

fn setting<T: FromStr>(resource: &ConfigResource, name: &str) -> Option<T> {
    resource.get(name)?.value.as_deref()?.parse().ok()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread; `None` when it is not ready by the deadline.
fn wait_for<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

//! From facts about a cluster to findings: what is wrong, how bad it is, and the remedy. Pure.

use std::sync::Arc;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::kafka::errors::{grant, words};

/// What a message takes beside its value, bytes: the headers of its batch and record (KIP-98), and a key with a path of up to 900 bytes.
const MESSAGE_OVERHEAD: u64 = 1024;

/// Kept for less than this, events are likely to be gone before anybody has read them.
const SHORT_RETENTION_MS: i64 = 60 * 60 * 1000;

/// What was seen of a cluster.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The bootstrap servers.
    pub servers: Vec<Node>,
    /// The addresses that the brokers advertise; `None` when no broker told them.
    pub brokers: Option<Vec<Node>>,
    /// What librdkafka said, oldest first.
    pub said: Vec<String>,
    /// The topics, in the order asked.
    pub topics: Vec<Topic>,
}

impl Facts {
    /// Whether any address that the brokers advertise takes a connection.
    #[must_use]
    pub fn reachable(&self) -> bool {
        self.brokers.iter().flatten().any(|broker| broker.reach == Reach::Answers)
    }
}

/// An address and what became of connecting to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `host:port`.
    pub address: String,
    /// Whether a connection came about.
    pub reach: Reach,
}

/// What became of connecting to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It took a connection.
    Answers,
    /// The name has no address; why, in the resolver's words.
    Unresolved(String),
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// Something else; in the system's words.
    Failed(String),
}

/// A topic and what was seen of it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// What was seen.
    pub state: TopicState,
}

/// What was seen of a topic.
#[derive(Clone, Debug)]
pub enum TopicState {
    /// It is there.
    Exists {
        /// How many partitions it has.
        partitions: usize,
        /// How many of them have no leader.
        leaderless: usize,
        /// How many replicas the partition with the fewest has.
        replication: usize,
        /// Its settings; `None` when they may not be read.
        settings: Option<TopicSettings>,
    },
    /// The brokers answered with an error.
    Refused(Code),
    /// No broker was asked, or none answered.
    NotSeen,
}

/// Settings of a topic; `None` where the broker did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicSettings {
    /// `max.message.bytes`.
    pub max_message_bytes: Option<u64>,
    /// `retention.ms`; -1: for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`, per partition; -1: no limit.
    pub retention_bytes: Option<i64>,
    /// `cleanup.policy`.
    pub cleanup_policy: Option<String>,
    /// `min.insync.replicas`.
    pub min_insync: Option<usize>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, but is weaker than it looks.
    Warning,
    /// Events can't be delivered, or would be lost in Kafka.
    Error,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What, where, and the remedy.
    pub what: String,
}

fn error(what: String) -> Finding {
    Finding { severity: Severity::Error, what }
}

fn warning(what: String) -> Finding {
    Finding { severity: Severity::Warning, what }
}

/// What the facts mean, in the order of the way to Kafka: servers, protocol, advertised addresses, topics.
#[must_use]
pub fn findings(facts: &Facts, max_event: usize) -> Vec<Finding> {
    let servers = facts.servers.iter().map(|server| &*server.address).collect::<Vec<_>>().join(",");
    let answering = facts.servers.iter().find(|server| server.reach == Reach::Answers);
    let unreachable = facts.servers.iter().filter_map(|server| Some((server, trouble(&server.reach)?)));
    let mut found: Vec<Finding> = unreachable
        .map(|(server, trouble)| {
            let what = format!("{} {trouble}: {}", server.address, server_cure(&server.reach));
            // The others lead on; but after a restart it may be the only one that is up.
            if answering.is_some() { warning(what) } else { error(what) }
        })
        .collect();
    if let Some(answering) = answering {
        found.extend(brokers(facts, &answering.address));
    }
    for topic in &facts.topics {
        match &topic.state {
            // Without brokers the reason has been said.
            TopicState::NotSeen if facts.brokers.is_none() => {}
            TopicState::NotSeen => {
                found.push(error(format!("{servers} did not say in time what topic \"{}\" is: are the brokers overloaded?", topic.name)));
            }
            TopicState::Refused(code @ Code::LeaderNotAvailable) => found.push(warning(words(*code, &topic.name, &servers))),
            TopicState::Refused(code) => found.push(error(words(*code, &topic.name, &servers))),
            TopicState::Exists { partitions, leaderless, replication, settings } => {
                if *leaderless > 0 {
                    let what = format!("{leaderless} of {partitions} partitions of topic \"{}\" have no leader", topic.name);
                    found.push(error(format!("{what}: bring the brokers that hold them back; until then their events wait")));
                }
                // Settings come from the advertised addresses: without one, their absence says nothing about rights.
                if settings.is_some() || facts.reachable() {
                    found.extend(topic_findings(&topic.name, *replication, settings.as_ref(), max_event, &servers));
                }
            }
        }
    }
    found
}

/// The first thing that stands in the way, or that nothing does, in one line.
#[must_use]
pub fn one_line(facts: &Facts, findings: &[Finding]) -> String {
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    match (errors.next(), errors.count()) {
        (Some(first), 0) => first.what.clone(),
        (Some(first), more) => format!("{} (and {more} more: logferry check --connect)", first.what),
        (None, _) => {
            let brokers = facts.brokers.as_ref().map_or(0, Vec::len);
            format!("Kafka answers: {brokers} {} reachable", if brokers == 1 { "broker is" } else { "brokers are" })
        }
    }
}

/// What happened instead of a connection.
#[must_use]
pub fn trouble(reach: &Reach) -> Option<String> {
    Some(match reach {
        Reach::Answers => return None,
        Reach::Unresolved(_) => "does not resolve".to_owned(),
        Reach::Refused => "refuses connections".to_owned(),
        Reach::TimedOut => "does not answer".to_owned(),
        Reach::Failed(text) => format!("can't be reached ({text})"),
    })
}

fn server_cure(reach: &Reach) -> String {
    match reach {
        Reach::Unresolved(text) => format!("correct kafka.bootstrap_servers, or add the name to DNS or /etc/hosts ({text})"),
        Reach::Refused => "is a broker running there, and is this the port of its listener?".to_owned(),
        _ => "is the host up, and do the firewalls in between let this port through?".to_owned(),
    }
}

/// What the brokers say of themselves, once `answering` has taken a connection.
fn brokers(facts: &Facts, answering: &str) -> Vec<Finding> {
    match facts.brokers.as_deref() {
        None => vec![error(format!("{answering} takes connections, but {}", silence(&facts.said)))],
        Some([]) => vec![error(format!("{answering} answers, but names no broker: is the cluster still starting?"))],
        Some(brokers) => {
            let cut_off = brokers.iter().filter_map(|broker| Some((broker, trouble(&broker.reach)?)));
            cut_off
                .map(|(broker, trouble)| {
                    let cure = match broker.reach {
                        Reach::Unresolved(_) => "correct advertised.listeners on the broker, or add the name to DNS or /etc/hosts",
                        Reach::Refused => "correct advertised.listeners on the broker, or start the broker if it is down",
                        _ => "correct advertised.listeners on the broker, or open the firewalls in between",
                    };
                    error(format!("{answering} answers, but advertises {}, which {trouble}: {cure}", broker.address))
                })
                .collect()
        }
    }
}

/// Why a server that takes connections gives no metadata, as far as librdkafka's words tell; the most telling line counts.
fn silence(said: &[String]) -> String {
    const SASL_WANTED: &str = "closes the connection, as a listener with SASL does: add [kafka.sasl], or use the port of another listener";
    // What librdkafka 2.12 writes (both words in one line), what it means, the remedy.
    const TELLING: [([&str; 2], &str); 9] = [
        (["certificate", "could not be verified"], "its certificate is not signed by an authority known here: set kafka.tls.ca_file"),
        (
            ["certificate", "verify failed"],
            "its certificate is not accepted (another authority or host name): set kafka.tls.ca_file, or use the name in the certificate",
        ),
        (["SSL", "authentication might be required"], "asks for a client certificate: set kafka.tls.cert_file and kafka.tls.key_file"),
        (["SASL", "mechanism handshake failed"], "does not offer this SASL mechanism: set kafka.sasl.mechanism to one that it does"),
        (["Disconnected", "might require SASL"], SASL_WANTED),
        (["SASL authentication", ""], "refuses the credentials: correct kafka.sasl.username and kafka.sasl.password"),
        (["SSL_HANDSHAKE", ""], "speaks no TLS, as a plaintext listener: remove [kafka.tls], or use the port of the TLS listener"),
        (
            ["Disconnected", "state APIVERSION_QUERY"],
            "closes the connection, as a TLS listener does with plaintext: add [kafka.tls], or use the port of the plaintext listener",
        ),
        (["Disconnected", "state UP"], SASL_WANTED),
    ];
    let says = |line: &&String, signs: &[&str; 2]| signs.iter().all(|sign| line.contains(sign));
    let telling = TELLING.iter().find_map(|(signs, means)| Some((means, said.iter().rev().find(|line| says(line, signs))?)));
    match (telling, said.last()) {
        (Some((means, line)), _) => format!("{means} ({line})"),
        (None, Some(line)) => format!("gives no answer: is it a Kafka broker, and is it healthy? ({line})"),
        (None, None) => "gives no answer: is it a Kafka broker, and is it healthy?".to_owned(),
    }
}

fn topic_findings(name: &str, replication: usize, settings: Option<&TopicSettings>, max_event: usize, servers: &str) -> Vec<Finding> {
    let alter = |what: &str| {
        format!("run kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {name} --add-config {what}")
    };
    let mut found = Vec::new();
    if replication == 1 {
        found.push(warning(format!("topic \"{name}\" has one replica: a broker's broken disk loses events that were acknowledged")));
    }
    let Some(settings) = settings else {
        let grant = grant(&format!("--operation DescribeConfigs --topic {name}"), servers);
        found.push(warning(format!("the settings of topic \"{name}\" can't be read, its limits are not known: {grant}")));
        return found;
    };
    let policy = settings.cleanup_policy.as_deref().unwrap_or_default();
    if policy.contains("compact") {
        let what = format!("topic \"{name}\" is compacted (cleanup.policy={policy})");
        let cure = alter("cleanup.policy=delete");
        found.push(error(format!("{what}: a compacted topic keeps one event per key and would delete logs: use another topic, or {cure}")));
    }
    let needed = u64::try_from(max_event).unwrap_or(u64::MAX).saturating_add(MESSAGE_OVERHEAD);
    if let Some(limit) = settings.max_message_bytes.filter(|limit| *limit < needed) {
        let what = format!("topic \"{name}\" takes messages of up to {limit} bytes (max.message.bytes), kafka.max_event is {max_event}");
        let lower = match limit.saturating_sub(MESSAGE_OVERHEAD) {
            0 => String::new(),
            most => format!("set kafka.max_event to {most} or less, or "),
        };
        found.push(error(format!("{what}: {lower}{}", alter(&format!("max.message.bytes={needed}")))));
    }
    if let Some(retention) = settings.retention_ms.filter(|ms| (0..SHORT_RETENTION_MS).contains(ms)) {
        found.push(warning(format!("topic \"{name}\" keeps events for {} s only (retention.ms={retention})", retention / 1000)));
    }
    match settings.min_insync {
        Some(least) if least > replication => {
            let what = format!("topic \"{name}\" has {replication} replicas and wants {least} in sync (min.insync.replicas)");
            found
                .push(error(format!("{what}, so that nothing can be delivered: {}", alter(&format!("min.insync.replicas={replication}")))));
        }
        Some(least) if least == replication && replication > 1 => {
            found.push(warning(format!("topic \"{name}\" wants all its {least} replicas in sync: one broker down stops delivery")));
        }
        Some(1) if replication > 1 => {
            let cure = alter("min.insync.replicas=2");
            found.push(warning(format!("topic \"{name}\" acknowledges with one replica in sync (min.insync.replicas=1): {cure}")));
        }
        _ => {}
    }
    found
}

//! The configuration: read, judged, and turned into the settings of the parts. Apart because it is the only module that knows every part's
//! settings, and none of them knows it.
//!
//! `read` opens the files, [`document`] makes nodes with line numbers of them, [`collect`] walks those against the one table in [`schema`],
//! figment merges defaults, files and environment, and [`resolve`] judges what concerns several keys and builds [`Config`].

pub mod collect;
pub mod document;
pub mod kinds;
pub mod librdkafka;
pub mod print;
pub mod problem;
pub mod properties;
mod read;
pub mod reload;
pub mod resolve;
pub mod rules;
pub mod schema;
pub mod sources;
pub mod units;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use problem::{Origin, Problem, Problems};

use crate::rules::Action;
use crate::rules::engine::Engine;
use crate::source::file::discover::Finder;

/// What `[agent]` says, defaults filled in.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The name under which this machine's events go.
    pub host: Arc<str>,
    /// What tells this agent from every other.
    pub id: String,
    /// Where the state lives; absolute.
    pub state_dir: PathBuf,
    /// The byte budget for all that holds events.
    pub memory: usize,
    /// Sent with every event, in order of their names.
    pub labels: Vec<(String, String)>,
    /// When a stream that is gone leaves the state.
    pub forget_after: Duration,
    /// The pause between two snapshots.
    pub snapshot_interval: Duration,
    /// How long a stop may drain.
    pub stop_timeout: Duration,
    /// How much disk files that were deleted may hold until they are read, bytes.
    pub hold_deleted: u64,
}

/// What every source has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: Arc<str>,
    /// The topic its events go to.
    pub topic: Arc<str>,
    /// Silence for longer is told; `None`: it is not.
    pub expect_every: Option<Duration>,
}

/// A good configuration: what each part needs, and what a person should know about it. Secrets are in `kafka.properties` alone.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// For the Kafka client.
    pub kafka: crate::kafka::Settings,
    /// For the encoder.
    pub encode: crate::encode::Settings,
    /// `kafka.topic`, where it is set.
    pub default_topic: Option<Arc<str>>,
    /// How many topics may have a lane.
    pub max_lanes: usize,
    /// How many bytes a second all lanes together may send; `None` for no limit.
    pub max_rate: Option<u64>,
    /// Where a record goes that Kafka refuses for its size or content. No lane writes to its topic.
    pub dead_letters: crate::dead_letters::Settings,
    /// Where gap records go: `kafka.gap_topic`, else `kafka.topic`. `None` when neither is set: then to the topic of the source with the gap.
    pub gap_topic: Option<Arc<str>>,
    /// For the lanes' buffers on disk.
    pub spill: crate::spill::Settings,
    /// Where metrics and health are served; `None`: nowhere.
    pub http: Option<crate::http::Settings>,
    /// What logferry logs about itself.
    pub log: crate::logging::Settings,
    /// Every `[[source]]`, in the order in which they are written.
    pub named: Vec<Named>,
    /// One per `[[source]]` of type `file`, in the order in which they are written.
    pub files: Vec<crate::source::file::Settings>,
    /// One per `[[source]]` of type `syslog`, in the same order.
    pub syslogs: Vec<crate::source::syslog::Settings>,
    /// Its sources of type `journald`.
    pub journals: Vec<crate::source::journald::Settings>,
    /// `kafka.key` and `kafka.headers`, where they say something.
    pub stamp: Option<Arc<crate::rules::stamp::Stamp>>,
    /// Every `[[rule]]`, in the order in which they are written.
    pub rules: Arc<[crate::rules::Rule]>,
    /// Every `[[test]]`.
    pub tests: Vec<rules::Test>,
    /// The text of every include pattern, with the name of its source.
    pub includes: Vec<(Arc<str>, String)>,
    /// Where the configuration can lose data or surprise, as whole sentences.
    pub warnings: Vec<String>,
    /// Every value with its origin, secrets hidden; for `check --print`.
    pub shown: Vec<print::Section>,
}

impl Config {
    /// The topics that the sources name, each once, in their order.
    #[must_use]
    pub fn topics(&self) -> Vec<&str> {
        let mut topics: Vec<&str> = Vec::new();
        let routed = self.rules.iter().filter_map(|rule| if let Action::Route(route) = &rule.action { Some(&route.topics) } else { None });
        for topic in self.named.iter().map(|source| &source.topic).chain(routed.flatten()) {
            if !topics.contains(&&**topic) {
                topics.push(topic);
            }
        }
        topics
    }

    /// The rules and the stamp for a source of this name and type, whose events are encoded so.
    #[must_use]
    pub fn engine(&self, source: (&str, &str), encode: &crate::encode::Settings) -> Engine {
        let engine = Engine::of(&self.rules, source, encode.zone.clone(), encode.room());
        match &self.stamp {
            Some(stamp) => engine.with_stamp(Arc::clone(stamp)),
            None => engine,
        }
    }

    /// Whether a source of this name and type needs them.
    #[must_use]
    pub fn needs_engine(&self, source: (&str, &str)) -> bool {
        self.stamp.is_some() || Engine::concerns(&self.rules, source)
    }

    /// The topics that events of this source may go to: its own, and those that rules give them to.
    #[must_use]
    pub fn topics_of(&self, source: &str) -> Vec<Arc<str>> {
        let own = self.named.iter().find(|named| *named.name == *source).map(|named| Arc::clone(&named.topic));
        let types = self.types();
        let kind = types.iter().find(|(name, _)| **name == *source).map_or("", |(_, kind)| kind);
        let mut topics = Engine::topics_of(&self.rules, (source, kind));
        topics.extend(own);
        topics.sort();
        topics.dedup();
        topics
    }

    /// The name and type of every source.
    #[must_use]
    pub fn types(&self) -> Vec<(Arc<str>, &'static str)> {
        let files = self.files.iter().map(|source| (Arc::clone(&source.name), "file"));
        let syslogs = self.syslogs.iter().map(|source| (Arc::clone(&source.name), "syslog"));
        files.chain(syslogs).chain(self.journals.iter().map(|source| (Arc::clone(&source.name), "journald"))).collect()
    }

    /// What the operator's tools need to know.
    #[must_use]
    pub fn operator(&self) -> crate::operator::Settings {
        let finder = |file: &crate::source::file::Settings| Finder::new(file.include.clone(), file.exclude.clone());
        crate::operator::Settings {
            agent: self.agent.id.clone(),
            host: self.agent.host.to_string(),
            topics: self.named.iter().map(|source| (Arc::clone(&source.name), Arc::clone(&source.topic))).collect(),
            expect_every: self.named.iter().filter_map(|source| Some((Arc::clone(&source.name), source.expect_every?))).collect(),
            finders: self.files.iter().map(|file| (Arc::clone(&file.name), finder(file))).collect(),
            journals: self.journals.iter().map(|journal| Arc::clone(&journal.name)).collect(),
            spill: self.spill.clone(),
            letters: self.dead_letters.clone(),
            kafka: self.kafka.clone(),
        }
    }

    /// All topics that are written to: the sources', the one for gaps, the one for dead letters; each once.
    #[must_use]
    pub fn all_topics(&self) -> Vec<&str> {
        let mut topics = self.topics();
        for topic in self.gap_topic.iter().chain(&self.dead_letters.topic) {
            if !topics.contains(&&**topic) {
                topics.push(topic);
            }
        }
        topics
    }
}

/// Reads a small file (a secret, a certificate): its bytes and its mode.
pub type Reader<'a> = &'a dyn Fn(&Path) -> io::Result<(Vec<u8>, u32)>;

/// What the configuration takes from the machine it is for.
pub struct Machine<'a> {
    /// Its name; `None` when it has none that is UTF-8.
    pub hostname: Option<String>,
    /// What `/etc/machine-id` holds.
    pub machine_id: Option<String>,
    /// Whether logferry runs as root.
    pub root: bool,
    /// The environment, as far as it is UTF-8.
    pub env: BTreeMap<String, String>,
    /// The variables that begin with `LOGFERRY__`: what follows that, in lower case, and the value.
    pub overrides: Vec<(String, String)>,
    /// How files that the configuration names are read.
    pub read: Reader<'a>,
    /// Whether a secret that this process can't get is a mistake; else there is none.
    pub connects: bool,
}

/// One file of the configuration.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its path, as messages name it.
    pub name: Arc<str>,
    /// What is in it.
    pub text: String,
}

/// Reads and judges the configuration at `path` and in `conf.d` beside it, for this machine.
///
/// # Errors
/// Every mistake that was found, in the order of the files.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let (texts, unread) = read::files(path);
    build(&texts, unread, &read::machine())
}

/// The same for a command that asks the running daemon: systemd hands secrets to the service alone.
///
/// # Errors
/// As of [`load`].
pub fn load_without_secrets(path: &Path) -> Result<Config, Problems> {
    let (texts, unread) = read::files(path);
    build(&texts, unread, &Machine { connects: false, ..read::machine() })
}

/// Where the state is by the configuration at `path`, whatever else is wrong with it; `None` if that can't be told.
#[must_use]
pub fn state_dir(path: &Path) -> Option<PathBuf> {
    let (texts, unread) = read::files(path);
    let machine = read::machine();
    resolve::state_dir_of(collect::collect(&texts, &machine.overrides, unread), &machine)
}

/// Judges texts that have been read. `unread` are the files that could not be: while there are any, nothing is called missing.
///
/// # Errors
/// Every mistake that was found, in the order of the files.
pub fn build(texts: &[Text], unread: Vec<Problem>, machine: &Machine<'_>) -> Result<Config, Problems> {
    let collected = collect::collect(texts, &machine.overrides, unread);
    resolve::resolve(collected, machine)
}

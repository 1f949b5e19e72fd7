//! From what was written to what the parts need: merges the layers, judges what concerns several keys, and builds every `Settings`.
//! Apart because it is the one place that knows both sides. Reads files only through [`Machine::read`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use figment::Figment;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::collect::Collected;
use super::document::Node;
use super::problem::{Fault, Origin, Problem, Problems};
use super::schema::{self, Raw, RawAgent, RawKafka, RawLog, RawSpill, Unset};
use super::sources::{self, Sources};
use super::units::{self, Time};
use super::{Agent, Config, Machine, kinds, print, properties};
use crate::dead_letters;
use crate::encode::{self, Format};
use crate::http;
use crate::kafka;
use crate::logging::{self, level::Level};
use crate::rules::stamp::{Key, Stamp};
use crate::rules::template::Template;
use crate::spill;

/// What of the spill each lane needs at least, bytes: two segments, so that one can be written while the other is read.
const SPILL_OF_A_LANE: u64 = 16 << 20;

/// What is found while keys are judged together.
pub struct Findings<'a> {
    /// The machine that the configuration is for.
    pub machine: &'a Machine<'a>,
    /// The mistakes.
    pub problems: Vec<Problem>,
    /// What is allowed and should be known.
    pub warnings: Vec<String>,
    /// Where each key and table was written.
    pub origins: BTreeMap<String, Origin>,
    /// Sources with what each is to refuse first, until rules are known.
    pub shed_first: Vec<(Arc<str>, Vec<String>, Origin)>,
    main: Option<Origin>,
    /// Whether a file could not be read, so that nothing may be called missing.
    pub incomplete: bool,
}

impl Findings<'_> {
    /// Adds a mistake at the place where this path, or else a table around it, was written.
    pub fn blame(&mut self, path: &str, wrong: impl Into<String>, right: impl Into<String>) {
        let mut around = Some(path);
        while let Some(table) = around {
            if let Some(origin) = self.origins.get(table) {
                self.problems.push(Fault::new(wrong, right).at(origin, path));
                return;
            }
            around = table.rsplit_once('.').map(|(outer, _)| outer);
        }
        let nowhere = self.main.clone().unwrap_or(Origin::Default(""));
        self.problems.push(Fault::new(wrong, right).at(&nowhere, path));
    }

    /// Adds that a key is not set, unless a value of it or of a table around it was refused, or a file is missing that may set it.
    pub fn missing(&mut self, path: &str, right: impl Into<String>) {
        let refused = self.problems.iter().any(|problem| path.strip_prefix(&problem.key).is_some_and(|rest| rest.starts_with('.')));
        if !self.incomplete && !refused && !self.origins.contains_key(path) {
            self.blame(path, "not set", right);
        }
    }

    /// Whether something about this path was told already, or may stand in a file that is missing.
    #[must_use]
    pub fn told(&self, path: &str) -> bool {
        self.incomplete || self.problems.iter().any(|problem| problem.key.starts_with(path))
    }
}

/// Judges and builds.
///
/// # Errors
/// Every mistake, those found while collecting included, in the order of the files.
pub fn resolve(mut collected: Collected, machine: &Machine<'_>) -> Result<Config, Problems> {
    let sources = std::mem::take(&mut collected.sources);
    let lists = (std::mem::take(&mut collected.rules), std::mem::take(&mut collected.tests));
    let problems = std::mem::take(&mut collected.problems);
    let (main, incomplete) = (collected.main.take(), collected.incomplete);
    let (figment, origins) = merge(collected, machine);
    let mut found = Findings { machine, problems, warnings: Vec::new(), shed_first: Vec::new(), origins, main, incomplete };
    let raw: Raw = figment.extract().map_err(|error| internal(&mut found, &error))?;

    for key in schema::KEYS.iter().filter(|key| key.unset == Unset::Required && !key.path.starts_with("source.")) {
        found.missing(key.path, kinds::example(key.kind));
    }
    let agent = agent(&raw.agent, &mut found);
    let properties = properties::properties(&raw.kafka, &agent.id, &mut found);
    let mut shown = print::sections(&figment, &found.origins, None);
    let Sources { files, syslogs, journals, includes, named } =
        sources::sources(&sources, raw.kafka.topic.as_deref(), &mut found, &mut shown)?;

    let max_event = raw.kafka.max_event.0;
    if agent.memory / 4 < max_event {
        let text = "agent.memory is less than four times kafka.max_event: few large events fit, and Kafka is used in small steps";
        found.warnings.push(text.to_owned());
    }
    let stamp = stamp(&raw.kafka, &agent.host, &mut found);
    let spill = spill(&raw.spill, &agent);
    let mut config = Config {
        kafka: kafka::Settings { bootstrap_servers: properties::servers(raw.kafka.bootstrap_servers.as_ref()), properties },
        encode: encode::Settings {
            format: Format::named(&raw.kafka.format).unwrap_or(Format::Json),
            max_event,
            host: agent.host.clone(),
            labels: agent.labels.clone(),
            zone: jiff::tz::TimeZone::UTC,
        },
        default_topic: raw.kafka.topic.as_deref().map(Arc::from),
        max_lanes: raw.kafka.max_lanes,
        max_rate: raw.kafka.max_rate.map(|rate| rate.0 as u64),
        dead_letters: dead_letters::Settings {
            dir: agent.state_dir.join("dead-letters"),
            max_size: dead_letters::Settings::MAX_SIZE,
            keep_free: spill.keep_free,
            topic: raw.kafka.dead_letter_topic.as_deref().map(Arc::from),
        },
        gap_topic: raw.kafka.gap_topic.as_deref().or(raw.kafka.topic.as_deref()).map(Arc::from),
        agent,
        spill,
        log: log(&raw.log),
        http: raw.http.listen.as_deref().and_then(kinds::socket).map(|listen| http::Settings { listen }),
        named,
        files,
        syslogs,
        journals,
        stamp,
        rules: Arc::from([]),
        tests: Vec::new(),
        includes,
        warnings: Vec::new(),
        shown,
    };
    rules(&mut config, lists, machine, &mut found);
    topics(&config, &mut found);
    if found.problems.is_empty() { Ok(Config { warnings: found.warnings, ..config }) } else { Err(sorted(&mut found)) }
}

/// The most headers.
const MOST_HEADERS: usize = 16;

/// `kafka.key` and `kafka.headers`.
fn stamp(raw: &RawKafka, host: &str, found: &mut Findings<'_>) -> Option<Arc<Stamp>> {
    let host = host.replace('{', "{{").replace('}', "}}");
    let mut template = |text: &str, path: &str| match Template::read(&text.replace("{host}", &host)) {
        Ok(template) => Some(template),
        Err(wrong) => {
            found.blame(path, wrong, "write {NAME} where a field goes");
            None
        }
    };
    let key = match raw.key.as_str() {
        "stream" => Some(Key::Stream),
        "round-robin" => Some(Key::None),
        text => template(text, "kafka.key").map(Key::Of),
    };
    let headers: Vec<(Arc<str>, Template)> =
        raw.headers.iter().filter_map(|(name, text)| Some((Arc::from(name.as_str()), template(text, "kafka.headers")?))).collect();
    if !raw.key.contains('{') && !matches!(key, Some(Key::Stream | Key::None)) {
        found.blame(
            "kafka.key",
            format!("{:?} would be the key of all messages", raw.key),
            "write \"stream\", \"round-robin\", or a text with a {FIELD} in it",
        );
    }
    for name in raw.headers.keys().filter(|name| name.starts_with("logferry-")) {
        found.blame("kafka.headers", format!("{name:?} is a name of logferry's own headers"), "name it otherwise");
    }
    if raw.headers.len() > MOST_HEADERS {
        found.blame("kafka.headers", format!("there are more than {MOST_HEADERS} headers"), "leave some out: each message bears them all");
    }
    Stamp::new(key?, headers).map(Arc::new)
}

/// The rules, and what of sources depends on them.
fn rules(config: &mut Config, lists: (Vec<Node>, Vec<Node>), machine: &Machine<'_>, found: &mut Findings<'_>) {
    let raw = config.encode.format == Format::Raw;
    (config.rules, config.tests) = super::rules::judge(lists, (&config.types(), raw), machine, &mut found.problems);
    for file in config.files.iter_mut().filter(|file| file.multiline.is_none()) {
        file.multiline = super::rules::joined_for(&config.rules, &file.name);
    }
    for (source, names, origin) in std::mem::take(&mut found.shed_first) {
        let first = super::rules::shed_first(&config.rules, (&source, &names), &origin, &mut found.problems);
        if let Some(settings) = config.syslogs.iter_mut().find(|settings| settings.name == source) {
            settings.shed_first = first;
        }
    }
}

/// `agent.state_dir`, whatever is wrong elsewhere.
pub(super) fn state_dir_of(collected: Collected, machine: &Machine<'_>) -> Option<PathBuf> {
    merge(collected, machine).0.extract_inner("agent.state_dir").ok()
}

/// Judges the topics together: how many there are, and that dead letters have one of their own.
fn topics(config: &Config, found: &mut Findings<'_>) {
    let mut topics = config.topics();
    let number = topics.len();
    if number > config.max_lanes {
        let wrong = format!("sources and rules name {number} topics, more than the {} that may be written to", config.max_lanes);
        found.blame("kafka.max_lanes", wrong, "raise it, or use fewer topics");
    }
    let needed = number as u64 * SPILL_OF_A_LANE;
    if config.spill.max_size < needed {
        let wrong = format!("{:?} is too small for {number} topics", units::show_size(config.spill.max_size));
        found.blame("spill.max_size", wrong, format!("write at least {:?}, 16MiB for each", units::show_size(needed)));
    }
    topics.extend(config.default_topic.iter().chain(&config.gap_topic).map(|topic| &**topic));
    if let Some(letters) = config.dead_letters.topic.as_deref().filter(|letters| topics.contains(letters)) {
        let wrong = format!("{letters:?} is written to as well, and what it refuses could not go there");
        found.blame("kafka.dead_letter_topic", wrong, "name a topic that nothing else is written to, or leave it out");
    }
}

fn sorted(found: &mut Findings<'_>) -> Problems {
    let mut problems = std::mem::take(&mut found.problems);
    problems.sort_by(|left, right| left.origin.cmp(&right.origin));
    Problems(problems)
}

/// What the walk let through and figment does not take: a defect of this crate, told rather than hidden.
pub(super) fn internal(found: &mut Findings<'_>, error: &figment::Error) -> Problems {
    let path = error.path.join(".");
    found.blame(&path, format!("not understood: {}", error.kind), "this is a defect of logferry, please report it");
    sorted(found)
}

/// Defaults, then files, then the environment; what the machine gives fills what is still open.
fn merge(collected: Collected, machine: &Machine<'_>) -> (Figment, BTreeMap<String, Origin>) {
    let Collected { mut files, environment, .. } = collected;
    // The three ways to a password exclude each other, so one from the environment replaces the files' instead of joining it.
    let is_password = |path: &String| path.starts_with("kafka.sasl.password.");
    if environment.origins.keys().any(is_password) {
        files.origins.retain(|path, _| !is_password(path));
        schema::remove(&mut files.values, &["kafka", "sasl", "password"]);
    }
    let mut origins = files.origins;
    origins.extend(environment.origins);

    let mut computed = Dict::new();
    let mut fill = |path: &'static str, value: Option<(String, &'static str)>| {
        if let (Some((value, from)), false) = (value, origins.contains_key(path)) {
            schema::insert(&mut computed, &path.split('.').collect::<Vec<_>>(), Value::from(value));
            origins.insert(path.to_owned(), Origin::Default(from));
        }
    };
    fill("agent.host", machine.hostname.clone().map(|name| (name, "the machine's name")));
    fill("agent.id", machine.machine_id.as_deref().and_then(agent_id).map(|id| (id, "the machine's id")));
    fill("agent.state_dir", state_dir(machine));
    let figment = Figment::from(Serialized::defaults(schema::defaults(None)))
        .merge(Serialized::defaults(files.values))
        .merge(Serialized::defaults(environment.values))
        .join(Serialized::defaults(computed));
    (figment, origins)
}

/// A hash instead of the machine's id itself, which is not for others to see (machine-id(5)).
fn agent_id(machine_id: &str) -> Option<String> {
    let id = machine_id.trim();
    (!id.is_empty() && id != "uninitialized").then(|| format!("{:016x}", xxh3_64(format!("{id}logferry").as_bytes())))
}

fn state_dir(machine: &Machine<'_>) -> Option<(String, &'static str)> {
    let absolute = |name: &str| machine.env.get(name).filter(|path| path.starts_with('/'));
    // systemd gives several directories with colons between; the first is logferry's.
    if let Some(path) = absolute("STATE_DIRECTORY").and_then(|paths| paths.split(':').next()) {
        return Some((path.to_owned(), "$STATE_DIRECTORY"));
    }
    if machine.root {
        return Some(("/var/lib/logferry".to_owned(), ""));
    }
    let (base, from) = match absolute("XDG_STATE_HOME") {
        Some(path) => (path.clone(), "$XDG_STATE_HOME"),
        None => (format!("{}/.local/state", absolute("HOME")?.trim_end_matches('/')), "$HOME"),
    };
    Some((format!("{}/logferry", base.trim_end_matches('/')), from))
}

fn agent(raw: &RawAgent, found: &mut Findings<'_>) -> Agent {
    if raw.host.is_none() {
        found.missing("agent.host", "this machine has no name of its own, so write one");
    }
    if raw.id.is_none() {
        found.missing("agent.id", "this machine has no /etc/machine-id, so write a name that no other agent has");
    }
    if raw.state_dir.is_none() {
        found.missing("agent.state_dir", "neither $STATE_DIRECTORY, $XDG_STATE_HOME nor $HOME is set, so write an absolute path");
    }
    let span = |time: Time| time.0.unwrap_or_default();
    Agent {
        host: raw.host.as_deref().unwrap_or_default().into(),
        id: raw.id.clone().unwrap_or_default(),
        state_dir: raw.state_dir.clone().unwrap_or_default(),
        memory: raw.memory.0,
        labels: raw.labels.clone().into_iter().collect(),
        forget_after: span(raw.forget_after),
        snapshot_interval: span(raw.snapshot_interval),
        stop_timeout: span(raw.stop_timeout),
        hold_deleted: raw.hold_deleted.0 as u64,
    }
}

fn log(raw: &RawLog) -> logging::Settings {
    let format = raw.format.as_deref().and_then(logging::Format::named);
    logging::Settings { level: Level::named(&raw.level).unwrap_or_default(), format }
}

fn spill(raw: &RawSpill, agent: &Agent) -> spill::Settings {
    spill::Settings {
        dir: agent.state_dir.join("spill"),
        max_size: raw.max_size.0 as u64,
        keep_free: raw.keep_free.0,
        after: raw.after.0.unwrap_or_default(),
        sync: raw.sync.0.unwrap_or_default(),
    }
}

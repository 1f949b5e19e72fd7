//! Every key there is, in one table: unknown keys, defaults, `check --print` and the test of `config.example.toml` come from it. Beside it the
//! raw form that figment extracts: what was written, with the defaults, before keys are judged together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::value::{Dict, Value};
use serde::Deserialize;

use super::units::{Free, Size, Time};
use crate::logging::level::Level;
use crate::source::multiline::ready;

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string that is not empty.
    Text,
    /// An absolute path.
    Path,
    /// A name of 1 to 64 of `A-Z a-z 0-9 . _ -`.
    Name,
    /// A name that Kafka takes for a topic.
    Topic,
    /// One of `now`; `later` are words that a later version knows.
    Choice {
        /// What is accepted.
        now: &'static [&'static str],
        /// What is refused as not being in this version.
        later: &'static [&'static str],
    },
    /// A size within limits, bytes.
    Size {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A time of `min` to `max` milliseconds; with `off`, also `"off"` and `"never"`.
    Time {
        /// Least, milliseconds.
        min: u64,
        /// Most, milliseconds.
        max: u64,
        /// Whether it can be switched off.
        off: bool,
    },
    /// What is left free of a file system: a size, or 0 to `most` per cent of it.
    Free {
        /// Most, per cent.
        most: u8,
    },
    /// A whole number within limits.
    Count {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// A list of `host:port`, or one comma-separated string.
    Servers,
    /// A list of at least `min` patterns of paths.
    Patterns {
        /// Least.
        min: usize,
    },
    /// A list of at least one address to listen at.
    Addresses,
    /// An IP address and a port.
    Socket,
    /// A list of networks.
    Networks,
    /// The mode of a file, octal.
    Mode,
    /// A time zone.
    Zone,
    /// A list of strings that are not empty.
    Words,
    /// A list of `FIELD=value`.
    Matches,
    /// A list of names of fields of the journal.
    Fields,
    /// A priority, or `FROM..TO`.
    Priority,
    /// A regex.
    Regex,
    /// The name of an encoding.
    Encoding,
    /// A table of strings.
    Texts,
    /// A table of librdkafka's properties.
    Properties,
}

/// What holds when a key is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// It must be set.
    Required,
    /// Nothing, or what `resolve.rs` makes of the machine or of other keys.
    Nothing,
    /// This value, as it would be written (numbers without quotes).
    Default(&'static str),
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its dotted path; keys of `[[source]]` begin with `source.`.
    pub path: &'static str,
    /// The types of sources that have it; empty: all of them, or it is no key of a source.
    pub of: &'static [&'static str],
    /// What it takes.
    pub kind: Kind,
    /// What holds when it is not set.
    pub unset: Unset,
    /// What it is, in a line; it stands in `config.example.toml`.
    pub doc: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The tables there are, and how each is written.
pub const TABLES: &[(&str, &str)] = &[
    ("agent", "write [agent]"),
    ("kafka", "write [kafka]"),
    ("kafka.tls", "write [kafka.tls]"),
    ("kafka.sasl", "write [kafka.sasl]"),
    ("kafka.sasl.password", "a password never stands here itself: write { file = \"…\" }, { credential = \"…\" } or { env = \"…\" }"),
    ("spill", "write [spill]"),
    ("http", "write [http]"),
    ("log", "write [log]"),
    ("source", "write [[source]]"),
    ("rule", "write [[rule]]"),
    ("test", "write [[test]]"),
    ("source.multiline", "write multiline = { preset = \"java\" }, or start = '…', continue = '…' or end = '…' in it"),
    ("source.tls", "write tls = { cert_file = \"…\", key_file = \"…\" }"),
];

/// Those of which there may be several. What stands in a rule or a test of one is in [`super::rules`].
pub const LISTS: [&str; 3] = ["source", "rule", "test"];

const fn entry(path: &'static str, kind: Kind, unset: Unset, doc: &'static str) -> Key {
    Key { path, of: &[], kind, unset, doc }
}

/// A key that only sources of these types have.
const fn only(of: &'static [&'static str], key: Key) -> Key {
    Key { of, ..key }
}

const FILE: &[&str] = &["file"];
const SYSLOG: &[&str] = &["syslog"];
const LINES: &[&str] = &["file", "syslog"];
const JOURNALD: &[&str] = &["journald"];

const fn time(min: u64) -> Kind {
    Kind::Time { min, max: u64::MAX, off: false }
}

const OPTIONAL_TIME: Kind = Kind::Time { min: 1, max: u64::MAX, off: true };
const COMPRESSION: Kind = Kind::Choice { now: &["none", "gzip", "snappy", "lz4", "zstd"], later: &[] };
const COMPRESSED: Kind = Kind::Choice { now: &["continue", "read"], later: &[] };
const PRESET: Kind = Kind::Choice { now: &ready::NAMES, later: &[] };
const DELIVERY: Kind = Kind::Choice { now: &["at-least-once"], later: &["exactly-once"] };
const FORMAT: Kind = Kind::Choice { now: &["raw", "json", "ecs", "otlp"], later: &[] };
const MECHANISM: Kind = Kind::Choice { now: &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], later: &[] };
const SOURCE_TYPE: Kind = Kind::Choice { now: &["file", "syslog", "journald"], later: &[] };
const TOO_LONG: Kind = Kind::Choice { now: &["split", "truncate"], later: &[] };
const WHEN_FULL: Kind = Kind::Choice { now: &["block", "shed"], later: &[] };
const BOOT: Kind = Kind::Choice { now: &["all", "current"], later: &[] };
const KERNEL: Kind = Kind::Choice { now: &["also", "only", "not"], later: &[] };
const LEVEL: Kind = Kind::Choice { now: &Level::NAMES, later: &[] };
const LOG_FORMAT: Kind = Kind::Choice { now: &["text", "json", "journal"], later: &[] };
const START_AT: Kind = Kind::Choice { now: &["beginning", "end"], later: &[] };

use Unset::{Default as Is, Nothing, Required};

/// Every key, in the order in which it is printed.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    entry("agent.host", Kind::Text, Nothing, "The name under which this machine's events go. Default: the machine's name."),
    entry("agent.id", Kind::Name, Nothing, "What tells this agent from every other. Default: made from the machine's id."),
    entry("agent.state_dir", Kind::Path, Nothing, "Where logferry keeps its state. Default: $STATE_DIRECTORY, else /var/lib/logferry for root, else $XDG_STATE_HOME/logferry or ~/.local/state/logferry."),
    entry("agent.memory", Kind::Size { min: 4 * MIB, max: 1 << 40 }, Is("24MiB"), "How many bytes of events may be held in memory, from reading to acknowledgement. Beyond it, files wait. At least 4MiB."),
    entry("agent.forget_after", time(1_000), Is("7d"), "A file that is gone, with nothing pending, is forgotten after this long."),
    entry("agent.snapshot_interval", time(10), Is("1s"), "How often positions and counts are stored while something moves."),
    entry("agent.stop_timeout", time(0), Is("20s"), "How long a stop may take to deliver what was read."),
    entry("agent.hold_deleted", Kind::Size { min: MIB, max: 1 << 50 }, Is("10GiB"), "How much disk deleted files may hold until they are read; beyond it the oldest is let go, counted and told as a gap. At least 1MiB."),
    entry("agent.labels", Kind::Texts, Nothing, "Sent with every event, in every format but raw."),

    entry("kafka.bootstrap_servers", Kind::Servers, Required, "Brokers to begin with, as host:port; a list, or one comma-separated string."),
    entry("kafka.topic", Kind::Topic, Nothing, "Where events go whose source names no topic. Required unless every source names one."),
    entry("kafka.delivery", DELIVERY, Is("at-least-once"), "After a crash events may come twice, but none is missing."),
    entry("kafka.compression", COMPRESSION, Is("lz4"), "none, gzip, snappy, lz4 or zstd."),
    entry("kafka.format", FORMAT, Is("json"), "raw: the line as it is. json: an object with time, host, source, path and more. ecs, otlp: the same for Elastic and OpenTelemetry."),
    entry("kafka.max_event", Kind::Size { min: KIB, max: 64 * MIB }, Is("900KiB"), "The largest message; a longer event goes in parts. Keep it below the topic's max.message.bytes. 1KiB to 64MiB."),
    entry("kafka.max_lanes", Kind::Count { min: 1, max: 1000 }, Is("20"), "How many topics may be written to; each takes a queue and a connection of its own."),
    entry("kafka.max_rate", Kind::Size { min: KIB, max: 1 << 40 }, Nothing, "How many bytes a second may be sent, all topics together, in fair turns. Default: as many as Kafka takes."),
    entry("kafka.dead_letter_topic", Kind::Topic, Nothing, "Where a record goes that Kafka refuses for its size or content; no other topic's name. Default: files under dead-letters in state_dir."),
    entry("kafka.gap_topic", Kind::Topic, Nothing, "Where records go that say what was lost. Default: kafka.topic."),
    entry("kafka.key", Kind::Text, Is("stream"), "The key of messages, which chooses the partition: stream keeps the order of a log; a text with {FIELD}s in it keeps that of what has the same text; round-robin spreads batches over partitions and keeps none."),
    entry("kafka.headers", Kind::Texts, Nothing, "Headers of messages, texts with {FIELD}s in them. Default: none. They treble what a message costs."),
    entry("kafka.tls.ca_file", Kind::Path, Nothing, "Certificates of the authorities to trust (PEM). Default: the system's."),
    entry("kafka.tls.cert_file", Kind::Path, Nothing, "This client's own certificate (PEM); needs key_file."),
    entry("kafka.tls.key_file", Kind::Path, Nothing, "The key of cert_file (PEM)."),
    entry("kafka.sasl.mechanism", MECHANISM, Nothing, "PLAIN (only with TLS), SCRAM-SHA-256 or SCRAM-SHA-512."),
    entry("kafka.sasl.username", Kind::Text, Nothing, "The user to sign in as."),
    entry("kafka.sasl.password.file", Kind::Path, Nothing, "The password is what this file holds; one of file, credential and env."),
    entry("kafka.sasl.password.credential", Kind::Name, Nothing, "The password is in this file under $CREDENTIALS_DIRECTORY (systemd's LoadCredential=)."),
    entry("kafka.sasl.password.env", Kind::Text, Nothing, "The password is in this environment variable."),
    entry("kafka.librdkafka", Kind::Properties, Nothing, "Anything else librdkafka knows, except what would break a promise or has a key above."),

    entry("spill.max_size", Kind::Size { min: 64 * MIB, max: 1 << 50 }, Is("2GiB"), "How much disk all topics together may take while Kafka doesn't; beyond it sources wait. At least 64MiB, and 16MiB for each topic."),
    entry("spill.after", time(100), Is("5s"), "What Kafka has not acknowledged for this long goes to disk. At least 100ms."),
    entry("spill.sync", Kind::Time { min: 1, max: 10_000, off: false }, Is("100ms"), "How often what was written to disk is made durable. 1ms to 10s."),
    entry("spill.keep_free", Kind::Free { most: 90 }, Is("10%"), "What is left free of the file system for others: per cent of it (0% to 90%), or a size."),

    entry("http.listen", Kind::Socket, Nothing, "Where /metrics, /healthz, /readyz and /status are served, to anybody who can connect: an IP address and a port. Default: nowhere."),

    entry("log.level", LEVEL, Is("info"), "What logferry logs about itself: error, warn, info, debug or trace. $LOGFERRY_LOG wins over it."),
    entry("log.format", LOG_FORMAT, Nothing, "text: lines. json: an object a line. journal: entries of the journal with fields. Default: journal where standard error leads to it, else text."),

    entry("source.name", Kind::Name, Required, "Its name in events and counts; unique."),
    entry("source.type", SOURCE_TYPE, Required, "file: lines of files. syslog: messages from the network and local sockets. journald: the systemd journal."),
    only(FILE, entry("source.include", Kind::Patterns { min: 1 }, Required, "Files to read: absolute paths with *, ?, [a-z], {a,b} and ** for any depth.")),
    only(FILE, entry("source.exclude", Kind::Patterns { min: 0 }, Nothing, "Files not to read, though include names them.")),
    entry("source.topic", Kind::Topic, Nothing, "Where its events go. Default: kafka.topic."),
    entry("source.expect_every", OPTIONAL_TIME, Is("off"), "No event for longer than this is a warning, a metric and a record of type quiet; \"off\" expects nothing."),
    only(FILE, entry("source.start_at", START_AT, Is("beginning"), "For files that exist when this source first runs: beginning or end. Later files are read from their first byte.")),
    only(FILE, entry("source.ignore_older", OPTIONAL_TIME, Is("7d"), "Files last written longer ago than this when this source first runs are left out; \"off\" reads all.")),
    only(FILE, entry("source.partial_line_timeout", OPTIONAL_TIME, Is("off"), "Ship a last line without a newline after this long; \"off\" waits for its end.")),
    only(FILE, entry("source.rescan_interval", time(100), Is("30s"), "How often the directories are searched, whatever the watcher said. At least 100ms.")),
    only(FILE, entry("source.compressed", COMPRESSED, Is("continue"), "Compressed files: continue only finishes a file that was read before it was compressed; read reads every one.")),
    only(FILE, entry("source.encoding", Kind::Encoding, Nothing, "What its files are written in: utf-16 (as its mark says), utf-16le, utf-16be, latin1, windows-1252, shift_jis, gbk and others; shipped as UTF-8. Default: bytes are shipped as they are.")),
    only(LINES, entry("source.multiline.preset", PRESET, Nothing, "Lines that belong together are one event: log lines with their stack traces, by ready patterns for java, python, go, ruby, node, dotnet or postgres.")),
    only(LINES, entry("source.multiline.start", Kind::Regex, Nothing, "Instead of a preset, patterns of one's own, at least one: a line that matches begins an event.")),
    only(LINES, entry("source.multiline.continue", Kind::Regex, Nothing, "Only lines that match are joined to the one before. Default: all that begin no event.")),
    only(LINES, entry("source.multiline.end", Kind::Regex, Nothing, "A line that matches is the last one of its event.")),
    only(LINES, entry("source.multiline.max_lines", Kind::Count { min: 2, max: 100_000 }, Nothing, "An event has no more lines; those behind begin another. 2 to 100000, default: 1000.")),
    only(LINES, entry("source.multiline.max_size", Kind::Size { min: KIB, max: MIB }, Nothing, "Nor is it made longer by joining. 1KiB to 1MiB, default: 256KiB.")),
    only(LINES, entry("source.multiline.timeout", Kind::Time { min: 10, max: 600_000, off: false }, Nothing, "Without another line for so long it is complete. 10ms to 10m, default: 1s.")),
    only(SYSLOG, entry("source.listen", Kind::Addresses, Required, "Where it listens: udp://, tcp://, tls:// and relp:// with an IP address and port, unix:// and unixgram:// with a path, systemd:// with a name.")),
    only(SYSLOG, entry("source.when_full", WHEN_FULL, Nothing, "What happens without room: block lets senders wait, shed refuses the least important and counts them. Default: shed for udp and unixgram, block for the others.")),
    only(SYSLOG, entry("source.shed_first", Kind::Words, Nothing, "Names of rules: messages for which their conditions hold are refused before all others, from 80 % of the room on, where something is refused.")),
    only(SYSLOG, entry("source.timezone", Kind::Zone, Is("UTC"), "The zone of times that name none: UTC, local, or a name as Europe/Berlin.")),
    only(SYSLOG, entry("source.max_message_size", Kind::Size { min: KIB, max: 16 * MIB }, Is("64KiB"), "The longest message. 1KiB to 16MiB.")),
    only(SYSLOG, entry("source.too_long", TOO_LONG, Is("split"), "A longer message: split ships it in parts, truncate cuts its end off and counts that.")),
    only(SYSLOG, entry("source.max_connections", Kind::Count { min: 1, max: 1_000_000 }, Is("1000"), "Connections at a time; one more is closed, said and counted.")),
    only(SYSLOG, entry("source.idle_timeout", OPTIONAL_TIME, Is("10m"), "A connection on which nothing comes for so long is closed; \"off\" leaves it open.")),
    only(SYSLOG, entry("source.handshake_timeout", time(100), Is("10s"), "How long the handshake of TLS may take. At least 100ms.")),
    only(SYSLOG, entry("source.receive_buffer", Kind::Size { min: 64 * KIB, max: 1 << 30 }, Is("16MiB"), "What the kernel is to keep for each UDP socket; what does not fit it drops, and that is counted. 64KiB to 1GiB.")),
    only(SYSLOG, entry("source.udp_sockets", Kind::Count { min: 1, max: 64 }, Is("1"), "Sockets, and threads, for each UDP address; the kernel spreads senders among them.")),
    only(SYSLOG, entry("source.allow", Kind::Networks, Nothing, "Who may send over the network. Default: everybody.")),
    only(SYSLOG, entry("source.peer_rate", Kind::Count { min: 1, max: 1_000_000_000 }, Nothing, "Messages a second that each sender may send; what is beyond is refused and counted. Default: as many as it likes.")),
    only(SYSLOG, entry("source.socket_mode", Kind::Mode, Is("0666"), "The mode of unix:// and unixgram:// sockets.")),
    only(SYSLOG, entry("source.socket_owner", Kind::Text, Nothing, "Their owner and group, as user:group. Default: this process's.")),
    only(SYSLOG, entry("source.tls.cert_file", Kind::Path, Nothing, "The server's certificate and those above it (PEM), for tls://. Read again when it changes.")),
    only(SYSLOG, entry("source.tls.key_file", Kind::Path, Nothing, "The key of cert_file (PEM).")),
    only(SYSLOG, entry("source.tls.client_ca_file", Kind::Path, Nothing, "Senders need a certificate of one of these authorities (PEM). Default: they need none.")),
    only(JOURNALD, entry("source.units", Kind::Words, Nothing, "Units whose entries are shipped, and those about them, as journalctl -u shows; patterns as nginx* too. Default: all.")),
    only(JOURNALD, entry("source.identifiers", Kind::Words, Nothing, "Only entries of these programs (SYSLOG_IDENTIFIER), as journalctl -t.")),
    only(JOURNALD, entry("source.priority", Kind::Priority, Nothing, "Only entries of this priority and worse ones, as journalctl -p; or a range, as err..info.")),
    only(JOURNALD, entry("source.matches", Kind::Matches, Nothing, "Only entries with these fields: FIELD=value. Values of one field are alternatives, several fields must all hold.")),
    only(JOURNALD, entry("source.kernel", KERNEL, Is("also"), "Kernel messages: also like others, only they (journalctl -k), or not.")),
    only(JOURNALD, entry("source.boot", BOOT, Is("all"), "Entries of all boots, or only of the current one.")),
    only(JOURNALD, entry("source.start_at", START_AT, Is("end"), "For journals that exist when this source first runs: beginning or end. Later ones are read from their first entry.")),
    only(JOURNALD, entry("source.namespace", Kind::Text, Nothing, "The journal of this namespace, or \"*\" for all. Default: that of the machine itself.")),
    only(JOURNALD, entry("source.directory", Kind::Path, Nothing, "Journals in this directory, remote ones too. Default: this machine's in /run/log/journal and /var/log/journal.")),
    only(JOURNALD, entry("source.fields", Kind::Fields, Nothing, "Ship only these fields, beside MESSAGE. Default: all.")),
    only(JOURNALD, entry("source.exclude_fields", Kind::Fields, Nothing, "Don't ship these fields.")),
];

impl Key {
    /// Whether sources of this type have it; of `None` it is not known which type is meant.
    #[must_use]
    pub fn is_of(&self, kind: Option<&str>) -> bool {
        self.of.is_empty() || kind.is_none_or(|kind| self.of.contains(&kind))
    }

    /// Whether it belongs to a source (of this type), or (`None`) to anything else.
    #[must_use]
    pub fn is_in(&self, source: Option<&str>) -> bool {
        self.path.starts_with("source.") == source.is_some() && self.is_of(source)
    }
}

/// The key of this path, for sources of this type; of `None` it is not known which type is meant.
#[must_use]
pub fn key(path: &str, kind: Option<&str>) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path && key.is_of(kind))
}

/// What is a type of sources.
#[must_use]
pub fn is_source_type(word: &str) -> bool {
    matches!(SOURCE_TYPE, Kind::Choice { now, .. } if now.contains(&word))
}

/// How a table of this path is written; `None` if there is none.
#[must_use]
pub fn table(path: &str) -> Option<&'static str> {
    TABLES.iter().find(|(name, _)| *name == path).map(|(_, right)| *right)
}

/// The names that may stand in the table of this path (`""` for the root), for sources of this type.
pub fn names<'a>(path: &'a str, kind: Option<&'a str>) -> impl Iterator<Item = &'static str> + 'a {
    let paths = KEYS.iter().filter(move |key| key.is_of(kind)).map(|key| key.path).chain(TABLES.iter().map(|(name, _)| *name));
    paths.filter_map(move |full| {
        let rest = if path.is_empty() { full } else { full.strip_prefix(path)?.strip_prefix('.')? };
        (!rest.contains('.')).then_some(rest)
    })
}

/// Whether a name (or a line of text) may stand for a secret, so that its value is never shown.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["pass", "secret", "pem"].iter().any(|word| name.contains(word))
}

/// The defaults: of one source of type `source`, or of everything but the sources.
#[must_use]
pub fn defaults(source: Option<&str>) -> Dict {
    let mut root = Dict::new();
    for key in KEYS.iter().filter(|key| key.is_in(source)) {
        if let Unset::Default(text) = key.unset {
            let value = match key.kind {
                Kind::Count { .. } => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
                _ => Value::from(text),
            };
            let path = key.path.strip_prefix("source.").unwrap_or(key.path);
            insert(&mut root, &path.split('.').collect::<Vec<_>>(), value);
        }
    }
    root
}

/// Puts a value under a path, making tables on the way.
pub fn insert(root: &mut Dict, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => drop(root.insert((*name).to_owned(), value)),
        [first, rest @ ..] => {
            let inner = root.entry((*first).to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, table) = inner {
                insert(table, rest, value);
            }
        }
    }
}

/// Takes out what is under a path, if anything is.
pub fn remove(root: &mut Dict, path: &[&str]) {
    match path {
        [] => {}
        [name] => drop(root.remove(*name)),
        [first, rest @ ..] => {
            if let Some(Value::Dict(_, table)) = root.get_mut(*first) {
                remove(table, rest);
            }
        }
    }
}

/// What figment extracts of everything but the sources. What must be set is optional here: it may be missing while mistakes are listed.
/// No `Debug`: librdkafka's properties may hold secrets.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct Raw {
    pub agent: RawAgent,
    pub kafka: RawKafka,
    pub spill: RawSpill,
    #[serde(default)]
    pub http: RawHttp,
    pub log: RawLog,
}

/// `[agent]`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawAgent {
    pub host: Option<String>,
    pub id: Option<String>,
    pub state_dir: Option<PathBuf>,
    pub memory: Size,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub forget_after: Time,
    pub snapshot_interval: Time,
    pub stop_timeout: Time,
    pub hold_deleted: Size,
}

/// `[kafka]`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawKafka {
    pub bootstrap_servers: Option<Servers>,
    pub topic: Option<String>,
    pub compression: String,
    pub format: String,
    pub max_event: Size,
    pub max_lanes: usize,
    pub max_rate: Option<Size>,
    pub dead_letter_topic: Option<String>,
    pub gap_topic: Option<String>,
    pub tls: Option<RawTls>,
    pub sasl: Option<RawSasl>,
    pub key: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub librdkafka: BTreeMap<String, String>,
}

/// `[spill]`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawSpill {
    pub max_size: Size,
    pub after: Time,
    pub sync: Time,
    pub keep_free: Free,
}

/// `[http]`.
#[derive(Default, Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawHttp {
    pub listen: Option<String>,
}

/// `[log]`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawLog {
    pub level: String,
    pub format: Option<String>,
}

/// `kafka.bootstrap_servers` in either form.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Servers {
    /// One comma-separated string.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// `[kafka.tls]`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawTls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// `[kafka.sasl]`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawSasl {
    pub mechanism: Option<String>,
    pub username: Option<String>,
    #[serde(default)]
    pub password: RawPassword,
}

/// Where the password is; never the password.
#[derive(Default, Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawPassword {
    pub file: Option<PathBuf>,
    pub credential: Option<String>,
    pub env: Option<String>,
}

/// What every `[[source]]` has.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawSource {
    pub name: Option<String>,
    pub topic: Option<String>,
    pub expect_every: Time,
}

/// A `[[source]]` of type `syslog`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawSyslog {
    #[serde(default)]
    pub listen: Vec<String>,
    pub when_full: Option<String>,
    #[serde(default)]
    pub shed_first: Vec<String>,
    pub timezone: String,
    pub max_message_size: Size,
    pub too_long: String,
    pub max_connections: usize,
    pub idle_timeout: Time,
    pub handshake_timeout: Time,
    pub receive_buffer: Size,
    pub udp_sockets: usize,
    #[serde(default)]
    pub allow: Vec<String>,
    pub peer_rate: Option<u32>,
    pub socket_mode: String,
    pub socket_owner: Option<String>,
    #[serde(default)]
    pub tls: Option<RawServerTls>,
    pub multiline: Option<RawMultiline>,
}

/// `tls` of such a source.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawServerTls {
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
}

/// A `[[source]]` of type `journald`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawJournald {
    #[serde(default)]
    pub units: Vec<String>,
    #[serde(default)]
    pub identifiers: Vec<String>,
    pub priority: Option<String>,
    #[serde(default)]
    pub matches: Vec<String>,
    pub kernel: String,
    pub boot: String,
    pub start_at: String,
    pub namespace: Option<String>,
    pub directory: Option<PathBuf>,
    #[serde(default)]
    pub fields: Vec<String>,
    #[serde(default)]
    pub exclude_fields: Vec<String>,
}

/// A `[[source]]` of type `file`.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawFile {
    #[serde(default)]
    pub include: Vec<String>,
    #[serde(default)]
    pub exclude: Vec<String>,
    pub start_at: String,
    pub ignore_older: Time,
    pub partial_line_timeout: Time,
    pub rescan_interval: Time,
    pub compressed: String,
    pub encoding: Option<String>,
    pub multiline: Option<RawMultiline>,
}

/// `multiline` of such a source.
#[derive(Deserialize)]
#[expect(missing_docs, reason = "the table says what each key is")]
pub struct RawMultiline {
    pub preset: Option<String>,
    pub start: Option<String>,
    #[serde(rename = "continue")]
    pub next: Option<String>,
    pub end: Option<String>,
    pub max_lines: Option<usize>,
    pub max_size: Option<Size>,
    pub timeout: Option<Time>,
}

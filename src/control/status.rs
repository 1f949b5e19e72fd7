//! What the daemon tells of itself: the figures of `logferry status`, as data. What `--json` prints is exactly this. Pure: filled in by
//! [`crate::operator`], drawn by [`crate::cli::status`].
//!
//! A field that one side does not know yet is left out or zero, so that a command and a daemon of two releases still understand each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::batch::StreamId;
use crate::ledger::Count;

/// Events and their source bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    /// Events.
    pub events: u64,
    /// Bytes of the source, line ends included.
    pub bytes: u64,
}

impl From<Count> for Amount {
    fn from(count: Count) -> Amount {
        Amount { events: count.events, bytes: count.bytes }
    }
}

impl Amount {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Amount::default()
    }
}

/// What was never read, for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unread {
    /// Events, where they can be counted.
    pub events: u64,
    /// Bytes, where they can.
    pub bytes: u64,
    /// Times that something was missed of which nobody knows how much.
    pub unknown: u64,
}

/// The books of one source: `read` is the sum of the amounts after it, up to `lost`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// Its type, as in the configuration.
    #[serde(rename = "type")]
    pub kind: String,
    /// All that was read.
    pub read: Amount,
    /// Acknowledged by Kafka.
    pub delivered: Amount,
    /// Left out by a rule.
    pub filtered: Amount,
    /// The same by the rule's name, with the bytes that the events had.
    pub filtered_by: BTreeMap<String, Amount>,
    /// Joined into another event.
    pub merged: Amount,
    /// In the dead letters.
    pub dead_lettered: Amount,
    /// On its way, in memory or in the spill.
    pub pending: Amount,
    /// Lost, by reason.
    pub lost: BTreeMap<String, Amount>,
    /// Never read, by reason.
    pub missed: BTreeMap<String, Unread>,
    /// Sent more than once.
    pub resent: Amount,
    /// Files that were read although they may repeat others.
    pub possible_duplicates: u64,
    /// Bytes that are there and not settled.
    pub lag_bytes: u64,
    /// Files that are there.
    pub files: u64,
    /// What its arrival log takes of the disk, bytes; part of what the spills take together.
    pub arrivals_bytes: u64,
    /// Why its arrival log takes nothing more, or not everything.
    pub arrivals_full: Option<String>,
    /// What it accepts is in memory alone: its arrival log can't be written.
    pub unprotected: bool,
}

/// What a lane is doing, in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// Nothing to send.
    #[default]
    Idle,
    /// Sending.
    Open,
    /// Waiting for a broker.
    Connecting,
    /// Waiting for a person.
    Blocked,
    /// Stopped by an operator.
    Paused,
    /// A word that this release does not know.
    #[serde(other)]
    Unknown,
}

/// A lane's buffer on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneSpill {
    /// What it takes of the disk.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
    /// What of it Kafka does not have yet.
    pub pending: Amount,
    /// When the oldest of that was written, RFC 3339.
    pub oldest: Option<String>,
}

/// One lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lane {
    /// What it is doing.
    pub condition: Doing,
    /// Why it is blocked, in one fixed word.
    pub reason: Option<String>,
    /// What it waits for, with the remedy.
    pub words: Option<String>,
    /// Its buffer on disk.
    pub spill: LaneSpill,
}

/// All lanes' buffers on disk together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spill {
    /// What they take of the disk.
    pub bytes: u64,
    /// What they may take.
    pub max_bytes: u64,
    /// When that is reached at the present rate; `None`: it does not grow.
    pub full_in_seconds: Option<u64>,
    /// Why nothing more is written: `max_size`, `keep_free`, `no_space`, `broken`.
    pub full: Option<String>,
}

/// Records of what was lost or missed, bound for Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gaps {
    /// Not sent yet.
    pub waiting: u64,
    /// Acknowledged.
    pub sent: u64,
    /// What was noticed last since the daemon began, the newest first; a few.
    pub last: Vec<LastGap>,
}

/// Something that was lost or missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastGap {
    /// When it was noticed, RFC 3339.
    pub at: String,
    /// The source.
    pub source: String,
    /// Whether something is gone that was to be shipped; else it was left out on purpose or held nothing.
    pub error: bool,
    /// What, where and why.
    pub words: String,
}

/// The byte budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Bytes.
    pub used: u64,
    /// `agent.memory`, bytes.
    pub limit: u64,
}

/// The last time that the configuration was read anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// How often that was, refused ones included.
    pub number: u64,
    /// Whether the last one holds; `None`: there was none.
    pub successful: Option<bool>,
    /// When it was, seconds since 1970.
    pub at_s: Option<u64>,
    /// When the last one was that holds.
    pub good_s: Option<u64>,
    /// Why the last one was refused: all mistakes, a line each.
    pub refused: Option<String>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The release of the daemon, or of the command that looked at a stopped one.
    pub version: String,
    /// The agent's id.
    pub agent: String,
    /// The host under which its events go.
    pub host: String,
    /// Whether a daemon runs; if not, this is what its last snapshot held.
    pub running: bool,
    /// Whether every event is accounted for.
    pub balanced: bool,
    /// What does not add up, in words.
    pub out_of_balance: Vec<String>,
    /// By name.
    pub sources: BTreeMap<String, Source>,
    /// By topic.
    pub lanes: BTreeMap<String, Lane>,
    /// On disk.
    pub spill: Spill,
    /// Records of loss.
    pub gaps: Gaps,
    /// In memory.
    pub memory: Memory,
    /// Of the configuration.
    pub reload: Reload,
    /// The rules in their order; none of a stopped daemon.
    pub rules: Vec<Rule>,
}

/// What a rule has done since the start, over all sources, in events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Its condition held.
    pub matched: u64,
    /// It left them out.
    pub dropped: u64,
    /// It changed them.
    pub changed: u64,
    /// It could not do what it is for.
    pub errors: u64,
}

/// One stream, as `positions` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Where its file was last seen; what is not UTF-8 in it is shown as U+FFFD.
    pub path: String,
    /// Where it was first seen, by which its key is made.
    pub first_path: String,
    /// `live`, `rotated`, `gone` or `copy`.
    pub state: String,
    /// All before it is settled.
    pub offset: u64,
    /// The size last seen, bytes.
    pub size: u64,
    /// Bytes that are there and not settled.
    pub lag: u64,
    /// The topic of its source, where the configuration still has it.
    pub lane: Option<String>,
    /// The topics it is sent to.
    pub feeds: BTreeMap<String, Feed>,
    /// When its file was last seen, RFC 3339.
    pub seen: String,
    /// By what its file is recognised.
    pub evidence: Evidence,
    /// Where it stands, if it is one of the systemd journal; its offset and size count the bytes of its events then.
    pub journal: Option<Journal>,
}

/// Where a stream of the systemd journal stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// All entries up to this number are settled.
    pub number: u64,
    /// The last of them that was read, as journalctl takes it; empty: none was read yet.
    pub cursor: String,
    /// The boot in which it was written; empty likewise.
    pub boot: String,
    /// When journald received it, RFC 3339; empty likewise.
    pub received: String,
    /// The id of the counter that its numbers come from.
    pub counter: String,
}

/// How a stream stands with one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    /// The number of partitions that fixes the stream's own; 0 before the first send.
    pub partitions: i32,
    /// All of the stream that is settled in this topic.
    pub settled: Amount,
    /// Events that end up to here are settled too; `None`: nothing is, beyond the stream's offset.
    pub mark: Option<u64>,
}

/// By what a file is recognised, as `positions show` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When the file was made, RFC 3339, where its file system knows.
    pub born: Option<String>,
    /// How many of its first bytes the fingerprint covers.
    pub head_len: u16,
    /// Their xxh3, hexadecimal.
    pub head_hash: String,
    /// Where reading began, bytes.
    pub begun_at: u64,
    /// CRC-32C of what was read since, hexadecimal.
    pub hash: String,
    /// Where the line begins that the offset lies in.
    pub line_start: u64,
    /// How many parts of that line were made.
    pub part: u32,
    /// The bytes before the offset, as text.
    pub tail: String,
}

impl Stream {
    /// Its id as a number.
    #[must_use]
    pub fn stream_id(&self) -> Option<StreamId> {
        u64::from_str_radix(&self.id, 16).ok().map(StreamId)
    }
}

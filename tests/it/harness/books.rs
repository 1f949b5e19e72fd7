//! The books, as `logferry status --json` tells them of a daemon that runs or of one that has stopped, and the judgement on them: for each
//! source what was read is what was delivered, filtered, merged, dead-lettered, is pending or lost, and nothing else. The sum is made here anew;
//! that logferry calls its books balanced is asked for besides.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Sub};

use serde_json::Value;

/// Events and their bytes in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What became of the events of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Read.
    pub read: Count,
    /// Acknowledged by Kafka.
    pub delivered: Count,
    /// Left out by a rule.
    pub filtered: Count,
    /// Joined into another event.
    pub merged: Count,
    /// In the dead letters.
    pub dead_lettered: Count,
    /// Waiting, in memory or in the spill.
    pub pending: Count,
    /// Lost after it was read, by reason.
    pub lost: BTreeMap<String, Count>,
    /// Never read, by reason.
    pub missed: BTreeMap<String, Count>,
    /// Further copies that were sent knowingly.
    pub resent: Count,
}

/// What a lane says of itself.
#[derive(Clone, Debug)]
pub struct Lane {
    /// `idle`, `open`, `connecting`, `blocked` or `paused`.
    pub condition: String,
    /// What its spill takes of the disk, bytes.
    pub spill_bytes: u64,
    /// What waits in its spill.
    pub pending: Count,
}

/// One answer of `logferry status --json`.
#[derive(Clone, Debug)]
pub struct Status(Value);

impl Add for Count {
    type Output = Count;
    fn add(self, other: Count) -> Count {
        Count { events: self.events + other.events, bytes: self.bytes + other.bytes }
    }
}

impl Sub for Count {
    type Output = Count;
    fn sub(self, other: Count) -> Count {
        Count { events: self.events - other.events, bytes: self.bytes - other.bytes }
    }
}

impl Count {
    /// Those of a JSON object; what is not there counts as 0.
    fn of(value: &Value) -> Count {
        let number = |key: &str| value[key].as_u64().unwrap_or(0);
        Count { events: number("events"), bytes: number("bytes") }
    }

    /// By reason; reasons for which nothing is counted are left out.
    fn all_of(value: &Value) -> BTreeMap<String, Count> {
        let counted = |count: &Value| count.as_object().into_iter().flatten().any(|(_, number)| number.as_u64() != Some(0));
        let reasons = value.as_object().into_iter().flatten().filter(|(_, count)| counted(count));
        reasons.map(|(reason, count)| (reason.clone(), Count::of(count))).collect()
    }
}

impl Books {
    fn of(value: &Value) -> Books {
        Books {
            read: Count::of(&value["read"]),
            delivered: Count::of(&value["delivered"]),
            filtered: Count::of(&value["filtered"]),
            merged: Count::of(&value["merged"]),
            dead_lettered: Count::of(&value["dead_lettered"]),
            pending: Count::of(&value["pending"]),
            lost: Count::all_of(&value["lost"]),
            missed: Count::all_of(&value["missed"]),
            resent: Count::of(&value["resent"]),
        }
    }

    /// What was lost, for all reasons.
    pub fn lost(&self) -> Count {
        self.lost.values().fold(Count::default(), |sum, count| sum + *count)
    }

    /// All that can have become of what was read.
    pub fn accounted(&self) -> Count {
        self.delivered + self.filtered + self.merged + self.dead_lettered + self.pending + self.lost()
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Books { read, delivered, filtered, merged, dead_lettered, pending, lost, missed, resent } = self;
        write!(f, "read {} · delivered {} · filtered {} · merged {}", read.events, delivered.events, filtered.events, merged.events)?;
        write!(f, " · dead-lettered {} · pending {} · lost {lost:?}", dead_lettered.events, pending.events)?;
        write!(f, " · missed {missed:?} · resent {}", resent.events)
    }
}

impl Status {
    /// Reads what logferry wrote, warnings before and after the JSON left out.
    ///
    /// # Errors
    /// What it wrote instead of JSON.
    pub fn parse(text: &str) -> Result<Status, String> {
        let json = text.find('{').zip(text.rfind('}')).and_then(|(from, to)| text.get(from..=to)).unwrap_or_default();
        serde_json::from_str(json).map(Status).map_err(|error| format!("{error}: {text}"))
    }

    /// The JSON itself.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// Whether a daemon gave this answer.
    pub fn running(&self) -> bool {
        self.0["running"] == true
    }

    /// The books of all sources, by name.
    pub fn sources(&self) -> BTreeMap<String, Books> {
        let sources = self.0["sources"].as_object();
        sources.into_iter().flatten().map(|(name, books)| (name.clone(), Books::of(books))).collect()
    }

    /// The books of one source; empty if it is not known.
    pub fn source(&self, name: &str) -> Books {
        Books::of(&self.0["sources"][name])
    }

    /// What the lane of `topic` says; `None` if there is none.
    pub fn lane(&self, topic: &str) -> Option<Lane> {
        let lane = self.0["lanes"].get(topic)?;
        let spill = &lane["spill"];
        Some(Lane {
            condition: lane["condition"].as_str().unwrap_or_default().to_owned(),
            spill_bytes: spill["bytes"].as_u64().unwrap_or(0),
            pending: Count::of(&spill["pending"]),
        })
    }

    /// What all spills take of the disk, bytes.
    pub fn spill_bytes(&self) -> u64 {
        self.0["spill"]["bytes"].as_u64().unwrap_or_else(|| panic!("status tells no spill.bytes: {}", self.0))
    }

    /// Why nothing more goes to the spill: `max_size`, `keep_free`, `no_space`, `broken`; `None` while there is room.
    pub fn spill_full(&self) -> Option<String> {
        self.0["spill"]["full"].as_str().map(str::to_owned)
    }

    /// The gap records that wait, and those that were sent.
    pub fn gaps(&self) -> (u64, u64) {
        let number = |key: &str| self.0["gaps"][key].as_u64().unwrap_or(0);
        (number("waiting"), number("sent"))
    }

    /// What is wrong with the books; `None`: nothing.
    pub fn imbalance(&self) -> Option<String> {
        if self.0["balanced"] != true {
            return Some(format!("logferry calls its books out of balance: {}", self.0["out_of_balance"]));
        }
        let wrong = |books: &Books| books.read != books.accounted();
        let sources = self.sources();
        let (name, books) = sources.iter().find(|(_, books)| wrong(books))?;
        Some(format!("source {name}: read {:?} is not what is accounted for, {:?}: {books}", books.read, books.accounted()))
    }

    /// Panics unless the books balance.
    #[track_caller]
    pub fn assert_balanced(&self) {
        if let Some(wrong) = self.imbalance() {
            panic!("{wrong}\n{}", self.0);
        }
    }
}

//! What Prometheus is shown: every metric in one table, made when it is asked for, of what the parts know anyway. Pure but for `process`.
//!
//! | what | where |
//! | --- | --- |
//! | the text, and what a counter shows | [`text`] |
//! | every metric | [`FAMILIES`] |
//! | what the process costs | [`process`] |
//!
//! No label is a path, a unit, a peer or a stream: 10,000 files have as many series as one. Labels are names of the configuration (sources, topics,
//! rules) and fixed words.

mod families;
pub mod process;
#[cfg(test)]
mod tests;
pub mod text;

use std::collections::BTreeMap;

pub use families::FAMILIES;

use crate::control::status::Status;
use crate::durations::Took;
use crate::rules::Done;
use crate::source::pulse::Files;
use process::Process;
use text::{Growth, Kind, Text};

/// What is shown of a source beside its books.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Source {
    /// How long the oldest event that was read, and is neither acknowledged nor otherwise settled, has been waiting, seconds; 0 without one.
    pub lag_seconds: f64,
    /// When an event was read last, seconds since 1970; `None`: not since the start.
    pub last_event: Option<f64>,
    /// Whether it has been silent for longer than its `expect_every`; `None`: it has none.
    pub quiet: Option<bool>,
}

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What `logferry status` shows.
    pub status: Status,
    /// By name.
    pub sources: BTreeMap<String, Source>,
    /// Over all sources.
    pub files: Files,
    /// From giving a batch to the Kafka client to the brokers' acknowledgement, by topic.
    pub produced: BTreeMap<String, Took>,
    /// What each rule has done since the start, by name.
    pub rules: BTreeMap<String, Done>,
    /// Whether the configuration that was read last is the one that holds.
    pub configured: bool,
    /// What the process costs.
    pub process: Process,
}

/// A metric: what it is called, and where its samples come from.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What kind of figure it has.
    pub kind: Kind,
    /// What it is, in a line.
    pub help: &'static str,
    /// Writes its samples.
    pub samples: fn(&Figures, &mut Text<'_>),
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What counters stood at when logferry started. `figures` are the books as they were then.
#[must_use]
pub fn beginning(figures: &Figures) -> Growth {
    let mut growth = Growth::default();
    drop(render(figures, &mut growth));
    growth.begin();
    growth
}

/// The text that Prometheus reads.
#[must_use]
pub fn render(figures: &Figures, growth: &mut Growth) -> String {
    let mut text = Text::new(growth);
    for family in FAMILIES {
        text.family(family.name, family.kind, family.help);
        (family.samples)(figures, &mut text);
    }
    text.finish()
}

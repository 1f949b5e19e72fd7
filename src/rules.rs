//! Rules: what the administrator keeps, leaves out and blots out, in the order in which the rules are written. They run over a batch before
//! it is encoded. Apart because neither sources nor lanes know of them. Pure: no I/O, no clock.
//!
//! | what | where |
//! | --- | --- |
//! | whether a rule concerns an event | [`when`] |
//! | what is blotted out of a message | [`redact`] |
//! | a batch goes through the rules | [`engine`] |
//!
//! What a stream can't change (source, type, path) is decided once for it: a rule that none of its events can meet costs it nothing. An event
//! that no rule touches is not copied.

pub mod engine;
pub mod redact;
#[cfg(test)]
mod tests;
pub mod when;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redact::Redact;
use when::When;

/// One `[[rule]]`; built by `config/rules.rs`.
#[derive(Debug)]
pub struct Rule {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Which events it concerns.
    pub when: When,
    /// What becomes of them.
    pub action: Action,
    /// What it has done since the start.
    pub tally: Tally,
}

impl Rule {
    /// A rule that has done nothing yet.
    #[must_use]
    pub fn new(name: &str, when: When, action: Action) -> Rule {
        Rule { name: name.into(), when, action, tally: Tally::default() }
    }

    /// Whether both have the same name and do the same. A regex can't be compared, but its text can, which `Debug` shows.
    #[must_use]
    pub fn is_like(&self, other: &Rule) -> bool {
        let written = |rule: &Rule| format!("{:?}", (&rule.name, &rule.when, &rule.action));
        written(self) == written(other)
    }
}

/// What a rule does with the events that it concerns.
#[derive(Debug)]
pub enum Action {
    /// They are left out, and counted.
    Drop,
    /// They are shipped; later rules don't see them.
    Keep,
    /// All but one in so many are left out.
    Sample(u64),
    /// Parts of their message are replaced.
    Redact(Redact),
}

/// What one rule has done since the start, over all sources.
#[derive(Debug, Default)]
pub struct Tally {
    matched: AtomicU64,
    dropped: AtomicU64,
    changed: AtomicU64,
}

/// A [`Tally`] as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Events whose condition held.
    pub matched: u64,
    /// Events left out.
    pub dropped: u64,
    /// Events whose message was changed.
    pub changed: u64,
}

impl Tally {
    fn add(&self, done: Done) {
        self.matched.fetch_add(done.matched, Ordering::Relaxed);
        self.dropped.fetch_add(done.dropped, Ordering::Relaxed);
        self.changed.fetch_add(done.changed, Ordering::Relaxed);
    }

    /// What was done until now.
    #[must_use]
    pub fn done(&self) -> Done {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Done { matched: of(&self.matched), dropped: of(&self.dropped), changed: of(&self.changed) }
    }
}

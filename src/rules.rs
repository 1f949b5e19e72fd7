//! Rules: what the administrator keeps, leaves out and blots out, in the order in which the rules are written. They run over a batch before
//! it is encoded. Apart because neither sources nor lanes know of them. Pure: no I/O, no clock.
//!
//! | what | where |
//! | --- | --- |
//! | whether a rule concerns an event | [`when`] |
//! | what is blotted out of a message | [`redact`] |
//! | a message is taken apart, and what is found in it | [`parse`], [`fields`] |
//! | texts with fields in them | [`template`] |
//! | an event's time and severity out of its fields | [`change`] |
//! | how many events go through | [`limit`] |
//! | which topic gets an event | [`route`] |
//! | the key and headers of its message | [`stamp`] |
//! | a batch goes through the rules | [`engine`] |
//! | when errors of rules are told | [`trouble`] |
//!
//! What a stream can't change (source, type, path) is decided once for it: a rule that none of its events can meet costs it nothing. An event
//! that no rule touches is not copied.

pub mod change;
pub mod engine;
pub mod fields;
pub mod limit;
pub mod parse;
pub mod redact;
pub mod route;
pub mod stamp;
pub mod template;
#[cfg(test)]
pub(crate) mod tests;
pub mod trouble;
pub mod when;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use limit::Limit;
use parse::Form;
use redact::Redact;
use route::Route;
use stamp::Stamp;
use template::Template;
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
    /// All but one in so many are left out; with a field, all that have the same value there share one fate.
    Sample(u64, Option<Box<[u8]>>),
    /// Parts of their message and of their fields are replaced.
    Redact(Redact),
    /// Their message is taken apart into fields.
    Parse(Form),
    /// Fields get these values.
    Set(Vec<(Box<[u8]>, Template)>),
    /// Fields are taken away.
    Remove(Vec<Box<[u8]>>),
    /// Fields get other names: from, to.
    Rename(Vec<(Name, Name)>),
    /// Their time is what a field says.
    Timestamp(change::Time),
    /// They get a severity.
    Severity(Severity),
    /// More of them than so many in a time are left out, for each key.
    RateLimit(Limit, Option<Template>),
    /// They go to another topic.
    Route(Route),
}

/// The name of a field.
pub type Name = Box<[u8]>;

/// Which severity a rule gives.
#[derive(Debug)]
pub enum Severity {
    /// This one, 0 (emergency) to 7 (debug).
    Is(u8),
    /// What the word or the number in this field means.
    Of(Box<[u8]>),
}

impl Action {
    /// Whether it gives an event more than its text.
    #[must_use]
    pub fn enriches(&self) -> bool {
        matches!(self, Action::Parse(_) | Action::Set(_) | Action::Timestamp(_) | Action::Severity(_))
    }
}

/// What each rule, and the stamp, has done, by name.
pub fn tallies<'a>(rules: &'a [Rule], stamp: Option<&'a Arc<Stamp>>) -> impl Iterator<Item = (&'a Arc<str>, &'a Tally)> {
    rules.iter().map(|rule| (&rule.name, &rule.tally)).chain(stamp.map(|stamp| (&stamp.name, &stamp.tally)))
}

/// What one rule has done since the start, over all sources.
#[derive(Debug, Default)]
pub struct Tally {
    matched: AtomicU64,
    dropped: AtomicU64,
    changed: AtomicU64,
    errors: AtomicU64,
}

/// A [`Tally`] as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Events whose condition held.
    pub matched: u64,
    /// Events left out.
    pub dropped: u64,
    /// Events whose message, fields, time or severity were changed.
    pub changed: u64,
    /// Events on which it could not do what it is for: not of the form, a field that is missing, a time that can't be read.
    pub errors: u64,
}

impl Tally {
    fn add(&self, done: Done) {
        self.matched.fetch_add(done.matched, Ordering::Relaxed);
        self.dropped.fetch_add(done.dropped, Ordering::Relaxed);
        self.changed.fetch_add(done.changed, Ordering::Relaxed);
        self.errors.fetch_add(done.errors, Ordering::Relaxed);
    }

    /// What was done until now.
    #[must_use]
    pub fn done(&self) -> Done {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Done { matched: of(&self.matched), dropped: of(&self.dropped), changed: of(&self.changed), errors: of(&self.errors) }
    }
}

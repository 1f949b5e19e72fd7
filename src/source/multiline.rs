//! Which lines are one event: a stack trace and the line before it, say. What was joined is one run of bytes, from the start of its first line to
//! the end of its last one. Where an event begins is all that decides where it ends, so reading may begin at any event and joins the same
//! lines. Pure; [`super::file::split`] and [`super::syslog::frame`] ask it line by line.
//!
//! | what | where |
//! | --- | --- |
//! | patterns of the configuration | [`Own`] |
//! | ready ones for stack traces of languages, and for Postgres | [`ready`] |

pub mod ready;
#[cfg(test)]
mod tests;

use std::time::Duration;

use ready::Ready;
use regex::bytes::Regex;

use crate::rules::parse::container;

/// `multiline` of a source; built by `config/sources.rs`.
#[derive(Clone, Debug)]
pub struct Multiline {
    /// Which lines belong together.
    pub lines: Lines,
    /// An event has no more lines than this; the next one begins another.
    pub max_lines: usize,
    /// An event is not made longer than this by joining, bytes, line ends included. A line that is longer is an event of its own.
    pub max_size: usize,
    /// With no further line for this long an event is complete.
    pub timeout: Duration,
}

impl Multiline {
    /// For log files of containers, which cut lines at 16 KiB: the limits are those of `multiline`, but for a size that holds a line of 1 MiB.
    #[must_use]
    pub fn of_containers(cri: bool) -> Multiline {
        Multiline { lines: Lines::Container { cri }, max_lines: 1000, max_size: 1 << 20, timeout: Duration::from_secs(1) }
    }
}

/// A regex can't be compared, but its text can, which `Debug` shows.
impl PartialEq for Multiline {
    fn eq(&self, other: &Multiline) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Eq for Multiline {}

/// Which lines belong together.
#[derive(Clone, Debug)]
pub enum Lines {
    /// As patterns of the configuration say.
    Own(Own),
    /// As a ready set of patterns says.
    Ready(&'static Ready),
    /// Log files of containers: a line that holds a part of one says so itself.
    Container {
        /// Of the Container Runtime Interface; else of Docker.
        cri: bool,
    },
}

/// What the lines of an event so far say about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u8);

impl State {
    /// Nothing belongs to the event any more.
    pub const DONE: State = State(0);
    /// Any first line.
    const FIRST: State = State(1);

    /// Whether the event is complete, whatever comes.
    #[must_use]
    pub fn is_done(self) -> bool {
        self == State::DONE
    }
}

impl Lines {
    /// What is known after a line that begins an event.
    #[must_use]
    pub fn begin(&self, line: &[u8]) -> State {
        match self {
            Lines::Own(own) => own.begin(line),
            Lines::Ready(ready) => ready.begin(line),
            Lines::Container { cri } => parts(line, *cri),
        }
    }

    /// What is known after a line that belongs to the event before it; `None` if it begins another.
    #[must_use]
    pub fn join(&self, state: State, line: &[u8]) -> Option<State> {
        match self {
            _ if state.is_done() => None,
            Lines::Own(own) => own.join(line),
            Lines::Ready(ready) => ready.join(state, line),
            Lines::Container { cri } => Some(parts(line, *cri)),
        }
    }
}

fn parts(line: &[u8], cri: bool) -> State {
    if container::goes_on(line, cri) { State::FIRST } else { State::DONE }
}

/// Patterns of the configuration, at least one.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// A line that matches begins an event.
    pub start: Option<Regex>,
    /// Only lines that match are joined to the one before; `None`: all that begin none.
    pub next: Option<Regex>,
    /// A line that matches is the last one of its event.
    pub end: Option<Regex>,
}

impl Own {
    fn begin(&self, line: &[u8]) -> State {
        let is = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(line));
        // With a start and what follows it, lines outside stand alone; those that continue what is not there any more stay together.
        let alone = self.start.is_some() && (self.next.is_some() || self.end.is_some()) && !is(&self.start) && !is(&self.next);
        if alone || is(&self.end) { State::DONE } else { State::FIRST }
    }

    fn join(&self, line: &[u8]) -> Option<State> {
        let is = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(line));
        if is(&self.start) {
            None
        } else if is(&self.end) {
            Some(State::DONE)
        } else {
            (self.next.is_none() || is(&self.next)).then_some(State::FIRST)
        }
    }
}

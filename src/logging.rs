//! logferry's own log: where it goes, in which form, from which level on, and that a message which repeats does not fill it. On a terminal it
//! makes room for the live line of [`crate::cli::progress`].
//!
//! | what | where |
//! | --- | --- |
//! | an event as an entry of the journal, with fields | [`journal`] |
//! | which level holds, and until when | [`level`] |
//! | what repeats is held back and told with a count | [`repeats`] |

pub mod journal;
pub mod level;
pub mod repeats;

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::cli::progress;
use level::{Level, Levels};
use repeats::Repeats;

/// The variable that says what is logged, in the words of tracing (`debug`, `logferry=debug,librdkafka=info`, …); it wins over `log.level`.
const VARIABLE: &str = "LOGFERRY_LOG";

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines for people.
    Text,
    /// An object a line.
    Json,
    /// Entries of the journal with fields.
    Journal,
}

impl Format {
    /// The one that `log.format` names so.
    #[must_use]
    pub fn named(name: &str) -> Option<Format> {
        match name {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            "journal" => Some(Format::Journal),
            _ => None,
        }
    }

    /// The journal where standard error leads to it, else text.
    fn usual() -> Format {
        if journal::is_stderr() { Format::Journal } else { Format::Text }
    }
}

/// What `[log]` says; built by `config/resolve.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is less important is not logged.
    pub level: Level,
    /// `None`: as standard error suggests.
    pub format: Option<Format>,
}

/// Standard error, with the live line lifted out of the way while something is written.
#[derive(Clone, Copy, Debug)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::above_line(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr
    }
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Output = Box<dyn Layer<Filtered> + Send + Sync>;

/// What can be changed of a log that has begun.
struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    output: reload::Handle<Output, Filtered>,
    state: Mutex<(Levels, Format)>,
}

static LOG: OnceLock<Log> = OnceLock::new();
static REPEATS: Repeats = Repeats::new();

/// Begins logging at `info`, or as `LOGFERRY_LOG` says, in the form that standard error suggests. Later calls change nothing.
pub fn begin() {
    let said = std::env::var(VARIABLE).ok().filter(|said| EnvFilter::try_new(said).is_ok());
    let levels = Levels::new(said);
    let (filter, filters) = reload::Layer::new(EnvFilter::new(levels.directives()));
    let format = Format::usual();
    let (output, outputs) = reload::Layer::new(output(format));
    let begun = tracing_subscriber::registry().with(filter).with(output).with(&REPEATS).try_init();
    // Only a test that runs two daemons in one process begins twice.
    if begun.is_ok() {
        let _ = LOG.set(Log { filter: filters, output: outputs, state: Mutex::new((levels, format)) });
    }
}

fn output(format: Format) -> Output {
    let text = || fmt::layer().with_writer(Stderr).with_ansi(io::stderr().is_terminal()).with_target(false);
    match format {
        // The journal has a time of its own.
        Format::Text if journal::is_stderr() => text().without_time().boxed(),
        Format::Text => text().boxed(),
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(Stderr).boxed(),
        Format::Journal => journal::Journal::new().boxed(),
    }
}

impl Log {
    fn change(&self, change: impl FnOnce(&mut (Levels, Format))) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, form) = (state.0.directives(), state.1);
        change(&mut state);
        let (after, now) = (state.0.directives(), state.1);
        // A handle fails only when the subscriber is gone, and then nobody logs.
        if before != after {
            let _ = self.filter.reload(EnvFilter::new(&after));
        }
        if form != now {
            let _ = self.output.reload(output(now));
        }
    }
}

/// From now on as the configuration says; of a daemon, whose messages are held back where they repeat. `LOGFERRY_LOG` wins over the level, and so
/// does an operator's while it lasts.
pub fn settle(settings: &Settings) {
    REPEATS.on();
    if let Some(log) = LOG.get() {
        log.change(|(levels, format)| {
            levels.configure(settings.level);
            *format = settings.format.unwrap_or_else(Format::usual);
        });
    }
}

/// Another level for so long; then the usual one comes back by itself. Says what holds.
pub fn raise(level: Level, time: Duration, user: &str) -> String {
    if let Some(log) = LOG.get() {
        log.change(|(levels, _)| levels.raise(level, user, (Instant::now(), Timestamp::now()), time));
    }
    words()
}

/// Which level holds, why, and until when.
#[must_use]
pub fn words() -> String {
    let log = LOG.get();
    log.map_or_else(|| "Nothing is logged.".into(), |log| log.state.lock().unwrap_or_else(PoisonError::into_inner).0.words())
}

/// To be called about once a second: gives back the usual level when the time of another is up, and tells what was held back.
pub fn tick(now: Instant) {
    let mut back = None;
    if let Some(log) = LOG.get() {
        log.change(|(levels, _)| back = levels.turn_back(now));
    }
    if let Some(usual) = back {
        tracing::info!("the log is at level {usual} again");
    }
    REPEATS.tell(Some(now));
}

/// Tells what was held back, before the end.
pub fn end() {
    REPEATS.tell(None);
}

//! Which level of the log holds: the configuration's, that of `LOGFERRY_LOG`, or for a time an operator's. Pure.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// How important a message must be to be logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Something is lost, or does not work.
    Error,
    /// Something needs attention.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// How it happens.
    Debug,
    /// Every step.
    Trace,
}

impl Level {
    /// All, the most important first.
    pub const NAMES: [&'static str; 5] = ["error", "warn", "info", "debug", "trace"];
    const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Level> {
        Level::ALL.into_iter().zip(Level::NAMES).find(|(_, known)| *known == name).map(|(level, _)| level)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Level::ALL.into_iter().zip(Level::NAMES).find(|(level, _)| *level == self).map_or("info", |(_, name)| name)
    }
}

/// For so long an operator's level holds at least.
pub const LEAST: Duration = Duration::from_secs(1);
/// And at most: a forgotten `trace` ends.
pub const MOST: Duration = Duration::from_secs(24 * 3600);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// What `LOGFERRY_LOG` says.
    variable: Option<String>,
    configured: Level,
    raised: Option<Raised>,
}

/// An operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Raised {
    level: Level,
    user: String,
    until: Instant,
    /// The same by the clock, for people.
    until_time: Timestamp,
}

impl Levels {
    /// Before the configuration is known.
    #[must_use]
    pub fn new(variable: Option<String>) -> Levels {
        Levels { variable, ..Levels::default() }
    }

    /// The configuration's.
    pub fn configure(&mut self, level: Level) {
        self.configured = level;
    }

    /// An operator's, from now (by both clocks) for `time`, which is kept between [`LEAST`] and [`MOST`].
    pub fn raise(&mut self, level: Level, user: &str, (now, clock): (Instant, Timestamp), time: Duration) {
        let time = time.clamp(LEAST, MOST);
        let until_time = clock.checked_add(time).unwrap_or(clock);
        self.raised = Some(Raised { level, user: user.to_owned(), until: now + time, until_time });
    }

    /// If an operator's time is up: what holds again.
    pub fn turn_back(&mut self, now: Instant) -> Option<String> {
        self.raised.take_if(|raised| now >= raised.until)?;
        Some(self.directives())
    }

    /// What holds, for tracing's filter.
    #[must_use]
    pub fn directives(&self) -> String {
        self.raised.as_ref().map_or_else(|| self.usual().0, |raised| raised.level.name().to_owned())
    }

    /// What holds without an operator's, and where that stands.
    fn usual(&self) -> (String, &'static str) {
        let configured = || (self.configured.name().to_owned(), "log.level");
        self.variable.clone().map_or_else(configured, |said| (said, "$LOGFERRY_LOG"))
    }

    /// The same for people.
    #[must_use]
    pub fn words(&self) -> String {
        let (usual, origin) = self.usual();
        match &self.raised {
            None => format!("The log is at level {usual} ({origin})."),
            Some(Raised { level, user, until_time, .. }) => {
                format!("The log is at level {} until {until_time:.0}, as {user} asked; then {usual} ({origin}) holds again.", level.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_the_configuration_and_an_operator_over_both() {
        let (now, clock) = (Instant::now(), "2026-11-27T12:00:00Z".parse::<Timestamp>().unwrap());
        let mut levels = Levels::new(None);
        levels.configure(Level::Warn);
        assert_eq!((levels.directives(), levels.words()), ("warn".into(), "The log is at level warn (log.level).".into()));
        let mut said = Levels::new(Some("logferry=trace,info".into()));
        said.configure(Level::Warn);
        assert_eq!(said.directives(), "logferry=trace,info");
        said.raise(Level::Debug, "ann", (now, clock), Duration::from_mins(10));
        assert_eq!(said.directives(), "debug");
        assert_eq!(
            said.words(),
            "The log is at level debug until 2026-11-27T12:10:00Z, as ann asked; then logferry=trace,info ($LOGFERRY_LOG) holds again."
        );
    }

    #[test]
    fn it_goes_back_by_itself_and_at_the_latest_after_a_day() {
        let (now, clock) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut levels = Levels::new(None);
        levels.raise(Level::Trace, "ann", (now, clock), Duration::from_hours(999));
        assert_eq!(levels.turn_back(now + MOST.saturating_sub(Duration::from_secs(1))), None);
        levels.configure(Level::Error);
        assert_eq!(levels.directives(), "trace", "a reload leaves it");
        assert_eq!(levels.turn_back(now + MOST), Some("error".into()));
        assert_eq!((levels.directives(), levels.turn_back(now + MOST)), ("error".into(), None));
    }

    #[test]
    fn levels_have_names() {
        assert!(Level::NAMES.iter().all(|name| Level::named(name).is_some_and(|level| level.name() == *name)));
        assert_eq!(Level::named("loud"), None);
    }
}

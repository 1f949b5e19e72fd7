//! `logferry log-level`: the level of the running daemon's log, for a time.

use std::time::Duration;

use clap::Args;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{harmless, say};
use crate::control::protocol::Request;
use crate::logging::level::{LEAST, Level, MOST};

/// Options of `logferry log-level`.
#[derive(Debug, Args)]
pub struct Options {
    /// error, warn, info, debug or trace; without it nothing is changed
    #[arg(value_parser = Level::NAMES, hide_possible_values = true)]
    level: Option<String>,
    /// For how long, 1s to 24h
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = time)]
    time: Duration,
}

/// Asks, and says what holds.
///
/// # Errors
/// No daemon runs, or it refused.
pub fn run(desk: &Desk, options: &Options) -> Outcome {
    let request = Request::LogLevel { level: options.level.clone(), for_s: options.time.as_secs() };
    say(&format!("{}\n", harmless(&desk.text(&request)?)));
    Ok(())
}

fn time(text: &str) -> Result<Duration, String> {
    let time = crate::config::units::time(text).filter(|time| (LEAST..=MOST).contains(time));
    time.ok_or_else(|| "it is a number with a unit, 1s to 24h, such as 30s, 10m, 2h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_holds_for_a_second_to_a_day() {
        assert_eq!(time("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(time("24h"), Ok(MOST));
        assert!(time("25h").is_err() && time("0s").is_err() && time("10").is_err());
    }
}

//! `logferry drain`: waits until all that exists is acknowledged by Kafka, for scripts that move or remove a server.

use std::time::Duration;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{bytes, counted, harmless, say};
use crate::cli::progress::Task;
use crate::control::protocol::{Answer, Left, Request};

/// Waits, at most `timeout`.
///
/// # Errors
/// Something is left, or nobody sends.
pub fn run(desk: &Desk, timeout: Duration) -> Outcome {
    let task = Task::begin("draining");
    let request = Request::Drain { timeout_s: timeout.as_secs() };
    let answer = desk.ask(&request, &mut |left| task.say(&words(left)))?;
    drop(task);
    let Answer::Drained(left) = answer else { return Err("the daemon gave an answer to another question".into()) };
    let Some(left) = left else {
        say("Everything that was there is acknowledged by Kafka.\n");
        return Ok(());
    };
    let obstacles = left.blocked.iter().fold(String::new(), |text, obstacle| text + "\n  " + &harmless(obstacle));
    Err(format!(
        "The time is up, and not everything is acknowledged: {} left.{obstacles}\nThe daemon goes on sending; nothing is lost.",
        words(&left)
    ))
}

fn words(left: &Left) -> String {
    let mut parts = Vec::new();
    parts.extend((left.events > 0).then(|| format!("{} ({})", counted(left.events, "event", "events"), bytes(left.bytes))));
    parts.extend((left.unread_bytes > 0).then(|| format!("{} in files", bytes(left.unread_bytes))));
    if parts.is_empty() { "nothing".into() } else { parts.join(" and ") }
}

/// A time limit from the command line: with a unit, as in the configuration.
///
/// # Errors
/// It is none.
pub fn timeout(text: &str) -> Result<Duration, String> {
    let time = crate::config::units::time(text).filter(|time| *time >= Duration::from_secs(1));
    time.ok_or_else(|| "it is a number with a unit, at least a second, such as 30s, 5m, 2h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_words() {
        let left = Left { unread_bytes: 2048, events: 1, bytes: 100, ..Left::default() };
        assert_eq!(words(&left), "1 event (100 B) and 2 KiB in files");
        assert_eq!(words(&Left::default()), "nothing");
    }

    #[test]
    fn a_time_limit_has_a_unit() {
        assert_eq!(timeout("5m"), Ok(Duration::from_mins(5)));
        assert!(timeout("5").is_err() && timeout("10ms").is_err());
    }
}

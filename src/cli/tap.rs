//! `logferry tap`: events of one source as they flow on the running daemon, and what the rules make of them. A sample: it says how many were not
//! shown.

use clap::Args;
use jiff::Timestamp;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{Paint, bytes, count, counted, harmless, try_say};
use crate::control::protocol::{Answer, Request};
use crate::control::{self, AskError};
use crate::tap::{Flow, MOST, Seen};

/// Options of `logferry tap`.
#[derive(Debug, Args)]
pub struct Options {
    /// The name of a source
    source: String,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Show so many events a second at most, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    rate: u32,
    /// Print a JSON object a line for each event
    #[arg(long)]
    json: bool,
}

/// Shows them until it is interrupted, or so many were shown.
///
/// # Errors
/// No daemon runs, there is no such source, or the daemon has ended meanwhile.
pub fn run(desk: &Desk, options: &Options) -> Outcome {
    let request = Request::Tap { source: options.source.clone(), rate: options.rate };
    let paint = Paint::of_stdout();
    let mut left = options.count.unwrap_or(u64::MAX);
    let mut show = |flow: &Flow| {
        for seen in flow.events.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            let line = if options.json { serde_json::to_string(seen).unwrap_or_default() } else { words(seen, paint) };
            if !try_say(&format!("{line}\n")) {
                return false;
            }
        }
        if flow.skipped > 0 {
            // Not among the events: what reads those is not to meet it.
            eprintln!("{} not shown", counted(flow.skipped, "event", "events"));
        }
        left > 0
    };
    let outcome = control::follow(&desk.config().agent.state_dir, &request, &mut |answer| match answer {
        Answer::Flow(flow) => show(flow),
        _ => true,
    });
    match outcome {
        Ok(None | Some(Answer::Text(_))) => Ok(()),
        Ok(Some(Answer::Refused(why))) => Err(why),
        Ok(Some(_)) => Err("the running daemon gave an answer to another question: restart it with the release of this command".into()),
        Err(AskError::NoDaemon) => Err("No daemon runs, so nothing flows; logferry test shows what the rules make of given lines.".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// An event in a line.
fn words(seen: &Seen, paint: Paint) -> String {
    let time = Timestamp::from_nanosecond(i128::from(seen.read_ns)).map(|time| format!("{time:.3} ")).unwrap_or_default();
    let rule = seen.rule.as_ref().map(|rule| format!(" by {:?}", harmless(rule))).unwrap_or_default();
    let mut verdict = match &seen.topic {
        Some(topic) => paint.good(&format!("kept{rule}, to {}", harmless(topic))),
        None => paint.warn(&format!("dropped{rule}")),
    };
    for touch in seen.rules.iter().filter(|touch| touch.changed || touch.failed) {
        verdict.push_str(if touch.failed { ", not understood by " } else { ", changed by " });
        verdict.extend(["\"", &harmless(&touch.rule), "\""]);
    }
    let origin = if seen.origin.is_empty() { String::new() } else { format!("{} ", harmless(&seen.origin)) };
    let cut = if seen.bytes > seen.text.len() as u64 {
        format!(" … of {} ({} bytes)", bytes(seen.bytes), count(seen.bytes))
    } else {
        String::new()
    };
    format!("{time}{origin}{verdict}: {}{cut}", harmless(&seen.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Touch;

    #[test]
    fn an_event_is_a_line_with_what_was_decided() {
        let touch = |rule: &str, failed: bool| Touch { rule: rule.into(), changed: !failed, failed };
        let kept = Seen {
            origin: "/var/log/a.log".into(),
            topic: Some("logs".into()),
            rules: vec![touch("emails", false), touch("json", true), Touch { rule: "other".into(), ..Touch::default() }],
            text: "from [email]\u{1b}[2J".into(),
            bytes: 16,
            ..Seen::default()
        };
        assert_eq!(
            words(&kept, Paint::NONE),
            "1970-01-01T00:00:00.000Z /var/log/a.log kept, to logs, changed by \"emails\", not understood by \"json\": from [email]\\u{1b}[2J"
        );
        let dropped = Seen { rule: Some("noise".into()), text: "x".into(), bytes: 5000, ..Seen::default() };
        assert_eq!(words(&dropped, Paint::NONE), "1970-01-01T00:00:00.000Z dropped by \"noise\": x … of 4.8 KiB (5,000 bytes)");
    }
}

//! `logferry status`: what the daemon does and whether anything is missing, on one screen. Drawn from [`Status`] alone, without a look at anything
//! else, so that it can be tested as text.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{Paint, Side, bytes, count, counted, harmless, line, say, table, under_heading};
use crate::control::status::{Doing, Lane, LaneSpill, Rule, Source, Status};
use crate::forecast;

/// Prints the status, as JSON if wanted. Fails if the books don't balance, so that a script notices.
///
/// # Errors
/// There was no answer, or something is out of balance.
pub fn run(desk: &Desk, json: bool) -> Outcome {
    let status = desk.status()?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(|error| error.to_string())?;
        say(&format!("{text}\n"));
    } else {
        say(&text(&status, Timestamp::now(), Paint::of_stdout()));
    }
    if status.balanced { Ok(()) } else { Err("The books don't balance: events are unaccounted for.".into()) }
}

/// The status as people read it.
#[must_use]
pub fn text(status: &Status, now: Timestamp, paint: Paint) -> String {
    let mut text = heading(status, paint);
    for part in [sources(status, paint), trouble(status, paint), rules(status, paint), lanes(status, now, paint), rest(status, paint)] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    text
}

fn heading(status: &Status, paint: Paint) -> String {
    let Status { version, host, agent, .. } = status;
    let runs = if status.running { paint.good("runs") } else { paint.bad("no daemon runs; this is what its last snapshot holds") };
    let mut text = format!("logferry {version} on {}, agent {}: {runs}\n", harmless(host), harmless(agent));
    if status.balanced {
        line(&mut text, &paint.good("The books balance: every event that was read is accounted for."));
    } else {
        line(&mut text, &paint.bad("OUT OF BALANCE: events are unaccounted for. Please report this as a defect."));
        status.out_of_balance.iter().for_each(|words| line(&mut text, &format!("  {}", harmless(words))));
    }
    text
}

/// A column of the equation: its heading, whether it is always shown, and its figure.
type Term = (&'static str, bool, fn(&Source) -> u64);

/// Events: the first is the sum of the others.
const EQUATION: [Term; 7] = [
    ("READ", true, |source| source.read.events),
    ("= DELIVERED", true, |source| source.delivered.events),
    ("+ FILTERED", false, |source| source.filtered.events),
    ("+ MERGED", false, |source| source.merged.events),
    ("+ DEAD LETTERS", false, |source| source.dead_lettered.events),
    ("+ LOST", false, |source| source.lost.values().map(|lost| lost.events).sum()),
    ("+ PENDING", true, |source| source.pending.events),
];

fn sources(status: &Status, paint: Paint) -> String {
    if status.sources.is_empty() {
        return "No source has run yet.\n".into();
    }
    let shown: Vec<&Term> =
        EQUATION.iter().filter(|(_, always, of)| *always || status.sources.values().any(|source| of(source) > 0)).collect();
    let head = std::iter::once("SOURCE").chain(shown.iter().map(|(name, ..)| *name)).chain(["LAG", "FILES"]);
    let mut rows = vec![head.map(String::from).collect::<Vec<_>>()];
    for (name, source) in &status.sources {
        let figures = shown.iter().map(|(_, _, of)| count(of(source)));
        let lag = if source.lag_bytes == 0 { "none".to_owned() } else { bytes(source.lag_bytes) };
        rows.push(std::iter::once(harmless(name)).chain(figures).chain([lag, count(source.files)]).collect());
    }
    let sides: Vec<Side> = std::iter::once(Side::Left).chain(std::iter::repeat_n(Side::Right, shown.len() + 2)).collect();
    under_heading(&table(&sides, &rows), paint)
}

/// What was lost, missed or perhaps doubled, with the reasons.
fn trouble(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    for (name, source) in &status.sources {
        let name = harmless(name);
        let mut say = |words: String| line(&mut text, &format!("{name}: {words}"));
        if source.unprotected {
            say(paint.bad("UNPROTECTED: its arrival log can't be written (the daemon's log says why); what it accepts is in memory alone"));
        }
        if let Some(why) = &source.arrivals_full {
            say(paint.bad(&format!("its arrival log takes nothing more, or not everything: {}", harmless(why))));
        }
        for (reason, lost) in source.lost.iter().filter(|(_, lost)| !lost.is_none()) {
            say(paint.bad(&format!("{} lost ({reason}), {}", counted(lost.events, "event", "events"), bytes(lost.bytes))));
        }
        for (reason, missed) in &source.missed {
            let mut parts = Vec::new();
            parts.extend((missed.events > 0).then(|| counted(missed.events, "event", "events")));
            parts.extend((missed.bytes > 0).then(|| bytes(missed.bytes)));
            parts.extend((missed.unknown > 0).then(|| format!("{} of unknown size", counted(missed.unknown, "gap", "gaps"))));
            if !parts.is_empty() {
                // What the configuration leaves out, and holes, are no trouble.
                let words = format!("never read ({reason}): {}", parts.join(", "));
                say(if matches!(reason.as_str(), "before_first_run" | "hole") { words } else { paint.warn(&words) });
            }
        }
        if !source.resent.is_none() {
            say(format!("{} sent again, {}", counted(source.resent.events, "event", "events"), bytes(source.resent.bytes)));
        }
        if source.arrivals_bytes > 0 {
            say(format!("{} in its arrival log", bytes(source.arrivals_bytes)));
        }
        if source.possible_duplicates > 0 {
            say(format!("{} read that may repeat others", counted(source.possible_duplicates, "file was", "files were")));
        }
    }
    text
}

fn lanes(status: &Status, now: Timestamp, paint: Paint) -> String {
    if status.lanes.is_empty() {
        return String::new();
    }
    let mut rows = vec![["LANE", "STATE", "SPILL", "WAITING IN IT", "OLDEST"].map(String::from).to_vec()];
    for (topic, lane) in &status.lanes {
        let LaneSpill { bytes: size, pending, oldest, .. } = &lane.spill;
        let age =
            oldest.as_ref().and_then(|oldest| oldest.parse::<Timestamp>().ok()).map(|oldest| now.duration_since(oldest).unsigned_abs());
        let none = || "-".to_owned();
        rows.push(vec![
            harmless(topic),
            state(lane, status.running),
            if *size == 0 { none() } else { bytes(*size) },
            if pending.is_none() { none() } else { counted(pending.events, "event", "events") },
            age.map_or_else(none, forecast::words),
        ]);
    }
    let sides = [Side::Left, Side::Left, Side::Right, Side::Right, Side::Right];
    let mut text = String::new();
    for (row, lane) in table(&sides, &rows).iter().zip(std::iter::once(None).chain(status.lanes.values().map(Some))) {
        let painted = match lane.map(|lane| lane.condition) {
            None => paint.head(row),
            Some(Doing::Blocked) => paint.bad(row),
            Some(Doing::Connecting | Doing::Paused | Doing::Unknown) => paint.warn(row),
            Some(Doing::Idle | Doing::Open) => row.clone(),
        };
        line(&mut text, &painted);
        lane.and_then(|lane| lane.words.as_ref()).iter().for_each(|words| line(&mut text, &format!("  {}", harmless(words))));
    }
    text
}

/// What rules did since the start.
fn rules(status: &Status, paint: Paint) -> String {
    if status.rules.is_empty() {
        return String::new();
    }
    let mut rows = vec![["RULE", "MATCHED", "DROPPED", "CHANGED", "ERRORS"].map(String::from).to_vec()];
    let figures = |rule: &Rule| [rule.matched, rule.dropped, rule.changed, rule.errors].map(count);
    rows.extend(status.rules.iter().map(|rule| std::iter::once(harmless(&rule.name)).chain(figures(rule)).collect()));
    let sides = [Side::Left, Side::Right, Side::Right, Side::Right, Side::Right];
    under_heading(&table(&sides, &rows), paint)
}

/// What a lane is doing, in words.
pub(super) fn state(lane: &Lane, running: bool) -> String {
    match lane.condition {
        Doing::Idle if !running => "stopped".into(),
        Doing::Idle => "nothing to send".into(),
        Doing::Open => "sending".into(),
        Doing::Connecting => "waiting for Kafka".into(),
        Doing::Blocked => format!("BLOCKED: {}", lane.reason.as_deref().map_or_else(|| "unknown".into(), harmless)),
        Doing::Paused => "paused by an operator".into(),
        Doing::Unknown => "in a state that this command does not know: use the release of the daemon".into(),
    }
}

fn rest(status: &Status, paint: Paint) -> String {
    let mut text = String::new();
    let spill = &status.spill;
    if spill.max_bytes > 0 || spill.bytes > 0 {
        let mut words = format!("{} of {}", bytes(spill.bytes), bytes(spill.max_bytes));
        let full_in = spill.full_in_seconds.map(Duration::from_secs);
        if let Some(reason) = &spill.full {
            words = paint.bad(&format!("{words}, FULL: {}", full(reason)));
        } else if let Some(time) = full_in {
            let soon = time < Duration::from_secs(86_400);
            words = format!("{words}, full in {}", forecast::words(time));
            words = if soon { paint.warn(&words) } else { words };
        }
        line(&mut text, &format!("Spill   {words}"));
    }
    let gaps = &status.gaps;
    if gaps.waiting > 0 || gaps.sent > 0 {
        line(&mut text, &format!("Gaps    {} to be sent, {} sent", count(gaps.waiting), count(gaps.sent)));
    }
    if status.memory.limit > 0 {
        line(&mut text, &format!("Memory  {} of {}", bytes(status.memory.used), bytes(status.memory.limit)));
    }
    text
}

/// Why the spill takes nothing more, with the remedy.
fn full(reason: &str) -> String {
    let words = match reason {
        "max_size" => {
            "spill.max_size is reached. The sources wait; nothing is lost as long as files stay. Cure Kafka, or raise spill.max_size"
        }
        "keep_free" => "the disk has no more than spill.keep_free left. The sources wait; free some of the disk",
        "no_space" => "the disk is full. The sources wait; free some of the disk",
        "broken" => "the disk failed (the daemon's log says how). The sources wait; mend or replace it",
        other => return harmless(other),
    };
    words.into()
}

#[cfg(test)]
mod tests;

//! What is told of sources, lanes and streams, made from what the parts know. Pure.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Settings, journal};
use crate::batch::StreamId;
use crate::control::Refusal;
use crate::control::protocol::{Change, Spilled};
use crate::control::status::{
    Amount, Doing, Evidence, Feed, Gaps, Journal, Lane, LaneSpill, LastGap, Rule, Source, Status, Stream, Unread,
};
use crate::gaps::{self, Gap, words};
use crate::lane::{Condition, SpillView};
use crate::ledger::{self, Count, Ledger, Missed};
use crate::rules;
use crate::settlement::{Settlement, Shown};
use crate::snapshot::rows::{FeedRow, FileState, StreamRow};
use crate::source::journald::format;
use crate::source::journald::position::Place;
use crate::spill::LaneRow;

/// The part of a status that the settlement knows.
#[must_use]
pub fn books(settings: &Settings, settlement: &Settlement) -> Status {
    let mut sources = BTreeMap::new();
    for (name, Shown { ledger, pending }) in settlement.books() {
        let mut source = source(&ledger, pending, settlement.kind(&name));
        for (_, row) in settlement.streams_of(&name) {
            if is_there(&row) {
                source.files += u64::from(!row.first_path.is_empty());
                source.lag_bytes += lag(&row);
            }
        }
        sources.insert(name.to_string(), source);
    }
    let gaps = settlement.gaps();
    let out_of_balance: Vec<String> = settlement.imbalances().iter().map(|(source, words)| format!("{source}: {words}")).collect();
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        agent: settings.agent.clone(),
        host: settings.host.clone(),
        balanced: out_of_balance.is_empty(),
        out_of_balance,
        sources,
        gaps: Gaps { waiting: gaps.0 as u64, sent: gaps.1, last: settlement.last_gaps().iter().map(last_gap).collect() },
        ..Status::default()
    }
}

fn last_gap(gap: &Gap) -> LastGap {
    let at = jiff::Timestamp::from_nanosecond(i128::from(gap.last_ns)).map(|time| format!("{time:.0}")).unwrap_or_default();
    let error = words::severity(&gap.reason) == "error";
    LastGap { at, source: gap.source.to_string(), error, words: words::sentence(gap) }
}

/// The books of a source of this type.
#[must_use]
pub fn source(ledger: &Ledger, pending: Count, kind: &str) -> Source {
    let missed = |(reason, missed): (&Missed, &ledger::Amount)| {
        let ledger::Amount { events, bytes, unknown } = *missed;
        (reason.word().to_owned(), Unread { events, bytes, unknown })
    };
    Source {
        kind: kind.into(),
        read: ledger.read.into(),
        delivered: ledger.delivered.into(),
        filtered: ledger.filtered.into(),
        filtered_by: ledger.filtered_by.iter().map(|(rule, count)| (rule.to_string(), Amount::from(*count))).collect(),
        merged: ledger.merged.into(),
        dead_lettered: ledger.dead_lettered.into(),
        pending: pending.into(),
        lost: ledger.lost.iter().map(|(reason, lost)| (reason.word().to_owned(), Amount::from(*lost))).collect(),
        missed: ledger.missed.iter().map(missed).collect(),
        resent: ledger.resent.into(),
        possible_duplicates: ledger.possible_duplicates,
        ..Source::default()
    }
}

/// What a rule has done.
#[must_use]
pub fn rule(name: &str, done: rules::Done) -> Rule {
    let rules::Done { matched, dropped, changed, errors } = done;
    Rule { name: name.to_owned(), matched, dropped, changed, errors }
}

/// What a lane does; `None`: no daemon runs.
#[must_use]
pub fn lane(condition: Option<&Condition>) -> Lane {
    match condition {
        None | Some(Condition::Idle) => Lane::default(),
        Some(Condition::Open) => Lane { condition: Doing::Open, ..Lane::default() },
        Some(Condition::Paused) => Lane { condition: Doing::Paused, ..Lane::default() },
        Some(Condition::Connecting(words)) => Lane { condition: Doing::Connecting, words: Some(words.clone()), ..Lane::default() },
        Some(Condition::Blocked { reason, words }) => {
            Lane { condition: Doing::Blocked, reason: Some((*reason).to_owned()), words: Some(words.clone()), ..Lane::default() }
        }
    }
}

/// What a snapshot knows of a lane's buffer on disk; its size is not part of it.
#[must_use]
pub fn spill(row: &LaneRow) -> LaneSpill {
    let pending: Count = row.pending.iter().map(|(_, count)| *count).sum();
    LaneSpill { records: row.tail.saturating_sub(row.head), pending: pending.into(), ..LaneSpill::default() }
}

/// The same as a running lane shows it.
#[must_use]
pub fn lane_spill(view: &SpillView) -> LaneSpill {
    let oldest = view.oldest_ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok()).map(|time| time.to_string());
    LaneSpill { bytes: view.bytes, records: view.records, pending: view.pending.into(), oldest }
}

/// What of a lane's spill is acknowledged.
#[must_use]
pub fn spilled(lane: &str, settlement: &Settlement) -> Spilled {
    let row = settlement.lanes().into_iter().find(|(topic, _)| **topic == *lane).map(|(_, row)| row).unwrap_or_default();
    Spilled { head: row.head, acked: row.acked.iter().map(|(record, run, messages, _)| (*record, *run, *messages)).collect() }
}

/// What stands in the way of sending, a line for each lane that can't.
#[must_use]
pub fn obstacles(conditions: &[(Arc<str>, Condition)]) -> Vec<String> {
    let mut obstacles: Vec<String> = conditions
        .iter()
        .filter_map(|(topic, condition)| match condition {
            Condition::Idle | Condition::Open => None,
            Condition::Paused => Some(format!("lane {topic} is paused by an operator: logferry lane resume {topic}")),
            Condition::Connecting(words) => Some(format!("lane {topic} waits for Kafka: {words}")),
            Condition::Blocked { reason, words } => Some(format!("lane {topic} is blocked ({reason}): {words}")),
        })
        .collect();
    obstacles.sort();
    obstacles
}

/// Every stream, by source and path.
#[must_use]
pub fn streams(settings: &Settings, settlement: &Settlement) -> Vec<Stream> {
    let mut streams = Vec::new();
    for (name, ..) in settlement.books() {
        let lane = settings.topics.get(&name).map(ToString::to_string);
        let of_source = settlement.streams_of(&name).into_iter();
        streams.extend(of_source.map(|(id, row)| Stream { lane: lane.clone(), ..stream(id, &row) }));
    }
    streams.sort_by(|left: &Stream, right| (&left.source, &left.path, &left.id).cmp(&(&right.source, &right.path, &right.id)));
    streams
}

/// The streams that were read of the file at a path; of a file of a journal, that journal's.
#[must_use]
pub fn streams_at(settlement: &Settlement, path: &OsStr) -> Vec<(StreamId, StreamRow)> {
    let mut streams = settlement.streams_at(path.as_bytes());
    let path = Path::new(path);
    if let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str).and_then(format::name)) {
        let of_journal = settlement.streams_at(dir.join(name.base).as_os_str().as_bytes()).into_iter();
        streams.extend(of_journal.filter(|(_, row)| Place::of(row).is_some()));
    }
    streams
}

/// How a gap names a journal.
#[must_use]
pub fn journal_place(row: &StreamRow) -> gaps::Place {
    gaps::Place::Named(format!("journal {}", String::from_utf8_lossy(&row.path)).into())
}

fn stream(id: StreamId, row: &StreamRow) -> Stream {
    let place = Place::of(row);
    let state = match row.state {
        FileState::Live => "live",
        FileState::Rotated => "rotated",
        FileState::Gone => "gone",
        FileState::Copy => "copy",
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Stream {
        id: id.to_string(),
        source: row.source.to_string(),
        path: text(&row.path),
        first_path: text(&row.first_path),
        state: state.into(),
        offset: row.position.offset,
        size: row.size,
        lag: if is_there(row) { lag(row) } else { 0 },
        lane: None,
        feeds: row.feeds.iter().map(|feed| (feed.topic.to_string(), self::feed(row, feed))).collect(),
        seen: Timestamp::from_second(row.seen_s).map_or_else(|_| String::new(), |time| time.to_string()),
        journal: place.as_ref().map(journal::shown),
        evidence: if place.is_some() { Evidence::default() } else { evidence(row) },
    }
}

fn evidence(row: &StreamRow) -> Evidence {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let born = row.evidence.btime_ns.and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok());
    Evidence {
        dev: row.evidence.dev,
        ino: row.evidence.ino,
        born: born.map(|time| time.to_string()),
        head_len: row.evidence.head_len,
        head_hash: format!("{:016x}", row.evidence.head_hash),
        begun_at: row.begun_at,
        hash: format!("{:08x}", row.position.hash),
        line_start: row.position.line_start,
        part: row.position.part,
        tail: text(row.position.tail.as_bytes()),
    }
}

fn feed(row: &StreamRow, feed: &FeedRow) -> Feed {
    let mark = Some(feed.mark).filter(|mark| *mark > row.position.offset);
    Feed { partitions: feed.partitions, settled: feed.settled.into(), mark }
}

fn is_there(row: &StreamRow) -> bool {
    !matches!(row.state, FileState::Gone | FileState::Copy)
}

fn lag(row: &StreamRow) -> u64 {
    row.size.saturating_sub(row.position.offset)
}

/// What is known of a stream, for people. `lane` tells what the lane of a topic is doing; `None`: no daemon runs.
#[must_use]
pub fn describe(id: StreamId, row: &StreamRow, lane: &dyn Fn(&str) -> Option<Condition>) -> String {
    let state = match row.state {
        FileState::Live => "at its path",
        FileState::Rotated => "rotated away",
        FileState::Gone => "gone",
        FileState::Copy => "a copy of one that was read",
    };
    let state = if row.first_path.is_empty() { "what its senders sent" } else { state };
    let stands = match Place::of(row).map(|place| journal::shown(&place)) {
        None => format!("byte {} of {} (lag {} bytes)", row.position.offset, row.size, self::lag(row)),
        Some(Journal { number, cursor, .. }) if cursor.is_empty() => format!("entry {number}: none was read yet"),
        Some(Journal { number, cursor, received, .. }) => {
            format!("entry {number} of {received} (lag about {} bytes), cursor {cursor}", self::lag(row))
        }
    };
    let mut text = format!("  stream {id} of source {}: {state}, delivered up to {stands}\n", row.source);
    for FeedRow { topic, partitions, .. } in &row.feeds {
        let doing = match lane(topic) {
            None => "no daemon runs".to_owned(),
            Some(Condition::Idle) => "idle".to_owned(),
            Some(Condition::Open) => "sending".to_owned(),
            Some(Condition::Paused) => "paused by an operator".to_owned(),
            Some(Condition::Connecting(words)) => format!("waiting for Kafka: {words}"),
            Some(Condition::Blocked { reason, words }) => format!("blocked ({reason}): {words}"),
        };
        // Writing into a string can't fail.
        let _ = writeln!(text, "  lane {topic} ({partitions} partitions): {doing}");
    }
    text
}

/// A stream's id from its text.
///
/// # Errors
/// It is none.
pub fn stream_id(text: &str) -> Result<StreamId, Refusal> {
    u64::from_str_radix(text, 16).map(StreamId).map_err(|_| no_stream(text))
}

/// There is no such stream.
#[must_use]
pub fn no_stream(stream: &str) -> Refusal {
    Refusal(format!("there is no stream {stream}: logferry positions ls shows all"))
}

/// There is no such lane.
#[must_use]
pub fn no_lane<'a>(lane: &str, lanes: impl Iterator<Item = &'a Arc<str>>) -> Refusal {
    let mut known: Vec<&str> = lanes.map(|lane| &**lane).collect();
    known.sort_unstable();
    let known = if known.is_empty() { "there is none yet".to_owned() } else { format!("there are: {}", known.join(", ")) };
    Refusal(format!("there is no lane {lane}; {known}"))
}

/// What pausing, resuming or discarding would do.
#[must_use]
pub fn plan_lane(change: &Change, lane: &str, settlement: &Settlement, running: bool) -> String {
    match change {
        Change::Pause { .. } => format!("Lane {lane} will send nothing until it is resumed; what comes waits in its spill."),
        Change::Resume { .. } => format!("Lane {lane} will send again."),
        _ => {
            let lanes = settlement.lanes();
            let spilled: Count =
                lanes.iter().filter(|(topic, _)| **topic == *lane).flat_map(|(_, row)| &row.pending).map(|(_, count)| *count).sum();
            let more = if running { ", and what of it is in memory" } else { "" };
            let Count { events, bytes } = spilled;
            format!("All that waits in lane {lane} would be thrown away for good: {events} events ({bytes} bytes) in its spill{more}.")
        }
    }
}

/// What forgetting a stream would do.
///
/// # Errors
/// It is still needed.
pub fn plan_forget(id: StreamId, settlement: &Settlement, running: bool) -> Result<String, Refusal> {
    let (row, waiting) = settlement.stream(id).ok_or_else(|| no_stream(&id.to_string()))?;
    let path = Path::new(OsStr::from_bytes(&row.path)).display();
    if waiting.events > 0 {
        let what = format!("{} events of {path} are not acknowledged yet: they would be lost. Try again when they are", waiting.events);
        return Err(Refusal(what));
    }
    let lanes = settlement.lanes();
    let spilled = lanes.iter().find(|(_, lane)| lane.pending.iter().any(|(source, count)| *source == row.source && count.events > 0));
    if let Some((topic, _)) = spilled {
        let what = format!(
            "events of source {} wait in the spill of {topic}, and their partition is kept with the stream: try again when they are delivered",
            row.source
        );
        return Err(Refusal(what));
    }
    if running && is_there(&row) {
        let what =
            format!("the running daemon reads {path}: take it out of the source first, or stop the daemon (systemctl stop logferry)");
        return Err(Refusal(what));
    }
    Ok(if Place::of(&row).is_some() && is_there(&row) {
        format!("The journal {path} would be read again from its oldest entry at the next start: what it holds is sent again.")
    } else if row.first_path.is_empty() {
        format!("What {path} still holds would be sent again at the next start, from its first byte.")
    } else if is_there(&row) {
        format!("{path} would be read again from its first byte at the next start: what it holds is sent again.")
    } else {
        format!("{path} is no longer there. If its file came back it would be read from its first byte.")
    })
}

//! `logferry spill`: the lanes' buffers on disk, read from their files beside the daemon or without one. Changes nothing. What in them is
//! acknowledged already stands in the state, which is asked for it.

mod export;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::{Paint, Side, bytes, count, counted, harmless, line, say, table, under_heading};
use crate::cli::progress::Task;
use crate::control::protocol::{Answer, Request, Spilled};
use crate::control::status::Status;
use crate::spill::inspect::{Inspector, Item, RecordInfo};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists what is on disk for each lane, and how much of it Kafka does not have yet
    Ls,
    /// Lists the records of a lane
    Show {
        /// The topic
        topic: String,
        /// At most so many, oldest first
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Reads everything, and says what is damaged; exit status 1 if something is
    ///
    /// Pause the lane or stop the daemon before: the end of what it is writing looks damaged, and what is delivered meanwhile goes away.
    Verify {
        /// Only this topic
        topic: Option<String>,
    },
    /// Writes what Kafka does not have yet to standard output, a line for each message
    ///
    /// A JSON object a line: record, source, stream, offset, key, value (or `key_base64`, `value_base64` where it is no text), part, last, `read_at`.
    /// Pause the lane or stop the daemon before, so that nothing moves meanwhile.
    Export {
        /// The topic
        topic: String,
        /// Only the values, each with a line end behind it
        #[arg(long)]
        raw: bool,
        /// Also what Kafka has acknowledged and is not deleted yet
        #[arg(long)]
        all: bool,
    },
}

/// Does it.
///
/// # Errors
/// Something can't be read, or is damaged.
pub fn run(desk: &Desk, command: Command) -> Outcome {
    match command {
        Command::Ls => list(desk),
        Command::Show { topic, limit } => show(desk, &topic, limit),
        Command::Verify { topic } => verify(desk, topic.as_deref()),
        Command::Export { topic, raw, all } => export(desk, &topic, raw, all),
    }
}

/// The lanes that have a directory, in order.
fn lanes(desk: &Desk) -> Result<Vec<(String, PathBuf)>, String> {
    let dir = &desk.config().spill.dir;
    let failed = |error: io::Error| format!("{} can't be read: {error}. Ask as root or as the user that logferry runs as", dir.display());
    let mut lanes = Vec::new();
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(failed)?;
                if entry.path().is_dir() {
                    lanes.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
                }
            }
        }
    }
    lanes.sort();
    Ok(lanes)
}

fn lane(desk: &Desk, topic: &str) -> Result<Inspector, String> {
    let lanes = lanes(desk)?;
    let names = lanes.iter().map(|(name, _)| harmless(name)).collect::<Vec<_>>().join(", ");
    let found = lanes.into_iter().find(|(name, _)| name == topic);
    let (name, dir) = found.ok_or_else(|| {
        let there = if names.is_empty() { "nothing is".to_owned() } else { format!("there is something for {names}") };
        format!("nothing is on disk for {}; {there}", harmless(topic))
    })?;
    Inspector::open(&dir).map_err(|error| unreadable(&name, &error))
}

fn unreadable(topic: &str, error: &io::Error) -> String {
    format!("the spill of {} can't be read: {error}", harmless(topic))
}

fn list(desk: &Desk) -> Outcome {
    // Where nobody can be asked, the files still tell what they hold.
    let status = desk.status().unwrap_or_default();
    let mut rows = vec![["LANE", "ON DISK", "SEGMENTS", "RECORDS", "NOT IN KAFKA", "OLDEST"].map(String::from).to_vec()];
    for (topic, dir) in lanes(desk)? {
        let inspector = Inspector::open(&dir).map_err(|error| unreadable(&topic, &error))?;
        let (mut records, mut oldest) = (0, None);
        let seen = inspector.each(|item| {
            if let Item::Record(record) = item {
                records += 1;
                oldest = oldest.or(Some(record.observed_ns.0));
            }
            true
        });
        seen.map_err(|error| unreadable(&topic, &error))?;
        rows.push(vec![
            harmless(&topic),
            bytes(inspector.segments.iter().map(|segment| segment.bytes).sum()),
            count(inspector.segments.len() as u64),
            count(records),
            waiting(&status, &topic),
            oldest.map_or_else(|| "-".into(), time),
        ]);
    }
    if rows.len() == 1 {
        say("Nothing is on disk: what was read is in Kafka, or in memory.\n");
        return Ok(());
    }
    let sides = [Side::Left, Side::Right, Side::Right, Side::Right, Side::Right, Side::Left];
    say(&under_heading(&table(&sides, &rows), Paint::of_stdout()));
    Ok(())
}

fn waiting(status: &Status, topic: &str) -> String {
    status.lanes.get(topic).map_or_else(|| "not known".into(), |lane| counted(lane.spill.pending.events, "event", "events"))
}

fn show(desk: &Desk, topic: &str, limit: usize) -> Outcome {
    let inspector = lane(desk, topic)?;
    let spilled = acknowledged(desk, topic)?;
    let mut rows = vec![["RECORD", "SEGMENT", "AT", "BYTES", "EVENTS", "STREAMS", "READ AT", ""].map(String::from).to_vec()];
    let mut more = false;
    let seen = inspector.each(|item| {
        more = rows.len() > limit;
        if !more {
            rows.push(row(&item, &spilled));
        }
        !more
    });
    seen.map_err(|error| unreadable(topic, &error))?;
    let sides = [Side::Right, Side::Left, Side::Right, Side::Right, Side::Right, Side::Right, Side::Left, Side::Left];
    let mut text = under_heading(&table(&sides, &rows), Paint::of_stdout());
    if more {
        line(&mut text, &format!("There are more: --limit says how many are shown, {limit} now."));
    }
    say(&text);
    Ok(())
}

fn row(item: &Item, spilled: &Spilled) -> Vec<String> {
    match item {
        Item::Damage { segment, bytes } => {
            let none = || "-".to_owned();
            let size = bytes.end.saturating_sub(bytes.start);
            vec![none(), segment.name(), count(bytes.start), count(size), none(), none(), none(), "DAMAGED".into()]
        }
        Item::Record(record) => {
            let RecordInfo { segment, at, bytes, seq, observed_ns, runs, .. } = &**record;
            let events: u64 = runs.iter().map(|run| run.count.events).sum();
            let state = if *seq < spilled.head { "in Kafka" } else { "" };
            let streams = count(runs.len() as u64);
            vec![count(*seq), segment.name(), count(*at), count(*bytes), count(events), streams, time(observed_ns.0), state.into()]
        }
    }
}

fn verify(desk: &Desk, topic: Option<&str>) -> Outcome {
    let mut wrong = Vec::new();
    let lanes: Vec<_> = lanes(desk)?.into_iter().filter(|(name, _)| topic.is_none_or(|topic| topic == name)).collect();
    if let (Some(topic), []) = (topic, lanes.as_slice()) {
        return Err(format!("nothing is on disk for {}", harmless(topic)));
    }
    for (topic, dir) in lanes {
        let task = Task::begin(&format!("verifying {}", harmless(&topic)));
        let verified = Inspector::open(&dir).and_then(|mut inspector| inspector.verify()).map_err(|error| unreadable(&topic, &error))?;
        drop(task);
        let found = format!(
            "{} with {}",
            counted(verified.records, "good record", "good records"),
            counted(verified.messages, "message", "messages")
        );
        say(&format!(
            "{}: {found}, {}; {}\n",
            harmless(&topic),
            bytes(verified.bytes),
            counted(verified.wrong.len() as u64, "fault", "faults")
        ));
        wrong.extend(verified.wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// What the state says is acknowledged.
fn acknowledged(desk: &Desk, topic: &str) -> Result<Spilled, String> {
    match desk.ask(&Request::Spilled { lane: topic.to_owned() }, &mut |_| ())? {
        Answer::Spilled(spilled) => Ok(spilled),
        _ => Err("the daemon gave an answer to another question: restart it with the release of this command".into()),
    }
}

fn export(desk: &Desk, topic: &str, raw: bool, all: bool) -> Outcome {
    let spilled = if all { Spilled::default() } else { acknowledged(desk, topic)? };
    let inspector = lane(desk, topic)?;
    // One goes from record to record, the other reads what is in them.
    let mut reader = lane(desk, topic)?;
    let task = Task::of_bytes("exporting", inspector.segments.iter().map(|segment| segment.bytes).sum());
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut messages, mut read, mut wrong, mut outcome) = (0_u64, 0_u64, Vec::new(), Ok(()));
    let walked = inspector.each(|item| {
        let record = match item {
            Item::Damage { segment, bytes } => {
                wrong.push(format!("{}: bytes {} to {} are no record and are left out", segment.name(), bytes.start, bytes.end));
                return true;
            }
            Item::Record(record) => record,
        };
        read += record.bytes;
        task.done(read);
        if record.seq < spilled.head {
            return true;
        }
        match export::record(&mut reader, &record, &spilled, raw, &mut out) {
            Ok(ControlFlow::Continue(Some(written))) => messages += written,
            Ok(ControlFlow::Continue(None)) => wrong.push(format!("record {} is damaged and is left out", record.seq)),
            // The reader has gone away, as head(1) does.
            Ok(ControlFlow::Break(())) => return false,
            Err(error) => outcome = Err(unreadable(topic, &error)),
        }
        outcome.is_ok()
    });
    walked.map_err(|error| unreadable(topic, &error))?;
    drop(task);
    outcome?;
    // A reader that has gone away is no reason to fail.
    let _ = out.flush();
    if wrong.is_empty() {
        eprintln!("{} written.", counted(messages, "message", "messages"));
        return Ok(());
    }
    Err(format!("{}\n{} written, but not everything", wrong.join("\n"), counted(messages, "message", "messages")))
}

fn time(ns: i64) -> String {
    Timestamp::from_nanosecond(ns.into()).map_or_else(|_| "-".into(), |time| format!("{time:.3}"))
}

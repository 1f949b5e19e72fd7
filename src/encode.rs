//! Events become Kafka messages: from spans of what was read to spans of an arena of finished messages. Pure, batch by batch.

mod ecs;
pub mod gap;
pub mod json;
pub(crate) mod members;
mod otlp;
pub mod raw;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::batch::{Batch, Event, Origin};

/// What librdkafka keeps per message while it is queued or in flight, bytes: its message struct, the allocator's own words, and its share
/// of the request and the delivery report. Counted against the budget so that many short lines cost what they cost.
pub const MESSAGE_COST: usize = 240;

/// The most events a reader puts into one batch. Without it a block of 1 MiB of empty lines would become a million messages and some
/// 600 MB in one go; with it, at most a few MB more than the block. At the limit a reader ends the batch and begins the next.
pub const MAX_EVENTS: usize = 8192;

/// About what a JSON message has beside the event's own text, bytes; longer labels make an arena grow once.
const ENVELOPE: usize = 320;

/// The form of a message's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The event's bytes as they are.
    Raw,
    /// One JSON object a message (docs/schema.json).
    Json,
    /// The same under the names of the Elastic Common Schema (docs/formats.md).
    Ecs,
    /// One `ExportLogsServiceRequest` of OpenTelemetry a message (docs/formats.md).
    Otlp,
}

/// Writes a message of the format `json` in another one.
type Rewrite = fn(&mut Vec<u8>, &[u8]);

impl Format {
    /// The format that `kafka.format` names so.
    #[must_use]
    pub fn named(name: &str) -> Option<Format> {
        Some(match name {
            "raw" => Format::Raw,
            "json" => Format::Json,
            "ecs" => Format::Ecs,
            "otlp" => Format::Otlp,
            _ => return None,
        })
    }

    /// What turns a message of the format `json` into one of this, where it is another.
    fn rewriting(self) -> Option<Rewrite> {
        match self {
            Format::Raw | Format::Json => None,
            Format::Ecs => Some(ecs::write),
            Format::Otlp => Some(otlp::write),
        }
    }
}

/// What the encoder needs to know; built by `config/resolve.rs`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The form of the messages.
    pub format: Format,
    /// The upper limit of an encoded value, bytes.
    pub max_event: usize,
    /// `agent.host`.
    pub host: Arc<str>,
    /// `agent.labels`, in order of their names.
    pub labels: Vec<(String, String)>,
    /// For times in events that name no zone.
    pub zone: TimeZone,
}

impl Settings {
    /// The same for whoever writes messages that the encoder still turns into this format: `json`, and so short that what becomes of them is not
    /// longer than it may be.
    #[must_use]
    pub fn before_rewriting(&self) -> Settings {
        let (format, max_event) = match self.format {
            Format::Raw | Format::Json => (self.format, self.max_event),
            Format::Ecs => (Format::Json, self.max_event.saturating_sub(ecs::GROWTH)),
            Format::Otlp => (Format::Json, otlp::json_room(self.max_event)),
        };
        Settings { format, max_event, ..self.clone() }
    }
}

/// How long what rules write may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// No message becomes longer than it was or than this, whichever is more, bytes.
    pub message: usize,
    /// What a message's text and its fields may take in JSON, bytes; `None`: the format has no fields.
    pub text: Option<usize>,
    /// What the whole of a message may take, bytes.
    pub whole: usize,
}

impl Settings {
    /// The room for what rules write.
    #[must_use]
    pub fn room(&self) -> Room {
        let text = (self.format != Format::Raw).then(|| json::Json::new(&self.before_rewriting()).text_room());
        Room { message: always_fits(self), text, whole: self.before_rewriting().max_event }
    }
}

/// What a batch takes from the budget: the capacity of its arena, and for each event its span and librdkafka's bookkeeping.
#[must_use]
pub fn charge_for(bytes_capacity: usize, events: usize) -> usize {
    bytes_capacity + events * (size_of::<Event>() + MESSAGE_COST)
}

/// The longest event that fits into one message, whatever its bytes are. At least 1 KiB, which may be more than fits where `max_event` is tiny.
#[must_use]
pub fn always_fits(settings: &Settings) -> usize {
    let room = match settings.format {
        Format::Raw => settings.max_event,
        _ => json::Json::new(&settings.before_rewriting()).always_fits(),
    };
    room.max(1 << 10)
}

/// Encodes batches; one for each thread that hands over batches.
#[derive(Debug)]
pub struct Encoder {
    max_event: usize,
    json: Option<json::Json>,
    rewrite: Option<Rewrite>,
}

impl Encoder {
    /// An encoder of this format.
    #[must_use]
    pub fn new(settings: &Settings) -> Encoder {
        let json = (settings.format != Format::Raw).then(|| json::Json::new(&settings.before_rewriting()));
        Encoder { max_event: settings.max_event, json, rewrite: settings.format.rewriting() }
    }

    /// How many of these bytes fit into one message of at most `max_event` bytes: all, or the length of the longest prefix that ends on a
    /// character boundary. Never 0 for bytes that are there: one character goes out, however small the limit is.
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> usize {
        match &self.json {
            None => raw::fits(bytes, self.max_event),
            Some(json) => json.fits(bytes),
        }
    }

    /// How large an arena this batch's messages will need, about; `None` where they stay where they are, or are so few that a buffer of
    /// their own costs nothing.
    #[must_use]
    pub fn arena_for(&self, batch: &Batch) -> Option<usize> {
        let bytes = batch.bytes.len() + batch.bytes.len() / 8 + batch.events.len() * ENVELOPE;
        let copies = self.json.is_some() && (batch.stream.origin != Origin::Finished || self.rewrite.is_some());
        (copies && bytes >= 64 << 10).then_some(bytes)
    }

    /// Turns the batch's events into finished messages. Raw leaves everything where it is and hands an unused `arena` back. JSON writes all
    /// messages into `arena`, points the events at them, changes the charge to what they take, and gives back a block to use again. What its
    /// source has rendered itself ([`Origin::Finished`]) stays as it is, or is written once more under the names of `ecs` or `otlp`.
    ///
    /// # Panics
    /// When the messages of one batch come to 4 GiB, which a span can't express; [`MAX_EVENTS`] and a reader's block keep far below it.
    #[must_use]
    pub fn encode(&mut self, mut batch: Batch, arena: Vec<u8>) -> (Batch, Option<Vec<u8>>) {
        if batch.stream.origin == Origin::Finished && self.json.is_some() {
            let Some(rewrite) = self.rewrite else { return (batch, (arena.capacity() > 0).then_some(arena)) };
            let spare = rewritten(&mut batch, arena, rewrite);
            return (batch, Some(spare));
        }
        let Some(json) = &mut self.json else {
            batch.part_headers = batch.events.iter().any(|event| event.part().is_some());
            return (batch, (arena.capacity() > 0).then_some(arena));
        };
        let block = json.encode(&mut batch, arena);
        if let Some(rewrite) = self.rewrite {
            let spare = rewritten(&mut batch, block, rewrite);
            return (batch, Some(spare));
        }
        batch.charge.resize(charge_for(batch.bytes.capacity(), batch.events.len()));
        (batch, Some(block))
    }
}

/// Writes each message once more, into `arena`, changes the charge to what they take, and gives back the block that they were in.
fn rewritten(batch: &mut Batch, mut arena: Vec<u8>, rewrite: Rewrite) -> Vec<u8> {
    arena.clear();
    arena.reserve(batch.bytes.len() + batch.bytes.len() / 2);
    let mut events = std::mem::take(&mut batch.events);
    for event in &mut events {
        let begin = arena.len();
        rewrite(&mut arena, batch.event_bytes(event));
        *event = event.moved(json::span(begin), json::span(arena.len() - begin));
    }
    batch.events = events;
    batch.charge.resize(charge_for(arena.capacity(), batch.events.len()));
    std::mem::replace(&mut batch.bytes, arena)
}

/// A message of the format `json` in this format, for whoever writes single ones.
fn in_format(format: Format, json: Vec<u8>) -> Vec<u8> {
    let Some(rewrite) = format.rewriting() else { return json };
    let mut out = Vec::with_capacity(json.len() * 2);
    rewrite(&mut out, &json);
    out
}

/// Where the line of each event begins in its stream; ask for the events of a batch in their order.
#[derive(Debug)]
pub struct LineStarts {
    base: u64,
    start: u64,
}

impl LineStarts {
    /// Before the first event of this batch, which may continue a line of an earlier one.
    #[must_use]
    pub fn of(batch: &Batch) -> LineStarts {
        LineStarts { base: batch.base, start: batch.line_start }
    }

    /// Where the line begins that the next event is, or is a part of.
    pub fn next(&mut self, event: &Event) -> u64 {
        if event.part().is_none_or(|(number, _)| number == 1) {
            self.start = self.base + u64::from(event.from);
        }
        self.start
    }
}

//! The format `otlp`: one `ExportLogsServiceRequest` a message (OpenTelemetry protocol 1, logs/v1), with one record, as a Collector's Kafka receiver reads
//! it with the encoding `otlp_proto`. Pure. docs/formats.md says what stands where; a test compares.

mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::members::{Elements, Key, Members, Message, Value, unescape};
use wire::{nested, tagged_bytes, tagged_fixed64, tagged_varint};

/// Of a message in this format that may have so many bytes, how many the same may have in `json`. Text takes no more bytes here, but each of many
/// tiny values may take twice as many.
pub(super) const fn json_room(max_event: usize) -> usize {
    max_event.saturating_sub(512) / 2
}

/// Objects in objects deeper than this stay JSON, in a string.
const DEPTH: usize = 32;

/// Where a key's value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A field of the record, or a part of one.
    Record(&'static str),
    /// An attribute of the resource.
    Resource(&'static str),
    /// An attribute of the record.
    Attribute(&'static str),
    /// The same as a string, where it is a number.
    Quoted(&'static str),
    /// Each member is an attribute of the record.
    Attributes,
    /// Each member is an attribute of the resource.
    Resources,
    /// Nowhere: it is about the format `json`.
    Left,
}

/// Where the value of `key` goes.
#[rustfmt::skip]
pub(super) const fn place(key: Key) -> Place {
    use Place::{Attribute, Attributes, Left, Quoted, Record, Resource, Resources};
    match key {
        Key::V => Left,
        Key::Timestamp => Record("time_unix_nano"),
        Key::ObservedTimestamp => Record("observed_time_unix_nano"),
        Key::Severity => Record("severity_text, severity_number"),
        Key::Message => Record("body"),
        Key::MessageBase64 => Record("body, as bytes"),
        Key::Host => Resource("host.name"),
        Key::BootId => Resource("host.boot.id"),
        Key::Labels => Resources,
        Key::Fields => Attributes,
        Key::EventId => Attribute("log.record.uid"),
        Key::Path => Attribute("log.file.path"),
        Key::Offset => Attribute("log.file.record_offset"),
        Key::Hostname => Attribute("log.syslog.hostname"),
        Key::App | Key::Identifier => Attribute("log.syslog.appname"),
        Key::Procid => Attribute("log.syslog.procid"),
        Key::Msgid => Attribute("log.syslog.msgid"),
        Key::StructuredData => Attribute("log.syslog.structured_data"),
        Key::Facility => Attribute("log.syslog.facility.name"),
        Key::Priority => Attribute("log.syslog.severity.code"),
        Key::Peer => Attribute("network.peer.address"),
        Key::Pid => Attribute("process.pid"),
        Key::Uid => Quoted("user.id"),
        Key::Unit => Attribute("systemd.unit"),
        Key::Journal => Attribute("journald.custom"),
        Key::Seqnum => Attribute("journald.seqnum"),
        Key::Cursor => Attribute("journald.cursor"),
        Key::ParseError => Attribute("error.message"),
        Key::Source => Attribute("logferry.source"),
        Key::Type => Attribute("logferry.type"),
        Key::Transport => Attribute("logferry.transport"),
        Key::Part => Attribute("logferry.part"),
        Key::Last => Attribute("logferry.last"),
        Key::Partial => Attribute("logferry.partial"),
        Key::Of => Attribute("logferry.of"),
        Key::Reason => Attribute("logferry.reason"),
        Key::Place => Attribute("logferry.place"),
        Key::Stream => Attribute("logferry.stream"),
        Key::From => Attribute("logferry.from"),
        Key::To => Attribute("logferry.to"),
        Key::Events => Attribute("logferry.events"),
        Key::Bytes => Attribute("logferry.bytes"),
        Key::Unknown => Attribute("logferry.unknown"),
        Key::AtLeast => Attribute("logferry.at_least"),
        Key::AtMost => Attribute("logferry.at_most"),
        Key::FirstTime => Attribute("logferry.first_time"),
        Key::LastTime => Attribute("logferry.last_time"),
        Key::Number => Attribute("logferry.number"),
    }
}

/// The numbers of fields (opentelemetry/proto, collector/logs/v1, logs/v1, resource/v1, common/v1).
mod field {
    pub(super) const RESOURCE_LOGS: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const SCOPE_LOGS: u32 = 2;
    pub(super) const SCOPE: u32 = 1;
    pub(super) const LOG_RECORDS: u32 = 2;
    pub(super) const SCOPE_NAME: u32 = 1;
    pub(super) const SCOPE_VERSION: u32 = 2;
    pub(super) const RESOURCE_ATTRIBUTES: u32 = 1;
    pub(super) const TIME: u32 = 1;
    pub(super) const SEVERITY_NUMBER: u32 = 2;
    pub(super) const SEVERITY_TEXT: u32 = 3;
    pub(super) const BODY: u32 = 5;
    pub(super) const ATTRIBUTES: u32 = 6;
    pub(super) const OBSERVED_TIME: u32 = 11;
    pub(super) const EVENT_NAME: u32 = 12;
    pub(super) const KEY: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const STRING: u32 = 1;
    pub(super) const BOOL: u32 = 2;
    pub(super) const INT: u32 = 3;
    pub(super) const DOUBLE: u32 = 4;
    pub(super) const ARRAY: u32 = 5;
    pub(super) const LIST: u32 = 6;
    pub(super) const BYTES: u32 = 7;
    pub(super) const VALUES: u32 = 1;
}

/// Writes a message of the format `json` as such a request.
pub(super) fn write(out: &mut Vec<u8>, json: &[u8]) {
    let message = Message::of(json);
    nested(out, field::RESOURCE_LOGS, json.len(), |out| {
        nested(out, field::RESOURCE, 40, |out| resource(out, &message));
        nested(out, field::SCOPE_LOGS, json.len(), |out| {
            nested(out, field::SCOPE, 20, |out| {
                tagged_bytes(out, field::SCOPE_NAME, b"logferry");
                tagged_bytes(out, field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
            });
            nested(out, field::LOG_RECORDS, json.len(), |out| record(out, &message));
        });
    });
}

fn resource(out: &mut Vec<u8>, message: &Message<'_>) {
    for (key, _) in super::members::KEYS {
        match (place(key), message.get(key)) {
            (Place::Resource(name), Some(value)) => attribute(out, field::RESOURCE_ATTRIBUTES, name.as_bytes(), value, 0),
            (Place::Resources, Some(Value::Object(object))) => attributes(out, field::RESOURCE_ATTRIBUTES, object, 0),
            _ => {}
        }
    }
}

fn record(out: &mut Vec<u8>, message: &Message<'_>) {
    let time = |key| message.text(key).and_then(nanoseconds).filter(|time| *time > 0);
    if let Some(time) = time(Key::Timestamp) {
        tagged_fixed64(out, field::TIME, time);
    }
    if let Some(word) = message.text(Key::Severity) {
        tagged_varint(out, field::SEVERITY_NUMBER, severity_number(word));
        tagged_bytes(out, field::SEVERITY_TEXT, word);
    }
    body(out, message);
    for (key, _) in super::members::KEYS {
        match (place(key), message.get(key)) {
            (Place::Attribute(name), Some(value)) => attribute(out, field::ATTRIBUTES, name.as_bytes(), value, 0),
            (Place::Quoted(name), Some(Value::Plain(text) | Value::Text(text))) => {
                attribute(out, field::ATTRIBUTES, name.as_bytes(), Value::Text(text), 0);
            }
            (Place::Attributes, Some(Value::Object(object))) => attributes(out, field::ATTRIBUTES, object, 0),
            _ => {}
        }
    }
    if let Some(time) = time(Key::ObservedTimestamp) {
        tagged_fixed64(out, field::OBSERVED_TIME, time);
    }
    match message.text(Key::Type) {
        Some(b"gap") => tagged_bytes(out, field::EVENT_NAME, b"logferry.gap"),
        Some(b"quiet") => tagged_bytes(out, field::EVENT_NAME, b"logferry.quiet"),
        _ => {}
    }
}

/// The text; the exact bytes where they are no text.
fn body(out: &mut Vec<u8>, message: &Message<'_>) {
    let exact = message.text(Key::MessageBase64).and_then(|text| STANDARD.decode(text).ok());
    match (exact, message.get(Key::Message)) {
        (Some(bytes), _) => nested(out, field::BODY, bytes.len() + 5, |out| tagged_bytes(out, field::BYTES, &bytes)),
        (None, Some(value)) => any(out, field::BODY, value, 0),
        (None, None) => {}
    }
}

/// RFC 3339 in UTC as nanoseconds since 1970; those before 1970 have no place here.
fn nanoseconds(text: &[u8]) -> Option<u64> {
    let time: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// The severities of syslog as the data model has them (its appendix B).
fn severity_number(word: &[u8]) -> u64 {
    match word {
        b"emergency" => 21,
        b"alert" => 19,
        b"critical" => 18,
        b"error" => 17,
        b"warning" => 13,
        b"notice" => 10,
        b"info" => 9,
        b"debug" => 5,
        _ => 0,
    }
}

/// Each member of an object.
fn attributes(out: &mut Vec<u8>, number: u32, object: &[u8], depth: usize) {
    for (name, value) in Members::of(object) {
        attribute(out, number, name, value, depth);
    }
}

/// A `KeyValue`; the name is escaped.
fn attribute(out: &mut Vec<u8>, number: u32, name: &[u8], value: Value<'_>, depth: usize) {
    nested(out, number, name.len() + len(value) + 8, |out| {
        if !name.is_empty() {
            nested(out, field::KEY, name.len(), |out| unescape(out, name));
        }
        any(out, field::VALUE, value, depth);
    });
}

/// An `AnyValue`.
fn any(out: &mut Vec<u8>, number: u32, value: Value<'_>, depth: usize) {
    nested(out, number, len(value) + 4, |out| match value {
        Value::Text(text) => nested(out, field::STRING, text.len(), |out| unescape(out, text)),
        Value::Plain(b"true") => tagged_varint(out, field::BOOL, 1),
        Value::Plain(b"false") => tagged_varint(out, field::BOOL, 0),
        // A value that is not set.
        Value::Plain(b"null") => {}
        Value::Plain(text) => number_of(out, text),
        Value::Object(text) | Value::Array(text) if depth >= DEPTH => tagged_bytes(out, field::STRING, text),
        Value::Object(object) => nested(out, field::LIST, object.len(), |out| attributes(out, field::VALUES, object, depth + 1)),
        Value::Array(array) => nested(out, field::ARRAY, array.len(), |out| {
            for value in Elements::of(array) {
                any(out, field::VALUES, value, depth + 1);
            }
        }),
    });
}

/// A number: whole where it is, else floating; one that is too large for both stays as it is written.
fn number_of(out: &mut Vec<u8>, text: &[u8]) {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if let Ok(whole) = text.parse::<i64>() {
        return tagged_varint(out, field::INT, whole.cast_unsigned());
    }
    let digits = !text.contains(['.', 'e', 'E']);
    match text.parse::<f64>() {
        Ok(floating) if floating.is_finite() && !digits => tagged_fixed64(out, field::DOUBLE, floating.to_bits()),
        _ => tagged_bytes(out, field::STRING, text.as_bytes()),
    }
}

fn len(value: Value<'_>) -> usize {
    match value {
        Value::Text(text) | Value::Plain(text) | Value::Object(text) | Value::Array(text) => text.len(),
    }
}

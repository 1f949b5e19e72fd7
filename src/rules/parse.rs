//! What parsers make of a message: fields, and where the form has them, the text itself, its time and its severity. A message that is not of the
//! form stays as it was, and the rule counts an error. Pure.
//!
//! | form | where |
//! | --- | --- |
//! | JSON objects (RFC 8259) | [`json`] |
//! | `key=value key="a b"` | [`logfmt`] |
//! | log files of Docker and of Kubernetes (CRI) | [`container`] |

pub mod container;
pub mod json;
pub mod logfmt;
#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use regex::bytes::{CaptureLocations, Regex};

use super::fields::{Fields, Value};
use crate::source::syslog::parse::{Context, facility_word, parse};

/// The form of a message.
#[derive(Debug)]
pub enum Form {
    /// A JSON object; its members become fields. The member of this name becomes the text.
    Json {
        /// The name.
        message: Option<Box<[u8]>>,
    },
    /// Pairs; they become fields. The value of this name becomes the text.
    Logfmt {
        /// The name.
        message: Option<Box<[u8]>>,
    },
    /// Its named groups become fields.
    Regex(Regex),
    /// Docker's `json-file`.
    Docker,
    /// The Container Runtime Interface's log files.
    Cri,
    /// Syslog, of RFC 5424 or 3164, in a file.
    Syslog,
}

/// What a parser has found beside the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The text without what was taken from it was written to the scratch; `false`: it stays.
    pub text: bool,
    /// When it happened, nanoseconds since 1970.
    pub time_ns: Option<i64>,
    /// 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// 0 to 23.
    pub facility: Option<u8>,
}

/// What a parser may know beside the message.
#[derive(Clone, Debug)]
pub struct Around {
    /// When it was read, nanoseconds since 1970.
    pub read_ns: i64,
    /// For times that name no zone.
    pub zone: TimeZone,
}

/// The buffers of one rule, which serve all its messages.
#[derive(Debug, Default)]
pub struct Buffers {
    locations: Option<CaptureLocations>,
    text: Vec<u8>,
}

impl Form {
    /// Takes a message apart: fields are put, the text is appended to `text`. `None`: it is not of this form, and fields are as they were.
    pub fn read(&self, message: &[u8], fields: &mut Fields, text: &mut Vec<u8>, around: &Around, buffers: &mut Buffers) -> Option<Found> {
        let (before, start) = (fields.mark(), text.len());
        let found = match self {
            Form::Json { message: name } => json::read(message, fields).map(|()| named(name.as_deref(), fields, text)),
            Form::Logfmt { message: name } => {
                logfmt::read(message, fields, &mut buffers.text).map(|()| named(name.as_deref(), fields, text))
            }
            Form::Regex(regex) => groups(regex, message, fields, buffers),
            Form::Docker => container::docker(message, fields, text),
            Form::Cri => container::cri(message, fields, text),
            Form::Syslog => syslog(message, fields, text, around),
        };
        if found.is_none() {
            fields.back(before);
            text.truncate(start);
        }
        found
    }
}

/// The field of this name, should it be text, becomes the message's text.
fn named(name: Option<&[u8]>, fields: &mut Fields, text: &mut Vec<u8>) -> Found {
    let Some(name) = name else { return Found::default() };
    let is_text = |value: &Value<'_>| matches!(value, Value::Text(_)) || matches!(value, Value::Json(json) if json.starts_with(b"\""));
    if !fields.get(name).is_some_and(|value| is_text(&value)) {
        return Found::default();
    }
    text.extend_from_slice(&fields.text(name).unwrap_or_default());
    // One that stands inside of another stays there as well.
    fields.remove(name);
    Found { text: true, ..Found::default() }
}

fn groups(regex: &Regex, message: &[u8], fields: &mut Fields, buffers: &mut Buffers) -> Option<Found> {
    let locations = buffers.locations.get_or_insert_with(|| regex.capture_locations());
    regex.captures_read(locations, message)?;
    for (index, name) in regex.capture_names().enumerate() {
        let (Some(name), Some((start, end))) = (name, locations.get(index)) else { continue };
        if !fields.put(name.as_bytes(), Value::Text(message.get(start..end)?)) {
            return None;
        }
    }
    Some(Found::default())
}

/// A line as syslog daemons write it to files.
fn syslog(message: &[u8], fields: &mut Fields, text: &mut Vec<u8>, around: &Around) -> Option<Found> {
    let parsed = parse(message, &Context { received_ns: around.read_ns, zone: around.zone.clone() });
    if parsed.error.is_some() || parsed.time.is_none() {
        return None;
    }
    let named: [(&[u8], Option<&[u8]>); 6] = [
        (b"hostname", parsed.hostname),
        (b"app", parsed.app),
        (b"procid", parsed.procid),
        (b"msgid", parsed.msgid),
        (b"structured_data", parsed.structured_data),
        (b"facility", parsed.facility.map(|code| facility_word(code).as_bytes())),
    ];
    for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        if !fields.put(name, Value::Text(value)) {
            return None;
        }
    }
    text.extend_from_slice(parsed.message);
    Some(Found { text: true, time_ns: parsed.time.map(|time| time.ns), severity: parsed.severity, facility: parsed.facility })
}

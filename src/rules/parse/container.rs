//! The log files of containers: each line is a wrapper around a line, or around a part of one, that the container wrote. A message of several lines
//! is one whose parts were joined when it was read: each line is unwrapped, and their texts follow each other. Pure.

use jiff::Timestamp;

use super::{Found, json};
use crate::rules::fields::{Fields, Value};

/// Docker's `json-file`: `{"log":"text\n","stream":"stdout","time":"2026-11-27T10:00:00.123456789Z"}`. `log` becomes the text, less the newline at
/// its end, `time` the event's time, all else fields.
pub fn docker(message: &[u8], fields: &mut Fields, text: &mut Vec<u8>) -> Option<Found> {
    let mut found = Found { text: true, ..Found::default() };
    for line in message.split(|byte| *byte == b'\n') {
        json::read(line, fields)?;
        text.extend_from_slice(&fields.text(b"log")?);
        let time = fields.text(b"time").and_then(|time| time_ns(&time));
        found.time_ns = found.time_ns.or(time);
        fields.remove(b"log");
        if time.is_some() {
            fields.remove(b"time");
        }
    }
    if text.ends_with(b"\n") {
        text.pop();
    }
    Some(found)
}

/// The Container Runtime Interface: `2026-11-27T10:00:00.123456789Z stdout F text`, with `P` where the line goes on with the next one.
pub fn cri(message: &[u8], fields: &mut Fields, text: &mut Vec<u8>) -> Option<Found> {
    let mut found = Found { text: true, ..Found::default() };
    for line in message.split(|byte| *byte == b'\n') {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tags) = (time_ns(words.next()?)?, words.next()?, words.next()?);
        if !(matches!(stream, b"stdout" | b"stderr") && matches!(tags.first(), Some(b'P' | b'F'))) {
            return None;
        }
        found.time_ns.get_or_insert(time);
        text.extend_from_slice(words.next().unwrap_or_default());
        if !fields.put(b"stream", Value::Text(stream)) {
            return None;
        }
    }
    Some(found)
}

/// Whether the line says that the next one goes on with it.
#[must_use]
pub fn goes_on(line: &[u8], cri: bool) -> bool {
    if cri {
        let mut words = line.splitn(4, |byte| *byte == b' ').skip(1);
        return matches!(words.next(), Some(b"stdout" | b"stderr")) && words.next().is_some_and(|tags| tags.first() == Some(&b'P'));
    }
    // The end of `log` is in sight without parsing: Docker writes `log` first, and its own `\n` last.
    let Some(rest) = line.strip_prefix(b"{\"log\":\"") else { return false };
    let mut escaped = false;
    let end = rest.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    end.and_then(|end| rest.get(..end)).is_some_and(|log| !log.ends_with(b"\\n"))
}

/// A time of RFC 3339, nanoseconds since 1970.
fn time_ns(text: &[u8]) -> Option<i64> {
    let time: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

//! An entry of the journal among rules: it comes as the finished JSON of its source, is asked member by member, and is written anew where a rule has
//! changed something. Apart because lines and syslog messages become JSON only after the rules. Pure.

use memchr::memchr;

use crate::encode::json::syslog::Seconds;
use crate::encode::json::{escape, escape_lossy};
use crate::encode::members::{Members, Value, unescape, whole_members};
use crate::rules::fields::{Fields, Value as Found, inside};
use crate::rules::redact::{self, Redact};
use crate::source::syslog::parse::time::Time;
use crate::source::syslog::parse::{Parsed, severity_word};

/// What of an entry conditions ask for most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry<'a> {
    /// The message, escaped as it is written.
    pub(super) message: &'a [u8],
    pub(super) unit: Option<&'a [u8]>,
    pub(super) identifier: Option<&'a [u8]>,
    pub(super) severity: Option<u8>,
    /// The object of its other fields.
    pub(super) journal: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// Reads an entry. What is no such object has nothing.
    pub(super) fn of(json: &'a [u8]) -> Entry<'a> {
        let mut entry = Entry::default();
        for (name, value) in Members::of(json) {
            match (name, value) {
                (b"message", Value::Text(text)) => entry.message = text,
                (b"unit", Value::Text(text)) => entry.unit = Some(text),
                (b"identifier", Value::Text(text)) => entry.identifier = Some(text),
                (b"priority", Value::Plain([digit @ b'0'..=b'7'])) => entry.severity = Some(digit - b'0'),
                (b"journal", Value::Object(object)) => entry.journal = Some(object),
                _ => {}
            }
        }
        entry
    }

    /// Whether the message stands as it is.
    pub(super) fn is_plain(&self) -> bool {
        memchr(b'\\', self.message).is_none()
    }

    /// The same as what a syslog message has.
    pub(super) fn parsed(&self) -> Parsed<'a> {
        let facility = self.journal.and_then(facility);
        Parsed { message: self.message, app: self.identifier, severity: self.severity, facility, ..Parsed::default() }
    }
}

/// An entry as all of these leave it. `room` as in [`Redact::apply`].
pub(super) fn redacted(json: &[u8], redacts: &[&Redact], room: usize) -> Vec<u8> {
    let entry = Entry::of(json);
    let (mut message, mut journal) = (Vec::new(), Fields::default());
    unescape(&mut message, entry.message);
    let message = redact::all(redacts, &message, room);
    if let Some(object) = entry.journal {
        journal.put(b"journal", Found::Json(object));
    }
    let blotted = journal.change(|text, out| {
        let changed = redact::all(redacts, text, room);
        out.extend_from_slice(changed.as_deref().unwrap_or_default());
        changed.is_some()
    });
    let changes = Changes { message: message.as_deref(), journal: blotted.then_some(&journal), ..Changes::default() };
    let mut out = Vec::with_capacity(json.len());
    changes.write(json, &mut out);
    out
}

fn facility(journal: &[u8]) -> Option<u8> {
    let Found::Json(value) = inside(journal, b"SYSLOG_FACILITY")? else { return None };
    std::str::from_utf8(value).ok()?.trim_matches('"').parse().ok().filter(|code| *code < 24)
}

/// What rules have changed of an entry.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// It is also what `message_base64` had: that is left out then.
    pub(super) message: Option<&'a [u8]>,
    pub(super) time: Option<i64>,
    pub(super) severity: Option<u8>,
    pub(super) fields: Option<&'a Fields>,
    /// The other fields, with texts in them replaced.
    pub(super) journal: Option<&'a Fields>,
    pub(super) error: Option<[&'a str; 3]>,
}

impl Changes<'_> {
    pub(super) fn is_empty(&self) -> bool {
        let Changes { message, time, severity, fields, journal, error } = self;
        message.is_none() && time.is_none() && severity.is_none() && fields.is_none() && journal.is_none() && error.is_none()
    }

    /// Writes the entry with them, each member where docs/schema.json has it.
    pub(super) fn write(&self, json: &[u8], out: &mut Vec<u8>) {
        const BEFORE: [&[u8]; 11] = [
            b"v",
            b"timestamp",
            b"observed_timestamp",
            b"host",
            b"source",
            b"type",
            b"event_id",
            b"severity",
            b"message_base64",
            b"part",
            b"last",
        ];
        out.push(b'{');
        let (mut error, mut fields) = (self.error, self.fields);
        for (name, value) in whole_members(json) {
            if name == b"message" {
                self.write_message(value, out);
                continue;
            }
            if !BEFORE.contains(&name) {
                put_error(out, &mut error);
            }
            match name {
                b"severity" if self.severity.is_some() => {}
                b"message_base64" if self.message.is_some() => {}
                b"timestamp" if self.time.is_some() => {
                    member(out, name);
                    out.push(b'"');
                    Seconds::new().write(out, Time { ns: self.time.unwrap_or(0), digits: 9 });
                    out.push(b'"');
                }
                b"journal" if self.journal.is_some() => {
                    if let Some(Found::Json(journal)) = self.journal.and_then(|journal| journal.get(name)) {
                        member(out, name);
                        out.extend_from_slice(journal);
                    }
                }
                _ => {
                    if name == b"labels" {
                        put_fields(out, &mut fields);
                    }
                    member(out, name);
                    out.extend_from_slice(value);
                }
            }
        }
        put_error(out, &mut error);
        put_fields(out, &mut fields);
        out.push(b'}');
    }

    fn write_message(&self, value: &[u8], out: &mut Vec<u8>) {
        if let Some(code) = self.severity {
            text(out, b"severity", severity_word(code).as_bytes());
        }
        if let Some(message) = self.message {
            text(out, b"message", message);
        } else {
            member(out, b"message");
            out.extend_from_slice(value);
        }
    }
}

/// Behind the message, before what the type has.
fn put_error(out: &mut Vec<u8>, error: &mut Option<[&str; 3]>) {
    if let Some(pieces) = error.take() {
        text(out, b"parse_error", pieces.concat().as_bytes());
    }
}

fn put_fields(out: &mut Vec<u8>, fields: &mut Option<&Fields>) {
    if let Some(fields) = fields.take() {
        member(out, b"fields");
        fields.write(out);
    }
}

fn member(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(if out.last() == Some(&b'{') { b"\"" } else { b",\"" });
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    member(out, name);
    out.push(b'"');
    if std::str::from_utf8(value).is_ok() {
        escape(out, value);
    } else {
        escape_lossy(out, value);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"v":1,"timestamp":"2026-11-27T10:00:00.000001Z","host":"h","source":"j","type":"journald","event_id":"a:1","severity":"info","message":"said \"x\" to a@b.de","message_base64":"AA==","unit":"ssh.service","identifier":"sshd","priority":6,"pid":7,"journal":{"SYSLOG_FACILITY":"10","_CMDLINE":"sshd a@b.de"},"labels":{"env":"p"}}"#;

    #[test]
    fn an_entry_is_read_by_its_members() {
        let entry = Entry::of(ENTRY.as_bytes());
        assert_eq!((entry.unit, entry.identifier, entry.severity), (Some(b"ssh.service".as_slice()), Some(b"sshd".as_slice()), Some(6)));
        assert_eq!((entry.is_plain(), entry.parsed().facility), (false, Some(10)));
        for broken in ["", "{", "[]", "x", "{\"message\":7,\"priority\":9,\"unit\":[]}"] {
            let entry = Entry::of(broken.as_bytes());
            assert_eq!((entry.message, entry.unit, entry.severity, entry.journal), (b"".as_slice(), None, None, None), "{broken}");
        }
    }

    #[test]
    fn what_rules_changed_is_written_where_it_belongs_and_all_else_stays() {
        let written = |changes: &Changes<'_>| {
            let mut out = Vec::new();
            changes.write(ENTRY.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&Changes::default()), ENTRY);
        let (mut fields, mut journal) = (Fields::default(), Fields::default());
        fields.put(b"user", Found::Text(b"ann"));
        journal.put(b"journal", Found::Json(br#"{"_CMDLINE":"*"}"#));
        let changes = Changes {
            message: Some(b"to *"),
            time: Some(1),
            severity: Some(3),
            fields: Some(&fields),
            journal: Some(&journal),
            error: Some(["rule ", "x", " failed"]),
        };
        assert_eq!(
            written(&changes),
            r#"{"v":1,"timestamp":"1970-01-01T00:00:00.000000001Z","host":"h","source":"j","type":"journald","event_id":"a:1","severity":"error","message":"to *","parse_error":"rule x failed","unit":"ssh.service","identifier":"sshd","priority":6,"pid":7,"journal":{"_CMDLINE":"*"},"fields":{"user":"ann"},"labels":{"env":"p"}}"#
        );
    }
}

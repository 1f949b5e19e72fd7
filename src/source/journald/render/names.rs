//! Names of fields: what each is in a message, and a number for each, by which repeats are noticed. Apart from the writing of messages.

use std::collections::{HashMap, HashSet};

use super::super::cache::{Cache, Fragment};
use super::{Fields, Piece};
use crate::encode::Format;
use crate::encode::json::{base64, escape, escape_lossy};

/// Names that are known at a time; beyond it all are learnt anew.
const MOST: usize = 4096;
/// Longer values of fields that stand beside the message go among the others, bytes.
const SHORT: usize = 512;

/// What a field is in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// `message`, with its base64 where it is no text.
    Message,
    /// `unit`.
    Unit,
    /// `identifier`.
    Identifier,
    /// `priority`, and `severity`.
    Priority,
    /// `pid`.
    Pid,
    /// `uid`.
    Uid,
    /// `timestamp`.
    SourceTime,
    /// Among the others.
    Other,
    /// It is not shipped, or is told already.
    Left,
}

impl Role {
    /// How many have a place of their own.
    pub(super) const TOPS: usize = 7;
}

#[derive(Debug)]
pub(super) struct Names {
    only: HashSet<Vec<u8>>,
    not: HashSet<Vec<u8>>,
    numbers: HashMap<Box<[u8]>, u16>,
    known: Vec<(Box<[u8]>, Role)>,
}

/// Name and value of a field.
pub(super) fn split(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', payload.get(..256).unwrap_or(payload))?;
    let (name, value) = payload.split_at(at);
    (!name.is_empty()).then_some((name, value.get(1..).unwrap_or_default()))
}

impl Names {
    pub(super) fn new(fields: &Fields) -> Names {
        let set = |names: &[String]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Names { only: set(&fields.only), not: set(&fields.not), numbers: HashMap::new(), known: Vec::new() }
    }

    /// What a field of this number is.
    pub(super) fn role(&self, number: u16) -> Role {
        self.known.get(usize::from(number)).map_or(Role::Other, |(_, role)| *role)
    }

    pub(super) fn name(&self, number: u16) -> &[u8] {
        self.known.get(usize::from(number)).map(|(name, _)| &**name).unwrap_or_default()
    }

    /// Forgets all names where there are too many, and the fields that have them; between two entries.
    pub(super) fn tidy(&mut self, cache: &mut Cache, seen: &mut Vec<u64>) {
        if self.known.len() > MOST {
            (self.numbers, self.known) = (HashMap::new(), Vec::new());
            cache.clear();
            seen.clear();
        }
    }

    /// The number of a name.
    pub(super) fn number(&mut self, name: &[u8], seen: &mut Vec<u64>) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // One entry has fewer names than there are numbers; all that were too many would have this one.
        let number = u16::try_from(self.known.len()).unwrap_or(u16::MAX);
        let left = self.not.contains(name) || (!self.only.is_empty() && !self.only.contains(name));
        let role = match name {
            b"MESSAGE" => Role::Message,
            b"_SOURCE_REALTIME_TIMESTAMP" => Role::SourceTime,
            b"_BOOT_ID" => Role::Left,
            _ if left => Role::Left,
            b"_SYSTEMD_UNIT" => Role::Unit,
            b"SYSLOG_IDENTIFIER" => Role::Identifier,
            b"PRIORITY" => Role::Priority,
            b"_PID" => Role::Pid,
            b"_UID" => Role::Uid,
            _ => Role::Other,
        };
        self.numbers.insert(name.into(), number);
        self.known.push((name.into(), role));
        seen.push(0);
        number
    }
}

/// Writes a field as it stands in a message. Where what should be a number is none, or is long, it goes among the others under its own name.
pub(super) fn text(role: Role, format: Format, name: &[u8], value: &[u8], to: &mut Fragment) {
    to.text.clear();
    to.value = 0;
    let fits = match role {
        Role::Priority | Role::Pid | Role::Uid | Role::SourceTime => {
            (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || value.first() != Some(&b'0'))
        }
        Role::Unit | Role::Identifier => value.len() <= SHORT,
        _ => true,
    };
    to.other = !fits;
    let role = if fits { role } else { Role::Other };
    let out = &mut to.text;
    match role {
        Role::Message if format == Format::Raw => out.extend_from_slice(value),
        Role::Message => {
            if simdutf8::basic::from_utf8(value).is_ok() {
                out.extend_from_slice(br#","message":""#);
                escape(out, value);
            } else {
                out.extend_from_slice(br#","message":""#);
                escape_lossy(out, value);
                out.extend_from_slice(br#"","message_base64":""#);
                base64(out, value);
            }
            out.push(b'"');
        }
        Role::Priority | Role::Pid | Role::Uid | Role::SourceTime => out.extend_from_slice(value),
        Role::Unit | Role::Identifier => quoted(out, value),
        Role::Left => {}
        Role::Other => {
            out.extend_from_slice(br#",""#);
            escape_lossy(out, name);
            out.extend_from_slice(br#"":"#);
            to.value = u32::try_from(out.len()).unwrap_or(0);
            plain_or_marked(out, value);
        }
    }
}

/// A string; bytes that are no text in base64, within an object that says so.
pub(super) fn plain_or_marked(out: &mut Vec<u8>, value: &[u8]) {
    if simdutf8::basic::from_utf8(value).is_ok() {
        quoted(out, value);
    } else {
        out.extend_from_slice(br#"{"base64":""#);
        base64(out, value);
        out.extend_from_slice(br#""}"#);
    }
}

fn quoted(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    escape_lossy(out, value);
    out.push(b'"');
}

/// A field that has a place of its own, written among the others.
pub(super) fn as_other(name: &[u8], role: Role, fragment: &Fragment, (rest, pieces): (&mut Vec<u8>, &mut Vec<Piece>)) {
    let start = rest.len();
    rest.extend_from_slice(br#",""#);
    escape_lossy(rest, name);
    rest.extend_from_slice(br#"":"#);
    let value = rest.len();
    let text = fragment.text.as_slice();
    match role {
        Role::Message => {
            // `,"message":"…"`, perhaps with the exact bytes behind it.
            let exact = memchr::memmem::find(text, br#"","message_base64":""#);
            match exact {
                Some(at) => {
                    rest.extend_from_slice(br#"{"base64":"#);
                    rest.extend_from_slice(text.get(at + 19..).unwrap_or_default());
                    rest.push(b'}');
                }
                None => rest.extend_from_slice(text.get(11..).unwrap_or_default()),
            }
        }
        Role::Priority | Role::Pid | Role::Uid | Role::SourceTime => quoted(rest, text),
        _ => rest.extend_from_slice(text),
    }
    pieces.push(Piece { start, value, end: rest.len() });
}

//! Names of fields: what each is in a message, and a number for each, by which repeats are noticed. Apart from the writing of messages.

use std::collections::{HashMap, HashSet};

use super::super::cache::{Cache, Text};
use super::Fields;
use crate::encode::Format;
use crate::encode::json::{base64, escape, escape_lossy, message};

/// Names that are known at a time; beyond it all are learnt anew.
const MOST: usize = 4096;
/// Longer values of fields that stand beside the message go among the others, bytes.
const SHORT: usize = 512;
/// Places by which most names are found without hashing them.
const NEAR: usize = 256;

/// What a field is in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
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
    pub const TOPS: usize = 7;
}

#[derive(Debug)]
pub(super) struct Names {
    only: HashSet<Vec<u8>>,
    not: HashSet<Vec<u8>>,
    numbers: HashMap<Box<[u8]>, u16>,
    /// By length and last bytes, the number of the name that was looked for last.
    near: Box<[u16; NEAR]>,
    known: Vec<(Box<[u8]>, Role)>,
}

/// Where a name is in [`Names::near`].
fn near(name: &[u8]) -> usize {
    let last = name.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (last.wrapping_mul(0x9E37_79B9) >> 24) as usize ^ (name.len() & 0x0F)
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
        Names { only: set(&fields.only), not: set(&fields.not), numbers: HashMap::new(), near: Box::new([0; NEAR]), known: Vec::new() }
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
        cache.tidy();
        if self.known.len() > MOST {
            (self.numbers, self.known) = (HashMap::new(), Vec::new());
            cache.clear();
            seen.clear();
        }
    }

    /// The number of a name.
    pub(super) fn number(&mut self, name: &[u8], seen: &mut Vec<u64>) -> u16 {
        let place = near(name) % NEAR;
        let guess = self.near.get(place).copied().unwrap_or(0);
        if self.known.get(usize::from(guess)).is_some_and(|(known, _)| **known == *name) {
            return guess;
        }
        let number = self.numbers.get(name).copied().unwrap_or_else(|| self.learn(name, seen));
        if let Some(near) = self.near.get_mut(place) {
            *near = number;
        }
        number
    }

    fn learn(&mut self, name: &[u8], seen: &mut Vec<u64>) -> u16 {
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

/// Writes a field as it stands in a message: what it is there, and where in that its value begins. Where what should be a number is none, or is
/// long, it goes among the others under its own name.
pub(super) fn text(role: Role, format: Format, name: &[u8], value: &[u8], out: &mut Vec<u8>) -> (Role, u16) {
    let fits = match role {
        Role::Priority | Role::Pid | Role::Uid | Role::SourceTime => {
            (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || value.first() != Some(&b'0'))
        }
        Role::Unit | Role::Identifier => value.len() <= SHORT,
        _ => true,
    };
    let role = if fits { role } else { Role::Other };
    match role {
        Role::Message if format == Format::Raw => out.extend_from_slice(value),
        Role::Message => message(out, value),
        Role::Priority | Role::Pid | Role::Uid | Role::SourceTime => out.extend_from_slice(value),
        Role::Unit | Role::Identifier => quoted(out, value),
        Role::Left => {}
        Role::Other => {
            let at = named(out, name);
            plain_or_marked(out, value);
            return (role, at);
        }
    }
    (role, 0)
}

/// Begins a field among the others; how long that is.
fn named(out: &mut Vec<u8>, name: &[u8]) -> u16 {
    let begin = out.len();
    out.extend_from_slice(br#",""#);
    escape_lossy(out, name);
    out.extend_from_slice(br#"":"#);
    u16::try_from(out.len() - begin).unwrap_or(u16::MAX)
}

/// A string; bytes that are no text in base64, within an object that says so.
fn plain_or_marked(out: &mut Vec<u8>, value: &[u8]) {
    if simdutf8::basic::from_utf8(value).is_ok() {
        out.push(b'"');
        escape(out, value);
        out.push(b'"');
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

/// A field that has a place of its own, whose text there is this, written among the others.
pub(super) fn as_other(name: &[u8], role: Role, text: &[u8], out: &mut Vec<u8>) -> Text {
    let narrow = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let start = out.len();
    let value = named(out, name);
    match role {
        Role::Message => {
            // `,"message":"…"`, perhaps with the exact bytes behind it.
            let exact = memchr::memmem::find(text, br#"","message_base64":""#);
            match exact {
                Some(at) => {
                    out.extend_from_slice(br#"{"base64":"#);
                    out.extend_from_slice(text.get(at + 19..).unwrap_or_default());
                    out.push(b'}');
                }
                None => out.extend_from_slice(text.get(11..).unwrap_or_default()),
            }
        }
        Role::Priority | Role::Pid | Role::Uid | Role::SourceTime => quoted(out, text),
        _ => out.extend_from_slice(text),
    }
    Text { start: narrow(start), len: narrow(out.len() - start), value, kept: false }
}

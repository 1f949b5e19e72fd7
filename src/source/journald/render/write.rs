//! The bytes of a message around its fields: what all of a batch or a boot have in common is written once and copied.

use std::sync::Arc;

use super::{Entry, JournalFile, Renderer, Role, StreamId, Text};
use crate::encode::Settings;
use crate::encode::json::syslog::Seconds;
use crate::encode::json::{digits, escape, labels};
use crate::source::journald::format::Id;
use crate::source::journald::position::hex;
use crate::source::syslog::parse::severity_word;
use crate::source::syslog::parse::time::Time;

/// Texts up to this length are copied by a copy of this length.
const SHORT: usize = 64;

/// See the module.
pub(super) struct Envelope {
    seconds: Seconds,
    /// `","host":"…","source":"…","type":"journald","event_id":"`.
    source: Vec<u8>,
    end: Vec<u8>,
    observed: Vec<u8>,
    /// From behind the timestamp to before the number in the event's id; of this stream.
    head: Vec<u8>,
    head_of: Option<StreamId>,
    /// `,"boot_id":"…","cursor":"s=…;i=`, and `;b=…;m=`; of this boot and this counter.
    ids: Vec<u8>,
    boot: Vec<u8>,
    ids_of: (Id, Id),
}

impl Envelope {
    pub(super) fn new(settings: &Settings, source: &Arc<str>) -> Envelope {
        let mut head = br#"","host":""#.to_vec();
        escape(&mut head, settings.host.as_bytes());
        head.extend_from_slice(br#"","source":""#);
        escape(&mut head, source.as_bytes());
        head.extend_from_slice(br#"","type":"journald","event_id":""#);
        Envelope {
            seconds: Seconds::new(),
            source: head,
            end: labels(&settings.labels),
            observed: Vec::new(),
            head: Vec::new(),
            head_of: None,
            ids: Vec::new(),
            boot: Vec::new(),
            ids_of: <(Id, Id)>::default(),
        }
    }

    pub(super) fn observe(&mut self, now_ns: i64) {
        self.head_of = None;
        self.observed.clear();
        self.observed.extend_from_slice(br#"","observed_timestamp":""#);
        Seconds::new().write(&mut self.observed, Time { ns: now_ns, digits: 6 });
    }

    fn turn_to(&mut self, stream: StreamId) {
        if self.head_of != Some(stream) {
            self.head_of = Some(stream);
            self.head = [&self.observed, self.source.as_slice(), &digits16(stream.0), b":"].concat();
        }
    }

    fn turn_to_boot(&mut self, boot: Id, counter: Id) {
        if self.ids_of != (boot, counter) || self.ids.is_empty() {
            let id = hex(&boot);
            self.ids = format!(r#","boot_id":"{id}","cursor":"s={};i="#, hex(&counter)).into_bytes();
            self.boot = format!(";b={id};m=").into_bytes();
            self.ids_of = (boot, counter);
        }
    }
}

impl Renderer {
    /// From the beginning to before the message.
    pub(super) fn begin(&mut self, entry: &Entry, stream: StreamId, part: Option<u32>, out: &mut Vec<u8>) {
        let time_us = number(self.top(Role::SourceTime)).unwrap_or(entry.realtime);
        let ns = i64::try_from(time_us).unwrap_or(0).saturating_mul(1000);
        let severity = match self.top(Role::Priority) {
            [digit @ b'0'..=b'7'] => severity_word(digit - b'0'),
            _ => "",
        };
        self.envelope.turn_to(stream);
        out.extend_from_slice(br#"{"v":1,"timestamp":""#);
        self.envelope.seconds.write(out, Time { ns, digits: 6 });
        out.extend_from_slice(&self.envelope.head);
        out.extend_from_slice(digits(entry.seqnum, &mut [0; 20]));
        if let Some(part) = part {
            out.push(b':');
            out.extend_from_slice(digits(part.into(), &mut [0; 20]));
        }
        out.push(b'"');
        if !severity.is_empty() {
            out.extend_from_slice(br#","severity":""#);
            out.extend_from_slice(severity.as_bytes());
            out.push(b'"');
        }
    }

    /// The fields that stand in a row behind the message.
    pub(super) fn named_to(&self, out: &mut Vec<u8>) {
        let named: [(&[u8], Role); 5] = [
            (br#","unit":"#, Role::Unit),
            (br#","identifier":"#, Role::Identifier),
            (br#","priority":"#, Role::Priority),
            (br#","pid":"#, Role::Pid),
            (br#","uid":"#, Role::Uid),
        ];
        for (name, role) in named {
            let value = self.top(role);
            if !value.is_empty() {
                out.extend_from_slice(name);
                out.extend_from_slice(value);
            }
        }
    }

    /// From behind the message to before the other fields.
    pub(super) fn middle(&mut self, entry: &Entry, file: &JournalFile, out: &mut Vec<u8>) {
        match self.named {
            Some(text) => out.extend_from_slice(self.text(text)),
            None => self.named_to(out),
        }
        self.envelope.turn_to_boot(entry.boot_id, file.header().seqnum_id);
        out.extend_from_slice(&self.envelope.ids);
        push_hex(out, entry.seqnum);
        out.extend_from_slice(&self.envelope.boot);
        push_hex(out, entry.monotonic);
        out.extend_from_slice(b";t=");
        push_hex(out, entry.realtime);
        out.extend_from_slice(b";x=");
        push_hex(out, entry.xor_hash);
        out.extend_from_slice(br#"","seqnum":"#);
        out.extend_from_slice(digits(entry.seqnum, &mut [0; 20]));
    }

    pub(super) fn write(&mut self, entry: &Entry, file: &JournalFile, stream: StreamId, out: &mut Vec<u8>) {
        self.begin(entry, stream, None, out);
        let message = self.top(Role::Message);
        out.extend_from_slice(if message.is_empty() { br#","message":"""# } else { message });
        self.middle(entry, file, out);
        self.finish(true, out);
    }

    /// The other fields, if they are to stand here, and the end.
    pub(super) fn finish(&self, fields: bool, out: &mut Vec<u8>) {
        if fields && !self.rest.is_empty() {
            out.extend_from_slice(br#","journal":{"#);
            // Each begins with a comma.
            out.extend_from_slice(self.rest.get(1..).unwrap_or_default());
            out.push(b'}');
        } else if fields && let Some((first, others)) = self.others.split_first() {
            out.extend_from_slice(br#","journal":{"#);
            out.extend_from_slice(self.text(*first).get(1..).unwrap_or_default());
            for text in others {
                append(out, if text.kept { self.cache.texts() } else { &self.fresh }, *text);
            }
            out.push(b'}');
        }
        out.extend_from_slice(&self.envelope.end);
    }
}

/// A copy of a fixed length, of which the rest is taken back, costs much less than one of any length.
fn append(out: &mut Vec<u8>, all: &[u8], text: Text) {
    let (start, len) = (text.start as usize, text.len as usize);
    match all.get(start..).and_then(<[u8]>::first_chunk::<SHORT>) {
        Some(wide) if len <= SHORT => {
            let end = out.len() + len;
            out.extend_from_slice(wide);
            out.truncate(end);
        }
        _ => out.extend_from_slice(text.of(all)),
    }
}

/// A decimal number of at most 18 digits, which is what [`Role::SourceTime`] has.
fn number(text: &[u8]) -> Option<u64> {
    (!text.is_empty()).then(|| text.iter().fold(0, |number: u64, digit| number.wrapping_mul(10) + u64::from(digit & 15)))
}

/// Without zeros before it: they are moved behind it, and what was copied too much is taken back.
fn push_hex(out: &mut Vec<u8>, number: u64) {
    let zeros = (number.leading_zeros() / 4).min(15);
    let end = out.len() + 16 - zeros as usize;
    out.extend_from_slice(&digits16(number << (4 * zeros)));
    out.truncate(end);
}

fn digits16(number: u64) -> [u8; 16] {
    let (high, low) = (digits8(number >> 32), digits8(number & 0xFFFF_FFFF));
    let mut digits = [0; 16];
    let (first, second) = digits.split_at_mut(8);
    first.copy_from_slice(&high);
    second.copy_from_slice(&low);
    digits
}

/// Of a number of 32 bits: each half byte moves into a byte of its own, and all become digits at once.
fn digits8(number: u64) -> [u8; 8] {
    const ONES: u64 = u64::MAX / 255;
    let spread = (number | number << 16) & 0x0000_FFFF_0000_FFFF;
    let spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
    let spread = (spread | spread << 4) & 0x0F0F_0F0F_0F0F_0F0F;
    // 1 in each byte that is ten or more.
    let letters = ((spread + ONES * 6) >> 4) & ONES;
    (spread + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_everyone_writes_them(number: u64, shift in 0..64_u32) {
            let number = number >> shift;
            prop_assert_eq!(String::from_utf8(digits16(number).to_vec()).unwrap(), format!("{number:016x}"));
            let mut out = Vec::new();
            push_hex(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }

        #[test]
        fn a_text_is_appended_whole(before in prop::collection::vec(any::<u8>(), 0..9), all in prop::collection::vec(any::<u8>(), 0..200), from: prop::sample::Index, len in 0..150_u32) {
            let start = from.index(all.len() + 1);
            let len = (all.len() - start).min(len as usize);
            let mut out = before.clone();
            append(&mut out, &all, Text { start: u32::try_from(start).unwrap(), len: u32::try_from(len).unwrap(), value: 0, kept: true });
            prop_assert_eq!(out, [&before, &all[start..start + len]].concat());
        }
    }
}

//! Entries out of the common: those that have a field twice, and those that are longer than a message may be. Here a few allocations do no harm.

use std::collections::HashMap;

use super::{Entry, Format, JournalFile, ReadError, Rendered, Renderer, StreamId, Windows};
use crate::encode::json::{self, digits, escape, escape_lossy, longest};
use crate::encode::raw;

/// What a part has beside envelope, fields and text: its number, and the names of what it has.
const SLACK: usize = 96;

/// The fields, of each its text and where in that its value begins, with each name once: what has several values has them in an array.
pub(super) fn grouped<'a>(fields: impl Iterator<Item = (&'a [u8], usize)>) -> Vec<u8> {
    let fields: Vec<(&[u8], &[u8])> = fields.filter_map(|(text, value)| text.split_at_checked(value)).collect();
    let mut values: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
    for (name, value) in &fields {
        values.entry(name).or_default().push(value);
    }
    let mut out = Vec::new();
    for (name, _) in fields {
        let Some(values) = values.remove(name) else { continue };
        out.extend_from_slice(name);
        if let [only] = values.as_slice() {
            out.extend_from_slice(only);
            continue;
        }
        for (i, value) in values.iter().enumerate() {
            out.push(if i == 0 { b'[' } else { b',' });
            out.extend_from_slice(value);
        }
        out.push(b']');
    }
    out
}

impl Renderer {
    /// The same entry in messages that are short enough: the message in parts, the other fields with the first of them, cut where they alone are
    /// too long.
    pub(super) fn long(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        entry: &Entry,
        stream: StreamId,
        (out, parts): (&mut Vec<u8>, &mut Vec<usize>),
        done: &mut Rendered,
    ) -> Result<(), ReadError> {
        let message = self.value_of(file, windows, b"MESSAGE").unwrap_or_default();
        if self.format == Format::Raw {
            let mut left = message.as_slice();
            while !left.is_empty() {
                let (part, rest) = left.split_at(raw::fits(left, self.max_event).clamp(1, left.len()));
                out.extend_from_slice(part);
                parts.push(out.len());
                left = rest;
            }
            return Ok(());
        }
        if self.rest.is_empty() {
            self.rest = self.others.iter().map(|text| self.text(*text)).collect::<Vec<_>>().concat();
        }
        let half = self.max_event / 2;
        if self.rest.len() > half {
            self.cut(half, done);
        }
        let mut envelope = Vec::new();
        self.begin(entry, stream, Some(u32::MAX), &mut envelope);
        self.middle(entry, file, &mut envelope);
        self.finish(false, &mut envelope);
        let room = self.max_event.saturating_sub(envelope.len() + SLACK);
        let first_room = room.saturating_sub(self.rest.len()).max(64);
        let mut left = message.as_slice();
        let whole = longest(left, first_room) == left.len();
        let mut number = 1;
        loop {
            let room = if number == 1 { first_room } else { room.max(64) };
            let fits = longest(left, room).max(raw::first_character(left)).min(left.len());
            let (text, rest) = left.split_at(fits);
            self.begin(entry, stream, (!whole).then_some(number), out);
            json::message(out, text);
            if !whole {
                out.extend_from_slice(br#","part":"#);
                out.extend_from_slice(digits(number.into(), &mut [0; 20]));
                out.extend_from_slice(if rest.is_empty() { br#","last":true"# } else { br#","last":false"# });
            }
            self.middle(entry, file, out);
            self.finish(number == 1, out);
            if whole {
                return Ok(());
            }
            parts.push(out.len());
            if rest.is_empty() {
                return Ok(());
            }
            (left, number) = (rest, number + 1);
        }
    }

    /// Cuts the longest fields so that all take about `most` bytes. What is left of one stands in an object that says so.
    fn cut(&mut self, most: usize, done: &mut Rendered) {
        let written = [b"{", self.rest.get(1..).unwrap_or_default(), b"}"].concat();
        let fields = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&written).unwrap_or_default();
        let share = most / fields.len().max(1);
        let mut out = Vec::with_capacity(most);
        for (name, value) in fields {
            out.extend_from_slice(br#",""#);
            escape(&mut out, name.as_bytes());
            out.extend_from_slice(br#"":"#);
            let whole = value.to_string();
            if name.len() + whole.len() <= share {
                out.extend_from_slice(whole.as_bytes());
                continue;
            }
            let text = value.as_str().unwrap_or(&whole);
            let keep = longest(text.as_bytes(), share.saturating_sub(name.len() + 48).max(16));
            done.cut += (text.len() - keep) as u64;
            out.extend_from_slice(br#"{"cut":""#);
            escape_lossy(&mut out, text.as_bytes().get(..keep).unwrap_or_default());
            out.extend_from_slice(br#"","length":"#);
            out.extend_from_slice(digits(text.len() as u64, &mut [0; 20]));
            out.push(b'}');
        }
        self.rest = out;
    }
}

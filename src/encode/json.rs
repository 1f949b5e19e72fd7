//! The JSON format: one object a message, its keys in a fixed order (docs/schema.json). Written straight into the arena: what all events of
//! a batch share is rendered once, a line costs copies of ready pieces, its offset's digits and the escaping of its text.

pub(crate) mod syslog;

use std::mem;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use super::{LineStarts, Settings, raw};
use crate::batch::{Batch, Origin, Stream, StreamId};
use crate::source::syslog::parse::severity_word;
use crate::source::syslog::parse::time::Time;

/// Room kept in every message for what [`Json::fits`] does not know: the stream's source and path, of 256 and 4096 bytes, should each byte of
/// them need six. Where `max_event` is so small that this is more than half of it, half of it is kept.
const STREAM_ROOM: usize = 6 * (256 + 4096);

/// How every message begins.
const HEAD: &str = r#"{"v":1,"timestamp":""#;

const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// Writes messages; keeps the pieces that messages share.
#[derive(Debug)]
pub struct Json {
    /// What a message's text may take, escaped, beside the widest envelope.
    text_room: usize,
    /// `agent.host`, escaped.
    host: Vec<u8>,
    /// From after the offset to the end of the object.
    end: Vec<u8>,
    /// From the start of the object to the offset in its event id; of the present batch.
    head: Vec<u8>,
    /// Where in it the event's time ends.
    time_end: usize,
    event_time: syslog::Seconds,
    /// From after the text to the offset; of the present batch.
    path: Vec<u8>,
    syslog: syslog::Syslog,
}

/// One event to write.
struct Message<'a> {
    line: u64,
    part: Option<(u32, bool)>,
    partial: bool,
    text: Text<'a>,
    extra: Found<'a>,
}

/// What rules have found out about an event.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    time: Option<i64>,
    severity: Option<u8>,
    /// As a JSON object, or empty.
    fields: &'a [u8],
    error: &'a [u8],
}

impl<'a> Found<'a> {
    fn of(batch: &'a Batch, index: usize) -> Found<'a> {
        batch.extras.get(index).map_or_else(Found::default, |extra| Found {
            time: extra.time,
            severity: extra.severity,
            fields: batch.span(extra.fields),
            error: batch.span(extra.error),
        })
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        if !self.fields.is_empty() {
            out.extend_from_slice(br#","fields":"#);
            out.extend_from_slice(self.fields);
        }
    }

    fn write_error(&self, out: &mut Vec<u8>) {
        if !self.error.is_empty() {
            out.extend_from_slice(br#","parse_error":""#);
            escape_lossy(out, self.error);
            out.push(b'"');
        }
    }
}

enum Text<'a> {
    Utf8(&'a [u8]),
    Other(&'a [u8]),
}

impl Json {
    /// A writer for this host and these labels.
    #[must_use]
    pub fn new(settings: &Settings) -> Json {
        let mut host = Vec::new();
        escape(&mut host, settings.host.as_bytes());
        let mut json = Json {
            text_room: 0,
            host,
            end: labels(&settings.labels),
            head: Vec::new(),
            time_end: 0,
            event_time: syslog::Seconds::new(),
            path: Vec::new(),
            syslog: syslog::Syslog::new(settings.zone.clone()),
        };
        let nowhere = Stream {
            id: StreamId(0),
            source: "".into(),
            key: Box::default(),
            headers: Vec::new(),
            origin: Origin::Finished,
            topic: "".into(),
        };
        json.begin(&nowhere, 0);
        let mut widest = Vec::new();
        let message =
            Message { line: u64::MAX, part: Some((u32::MAX, false)), partial: true, text: Text::Other(&[]), extra: Found::default() };
        json.write(&mut widest, &message);
        let room = widest.len() + STREAM_ROOM.min(settings.max_event / 2);
        json.text_room = settings.max_event.saturating_sub(room);
        json
    }

    /// What a message's text may take, escaped, and with it the fields.
    pub(super) fn text_room(&self) -> usize {
        self.text_room
    }

    /// How many of these bytes fit into one message; see [`super::Encoder::fits`].
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> usize {
        // A byte takes at most 6 in the text and, with others, 4/3 in base64.
        if bytes.len() * 8 + 4 <= self.text_room {
            return bytes.len();
        }
        match longest(bytes, self.text_room) {
            0 => raw::first_character(bytes),
            cut => cut,
        }
    }

    /// How many bytes fit, whatever they are; structured data, which grows most, included.
    pub(super) fn always_fits(&self) -> usize {
        // A byte takes at most 6 in the text and, with others, 4/3 in base64.
        self.text_room.saturating_sub(4) / 8
    }

    /// Writes all messages of the batch into `arena` and points its events at them; gives back a block that is free now.
    pub(super) fn encode(&mut self, batch: &mut Batch, mut arena: Vec<u8>) -> Vec<u8> {
        let stream = std::sync::Arc::clone(&batch.stream);
        self.begin(&stream, batch.observed_ns);
        let arrivals = match &stream.origin {
            Origin::Arrivals { peer, transport } => Some((&**peer, *transport)),
            _ => None,
        };
        if let Some((peer, transport)) = arrivals {
            self.syslog.begin(&self.host, &stream, peer, transport);
        }
        let envelope = self.head.len() + self.path.len() + self.end.len() + 64;
        let estimate = batch.bytes.len() + batch.bytes.len() / 8 + batch.events.len() * envelope;
        let mut spare = Vec::new();
        arena.clear();
        if arena.capacity() > estimate.saturating_mul(2) {
            // A few lines must not pin a large block.
            spare = mem::take(&mut arena);
        }
        arena.reserve(estimate);

        // One look at all bytes in the usual case; a span is then text if it begins and ends between characters. Between those of an arrival log
        // are numbers.
        let all = simdutf8::basic::from_utf8(if arrivals.is_some() { &[] } else { &batch.bytes }).ok();
        let mut lines = LineStarts::of(batch);
        let mut events = mem::take(&mut batch.events);
        for (index, event) in events.iter_mut().enumerate() {
            let extra = Found::of(batch, index);
            if arrivals.is_some() {
                let begin = arena.len();
                self.syslog.write(&mut arena, batch, event, lines.next(event), (&self.end, extra));
                *event = event.moved(span(begin), span(arena.len() - begin));
                continue;
            }
            let bytes = batch.event_bytes(event);
            let start = event.start as usize;
            let known = all.is_some_and(|all| all.is_char_boundary(start) && all.is_char_boundary(start + bytes.len()));
            let text = if known || simdutf8::basic::from_utf8(bytes).is_ok() { Text::Utf8(bytes) } else { Text::Other(bytes) };
            let begin = arena.len();
            self.write(&mut arena, &Message { line: lines.next(event), part: event.part(), partial: event.partial(), text, extra });
            *event = event.moved(span(begin), span(arena.len() - begin));
        }
        batch.events = events;
        batch.extras.clear();
        let block = mem::replace(&mut batch.bytes, arena);
        if spare.capacity() > block.capacity() { spare } else { block }
    }

    /// Renders what all messages of a batch share.
    fn begin(&mut self, stream: &Stream, observed_ns: i64) {
        // Every i64 of nanoseconds lies in jiff's range (1677 to 2262).
        let time = Timestamp::from_nanosecond(i128::from(observed_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
        self.head.clear();
        self.head.extend_from_slice(format!("{HEAD}{time:.6}").as_bytes());
        self.time_end = self.head.len();
        self.head.extend_from_slice(format!(r#"","observed_timestamp":"{time:.6}","host":""#).as_bytes());
        self.head.extend_from_slice(&self.host);
        self.head.extend_from_slice(br#"","source":""#);
        escape(&mut self.head, stream.source.as_bytes());
        self.head.extend_from_slice(br#"","type":"file","event_id":""#);
        self.head.extend_from_slice(format!("{}:", stream.id).as_bytes());
        self.path.clear();
        self.path.extend_from_slice(br#","path":""#);
        escape_lossy(&mut self.path, stream.path());
        self.path.extend_from_slice(br#"","offset":"#);
    }

    /// Writes one message.
    fn write(&mut self, out: &mut Vec<u8>, message: &Message<'_>) {
        let mut room = [0; 20];
        let offset = digits(message.line, &mut room);
        let mut head = self.head.as_slice();
        if let Some(ns) = message.extra.time {
            out.extend_from_slice(HEAD.as_bytes());
            self.event_time.write(out, Time { ns, digits: 9 });
            head = head.get(self.time_end..).unwrap_or_default();
        }
        out.extend_from_slice(head);
        out.extend_from_slice(offset);
        if let Some((part, _)) = message.part {
            out.push(b':');
            out.extend_from_slice(digits(part.into(), &mut [0; 20]));
        }
        if let Some(severity) = message.extra.severity {
            out.extend_from_slice(br#"","severity":""#);
            out.extend_from_slice(severity_word(severity).as_bytes());
        }
        out.extend_from_slice(br#"","message":""#);
        match message.text {
            Text::Utf8(text) => escape(out, text),
            Text::Other(bytes) => {
                escape_lossy(out, bytes);
                out.extend_from_slice(br#"","message_base64":""#);
                base64(out, bytes);
            }
        }
        out.push(b'"');
        if let Some((part, last)) = message.part {
            out.extend_from_slice(br#","part":"#);
            out.extend_from_slice(digits(part.into(), &mut [0; 20]));
            out.extend_from_slice(if last { br#","last":true"# } else { br#","last":false"# });
        }
        if message.partial {
            out.extend_from_slice(br#","partial":true"#);
        }
        message.extra.write_error(out);
        out.extend_from_slice(&self.path);
        out.extend_from_slice(offset);
        message.extra.write_fields(out);
        out.extend_from_slice(&self.end);
    }
}

/// Whether a text of these bytes fits into `room` when so much else has to go there.
pub(crate) fn fits_beside(bytes: &[u8], room: usize, beside: usize) -> bool {
    // A byte takes at most 6 in the text and, with others, 4/3 in base64.
    let left = room.saturating_sub(beside);
    bytes.len() * 8 + 4 <= left || (left > 0 && longest(bytes, left) == bytes.len())
}

/// The longest prefix of whole characters whose text, and base64 where it is not UTF-8, take no more than `room`.
pub(crate) fn longest(bytes: &[u8], room: usize) -> usize {
    // Each byte takes one at least: what lies further on can't fit, and a character that begins within the limit is whole here.
    let window = bytes.get(..room + 4).unwrap_or(bytes);
    let (mut taken, mut text) = (0, 0);
    let mut utf8 = true;
    for chunk in window.utf8_chunks() {
        for character in chunk.valid().chars() {
            let len = character.len_utf8();
            let wide = u8::try_from(character).ok().filter(u8::is_ascii).map_or(len, escaped_len);
            if text + wide + base64_len(taken + len, utf8) > room {
                return taken;
            }
            (taken, text) = (taken + len, text + wide);
        }
        let broken = chunk.invalid().len();
        if broken > 0 {
            utf8 = false;
            if text + REPLACEMENT.len() + base64_len(taken + broken, utf8) > room {
                return taken;
            }
            (taken, text) = (taken + broken, text + REPLACEMENT.len());
        }
    }
    taken
}

/// From after the offset to the end of the object.
pub(crate) fn labels(labels: &[(String, String)]) -> Vec<u8> {
    let mut end = Vec::new();
    for (i, (name, value)) in labels.iter().enumerate() {
        end.extend_from_slice(if i == 0 { br#","labels":{""# } else { br#",""# });
        escape(&mut end, name.as_bytes());
        end.extend_from_slice(br#"":""#);
        escape(&mut end, value.as_bytes());
        end.push(b'"');
    }
    end.extend_from_slice(if labels.is_empty() { b"}" } else { b"}}" });
    end
}

/// The text of a JSON string for these UTF-8 bytes: eight at a time are looked at, and what needs no escape is copied in whole runs.
pub(crate) fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let (words, rest) = text.as_chunks::<8>();
    let mut copied = 0;
    for (i, word) in words.iter().enumerate() {
        let hits = hits(*word);
        if hits != 0 {
            copied = escape_hits(out, text, copied, i * 8, hits);
        }
    }
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    copied = escape_hits(out, text, copied, words.len() * 8, hits(last));
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
}

/// The high bit of each byte that needs an escape. With the high bits set no subtraction borrows from the next byte: it leaves that bit
/// clear where a byte is below 0x20 or, after the exclusive or, equal. Bytes above 0x7F never are.
fn hits(word: [u8; 8]) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let word = u64::from_le_bytes(word);
    let low = word | HIGH;
    let printable = low.wrapping_sub(ONES * 0x20);
    let no_quote = (low ^ (ONES * 0x22)).wrapping_sub(ONES);
    let no_backslash = (low ^ (ONES * 0x5C)).wrapping_sub(ONES);
    !(printable & no_quote & no_backslash) & !word & HIGH
}

/// Writes `text` from `copied` on, up to and with the bytes that are hit in the word at `at`; says how far that is.
fn escape_hits(out: &mut Vec<u8>, text: &[u8], mut copied: usize, at: usize, mut hits: u64) -> usize {
    while hits != 0 {
        let hit = at + hits.trailing_zeros() as usize / 8;
        out.extend_from_slice(text.get(copied..hit).unwrap_or_default());
        let byte = text.get(hit).copied().unwrap_or_default();
        match short_escape(byte) {
            Some(letter) => out.extend_from_slice(&[b'\\', letter]),
            None => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]),
        }
        copied = hit + 1;
        hits &= hits - 1;
    }
    copied
}

/// The member `message`, behind others; with its exact bytes where they are no text.
pub(crate) fn message(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(br#","message":""#);
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        escape(out, bytes);
    } else {
        escape_lossy(out, bytes);
        out.extend_from_slice(br#"","message_base64":""#);
        base64(out, bytes);
    }
    out.push(b'"');
}

/// The same for any bytes: what is not UTF-8 becomes U+FFFD.
pub(crate) fn escape_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
}

/// The letter of the two-byte escape of this byte, where it has one.
fn short_escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\t' => Some(b't'),
        b'\r' => Some(b'r'),
        0x08 => Some(b'b'),
        0x0C => Some(b'f'),
        _ => None,
    }
}

/// How many bytes this ASCII byte takes in a JSON string.
fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\t' | b'\r' | 0x08 | 0x0C => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

/// What the bytes take in base64; nothing while they are UTF-8.
fn base64_len(bytes: usize, utf8: bool) -> usize {
    if utf8 { 0 } else { bytes.div_ceil(3) * 4 }
}

/// The bytes in base64.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let begin = out.len();
    out.resize(begin + base64_len(bytes.len(), false), b'=');
    let written = out.get_mut(begin..).map(|room| STANDARD.encode_slice(bytes, room));
    debug_assert!(matches!(written, Some(Ok(len)) if len == base64_len(bytes.len(), false)));
}

/// The decimal digits of a number, at the end of `room`; two at a time, since each division waits for the one before.
pub(crate) fn digits(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut first = room.len();
    for pair in room.as_chunks_mut::<2>().0.iter_mut().rev() {
        let low = u8::try_from(number % 100).unwrap_or(0);
        *pair = [b'0' + low / 10, b'0' + low % 10];
        first -= if low < 10 && number < 100 { 1 } else { 2 };
        number /= 100;
        if number == 0 {
            break;
        }
    }
    room.get(first..).unwrap_or_default()
}

pub(super) fn span(at: usize) -> u32 {
    #[expect(clippy::expect_used, reason = "bounded by MAX_EVENTS and a reader's block; to go on would ship wrong bytes")]
    u32::try_from(at).expect("a batch's messages come to less than 4 GiB")
}

//! An entry becomes a message: JSON (docs/schema.json), or its `MESSAGE` alone. Fields that recur are copied from the [`Cache`]; only what is new is
//! decoded. Nothing is allocated per entry, except for one that repeats a field or is longer than a message may be.

mod long;
mod names;

use std::sync::Arc;

use super::cache::{Cache, Fragment};
use super::filter::Filter;
use super::format::Entry;
use super::position::hex;
use super::reader::{JournalFile, ReadError, Windows};
use super::unpack::Unpacker;
use crate::batch::StreamId;
use crate::encode::json::syslog::Seconds;
use crate::encode::json::{digits, escape, labels};
use crate::encode::{Format, Settings};
use crate::source::syslog::parse::severity_word;
use crate::source::syslog::parse::time::Time;
use names::{Names, Role};

/// Which fields are shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// These alone, beside the message; empty: all.
    pub only: Vec<String>,
    /// Not these.
    pub not: Vec<String>,
}

/// A piece of a message: a field's name and where in a buffer it stands.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    value: usize,
    end: usize,
}

/// Renders entries; one for each source.
pub struct Renderer {
    format: Format,
    max_event: usize,
    filter: Filter,
    names: Names,
    cache: Cache,
    unpacker: Unpacker,
    /// `","host":"…","source":"…","type":"journald","event_id":"`.
    head: Vec<u8>,
    end: Vec<u8>,
    seconds: Seconds,
    observed: Vec<u8>,
    /// Of the present entry.
    items: Vec<u64>,
    scratch: Fragment,
    /// By role, what stands before `journal`.
    tops: [Vec<u8>; Role::TOPS],
    rest: Vec<u8>,
    pieces: Vec<Piece>,
    /// By the number of a name, the last entry that had it.
    seen: Vec<u64>,
    number: u64,
    repeated: bool,
}

impl std::fmt::Debug for Renderer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renderer").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The filter wants it; else nothing was written.
    pub wanted: bool,
    /// Its fields in the journal, uncompressed, a byte for each one's end included.
    pub bytes: u64,
    /// Fields that could not be read.
    pub damaged: u32,
    /// Bytes of fields that were cut, since the message would be too long.
    pub cut: u64,
    /// It tells that journald's rate limit suppressed messages, see [`Renderer::suppressed`].
    pub suppressed: bool,
}

/// Set in the bits of the field that says that journald suppressed messages.
const SUPPRESSED: u64 = 1 << 63;
/// That field.
const SUPPRESSED_ID: (&[u8], &[u8]) = (b"MESSAGE_ID", b"a596d6fe7bfa4994828e72309e95d61e");
/// What all fields of an entry may take once they are written, bytes, or four messages; what is beyond is cut.
const MOST: usize = 32 << 20;

impl Renderer {
    /// For this source; `settings` say how messages look.
    #[must_use]
    pub fn new(settings: &Settings, source: &Arc<str>, fields: &Fields, filter: Filter) -> Renderer {
        let mut head = br#"","host":""#.to_vec();
        escape(&mut head, settings.host.as_bytes());
        head.extend_from_slice(br#"","source":""#);
        escape(&mut head, source.as_bytes());
        head.extend_from_slice(br#"","type":"journald","event_id":""#);
        Renderer {
            format: settings.format,
            max_event: settings.max_event,
            filter,
            names: Names::new(fields),
            cache: Cache::default(),
            unpacker: Unpacker::default(),
            head,
            end: labels(&settings.labels),
            seconds: Seconds::new(),
            observed: Vec::new(),
            items: Vec::new(),
            scratch: Fragment::default(),
            tops: Default::default(),
            rest: Vec::new(),
            pieces: Vec::new(),
            seen: Vec::new(),
            number: 0,
            repeated: false,
        }
    }

    /// What is shipped at all.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Frees what is kept: for pauses.
    pub fn rest(&mut self) {
        self.cache.clear();
    }

    /// What follows is read now, nanoseconds since 1970.
    pub fn observe(&mut self, now_ns: i64) {
        self.observed.clear();
        self.observed.extend_from_slice(br#"","observed_timestamp":""#);
        Seconds::new().write(&mut self.observed, Time { ns: now_ns, digits: 6 });
    }

    /// Renders the entry whose object is at `at` behind what is in `out`. A message that is longer than it may be is not: `parts` then has the
    /// end of each of the messages that it became.
    ///
    /// # Errors
    /// The system's, or the file has been deleted; then nothing was written.
    pub fn entry(
        &mut self,
        (file, windows): (&JournalFile, &mut Windows),
        (entry, at): (&Entry, u64),
        stream: StreamId,
        out: &mut Vec<u8>,
        parts: &mut Vec<usize>,
    ) -> Result<Rendered, ReadError> {
        parts.clear();
        let mut done = Rendered::default();
        if !self.filter.wants_boot(&entry.boot_id) {
            return Ok(done);
        }
        let mut items = std::mem::take(&mut self.items);
        let found = file.items(windows, at, &mut items);
        let outcome = match found {
            Ok(()) => self.fields(file, windows, &items, &mut done),
            Err(ReadError::Damage(_)) => {
                done.damaged += 1;
                items.clear();
                self.fields(file, windows, &[], &mut done)
            }
            Err(error) => Err(error),
        };
        self.items = items;
        outcome?;
        if !done.wanted {
            return Ok(Rendered { bytes: 0, ..done });
        }
        done.bytes += super::format::ENTRY as u64;
        let begin = out.len();
        match self.format {
            Format::Raw => out.extend_from_slice(self.top(Role::Message)),
            // What is to be in another format is JSON until the encoder has it.
            Format::Json | Format::Ecs | Format::Otlp => {
                if self.repeated {
                    self.group();
                }
                self.write(entry, file, stream, out);
            }
        }
        if out.len() - begin > self.max_event {
            out.truncate(begin);
            self.long(file, windows, entry, stream, (out, parts), &mut done)?;
        }
        Ok(done)
    }

    fn top(&self, role: Role) -> &[u8] {
        self.tops.get(role as usize).map(Vec::as_slice).unwrap_or_default()
    }

    /// Collects the fields of an entry, and decides whether it is wanted.
    fn fields(&mut self, file: &JournalFile, windows: &mut Windows, items: &[u64], done: &mut Rendered) -> Result<(), ReadError> {
        self.begin_entry();
        let shared_below = file.shared_below();
        if !self.filter.takes_all() {
            let mut bits = 0;
            for item in items {
                bits |= self.bits(file, windows, *item, *item < shared_below, done)?;
            }
            (done.damaged, done.cut) = (0, 0);
            if !self.filter.wants(bits) {
                return Ok(());
            }
        }
        done.wanted = true;
        let most = MOST.max(self.max_event.saturating_mul(4));
        for item in items {
            let kept = if *item < shared_below { self.cache.get(file.key(), *item) } else { None };
            let room = (&mut self.tops, &mut self.rest, &mut self.pieces);
            if let Some(fragment) = kept {
                done.bytes += u64::from(fragment.len) + 1;
                done.suppressed |= fragment.bits & SUPPRESSED != 0;
                add(fragment, &self.names, room, (&mut self.seen, self.number, &mut self.repeated));
                continue;
            }
            if !self.decode(file, windows, *item, *item < shared_below, done)? {
                continue;
            }
            done.bytes += u64::from(self.scratch.len) + 1;
            done.suppressed |= self.scratch.bits & SUPPRESSED != 0;
            if self.rest.len() + self.scratch.text.len() > most {
                done.cut += u64::from(self.scratch.len);
                continue;
            }
            let room = (&mut self.tops, &mut self.rest, &mut self.pieces);
            add(&self.scratch, &self.names, room, (&mut self.seen, self.number, &mut self.repeated));
        }
        Ok(())
    }

    fn begin_entry(&mut self) {
        self.number += 1;
        self.repeated = false;
        // What one large entry took is given back.
        for buffer in self.tops.iter_mut().chain([&mut self.rest, &mut self.scratch.text]) {
            if buffer.capacity() > 1 << 20 {
                *buffer = Vec::new();
            }
            buffer.clear();
        }
        self.pieces.clear();
        self.names.tidy(&mut self.cache, &mut self.seen);
    }

    /// Of the entry that was rendered last, which tells of suppressed messages: how many, and of which unit.
    pub fn suppressed(&mut self, file: &JournalFile, windows: &mut Windows) -> (u64, String) {
        let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned()).unwrap_or_default();
        let count = text(self.value_of(file, windows, b"N_DROPPED")).parse().unwrap_or(0);
        (count, text(self.value_of(file, windows, b"OBJECT_SYSTEMD_UNIT")))
    }

    /// The value of a field of the entry that was rendered last.
    fn value_of(&mut self, file: &JournalFile, windows: &mut Windows, wanted: &[u8]) -> Option<Vec<u8>> {
        self.items.iter().find_map(|item| {
            let (packing, bytes) = file.field(windows, *item).ok()?;
            let (payload, _) = self.unpacker.unpack(packing, bytes).ok()?;
            let (name, value) = names::split(payload)?;
            (name == wanted).then(|| value.to_vec())
        })
    }

    /// What a field says of the filter; kept where others share it.
    fn bits(&mut self, file: &JournalFile, windows: &mut Windows, item: u64, shared: bool, done: &mut Rendered) -> Result<u64, ReadError> {
        if shared {
            if let Some(fragment) = self.cache.get(file.key(), item) {
                return Ok(fragment.bits);
            }
            return Ok(if self.decode(file, windows, item, true, done)? { self.scratch.bits } else { 0 });
        }
        let (packing, bytes) = match file.field(windows, item) {
            Ok(field) => field,
            Err(ReadError::Damage(_)) => return Ok(0),
            Err(error) => return Err(error),
        };
        let Ok((payload, _)) = self.unpacker.unpack(packing, bytes) else { return Ok(0) };
        Ok(names::split(payload).map_or(0, |(name, value)| self.filter.bits(name, value)))
    }

    /// Reads a field into `scratch`, and keeps it where others share it; false if it is damaged.
    fn decode(
        &mut self,
        file: &JournalFile,
        windows: &mut Windows,
        item: u64,
        shared: bool,
        done: &mut Rendered,
    ) -> Result<bool, ReadError> {
        let field = file.field(windows, item).and_then(|(packing, bytes)| Ok(self.unpacker.unpack(packing, bytes)?));
        let (payload, len) = match field {
            Ok(field) => field,
            Err(ReadError::Damage(_)) => {
                done.damaged += 1;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Some((name, value)) = names::split(payload) else {
            done.damaged += 1;
            return Ok(false);
        };
        if len > payload.len() as u64 {
            done.cut += 1;
        }
        let scratch = &mut self.scratch;
        scratch.key = self.names.number(name, &mut self.seen);
        scratch.bits = self.filter.bits(name, value) | if (name, value) == SUPPRESSED_ID { SUPPRESSED } else { 0 };
        scratch.len = u32::try_from(len).unwrap_or(u32::MAX);
        names::text(self.names.role(scratch.key), self.format, name, value, scratch);
        if shared {
            self.cache.put(file.key(), item, scratch);
        }
        Ok(true)
    }

    fn group(&mut self) {
        let pieces = std::mem::take(&mut self.pieces);
        self.rest = long::grouped(&self.rest, &pieces);
        self.pieces = pieces;
    }

    /// From the beginning to before the message.
    fn begin(&mut self, entry: &Entry, stream: StreamId, part: Option<u32>, out: &mut Vec<u8>) {
        let time_us = number(self.top(Role::SourceTime)).unwrap_or(entry.realtime);
        let ns = i64::try_from(time_us).unwrap_or(0).saturating_mul(1000);
        out.extend_from_slice(br#"{"v":1,"timestamp":""#);
        self.seconds.write(out, Time { ns, digits: 6 });
        out.extend_from_slice(&self.observed);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&hex_digits(stream.0));
        out.push(b':');
        out.extend_from_slice(digits(entry.seqnum, &mut [0; 20]));
        if let Some(part) = part {
            out.push(b':');
            out.extend_from_slice(digits(part.into(), &mut [0; 20]));
        }
        out.push(b'"');
        if let [digit @ b'0'..=b'7'] = self.top(Role::Priority) {
            out.extend_from_slice(br#","severity":""#);
            out.extend_from_slice(severity_word(digit - b'0').as_bytes());
            out.push(b'"');
        }
    }

    /// From behind the message to before the other fields.
    fn middle(&self, entry: &Entry, file: &JournalFile, out: &mut Vec<u8>) {
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
        let boot = hex_id(&entry.boot_id);
        out.extend_from_slice(br#","boot_id":""#);
        out.extend_from_slice(&boot);
        out.extend_from_slice(br#"","cursor":"s="#);
        out.extend_from_slice(&hex_id(&file.header().seqnum_id));
        for (name, number) in [(b";i=", entry.seqnum), (b";m=", entry.monotonic), (b";t=", entry.realtime), (b";x=", entry.xor_hash)] {
            if name == b";m=" {
                out.extend_from_slice(b";b=");
                out.extend_from_slice(&boot);
            }
            out.extend_from_slice(name);
            let all = hex_digits(number);
            let zeros = all.iter().take(15).take_while(|digit| **digit == b'0').count();
            out.extend_from_slice(all.get(zeros..).unwrap_or_default());
        }
        out.extend_from_slice(br#"","seqnum":"#);
        out.extend_from_slice(digits(entry.seqnum, &mut [0; 20]));
    }

    fn write(&mut self, entry: &Entry, file: &JournalFile, stream: StreamId, out: &mut Vec<u8>) {
        self.begin(entry, stream, None, out);
        let message = self.tops.get(Role::Message as usize).map(Vec::as_slice).unwrap_or_default();
        out.extend_from_slice(if message.is_empty() { br#","message":"""# } else { message });
        self.middle(entry, file, out);
        self.finish(true, out);
    }

    /// The other fields, if they are to stand here, and the end.
    fn finish(&self, fields: bool, out: &mut Vec<u8>) {
        if fields && !self.rest.is_empty() {
            out.extend_from_slice(br#","journal":{"#);
            // Each begins with a comma.
            out.extend_from_slice(self.rest.get(1..).unwrap_or_default());
            out.push(b'}');
        }
        out.extend_from_slice(&self.end);
    }
}

/// Puts a field where it belongs in the message.
fn add(
    fragment: &Fragment,
    names: &Names,
    (tops, rest, pieces): (&mut [Vec<u8>; Role::TOPS], &mut Vec<u8>, &mut Vec<Piece>),
    (seen, number, repeated): (&mut [u64], u64, &mut bool),
) {
    let role = if fragment.other { Role::Other } else { names.role(fragment.key) };
    if role == Role::Left {
        return;
    }
    let last = seen.get_mut(usize::from(fragment.key)).map_or(0, |last| std::mem::replace(last, number));
    let again = last == number;
    if let Some(top) = tops.get_mut(role as usize) {
        if !again {
            top.extend_from_slice(&fragment.text);
            return;
        }
        // What a field has twice has no place for the second beside the first.
        names::as_other(names.name(fragment.key), role, fragment, (rest, pieces));
        *repeated = true;
        return;
    }
    *repeated |= again;
    let start = rest.len();
    rest.extend_from_slice(&fragment.text);
    pieces.push(Piece { start, value: start + fragment.value as usize, end: rest.len() });
}

/// A decimal number.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn hex_digits(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        let nibble = (rest & 15).to_le_bytes()[0];
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        rest >>= 4;
    }
    digits
}

fn hex_id(id: &super::format::Id) -> [u8; 32] {
    let mut digits = [0; 32];
    let halves = u128::from_be_bytes(*id).to_be_bytes();
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    debug_assert_eq!(digits.as_slice(), hex(id).as_bytes());
    digits
}

//! An entry becomes a message: JSON (docs/schema.json), or its `MESSAGE` alone. Fields that recur are copied from the [`Cache`]; only what is new is
//! decoded. Nothing is allocated per entry, except for one that repeats a field or is longer than a message may be.

mod collect;
mod long;
mod names;
mod write;

use std::sync::Arc;

use super::cache::{Cache, Text};
use super::filter::Filter;
use super::format::Entry;
use super::reader::{JournalFile, ReadError, Windows};
use super::unpack::Unpacker;
use crate::batch::StreamId;
use crate::encode::{Format, Settings};
use names::Names;
pub use names::Role;
use write::Envelope;

/// Which fields are shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// These alone, beside the message; empty: all.
    pub only: Vec<String>,
    /// Not these.
    pub not: Vec<String>,
}

/// Renders entries; one for each source.
pub struct Renderer {
    format: Format,
    max_event: usize,
    filter: Filter,
    names: Names,
    cache: Cache,
    unpacker: Unpacker,
    envelope: Envelope,
    /// Of the present entry.
    items: Vec<u64>,
    /// Texts of fields that it does not share.
    fresh: Vec<u8>,
    /// By role, what stands before `journal`; empty where it has none.
    tops: [Text; Role::TOPS],
    /// Those of them that stand in a row, if they were met so before.
    named: Option<Text>,
    /// What stands in `journal`, in order …
    others: Vec<Text>,
    /// … or, of an entry that repeats a field or is long, the text of all that.
    rest: Vec<u8>,
    /// The numbers of the names of fields that it shares.
    keys: Vec<u16>,
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

impl Renderer {
    /// For this source; `settings` say how messages look.
    #[must_use]
    pub fn new(settings: &Settings, source: &Arc<str>, fields: &Fields, filter: Filter) -> Renderer {
        Renderer {
            format: settings.format,
            max_event: settings.max_event,
            filter,
            names: Names::new(fields),
            cache: Cache::default(),
            unpacker: Unpacker::default(),
            envelope: Envelope::new(settings, source),
            items: Vec::new(),
            fresh: Vec::new(),
            tops: Default::default(),
            named: None,
            others: Vec::new(),
            rest: Vec::new(),
            keys: Vec::new(),
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
        self.envelope.observe(now_ns);
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
                    self.rest = long::grouped(self.others.iter().map(|text| (self.text(*text), text.value.into())));
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

    fn text(&self, text: Text) -> &[u8] {
        text.of(if text.kept { self.cache.texts() } else { &self.fresh })
    }

    fn top(&self, role: Role) -> &[u8] {
        self.tops.get(role as usize).map(|text| self.text(*text)).unwrap_or_default()
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
}

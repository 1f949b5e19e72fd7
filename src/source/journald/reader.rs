//! One journal file, entry by entry, through small windows read with `pread`: no mapping, which journald's truncating would turn into a signal.
//! Whatever the bytes are, it ends, and memory is bounded. Apart from `follow.rs`, which knows many files and what comes after what.

mod search;
mod seek;
mod values;
mod windows;

use std::io;

use super::format::{self, ARRAY, Damage, ENTRY, Entry, HEADER, Header, OBJECT, Object, Packing, Type, Unfit, u64_at};
use super::unpack::MAX_FIELD;
use windows::WINDOW;
pub use windows::{Bytes, Windows};

/// So many offsets of entries are read at once.
const AHEAD: u64 = 128;
/// An entry of a file that is being written, which is not there yet although it is counted, is taken for damaged when so many follow it.
const CERTAIN: u64 = 64;

/// Why something can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file's own bytes say so.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// It is no journal, or not one for this release, or not any more.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Where reading stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    /// The array whose items are being read; 0 before the first.
    array: u64,
    /// How many items it has.
    room: u64,
    /// The next item in it.
    index: u64,
    /// Entries before that, in all arrays.
    passed: u64,
    /// The arrays are damaged: the objects are searched one by one, from here on.
    scan: Option<u64>,
}

/// What is next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This entry, whose object is there.
    Entry(Entry, u64),
    /// Nothing more for now.
    End,
    /// An entry that is counted is not there yet.
    Wait,
}

/// See the module.
pub struct JournalFile {
    bytes: Box<dyn Bytes>,
    /// By which windows and fields that were rendered are known to be its.
    key: u64,
    header: Header,
    /// journald writes to it no more.
    closed: bool,
    cursor: Cursor,
    /// Offsets of the entries from `ahead.0` on in the cursor's array.
    ahead: (u64, Vec<u64>),
    next: Option<Next>,
    /// Entries that could not be read.
    damaged: u64,
    /// Where a search of objects ends: the file's size then.
    end: u64,
    /// The object of the last entry that was read.
    behind: u64,
}

impl std::fmt::Debug for JournalFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalFile").field("header", &self.header).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

impl JournalFile {
    /// A file, before its first entry. `key` is a number that no other file of the source has, not 0.
    ///
    /// # Errors
    /// It can't be read, or is none.
    pub fn open(bytes: Box<dyn Bytes>, key: u64, closed: bool) -> Result<JournalFile, ReadError> {
        let header = read_header(bytes.as_ref())?;
        let closed = closed || header.archived;
        Ok(JournalFile {
            bytes,
            key,
            header,
            closed,
            cursor: Cursor::default(),
            ahead: (0, Vec::new()),
            next: None,
            damaged: 0,
            end: 0,
            behind: 0,
        })
    }

    /// What its header said when it was last looked at.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Entries that could not be read so far.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// A field before this was there before the next entry: others have it too.
    #[must_use]
    pub fn shared_below(&self) -> u64 {
        self.behind
    }

    /// How many entries lie behind the cursor, about.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.header.entries.saturating_sub(self.cursor.passed + self.cursor.index)
    }

    /// journald writes to it no more.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.next = None;
        }
    }

    /// Reads the header again; says whether there are more entries than before.
    ///
    /// # Errors
    /// It can't be read, or has been deleted meanwhile and given its blocks back.
    pub fn refresh(&mut self, windows: &mut Windows) -> Result<bool, ReadError> {
        let header = read_header(self.bytes.as_ref()).inspect_err(|_| {
            // What was read before is not there any more.
            self.next = None;
            self.ahead.1.clear();
            windows.forget(self.key);
        })?;
        let grew = header.entries != self.header.entries;
        self.closed |= header.archived;
        self.header = header;
        if grew && self.cursor.scan.is_some() {
            self.end = self.size()?;
        }
        if grew || matches!(self.next, Some(Next::Wait)) {
            windows.forget(self.key);
            self.ahead.1.clear();
        }
        if !matches!(self.next, Some(Next::Entry(..))) {
            self.next = None;
        }
        Ok(grew)
    }

    /// The next entry; the same until [`JournalFile::advance`].
    ///
    /// # Errors
    /// It can't be read, or has been deleted meanwhile.
    pub fn peek(&mut self, windows: &mut Windows) -> Result<Next, ReadError> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let next = self.find(windows)?;
        self.next = Some(next);
        Ok(next)
    }

    /// Goes on behind the entry that was peeked at.
    pub fn advance(&mut self) {
        if let Some(Next::Entry(_, offset)) = self.next.take() {
            self.behind = offset;
            match &mut self.cursor.scan {
                Some(at) => *at = offset + 8,
                None => self.cursor.index += 1,
            }
        }
    }

    fn find(&mut self, windows: &mut Windows) -> Result<Next, ReadError> {
        loop {
            if let Some(at) = self.cursor.scan {
                return self.search(windows, at);
            }
            let missing = match self.slot(windows) {
                Ok(None) => return Ok(Next::End),
                Ok(Some(0)) => Damage::Outside,
                Ok(Some(offset)) => match self.entry(windows, offset) {
                    Ok(entry) => return Ok(Next::Entry(entry, offset)),
                    Err(ReadError::Damage(damage)) => damage,
                    Err(error) => return Err(error),
                },
                Err(ReadError::Damage(_)) => {
                    if !self.is_certain() {
                        return Ok(Next::Wait);
                    }
                    self.refresh(windows)?;
                    self.end = self.size()?;
                    self.cursor.scan = Some(HEADER as u64);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !self.is_certain() {
                return Ok(Next::Wait);
            }
            // Zeros may mean that all of it is being deleted.
            self.refresh(windows)?;
            tracing::debug!(entry = self.cursor.passed + self.cursor.index, "an entry of a journal can't be read: {missing}");
            self.damaged += 1;
            self.cursor.index += 1;
        }
    }

    /// Whether what is not there is damaged: it will not come any more.
    fn is_certain(&self) -> bool {
        self.closed || self.left() > CERTAIN
    }

    /// The offset in the next slot; `None` at the end.
    fn slot(&mut self, windows: &mut Windows) -> Result<Option<u64>, ReadError> {
        let Cursor { array, room, index, passed, .. } = self.cursor;
        if passed + index >= self.header.entries {
            return Ok(None);
        }
        if array == 0 || index >= room {
            let next = if array == 0 { self.header.arrays } else { u64_at(self.get(windows, array, ARRAY)?, OBJECT).unwrap_or(0) };
            // Arrays are made one after the other, so a chain that goes back would never end.
            if next <= array {
                return Err(Damage::Outside.into());
            }
            let room = self.array(windows, next)?;
            self.cursor = Cursor { array: next, room, index: 0, passed: passed + index, scan: None };
            self.ahead.1.clear();
        }
        let (from, slots) = &self.ahead;
        let known = self.cursor.index.checked_sub(*from).and_then(|at| slots.get(usize::try_from(at).ok()?));
        if let Some(slot) = known {
            return Ok(Some(*slot));
        }
        self.read_ahead(windows)
    }

    /// Reads the offsets of the entries from the next one on; the first of them.
    fn read_ahead(&mut self, windows: &mut Windows) -> Result<Option<u64>, ReadError> {
        let Cursor { array, room, index, passed, .. } = self.cursor;
        let (width, at) = (self.header.slot(), array.saturating_add(ARRAY as u64 + index * self.header.slot() as u64));
        let count = AHEAD.min(room - index).min(self.header.entries - passed - index);
        let len = usize::try_from(count).unwrap_or(1) * width;
        let bytes = match windows.get(self.key, self.bytes.as_ref(), at, len) {
            Ok(bytes) => bytes,
            // Some of them may be there.
            Err(ReadError::Damage(_)) => windows.get(self.key, self.bytes.as_ref(), at, width)?,
            Err(error) => return Err(error),
        };
        self.ahead.0 = index;
        self.ahead.1.clear();
        self.ahead.1.extend(bytes.chunks_exact(width).map(little_endian));
        Ok(self.ahead.1.first().copied())
    }

    fn slot_at(&self, windows: &mut Windows, array: u64, index: u64) -> Result<u64, ReadError> {
        let width = self.header.slot();
        let bytes = self.get(windows, array + ARRAY as u64 + index * width as u64, width)?;
        Ok(little_endian(bytes))
    }

    /// How many items the array at `at` has.
    fn array(&self, windows: &mut Windows, at: u64) -> Result<u64, ReadError> {
        let object = self.object(windows, at, Type::EntryArray)?;
        match object.size.saturating_sub(ARRAY as u64) / self.header.slot() as u64 {
            0 => Err(Damage::Outside.into()),
            room => Ok(room),
        }
    }

    fn get<'a>(&self, windows: &'a mut Windows, at: u64, len: usize) -> Result<&'a [u8], ReadError> {
        windows.get(self.key, self.bytes.as_ref(), at, len)
    }

    fn object(&self, windows: &mut Windows, at: u64, kind: Type) -> Result<Object, ReadError> {
        check(at)?;
        let object = Object::parse(self.get(windows, at, OBJECT)?)?;
        if object.kind == kind { Ok(object) } else { Err(Damage::Type.into()) }
    }

    fn entry(&self, windows: &mut Windows, at: u64) -> Result<Entry, ReadError> {
        check(at)?;
        let bytes = self.get(windows, at, ENTRY)?;
        let object = Object::parse(bytes)?;
        if object.kind != Type::Entry || object.size < ENTRY as u64 {
            return Err(if object.kind == Type::Entry { Damage::Outside } else { Damage::Type }.into());
        }
        Ok(Entry::parse(bytes)?)
    }

    /// Puts the offsets of the fields of the entry at `at` into `items`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn items(&self, windows: &mut Windows, at: u64, items: &mut Vec<u64>) -> Result<(), ReadError> {
        items.clear();
        let object = self.object(windows, at, Type::Entry)?;
        let limit = ENTRY + format::MAX_ITEMS * self.header.item();
        let len = usize::try_from(object.size).ok().filter(|len| *len <= limit).ok_or(Damage::Outside)?;
        Ok(format::items(self.get(windows, at, len)?, self.header.compact, items)?)
    }

    /// The payload of the field at `at`, as it is stored, and how it is packed.
    ///
    /// # Errors
    /// It can't be read.
    pub fn field<'a>(&self, windows: &'a mut Windows, at: u64) -> Result<(Packing, &'a [u8]), ReadError> {
        let object = self.object(windows, at, Type::Data)?;
        let begin = self.header.payload();
        let len = usize::try_from(object.size).ok().and_then(|size| size.checked_sub(begin)).ok_or(Damage::Outside)?;
        // Of a field that is cut anyway only so much is read; and a length that the file does not have must not take memory.
        let len = if object.packing == Packing::Plain { len.min(MAX_FIELD + 1) } else { len };
        if len > MAX_FIELD * 2 || (len > WINDOW && self.bytes.read(&mut [0], at + (begin + len) as u64 - 1)? == 0) {
            return Err(Damage::Outside.into());
        }
        Ok((object.packing, self.get(windows, at + begin as u64, len)?))
    }

    /// By which fields that were rendered are known to be its.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }
}

/// Whether an object may be there at all.
fn check(at: u64) -> Result<(), Damage> {
    if at < HEADER as u64 || !at.is_multiple_of(8) || at > u64::MAX / 2 { Err(Damage::Outside) } else { Ok(()) }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn read_header(bytes: &dyn Bytes) -> Result<Header, ReadError> {
    let mut buffer = [0; HEADER];
    let len = bytes.read(&mut buffer, 0)?;
    Ok(Header::parse(buffer.get(..len).unwrap_or_default())?)
}

//! One stream: the entries of one journal (`system`, `user-1000`, …) under one id of numbers, in the order of their numbers, over all its files, as
//! they are rotated, renamed, cut off and deleted. Apart from `follow.rs`, which knows many streams.

mod part;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{Entry, Id, Unfit};
use super::position::Place;
use super::reader::{JournalFile, Next, ReadError, Windows};
use crate::batch::{Event, Stream};
use crate::ledger::Count;
pub use part::Part;
use part::open;

/// What is next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// An entry, and where it is in the file.
    Entry(Entry, u64),
    /// A file that had numbers up to this one ended before: deleted, or damaged.
    Lost(u64, Why),
    /// Nothing for now.
    End,
}

/// Why entries can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The journal has deleted them.
    Deleted,
    /// The file is damaged.
    Damaged,
}

/// A batch that is being made.
#[derive(Debug, Default)]
pub struct Making {
    /// Its messages, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each of them is.
    pub events: Vec<Event>,
    /// Where its first event begins in the stream.
    pub base: u64,
    /// Whole events …
    pub count: u64,
    /// … of which these were sent before.
    pub again: Count,
    /// Entries were passed over, or taken in.
    pub moved: bool,
}

/// See the module.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own; together they are no state machine")]
pub struct JournalStream {
    /// The stream its events are of.
    pub stream: Arc<Stream>,
    /// The journal's name.
    pub base: String,
    /// Of the counter of its numbers.
    pub seqnum_id: Id,
    /// Files that are not read to their end, in order.
    pub parts: VecDeque<Part>,
    /// Ids of files that are.
    pub finished: Vec<Id>,
    /// All before it has been handed on, or stands in a batch that is being made.
    pub at: Place,
    /// Entries up to this number were handed on before this start; they are only counted among the numbers that are there.
    pub known: u64,
    /// The number of the entry that was read last, known ones included.
    pub before: Option<u64>,
    /// Entries up to this number are not looked at at all.
    pub read: u64,
    /// Events that end at or before this offset are settled already.
    pub skip_to: u64,
    /// About so far they were settled already, and are sent again all the same.
    pub again_to: u64,
    /// The position that it was resumed at has been looked for in the files.
    pub resumed: bool,
    /// Entries that could not be read since this was last asked.
    damaged: u64,
    head: Option<Head>,
    /// It is known at which number it begins.
    pub begun: bool,
    /// It goes on where the state says.
    pub resumes: bool,
    /// The state has it: a kill finds it again.
    pub kept: bool,
    /// At the last end something of it was on its way, or not read.
    pub waits: bool,
    /// Bytes and entries of events so far, for the estimate of what is left.
    pub seen: (u64, u64),
    /// What the state has of it: its path, whether it is there, and when it was seen.
    pub noted: (bool, i64),
    /// What was read and not handed on yet.
    pub making: Making,
}

/// Ids of finished files that are kept; older ones are not in the directory any more.
const FINISHED: usize = 4096;

impl JournalStream {
    /// A stream that goes on at `at`.
    #[must_use]
    pub fn new(stream: Arc<Stream>, base: String, at: Place) -> JournalStream {
        JournalStream {
            stream,
            base,
            seqnum_id: at.seqnum_id,
            parts: VecDeque::new(),
            finished: Vec::new(),
            known: at.through,
            before: None,
            read: at.through,
            at,
            skip_to: 0,
            again_to: 0,
            resumed: false,
            damaged: 0,
            head: None,
            begun: false,
            resumes: false,
            kept: false,
            waits: false,
            seen: (0, 0),
            noted: (false, 0),
            making: Making::default(),
        }
    }

    /// Whether this is a file of it that is being read, or was.
    #[must_use]
    pub fn has(&self, file_id: &Id) -> bool {
        self.finished.contains(file_id) || self.parts.iter().any(|part| part.header.file_id == *file_id)
    }

    /// Takes a file in.
    pub fn add(&mut self, part: Part, windows: &mut Windows) {
        // One that was empty when it was looked at last may have been filled since, and is the older one.
        if self.parts.iter().any(|part| part.header.head_seqnum == 0) {
            self.look(windows);
        }
        let at = self.parts.iter().position(|other| other.order() > part.order()).unwrap_or(self.parts.len());
        if at == 0 {
            self.head = None;
        }
        self.parts.insert(at, part);
    }

    /// Reads anew what the headers of open files say.
    pub fn look(&mut self, windows: &mut Windows) {
        let mut any = false;
        for part in &mut self.parts {
            let Some(reader) = &mut part.reader else { continue };
            // What is wrong shows when it is read.
            any |= reader.refresh(windows).unwrap_or(true);
            part.header = *reader.header();
            part.closed |= part.header.archived;
        }
        if any || !matches!(self.head, Some(Head::Entry(..))) {
            self.head = None;
        }
    }

    /// Whether it has a file that journald may write to.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.parts.iter().any(|part| !part.closed && !part.gone)
    }

    /// Whether its file at the front may have been closed without that being known: another has come behind it.
    #[must_use]
    pub fn wants_a_search(&self) -> bool {
        self.parts.len() > 1 && self.parts.front().is_some_and(|part| !part.closed && !part.gone)
    }

    /// Whether the file at the front is what it was: not deleted while an entry of it was being read.
    ///
    /// # Errors
    /// It has been deleted, or can't be read.
    pub fn is_still_there(&mut self, windows: &mut Windows) -> Result<(), ReadError> {
        match self.parts.front_mut().and_then(|part| part.reader.as_mut()) {
            Some(reader) => reader.refresh(windows).map(drop),
            None => Ok(()),
        }
    }

    /// About how many entries are not read yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        let of = |part: &Part| part.reader.as_ref().map_or(part.header.entries, JournalFile::left);
        self.parts.iter().map(of).sum()
    }

    /// Entries that could not be read since this was asked last.
    pub fn take_damaged(&mut self) -> u64 {
        std::mem::take(&mut self.damaged)
    }

    /// The file that the head is in.
    #[must_use]
    pub fn current(&self) -> Option<&JournalFile> {
        self.parts.front()?.reader.as_ref()
    }

    /// Entries could not be read since that was last taken note of.
    #[must_use]
    pub fn has_damaged(&self) -> bool {
        self.damaged > 0
    }

    /// Before its first event: whether offsets still say which events were settled beyond the position. They do while the filter is the same and
    /// nothing is gone between the position and what is read; if not, the marks of the state are to go.
    #[must_use]
    pub fn resume(&mut self, filter: u32) -> bool {
        if std::mem::replace(&mut self.resumed, true) {
            return true;
        }
        let id = self.at.file_id;
        let follows = self.parts.front().is_some_and(|part| part.header.head_seqnum <= self.known.saturating_add(1));
        if self.at.filter != filter & !1 || !(follows || self.has(&id)) {
            (self.again_to, self.skip_to) = (self.skip_to, 0);
        }
        self.at.filter = filter & !1;
        self.again_to <= self.at.offset
    }

    /// What is next; the same until [`JournalStream::advance`] or [`JournalStream::look`].
    ///
    /// # Errors
    /// A file can't be opened or read for now; which one.
    pub fn peek(&mut self, windows: &mut Windows) -> Result<Head, (PathBuf, ReadError)> {
        if let Some(head) = self.head {
            return Ok(head);
        }
        let head = self.find(windows)?;
        self.head = Some(head);
        Ok(head)
    }

    /// Goes on behind the head.
    pub fn advance(&mut self) {
        match self.head.take() {
            Some(Head::Entry(entry, _)) => {
                (self.before, self.read) = (Some(entry.seqnum), self.read.max(entry.seqnum));
                if let Some(reader) = self.parts.front_mut().and_then(|part| part.reader.as_mut()) {
                    reader.advance();
                }
            }
            Some(Head::Lost(to, _)) => {
                self.read = self.read.max(to);
                self.finish(None);
            }
            Some(Head::End) | None => {}
        }
    }

    fn find(&mut self, windows: &mut Windows) -> Result<Head, (PathBuf, ReadError)> {
        loop {
            let read = self.read;
            let Some(part) = self.parts.front_mut() else { return Ok(Head::End) };
            if part.reader.is_none() {
                if part.header.tail_seqnum <= read {
                    self.finish(Some(windows));
                    continue;
                }
                match open(part, windows, read) {
                    Ok(reader) => part.reader = Some(reader),
                    Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Ok(self.lost(Why::Deleted, windows));
                    }
                    Err(ReadError::Unfit(Unfit::Zeroed)) => return Ok(self.lost(Why::Deleted, windows)),
                    Err(ReadError::Unfit(_) | ReadError::Damage(_)) => return Ok(self.lost(Why::Damaged, windows)),
                    Err(error) => return Err((part.path.clone(), error)),
                }
            }
            let Some(reader) = part.reader.as_mut() else { return Ok(Head::End) };
            if part.closed || part.gone {
                reader.close();
            }
            let damaged = reader.damaged();
            let next = reader.peek(windows);
            self.damaged += reader.damaged() - damaged;
            match next {
                Ok(Next::Entry(entry, _)) if entry.seqnum <= read => reader.advance(),
                Ok(Next::Entry(entry, at)) => return Ok(Head::Entry(entry, at)),
                Ok(Next::Wait) => return Ok(Head::End),
                Ok(Next::End) => {
                    if !(part.closed || part.gone) {
                        return Ok(Head::End);
                    }
                    // It may have been written to between the last look and its end.
                    if !std::mem::replace(&mut part.last_look, true) {
                        match reader.refresh(windows) {
                            Ok(_) => part.header = *reader.header(),
                            Err(ReadError::Unfit(Unfit::Zeroed)) => return Ok(self.lost(Why::Deleted, windows)),
                            Err(error) => return Err((part.path.clone(), error)),
                        }
                        continue;
                    }
                    if part.header.tail_seqnum > read {
                        return Ok(Head::Lost(part.header.tail_seqnum, Why::Damaged));
                    }
                    self.finish(Some(windows));
                }
                Err(ReadError::Unfit(Unfit::Zeroed)) => return Ok(self.lost(Why::Deleted, windows)),
                Err(ReadError::Unfit(_) | ReadError::Damage(_)) => return Ok(self.lost(Why::Damaged, windows)),
                Err(error) => return Err((part.path.clone(), error)),
            }
        }
    }

    /// The rest of the file at the front can't be read.
    fn lost(&mut self, why: Why, windows: &mut Windows) -> Head {
        let Some(part) = self.parts.front_mut() else { return Head::End };
        if !std::mem::replace(&mut part.said, true) {
            tracing::warn!(source = %self.stream.source, path = %part.path.display(), read = self.read, tail = part.header.tail_seqnum,
            "{}", if why == Why::Deleted { "the journal has deleted this file before it was read to its end" } else { "the rest of this file of the journal can't be read" });
        }
        windows.forget(part.key);
        part.reader = None;
        // Numbers that are in the next file as well are not lost; so its own are asked for first.
        part.gone = true;
        Head::Lost(part.header.tail_seqnum, why)
    }

    /// Lets the file at the front go.
    fn finish(&mut self, windows: Option<&mut Windows>) {
        let Some(part) = self.parts.pop_front() else { return };
        if let Some(windows) = windows {
            windows.forget(part.key);
        }
        if self.finished.len() >= FINISHED {
            self.finished.drain(..FINISHED / 2);
        }
        self.finished.push(part.header.file_id);
        self.head = None;
    }
}

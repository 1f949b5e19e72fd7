//! One file of a stream: where it is, whether it is still written to, and how it is opened.

use std::fs::File;
use std::path::PathBuf;

use crate::source::journald::format::Header;
use crate::source::journald::reader::{JournalFile, ReadError, Windows};

/// A file of a stream.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own; together they are no state machine")]
pub struct Part {
    /// Where it was last seen.
    pub path: PathBuf,
    /// Device and inode.
    pub inode: (u64, u64),
    /// What its header said last.
    pub header: Header,
    /// journald writes to it no more.
    pub closed: bool,
    /// It is not in its directory any more.
    pub gone: bool,
    /// Open while it is read, and while it is written to.
    pub reader: Option<JournalFile>,
    /// It was looked at once more after it was closed.
    pub(super) last_look: bool,
    /// It was said that it can't be read to its end.
    pub(super) said: bool,
    /// By which what was read of it is known; no other file has it.
    pub(super) key: u64,
}

impl Part {
    /// A file that was found, and its header. `key` is a number that no other file has.
    #[must_use]
    pub fn new(path: PathBuf, inode: (u64, u64), closed: bool, reader: JournalFile, key: u64) -> Part {
        let header = *reader.header();
        let closed = closed || header.archived;
        // Others are opened when it is their turn.
        let reader = (!closed).then_some(reader);
        Part { path, inode, header, closed, gone: false, reader, last_look: false, said: false, key }
    }

    /// Where it stands among the others: by its first number; one without entries is the newest.
    pub(super) fn order(&self) -> (u64, u64, u64) {
        let head = if self.header.head_seqnum == 0 { u64::MAX } else { self.header.head_seqnum };
        (head, self.header.tail_seqnum, self.header.head_realtime)
    }
}

/// Opens a file where entries behind `read` begin.
pub(super) fn open(part: &Part, windows: &mut Windows, read: u64) -> Result<JournalFile, ReadError> {
    let mut reader = JournalFile::open(Box::new(File::open(&part.path)?), part.key, part.closed)?;
    if reader.header().file_id != part.header.file_id {
        // Another has taken its name: it is gone, or will be found under its new one.
        return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into());
    }
    reader.seek(windows, read)?;
    Ok(reader)
}

//! What is read of files: small windows, kept while they are near what is being read. Bounded, whatever the offsets are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::ReadError;
use crate::source::journald::format::Damage;

/// How much of a file is read at once, bytes.
pub(super) const WINDOW: usize = 64 << 10;
/// Windows that are kept, of all files of a source.
const WINDOWS: usize = 12;

/// Where the bytes of a journal file come from.
pub trait Bytes: Send {
    /// Reads at `offset`; fewer than asked for only at the end.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Bytes for File {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl Bytes for Vec<u8> {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(len)
    }
}

#[derive(Debug, Default)]
struct Window {
    file: u64,
    at: u64,
    used: u64,
    bytes: Vec<u8>,
}

/// What was read lately of any file.
#[derive(Debug, Default)]
pub struct Windows {
    kept: Vec<Window>,
    /// The last one that was asked for.
    last: usize,
    clock: u64,
    /// For what lies across windows.
    wide: Vec<u8>,
}

impl Windows {
    /// Forgets what was read of a file: it may have been written to since.
    pub fn forget(&mut self, file: u64) {
        self.kept.iter_mut().filter(|window| window.file == file).for_each(|window| (window.file, window.used) = (0, 0));
    }

    /// Frees all: for pauses.
    pub fn clear(&mut self) {
        *self = Windows::default();
    }

    pub(super) fn get(&mut self, file: u64, bytes: &dyn Bytes, at: u64, len: usize) -> Result<&[u8], ReadError> {
        let begin = at - at % WINDOW as u64;
        #[expect(clippy::cast_possible_truncation, reason = "below WINDOW")]
        let first = (at - begin) as usize;
        let end = first.saturating_add(len);
        if end > WINDOW {
            if self.wide.capacity() > 1 << 20 {
                self.wide = Vec::new();
            }
            self.wide.clear();
            self.wide.resize(len, 0);
            if bytes.read(&mut self.wide, at)? < len {
                return Err(Damage::Outside.into());
            }
            return Ok(&self.wide);
        }
        let is_it = |window: &Window| window.file == file && window.at == begin;
        if !self.kept.get(self.last).is_some_and(is_it) {
            self.last = match self.kept.iter().position(is_it) {
                Some(found) => found,
                None => self.load(file, bytes, begin)?,
            };
            self.clock += 1;
            if let Some(window) = self.kept.get_mut(self.last) {
                window.used = self.clock;
            }
        }
        let window = self.kept.get(self.last).map(|window| window.bytes.as_slice()).unwrap_or_default();
        window.get(first..end).ok_or(ReadError::Damage(Damage::Outside))
    }

    /// Reads a window in place of the one that lies two before it, so that a file that is read through needs few of them, and those stay in the
    /// processor's cache; else in place of the one that was not asked for for the longest time.
    fn load(&mut self, file: u64, bytes: &dyn Bytes, at: u64) -> Result<usize, ReadError> {
        let passed = self.kept.iter().position(|window| window.file == file && window.at + 2 * WINDOW as u64 == at);
        if self.kept.len() < WINDOWS && passed.is_none() {
            self.kept.push(Window::default());
        }
        let oldest = || self.kept.iter().enumerate().min_by_key(|(_, window)| window.used).map_or(0, |(index, _)| index);
        let oldest = passed.unwrap_or_else(oldest);
        let Some(window) = self.kept.get_mut(oldest) else { return Ok(0) };
        window.file = 0;
        window.bytes.resize(WINDOW, 0);
        let len = bytes.read(&mut window.bytes, at)?;
        window.bytes.truncate(len);
        (window.file, window.at) = (file, at);
        Ok(oldest)
    }
}

//! The directory of dead letters: files of bounded size, named by growing numbers, oldest first. Thin: what is in a file stands in [`super::format`].
//!
//! A file is only appended to by the process that made it, and never after an error that leaves its end in doubt; so nothing ever stands behind a
//! torn end. A file without letters is removed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::format::{self, FILE_HEADER, Found};
use super::{Letter, Number, PutError, Settings};
use crate::durable;
use crate::space::Space;
use crate::spill::KeepFree;

/// A file that has reached this size is not appended to any more; one letter may be larger.
const FILE_SIZE: u64 = 16 << 20;
const SUFFIX: &str = ".letters";

/// Why letters can't be read.
#[derive(Debug, thiserror::Error)]
#[error("dead letters can't be read from {}: {error}", path.display())]
pub struct ReadError {
    path: PathBuf,
    error: io::Error,
}

/// Why letters can't be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Their file can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Their file can't be written anew without them.
    #[error("dead letters can't be removed from {}: {error}; they are still there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// The files.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    max_size: u64,
    keep_free: KeepFree,
    open: Option<Open>,
    /// What all files take, bytes; `None` until looked at.
    taken: Option<u64>,
    /// The largest number of a file seen so far: none is given twice.
    last: u64,
}

/// The file that is appended to.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    number: u64,
    drawn: u64,
    bytes: u64,
    next: u32,
}

impl Files {
    pub(super) fn new(settings: &Settings) -> Files {
        Files { dir: settings.dir.clone(), max_size: settings.max_size, keep_free: settings.keep_free, open: None, taken: None, last: 0 }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}{SUFFIX}"))
    }

    /// All files, oldest first, with their numbers.
    fn all(&self) -> Result<Vec<(u64, PathBuf)>, ReadError> {
        let failed = |error| ReadError { path: self.dir.clone(), error };
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            all.extend(number(&path).map(|number| (number, path)));
        }
        all.sort_unstable();
        Ok(all)
    }

    /// What all files take, bytes.
    pub(super) fn bytes(&mut self) -> Result<u64, ReadError> {
        if let Some(bytes) = self.taken {
            return Ok(bytes);
        }
        let mut bytes = 0;
        for (number, path) in self.all()? {
            bytes += fs::metadata(&path).map_err(|error| ReadError { path, error })?.len();
            self.last = self.last.max(number);
        }
        self.taken = Some(bytes);
        Ok(bytes)
    }

    /// Appends a letter and makes it durable.
    pub(super) fn put(&mut self, letter: &Letter) -> Result<Number, PutError> {
        let dir = self.dir.clone();
        let failed = |error| PutError::Io { path: dir.clone(), error };
        durable::make_dir(&self.dir).map_err(failed)?;
        let taken = self.bytes().map_err(|ReadError { path, error }| PutError::Io { path, error })?;
        let needed = letter.size() as u64 + FILE_HEADER as u64 + 256;
        self.room(taken, needed)?;
        let mut open = match self.open.take().filter(|open| open.bytes + needed <= FILE_SIZE) {
            Some(open) => open,
            None => self.create()?,
        };
        let Some(record) = format::record(open.drawn, open.next, letter) else {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "the letter is larger than 4 GiB")));
        };
        let before = open.bytes;
        match open.append(&record) {
            Ok(number) => {
                self.taken = Some(taken + open.bytes - before);
                self.open = Some(open);
                Ok(number)
            }
            Err(error) => Err(self.give_up(&open, error)),
        }
    }

    /// Whether so many bytes may be written.
    fn room(&self, taken: u64, needed: u64) -> Result<(), PutError> {
        let dir = self.dir.display();
        if taken.saturating_add(needed) > self.max_size {
            let words = format!("{dir} is full of dead letters ({taken} of {} bytes): resend or discard some", self.max_size);
            return Err(PutError::NoRoom(words));
        }
        let space = Space::of(&self.dir).map_err(|error| PutError::Io { path: self.dir.clone(), error })?;
        if needed > space.usable(self.keep_free) {
            let words = format!(
                "a dead letter of {needed} bytes does not fit on the file system of {dir}: {} bytes are free, and spill.keep_free is left to others; make room",
                space.free
            );
            return Err(PutError::NoRoom(words));
        }
        Ok(())
    }

    fn create(&mut self) -> Result<Open, PutError> {
        let number = self.last + 1;
        let path = self.path(number);
        let create = || {
            let mut drawn = [0; 8];
            rustix::rand::getrandom(&mut drawn, rustix::rand::GetRandomFlags::empty())?;
            let drawn = u64::from_le_bytes(drawn);
            let file = durable::create(&path)?;
            Ok(Open { path: path.clone(), file, number, drawn, bytes: 0, next: 0 })
        };
        let open = create().map_err(|error| no_room(&path, error));
        // Also when it failed: the file may be there.
        self.last = number;
        open
    }

    /// After a failed append: the file is not written to again. If nothing in it was ever safe, it goes.
    fn give_up(&mut self, open: &Open, error: io::Error) -> PutError {
        if open.next == 0
            && let Err(error) = durable::remove(&open.path)
        {
            tracing::warn!(file = %open.path.display(), %error, "a file that holds nothing safe can't be removed");
        }
        self.taken = None;
        no_room(&open.path, error)
    }

    /// Shows every letter, oldest first; returns what can't be read.
    pub(super) fn each(&mut self, mut see: impl FnMut(Number, Letter)) -> Result<Vec<String>, ReadError> {
        let mut unreadable = Vec::new();
        for (file, path) in self.all()? {
            let bytes = fs::read(&path).map_err(|error| ReadError { path: path.clone(), error })?;
            match format::walk(&bytes) {
                Err(format::FileError::Short) => {}
                Err(error) => unreadable.push(format!("{} is left as it is: {error}", path.display())),
                Ok(walk) => {
                    for found in walk {
                        match found {
                            Found::Letter { index, letter, .. } => see(Number { file, index }, letter),
                            Found::Damage(at) => {
                                unreadable.push(format!("{}: {} bytes at {} are damaged", path.display(), at.len(), at.start));
                            }
                            Found::Torn(at) => unreadable.push(format!(
                                "{}: the last {} bytes at {} are no whole letter; one that was never finished, or damage",
                                path.display(),
                                at.len(),
                                at.start
                            )),
                        }
                    }
                }
            }
        }
        Ok(unreadable)
    }

    /// Removes letters; says how many were there.
    pub(super) fn remove(&mut self, numbers: &[Number]) -> Result<usize, RemoveError> {
        let numbers: BTreeSet<Number> = numbers.iter().copied().collect();
        let files: BTreeSet<u64> = numbers.iter().map(|number| number.file).collect();
        // The file that is appended to may be replaced, and the numbers given so far stay given.
        self.bytes()?;
        (self.open, self.taken) = (None, None);
        let mut removed = 0;
        for file in files {
            removed += self.remove_from(file, &numbers)?;
        }
        Ok(removed)
    }

    fn remove_from(&self, file: u64, numbers: &BTreeSet<Number>) -> Result<usize, RemoveError> {
        let path = self.path(file);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(ReadError { path, error }.into()),
        };
        let Ok(walk) = format::walk(&bytes) else { return Ok(0) };
        // Damage is kept as it is, for a person to look at.
        let (mut kept, mut removed, mut worth_keeping) = (bytes.get(..FILE_HEADER).unwrap_or_default().to_vec(), 0, false);
        for found in walk {
            let (Found::Letter { at, .. } | Found::Damage(at) | Found::Torn(at)) = &found;
            if matches!(&found, Found::Letter { index, .. } if numbers.contains(&Number { file, index: *index })) {
                removed += 1;
            } else {
                worth_keeping |= !matches!(found, Found::Torn(_));
                kept.extend_from_slice(bytes.get(at.clone()).unwrap_or_default());
            }
        }
        let done = match (removed, worth_keeping) {
            (0, _) => Ok(()),
            (_, false) => durable::remove(&path),
            (_, true) => replace(&path, &kept),
        };
        done.map(|()| removed).map_err(|error| RemoveError::Write { path, error })
    }
}

impl Open {
    fn append(&mut self, record: &[u8]) -> io::Result<Number> {
        let header = format::file_header(self.drawn);
        let header = if self.bytes == 0 { &header[..] } else { &[] };
        if let Err(error) = self.file.write_all(header).and_then(|()| self.file.write_all(record)) {
            // Half a record would be told as one that can't be read; where it can't be cut off, it is.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        durable::sync(&self.file)?;
        let number = Number { file: self.number, index: self.next };
        self.bytes += (header.len() + record.len()) as u64;
        self.next += 1;
        Ok(number)
    }
}

/// The number in a file's name; `None` for other files.
fn number(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Writes a file anew. What a kill leaves behind on the way is overwritten by the next time, so it is at most one file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_file_name("new");
    fs::write(&new, bytes).and_then(|()| durable::replace(&new, path)).inspect_err(|_| drop(fs::remove_file(&new)))
}

fn no_room(path: &Path, error: io::Error) -> PutError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            PutError::NoRoom(format!("{}: {error}; make room on this file system, it is tried again", path.display()))
        }
        _ => PutError::Io { path: path.to_owned(), error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_fails_is_left_alone_and_the_letter_goes_into_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(&Settings { dir: dir.path().into(), max_size: 1 << 20, keep_free: KeepFree::Percent(0), topic: None });
        let letter = Letter { id: "a:1".to_owned(), ..Letter::default() };
        assert_eq!(files.put(&letter).unwrap(), Number { file: 1, index: 0 });
        // A handle that can't be written to stands for a disk that fails.
        let path = files.path(1);
        files.open.as_mut().unwrap().file = File::open(&path).unwrap();
        let told = files.put(&letter).unwrap_err().to_string();
        assert!(told.contains(&path.display().to_string()), "{told}");
        assert_eq!(files.put(&letter).unwrap(), Number { file: 2, index: 0 });
        // One that held nothing safe goes.
        files.open = None;
        let mut open = files.create().unwrap();
        let empty = open.path.clone();
        open.file = File::open(&empty).unwrap();
        files.open = Some(open);
        assert!(empty.exists());
        files.put(&letter).unwrap_err();
        assert!(!empty.exists());
        let mut seen = Vec::new();
        assert_eq!(files.each(|number, _| seen.push(number)).unwrap(), [""; 0]);
        assert_eq!(seen, [Number { file: 1, index: 0 }, Number { file: 2, index: 0 }]);
        assert_eq!(files.bytes().unwrap(), [1, 2].map(|number| fs::metadata(files.path(number)).unwrap().len()).iter().sum::<u64>());
    }
}

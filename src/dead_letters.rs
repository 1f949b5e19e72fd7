//! Dead letters: where an event goes that Kafka refuses for its own content or size, so that it holds up nobody and is not lost: into files under
//! the state directory, or a topic. A letter is safe when [`DeadLetters::put`] has returned; only then may its event count as settled.
//!
//! An event may be put twice (a kill between here and the snapshot): both letters have the event's id, and [`DeadLetters::list`] tells.

mod files;
mod format;
mod topic;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shutdown::Stop;
use crate::spill::KeepFree;
use files::Files;
pub use files::{ReadError, RemoveError};
pub use format::FileError;
use topic::Topic;

/// What dead letters need to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the files.
    pub dir: PathBuf,
    /// What the files may take, bytes. At the limit a lane that has a letter waits until an operator resends or discards some.
    pub max_size: u64,
    /// What is left free of the file system. Beyond it nothing is written, and the lane waits.
    pub keep_free: KeepFree,
    /// `kafka.dead_letter_topic`; the files take what it doesn't.
    pub topic: Option<Arc<str>>,
}

impl Settings {
    /// What files of dead letters may take where nothing else is said: 1 GiB. So many refused events are nobody's accident.
    pub const MAX_SIZE: u64 = 1 << 30;
}

/// A message that Kafka refused for good, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The event's id: `<stream>:<line start>`, and `:<part>` for a part of a long one.
    pub id: String,
    /// The source it came from.
    pub source: Arc<str>,
    /// The topic that refused it.
    pub topic: Arc<str>,
    /// The message's key.
    pub key: Vec<u8>,
    /// The message's value.
    pub value: Vec<u8>,
    /// The message's headers, in order: those of `kafka.headers`, and of parts in the format `raw`.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The reason, one of the table in [`crate::kafka::errors`].
    pub reason: String,
    /// What was said of it, for people.
    pub words: String,
    /// When it was refused, nanoseconds since 1970 (UTC).
    pub time_ns: i64,
}

impl Letter {
    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let texts = self.id.len() + self.source.len() + self.topic.len() + self.reason.len() + self.words.len();
        texts + headers + self.key.len() + self.value.len()
    }

    /// Whether it is meant by `asked`, see [`is_meant`].
    #[must_use]
    pub fn is(&self, asked: &str) -> bool {
        is_meant(&self.id, asked)
    }
}

/// Whether the letter with this id is meant by `asked`: its id, the beginning of it up to a colon (all parts of a line, all of a stream), or
/// nothing, which means all.
#[must_use]
pub fn is_meant(id: &str, asked: &str) -> bool {
    asked.is_empty() || id.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// What tells a letter in the files from every other, also of the same event; it keeps it until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number {
    /// The number of its file.
    pub file: u64,
    /// Its index there.
    pub index: u32,
}

/// A letter as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// By what it is removed.
    pub number: Number,
    /// The event's id.
    pub id: String,
    /// Its source.
    pub source: Arc<str>,
    /// The topic that refused it.
    pub topic: Arc<str>,
    /// Why.
    pub reason: String,
    /// When, nanoseconds since 1970 (UTC).
    pub time_ns: i64,
    /// The size of its value, bytes.
    pub value_bytes: usize,
    /// Whether a letter of the same event, from the same topic, stands before it in the list.
    pub again: bool,
}

/// All letters in the files.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// What can't be read, a whole sentence each: damage stays where it is until a person removes its file.
    pub unreadable: Vec<String>,
}

/// Where a letter went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Into the files, durably.
    Files,
    /// Into the topic, acknowledged.
    Topic,
}

/// Why a letter is not kept: its event is not settled, and whoever has it waits and tries again.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The files are full, or the disk is; the words say which, and the remedy.
    #[error("{0}")]
    NoRoom(String),
    /// A file can't be written.
    #[error("dead letters can't be written to {}: {error}; correct that, it is tried again", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The word is to stop now.
    #[error("stopped before the dead letter was kept")]
    Stopped,
}

/// The dead letters of this agent, shared by all lanes. There is one in a process, and whoever makes it holds the state directory's lock.
#[derive(Debug)]
pub struct DeadLetters {
    files: Mutex<Files>,
    /// Held while a letter is on its way there, for at most ten seconds each, see [`topic`].
    topic: Option<Mutex<Topic>>,
    stop: Arc<Stop>,
}

impl DeadLetters {
    /// The dead letters of `settings.dir`, which is made with the first one. `kafka` is for the topic.
    #[must_use]
    pub fn new(settings: &Settings, kafka: &Arc<crate::kafka::Current>, stop: Arc<Stop>) -> DeadLetters {
        let topic = settings.topic.as_ref().map(|name| Mutex::new(Topic::new(Arc::clone(name), Arc::clone(kafka))));
        DeadLetters { files: Mutex::new(Files::new(settings)), topic, stop }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a letter; when this returns well it is durable. Blocks for a write and its fsync, with a topic for at most ten seconds more.
    ///
    /// # Errors
    /// It is not kept: the event stays with the caller, who tries again later.
    pub fn put(&self, letter: &Letter) -> Result<Kept, PutError> {
        if let Some(topic) = &self.topic {
            let mut topic = topic.lock().unwrap_or_else(PoisonError::into_inner);
            match topic.put(letter, &self.stop) {
                Ok(()) => return Ok(Kept::Topic),
                Err(topic::Refusal::Stopped) => return Err(PutError::Stopped),
                Err(topic::Refusal::Resting) => {}
                Err(topic::Refusal::Words(words)) => {
                    tracing::warn!(topic = %topic.name(), event = letter.id, "the topic for dead letters does not take one: {words}; it goes to the files");
                }
            }
        }
        self.files().put(letter).map(|_| Kept::Files)
    }

    /// All letters in the files; those in the topic are the topic's.
    ///
    /// # Errors
    /// A file or the directory can't be read.
    pub fn list(&self) -> Result<List, ReadError> {
        let mut list = List::default();
        let mut seen = std::collections::HashSet::new();
        list.unreadable = self.files().each(|number, letter| {
            let again = !seen.insert((letter.id.clone(), Arc::clone(&letter.topic)));
            list.entries.push(Entry {
                number,
                id: letter.id,
                source: letter.source,
                topic: letter.topic,
                reason: letter.reason,
                time_ns: letter.time_ns,
                value_bytes: letter.value.len(),
                again,
            });
        })?;
        Ok(list)
    }

    /// The letters that `asked` means, oldest first: to show them, or to send them again and then [`DeadLetters::remove`] them. At most
    /// `most` bytes of them, but one at least: beyond it ask again.
    ///
    /// # Errors
    /// A file or the directory can't be read.
    pub fn letters(&self, asked: &str, most: usize) -> Result<Vec<(Number, Letter)>, ReadError> {
        let (mut letters, mut bytes) = (Vec::new(), 0_usize);
        self.files().each(|number, letter| {
            if letter.is(asked) && (letters.is_empty() || bytes.saturating_add(letter.size()) <= most) {
                bytes += letter.size();
                letters.push((number, letter));
            }
        })?;
        Ok(letters)
    }

    /// Removes letters for good, durably, and says how many of them were there. Whoever calls it has sent them again, or books them as lost.
    ///
    /// # Errors
    /// A file can't be read or written anew; letters of other files may be gone.
    pub fn remove(&self, numbers: &[Number]) -> Result<usize, RemoveError> {
        self.files().remove(numbers)
    }

    /// What the files take, bytes.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn bytes(&self) -> Result<u64, ReadError> {
        self.files().bytes()
    }
}

/// Takes any bytes for a file of dead letters, for fuzzing: it must not panic, and whatever is read is written as it was.
pub fn fuzz_letters(bytes: &[u8]) {
    for start in [bytes, &[&format::file_header(9)[..], bytes].concat()] {
        for found in format::walk(start).into_iter().flatten() {
            if let format::Found::Letter { index, letter, .. } = found {
                drop(format::record(9, index, &letter));
            }
        }
    }
}

//! The logs of the demo: a thread writes numbered lines to two of them and rotates them, one by rename, one by copying and truncating it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The logs, as each line begins with the name of its own.
pub const LOGS: [&str; 2] = ["app", "access"];
/// The log that is rotated by renaming it.
pub const RENAMED: usize = 0;
/// The log that is rotated by copying and truncating it.
pub const COPIED: usize = 1;

/// Lines are written in slices, this often.
const SLICE: Duration = Duration::from_millis(20);
/// At most so many lines are written and not yet received; the writer waits then. It is more than an outage lets pile up, and little enough to stay
/// below what the embedded Kafka keeps of a partition (5 MiB).
const BACKLOG: u64 = 250_000;

/// How far the writer is, and how far the reader.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lines written.
    pub written: AtomicU64,
    /// Their bytes.
    pub written_bytes: AtomicU64,
    /// Lines received, each counted once.
    pub received: AtomicU64,
    /// Their bytes in the log.
    pub received_bytes: AtomicU64,
    /// Copies received beyond the first.
    pub doubled: AtomicU64,
}

impl Counts {
    /// Messages that came, copies included.
    #[must_use]
    pub fn came(&self) -> u64 {
        self.received.load(Ordering::Relaxed) + self.doubled.load(Ordering::Relaxed)
    }

    /// A number that grows whenever a line is written or a message comes.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.written.load(Ordering::Relaxed) + self.came()
    }

    /// Lines that are written and not received yet.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let received = self.received.load(Ordering::Relaxed);
        self.written.load(Ordering::Relaxed).saturating_sub(received)
    }
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    rotations: u32,
    number: u64,
}

/// The thread that writes; it ends with this.
#[derive(Debug)]
pub struct Writer {
    /// `None` only when it has ended.
    thread: Option<JoinHandle<io::Result<[u64; LOGS.len()]>>>,
    rotate: Option<Sender<usize>>,
}

impl Writer {
    /// Begins to write `lines` lines to the logs in `dir`, `rate` a second.
    ///
    /// # Errors
    /// The logs can't be made, or no thread.
    pub fn begin(dir: &Path, lines: u64, rate: u64, counts: &Arc<Counts>) -> io::Result<Writer> {
        let logs = [open(dir, RENAMED)?, open(dir, COPIED)?];
        let (rotate, rotations) = mpsc::channel();
        let counts = Arc::clone(counts);
        let write = move || write(logs, lines, rate, &counts, &rotations);
        let thread = std::thread::Builder::new().name("writer".into()).spawn(write)?;
        Ok(Writer { thread: Some(thread), rotate: Some(rotate) })
    }

    /// Has a log rotated before the next line; `false` if all is written.
    #[must_use]
    pub fn rotate(&self, log: usize) -> bool {
        self.rotate.as_ref().is_some_and(|rotate| rotate.send(log).is_ok())
    }

    /// Whether it still writes.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends it, early if not all is written; how many lines each log got.
    ///
    /// # Errors
    /// A file could not be written or rotated.
    pub fn end(mut self) -> io::Result<[u64; LOGS.len()]> {
        self.join()
    }

    fn join(&mut self) -> io::Result<[u64; LOGS.len()]> {
        self.rotate = None;
        let Some(thread) = self.thread.take() else { return Ok([0; _]) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the writer's thread panicked")))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody may write into a directory that is being removed.
        drop(self.join());
    }
}

/// Writes until `lines` are written or the other end of `rotate` is gone; how many lines each log got.
fn write(mut logs: [Log; LOGS.len()], lines: u64, rate: u64, counts: &Counts, rotate: &Receiver<usize>) -> io::Result<[u64; LOGS.len()]> {
    let mut text = String::new();
    let mut written = 0;
    let mut last = Instant::now();
    while written < lines {
        match rotate.recv_timeout(SLICE) {
            Ok(log) => logs.get_mut(log).map_or(Ok(()), |file| if log == COPIED { file.copy_and_truncate() } else { file.rename() })?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // After a pause (of the reader or the machine) it goes on at the same rate instead of catching up in one burst.
        let elapsed = last.elapsed().min(SLICE * 3);
        last = Instant::now();
        let due = (u128::from(rate) * elapsed.as_micros()).div_ceil(1_000_000);
        let room = BACKLOG.saturating_sub(counts.under_way()).min(lines - written);
        let due = u64::try_from(due).unwrap_or(room).min(room);
        for ((log, name), share) in logs.iter_mut().zip(LOGS).zip([due / 2, due - due / 2]) {
            text.clear();
            for _ in 0..share {
                log.number += 1;
                line(&mut text, name, log.number);
            }
            log.file.write_all(text.as_bytes())?;
            counts.written_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        }
        written += due;
        counts.written.store(written, Ordering::Relaxed);
    }
    Ok(logs.map(|log| log.number))
}

/// The log's index and the line's number, from a line as the demo writes them.
#[must_use]
pub fn parse(line: &str) -> Option<(usize, u64)> {
    let (name, rest) = line.split_once(' ')?;
    let (number, _) = rest.split_once(' ')?;
    Some((LOGS.iter().position(|log| *log == name)?, number.parse().ok()?))
}

/// One line of about 100 bytes, different enough from the next that its compression is no better than a real log's.
fn line(text: &mut String, log: &str, number: u64) {
    let mix = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (user, order, status, bytes, ms) = (mix >> 48, (mix >> 20) & 0xff_ffff, 200 + (mix >> 61), (mix >> 8) & 0x3fff, (mix >> 32) & 0xff);
    // Writing to a string does not fail.
    _ = writeln!(text, "{log} {number:09} GET /shop/orders/{order:06x}?user={user:04x} HTTP/1.1 status={status} bytes={bytes} took={ms}ms");
}

fn open(dir: &Path, log: usize) -> io::Result<Log> {
    let path = dir.join(LOGS.get(log).copied().unwrap_or_default()).with_extension("log");
    let file = create(&path)?;
    Ok(Log { path, file, rotations: 0, number: 0 })
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).append(true).open(path)
}

impl Log {
    /// Moves older ones up by one, so that `.1` is free.
    fn shift(&mut self) -> io::Result<()> {
        for age in (1..=self.rotations).rev() {
            rename(&self.rotated(age), &self.rotated(age + 1))?;
        }
        self.rotations += 1;
        Ok(())
    }

    fn rotated(&self, age: u32) -> PathBuf {
        self.path.with_extension(format!("log.{age}"))
    }

    fn rename(&mut self) -> io::Result<()> {
        self.shift()?;
        rename(&self.path, &self.rotated(1))?;
        self.file = create(&self.path)?;
        Ok(())
    }

    /// Nothing is written between the copy and the truncation, as this is the only writer.
    fn copy_and_truncate(&mut self) -> io::Result<()> {
        self.shift()?;
        std::fs::copy(&self.path, self.rotated(1))?;
        self.file.set_len(0)
    }
}

#[expect(clippy::disallowed_methods, reason = "a log's rotation, which the demo plays, is not made durable")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let mut text = String::new();
        line(&mut text, "access", 4711);
        assert_eq!(parse(text.trim_end()), Some((COPIED, 4711)));
        assert_eq!(parse("other 000000001 GET /"), None);
        assert_eq!(parse("app x GET /"), None);
    }

    #[test]
    fn the_files_hold_every_line_once_however_often_they_are_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Writer::begin(dir.path(), 1001, 10_000, &Arc::new(Counts::default())).unwrap();
        assert!([RENAMED, COPIED, RENAMED, COPIED].iter().all(|log| writer.rotate(*log)));
        while writer.is_writing() {
            std::thread::yield_now();
        }
        let written = writer.end().unwrap();
        assert_eq!(written.iter().sum::<u64>(), 1001);
        let mut found: [Vec<u64>; 2] = Default::default();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            for (log, number) in text.lines().map(|line| parse(line).unwrap()) {
                found[log].push(number);
            }
        }
        for (mut numbers, count) in found.into_iter().zip(written) {
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(1..=count));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6);
    }
}

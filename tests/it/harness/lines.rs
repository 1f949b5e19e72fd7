//! Numbered lines: how they look, and the writer that puts them into log files as a program under log rotation would.
//!
//! A line is `WRITER:NAME.GENERATION seq=NUMBER LENGTH:PADDING`. What stands before ` seq=` is its stream: one incarnation of a file. Numbers
//! count from 0 in each stream, and the padding follows from both, so that a line that was cut or mixed with another is known for damaged.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many lines were written, by stream.
pub type Written = BTreeMap<String, u64>;

/// Blocks in which a writer at full speed writes: lines are cut by them as the buffered output of real programs is.
const BLOCK: usize = 8192;
/// What noise begins with, and no other padding.
const NOISE: char = '#';
/// How often a writer with a rate writes.
const TICK: Duration = Duration::from_millis(10);

/// The bytes of a numbered line, without its end.
pub fn line(stream: &str, number: u64, padding: usize) -> String {
    format!("{stream} seq={number:010} {padding:05}:{}", pad(stream, number, padding))
}

/// The stream and number of a line that is whole and unharmed.
pub fn parse(line: &[u8]) -> Option<(&str, u64)> {
    let line = str::from_utf8(line).ok()?;
    let (stream, rest) = line.split_once(" seq=")?;
    let (number, rest) = rest.split_once(' ')?;
    let (padding, rest) = rest.split_once(':')?;
    let number = number.parse().ok()?;
    let expected = if rest.starts_with(NOISE) { noise(stream, number, rest.len()) } else { pad(stream, number, rest.len()) };
    let whole = padding.parse() == Ok(rest.len()) && rest == expected;
    whole.then_some((stream, number))
}

/// The same as [`line`], but hardly to be compressed: to three quarters at best.
pub fn noisy_line(stream: &str, number: u64, padding: usize) -> String {
    format!("{stream} seq={number:010} {padding:05}:{}", noise(stream, number, padding))
}

/// Letters that follow from stream and number in no way that a compressor sees (xorshift64* from a hash, FNV-1a), behind the mark of noise.
fn noise(stream: &str, number: u64, len: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let seed = stream
        .bytes()
        .chain(number.to_le_bytes())
        .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let (mut state, mut text) = (seed | 1, String::from(NOISE));
    while text.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
        text.extend((0..10).map(|letter| char::from(LETTERS[usize::try_from(bits >> (4 + 6 * letter) & 63).expect("fits")])));
    }
    text.truncate(len);
    text
}

/// What a line ends with: no other line of any stream has it, as with the times and numbers in real logs, so that two generations of a file
/// don't look alike at the same offset.
fn pad(stream: &str, number: u64, len: usize) -> String {
    let mut text = format!("{number}@{stream} ").repeat(len / (stream.len() + 3) + 1);
    text.truncate(len);
    text
}

/// How the writer's file is rotated, always between two lines; each rotation begins a new stream.
#[derive(Clone, Copy, Debug)]
pub enum Rotation {
    /// Not at all.
    Never,
    /// Renamed to `NAME.GENERATION` after so many lines, and created anew.
    Rename { every: u64 },
    /// Copied to `NAME.GENERATION` after so many lines, and truncated. Writer and rotator are one here, so nothing falls between the two steps.
    CopyTruncate { every: u64 },
}

/// Writes numbered lines into one file, in a thread of its own.
#[derive(Clone, Debug)]
pub struct LineWriter {
    writer: String,
    file: PathBuf,
    rotation: Rotation,
    rate: Option<u64>,
    padding: usize,
    noisy: bool,
    keep: Option<u64>,
    limit: u64,
}

impl LineWriter {
    /// A writer that appends lines of about 150 bytes to `file` as fast as it can, until stopped.
    pub fn new(writer: &str, file: impl Into<PathBuf>) -> LineWriter {
        LineWriter {
            writer: writer.into(),
            file: file.into(),
            rotation: Rotation::Never,
            rate: None,
            padding: 110,
            noisy: false,
            keep: None,
            limit: u64::MAX,
        }
    }

    /// With rotation.
    pub fn rotation(mut self, rotation: Rotation) -> LineWriter {
        self.rotation = rotation;
        self
    }

    /// At so many lines a second.
    pub fn rate(mut self, lines_per_second: u64) -> LineWriter {
        self.rate = Some(lines_per_second);
        self
    }

    /// With so many bytes of padding in each line.
    pub fn padding(mut self, bytes: usize) -> LineWriter {
        self.padding = bytes;
        self
    }

    /// With padding that can hardly be compressed.
    pub fn noisy(mut self) -> LineWriter {
        self.noisy = true;
        self
    }

    /// With only so many rotated files kept; older ones are deleted.
    pub fn keep(mut self, files: u64) -> LineWriter {
        self.keep = Some(files);
        self
    }

    /// Until so many lines are written.
    pub fn limit(mut self, lines: u64) -> LineWriter {
        self.limit = lines;
        self
    }

    /// Begins to write.
    pub fn start(self) -> Writing {
        let (stop, written) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let shared = (Arc::clone(&stop), Arc::clone(&written));
        let thread = thread::spawn(move || Pen::new(self).run(&shared.0, &shared.1));
        Writing { stop, written, thread }
    }
}

/// A writer at work.
pub struct Writing {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Written>,
}

impl Writing {
    /// How many lines it has written so far, all streams together.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops it; how many whole lines are in the files, by stream.
    pub fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits until its limit is reached; how many whole lines are in the files, by stream.
    pub fn finish(self) -> Written {
        self.thread.join().expect("the writer of lines failed")
    }
}

/// The writer's state in its thread.
struct Pen {
    plan: LineWriter,
    open: File,
    generation: u64,
    number: u64,
    pending: Vec<u8>,
    written: Written,
}

impl Pen {
    fn new(plan: LineWriter) -> Pen {
        let open = append_to(&plan.file);
        Pen { plan, open, generation: 0, number: 0, pending: Vec::new(), written: Written::new() }
    }

    fn run(mut self, stop: &AtomicBool, count: &AtomicU64) -> Written {
        let started = Instant::now();
        let mut total = 0;
        while total < self.plan.limit && !stop.load(Ordering::Relaxed) {
            let due = self.plan.rate.map_or(total + 64, |rate| rate * u64::try_from(started.elapsed().as_millis()).expect("fits") / 1000);
            while total < due.min(self.plan.limit) {
                self.add_line();
                total += 1;
            }
            if self.plan.rate.is_some() {
                self.write_pending(self.pending.len());
                thread::sleep(TICK);
            }
            count.store(total, Ordering::Relaxed);
        }
        self.write_pending(self.pending.len());
        count.store(total, Ordering::Relaxed);
        self.written
    }

    fn add_line(&mut self) {
        let stem = self.plan.file.file_stem().unwrap_or_default().to_string_lossy();
        let stream = format!("{}:{stem}.{}", self.plan.writer, self.generation);
        let line = if self.plan.noisy { noisy_line } else { line };
        self.pending.extend_from_slice(line(&stream, self.number, self.plan.padding).as_bytes());
        self.pending.push(b'\n');
        self.number += 1;
        self.written.insert(stream, self.number);
        if self.pending.len() >= BLOCK {
            self.write_pending(self.pending.len() / BLOCK * BLOCK);
        }
        let every = match self.plan.rotation {
            Rotation::Never => return,
            Rotation::Rename { every } | Rotation::CopyTruncate { every } => every,
        };
        if self.number == every {
            self.write_pending(self.pending.len());
            self.rotate();
        }
    }

    fn write_pending(&mut self, bytes: usize) {
        self.open.write_all(&self.pending[..bytes]).expect("write lines");
        self.pending.drain(..bytes);
    }

    #[expect(clippy::disallowed_methods, reason = "a log is rotated here as any rotator does it, without fsync")]
    fn rotate(&mut self) {
        let rotated = |generation: u64| {
            let mut path = self.plan.file.clone().into_os_string();
            path.push(format!(".{generation}"));
            path
        };
        let old = rotated(self.generation);
        if let Rotation::CopyTruncate { .. } = self.plan.rotation {
            fs::copy(&self.plan.file, old).expect("copy the log");
            self.open.set_len(0).expect("truncate the log");
        } else {
            fs::rename(&self.plan.file, old).expect("rename the log");
            self.open = append_to(&self.plan.file);
        }
        if let Some(gone) = self.plan.keep.and_then(|keep| self.generation.checked_sub(keep)) {
            fs::remove_file(rotated(gone)).expect("delete an old log");
        }
        self.generation += 1;
        self.number = 0;
    }
}

fn append_to(file: &PathBuf) -> File {
    File::options().create(true).append(true).open(file).unwrap_or_else(|error| panic!("open {}: {error}", file.display()))
}

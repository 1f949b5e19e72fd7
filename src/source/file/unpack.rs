//! A compressed file as the bytes that were compressed, unpacked block by block. Nothing of it is handed on before all of it has been unpacked
//! once: so it is known to be whole, to be what it was taken for, and how long it is. Apart because a decoder only goes forwards, and has memory
//! of its own.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use super::identity::{HEAD, compression};
use super::reader::Found;
use crate::batch::{Position, Tail};

#[cfg(test)]
mod tests;

/// How much is unpacked in one step that hands nothing on, bytes.
const STEP: u64 = 1 << 20;
/// As many zeros as this in a row are a hole that was compressed, as [`super::reader`] would have found it in the file.
const HOLE: usize = 4096;
/// How many zeros are skipped in one step, bytes.
const HOLE_STEP: u64 = 64 << 20;
/// The largest window of a zstd frame, as a power of two: 8 MiB, enough for `zstd -19`. A frame that needs more can't be read, and that is said.
const WINDOW_LOG: u32 = 23;

/// How a file is compressed, where that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 1952, of any number of members.
    Gzip,
    /// RFC 8878, of any number of frames.
    Zstd,
}

impl Kind {
    /// By a file's first bytes; `None` if it is not compressed, or in a way that can't be read.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Kind> {
        match compression(head)? {
            "gzip" => Some(Kind::Gzip),
            "zstd" => Some(Kind::Zstd),
            _ => None,
        }
    }

    fn decoder(self, file: &Arc<File>) -> io::Result<Box<dyn Read + Send>> {
        let input = BufReader::with_capacity(64 << 10, Input { file: Arc::clone(file), at: 0 });
        Ok(match self {
            Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Kind::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }
}

/// A file from its start, whatever else reads it.
struct Input {
    file: Arc<File>,
    at: u64,
}

impl Read for Input {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let have = self.file.read_at(block, self.at)?;
        self.at += have as u64;
        Ok(have)
    }
}

/// What is still to be shown: that the unpacked bytes from `begun_at` to the position are the ones that were read.
#[derive(Debug)]
struct Proof {
    begun_at: u64,
    at: Position,
    hash: u32,
    tail: Tail,
}

impl Proof {
    /// Takes the unpacked bytes that begin at `from`; false once they can't be the ones that were read.
    fn follow(&mut self, from: u64, bytes: &[u8]) -> bool {
        let Some(left) = self.at.offset.checked_sub(from).filter(|left| *left > 0) else { return true };
        let read = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        let before = usize::try_from(self.begun_at.saturating_sub(from)).unwrap_or(usize::MAX);
        self.tail = self.tail.after(read);
        self.hash = crc32c::crc32c_append(self.hash, read.get(before..).unwrap_or_default());
        from + (read.len() as u64) < self.at.offset || (self.hash == self.at.hash && self.tail == self.at.tail)
    }
}

/// See the module.
pub struct Packed {
    file: Arc<File>,
    kind: Kind,
    begun_at: u64,
    proof: Option<Proof>,
    /// Unpacked; known when it is proved.
    size: u64,
    /// Size and time of change of the compressed file when it began to be read.
    seen: (u64, i128),
    decoder: Option<Box<dyn Read + Send>>,
    /// How far it is unpacked.
    reached: u64,
    /// The last bytes before that, from [`crate::batch::TAIL`] before the position: at most a block and that.
    held: Vec<u8>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed")
            .field("kind", &self.kind)
            .field("proof", &self.proof)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

impl Packed {
    /// A compressed file that is to be read from `at` on, if what was read from `begun_at` up to there is in it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn new(file: File, kind: Kind, begun_at: u64, at: &Position) -> io::Result<Packed> {
        let (file, seen) = (Arc::new(file), (0, 0));
        let mut packed = Packed { file, kind, begun_at, proof: None, size: 0, seen, decoder: None, reached: 0, held: Vec::new() };
        packed.prove_anew(at)?;
        Ok(packed)
    }

    /// The compressed file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// See [`head`].
    ///
    /// # Errors
    /// As for [`Packed::read`].
    pub fn head(&self) -> io::Result<Vec<u8>> {
        head(&self.file, self.kind)
    }

    /// Whether it is in the middle of being unpacked, and so holds a decoder.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.decoder.is_some()
    }

    /// Reads as [`super::reader::read`] does, offsets being those of the unpacked bytes.
    ///
    /// # Errors
    /// The file is damaged or ends too early (then the error is none of the system's, see [`is_damage`]), or can't be read.
    pub fn read(&mut self, at: &Position, (limit, unit): (usize, usize), block: &mut Vec<u8>) -> io::Result<Found> {
        block.clear();
        if self.seen != look(&self.file)? {
            self.prove_anew(at)?;
        }
        if self.proof.is_some() {
            return self.prove();
        }
        let tail = at.tail.as_bytes();
        let from = at.offset - tail.len() as u64;
        if self.decoder.is_none() || self.reached - (self.held.len() as u64) > from {
            self.rewind();
        }
        let passed = from - (self.reached - self.held.len() as u64);
        self.held.drain(..usize::try_from(passed).unwrap_or(usize::MAX).min(self.held.len()));
        if self.reached < from {
            let most = STEP.min(from - self.reached);
            let short = self.unpack(most)? < most;
            self.held.clear();
            return Ok(if short { Found::Other } else { Found::Busy });
        }
        self.unpack((at.offset + limit as u64).saturating_sub(self.reached))?;
        // Zeros at the end may be the beginning of a hole.
        while self.reached < self.size && (unit..HOLE).contains(&self.held.iter().rev().take(HOLE).take_while(|byte| **byte == 0).count()) {
            self.unpack(HOLE as u64)?;
        }
        if !self.held.starts_with(tail) || self.seen != look(&self.file)? {
            self.prove_anew(at)?;
            return Ok(Found::Busy);
        }
        self.hand_out(at, (limit, unit), block)
    }

    /// What is held goes into the block, up to a hole.
    fn hand_out(&mut self, at: &Position, (limit, unit): (usize, usize), block: &mut Vec<u8>) -> io::Result<Found> {
        let (tail, size) = (at.tail.as_bytes().len(), self.size);
        let data = self.held.get(tail..).unwrap_or_default();
        let (len, zeros) = until_hole(data, unit);
        let more = self.reached < size;
        if data.is_empty() || (len == 0 && zeros == data.len()) {
            return self.skip_zeros(at, zeros as u64, unit as u64);
        }
        if len == 0 {
            return Ok(Found::Hole { to: (at.offset + zeros as u64) / unit as u64 * unit as u64 });
        }
        let hole = zeros >= HOLE;
        block.extend_from_slice(self.held.get(..tail + len).unwrap_or_default());
        Ok(Found::Data { data: tail, size, full: len >= limit && more && !hole, hole })
    }

    /// All that is held is zeros, or there is nothing more.
    fn skip_zeros(&mut self, at: &Position, mut zeros: u64, unit: u64) -> io::Result<Found> {
        while zeros > 0 && zeros < HOLE_STEP {
            self.held.clear();
            let count = self.unpack(STEP)?;
            let run = self.held.iter().take_while(|byte| **byte == 0).count() as u64;
            zeros += run;
            if run < count {
                return Ok(Found::Hole { to: (at.offset + zeros) / unit * unit });
            }
            if count == 0 {
                break;
            }
        }
        if self.reached < self.size {
            return Ok(Found::Hole { to: (at.offset + zeros) / unit * unit });
        }
        self.rewind();
        Ok(Found::End { size: self.size })
    }

    fn prove_anew(&mut self, at: &Position) -> io::Result<()> {
        self.rewind();
        self.seen = look(&self.file)?;
        self.proof = Some(Proof { begun_at: self.begun_at, at: *at, hash: 0, tail: Tail::EMPTY });
        Ok(())
    }

    /// Goes one step on with the proof.
    fn prove(&mut self) -> io::Result<Found> {
        let from = self.reached;
        self.held.clear();
        let count = self.unpack(STEP)?;
        let Some(proof) = &mut self.proof else { return Ok(Found::Busy) };
        if !proof.follow(from, &self.held) || (count < STEP && self.reached < proof.at.offset) {
            self.rewind();
            return Ok(Found::Other);
        }
        if count == STEP {
            return Ok(Found::Busy);
        }
        (self.size, self.proof) = (self.reached, None);
        self.rewind();
        Ok(Found::Proved { size: self.size })
    }

    /// Unpacks up to `most` bytes more; fewer only at the end.
    fn unpack(&mut self, most: u64) -> io::Result<u64> {
        if self.decoder.is_none() {
            self.decoder = Some(self.kind.decoder(&self.file)?);
        }
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        let count = decoder.take(most).read_to_end(&mut self.held)? as u64;
        self.reached += count;
        Ok(count)
    }

    /// Lets go of the decoder: unpacking begins at the first byte again.
    fn rewind(&mut self) {
        (self.decoder, self.reached, self.held) = (None, 0, Vec::new());
    }
}

fn look(file: &File) -> io::Result<(u64, i128)> {
    let meta = file.metadata()?;
    Ok((meta.len(), i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())))
}

/// How many bytes, in whole pieces of `unit`, come before a hole or before zeros at the end, and how many zeros are there.
fn until_hole(data: &[u8], unit: usize) -> (usize, usize) {
    let mut from = 0;
    while let Some(at) = data.get(from..).and_then(|rest| memchr::memchr(0, rest)).map(|at| from + at) {
        let zeros = data.iter().skip(at).take_while(|byte| **byte == 0).count();
        if zeros >= HOLE || at + zeros == data.len() {
            let whole = at.next_multiple_of(unit).min(data.len());
            return (whole, at + zeros - whole);
        }
        from = at + zeros;
    }
    (data.len(), 0)
}

/// The first unpacked bytes of a compressed file, at most [`HEAD`].
///
/// # Errors
/// As for [`Packed::read`].
pub fn head(file: &File, kind: Kind) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    kind.decoder(&Arc::new(file.try_clone()?))?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether gzip's own note of the length says that nothing is in the file but what was read: for files that are known to have been read to the
/// end, so that not each of them is unpacked once more when it is compressed. It is the length modulo 2³² of the last member.
#[must_use]
pub fn notes_length(file: &File, kind: Kind, length: u64) -> bool {
    let mut note = [0; 4];
    let at = file.metadata().ok().and_then(|meta| meta.len().checked_sub(4));
    kind == Kind::Gzip
        && at.is_some_and(|at| file.read_exact_at(&mut note, at).is_ok())
        && u64::from(u32::from_le_bytes(note)) == length & u64::from(u32::MAX)
}

/// Whether an error says that a compressed file is damaged or not whole, rather than that it can't be read.
#[must_use]
pub fn is_damage(error: &io::Error) -> bool {
    error.raw_os_error().is_none()
}

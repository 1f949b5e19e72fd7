//! Reads one block of one open file, and makes sure that it still is the file that was read before: the bytes before the offset are read along
//! and compared, and compared again after the read. The only place that reads log files.

use std::fs::File;
use std::io;

use rustix::buffer::spare_capacity;
use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::{Errno, pread};

use super::charset::Charset;
use crate::batch::{Position, TAIL, Tail};

/// What one read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Data: it begins in the block at `data` and belongs at `Position::offset`. `size` is the file's, bytes; `full` says that the limit ended
    /// the read, `hole` that a hole ends it.
    Data {
        /// Index of the first byte of data in the block.
        data: usize,
        /// The file's size, bytes.
        size: u64,
        /// The limit was reached.
        full: bool,
        /// A hole follows, with data behind it.
        hole: bool,
    },
    /// Nothing new.
    End {
        /// The file's size, bytes.
        size: u64,
    },
    /// A hole lies at the offset, with data behind it.
    Hole {
        /// Where the data goes on.
        to: u64,
    },
    /// The file is not what it was: it has been truncated.
    Truncated {
        /// The file's size, bytes.
        size: u64,
    },
    /// Of a compressed file only, from here on: nothing yet; it is to be read on.
    Busy,
    /// It is whole, and what was read is the beginning of it.
    Proved {
        /// Its size when it is unpacked, bytes.
        size: u64,
    },
    /// It is not what it was taken for.
    Other,
}

/// Reads at most `limit` bytes at `at` into `block` (cleared first), which gets up to [`TAIL`] more for the comparison. Zeros that hold nothing are
/// told from text in pieces of `unit` bytes, aligned in the file.
///
/// # Errors
/// Whatever the file system says; nothing is known of the file then.
pub fn read(file: &File, at: &Position, (limit, unit): (usize, usize), block: &mut Vec<u8>) -> io::Result<Found> {
    block.clear();
    let stat = fstat(file)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size < at.offset {
        return Ok(Found::Truncated { size });
    }
    let limit_end = at.offset.saturating_add(limit as u64);
    let end = limit_end.min(size);
    let tail = at.tail.as_bytes();
    fill(file, at.offset - tail.len() as u64, end, block)?;
    let sparse = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
    let gap = if sparse && end > at.offset { gap(file, at.offset, size, unit)? } else { None };
    let mut hole = None;
    if let Some(Gap { from, to }) = gap.filter(|gap| gap.from < end) {
        let data = usize::try_from(from.saturating_sub(at.offset)).unwrap_or(usize::MAX);
        block.truncate(tail.len().saturating_add(data));
        hole = to;
    }
    // The zeros between data and a hole only fill up the last page; those at the end may be room set aside for lines to come, which is waited for.
    if block.last() == Some(&0) && (hole.is_some() || end >= size || ends_in_zeros(file, size)?) {
        let data = block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let data = data.max(tail.len());
        let end = at.offset - tail.len() as u64 + data as u64;
        block.truncate(data + usize::try_from(end.next_multiple_of(unit as u64) - end).unwrap_or(0));
    }
    // Compared again, for a truncation that came during the read.
    if !block.starts_with(tail) || !tail_agrees(file, at)? {
        let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
        return Ok(Found::Truncated { size });
    }
    let len = (block.len() - tail.len()) as u64;
    if len == 0 {
        return Ok(hole.map_or(Found::End { size }, |to| Found::Hole { to }));
    }
    Ok(Found::Data { data: tail.len(), size: size.max(at.offset + len), full: at.offset + len == limit_end, hole: hole.is_some() })
}

/// Whether the bytes before the position still are the ones that were read.
///
/// # Errors
/// Whatever the file system says.
pub fn tail_agrees(file: &File, at: &Position) -> io::Result<bool> {
    let tail = at.tail.as_bytes();
    let mut now = [0_u8; TAIL];
    let Some(now) = now.get_mut(..tail.len()) else { return Ok(false) };
    loop {
        // So few bytes come whole or because the file ends there.
        match pread(file, &mut *now, at.offset - tail.len() as u64) {
            Ok(have) => return Ok(have == tail.len() && now == tail),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads from `from` until `end` or the file's end.
fn fill(file: &File, from: u64, end: u64, block: &mut Vec<u8>) -> io::Result<()> {
    let want = usize::try_from(end - from).unwrap_or(usize::MAX);
    block.reserve_exact(want);
    while block.len() < want {
        let at = from + block.len() as u64;
        match pread(file, spare_capacity(block), at) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    block.truncate(want);
    Ok(())
}

/// Where nothing has been written to.
struct Gap {
    from: u64,
    /// Where data goes on; `None`: nowhere.
    to: Option<u64>,
}

/// The first gap at or behind `offset`, if there is one before the file's end (lseek(2), `SEEK_DATA` and `SEEK_HOLE`).
fn gap(file: &File, offset: u64, size: u64, unit: usize) -> io::Result<Option<Gap>> {
    let from = match seek(file, SeekFrom::Hole(offset)) {
        Ok(from) => from,
        // A file system without holes, or a file that has just become shorter.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if from >= size {
        return Ok(None);
    }
    let to = match seek(file, SeekFrom::Data(from)) {
        Ok(to) => Some((to + zeros_at(file, to)?) / unit as u64 * unit as u64),
        Err(Errno::NXIO) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Some(Gap { from, to }))
}

/// Whether a file's last page holds nothing: then it is room set aside up to there. Asked of those alone that are read where they hold zeros,
/// since what the kernel says of such room (`SEEK_DATA`) changes with what it has cached of it.
fn ends_in_zeros(file: &File, size: u64) -> io::Result<bool> {
    let mut page = Vec::new();
    fill(file, size.saturating_sub(4096), size, &mut page)?;
    Ok(page.iter().all(|byte| *byte == 0))
}

/// How many zeros fill up the page that a hole ends in.
fn zeros_at(file: &File, at: u64) -> io::Result<u64> {
    let mut page = Vec::new();
    fill(file, at, at + 4096, &mut page)?;
    Ok(page.iter().take_while(|byte| **byte == 0).count() as u64)
}

/// The position behind a hole, whose zeros count as read.
#[must_use]
pub fn behind_hole(at: &Position, to: u64) -> Position {
    let zeros = to.saturating_sub(at.offset);
    let tail = at.tail.after([0; TAIL].get(..usize::try_from(zeros).unwrap_or(TAIL)).unwrap_or(&[0; TAIL]));
    Position { offset: to, line_start: to, part: 0, hash: hash_zeros(at.hash, zeros), tail }
}

/// CRC-32C continued over `count` zero bytes, in logarithmic time.
fn hash_zeros(hash: u32, mut count: u64) -> u32 {
    let (mut hash, mut power, mut len) = (hash, crc32c::crc32c(&[0]), 1_usize);
    while count > 0 {
        if count & 1 == 1 {
            hash = crc32c::crc32c_combine(hash, power, len);
        }
        power = crc32c::crc32c_combine(power, power, len);
        len = len.saturating_mul(2);
        count >>= 1;
    }
    hash
}

/// CRC-32C of the bytes from `from` to `to`; `None` if the file is shorter.
///
/// # Errors
/// Whatever the file system says.
pub fn hash_range(file: &File, from: u64, to: u64) -> io::Result<Option<u32>> {
    let mut block = Vec::new();
    let (mut hash, mut at) = (0, from);
    while at < to {
        block.clear();
        fill(file, at, to.min(at + (256 << 10)), &mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        hash = crc32c::crc32c_append(hash, &block);
        at += block.len() as u64;
    }
    Ok(Some(hash))
}

/// The first bytes of a file, at most `most`.
///
/// # Errors
/// Whatever the file system says.
pub fn head(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    fill(file, 0, most as u64, &mut head)?;
    Ok(head)
}

/// The last bytes before `offset` as a tail; `None` if the file is shorter.
///
/// # Errors
/// Whatever the file system says.
pub fn tail_before(file: &File, offset: u64) -> io::Result<Option<Tail>> {
    let from = offset.saturating_sub(TAIL as u64);
    let mut bytes = Vec::new();
    fill(file, from, offset, &mut bytes)?;
    Ok((bytes.len() as u64 == offset - from).then(|| Tail::EMPTY.after(&bytes)))
}

/// Where the last line that has its end ends, looked for in the last `most` bytes before `size`; `size` if there is none.
///
/// # Errors
/// Whatever the file system says.
pub fn last_line_end(file: &File, size: u64, most: u64, charset: Option<Charset>) -> io::Result<u64> {
    let from = size.saturating_sub(most);
    let mut bytes = Vec::new();
    fill(file, from, size, &mut bytes)?;
    let (end, unit) = match charset {
        None => (memchr::memrchr(b'\n', &bytes), 1),
        Some(charset) => (charset.line_ends(&bytes, from).last(), charset.unit() as u64),
    };
    Ok(match end {
        Some(at) => from + at as u64 + unit,
        None if from == 0 => 0,
        None => size / unit * unit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    fn position(bytes: &[u8]) -> Position {
        let offset = bytes.len() as u64;
        Position { offset, line_start: offset, part: 0, hash: crc32c::crc32c(bytes), tail: Tail::EMPTY.after(bytes) }
    }

    #[test]
    fn a_file_that_was_truncated_and_grew_past_the_offset_is_known_as_truncated() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"first\nsecond\n").unwrap();
        let at = position(b"first\n");
        let mut block = Vec::new();
        assert_eq!(read(&file, &at, (100, 1), &mut block).unwrap(), Found::Data { data: 6, size: 13, full: false, hole: false });
        assert_eq!(&block[6..], b"second\n");
        file.set_len(0).unwrap();
        assert_eq!(read(&file, &at, (100, 1), &mut block).unwrap(), Found::Truncated { size: 0 });
        file.write_all_at(b"other things, longer than before\n", 0).unwrap();
        assert_eq!(read(&file, &at, (100, 1), &mut block).unwrap(), Found::Truncated { size: 33 });
    }

    #[test]
    fn a_hole_is_skipped_only_when_data_follows() {
        let file = &tempfile::tempfile().unwrap();
        file.write_all_at(b"a\n", 0).unwrap();
        file.set_len(1 << 20).unwrap();
        let at = position(b"a\n");
        let mut block = Vec::new();
        match read(file, &Position::START, (1 << 20, 1), &mut block).unwrap() {
            Found::Data { full, .. } => assert!(!full && block.starts_with(b"a\n")),
            other => panic!("{other:?}"),
        }
        file.write_all_at(b"b\n", (1 << 20) + 5000).unwrap();
        let start = Position { offset: 8192, line_start: 8192, ..behind_hole(&at, 8192) };
        let Found::Hole { to } = read(file, &start, (100, 1), &mut block).unwrap() else { panic!("no hole") };
        let behind = behind_hole(&start, to);
        assert_eq!(behind.hash, hash_range(file, 0, to).unwrap().unwrap());
        assert!(tail_agrees(file, &behind).unwrap());
    }

    #[test]
    fn hashing_zeros_is_hashing_zeros() {
        for count in [0, 1, 2, 3, 63, 64, 1000, 4097] {
            assert_eq!(hash_zeros(77, count as u64), crc32c::crc32c_append(77, &vec![0; count]));
        }
    }
}

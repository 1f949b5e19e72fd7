//! Where a stream is to go on: from the word of an operator to a position, with the file looked at. A position is always the first byte of a
//! line, so that no half line is sent.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Settings;
use crate::batch::Position;
use crate::control::Refusal;
use crate::control::protocol::SeekTo;
use crate::snapshot::rows::{FileState, StreamRow};
use crate::source::file::identity::{HEAD, Seen, Verdict, judge};
use crate::source::file::reader;

/// How much is read at once while a line's beginning is looked for, bytes.
const BLOCK: usize = 256 << 10;
/// No line's beginning is looked for farther back than this, bytes.
const LINE_LIMIT: u64 = 1 << 30;

/// Opens the file of a stream as its source would, and makes sure that it is that file.
///
/// # Errors
/// It is not there, not to be opened, or another.
pub fn open(settings: &Settings, row: &StreamRow) -> Result<File, Refusal> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&row.path));
    let shown = path.display();
    if row.first_path.is_empty() {
        let source = &row.source;
        return Err(Refusal(format!("source {source} has no file to seek in: its messages come from senders, and go out in that order")));
    }
    match row.state {
        FileState::Gone => return Err(Refusal(format!("{shown} is gone: there is nothing to seek in"))),
        FileState::Copy => return Err(Refusal(format!("{shown} is a copy of a file that was read: it is not read itself"))),
        FileState::Live | FileState::Rotated => {}
    }
    let source = &row.source;
    if row.first_path.is_empty() {
        return Err(Refusal(format!(
            "{shown} is the arrival log of source {source}: what is in it is sent in its order, and only files can be gone on with elsewhere"
        )));
    }
    let finder = settings.finders.get(source);
    let finder = finder.ok_or_else(|| Refusal(format!("source {source} is not in the configuration: {shown} is not read")))?;
    let (file, stat) = finder.open(path).map_err(|refusal| Refusal(format!("{shown} can't be opened: {refusal}")))?;
    let failed = |error: io::Error| Refusal(format!("{shown} can't be read: {error}"));
    let head = reader::head(&file, HEAD).map_err(failed)?;
    let tail_agrees = stat.size >= row.position.offset && reader::tail_agrees(&file, &row.position).map_err(failed)?;
    let evidence = crate::snapshot::rows::Evidence { dev: stat.dev, ino: stat.ino, btime_ns: stat.btime_ns, ..row.evidence };
    match judge(&row.evidence, row.position.offset, &Seen { evidence, size: stat.size, head: &head, tail_agrees }) {
        Verdict::Same => Ok(file),
        _ => Err(Refusal(format!(
            "{shown} is not the file that was read, or was truncated since: start the daemon, so that it finds out, and try again"
        ))),
    }
}

/// The position in `file` that `to` means.
///
/// # Errors
/// The file has no such place, or it lies within a line.
pub fn position(file: &File, row: &StreamRow, to: &SeekTo) -> Result<Position, Refusal> {
    let shown = Path::new(std::ffi::OsStr::from_bytes(&row.path)).display().to_string();
    let failed = |error: io::Error| Refusal(format!("{shown} can't be read: {error}"));
    let size = file.metadata().map_err(failed)?.len();
    let offset = match *to {
        SeekTo::Start => 0,
        SeekTo::End => line_start(file, size, 0).map_err(failed)?,
        SeekTo::Line(number) => line_offset(file, number).map_err(failed)?.ok_or_else(|| {
            Refusal(format!("{shown} has no line {number}: its lines are counted from 1, and only those that have their end count"))
        })?,
        SeekTo::Cursor(_) => return Err(Refusal(format!("{shown} is no journal: only entries of the systemd journal have cursors"))),
        SeekTo::Offset(offset) if offset > size => {
            return Err(Refusal(format!("{shown} has {size} bytes: byte {offset} is behind its end")));
        }
        SeekTo::Offset(offset) => {
            let start = line_start(file, offset, 0).map_err(failed)?;
            if start != offset {
                return Err(Refusal(format!(
                    "byte {offset} of {shown} lies within a line, which begins at byte {start}: seek there, or to the next"
                )));
            }
            offset
        }
    };
    let tail = reader::tail_before(file, offset).map_err(failed)?;
    let tail = tail.ok_or_else(|| Refusal(format!("{shown} became shorter meanwhile: try again")))?;
    Ok(Position { offset, line_start: offset, tail, ..Position::START })
}

/// The first byte of the line that `offset` lies in, looked for no farther back than `floor`: `floor` or less if no line ends in between.
///
/// # Errors
/// Whatever the file system says, and a line longer than `LINE_LIMIT`.
pub fn line_start(file: &File, offset: u64, floor: u64) -> io::Result<u64> {
    let mut block = vec![0_u8; BLOCK];
    let mut end = offset;
    while end > floor {
        let from = end.saturating_sub(BLOCK as u64).max(floor);
        let len = usize::try_from(end - from).unwrap_or(BLOCK);
        let Some(part) = block.get_mut(..len) else { break };
        file.read_exact_at(part, from)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(from + at as u64 + 1);
        }
        if offset - from > LINE_LIMIT {
            return Err(io::Error::other("a line of more than 1 GiB"));
        }
        end = from;
    }
    Ok(floor)
}

/// The first byte of line `number`, counted from 1; `None` if so many lines have not ended.
fn line_offset(file: &File, number: u64) -> io::Result<Option<u64>> {
    let Some(mut wanted) = number.checked_sub(1) else { return Ok(None) };
    let mut block = vec![0_u8; BLOCK];
    let mut at = 0_u64;
    while wanted > 0 {
        let have = match file.read_at(&mut block, at) {
            Ok(0) => return Ok(None),
            Ok(have) => have,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = block.get(..have).unwrap_or_default();
        match memchr::memchr_iter(b'\n', part).nth(usize::try_from(wanted - 1).unwrap_or(usize::MAX)) {
            Some(end) => return Ok(Some(at + end as u64 + 1)),
            None => wanted -= memchr::memchr_iter(b'\n', part).count() as u64,
        }
        at += have as u64;
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn row() -> StreamRow {
        StreamRow::begun("s".into(), (*b"k").into(), b"/p", Position::START)
    }

    fn offset(file: &File, to: &SeekTo) -> Result<u64, String> {
        position(file, &row(), to).map(|position| position.offset).map_err(|refusal| refusal.0)
    }

    #[test]
    fn every_place_that_can_be_named_is_the_beginning_of_a_line() {
        let file = file(b"one\ntwo\n\nfour\nhalf");
        assert_eq!(offset(&file, &SeekTo::Start), Ok(0));
        assert_eq!(offset(&file, &SeekTo::End), Ok(14));
        assert_eq!(offset(&file, &SeekTo::Line(1)), Ok(0));
        assert_eq!(offset(&file, &SeekTo::Line(3)), Ok(8));
        assert_eq!(offset(&file, &SeekTo::Line(5)), Ok(14));
        assert_eq!(offset(&file, &SeekTo::Offset(4)), Ok(4));
        assert!(offset(&file, &SeekTo::Line(6)).is_err() && offset(&file, &SeekTo::Line(0)).is_err());
        assert!(offset(&file, &SeekTo::Offset(5)).unwrap_err().contains("begins at byte 4"));
        assert!(offset(&file, &SeekTo::Offset(99)).unwrap_err().contains("has 18 bytes"));
    }

    #[test]
    fn lines_longer_than_a_block_are_found_too() {
        let mut bytes = vec![b'x'; BLOCK * 2 + 3];
        bytes.push(b'\n');
        bytes.extend_from_slice(b"end");
        let end = (BLOCK * 2 + 4) as u64;
        let file = file(&bytes);
        assert_eq!(offset(&file, &SeekTo::Line(2)), Ok(end));
        assert_eq!(offset(&file, &SeekTo::End), Ok(end));
        assert!(offset(&file, &SeekTo::Offset(end - 1)).unwrap_err().contains("begins at byte 0"));
        assert_eq!(line_start(&file, end - 1, 100).unwrap(), 100, "no farther back than asked");
    }

    #[test]
    fn an_empty_file_has_one_place() {
        let file = file(b"");
        assert_eq!((offset(&file, &SeekTo::Start), offset(&file, &SeekTo::End), offset(&file, &SeekTo::Line(1))), (Ok(0), Ok(0), Ok(0)));
        assert!(offset(&file, &SeekTo::Line(2)).is_err());
    }
}

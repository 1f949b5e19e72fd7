//! Where a stream of a journal stands and is to go on, for an operator: by cursors and numbers of entries instead of bytes and lines. Apart from
//! `seek.rs`, which knows files of lines.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;

use super::Settings;
use crate::control::Refusal;
use crate::control::protocol::SeekTo;
use crate::control::status;
use crate::snapshot::rows::{FileState, StreamRow};
use crate::source::journald::discover::files;
use crate::source::journald::explain::remedy;
use crate::source::journald::position::{Place, hex};
use crate::source::journald::reader::{JournalFile, ReadError, Windows};

/// What a seek leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sought {
    /// Where it would go on.
    pub place: Place,
    /// Entries of the journal that would be passed over.
    pub skipped: u64,
    /// Entries that would be read again.
    pub again: u64,
}

impl Sought {
    /// What it does, for people.
    #[must_use]
    pub fn words(&self, path: &str, from: u64) -> String {
        let to = self.place.through;
        match (self.skipped, self.again) {
            (0, 0) => format!("{path} goes on behind entry {to}: nothing is skipped and nothing is sent again."),
            (0, again) => {
                format!("{path} goes on behind entry {to} instead of {from}: the {again} entries in between are read and sent again.")
            }
            (skipped, _) => format!(
                "{path} goes on behind entry {to} instead of {from}: {skipped} entries are skipped and never sent; they are counted as missed (operator)."
            ),
        }
    }
}

/// What is shown of a position.
#[must_use]
pub fn shown(place: &Place) -> status::Journal {
    let counter = hex(&place.seqnum_id);
    let begun = place.realtime > 0;
    let boot = if begun { hex(&place.boot_id) } else { String::new() };
    let cursor = format!("s={counter};i={:x};b={boot};m={:x};t={:x}", place.through, place.monotonic, place.realtime);
    let received = i64::try_from(place.realtime).ok().and_then(|time| Timestamp::from_microsecond(time).ok());
    status::Journal {
        number: place.through,
        cursor: if begun { cursor } else { String::new() },
        boot,
        received: received.filter(|_| begun).map(|time| time.to_string()).unwrap_or_default(),
        counter,
    }
}

/// The number of the entry that a cursor names, if it is one of this counter.
fn number_in(cursor: &str, counter: &str) -> Result<u64, Refusal> {
    let part = |key: &str| cursor.split(';').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    let number = part("i").and_then(|number| u64::from_str_radix(number, 16).ok());
    let (Some(id), Some(number)) = (part("s"), number) else {
        return Err(Refusal(format!("{cursor} is no cursor of an entry: it has s=… and i=…, as journalctl --show-cursor tells it")));
    };
    if id != counter {
        return Err(Refusal(format!(
            "that cursor is of another stream: its s= is {id}, and this one's {counter}. logferry positions ls --json shows those of all"
        )));
    }
    Ok(number)
}

/// Where `to` is in the journal of a stream, which is read for that.
///
/// # Errors
/// There is no such place, or the journal can't be read.
pub fn seek(settings: &Settings, row: &StreamRow, place: &Place, to: &SeekTo) -> Result<Sought, Refusal> {
    let path = Path::new(OsStr::from_bytes(&row.path));
    let shown = path.display();
    if !settings.journals.contains(&row.source) {
        return Err(Refusal(format!("source {} is not in the configuration: {shown} is not read", row.source)));
    }
    let mut parts = if row.state == FileState::Gone { Vec::new() } else { open(path, place)? };
    let heads = parts.iter().map(|file| file.header().head_seqnum).filter(|head| *head > 0);
    let Some(first) = heads.min() else {
        return Err(Refusal(format!("no file of {shown} has entries of this stream any more: there is nothing to seek in")));
    };
    let last = parts.iter().map(|file| file.header().tail_seqnum).max().unwrap_or(first);
    let through = match to {
        SeekTo::Start => first.saturating_sub(1),
        SeekTo::End => last,
        SeekTo::Cursor(cursor) => number_in(cursor, &hex(&place.seqnum_id))?,
        SeekTo::Line(_) | SeekTo::Offset(_) => {
            return Err(Refusal(format!("{shown} is a journal: it can be gone on with at start, end, or behind the entry of a cursor")));
        }
    };
    if !(first.saturating_sub(1)..=last).contains(&through) {
        return Err(Refusal(format!("{shown} has the entries {first} to {last}: entry {through} is not among them")));
    }
    let mut windows = Windows::default();
    let mut behind = |number: u64| -> Result<u64, Refusal> {
        let of = |file: &mut JournalFile| file.seek(&mut windows, number).map(|()| file.left());
        parts.iter_mut().map(of).sum::<Result<u64, ReadError>>().map_err(|error| Refusal(format!("{shown} can't be read: {error}")))
    };
    let (now, then) = (behind(place.through)?, behind(through)?);
    let place = Place { through, told: false, ..*place };
    Ok(Sought { place, skipped: now.saturating_sub(then), again: then.saturating_sub(now) })
}

/// The files of the stream at `path`, which is a directory and the name of a journal.
fn open(path: &Path, place: &Place) -> Result<Vec<JournalFile>, Refusal> {
    let (Some(dir), Some(base)) = (path.parent(), path.file_name().and_then(OsStr::to_str)) else { return Ok(Vec::new()) };
    let failed = |path: &Path, error: &ReadError| Refusal(format!("{} can't be read: {}", path.display(), remedy(error)));
    let found = files(dir).map_err(|error| failed(dir, &error.into()))?;
    let mut parts = Vec::new();
    for (key, found) in (1..).zip(found.iter().filter(|found| found.base == base)) {
        let file = File::open(&found.path).map_err(ReadError::Io);
        match file.and_then(|file| JournalFile::open(Box::new(file), key, found.closed)) {
            Ok(file) if file.header().seqnum_id == place.seqnum_id => parts.push(file),
            Ok(_) | Err(ReadError::Unfit(_)) => {}
            Err(error) => return Err(failed(&found.path, &error)),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_place_is_a_cursor_that_journalctl_takes_and_that_leads_back() {
        let place = Place {
            seqnum_id: [0xab; 16],
            through: 300,
            boot_id: [1; 16],
            monotonic: 16,
            realtime: 1_600_000_000_000_000,
            ..Place::default()
        };
        let shown = shown(&place);
        let (counter, boot) = ("ab".repeat(16), "01".repeat(16));
        assert_eq!(shown.cursor, format!("s={counter};i=12c;b={boot};m=10;t=5af3107a40000"));
        assert_eq!((shown.number, shown.boot, &*shown.received), (300, boot, "2020-09-13T12:26:40Z"));
        assert_eq!(number_in(&shown.cursor, &counter), Ok(300));
        assert!(number_in(&shown.cursor, "cd").unwrap_err().0.contains("another stream"));
        assert!(number_in("i=xyz", &counter).unwrap_err().0.contains("is no cursor"));
        assert_eq!(super::shown(&Place::default()).cursor, "", "nothing was read yet");
    }
}

//! What a fuzz target calls: a real file, some of its bytes changed where its objects are, is read and rendered to its end. Nothing may panic, and it
//! must come to an end, with no more entries than the file has room for.

use std::sync::Arc;

use super::filter::{Filter, Wanted};
use super::format::{HEADER, Object, u64_at};
use super::reader::{Bytes, JournalFile, Next, Windows};
use super::render::{Fields, Renderer};
use crate::batch::StreamId;
use crate::encode::{Format, Settings};

/// A file as a journal has written it.
#[derive(Debug)]
pub struct Real {
    bytes: Vec<u8>,
    objects: Vec<usize>,
}

/// A byte that is changed: in which object, where in it, and to what. The first object is the file's header.
pub type Edit = (u16, u8, u8);

impl Real {
    /// A whole file.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Real {
        let objects = std::iter::once(0).chain(objects(&bytes).into_iter().map(|(at, _)| at)).collect();
        Real { bytes, objects }
    }
}

/// The objects of a file that is in order: where each is, and what.
#[must_use]
pub fn objects(bytes: &[u8]) -> Vec<(usize, Object)> {
    let number = |at| u64_at(bytes, at).and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    let (mut at, tail) = (number(88), number(136));
    let mut found = Vec::new();
    while at <= tail
        && let Some(Ok(object)) = bytes.get(at..).map(Object::parse)
    {
        found.push((at, object));
        at += usize::try_from(object.size).unwrap_or(bytes.len()).next_multiple_of(8);
    }
    found
}

/// The same with its changes, cut off at `end`.
struct Changed {
    real: Arc<Real>,
    edits: Vec<(usize, u8)>,
    end: usize,
}

impl Bytes for Changed {
    fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.real.bytes.get(..self.end).and_then(|bytes| bytes.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for (at, value) in &self.edits {
            let byte = at.checked_sub(offset).filter(|at| *at < len).and_then(|at| buffer.get_mut(at));
            if let Some(byte) = byte {
                *byte = *value;
            }
        }
        Ok(len)
    }
}

/// Reads it; how many entries there were. `cut` says how much of it is left, in parts of 65,536; `closed`: as if it had been rotated away.
///
/// # Panics
/// More entries than the file has room for, or parts of one that don't end where it does: a mistake of the reader.
#[must_use]
pub fn read(real: &Arc<Real>, edits: &[Edit], cut: Option<u16>, closed: bool) -> usize {
    let len = real.bytes.len();
    let place = |(object, within, value): &Edit| {
        let object = real.objects.get(usize::from(*object) % real.objects.len().max(1)).copied().unwrap_or(0);
        (object + usize::from(*within), *value)
    };
    let end = cut.map_or(len, |cut| HEADER + (len.saturating_sub(HEADER) / 65_536) * usize::from(cut)).min(len);
    let changed = Changed { real: Arc::clone(real), edits: edits.iter().map(place).collect(), end };
    let Ok(mut file) = JournalFile::open(Box::new(changed), 1, closed) else { return 0 };
    let encode = Settings { format: Format::Json, max_event: 4 << 10, host: "h".into(), labels: Vec::new(), zone: jiff::tz::TimeZone::UTC };
    let mut renderer = Renderer::new(&encode, &"s".into(), &Fields::default(), Filter::new(&Wanted::default()));
    let (mut windows, mut out, mut parts, mut entries) = (Windows::default(), Vec::new(), Vec::new(), 0);
    renderer.observe(0);
    while let Ok(Next::Entry(entry, at)) = file.peek(&mut windows) {
        entries += 1;
        // Each has an object, or at the least a place in an array.
        assert!(entries <= len / 4, "it reads more entries than the file has room for");
        if renderer.entry((&file, &mut windows), (&entry, at), StreamId(1), &mut out, &mut parts).is_err() {
            break;
        }
        assert!(parts.is_empty() || parts.last() == Some(&out.len()), "parts end where the message does");
        out.clear();
        file.advance();
    }
    drop(file.values_of(&mut windows, b"_SYSTEMD_UNIT"));
    let _ = file.seek(&mut windows, entries as u64 / 2).map(|()| file.peek(&mut windows));
    let _ = file.refresh(&mut windows);
    entries
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    static REAL: LazyLock<Vec<Arc<Real>>> = LazyLock::new(|| {
        let fixture = |name: &str| {
            let path = format!("{}/tests/fixtures/journal-257/{name}.journal.zst", env!("CARGO_MANIFEST_DIR"));
            Arc::new(Real::new(zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()))
        };
        ["remote-lz4", "remote-xz", "remote-zstd", "system"].map(fixture).into()
    });

    #[test]
    fn without_changes_all_is_read() {
        assert_eq!(REAL.iter().map(|real| read(real, &[], None, true)).collect::<Vec<_>>(), [48, 48, 48, 27]);
    }

    proptest! {
        #[test]
        fn whatever_is_changed_reading_comes_to_an_end(which in 0..4_usize, edits in prop::collection::vec(any::<Edit>(), 0..60), low in any::<bool>(), cut in prop::option::weighted(0.2, any::<u16>()), closed: bool) {
            // Most of what counts stands at the beginnings of objects.
            let edits: Vec<Edit> = edits.into_iter().map(|(object, within, value)| (object, if low { within % 72 } else { within }, value)).collect();
            let _ = read(&REAL[which], &edits, cut, closed);
        }
    }
}

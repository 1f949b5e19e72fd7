//! The last resort: the entries of a file whose arrays are damaged, found among its objects.

use super::windows::Windows;
use super::{JournalFile, Next, ReadError};
use crate::source::journald::format::{ENTRY, Entry, OBJECT, Object, Type};

impl JournalFile {
    /// The length of the file.
    pub(super) fn size(&self) -> Result<u64, ReadError> {
        // The last byte that there is, by halves.
        let (mut low, mut high) = (0_u64, 1_u64 << 42);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.bytes.read(&mut [0], middle)? == 0 { high = middle } else { low = middle + 1 }
        }
        Ok(low)
    }

    /// The last resort: the next entry among all objects from `at` on.
    pub(super) fn search(&mut self, windows: &mut Windows, mut at: u64) -> Result<Next, ReadError> {
        while at < self.end {
            let object = self.get(windows, at, OBJECT).and_then(|bytes| Ok(Object::parse(bytes)?));
            match object {
                Ok(Object { kind: Type::Entry, size, .. }) if size > ENTRY as u64 => {
                    if let Ok(entry) = self.entry(windows, at)
                        && self.is_plausible(windows, at, &entry)
                    {
                        self.cursor.scan = Some(at);
                        return Ok(Next::Entry(entry, at));
                    }
                    at += 8;
                }
                // What claims to be longer than the rest is no object.
                Ok(Object { kind, size, .. }) if !matches!(kind, Type::Other(0 | 8..)) && size <= self.end - at => {
                    at += size.next_multiple_of(8);
                }
                Ok(_) | Err(ReadError::Damage(_)) => at += 8,
                Err(error) => return Err(error),
            }
        }
        self.cursor.scan = Some(at);
        Ok(Next::End)
    }

    /// Whether this may be an entry: its numbers are those of the file, and it has fields.
    fn is_plausible(&self, windows: &mut Windows, at: u64, entry: &Entry) -> bool {
        let header = &self.header;
        let mut items = Vec::new();
        (header.head_seqnum..=header.tail_seqnum).contains(&entry.seqnum)
            && self.items(windows, at, &mut items).is_ok()
            && items.iter().all(|item| self.field(windows, *item).is_ok())
    }
}

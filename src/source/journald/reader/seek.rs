//! Where in a file the entries behind a number begin, found by halves.

use super::windows::Windows;
use super::{Cursor, JournalFile, ReadError};

impl JournalFile {
    /// Goes to the first entry behind `seqnum`. Where something is damaged it may be one before that.
    ///
    /// # Errors
    /// The system's, or the file has been deleted.
    pub fn seek(&mut self, windows: &mut Windows, seqnum: u64) -> Result<(), ReadError> {
        (self.cursor, self.next) = (Cursor::default(), None);
        self.ahead.1.clear();
        loop {
            // Loads the first slot of the next array.
            match self.slot(windows) {
                Ok(Some(_)) => {}
                Ok(None) | Err(ReadError::Damage(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
            let Cursor { array, room, passed, .. } = self.cursor;
            let count = room.min(self.header.entries - passed);
            let Some(last) = self.number(windows, array, count - 1)? else { return Ok(()) };
            if last > seqnum {
                let (mut low, mut high) = (0, count - 1);
                while low < high {
                    let middle = low + (high - low) / 2;
                    match self.number(windows, array, middle)? {
                        Some(number) if number <= seqnum => low = middle + 1,
                        Some(_) => high = middle,
                        None => return Ok(()),
                    }
                }
                self.cursor.index = low;
                return Ok(());
            }
            self.cursor.index = count;
            if passed + count >= self.header.entries {
                return Ok(());
            }
        }
    }

    /// The number of the entry in this slot; `None` if it can't be read.
    fn number(&self, windows: &mut Windows, array: u64, index: u64) -> Result<Option<u64>, ReadError> {
        let entry = self.slot_at(windows, array, index).and_then(|at| self.entry(windows, at));
        match entry {
            Ok(entry) => Ok(Some(entry.seqnum)),
            Err(ReadError::Damage(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

//! Which values a field has anywhere in a file, found by the table of fields' names and not by reading entries.

use super::windows::Windows;
use super::{JournalFile, ReadError};
use crate::source::journald::format::{Damage, HEADER, Packing, Type, u64_at};

impl JournalFile {
    /// The values that a field has in this file, as far as they are text and short; at most a few thousand.
    #[must_use]
    pub fn values_of(&self, windows: &mut Windows, field: &[u8]) -> Vec<String> {
        self.walk_values(windows, field).unwrap_or_default()
    }

    /// Names of fields are in a table by their hashes; each leads to a chain of its values.
    fn walk_values(&self, windows: &mut Windows, field: &[u8]) -> Result<Vec<String>, ReadError> {
        let number = |bytes: &[u8], at| u64_at(bytes, at).ok_or(ReadError::Damage(Damage::Outside));
        let mut values = Vec::new();
        let (table, size) = {
            let header = self.get(windows, 0, HEADER)?;
            (number(header, 120)?, number(header, 128)?)
        };
        for bucket in 0..(size / 16).min(1 << 16) {
            let mut name = number(self.get(windows, table.saturating_add(bucket * 16), 8)?, 0)?;
            for _ in 0..64 {
                if name == 0 {
                    break;
                }
                let object = self.object(windows, name, Type::Other(2))?;
                let len = usize::try_from(object.size).unwrap_or(usize::MAX).min(40 + field.len() + 1);
                let bytes = self.get(windows, name, len)?;
                let (next, head) = (number(bytes, 24)?, number(bytes, 32)?);
                if bytes.get(40..) == Some(field) {
                    self.walk_chain(windows, head, field.len() + 1, &mut values)?;
                }
                name = next;
            }
        }
        Ok(values)
    }

    fn walk_chain(&self, windows: &mut Windows, mut at: u64, name: usize, values: &mut Vec<String>) -> Result<(), ReadError> {
        while at != 0 && values.len() < 4096 {
            let next = u64_at(self.get(windows, at, 40)?, 32).unwrap_or(0);
            let (packing, bytes) = self.field(windows, at)?;
            if packing == Packing::Plain && bytes.len() < 300 {
                values.extend(bytes.get(name..).and_then(|value| String::from_utf8(value.to_vec()).ok()));
            }
            at = next;
        }
        Ok(())
    }
}

//! From the journal that does not outlive a reboot to the one that does: `journalctl --flush` copies entries and gives them other numbers. What was
//! read before is known again by its boot and its time in it, and is not shipped twice.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::Journald;
use super::discover::Where;
use super::format::Entry;
use super::position::Place as Spot;
use crate::batch::StreamId;

/// What was read of a journal that does not outlive a reboot: journald copies it to the one that does (`journalctl --flush`), with other numbers.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    /// The name of its directory.
    directory: OsString,
    stream: StreamId,
    /// Since the boot, the time of the first entry that was read.
    first: u64,
    /// The last entry that was read.
    last: Spot,
}

impl Journald {
    /// What was read, before this start, of journals that do not outlive a reboot.
    pub(super) fn restore_handovers(&mut self) {
        let volatile = |path: &Path| match &self.settings.place {
            Where::Machine { roots, .. } => roots.iter().any(|(root, volatile)| *volatile && path.starts_with(root)),
            Where::Given(_) => false,
        };
        let mut handovers = Vec::new();
        for (stream, row) in self.common.settlement.streams_of(&self.settings.name) {
            let path = Path::new(OsStr::from_bytes(&row.path));
            let (Some(last), Some(directory)) = (Spot::unpack(&row.position), path.parent().and_then(Path::file_name)) else { continue };
            if volatile(path) && last.monotonic > 0 {
                handovers.push(Handover { directory: directory.to_owned(), stream, first: row.begun_at, last });
            }
        }
        self.handovers.extend(handovers);
    }

    /// The stream of a journal that does not outlive a reboot, if this entry was copied from it after it had been read there.
    pub(super) fn copied_from(&self, at: usize, entry: &Entry) -> Option<StreamId> {
        if self.handovers.is_empty() {
            return None;
        }
        let name = self.journals.get(at)?.directory.path.file_name()?;
        let is_copy = |handover: &&Handover| {
            let last = &handover.last;
            #[expect(clippy::cast_possible_truncation, reason = "half of a hash is enough to tell an entry by")]
            let xor_hash = entry.xor_hash as u32;
            handover.directory == name
                && last.boot_id == entry.boot_id
                && handover.first <= entry.monotonic
                && (entry.monotonic < last.monotonic
                    || (entry.monotonic == last.monotonic && xor_hash == last.xor_hash && entry.realtime == last.realtime))
        };
        self.handovers.iter().find(is_copy).map(|handover| handover.stream)
    }

    pub(super) fn note_handover(&mut self, at: usize, stream: StreamId, entry: &Entry, last: Spot) {
        if let Some(known) = self.handovers.iter_mut().find(|known| known.stream == stream && known.last.boot_id == entry.boot_id) {
            known.last = last;
            return;
        }
        let Some(directory) = self.journals.get(at).and_then(|journals| journals.directory.path.file_name()) else { return };
        // One for each boot that such a journal has entries of: one, as a rule.
        if self.handovers.len() < 64 {
            self.handovers.push(Handover { directory: directory.to_owned(), stream, first: entry.monotonic, last });
        }
        // By the row the time of the first entry is known after a restart.
        self.common.settlement.update(stream, |row| row.begun_at = entry.monotonic);
    }
}

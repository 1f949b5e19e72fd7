//! What a drain waits for: all bytes that were there when it began, up to the last line that has its end. A stream that goes on growing meanwhile
//! holds nothing up.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Settings, seek};
use crate::batch::StreamId;
use crate::control::protocol::Left;
use crate::settlement::Settlement;
use crate::snapshot::rows::{FileState, StreamRow};

/// How often it is looked whether all has been acknowledged.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A drain under way.
#[derive(Debug)]
pub struct Drain {
    /// The streams that are not through yet, each with the offset that it has to reach.
    targets: Vec<(StreamId, u64)>,
    /// When all are: the records that the spills held at that moment, by topic the one behind the last.
    tails: Option<HashMap<Arc<str>, u64>>,
}

impl Drain {
    /// From now on; what is written later is not waited for.
    #[must_use]
    pub fn begin(settings: &Settings, settlement: &Settlement) -> Drain {
        let mut targets = Vec::new();
        for (name, _) in settlement.books() {
            for (id, row) in settlement.streams_of(&name).into_iter().filter(|(_, row)| is_there(row)) {
                // The search may not have seen yet how far a file has grown.
                let size = open(settings, &row).and_then(|file| file.metadata().ok()).map_or(row.size, |stat| stat.len());
                targets.push((id, size.max(row.size)));
            }
        }
        Drain { targets, tails: None }
    }

    /// What is left of it; `None` when nothing is.
    pub fn left(&mut self, settings: &Settings, settlement: &Settlement) -> Option<Left> {
        let mut left = Left::default();
        self.targets.retain_mut(|(id, target)| {
            let stream = settlement.stream(*id).filter(|(row, _)| row.position.offset < *target && is_there(row));
            let Some((row, waiting)) = stream else { return false };
            // Lag stays where the last line has no end yet: that is not an event so far, and can't be waited for.
            if waiting.events == 0 && is_unfinished_line(settings, &row, *target) {
                return false;
            }
            left.unread_bytes += target.saturating_sub(row.position.offset + waiting.bytes);
            true
        });
        let totals = settlement.totals();
        let pending = totals.pending();
        (left.events, left.bytes) = (pending.events, pending.bytes);
        if !self.targets.is_empty() {
            return Some(left);
        }
        // What has left the files is delivered, or in the spills by now.
        let rows = settlement.lanes();
        let tails = self.tails.get_or_insert_with(|| rows.iter().map(|(topic, row)| (Arc::clone(topic), row.tail)).collect());
        rows.iter().any(|(topic, row)| tails.get(topic).is_some_and(|tail| row.head < *tail)).then_some(left)
    }
}

fn is_there(row: &StreamRow) -> bool {
    !matches!(row.state, FileState::Gone | FileState::Copy)
}

/// Whether no line ends between the position and the target. Looks back from the target only as far as the position.
fn is_unfinished_line(settings: &Settings, row: &StreamRow, target: u64) -> bool {
    let file = open(settings, row);
    file.is_some_and(|file| seek::line_start(&file, target, row.position.offset).is_ok_and(|start| start <= row.position.offset))
}

fn open(settings: &Settings, row: &StreamRow) -> Option<File> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&row.path));
    let (file, stat) = settings.finders.get(&row.source)?.open(path).ok()?;
    (stat.ino == row.evidence.ino).then_some(file)
}

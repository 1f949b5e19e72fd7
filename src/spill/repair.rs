//! What a start changes on disk, once all of it was read: so that the next start, with or without a snapshot between, finds the same. Apart from
//! [`super::recover`], which only reads. Each step can be repeated after an error or a crash.

use std::io;

use super::Share;
use super::damage::KEPT;
use super::directory::{SegmentId, set_aside};
use super::format::RECORD_MAGIC;
use super::recover::Recovery;
use crate::durable::disk::{read_full, write_full};

impl Recovery<'_> {
    pub(super) fn repair(&mut self, share: &Share) -> io::Result<()> {
        self.set_damage_aside(share)?;
        self.cut(share)?;
        self.sync_rolled()?;
        self.delete_useless(share)
    }

    fn set_damage_aside(&self, share: &Share) -> io::Result<()> {
        for hole in &self.holes {
            let len = usize::try_from((hole.bytes.end - hole.bytes.start).min(KEPT)).unwrap_or(0);
            let mut bytes = vec![0; len];
            let got = read_full(self.disk, &self.open(hole.id, false)?, &mut bytes, hole.bytes.start)?;
            bytes.truncate(got);
            share.note(set_aside(self.disk, self.dir, hole.seq, &bytes));
            if hole.seq >= self.row.tail && bytes.starts_with(RECORD_MAGIC) {
                // Its header is good, and with the next snapshot it would pass for a record that is there.
                let handle = self.open(hole.id, true)?;
                write_full(self.disk, &handle, &[0; RECORD_MAGIC.len()], hole.bytes.start)?;
                self.disk.sync_data(&handle)?;
            }
        }
        Ok(())
    }

    /// Cuts off what stands behind the good records of a segment: a torn end, or records that a later segment has again, or was to have; without
    /// that one they would come back from the dead.
    fn cut(&mut self, share: &Share) -> io::Result<()> {
        self.out.torn_bytes = self.open_holes.iter().map(|hole| hole.bytes.end - hole.bytes.start).sum();
        let mut cuts = Vec::new();
        for (id, segment) in &mut self.segments {
            let holes = self.holes.iter().filter(|hole| hole.id == *id).map(|hole| hole.bytes.end);
            let keep = holes.max().unwrap_or(0).max(segment.data);
            if segment.data > 0 && segment.size > keep {
                share.shrink(segment.size - keep);
                segment.size = keep;
                cuts.push((*id, keep));
            }
        }
        for (id, keep) in cuts {
            let handle = self.open(id, true)?;
            self.disk.truncate(&handle, keep)?;
            self.disk.sync_data(&handle)?;
        }
        Ok(())
    }

    /// What no snapshot knew may be in the kernel's memory only.
    fn sync_rolled(&self) -> io::Result<()> {
        let rolled = self.segments.iter().filter(|(_, segment)| segment.data > 0 && segment.end > self.row.tail);
        let rolled: Vec<SegmentId> = rolled.map(|(id, _)| *id).collect();
        for id in &rolled {
            self.disk.sync_data(&self.open(*id, true)?)?;
        }
        if rolled.is_empty() { Ok(()) } else { self.disk.sync_dir(self.dir) }
    }

    /// Deletes segments without a good record, and those before the head.
    fn delete_useless(&mut self, share: &Share) -> io::Result<()> {
        let head = self.row.head;
        let useless: Vec<SegmentId> = self.segments.iter().filter(|(_, s)| s.data == 0 || s.end <= head).map(|(id, _)| *id).collect();
        for id in useless {
            match self.disk.remove(&self.dir.join(id.name())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => share.shrink(self.segments.remove(&id).map_or(0, |segment| segment.size)),
            }
        }
        Ok(())
    }
}

//! A file that takes room on the disk for one purpose: when the disk is full it is given up, so that snapshots, and the gaps in them, can still be
//! written. Apart because the database knows nothing of it.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::space::Space;

/// Enough for the database to grow by once or twice, bytes.
const SIZE: u64 = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    there: bool,
}

impl Reserve {
    /// Takes the room in `dir`, if there is some.
    pub(super) fn take(dir: &Path) -> Reserve {
        let path = dir.join("reserve");
        let there = path.metadata().is_ok_and(|file| file.len() == SIZE);
        let mut reserve = Reserve { path, there };
        reserve.restore();
        reserve
    }

    /// Gives the room up; false if it was given up before.
    pub(super) fn give_up(&mut self) -> bool {
        std::mem::take(&mut self.there) && std::fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room again, when there is twice as much: a disk that has just been full is not filled up by this.
    pub(super) fn restore(&mut self) {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if self.there || !Space::of(dir).is_ok_and(|space| space.free >= SIZE * 2) {
            return;
        }
        self.there = self.make().is_ok();
        if !self.there {
            drop(std::fs::remove_file(&self.path));
        }
    }

    fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        // Not durable: after a crash it is there, or is made anew.
        Ok(fallocate(&file, FallocateFlags::empty(), 0, SIZE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_taken_given_up_once_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::take(dir.path());
        let size = || dir.path().join("reserve").metadata().map_or(0, |file| file.len());
        assert_eq!(size(), SIZE);
        assert!(reserve.give_up() && !reserve.give_up());
        assert_eq!(size(), 0);
        reserve.restore();
        assert_eq!(size(), SIZE);
        assert!(Reserve::take(dir.path()).give_up(), "one that is there is known");
    }
}

//! How much room a file system has. Apart because several parts must leave some of it to others, by one rule.

use std::io;
use std::path::Path;

use crate::spill::KeepFree;

/// A file system's size and what of it is free to this user, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub size: u64,
    /// What is free.
    pub free: u64,
}

impl Space {
    /// That of the file system which holds `dir`.
    ///
    /// # Errors
    /// There is no such directory, or the system can't say.
    pub fn of(dir: &Path) -> io::Result<Space> {
        let system = rustix::fs::statvfs(dir)?;
        Ok(Space { size: system.f_blocks.saturating_mul(system.f_frsize), free: system.f_bavail.saturating_mul(system.f_frsize) })
    }

    /// How many bytes may still be written when `keep` is left to others.
    #[must_use]
    pub fn usable(self, keep: KeepFree) -> u64 {
        self.free.saturating_sub(self.kept(keep))
    }

    /// How many bytes are wanting to what is left to others.
    #[must_use]
    pub fn lacking(self, keep: KeepFree) -> u64 {
        self.kept(keep).saturating_sub(self.free)
    }

    fn kept(self, keep: KeepFree) -> u64 {
        match keep {
            KeepFree::Percent(share) => self.size / 100 * u64::from(share),
            KeepFree::Bytes(bytes) => bytes,
        }
    }
}

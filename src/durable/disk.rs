//! The file operations of what is kept in segments, as a trait: tests put something between that fails, or that records the order of durable
//! steps. Apart because only segments need it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An open file and where it was found.
#[derive(Debug)]
pub struct Handle {
    /// The file.
    pub file: File,
    /// The path it was opened by.
    pub path: PathBuf,
}

/// The size of a file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary user may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// What is done to files, each with the errors of the system.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes a directory (mode 0700) with its parents, its entry durable.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a file that must not exist (mode 0600), to read and write.
    fn create(&self, path: &Path) -> io::Result<Handle>;
    /// Opens a file to read, or to read and write.
    fn open(&self, path: &Path, write: bool) -> io::Result<Handle>;
    /// Reads at most `room.len()` bytes; 0 at the end.
    fn read_at(&self, handle: &Handle, room: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of `bytes`; says how many.
    fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes the file this long.
    fn truncate(&self, handle: &Handle, len: u64) -> io::Result<()>;
    /// Makes its bytes durable.
    fn sync_data(&self, handle: &Handle) -> io::Result<()>;
    /// Makes a directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file; not durably.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// The file system's size.
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// A file's length.
    fn len(&self, handle: &Handle) -> io::Result<u64>;
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl Disk for Real {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        super::make_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Handle> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(path)?;
        Ok(Handle { file, path: path.to_owned() })
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Handle> {
        Ok(Handle { file: OpenOptions::new().read(true).write(write).open(path)?, path: path.to_owned() })
    }

    fn read_at(&self, handle: &Handle, room: &mut [u8], offset: u64) -> io::Result<usize> {
        handle.file.read_at(room, offset)
    }

    fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<usize> {
        handle.file.write_at(bytes, offset)
    }

    fn truncate(&self, handle: &Handle, len: u64) -> io::Result<()> {
        handle.file.set_len(len)
    }

    fn sync_data(&self, handle: &Handle) -> io::Result<()> {
        super::sync_data(&handle.file)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        super::sync_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        // A name that is not UTF-8 is none of ours.
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default())).collect()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Space { free: stat.f_bavail.saturating_mul(stat.f_frsize), total: stat.f_blocks.saturating_mul(stat.f_frsize) })
    }

    fn len(&self, handle: &Handle) -> io::Result<u64> {
        Ok(handle.file.metadata()?.len())
    }
}

/// Reads until `room` is full or the file ends; says how much came.
///
/// # Errors
/// Whatever the system says.
pub fn read_full(disk: &dyn Disk, handle: &Handle, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut at = 0;
    while let Some(rest) = room.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match disk.read_at(handle, rest, offset + at as u64) {
            Ok(0) => break,
            Ok(got) => at += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// Writes all of `bytes`.
///
/// # Errors
/// Whatever the system says; some of the bytes may be there then.
pub fn write_full(disk: &dyn Disk, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match disk.write_at(handle, rest, offset + at as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => at += wrote,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

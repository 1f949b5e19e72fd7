//! What makes bytes safe: the only place for fsync, rename and the lock of the state directory. Apart so that the order of durable steps can be
//! read, and be tested: what the spill does to its files goes through [`disk::Disk`], which a test can make fail or record.

pub mod disk;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Makes `dir` (mode 0700) with its parents, and makes its entry durable.
///
/// # Errors
/// Whatever the file system says.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

/// Makes the entries of `dir` durable.
///
/// # Errors
/// Whatever the file system says.
#[expect(clippy::disallowed_methods, reason = "this is the file that fsync belongs into")]
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes the file `path` (mode 0600), which must not be there, and makes its entry durable.
///
/// # Errors
/// Whatever the file system says.
pub fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    path.parent().map_or(Ok(()), sync_dir)?;
    Ok(file)
}

/// Makes what was written into `file` durable. After an error nothing since the last good call is safe, and the file must not be written to again.
///
/// # Errors
/// Whatever the file system says.
#[expect(clippy::disallowed_methods, reason = "this is the file that fsync belongs into")]
pub fn sync(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Removes the file `path` durably.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Gives `from` the name `to`, durably; what had it before is gone.
///
/// # Errors
/// Whatever the file system says.
#[expect(clippy::disallowed_methods, reason = "this is the file that rename and fsync belong into")]
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    to.parent().map_or(Ok(()), sync_dir)
}

/// Makes the bytes of `file` durable, and of its metadata what is needed to read them back.
///
/// # Errors
/// Whatever the file system says. It is final: what the kernel had not written may be gone from its cache, and the next call would succeed.
#[expect(clippy::disallowed_methods, reason = "this is the file that fsync belongs into")]
pub fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// The state directory's lock, held until dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another logferry runs on {}: stop it first, or give this one a state_dir of its own", .0.display())]
    Held(PathBuf),
    /// The file can't be made or locked.
    #[error("the lock {} can't be taken: {error}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Lock {
    /// Takes the lock of `dir`; where it is held, tries again for as long as `patience`, since a command that looks at the state of a stopped
    /// daemon holds it for moments.
    ///
    /// # Errors
    /// It is still held by another process, or the file can't be made.
    pub fn take_within(dir: &Path, patience: Duration) -> Result<Lock, LockError> {
        let until = Instant::now() + patience;
        loop {
            match Lock::take(dir) {
                Err(LockError::Held(_)) if Instant::now() < until => std::thread::sleep(patience.min(Duration::from_millis(10))),
                outcome => return outcome,
            }
        }
    }

    /// Takes the lock of `dir` without waiting.
    ///
    /// # Errors
    /// It is held by another process, or the file can't be made.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let path = dir.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(|error| LockError::Io { path: path.clone(), error })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held(dir.to_owned())),
            Err(error) => Err(LockError::Io { path, error: error.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_keeps_a_second_one_out_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(matches!(Lock::take(dir.path()), Err(LockError::Held(_))));
        let patience = Duration::from_secs(20);
        let waiting = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::take_within(dir.path(), patience).map(drop).is_ok());
            drop(first);
            waiting.join().unwrap()
        });
        assert!(waiting, "one that waits gets it then");
        Lock::take(dir.path()).unwrap();
    }
}

//! Opens files below a directory without being led elsewhere. A symbolic link is followed only where the link's owner is root or owns what
//! it leads to, judged on descriptors that are already open, so nothing that is swapped in meanwhile changes the outcome. Apart because
//! this is what keeps a daemon that may read everything from shipping what an unprivileged user points it at.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

pub use refusal::{Permission, Refusal};

mod refusal;
#[cfg(test)]
mod tests;

/// How many symbolic links one path may lead through, as in the kernel; one more is [`Refusal::LinkLoop`].
const MAX_LINKS: u32 = 40;

/// Set when the kernel, or a filter around this process, does not know `openat2`: from then on every component is opened by itself.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// What a file is known by, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// The device it is on; may change with a reboot or remount.
    pub dev: u64,
    /// Its inode; given to another file once this one is gone.
    pub ino: u64,
    /// When it was made, nanoseconds since 1970; `None` where the file system does not keep it.
    pub btime_ns: Option<i64>,
    /// When it was last written, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Bytes.
    pub size: u64,
    /// How many names it has; 0 once it is deleted.
    pub nlink: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
}

impl FileStat {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<FileStat> {
        Ok(FileStat::of_fd(file.as_fd())?)
    }

    fn of_fd(fd: BorrowedFd<'_>) -> Result<FileStat, Errno> {
        FileStat::at(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// Of a name in an open directory; a link is not followed.
    pub(super) fn of_name(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<FileStat, Errno> {
        FileStat::at(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn at(dir: BorrowedFd<'_>, name: &std::ffi::CStr, flags: AtFlags) -> Result<FileStat, Errno> {
        rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME).map(|stat| FileStat::from(&stat))
    }

    /// What kind of thing it is.
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

impl From<&Statx> for FileStat {
    fn from(stat: &Statx) -> FileStat {
        let ns = |sec: i64, nsec: u32| sec.saturating_mul(1_000_000_000).saturating_add(i64::from(nsec));
        let has_btime = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        FileStat {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
            btime_ns: has_btime.then(|| ns(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
            mtime_ns: ns(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            size: stat.stx_size,
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mode: u32::from(stat.stx_mode),
        }
    }
}

/// An open directory, held by a descriptor that stands for it wherever it is moved.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the fixed part of a pattern: links in it are followed whoever made them, since an administrator wrote the path.
    pub fn open(path: &Path) -> Result<Dir, Refusal> {
        match rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path: path.to_owned() }),
            Err(Errno::ACCESS) => Err(shut_directory(path)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor; good for looking up names, not for reading it.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn stat(&self) -> Result<FileStat, Refusal> {
        Ok(FileStat::of_fd(self.fd())?)
    }

    /// Opens a directory below this one, under the policy for links; this one again for an empty path.
    pub(super) fn below(&self, rest: &Path) -> Result<Dir, Refusal> {
        let here = rest.as_os_str().is_empty();
        let (fd, stat) = resolve(self, if here { Path::new(".") } else { rest })?;
        if stat.kind() != FileType::Directory {
            return Err(Refusal::NotFound);
        }
        Ok(Dir { fd, path: if here { self.path.clone() } else { self.path.join(rest) } })
    }

    /// Reads its entries, `.` and `..` among them.
    pub(super) fn entries(&self) -> Result<rustix::fs::Dir, Refusal> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(self.fd(), c".", flags, Mode::empty()).and_then(rustix::fs::Dir::new) {
            Err(Errno::ACCESS) => Err(Refusal::permission(&self.path, &self.stat()?, "rx")),
            other => Ok(other?),
        }
    }
}

/// Which directory on the way to this one, itself included, can't be passed.
fn shut_directory(path: &Path) -> Refusal {
    let shown = path.ancestors().find_map(|dir| {
        let fd = rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some((dir, FileStat::of_fd(fd.as_fd()).ok()?))
    });
    shown.map_or(Refusal::Io(Errno::ACCESS.into()), |(dir, stat)| Refusal::permission(dir, &stat, "x"))
}

/// Opens a regular file below `base` for reading, without waiting for anything and without becoming anybody's terminal.
pub fn open(base: &Dir, rest: &Path) -> Result<(File, FileStat), Refusal> {
    let (fd, stat) = regular(base, rest)?;
    // The descriptor names the very file that was judged; no path is looked at again.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => Ok((File::from(file), stat)),
        Err(Errno::ACCESS) => Err(Refusal::permission(&base.path.join(rest), &stat, "r")),
        Err(Errno::NOENT) => Err(Refusal::Io(io::Error::other("/proc is not mounted: files are opened through /proc/self/fd"))),
        Err(errno) => Err(errno.into()),
    }
}

/// Looks at a regular file below `base`, under the same policy as [`open`]; needs no permission to read it.
pub fn stat(base: &Dir, rest: &Path) -> Result<FileStat, Refusal> {
    Ok(regular(base, rest)?.1)
}

fn regular(base: &Dir, rest: &Path) -> Result<(OwnedFd, FileStat), Refusal> {
    let (fd, stat) = resolve(base, rest)?;
    Refusal::of_kind(stat.kind()).map_or(Ok((fd, stat)), Err)
}

/// Finds what `rest` names below `base`, whatever it is: by one system call where no link is in the way, else component by component.
pub(super) fn resolve(base: &Dir, rest: &Path) -> Result<(OwnedFd, FileStat), Refusal> {
    match without_links(base.fd(), rest) {
        Ok(fd) => {
            let stat = FileStat::of_fd(fd.as_fd())?;
            Ok((fd, stat))
        }
        // A link, a directory that can't be passed (the slow way tells which), or no `openat2`.
        Err(Errno::LOOP | Errno::ACCESS | Errno::NOSYS) => one_by_one(base, rest),
        Err(errno) => Err(errno.into()),
    }
}

fn without_links(base: BorrowedFd<'_>, rest: &Path) -> Result<OwnedFd, Errno> {
    if NO_OPENAT2.load(Ordering::Relaxed) {
        return Err(Errno::NOSYS);
    }
    let outcome = rustix::fs::openat2(base, rest, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    // Some filters answer EPERM for calls that are newer than themselves; opening a path alone never does.
    if let Err(Errno::NOSYS | Errno::PERM) = outcome {
        NO_OPENAT2.store(true, Ordering::Relaxed);
        return Err(Errno::NOSYS);
    }
    outcome
}

fn one_by_one(base: &Dir, rest: &Path) -> Result<(OwnedFd, FileStat), Refusal> {
    Links { left: MAX_LINKS }.walk(base.fd(), rest, &base.path)
}

/// The slow way: every component opened by itself, every link judged.
struct Links {
    left: u32,
}

impl Links {
    fn walk(&mut self, start: BorrowedFd<'_>, rest: &Path, shown: &Path) -> Result<(OwnedFd, FileStat), Refusal> {
        let mut shown = shown.to_owned();
        let mut here = open_at(start, OsStr::new("."), &shown)?;
        for component in rest.components() {
            here = match component {
                Component::CurDir => continue,
                Component::RootDir | Component::Prefix(_) => open_at(CWD, OsStr::new("/"), Path::new("/"))?,
                Component::ParentDir => open_at(here.0.as_fd(), OsStr::new(".."), &shown)?,
                Component::Normal(name) => self.enter(&here.0, name, &shown)?,
            };
            shown.push(component);
        }
        Ok(here)
    }

    fn enter(&mut self, dir: &OwnedFd, name: &OsStr, shown: &Path) -> Result<(OwnedFd, FileStat), Refusal> {
        let (fd, stat) = open_at(dir.as_fd(), name, shown)?;
        if stat.kind() != FileType::Symlink {
            return Ok((fd, stat));
        }
        self.left = self.left.checked_sub(1).ok_or(Refusal::LinkLoop)?;
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
        let (to, to_stat) = self.walk(dir.as_fd(), Path::new(OsStr::from_bytes(target.as_bytes())), shown)?;
        if stat.uid != 0 && stat.uid != to_stat.uid {
            return Err(Refusal::Link { link: shown.join(name), owner: stat.uid, target_owner: to_stat.uid });
        }
        Ok((to, to_stat))
    }
}

fn open_at(dir: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<(OwnedFd, FileStat), Refusal> {
    match rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => {
            let stat = FileStat::of_fd(fd.as_fd())?;
            Ok((fd, stat))
        }
        Err(Errno::ACCESS) => Err(Refusal::permission(shown, &FileStat::of_fd(dir)?, "x")),
        Err(errno) => Err(errno.into()),
    }
}

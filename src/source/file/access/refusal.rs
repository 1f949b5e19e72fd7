//! Why a path is not opened, and what a person can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{FileStat, MAX_LINKS};

/// Why a path is not opened. What the caller does next: nothing there → wait for it; [`Refusal::Io`] → try again; all else → say it once,
/// skip it, and try again at the next scan, since a person can mend it.
#[derive(Debug)]
pub enum Refusal {
    /// Nothing of that name, or a link that leads nowhere.
    NotFound,
    /// The system does not let this process in.
    Permission(Box<Permission>),
    /// A symbolic link of somebody who does not own what it leads to.
    Link {
        /// The link.
        link: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who owns what it leads to.
        target_owner: u32,
    },
    /// There is something, but no regular file; never opened for reading.
    NotAFile {
        /// What it is, in words.
        kind: &'static str,
    },
    /// Links that lead to each other, or more than 40 of them.
    LinkLoop,
    /// Directories within directories, deeper than a search goes, or leading back into themselves.
    TooDeep,
    /// No pattern of the source leads into its directory.
    NotCovered,
    /// Anything else the system said.
    Io(io::Error),
}

/// What a process may not do, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The file or directory that keeps it out.
    pub path: PathBuf,
    /// Who owns that, and what its permission bits are.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its type and permission bits.
    pub mode: u32,
    /// What is needed: `r` to read a file, `x` to pass through a directory, `rx` to search it.
    pub need: &'static str,
}

impl Refusal {
    pub(in crate::source::file) fn permission(path: &Path, stat: &FileStat, need: &'static str) -> Refusal {
        Refusal::Permission(Box::new(Permission { path: path.to_owned(), uid: stat.uid, gid: stat.gid, mode: stat.mode, need }))
    }

    fn not_a_file(kind: FileType) -> Refusal {
        Refusal::NotAFile { kind: kind_in_words(kind) }
    }

    /// What is of the wrong type; `None` for a regular file.
    pub(in crate::source::file) fn of_kind(kind: FileType) -> Option<Refusal> {
        (kind != FileType::RegularFile).then(|| Refusal::not_a_file(kind))
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Refusal::NotFound,
            Errno::LOOP => Refusal::LinkLoop,
            other => Refusal::Io(other.into()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFound => f.write_str("does not exist, or is a symbolic link to what does not exist"),
            Refusal::Permission(permission) => permission.fmt(f),
            Refusal::Link { link, owner, target_owner } => write!(
                f,
                "the symbolic link {} belongs to {}, but what it leads to belongs to {}: a link is followed only where its owner is root \
                 or owns what it leads to; name its target in `include` instead, or let root own the link: chown -h root {}",
                link.display(),
                user(*owner),
                user(*target_owner),
                link.display()
            ),
            Refusal::NotAFile { kind } => {
                write!(f, "is {kind}, not a regular file: skipped; to be rid of this message name it in `exclude`")
            }
            Refusal::LinkLoop => write!(f, "leads through more than {MAX_LINKS} symbolic links, or through links that lead to each other"),
            Refusal::TooDeep => f.write_str(
                "is a directory too many levels down, or one that leads back into itself: not searched; name it in `include` if files are there",
            ),
            Refusal::NotCovered => f.write_str("is in a directory that no `include` pattern of the source leads into"),
            Refusal::Io(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                write!(f, "{error}: raise the limit of open files (LimitNOFILE= in the unit, or ulimit -n)")
            }
            Refusal::Io(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (me, group) = (user(rustix::process::geteuid().as_raw()), name_in("/etc/group", self.gid));
        write!(f, "permission denied: {} is {} {}:{group}; ", self.path.display(), mode_in_words(self.mode), user(self.uid))?;
        let needed = self.need.bytes().fold(0, |bits, letter| bits | if letter == b'r' { 4 } else { 1 });
        if self.mode & needed == needed {
            f.write_str(
                "its mode would allow it, so an ACL or a security module (SELinux, AppArmor) keeps it shut: getfacl and the audit log tell",
            )
        } else {
            if self.mode >> 3 & needed == needed {
                write!(f, "add the user {me} to the group {group}, or: ")?;
            }
            write!(f, "setfacl -m u:{me}:{} {}", self.need, self.path.display())
        }
    }
}

fn kind_in_words(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "of an unknown type",
    }
}

/// The mode as `ls -l` shows it, without the rarer bits.
fn mode_in_words(mode: u32) -> String {
    let kind = if FileType::from_raw_mode(mode) == FileType::Directory { 'd' } else { '-' };
    let bits = (0..9).map(|bit| if mode & (0o400 >> bit) == 0 { '-' } else { ['r', 'w', 'x'].get(bit % 3).copied().unwrap_or('-') });
    std::iter::once(kind).chain(bits).collect()
}

fn user(uid: u32) -> String {
    name_in("/etc/passwd", uid)
}

/// The name that goes with a number in `/etc/passwd` or `/etc/group`; the number itself where none does.
fn name_in(file: &str, id: u32) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut entries = text.lines().map(|line| line.split(':'));
    let name = entries.find_map(|mut fields| fields.next().filter(|_| fields.nth(1).and_then(|field| field.parse().ok()) == Some(id)));
    name.map_or_else(|| id.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_a_name_stay_numbers() {
        assert_eq!((user(0).as_str(), user(3_999_999_999).as_str()), ("root", "3999999999"));
        assert_eq!(name_in("/nowhere", 7), "7");
        assert_eq!(mode_in_words(0o100_640), "-rw-r-----");
    }
}

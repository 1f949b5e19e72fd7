//! Searches the file system for what the patterns of a source match. Every directory is read once through its descriptor, every file
//! looked at once; links are followed only as [`super::access`] allows.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::access::{self, Dir, FileStat, Refusal};
pub use super::pattern::Pattern;
use super::pattern::{Standing, names};
use walk::Walk;

#[cfg(test)]
mod tests;
mod walk;

/// How many files one source may have; beyond, the search stops and says so in [`Scan::limit`].
pub const MAX_FILES: usize = 100_000;
/// How many directories one search may visit; beyond, it stops and says so in [`Scan::limit`].
pub const MAX_DIRS: usize = 100_000;
/// How many directories below a fixed part, one within the other, are entered; deeper ones are [`Refusal::TooDeep`].
pub const MAX_DEPTH: usize = 64;
/// How many refusals one search lists; further ones are only counted, in [`Scan::more_refused`].
pub const MAX_REFUSED: usize = 1_000;

/// A regular file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path it was found by.
    pub path: PathBuf,
    /// What it was then.
    pub stat: FileStat,
    /// Whether it itself is a symbolic link: a watch of its directory then does not see it written to.
    pub linked: bool,
}

/// What a search of all patterns found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The files, each inode once (by the path that is no link, then the first by name); the longest unwritten first, then by path.
    pub found: Vec<Found>,
    /// What matched and is not read, or should have been searched and was not, and why. At most [`MAX_REFUSED`].
    pub refused: Vec<(PathBuf, Refusal)>,
    /// How many refusals are not in that list.
    pub more_refused: u64,
    /// The directories that were searched, and for a fixed part that is not there its nearest parent that is: to be watched.
    pub dirs: Vec<PathBuf>,
    /// The include patterns that matched nothing, as written.
    pub nothing_matched: Vec<String>,
    /// Why the search stopped early, if it did.
    pub limit: Option<Limit>,
}

/// What a search ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`MAX_FILES`].
    Files,
    /// [`MAX_DIRS`].
    Dirs,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, what) = match self {
            Limit::Files => (MAX_FILES, "files"),
            Limit::Dirs => (MAX_DIRS, "directories"),
        };
        write!(f, "the search stopped after {limit} {what}: the rest is not read; narrow `include`, or divide it among several sources")
    }
}

/// What becomes of one path, and why.
#[derive(Debug)]
pub enum Explanation {
    /// No include pattern matches it.
    NoMatch,
    /// This include pattern would match it, but wildcards leave names with a leading dot alone.
    Hidden(Pattern),
    /// This include pattern matches it, and the second one excludes it or a directory it is in.
    Excluded(Pattern, Pattern),
    /// This include pattern matches it, but it can't or must not be opened.
    Refused(Pattern, Refusal),
    /// This include pattern matches it, and it can be read.
    Read(Pattern, FileStat),
}

impl Explanation {
    /// Whether the file is read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Explanation::Read(..))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::NoMatch => f.write_str("not read: no `include` pattern matches it"),
            Explanation::Hidden(include) => {
                write!(
                    f,
                    "not read: {include} would match it, but wildcards leave names that begin with a dot alone; add a pattern with the dot"
                )
            }
            Explanation::Excluded(include, exclude) => write!(f, "not read: {include} matches it, but {exclude} excludes it"),
            Explanation::Refused(include, refusal) => write!(f, "not read: {include} matches it, but: {refusal}"),
            Explanation::Read(include, stat) => write!(f, "read: {include} matches it; {} bytes", stat.size),
        }
    }
}

/// The patterns of one source, ready to search.
#[derive(Clone, Debug)]
pub struct Finder {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    /// The fixed parts, the longest first, and where a walk stands in the include patterns that begin there.
    roots: Vec<(PathBuf, Standing)>,
    max_files: usize,
    max_dirs: usize,
}

impl Finder {
    /// A file is read when an `include` pattern matches it and no `exclude` pattern matches it or a directory it is in.
    #[must_use]
    pub fn new(include: Vec<Pattern>, exclude: Vec<Pattern>) -> Finder {
        let mut roots: Vec<(PathBuf, Standing)> = Vec::new();
        for (number, pattern) in include.iter().enumerate() {
            let fixed = pattern.fixed();
            let at = roots.iter().position(|(root, _)| *root == fixed).unwrap_or_else(|| {
                roots.push((fixed, Standing::default()));
                roots.len() - 1
            });
            if let Some((_, standing)) = roots.get_mut(at) {
                standing.add_fixed(&include, number);
            }
        }
        roots.sort_by_key(|(root, _)| std::cmp::Reverse(root.components().count()));
        Finder { include, exclude, roots, max_files: MAX_FILES, max_dirs: MAX_DIRS }
    }

    /// Searches everything. What can't be searched is in the result; a search as a whole never fails.
    #[must_use]
    pub fn scan(&self) -> Scan {
        let mut walk = Walk::new(self);
        for (root, include) in &self.roots {
            // Otherwise the fixed part itself is excluded, and its patterns match nothing.
            if let Some(exclude) = self.exclude_below(root) {
                walk.root(root, include, &exclude);
            }
        }
        walk.finish()
    }

    /// All regular files of a directory that the walk covers, matching or not, links not among them; at most [`MAX_FILES`]. For finding a
    /// renamed file by its inode.
    pub fn list_dir(&self, dir: &Path) -> io::Result<Vec<Found>> {
        let dir = self.covered(dir, Dir::below).map_err(into_io)?;
        let mut found = Vec::new();
        for entry in dir.entries().map_err(into_io)? {
            let entry = entry?;
            if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
                continue;
            }
            // What vanished in between is not there.
            let Ok(stat) = FileStat::of_name(dir.fd(), entry.file_name()) else { continue };
            if stat.kind() == FileType::RegularFile && found.len() < MAX_FILES {
                found.push(Found { path: dir.path().join(OsStr::from_bytes(entry.file_name().to_bytes())), stat, linked: false });
            }
        }
        Ok(found)
    }

    /// The device that a directory which the walk covers is on.
    pub fn device(&self, dir: &Path) -> io::Result<u64> {
        self.covered(dir, Dir::below).and_then(|dir| dir.stat()).map(|stat| stat.dev).map_err(into_io)
    }

    /// Opens a file in a directory that the walk covers, matching or not, from the fixed part of the pattern that leads there.
    pub fn open(&self, path: &Path) -> Result<(File, FileStat), Refusal> {
        self.with_file(path, access::open)
    }

    /// Looks at a file that [`Finder::open`] would open, without reading it.
    pub fn stat(&self, path: &Path) -> Result<FileStat, Refusal> {
        self.with_file(path, access::stat)
    }

    /// What becomes of a path, and why.
    #[must_use]
    pub fn explain(&self, path: &Path) -> Explanation {
        let Some(include) = self.include.iter().find(|pattern| pattern.matches(path)) else {
            let hidden = self.include.iter().find(|pattern| pattern.matches_but_for_hidden(path));
            return hidden.map_or(Explanation::NoMatch, |include| Explanation::Hidden(include.clone()));
        };
        let excluded = path.ancestors().find_map(|path| self.exclude.iter().find(|pattern| pattern.matches(path)));
        if let Some(exclude) = excluded {
            return Explanation::Excluded(include.clone(), exclude.clone());
        }
        match self.open(path) {
            Ok((_, stat)) => Explanation::Read(include.clone(), stat),
            Err(refusal) => Explanation::Refused(include.clone(), refusal),
        }
    }

    fn with_file<T>(&self, path: &Path, act: impl Fn(&Dir, &Path) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Refusal::NotCovered) };
        self.covered(parent, |base, rest| act(base, &rest.join(name)))
    }

    /// Acts from every fixed part whose patterns lead into `dir`, the longest first, until one is let in; else the first one's refusal.
    fn covered<T>(&self, dir: &Path, act: impl Fn(&Dir, &Path) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut refusal = None;
        let names = names(dir).ok_or(Refusal::NotCovered)?;
        for (root, standing) in &self.roots {
            let Ok(rest) = dir.strip_prefix(root) else { continue };
            let below = names.iter().skip(names.len() - rest.components().count());
            if below.fold(standing.clone(), |standing, name| standing.below(&self.include, name)).is_empty() {
                continue;
            }
            match Dir::open(root).and_then(|base| act(&base, rest)) {
                Ok(done) => return Ok(done),
                Err(first) => refusal = refusal.or(Some(first)),
            }
        }
        Err(refusal.unwrap_or(Refusal::NotCovered))
    }

    /// Where a walk stands in the exclude patterns in this directory; `None` if it is excluded itself.
    fn exclude_below(&self, dir: &Path) -> Option<Standing> {
        let mut standing = Standing::at_root(&self.exclude);
        for name in names(dir)? {
            if standing.matched(&self.exclude, name).next().is_some() {
                return None;
            }
            standing = standing.below(&self.exclude, name);
        }
        Some(standing)
    }
}

fn into_io(refusal: Refusal) -> io::Error {
    match refusal {
        Refusal::Io(error) => error,
        Refusal::NotFound => io::Error::new(io::ErrorKind::NotFound, refusal.to_string()),
        Refusal::Permission(_) => io::Error::new(io::ErrorKind::PermissionDenied, refusal.to_string()),
        other => io::Error::other(other.to_string()),
    }
}

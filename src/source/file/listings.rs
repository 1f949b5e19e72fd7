//! Directories as they were listed during one search, so that many streams of one directory cost one listing. By name, since what belongs to a file
//! has a name that begins like the file's.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::discover::{Finder, Found};
use super::identity::is_rotated_name;

/// See the module. Bounded by what the finder lists, and emptied with each search.
#[derive(Debug, Default)]
pub(super) struct Listings(HashMap<PathBuf, Listing>);

/// The files of one directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The device of the directory; `None` where it can't be listed.
    device: Option<u64>,
    by_name: Vec<Found>,
    /// Where in that list an inode is.
    by_inode: HashMap<u64, usize>,
}

impl Listings {
    /// The files of a directory; none where it can't be listed.
    pub(super) fn of(&mut self, finder: &Finder, dir: &Path) -> &Listing {
        if !self.0.contains_key(dir) {
            let listing = finder.list_dir(dir).map(|files| Listing::new(finder.device(dir).ok(), files));
            self.0.insert(dir.to_owned(), listing.unwrap_or_default());
        }
        self.0.entry(dir.to_owned()).or_default()
    }

    /// From now on directories are listed anew.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Listing {
    fn new(device: Option<u64>, mut by_name: Vec<Found>) -> Listing {
        by_name.sort_unstable_by(|a, b| name(&a.path).cmp(name(&b.path)));
        let by_inode = by_name.iter().enumerate().map(|(at, found)| (found.stat.ino, at)).collect();
        Listing { device, by_name, by_inode }
    }

    /// Whether the directory is there and could be listed.
    pub(super) fn is_there(&self) -> bool {
        self.device.is_some()
    }

    /// The device that the directory is on.
    pub(super) fn device(&self) -> Option<u64> {
        self.device
    }

    /// All files.
    pub(super) fn files(&self) -> &[Found] {
        &self.by_name
    }

    /// The file with this inode.
    pub(super) fn inode(&self, ino: u64) -> Option<&Found> {
        self.by_inode.get(&ino).and_then(|at| self.by_name.get(*at))
    }

    /// Whether an inode is here, born then.
    pub(super) fn has(&self, ino: u64, btime_ns: Option<i64>) -> bool {
        self.inode(ino).is_some_and(|found| found.stat.btime_ns == btime_ns)
    }

    /// The files that are named like rotated ones of any of these paths, and these themselves.
    pub(super) fn like<'a>(&'a self, paths: &'a [&Path]) -> impl Iterator<Item = &'a Found> {
        let stem = paths.iter().map(|path| stem(name(path))).min_by_key(|stem| stem.len()).unwrap_or_default();
        let from = self.by_name.partition_point(|file| name(&file.path) < stem);
        let like = |name: &[u8], of: &[u8]| name == of || is_rotated_name(of, name);
        let range = self.by_name.iter().skip(from).take_while(move |file| name(&file.path).starts_with(stem));
        range.filter(move |file| paths.iter().any(|path| like(name(&file.path), name(path))))
    }
}

fn name(path: &Path) -> &[u8] {
    path.file_name().map(OsStr::as_bytes).unwrap_or_default()
}

/// What all rotated names of a name begin with.
fn stem(name: &[u8]) -> &[u8] {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    dot.and_then(|dot| name.get(..dot)).unwrap_or(name)
}

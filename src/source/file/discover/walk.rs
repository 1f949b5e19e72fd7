//! One search: from a fixed part through the directories that a pattern leads into. Apart from the patterns' owner, since it lives only
//! as long as the search.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::super::access::{self, Dir, FileStat, Refusal};
use super::super::pattern::Standing;
use super::{Finder, Found, Limit, MAX_DEPTH, MAX_REFUSED, Scan};

/// One search.
pub(super) struct Walk<'a> {
    finder: &'a Finder,
    scan: Scan,
    /// Where each inode is in `scan.found`.
    inodes: HashMap<(u64, u64), usize>,
    matched: Vec<bool>,
    /// The directories between the root and here, to see one that leads back into itself.
    branch: Vec<(u64, u64)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(finder: &'a Finder) -> Walk<'a> {
        let matched = vec![false; finder.include.len()];
        Walk { finder, scan: Scan::default(), inodes: HashMap::new(), matched, branch: Vec::new() }
    }

    pub(super) fn root(&mut self, root: &Path, include: &Standing, exclude: &Standing) {
        match Dir::open(root) {
            Ok(dir) => self.visit(&dir, include, exclude),
            Err(refusal) => {
                // Waited for, by watching where it would appear.
                self.scan.dirs.extend(root.ancestors().skip(1).find(|dir| dir.is_dir()).map(Path::to_owned));
                if !matches!(refusal, Refusal::NotFound) {
                    self.refuse(root.to_owned(), refusal);
                }
            }
        }
    }

    fn visit(&mut self, dir: &Dir, include: &Standing, exclude: &Standing) {
        if self.scan.dirs.len() >= self.finder.max_dirs {
            self.scan.limit = Some(Limit::Dirs);
        }
        if self.scan.limit.is_some() {
            return;
        }
        let here = match dir.stat() {
            Ok(stat) => (stat.dev, stat.ino),
            Err(refusal) => return self.refuse(dir.path().to_owned(), refusal),
        };
        if self.branch.len() > MAX_DEPTH || self.branch.contains(&here) {
            return self.refuse(dir.path().to_owned(), Refusal::TooDeep);
        }
        self.scan.dirs.push(dir.path().to_owned());
        self.branch.push(here);
        if let Err(refusal) = self.entries(dir, include, exclude) {
            self.refuse(dir.path().to_owned(), refusal);
        }
        self.branch.pop();
    }

    fn entries(&mut self, dir: &Dir, include: &Standing, exclude: &Standing) -> Result<(), Refusal> {
        if let Some(only) = include.only(&self.finder.include) {
            for name in only {
                let name = CString::new(name).map_err(|_| Refusal::NotFound)?;
                self.entry(dir, &name, FileType::Unknown, include, exclude);
            }
            return Ok(());
        }
        for entry in dir.entries()? {
            let entry = entry?;
            if self.scan.limit.is_some() {
                break;
            }
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                self.entry(dir, entry.file_name(), entry.file_type(), include, exclude);
            }
        }
        Ok(())
    }

    /// Judges one name. `kind` is what the directory says of it, [`FileType::Unknown`] where it does not say.
    fn entry(&mut self, dir: &Dir, name: &CStr, kind: FileType, include: &Standing, exclude: &Standing) {
        let finder = self.finder;
        let bytes = name.to_bytes();
        let matched: Vec<usize> = include.matched(&finder.include, bytes).collect();
        let wanted = !matched.is_empty();
        let may_enter = matches!(kind, FileType::Directory | FileType::Symlink | FileType::Unknown);
        let below = if may_enter { include.below(&finder.include, bytes) } else { Standing::default() };
        if (!wanted && below.is_empty()) || exclude.matched(&finder.exclude, bytes).next().is_some() {
            return;
        }
        let outcome = match Self::look(dir, name, kind) {
            Ok(Some((stat, _))) if stat.kind() == FileType::Directory && !below.is_empty() => {
                return match dir.below(Path::new(OsStr::from_bytes(bytes))) {
                    Ok(dir) => self.visit(&dir, &below, &exclude.below(&finder.exclude, bytes)),
                    Err(refusal) => self.refuse(dir.path().join(OsStr::from_bytes(bytes)), refusal),
                };
            }
            Ok(Some((stat, linked))) if wanted => Refusal::of_kind(stat.kind()).map_or(Ok((stat, linked)), Err),
            // Vanished in between, or matched only as a directory and is none.
            Ok(_) => return,
            Err(Refusal::NotFound) if !wanted => return,
            Err(refusal) => Err(refusal),
        };
        for number in matched {
            self.matched.get_mut(number).into_iter().for_each(|matched| *matched = true);
        }
        let path = dir.path().join(OsStr::from_bytes(bytes));
        match outcome {
            Ok((stat, linked)) => self.find(Found { path, stat, linked }),
            Err(refusal) => self.refuse(path, refusal),
        }
    }

    /// What a name stands for, and whether it is a link; `None` if it is not there. Takes one system call where there is no link.
    fn look(dir: &Dir, name: &CStr, kind: FileType) -> Result<Option<(FileStat, bool)>, Refusal> {
        if kind != FileType::Symlink {
            match FileStat::of_name(dir.fd(), name) {
                Ok(stat) if stat.kind() == FileType::Symlink => {}
                Ok(stat) => return Ok(Some((stat, false))),
                Err(Errno::ACCESS) => return Err(Refusal::permission(dir.path(), &dir.stat()?, "x")),
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        match access::resolve(dir, Path::new(OsStr::from_bytes(name.to_bytes()))) {
            Ok((_, stat)) => Ok(Some((stat, true))),
            // Not a link that leads nowhere, but none any more.
            Err(Refusal::NotFound) if FileStat::of_name(dir.fd(), name).is_err() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn find(&mut self, file: Found) {
        let next = self.scan.found.len();
        let at = *self.inodes.entry((file.stat.dev, file.stat.ino)).or_insert(next);
        match self.scan.found.get_mut(at) {
            Some(known) if (file.linked, &file.path) < (known.linked, &known.path) => *known = file,
            Some(_) => {}
            None if next >= self.finder.max_files => self.scan.limit = Some(Limit::Files),
            None => self.scan.found.push(file),
        }
    }

    fn refuse(&mut self, path: PathBuf, refusal: Refusal) {
        if self.scan.refused.len() < MAX_REFUSED {
            self.scan.refused.push((path, refusal));
        } else {
            self.scan.more_refused += 1;
        }
    }

    pub(super) fn finish(mut self) -> Scan {
        self.scan.found.sort_by(|a, b| (a.stat.mtime_ns, a.path.as_os_str()).cmp(&(b.stat.mtime_ns, b.path.as_os_str())));
        // What one fixed part refuses another may allow or search; and two may lead to the same refusal.
        if self.finder.roots.len() > 1 && !self.scan.refused.is_empty() {
            let searched: HashSet<&PathBuf> = self.scan.dirs.iter().collect();
            let mut done: HashSet<PathBuf> = self.scan.found.iter().map(|file| file.path.clone()).collect();
            self.scan
                .refused
                .retain(|(path, why)| !(matches!(why, Refusal::NotAFile { .. }) && searched.contains(path)) && done.insert(path.clone()));
        }
        self.scan.dirs.sort_unstable();
        self.scan.dirs.dedup();
        let unmatched = self.finder.include.iter().zip(&self.matched).filter(|(_, matched)| !**matched);
        self.scan.nothing_matched = unmatched.map(|(pattern, _)| pattern.to_string()).collect();
        self.scan
    }
}

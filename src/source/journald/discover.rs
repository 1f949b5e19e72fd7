//! Where journals are: the directories of this machine's, or the one that was given, and the files in them. Thin: it lists, and judges nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::format;

/// Which journals are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// This machine's, by its id, below these roots: those that do not outlive a reboot first.
    Machine {
        /// Where journals are, and whether what is there is gone after a reboot.
        roots: Vec<(PathBuf, bool)>,
        /// 32 digits.
        machine_id: String,
        /// Which namespaces.
        namespace: Namespace,
    },
    /// All in this directory, and in the directories of machines in it.
    Given(PathBuf),
}

/// Which of a machine's journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// That of none.
    Default,
    /// This one's.
    Named(String),
    /// All.
    All,
}

/// The default roots.
#[must_use]
pub fn roots() -> Vec<(PathBuf, bool)> {
    vec![("/run/log/journal".into(), true), ("/var/log/journal".into(), false)]
}

/// A directory with journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Gone after a reboot; and copied to where it is not when journald is told to (`journalctl --flush`).
    pub volatile: bool,
}

/// A file of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// `system`, `user-1000`, …
    pub base: String,
    /// journald writes to it no more.
    pub closed: bool,
    /// Device and inode.
    pub inode: (u64, u64),
}

impl Where {
    /// The directories that are there now, and what could not be looked into.
    #[must_use]
    pub fn directories(&self) -> (Vec<Directory>, Vec<(PathBuf, io::Error)>) {
        let mut troubles = Vec::new();
        let mut found = Vec::new();
        let mut below = |root: &Path, volatile: bool, wanted: &dyn Fn(&str) -> bool| match fs::read_dir(root) {
            Ok(entries) => {
                let mut names: Vec<_> = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(wanted)).collect();
                names.sort_by_key(fs::DirEntry::file_name);
                let dirs = names.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir());
                found.extend(dirs.map(|path| Directory { path, volatile }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => troubles.push((root.to_owned(), error)),
        };
        match self {
            Where::Machine { roots, machine_id, namespace } => {
                let wanted = |name: &str| match (name.strip_prefix(machine_id.as_str()), namespace) {
                    (Some(""), Namespace::Default | Namespace::All) => true,
                    (Some(rest), Namespace::Named(named)) => rest.strip_prefix('.') == Some(named),
                    (Some(rest), Namespace::All) => rest.starts_with('.'),
                    _ => false,
                };
                for (root, volatile) in roots {
                    below(root, *volatile, &wanted);
                }
            }
            Where::Given(path) => {
                below(path, false, &|name| name.get(..32).is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())));
                if path.is_dir() {
                    found.insert(0, Directory { path: path.clone(), volatile: false });
                }
            }
        }
        (found, troubles)
    }

    /// The directories in which others may come to be.
    #[must_use]
    pub fn parents(&self) -> Vec<PathBuf> {
        match self {
            Where::Machine { roots, .. } => {
                roots.iter().flat_map(|(root, _)| [Some(root.clone()), root.parent().map(Path::to_owned)]).flatten().collect()
            }
            Where::Given(path) => [Some(path.clone()), path.parent().map(Path::to_owned)].into_iter().flatten().collect(),
        }
    }

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Where::Machine { roots, machine_id, namespace } => {
                let name = match namespace {
                    Namespace::Default => machine_id.clone(),
                    Namespace::Named(name) => format!("{machine_id}.{name}"),
                    Namespace::All => format!("{machine_id}*"),
                };
                let all: Vec<_> = roots.iter().map(|(root, _)| root.join(&name).display().to_string()).collect();
                all.join(" and ")
            }
            Where::Given(path) => path.display().to_string(),
        }
    }
}

/// The files of journals in a directory.
///
/// # Errors
/// It can't be read.
pub fn files(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(format::name) else { continue };
        // One that was renamed or deleted meanwhile is found, or not, the next time.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file() {
            let inode = (meta.dev(), meta.ino());
            found.push(Found { path: entry.path(), base: name.base.to_owned(), closed: name.closed, inode });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_of_this_machine_and_of_the_namespaces_asked_for_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        let (run, var) = (dir.path().join("run"), dir.path().join("var"));
        for name in [id.to_owned(), format!("{id}.app"), format!("{id}.db"), "f".repeat(32), "remote".into()] {
            fs::create_dir_all(var.join(name)).unwrap();
        }
        fs::create_dir_all(run.join(id)).unwrap();
        let names = |namespace| {
            let place = Where::Machine { roots: vec![(run.clone(), true), (var.clone(), false)], machine_id: id.into(), namespace };
            let (found, troubles) = place.directories();
            assert!(troubles.is_empty());
            found.iter().map(|found| found.path.strip_prefix(dir.path()).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(Namespace::Default), [format!("run/{id}"), format!("var/{id}")]);
        assert_eq!(names(Namespace::Named("app".into())), [format!("var/{id}.app")]);
        assert_eq!(names(Namespace::All).len(), 4);
        let (given, _) = Where::Given(var).directories();
        assert_eq!(given.len(), 5, "itself and the machines', not remote");
    }
}

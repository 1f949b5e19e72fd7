//! Whether a source reads a file, for `logferry explain`: as a source would find it, and opens it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::reader::{JournalFile, ReadError};
use super::{Settings, format};

/// What a source has to do with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// It reads it.
    pub is_read: bool,
    /// That, or why not.
    pub words: String,
}

/// See the module.
#[must_use]
pub fn explain(settings: &Settings, path: &Path) -> Explanation {
    let no = |words: String| Explanation { is_read: false, words };
    let (directories, troubles) = settings.place.directories();
    let dir = path.parent().unwrap_or(path);
    if !directories.iter().any(|directory| directory.path == dir) {
        let trouble = troubles.iter().find(|(root, _)| path.starts_with(root));
        return no(match trouble {
            Some((root, error)) => format!("{} can't be looked into: {error}", root.display()),
            None => format!("it lies in none of the directories whose journals are read: {}", settings.place.words()),
        });
    }
    let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(format::name) else {
        return no("its directory has journals, but its name is none of a journal: those end in .journal or .journal~".into());
    };
    let opened = File::open(path).map_err(ReadError::Io).and_then(|file| JournalFile::open(Box::new(file), 1, name.closed));
    match opened {
        Ok(file) => {
            let header = file.header();
            let closed = if name.closed || header.archived { ", rotated away" } else { "" };
            let words = format!(
                "it is read, as a file of the journal {}: {} entries, numbers {} to {}{closed}",
                name.base, header.entries, header.head_seqnum, header.tail_seqnum
            );
            Explanation { is_read: true, words }
        }
        Err(error) => no(format!("it would be read, as a file of the journal {}, but can't be: {}", name.base, remedy(&error))),
    }
}

/// What is wrong, and what helps.
#[must_use]
pub fn remedy(error: &ReadError) -> String {
    match error {
        ReadError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => format!(
            "{error}: let the user that logferry runs as join the group systemd-journal (or adm), as with usermod -aG systemd-journal USER, and start it again"
        ),
        error => error.to_string(),
    }
}

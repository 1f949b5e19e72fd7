//! The streams by the names that their files have and had: so that a new file is compared with those alone that it may be a copy of, however many
//! there are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::identity::original_names;
use super::streams::path_of;
use super::tailed::Tailed;
use crate::batch::StreamId;

/// See the module. May name streams that have left or have other names by now: whoever asks looks at each.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<PathBuf, Vec<StreamId>>);

impl Names {
    /// Of all these.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Tailed>) -> Names {
        let mut names = Names::default();
        files.for_each(|tailed| names.add(tailed));
        names
    }

    /// A file that is new, or has another name now: by that name, and by the one it was first seen under.
    pub(super) fn add(&mut self, tailed: &Tailed) {
        let first = path_of(tailed.stream.path()).file_name().map(|first| tailed.path.with_file_name(first));
        for path in first.into_iter().chain([tailed.path.clone()]) {
            let ids = self.0.entry(path).or_default();
            if !ids.contains(&tailed.stream.id) {
                ids.push(tailed.stream.id);
            }
        }
    }

    /// Streams that a file of this path may be a copy of, by its name.
    pub(super) fn originals(&self, path: &Path) -> Vec<StreamId> {
        let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        let found = original_names(name).filter_map(|name| self.0.get(&path.with_file_name(OsStr::from_bytes(&name)))).flatten();
        let mut ids: Vec<_> = found.copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

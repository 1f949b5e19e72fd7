//! What is known of the search for a stream's compressed form: what was tried, what is waited for. Pure.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::access::FileStat;
use super::super::streams::path_of;
use super::super::tailed::Tailed;
use crate::ledger::Missed;
use crate::snapshot::rows::{Evidence, StreamRow};

/// A compressed file that is damaged or not whole is looked at again when it has changed and then not for this long; if it has not changed at all
/// for this long, it is given up.
const WHOLE_QUIET: Duration = Duration::from_secs(5);
/// What a compressed file is told apart by: inode, time of change, size.
pub(in super::super) type Look = (u64, i64, u64);

pub(super) fn look(stat: &FileStat) -> Look {
    (stat.ino, stat.mtime_ns, stat.size)
}

/// A stream that is read from a compressed file, or for which one is looked for.
#[derive(Debug)]
pub(in super::super) struct Pursuit {
    /// Why what was not read is missed if it is found nowhere.
    pub(super) reason: Missed,
    /// The stream began with a compressed file: it has no other.
    pub(super) own: bool,
    /// What is being tried or read.
    pub(super) form: Option<(PathBuf, FileStat)>,
    /// What turned out to be another file.
    pub(super) others: Vec<Look>,
    pub(super) broken: Vec<Broken>,
}

/// A compressed file that is damaged, or not whole yet.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) path: PathBuf,
    tried: Look,
    pub(super) last: Look,
    since: Instant,
    pub(super) error: String,
}

impl Pursuit {
    pub(super) fn new(reason: Missed, own: bool) -> Pursuit {
        Pursuit { reason, own, form: None, others: Vec::new(), broken: Vec::new() }
    }

    /// Whether it waits for a file to become whole, and nothing can be read now.
    pub(in super::super) fn waits(&self) -> bool {
        self.form.is_none()
    }

    pub(super) fn is_broken(&mut self, path: &Path, stat: &FileStat, error: &std::io::Error, now: Instant) {
        self.broken.retain(|broken| broken.path != path);
        let look = look(stat);
        self.broken.push(Broken { path: path.to_owned(), tried: look, last: look, since: now, error: error.to_string() });
    }

    /// Whether a file is to be tried now.
    pub(super) fn is_due(&mut self, path: &Path, stat: &FileStat, now: Instant) -> bool {
        let Some(broken) = self.broken.iter_mut().find(|broken| broken.path == path) else { return !self.others.contains(&look(stat)) };
        if broken.last != look(stat) {
            (broken.last, broken.since) = (look(stat), now);
        }
        broken.last != broken.tried && broken.is_quiet(now)
    }

    /// Whether something may yet come of a file that is not whole.
    pub(super) fn has_hope(&self, now: Instant) -> bool {
        self.broken.iter().any(|broken| !broken.is_quiet(now))
    }
}

impl Broken {
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WHOLE_QUIET
    }
}

/// For what a compressed form is looked for: the name it has and the one that it was first seen under, and by what it is recognised.
pub(super) struct Sought {
    pub(super) names: [PathBuf; 2],
    pub(super) evidence: Evidence,
}

impl Sought {
    pub(super) fn of_file(tailed: &Tailed) -> Sought {
        Sought { names: [tailed.path.clone(), path_of(tailed.stream.path()).to_owned()], evidence: tailed.evidence }
    }

    pub(super) fn of_row(row: &StreamRow) -> Sought {
        Sought { names: [path_of(&row.path).to_owned(), path_of(&row.first_path).to_owned()], evidence: row.evidence }
    }
}

//! Wakes the file source early when a directory changes. Only a hint: whatever is missed here, by an overflow, a limit or a file system
//! that tells nothing, the rescan finds. Apart because the watching thread must cost little however much is written.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{EventKind, MetadataKind, ModifyKind};
use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use rustix::io::Errno;

use super::access::{Dir, FileStat};

#[cfg(test)]
mod tests;

/// How many changed paths are kept until they are taken; beyond, [`Hints::everything`] stands for them.
pub const MAX_CHANGED: usize = 4_096;
/// After this long at work the watching thread pauses …
const SLICE: Duration = Duration::from_micros(100);
/// … this long, in which the kernel merges equal events; so it takes at most about 1 % of a core, and a hint is late by at most this. If more
/// than the kernel's queue holds (`fs.inotify.max_queued_events`) comes meanwhile, [`Hints::everything`] stands for it.
const PAUSE: Duration = Duration::from_millis(10);

/// What has changed since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Files that were written to or truncated, or whose permissions changed; at most [`MAX_CHANGED`].
    pub changed: HashSet<PathBuf>,
    /// Something was created, removed, renamed or made accessible: search again.
    pub structure: bool,
    /// Events were lost or too many: look at every file and search again.
    pub everything: bool,
}

impl Hints {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && !self.structure && !self.everything
    }

    fn note(&mut self, event: &notify::Result<Event>) {
        let Ok(event) = event else {
            self.everything = true;
            return;
        };
        self.everything |= event.need_rescan();
        match event.kind {
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Data(_)) => {}
            // Permission may have been granted or withdrawn.
            EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)) => self.structure = true,
            _ => {
                self.structure = true;
                return;
            }
        }
        for path in &event.paths {
            if self.changed.contains(path) {
                continue;
            }
            if self.changed.len() < MAX_CHANGED {
                self.changed.insert(path.clone());
            } else {
                self.everything = true;
            }
        }
    }
}

/// Watches directories, not what is below them.
pub struct Watcher {
    shared: Arc<Shared>,
    notify: Option<RecommendedWatcher>,
    /// What is watched, and what it was then: another directory of the same name is watched anew.
    watched: HashMap<PathBuf, Identity>,
    /// The present trouble, which has been said.
    said: Option<String>,
}

type Identity = (u64, u64, Option<i64>);

struct Shared {
    state: Mutex<State>,
    hurry: Condvar,
}

#[derive(Default)]
struct State {
    hints: Hints,
    /// Set while the watching thread is waited for: it must not pause, since it serves its callers only when no event is left.
    hurry: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hurry(&self, hurry: bool) {
        self.lock().hurry = hurry;
        self.hurry.notify_all();
    }

    fn pause(&self) {
        drop(self.hurry.wait_timeout_while(self.lock(), PAUSE, |state| !state.hurry));
    }
}

/// Runs in notify's thread.
struct Handler<W> {
    shared: Arc<Shared>,
    wake: W,
    working_since: Instant,
    last: Option<Event>,
}

impl<W: Fn() + Send + 'static> notify::EventHandler for Handler<W> {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        let news = {
            let hints = &mut self.shared.lock().hints;
            let had_none = hints.is_empty();
            hints.note(&event);
            had_none && !hints.is_empty()
        };
        if news {
            (self.wake)();
        }
        // The same again was not merged: it has only just come, and more of it will. The time is also up for the first event after a quiet time.
        let again = event.as_ref().is_ok_and(|event| self.last.as_ref() == Some(event));
        self.last = event.ok();
        if again || self.working_since.elapsed() >= SLICE {
            self.shared.pause();
            self.working_since = Instant::now();
        }
    }
}

impl Watcher {
    /// A watcher of nothing yet. `wake` is called, in a thread of its own, when there are hints where there were none; it should be quick.
    /// Where the system can't watch, that is logged and there are never hints.
    #[must_use]
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Watcher {
        let shared = Arc::new(Shared { state: Mutex::default(), hurry: Condvar::new() });
        let handler = Handler { shared: Arc::clone(&shared), wake, working_since: Instant::now(), last: None };
        let notify = RecommendedWatcher::new(handler, notify::Config::default())
            .inspect_err(|error| {
                tracing::warn!(
                    "files are found and read by the regular search alone, a little later, since directories can't be watched: {}",
                    trouble(error)
                );
            })
            .ok();
        Watcher { shared, notify, watched: HashMap::new(), said: None }
    }

    /// Watches exactly these directories from now on. What can't be watched is logged once and tried again at the next call; a directory
    /// that another has taken the place of is watched anew. Leave out a directory whose files are looked at anyway, and it costs nothing.
    pub fn watch_only(&mut self, dirs: impl Iterator<Item = PathBuf>) {
        let Some(notify) = &mut self.notify else { return };
        let wanted: HashMap<PathBuf, Identity> = dirs.filter_map(|dir| identity(&dir).map(|identity| (dir, identity))).collect();
        self.shared.hurry(true);
        // Removed first: that may make room for the others.
        self.watched.retain(|dir, identity| {
            let keep = wanted.get(dir) == Some(identity);
            if !keep {
                // Of a directory that is gone notify has let go by itself.
                let _ = notify.unwatch(dir);
            }
            keep
        });
        let mut failure = None;
        for (dir, identity) in wanted {
            if self.watched.contains_key(&dir) {
                continue;
            }
            match notify.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(dir, identity)),
                // The next ones would fail as well.
                Err(error) if matches!(error.kind, ErrorKind::MaxFilesWatch) => {
                    failure = Some((dir, error));
                    break;
                }
                Err(error) => failure = Some((dir, error)).filter(|(dir, _)| dir.exists()).or(failure),
            }
        }
        self.shared.hurry(false);
        let said = failure.as_ref().map(|(_, error)| trouble(error));
        if let (Some((dir, _)), Some(trouble)) = (&failure, said.as_ref().filter(|trouble| self.said.as_ref() != Some(trouble))) {
            tracing::warn!(dir = %dir.display(), "not every directory is watched; what is in this one is found by the regular search: {trouble}");
        }
        self.said = said;
    }

    /// How many directories are watched now.
    #[must_use]
    pub fn watching(&self) -> usize {
        self.watched.len()
    }

    /// What has changed since the last call.
    #[must_use]
    pub fn take(&mut self) -> Hints {
        std::mem::take(&mut self.shared.lock().hints)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Lets notify's thread come to its end.
        self.shared.hurry(true);
    }
}

fn identity(dir: &Path) -> Option<Identity> {
    let FileStat { dev, ino, btime_ns, .. } = Dir::open(dir).ok()?.stat().ok()?;
    Some((dev, ino, btime_ns))
}

/// What is wrong, with the limit to raise where it is one.
fn trouble(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "too many directories are watched on this machine; raise it: sysctl fs.inotify.max_user_watches=524288".into()
        }
        ErrorKind::Io(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
            format!("{error}; raise sysctl fs.inotify.max_user_instances, or the limit of open files (LimitNOFILE=)")
        }
        _ => error.to_string(),
    }
}

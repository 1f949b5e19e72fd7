//! A disk that fails when it is told to, and remembers what was done to it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::super::LaneRow;
use crate::durable::disk::{Disk, Handle, Real, Space};

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Open,
    Read,
    Write,
    SyncData,
    SyncDir,
    Truncate,
    Remove,
}

/// What was done, in order. Files go by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create(String),
    Write(String, u64, Vec<u8>),
    SyncData(String),
    SyncDir,
    Truncate(String, u64),
    Remove(String),
    /// All records before this one are durable: `sync` said so.
    Durable(u64),
    /// A snapshot became durable.
    Snapshot(Box<LaneRow>),
}

#[derive(Debug, Default)]
struct Inner {
    steps: Vec<Step>,
    /// What fails, with what, how often.
    faults: Vec<(Kind, Errno, u32)>,
    space: Option<Space>,
    /// Writes behind this offset of a file fail.
    most: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Faulty(Mutex<Inner>);

impl Faulty {
    pub(crate) fn new() -> Arc<Faulty> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The next `times` operations of this kind fail. A write that is to fail writes half of its bytes before.
    pub(crate) fn fail(&self, kind: Kind, errno: Errno, times: u32) {
        self.lock().faults.push((kind, errno, times));
    }

    pub(crate) fn heal(&self) {
        let mut inner = self.lock();
        inner.faults.clear();
        inner.most = None;
    }

    /// From now on writes that go beyond this offset of a file fail, until it is healed.
    pub(crate) fn fail_behind(&self, offset: u64) {
        self.lock().most = Some(offset);
    }

    pub(crate) fn set_space(&self, space: Space) {
        self.lock().space = Some(space);
    }

    pub(crate) fn note(&self, step: Step) {
        self.lock().steps.push(step);
    }

    pub(crate) fn steps(&self) -> Vec<Step> {
        self.lock().steps.clone()
    }

    fn check(&self, kind: Kind) -> io::Result<()> {
        let mut inner = self.lock();
        let Some(at) = inner.faults.iter().position(|(of, _, times)| *of == kind && *times > 0) else { return Ok(()) };
        inner.faults[at].2 -= 1;
        Err(inner.faults[at].1.into())
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Disk for Faulty {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Handle> {
        self.check(Kind::Create)?;
        let handle = Real.create(path)?;
        self.note(Step::Create(name(path)));
        Ok(handle)
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Handle> {
        self.check(Kind::Open)?;
        Real.open(path, write)
    }

    fn read_at(&self, handle: &Handle, room: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(Kind::Read)?;
        Real.read_at(handle, room, offset)
    }

    fn write_at(&self, handle: &Handle, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let beyond = self.lock().most.is_some_and(|most| offset + bytes.len() as u64 > most);
        let failed = if beyond { Err(Errno::IO.into()) } else { self.check(Kind::Write) };
        let bytes = if failed.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
        let wrote = Real.write_at(handle, bytes, offset)?;
        self.note(Step::Write(name(&handle.path), offset, bytes[..wrote].to_vec()));
        failed.map(|()| wrote)
    }

    fn truncate(&self, handle: &Handle, len: u64) -> io::Result<()> {
        self.check(Kind::Truncate)?;
        Real.truncate(handle, len)?;
        self.note(Step::Truncate(name(&handle.path), len));
        Ok(())
    }

    fn sync_data(&self, handle: &Handle) -> io::Result<()> {
        self.check(Kind::SyncData)?;
        self.note(Step::SyncData(name(&handle.path)));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.check(Kind::SyncDir)?;
        self.note(Step::SyncDir);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(Kind::Remove)?;
        Real.remove(path)?;
        self.note(Step::Remove(name(path)));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Real.list(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let set = self.lock().space;
        set.map_or_else(|| Real.space(dir), Ok)
    }

    fn len(&self, handle: &Handle) -> io::Result<u64> {
        Real.len(handle)
    }
}

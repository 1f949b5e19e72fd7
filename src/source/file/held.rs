//! Deleted files that are held open because they are not read to their end: their disk space is free only when they are let go. How much of it
//! they may hold is bounded, so that a log shipper never fills a disk that others have cleared.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::fs::{fstat, fstatvfs};

use super::FileSource;
use super::tailed::{Place, Tailed};
use crate::batch::StreamId;
use crate::ledger::Missed;
use crate::snapshot::rows::FileState;
use crate::space::Space;
use crate::spill::KeepFree;

/// What deleted files hold of the disk, over all sources.
#[derive(Debug)]
pub struct Held {
    limit: u64,
    bytes: AtomicU64,
}

impl Held {
    /// At most `limit` bytes (`agent.hold_deleted`); beyond that a source lets go of its own, the one first that was deleted first.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Held> {
        Arc::new(Held { limit, bytes: AtomicU64::new(0) })
    }

    /// Bytes held now.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A source held `before` and holds `now`; returns by how much all together exceed the limit.
    fn change(&self, before: u64, now: u64) -> u64 {
        self.bytes.fetch_add(now, Ordering::Relaxed);
        let sum = self.bytes.fetch_sub(before, Ordering::Relaxed) - before;
        sum.saturating_sub(self.limit)
    }
}

/// A deleted file that is not read to its end.
struct Holding {
    since: Instant,
    id: StreamId,
    dev: u64,
    /// What it takes of the disk, bytes.
    disk: u64,
}

impl FileSource {
    /// Lets go of deleted files that hold too much of the disk, the oldest first.
    pub(super) fn let_go_of_held(&mut self) {
        let mut held: Vec<Holding> = self.tailed.values_mut().filter_map(holding).collect();
        if held.is_empty() && self.held == 0 {
            return;
        }
        held.sort_by_key(|holding| (holding.since, holding.id));
        let sum = held.iter().map(|holding| holding.disk).sum();
        let mut excess = self.common.held.change(std::mem::replace(&mut self.held, sum), sum);
        let mut lacking = lacking(&held, &self.tailed, self.common.keep_free);
        for holding in held {
            let reason = match lacking.iter_mut().find(|(dev, lacks)| *dev == holding.dev && *lacks > 0) {
                Some((_, lacks)) => {
                    *lacks = lacks.saturating_sub(holding.disk);
                    Missed::KeepFree
                }
                None if excess > 0 => Missed::HoldDeleted,
                None => continue,
            };
            excess = excess.saturating_sub(holding.disk);
            self.held -= holding.disk;
            self.common.held.change(holding.disk, 0);
            self.let_go(holding.id, reason);
        }
    }

    fn let_go(&mut self, id: StreamId, reason: Missed) {
        let Some(tailed) = self.tailed.get(&id) else { return };
        let bytes = tailed.size.saturating_sub(tailed.at.offset.max(tailed.skip_to));
        let remedy = match reason {
            Missed::KeepFree => "its file system has less free than spill.keep_free: make room there, or see why Kafka takes too little",
            _ => "deleted files held more than agent.hold_deleted allows: raise it, or see why Kafka takes too little",
        };
        tracing::error!(source = %self.settings.name, path = %tailed.path.display(), offset = tailed.at.offset, bytes, "deleted, and let go of before it was read to its end: at least these bytes are lost; {remedy}");
        tailed.missed(&self.common, reason, bytes);
        self.retire(id, FileState::Gone);
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        self.common.held.change(self.held, 0);
    }
}

fn holding(tailed: &mut Tailed) -> Option<Holding> {
    let Place::Deleted(since) = tailed.place else { return None };
    let stat = tailed.file.as_ref().and_then(|content| fstat(content.file()).ok())?;
    tailed.size = tailed.size.max(u64::try_from(stat.st_size).unwrap_or(0));
    let disk = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    (tailed.size > tailed.at.offset).then_some(Holding { since, id: tailed.stream.id, dev: tailed.evidence.dev, disk })
}

/// How many bytes each file system that these are on lacks of what is to be left free.
fn lacking(held: &[Holding], tailed: &std::collections::HashMap<StreamId, Tailed>, keep: KeepFree) -> Vec<(u64, u64)> {
    let mut lacking: Vec<(u64, u64)> = Vec::new();
    for holding in held {
        if lacking.iter().any(|(dev, _)| *dev == holding.dev) {
            continue;
        }
        let file = tailed.get(&holding.id).and_then(|tailed| tailed.file.as_ref());
        let Some(Ok(system)) = file.map(|content| fstatvfs(content.file().as_fd())) else { continue };
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        let space = Space { size: bytes(system.f_blocks), free: bytes(system.f_bavail) };
        lacking.push((holding.dev, space.lacking(keep)));
    }
    lacking
}

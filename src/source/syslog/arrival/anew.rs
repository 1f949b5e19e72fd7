//! What of an arrival log is made durable, and what is written a second time for it: what a failed fsync did not make safe, and what was kept in
//! memory while no file could be written. A copy gets its header last, so that half of one is never taken for the whole.

use std::io;
use std::sync::Arc;

use super::format::SEGMENT_HEADER;
use super::log::{AppendError, Log, Place, SEGMENT, Store, read};
use crate::durable::disk::{Handle, write_full};

/// How much is copied at a time, bytes.
const PIECE: usize = 1 << 20;

impl Log {
    /// What has to be synced so that all that is there is durable, `safe` being durable or settled, and up to where it is then. No further than to
    /// what is in memory alone.
    pub(super) fn to_sync(&self, safe: u64) -> (Vec<(u64, Arc<Handle>)>, u64) {
        let upto = self.synced.max(safe);
        let mut files = Vec::new();
        for (first, store) in self.stores.iter().filter(|(_, store)| store.end > upto) {
            match &store.place {
                Place::File(handle) if !store.failed => files.push((*first, Arc::clone(handle))),
                _ => return (files, upto.max(*first)),
            }
        }
        (files, upto.max(self.stores.last_key_value().map_or(upto, |(_, store)| store.end)))
    }

    /// An fsync of this store failed, which is final for its file: it is neither appended to nor synced again, and what of it lies behind `safe` is
    /// written anew. False if that can't be done now; it is tried again with the next call.
    pub(super) fn renew(&mut self, first: u64, safe: u64) -> bool {
        let Some(store) = self.stores.get_mut(&first) else { return true };
        store.failed = true;
        if self.active == Some(first) {
            self.active = None;
        }
        let (from, end, after) = (safe.max(first), store.end, if safe > first { safe } else { store.after });
        let Place::File(old) = &store.place else { return true };
        if from >= end {
            return true;
        }
        let (old, store) = (Arc::clone(old), store.clone());
        let copied = self.copy(&[(first, store)], from, after);
        let Ok(new) = copied.inspect_err(|error| {
            tracing::warn!(file = %old.path.display(), ?error, "what a failed fsync did not make safe could not be written anew; trying again");
        }) else {
            return false;
        };
        if from == first {
            // If it stays, the next start takes the longer of the two.
            drop(self.disk.remove(&old.path));
            self.share.shrink(self.stores.remove(&first).map_or(0, |store| store.charged));
        } else if let Some(store) = self.stores.get_mut(&first) {
            (store.end, store.failed) = (from, false);
        }
        self.stores.insert(from, Store { place: Place::File(Arc::new(new)), end, after, charged: SEGMENT, failed: false });
        true
    }

    /// Files that failed and hold something that is not safe.
    pub(super) fn failed(&self, safe: u64) -> Vec<u64> {
        self.stores.iter().filter(|(_, store)| store.failed && store.end > self.synced.max(safe)).map(|(first, _)| *first).collect()
    }

    /// Writes to disk what is kept in memory alone.
    pub(super) fn rescue(&mut self) -> Result<(), AppendError> {
        while let Some((first, run)) = self.first_in_memory() {
            let end = run.last().map_or(first, |(_, store)| store.end);
            let after = run.first().map_or(first, |(_, store)| store.after);
            let new = self.copy(&run, first, after)?;
            for (first, _) in &run {
                self.stores.remove(first);
            }
            self.stores.insert(first, Store { place: Place::File(Arc::new(new)), end, after, charged: SEGMENT, failed: false });
            let memory = self.stores.values().filter(|store| matches!(store.place, Place::Memory(_)));
            self.memory = memory.map(Store::memory).sum();
        }
        Ok(())
    }

    /// The first blocks that are in memory and follow each other, as many as fit into a segment.
    fn first_in_memory(&self) -> Option<(u64, Vec<(u64, Store)>)> {
        let in_memory = |store: &Store| matches!(store.place, Place::Memory(_));
        let first = self.stores.iter().find(|(_, store)| in_memory(store)).map(|(first, _)| *first)?;
        let mut run: Vec<(u64, Store)> = Vec::new();
        for (at, store) in self.stores.range(first..) {
            let follows = run.last().is_none_or(|(_, before)| before.end == *at);
            if !in_memory(store) || !follows || at - first >= SEGMENT {
                break;
            }
            run.push((*at, store.clone()));
        }
        Some((first, run))
    }

    /// A new file with what these stores, which follow each other, have from offset `from` on.
    fn copy(&mut self, run: &[(u64, Store)], from: u64, after: u64) -> Result<Handle, AppendError> {
        let new = self.make(from, None)?;
        let copied = run.iter().try_for_each(|(first, store)| self.copy_store((*first, store), (&new, from)));
        if let Err(error) = copied.and_then(|()| self.head(&new, from, after)) {
            drop(self.disk.remove(&new.path));
            self.share.shrink(SEGMENT);
            return Err(AppendError::of(&error));
        }
        Ok(new)
    }

    fn copy_store(&self, (first, store): (u64, &Store), (new, from): (&Handle, u64)) -> io::Result<()> {
        let (mut piece, mut at) = (Vec::new(), first.max(from));
        while at < store.end {
            read(&*self.disk, &(store.place.clone(), first, store.end), at, &mut piece, PIECE)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write_full(&*self.disk, new, &piece, SEGMENT_HEADER as u64 + (at - from))?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

//! Keeps an arrival log safe and its files few: the thread that syncs, deletes, and looks whether there is room again; and the clean end. Apart from
//! [`super::admit`], which must not wait for any of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::{Arrivals, REST, SHEDS_FROM, TRY_AGAIN, Why, Writing, format, now_ns};
use crate::shutdown::{Phase, Stop};
use crate::spill::room::Full;

impl Arrivals {
    /// Keeps the log safe and its files few, until the word to stop is `Now` or `done` says so.
    pub fn keep(&self, stop: &Stop, done: &AtomicBool) {
        let mut seen = self.tail();
        while stop.phase() < Phase::Now && !done.load(Ordering::Acquire) {
            let rest = if self.may_rest(seen) { REST } else { self.settings.sync };
            self.asked.wait_until(Instant::now() + rest);
            self.resting.store(false, Ordering::SeqCst);
            let (settled, durable) = self.settlement.reached(self.stream);
            self.safe.fetch_max(settled, Ordering::AcqRel);
            let asked = self.wanted.swap(false, Ordering::AcqRel);
            // What was there a while ago already and is still not settled.
            if asked || self.safe.load(Ordering::Acquire) < seen {
                self.sync();
            }
            seen = self.tail();
            self.tidy(settled, durable);
        }
    }

    /// Whether nothing is to be done before the next message; who accepts that one rings then.
    fn may_rest(&self, seen: u64) -> bool {
        {
            let writing = self.lock();
            let done = writing.log.stores.len() <= 1 && writing.log.memory == 0 && writing.shedding.is_none();
            if !done || self.is_full.load(Ordering::Acquire) || self.safe.load(Ordering::Acquire) < writing.log.tail {
                return false;
            }
        }
        self.resting.store(true, Ordering::SeqCst);
        self.tail.load(Ordering::SeqCst) == seen
    }

    /// Ends [`Arrivals::keep`], once `done` says so.
    pub fn wake_keeper(&self) {
        self.asked.ring();
    }

    /// Makes all that is accepted durable, without holding up who accepts.
    pub(super) fn sync(&self) {
        let safe = self.safe.load(Ordering::Acquire);
        let (files, upto, dir) = {
            let mut writing = self.lock();
            for first in writing.log.failed(safe) {
                if !writing.log.renew(first, safe) {
                    return;
                }
            }
            let (files, upto) = writing.log.to_sync(safe);
            (files, upto, std::mem::take(&mut writing.log.made).then(|| writing.log.dir.clone()))
        };
        if let Some(dir) = dir
            && let Err(error) = self.disk.sync_dir(&dir)
        {
            tracing::warn!(dir = %dir.display(), %error, "fsync of the arrival log's directory failed; trying again");
            self.lock().log.made = true;
            return;
        }
        for (first, handle) in files {
            if let Err(error) = self.disk.sync_data(&handle) {
                tracing::warn!(file = %handle.path.display(), %error, "fsync failed: what it did not make safe is written anew into a new segment");
                self.lock().log.renew(first, safe);
                self.wanted.store(true, Ordering::Release);
                return;
            }
        }
        let mut writing = self.lock();
        writing.log.synced = writing.log.synced.max(upto);
        self.safe.fetch_max(upto, Ordering::AcqRel);
    }

    /// Deletes what is done with, writes what is in memory alone if that can be done by now, and looks at the room anew.
    pub(super) fn tidy(&self, settled: u64, durable: u64) {
        let mut guard = self.lock();
        let writing = &mut *guard;
        writing.log.release(settled, durable);
        if writing.log.memory > 0 && writing.broken.is_none_or(|(_, again)| again <= Instant::now()) {
            match writing.log.rescue() {
                Ok(()) => self.mended(writing),
                Err(_) => writing.broken = writing.broken.map(|(since, _)| (since, Instant::now() + TRY_AGAIN)),
            }
        }
        writing.capacity = writing.log.capacity();
        if self.is_full.load(Ordering::Acquire) && self.may_have_room(writing) {
            self.is_full.store(false, Ordering::Release);
            self.roomy.notify_all();
        }
        let percent = self.percent(writing);
        if let Some(refused) = writing.shedding.take_if(|_| percent < SHEDS_FROM) {
            tracing::info!(source = %self.settings.source, refused, "the arrival log has room again: no message is refused any more");
        }
    }

    /// Whether something may be accepted again after the log was full. Whether it really can, the next message shows.
    fn may_have_room(&self, writing: &Writing) -> bool {
        if writing.broken.is_some() {
            return writing.log.memory < self.settings.memory / 4 * 3;
        }
        match writing.full {
            // What a file system refused that says it has room, as under a quota.
            Some((Why::Disk(Full::NoSpace), since)) => since.elapsed() >= TRY_AGAIN && writing.log.has_room(),
            _ => writing.log.has_room(),
        }
    }

    /// The end of a clean stop: all is made durable, and the log says that it ended in order.
    pub fn close(&self) {
        {
            let mut writing = self.lock();
            if !writing.log.stores.is_empty() {
                let end = format::end_block(now_ns());
                // Without it the next start of another boot takes the end for a loss of power, and says so.
                if let Ok(tail) = writing.log.append(&end) {
                    self.tail.store(tail, Ordering::Release);
                }
            }
        }
        self.sync();
        let (settled, durable) = self.settlement.reached(self.stream);
        self.tidy(settled, durable);
    }
}

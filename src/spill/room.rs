//! How much of `spill.max_size` is taken, and by whom: one for all lanes and arrival logs. Apart because it is all that they share. Pure.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What each lane in use may always have, bytes: eight segments.
const RESERVE: u64 = 64 << 20;

/// Why nothing can be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// `spill.max_size` is used up.
    MaxSize,
    /// `spill.keep_free` is reached.
    KeepFree,
    /// The file system or a quota has no room.
    NoSpace,
}

impl Full {
    /// The word for status and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Full::MaxSize => "max_size",
            Full::KeepFree => "keep_free",
            Full::NoSpace => "no_space",
        }
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Full::MaxSize => "spill.max_size is used up",
            Full::KeepFree => "the file system has no more than spill.keep_free left",
            Full::NoSpace => "the file system, or a quota on it, has no room left",
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Room {
    max: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    used: HashMap<u64, u64>,
}

impl Room {
    /// Room for `max` bytes.
    #[must_use]
    pub fn new(max: u64) -> Arc<Room> {
        Arc::new(Room { max, inner: Mutex::default() })
    }

    /// `spill.max_size`, bytes.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// What all segments together take, bytes; above the maximum after it was lowered.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used.values().sum()
    }

    /// One more that takes a share; from now on it has its reserve, until the share is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Share {
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.used.insert(id, 0);
        Share { id, room: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one lane takes of the room.
#[derive(Debug)]
pub struct Share {
    id: u64,
    room: Arc<Room>,
}

impl Share {
    /// Takes `bytes` more, if that leaves every other lane its reserve.
    ///
    /// # Errors
    /// [`Full::MaxSize`]; nothing is taken then.
    pub fn grow(&self, bytes: u64) -> Result<(), Full> {
        let mut inner = self.room.lock();
        let lanes = inner.used.len().max(1) as u64;
        let reserve = RESERVE.min(self.room.max / lanes);
        let (mut total, mut kept) = (0_u64, 0_u64);
        for (id, used) in &inner.used {
            total += used;
            kept += if *id == self.id { 0 } else { (*used).max(reserve) };
        }
        let own = inner.used.entry(self.id).or_default();
        let wanted = own.saturating_add(bytes);
        let mine = wanted <= reserve || wanted.saturating_add(kept) <= self.room.max;
        if !mine || total.saturating_add(bytes) > self.room.max {
            return Err(Full::MaxSize);
        }
        *own = wanted;
        Ok(())
    }

    /// How many bytes [`Share::grow`] would give.
    #[must_use]
    pub fn left(&self) -> u64 {
        let inner = self.room.lock();
        let reserve = RESERVE.min(self.room.max / inner.used.len().max(1) as u64);
        let others = inner.used.iter().filter(|(id, _)| **id != self.id);
        let (taken, kept) = others.fold((0, 0), |(taken, kept), (_, used)| (taken + used, kept + (*used).max(reserve)));
        let own = inner.used.get(&self.id).copied().unwrap_or(0);
        let mine = reserve.max(self.room.max.saturating_sub(kept));
        mine.min(self.room.max.saturating_sub(taken)).saturating_sub(own)
    }

    /// Takes `bytes` more, whether there is room or not: they are on disk already.
    pub fn note(&self, bytes: u64) {
        *self.room.lock().used.entry(self.id).or_default() += bytes;
    }

    /// Gives `bytes` back.
    pub fn shrink(&self, bytes: u64) {
        if let Some(used) = self.room.lock().used.get_mut(&self.id) {
            *used = used.saturating_sub(bytes);
        }
    }

    /// What it takes, bytes.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.room.lock().used.get(&self.id).copied().unwrap_or(0)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.lock().used.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lane_takes_the_reserve_of_another() {
        let room = Room::new(10 * RESERVE);
        let (one, other) = (room.enter(), room.enter());
        one.grow(9 * RESERVE).unwrap();
        assert_eq!((one.grow(1), one.left(), other.left()), (Err(Full::MaxSize), 0, RESERVE));
        other.grow(RESERVE).unwrap();
        assert_eq!((other.grow(1), other.left()), (Err(Full::MaxSize), 0));
        one.shrink(RESERVE);
        assert_eq!((one.left(), other.left()), (RESERVE, RESERVE));
        other.grow(1).unwrap();
        assert_eq!(room.used(), 9 * RESERVE + 1);
        drop(one);
        assert_eq!(room.used(), RESERVE + 1);
    }

    #[test]
    fn reserves_shrink_where_the_lanes_are_many_and_the_room_is_small() {
        let room = Room::new(100);
        let lanes: Vec<Share> = (0..4).map(|_| room.enter()).collect();
        assert!(lanes.iter().all(|lane| lane.grow(25).is_ok()));
        assert!(lanes.iter().all(|lane| lane.grow(1) == Err(Full::MaxSize)));
    }

    #[test]
    fn what_is_there_already_is_counted_even_beyond_the_maximum() {
        let room = Room::new(100);
        let share = room.enter();
        share.note(150);
        assert_eq!((share.grow(1), room.used()), (Err(Full::MaxSize), 150));
    }
}

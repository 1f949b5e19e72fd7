//! Between the thread that receives datagrams and the one that writes them to the arrival log: the first must never wait for a disk, since the
//! kernel's buffer is full within milliseconds. Two lots of memory change places: one is filled while the other is written.
//!
//! What is here is not accepted yet: a kill loses it, as it loses what the kernel holds.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sys::{Datagram, Slots};

/// What a lot may hold, bytes: some 50 ms of 200,000 datagrams a second. At the limit nothing is received: then the kernel drops, and counts.
const BYTES: usize = 2 << 20;
/// The same in datagrams.
const DATAGRAMS: usize = 16_384;
/// A lot that had to grow beyond this gives its memory back when it is empty, bytes.
const KEPT: usize = 256 << 10;

/// Datagrams that were received, in order.
#[derive(Default)]
pub(super) struct Lot {
    /// What they are spans of.
    pub(super) bytes: Vec<u8>,
    pub(super) datagrams: Vec<Datagram>,
    /// When the first of them was received, nanoseconds since 1970.
    pub(super) received_ns: i64,
    /// How many the kernel has dropped meanwhile.
    pub(super) dropped: u64,
    /// Nothing follows.
    pub(super) ended: bool,
}

impl Lot {
    fn is_full(&self) -> bool {
        self.bytes.len() >= BYTES || self.datagrams.len() >= DATAGRAMS
    }

    fn is_empty(&self) -> bool {
        self.datagrams.is_empty() && self.dropped == 0 && !self.ended
    }

    /// Makes it ready for the next ones.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.datagrams.clear();
        (self.received_ns, self.dropped, self.ended) = (0, 0, false);
    }
}

/// The lot that is being filled.
#[derive(Default)]
pub(super) struct Held {
    lot: Mutex<Lot>,
    came: Condvar,
    taken: Condvar,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, Lot> {
        self.lot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is in the first `count` slots; waits while there is no room.
    pub(super) fn put(&self, slots: &Slots, count: usize, received_ns: i64) {
        let mut lot = self.taken.wait_while(self.lock(), |lot| lot.is_full()).unwrap_or_else(PoisonError::into_inner);
        if lot.datagrams.is_empty() {
            lot.received_ns = received_ns;
        }
        for datagram in (0..count).filter_map(|slot| slots.datagram(slot)) {
            let bytes = slots.bytes().get(datagram.start..datagram.start + datagram.len).unwrap_or_default();
            let start = lot.bytes.len();
            lot.bytes.extend_from_slice(bytes);
            lot.datagrams.push(Datagram { start, ..datagram });
        }
        drop(lot);
        self.came.notify_one();
    }

    /// Adds what the kernel has dropped.
    pub(super) fn dropped(&self, datagrams: u64) {
        self.lock().dropped += datagrams;
        self.came.notify_one();
    }

    /// Nothing follows.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.came.notify_one();
    }

    /// Waits for something, at most `patience`, and exchanges it for an empty lot.
    pub(super) fn take(&self, empty: &mut Lot, patience: Duration) {
        let waited = self.came.wait_timeout_while(self.lock(), patience, |lot| lot.is_empty());
        let (mut lot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *lot, empty);
        drop(lot);
        self.taken.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn nothing_is_received_beyond_the_limit_and_nothing_that_was_is_lost() {
        let (udp, sender, held) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap(), Held::default());
        sender.connect(udp.local_addr().unwrap()).unwrap();
        let count = DATAGRAMS * 2 + 100;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut slots = Slots::new(16, 1024);
                for number in 0..count {
                    sender.send(number.to_string().as_bytes()).unwrap();
                    let got = slots.receive(udp.as_fd()).unwrap();
                    held.put(&slots, got, 7);
                }
                held.end();
            });
            // Nobody takes: it stops at the limit.
            while !held.lock().is_full() {
                std::thread::yield_now();
            }
            let (mut lot, mut seen) = (Lot::default(), 0);
            while !lot.ended {
                lot.clear();
                held.take(&mut lot, Duration::from_secs(10));
                assert!(lot.datagrams.len() <= DATAGRAMS && (lot.datagrams.is_empty() || lot.received_ns == 7));
                for datagram in &lot.datagrams {
                    assert_eq!(&lot.bytes[datagram.start..][..datagram.len], seen.to_string().as_bytes());
                    seen += 1;
                }
            }
            assert_eq!(seen, count);
        });
    }
}

//! Datagrams: a thread for each socket that does nothing but take them in, so that the kernel need not drop any. What it dropped all the same is
//! counted to the last one.

mod sys;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::{Rates, allows};
use super::{Common, now_ns};
use crate::ledger::{Amount, Missed};
use crate::source::syslog::frame::TooLong;
use crate::source::syslog::intake::{Frame, Frames, Taken, Transport};

/// Asks for a receive buffer of so many bytes; says how many the kernel gives.
pub(super) fn set_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    sys::set_buffer(socket, bytes)
}

/// How many datagrams one call may take, as far as their slots take no more than [`SLOTS`].
const AT_ONCE: usize = 512;
/// What all slots of a socket may take, bytes; of which only what datagrams touch is real memory.
const SLOTS: usize = 8 << 20;
/// How often the kernel is asked what it has dropped, and the word to stop is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Datagrams that come faster than this after each other are left to gather for [`GATHER`] while they are few: a call and a write for each of them
/// would cost more than all the rest.
const QUICK: Duration = Duration::from_micros(500);
/// So short that no buffer fills meanwhile: the smallest that kernels give by default holds some hundred datagrams.
const GATHER: Duration = Duration::from_micros(200);
/// Few, see [`QUICK`].
const FEW: usize = 32;
/// Names of senders that are kept ready; beyond it all are made anew.
const NAMES: usize = 4096;

/// Drops as the kernel counts them, each seen once: it tells them with datagrams, as of when those were queued, and when it is asked.
#[derive(Debug, Default)]
pub(super) struct Drops {
    seen: u32,
}

impl Drops {
    /// What is new in a counter that wraps. An older one than was seen already says nothing.
    pub(super) fn new_in(&mut self, counter: u32) -> u64 {
        let ahead = counter.wrapping_sub(self.seen);
        if ahead == 0 || ahead > u32::MAX / 2 {
            return 0;
        }
        self.seen = counter;
        u64::from(ahead)
    }
}

/// A socket that is being read.
pub(super) struct Receiver {
    common: Arc<Common>,
    transport: Transport,
    place: Arc<str>,
    slots: sys::Slots,
    drops: Drops,
    looked: Instant,
    names: HashMap<SocketAddr, (Box<str>, Box<str>)>,
    frames: Vec<Frame>,
    rates: Option<Rates>,
    /// Messages of senders that are not allowed, since it was last said.
    refused: (u64, Option<IpAddr>),
}

impl Receiver {
    pub(super) fn new(common: Arc<Common>, transport: Transport, place: Arc<str>) -> Receiver {
        let size = common.settings.max_message_size.clamp(1024, 65_536);
        let count = (SLOTS / size).clamp(16, AT_ONCE);
        let rates = common.settings.peer_rate.map(Rates::new);
        Receiver {
            common,
            transport,
            place,
            slots: sys::Slots::new(count, size),
            drops: Drops::default(),
            looked: Instant::now(),
            names: HashMap::new(),
            frames: Vec::new(),
            rates,
            refused: (0, None),
        }
    }

    /// Takes in until the word to stop; the socket has [`LOOK`] as its timeout.
    pub(super) fn run(&mut self, socket: &socket2::Socket) {
        let fd = socket.as_fd();
        if let Err(error) = socket.set_read_timeout(Some(LOOK)).and_then(|()| sys::report_drops(fd)) {
            tracing::warn!(source = %self.common.settings.source, place = %self.place, %error, "the kernel does not tell what it drops with each datagram; it is asked instead");
        }
        let mut came = Instant::now();
        while !self.common.stopping() {
            match self.slots.receive(fd) {
                Ok(count) => {
                    let quick = std::mem::replace(&mut came, Instant::now()).elapsed() < QUICK;
                    self.take(count);
                    if quick && count < FEW {
                        std::thread::sleep(GATHER);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    // An answer to nothing that was sent, mostly; the socket goes on.
                    tracing::warn!(source = %self.common.settings.source, place = %self.place, %error, "receiving failed");
                    std::thread::sleep(LOOK);
                }
            }
            if self.looked.elapsed() >= Duration::from_secs(1) {
                self.look(fd);
            }
        }
        // What is queued was sent before the stop; and the tail of a burst that was dropped is in no datagram.
        drop(socket.set_nonblocking(true));
        while let Ok(count @ 1..) = self.slots.receive(fd) {
            self.take(count);
        }
        self.look(fd);
    }

    /// Asks the kernel what it has dropped, and says who was refused.
    fn look(&mut self, socket: BorrowedFd<'_>) {
        self.looked = Instant::now();
        if let Ok(counter) = sys::dropped(socket)
            && self.transport == Transport::Udp
        {
            self.dropped(counter);
        }
        if let (refused @ 1.., Some(sender)) = std::mem::take(&mut self.refused) {
            tracing::warn!(source = %self.common.settings.source, place = %self.place, messages = refused, %sender, "refused: the source's allow names other senders");
        }
    }

    fn dropped(&mut self, counter: u32) {
        let new = self.drops.new_in(counter);
        if new > 0 {
            tracing::warn!(source = %self.common.settings.source, place = %self.place, datagrams = new, "the kernel has dropped datagrams: its buffer was full");
            self.common.intake.missed(Missed::KernelDrop, Amount { events: new, ..Amount::default() }, &self.place, "");
        }
    }

    /// Hands on what was received, sender by sender: the order matters within one sender alone.
    fn take(&mut self, count: usize) {
        let mut datagrams: Vec<sys::Datagram> = (0..count).filter_map(|slot| self.slots.datagram(slot)).collect();
        if let Some(counter) = datagrams.iter().filter_map(|datagram| datagram.drops).next_back() {
            self.dropped(counter);
        }
        let several = datagrams.windows(2).any(|pair| matches!(pair, [one, other] if one.sender != other.sender));
        if several {
            datagrams.sort_by_key(|datagram| datagram.sender);
        }
        let received_ns = now_ns();
        for run in datagrams.chunk_by(|one, other| one.sender == other.sender) {
            let sender = run.first().and_then(|datagram| datagram.sender);
            self.hand_on(run, sender, received_ns);
        }
    }

    fn hand_on(&mut self, run: &[sys::Datagram], sender: Option<SocketAddr>, received_ns: i64) {
        let settings = &self.common.settings;
        if let Some(sender) = sender.map(|sender| sender.ip()).filter(|sender| !allows(&settings.allow, *sender)) {
            self.refused = (self.refused.0 + run.len() as u64, Some(sender));
            let words = "from senders that the source's allow does not name";
            self.common.intake.missed(Missed::Refused, Amount { events: run.len() as u64, ..Amount::default() }, &self.place, words);
            return;
        }
        self.frames.clear();
        let (mut cut, mut cut_bytes) = (0, 0);
        for datagram in run {
            let bytes = self.slots.bytes().get(datagram.start..datagram.start + datagram.len).unwrap_or_default();
            let trimmed = bytes.strip_suffix(b"\n").or_else(|| bytes.strip_suffix(b"\0")).unwrap_or(bytes);
            cut += u64::from(datagram.cut);
            let most = if settings.too_long == TooLong::Truncate { settings.max_message_size } else { usize::MAX };
            cut_bytes += trimmed.len().saturating_sub(most) as u64;
            pieces(&mut self.frames, (datagram.start, trimmed.len().min(most)), settings.piece, datagram.cut);
        }
        if cut + cut_bytes > 0 {
            // How much of it the kernel had, nobody knows.
            self.common.intake.missed(Missed::Cut, Amount { events: 0, bytes: cut_bytes, unknown: cut }, &self.place, "");
        }
        let whole = self.frames.iter().filter(|frame| frame.last).count();
        if let (Some(rates), Some(sender)) = (&mut self.rates, sender) {
            let granted = rates.take(sender.ip(), whole, Instant::now());
            if granted < whole {
                let amount = Amount { events: (whole - granted) as u64, ..Amount::default() };
                self.common.intake.missed(Missed::RateLimit, amount, &format!("{}, {}", self.place, sender.ip()).into(), "");
                let mut left = granted;
                self.frames.retain(|frame| {
                    let keep = left > 0;
                    left -= usize::from(keep && frame.last);
                    keep
                });
            }
        }
        if self.frames.is_empty() {
            return;
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let name = |sender: SocketAddr| (sender.to_string().into(), sender.ip().to_string().into());
        let (peer, peer_key) = match sender {
            Some(sender) => {
                let (peer, key) = self.names.entry(sender).or_insert_with(|| name(sender));
                (&**peer, &**key)
            }
            None => ("local", "local"),
        };
        let frames = Frames { transport: self.transport, peer, peer_key, received_ns, bytes: self.slots.bytes(), frames: &self.frames };
        while self.common.intake.take(&frames) == Taken::Full {
            // Only with when_full = "block": then the kernel drops, and counts.
            self.common.intake.wait_for_room(LOOK);
            if self.common.stopping() {
                let amount = Amount { events: whole as u64, ..Amount::default() };
                self.common.intake.missed(Missed::Shed, amount, &self.place, "at a stop, with no room");
                return;
            }
        }
    }
}

/// One datagram as a message, or as parts of at most `piece` bytes.
fn pieces(frames: &mut Vec<Frame>, (start, len): (usize, usize), piece: usize, partial: bool) {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    if len == 0 {
        return;
    }
    let parts = len.div_ceil(piece.max(1));
    for index in 0..parts {
        let at = index * piece;
        let last = index + 1 == parts;
        let part = if parts == 1 { 0 } else { narrow(index + 1) };
        frames.push(Frame { start: narrow(start + at), len: narrow(piece.min(len - at)), part, last, partial: partial && last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_drop_is_counted_once_however_it_is_told_and_the_counter_wraps(
            start in any::<u32>(), steps in prop::collection::vec((0_u32..1000, any::<bool>()), 0..50)
        ) {
            let mut drops = Drops { seen: start };
            let (mut counter, mut all, mut counted, mut queued) = (start, 0_u64, 0, start);
            for (step, asked) in steps {
                counter = counter.wrapping_add(step);
                all += u64::from(step);
                // A datagram tells the counter as of when it was queued, which may be long ago.
                counted += drops.new_in(if asked { counter } else { queued });
                queued = counter;
            }
            counted += drops.new_in(counter);
            prop_assert_eq!(counted, all);
        }
    }
}

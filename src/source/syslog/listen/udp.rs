//! Datagrams: for each socket a thread that does nothing but take them in, so that the kernel need not drop any, and one that makes messages of them
//! ([`held`] is between the two). What the kernel dropped all the same is counted to the last one.

mod held;
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
use held::{Held, Lot};

/// Asks for a receive buffer of so many bytes; says how many the kernel gives.
pub(super) fn set_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    sys::set_buffer(socket, bytes)
}

/// How many datagrams one call may take, as far as their slots take no more than [`SLOTS`].
const AT_ONCE: usize = 512;
/// What all slots of a socket may take, bytes; of which only what datagrams touch is real memory.
const SLOTS: usize = 8 << 20;
/// How often the word to stop is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often the kernel is asked what it has dropped, and what went wrong is said.
const SAY: Duration = Duration::from_secs(1);
/// Datagrams that come faster than this after each other are left to gather for [`GATHER`] while they are few: a call and a write for each of them
/// would cost more than all the rest.
const QUICK: Duration = Duration::from_micros(500);
/// So short that no buffer fills meanwhile: the smallest that kernels give by default holds some hundred datagrams.
const GATHER: Duration = Duration::from_micros(200);
/// Few, see [`QUICK`].
const FEW: usize = 32;
/// What goes into one block of the arrival log, datagrams and bytes; the last datagram may go beyond.
const BLOCK: (usize, usize) = (2048, 256 << 10);
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

/// Takes in from this socket until the word to stop, and hands on what came.
pub(super) fn run(common: &Arc<Common>, transport: Transport, place: &Arc<str>, socket: &socket2::Socket) {
    let held = Held::default();
    std::thread::scope(|scope| {
        let receiver = Receiver { common, transport, place, slots: Receiver::slots(common), drops: Drops::default(), held: &held };
        let name = format!("receive {}", common.settings.source);
        let spawned = std::thread::Builder::new().name(name).spawn_scoped(scope, move || receiver.run(socket));
        match spawned {
            Ok(_) => Writer::new(Arc::clone(common), transport, Arc::clone(place)).run(&held),
            Err(error) => {
                tracing::error!(source = %common.settings.source, %place, %error, "the system gives no thread: this address is not listened at");
            }
        }
    });
}

/// Reads a socket.
struct Receiver<'a> {
    common: &'a Common,
    transport: Transport,
    place: &'a str,
    slots: sys::Slots,
    drops: Drops,
    held: &'a Held,
}

impl Receiver<'_> {
    fn slots(common: &Common) -> sys::Slots {
        let size = common.settings.max_message_size.clamp(1024, 65_536);
        sys::Slots::new((SLOTS / size).clamp(16, AT_ONCE), size)
    }

    /// Takes in until the word to stop; the socket gets [`LOOK`] as its timeout.
    fn run(mut self, socket: &socket2::Socket) {
        let (source, place) = (&self.common.settings.source, self.place);
        let fd = socket.as_fd();
        if let Err(error) = socket.set_read_timeout(Some(LOOK)).and_then(|()| sys::report_drops(fd)) {
            tracing::warn!(%source, place, %error, "the kernel does not tell what it drops with each datagram; it is asked instead");
        }
        let (mut came, mut looked) = (Instant::now(), Instant::now());
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
                    tracing::warn!(%source, place, %error, "receiving failed");
                    std::thread::sleep(LOOK);
                }
            }
            if looked.elapsed() >= SAY {
                looked = Instant::now();
                self.ask(fd);
            }
        }
        // What is queued was sent before the stop; and the tail of a burst that was dropped is in no datagram.
        drop(socket.set_nonblocking(true));
        while let Ok(count @ 1..) = self.slots.receive(fd) {
            self.take(count);
        }
        self.ask(fd);
        self.held.end();
    }

    fn take(&mut self, count: usize) {
        let told = (0..count).rev().find_map(|slot| self.slots.datagram(slot)?.drops);
        self.held.put(&self.slots, count, now_ns());
        self.dropped(told);
    }

    /// Asks the kernel what it has dropped.
    fn ask(&mut self, socket: BorrowedFd<'_>) {
        self.dropped(sys::dropped(socket).ok().filter(|_| self.transport == Transport::Udp));
    }

    fn dropped(&mut self, counter: Option<u32>) {
        let new = counter.map_or(0, |counter| self.drops.new_in(counter));
        if new > 0 {
            self.held.dropped(new);
        }
    }
}

/// Makes messages of what a socket got.
struct Writer {
    common: Arc<Common>,
    transport: Transport,
    place: Arc<str>,
    names: HashMap<SocketAddr, (Box<str>, Box<str>)>,
    frames: Vec<Frame>,
    rates: Option<Rates>,
    said: Instant,
    /// Datagrams that the kernel has dropped, since it was last said.
    dropped: u64,
    /// Messages of senders that are not allowed, since it was last said.
    refused: (u64, Option<IpAddr>),
}

impl Writer {
    fn new(common: Arc<Common>, transport: Transport, place: Arc<str>) -> Writer {
        let rates = common.settings.peer_rate.map(Rates::new);
        let (names, frames) = Default::default();
        Writer { common, transport, place, names, frames, rates, said: Instant::now(), dropped: 0, refused: (0, None) }
    }

    /// Hands on what is held, until nothing follows.
    fn run(&mut self, held: &Held) {
        let mut lot = Lot::default();
        while !lot.ended {
            lot.clear();
            held.take(&mut lot, SAY);
            if lot.dropped > 0 {
                self.dropped += lot.dropped;
                let amount = Amount { events: lot.dropped, ..Amount::default() };
                self.common.intake.missed(Missed::KernelDrop, amount, &self.place, "");
            }
            self.take(&mut lot);
            if self.said.elapsed() >= SAY || lot.ended {
                self.said = Instant::now();
                self.say();
            }
        }
    }

    /// Says what went wrong, at most once a second, however much it is.
    fn say(&mut self) {
        let (source, place) = (&self.common.settings.source, &self.place);
        if let datagrams @ 1.. = std::mem::take(&mut self.dropped) {
            tracing::warn!(%source, %place, datagrams, "the kernel has dropped datagrams: its buffer was full");
        }
        if let (refused @ 1.., Some(sender)) = std::mem::take(&mut self.refused) {
            tracing::warn!(%source, %place, messages = refused, %sender, "refused: the source's allow names other senders");
        }
    }

    /// Hands on what was received, sender by sender: the order matters within one sender alone.
    fn take(&mut self, lot: &mut Lot) {
        let several = lot.datagrams.windows(2).any(|pair| matches!(pair, [one, other] if one.sender != other.sender));
        if several {
            lot.datagrams.sort_by_key(|datagram| datagram.sender);
        }
        for run in lot.datagrams.chunk_by(|one, other| one.sender == other.sender) {
            let sender = run.first().and_then(|datagram| datagram.sender);
            let mut rest = run;
            while !rest.is_empty() {
                let mut bytes = 0;
                let fit = rest.iter().take(BLOCK.0).take_while(|datagram| {
                    let fits = bytes < BLOCK.1;
                    bytes += datagram.len;
                    fits
                });
                let (now, later) = rest.split_at(fit.count().max(1));
                self.hand_on(&lot.bytes, now, sender, lot.received_ns);
                rest = later;
            }
        }
    }

    fn hand_on(&mut self, bytes: &[u8], run: &[sys::Datagram], sender: Option<SocketAddr>, received_ns: i64) {
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
            let text = bytes.get(datagram.start..datagram.start + datagram.len).unwrap_or_default();
            let trimmed = text.strip_suffix(b"\n").or_else(|| text.strip_suffix(b"\0")).unwrap_or(text);
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
        let frames = Frames { transport: self.transport, peer, peer_key, received_ns, bytes, frames: &self.frames };
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

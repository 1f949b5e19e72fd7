//! A connection of syslog without an answer: reads, frames, hands over, and keeps what is no whole message yet. Apart from [`super`], which has the
//! doors; RELP has a loop of its own.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::super::ROOM;
use super::super::gate::Rates;
use super::{AT_ONCE, Conn, Ended, LAST, LOOK, Peer, READ, SMALL, accept_all, read_some};
use crate::ledger::{Amount, Missed};
use crate::source::syslog::frame::{Facts, Framer};
use crate::source::syslog::intake::Frame;

/// A connection with messages in one of the framings of RFC 6587.
pub(super) struct Plain<'a> {
    peer: &'a Peer,
    framer: Framer,
    facts: Facts,
    /// What is no whole message yet.
    rest: Vec<u8>,
    /// What `rest` takes of the common limit.
    charged: usize,
    frames: Vec<Frame>,
    rates: Option<Rates>,
}

impl<'a> Plain<'a> {
    pub(super) fn new(peer: &'a Peer) -> Plain<'a> {
        let framer = Framer::new(peer.common.limits()).joining(peer.common.settings.multiline.clone());
        let rates = peer.common.settings.peer_rate.map(Rates::new);
        Plain { peer, framer, facts: Facts::default(), rest: Vec::new(), charged: 0, frames: Vec::new(), rates }
    }

    pub(super) async fn run(mut self, mut conn: Box<dyn Conn>) {
        let ended = self.receive(&mut *conn).await;
        // The last word of TLS; a sender that does not read is not waited for.
        drop(timeout(LAST, conn.shutdown()).await);
        self.settle().await;
        let bytes = std::mem::take(&mut self.rest);
        self.framer.finish(&bytes, &mut self.frames, &mut self.facts);
        let unfinished = bytes.len();
        self.hand_over(&bytes).await;
        self.charge(0);
        let (source, peer) = (&self.peer.common.settings.source, &self.peer.name);
        match ended {
            Ended::Closed if unfinished == 0 => tracing::debug!(%source, peer, "closed by the sender"),
            Ended::Closed => {
                tracing::warn!(%source, peer, bytes = unfinished, "closed by the sender within a message; what came of it is shipped as partial");
            }
            Ended::Idle => {
                tracing::warn!(%source, peer, bytes = unfinished, "closed: nothing came for idle_timeout; what is unfinished is shipped as partial");
            }
            Ended::Stop => tracing::debug!(%source, peer, "closed at the stop"),
            Ended::Failed(error) => {
                tracing::warn!(%source, peer, bytes = unfinished, %error, "the connection broke; what is unfinished is shipped as partial");
            }
        }
    }

    async fn receive(&mut self, conn: &mut dyn Conn) -> Ended {
        let mut heard = Instant::now();
        loop {
            // Who waits for room does not read: then the sender waits.
            while !self.peer.common.intake.has_room() {
                if self.peer.common.stopping() {
                    return Ended::Stop;
                }
                sleep(ROOM).await;
            }
            let stopping = self.peer.common.stopping();
            let lines = self.peer.common.settings.multiline.as_ref().map(|lines| lines.timeout).filter(|_| !self.rest.is_empty());
            let patience = if stopping { LAST } else { LOOK.max(Duration::from_millis(500)).min(lines.unwrap_or(Duration::MAX)) };
            let Plain { framer, facts, rest, frames, .. } = self;
            let took = read_some(conn, patience, |bytes| {
                // Usually nothing is left from before: then the messages are spans of what was read, which is copied once for the log.
                rest.extend_from_slice(bytes);
                let done = framer.frames(rest, frames, facts);
                (bytes.len(), done)
            });
            match took.await {
                None if stopping => return Ended::Stop,
                None if self.peer.common.settings.idle_timeout.is_some_and(|limit| heard.elapsed() >= limit) => return Ended::Idle,
                None if lines.is_some_and(|timeout| heard.elapsed() >= timeout) => self.settle().await,
                None => {}
                Some(Err(error)) => return Ended::Failed(error),
                Some(Ok((0, _))) => return Ended::Closed,
                Some(Ok((_, done))) => {
                    heard = Instant::now();
                    let bytes = std::mem::take(&mut self.rest);
                    self.hand_over(bytes.get(..done).unwrap_or_default()).await;
                    self.keep(bytes, done);
                    self.relieve().await;
                }
            }
        }
    }

    /// Hands on lines that waited for others that might belong to them.
    async fn settle(&mut self) {
        if self.rest.is_empty() || self.peer.common.settings.multiline.is_none() {
            return;
        }
        let bytes = std::mem::take(&mut self.rest);
        let done = self.framer.settle(&bytes, &mut self.frames, &mut self.facts);
        self.hand_over(bytes.get(..done).unwrap_or_default()).await;
        self.keep(bytes, done);
    }

    /// Keeps what is no whole message yet; hands it on in parts where all connections together keep too much.
    fn keep(&mut self, mut bytes: Vec<u8>, done: usize) {
        bytes.drain(..done);
        if bytes.capacity() > 4 * READ || bytes.is_empty() {
            bytes.shrink_to(if bytes.is_empty() { 0 } else { bytes.len() });
        }
        self.charge(bytes.capacity());
        self.rest = bytes;
    }

    /// Hands unfinished messages on in parts where all connections together keep too much of them.
    async fn relieve(&mut self) {
        let common = &self.peer.common;
        if self.rest.len() < SMALL || common.unfinished.load(Ordering::Relaxed) <= common.settings.unfinished {
            return;
        }
        let bytes = std::mem::take(&mut self.rest);
        let done = self.framer.flush(&bytes, &mut self.frames, &mut self.facts);
        self.hand_over(bytes.get(..done).unwrap_or_default()).await;
        self.keep(bytes, done);
    }

    fn charge(&mut self, bytes: usize) {
        let unfinished = &self.peer.common.unfinished;
        unfinished.fetch_add(bytes, Ordering::Relaxed);
        unfinished.fetch_sub(std::mem::replace(&mut self.charged, bytes), Ordering::Relaxed);
    }

    /// Hands the messages over, waiting for room; counts what was irregular.
    async fn hand_over(&mut self, bytes: &[u8]) {
        let Peer { common, place, name, ip, .. } = self.peer;
        let facts = std::mem::take(&mut self.facts);
        if facts.cut.1 > 0 {
            tracing::warn!(source = %common.settings.source, peer = name, messages = facts.cut.0, bytes = facts.cut.1, "cut: messages were longer than max_message_size");
            common.intake.missed(Missed::Cut, Amount { bytes: facts.cut.1, ..Amount::default() }, place, "");
        }
        if facts.bad_counts > 0 {
            tracing::warn!(source = %common.settings.source, peer = name, lines = facts.bad_counts, "a count in front of a message can't be true; the line is shipped as it stands");
        }
        if let (Some(rates), Some(ip)) = (&mut self.rates, ip) {
            let whole = self.frames.iter().filter(|frame| frame.last).count();
            let mut left = rates.take(*ip, whole, Instant::now());
            if left < whole {
                let amount = Amount { events: (whole - left) as u64, ..Amount::default() };
                common.intake.missed(Missed::RateLimit, amount, &format!("{place}, {ip}").into(), "");
                self.frames.retain(|frame| {
                    let keep = left > 0;
                    left -= usize::from(keep && frame.last);
                    keep
                });
            }
        }
        let frames = std::mem::take(&mut self.frames);
        for frames in frames.chunks(AT_ONCE) {
            accept_all(self.peer, bytes, frames).await;
        }
        self.frames = frames;
        self.frames.clear();
    }
}

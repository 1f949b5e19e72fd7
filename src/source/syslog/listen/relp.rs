//! RELP: a sender keeps each message until it is answered, and sends it again on another connection if it was not. So a message is answered only
//! when it can't be lost any more: fsynced, or acknowledged by Kafka. It is the one transport of syslog on which nothing at all can be lost.

pub mod protocol;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::stream::{Conn, Ended, Peer, accept_all, read_some};
use crate::source::syslog::intake::Frame;
use protocol::{Parsed, answer, parse};

/// librelp sends so many messages without an answer; half of them waiting asks for an early fsync.
const WINDOW: usize = 128;
/// How often it is looked whether what waits is safe.
const SAFE: Duration = Duration::from_millis(2);
/// Messages of a sender that may wait for their answer. At the limit nothing more is read before the first of them is safe.
const PENDING: usize = 16 * WINDOW;
/// What is longer than a message with its frame around it is no RELP.
const AROUND: usize = 64;

struct Session<'a> {
    peer: &'a Peer,
    rest: Vec<u8>,
    /// Transactions that wait, and the offset before which all must be safe.
    pending: VecDeque<(u32, u64)>,
    out: Vec<u8>,
}

/// One request of the sender's.
enum Request {
    Open(u32),
    Message(u32),
    Close(u32),
    Unknown(u32),
}

/// Serves a connection until it ends.
pub(super) async fn serve(peer: &Peer, mut conn: Box<dyn Conn>) {
    let mut session = Session { peer, rest: Vec::new(), pending: VecDeque::new(), out: Vec::new() };
    let ended = session.run(&mut *conn).await;
    let (source, name) = (&peer.common.settings.source, &peer.name);
    let waiting = session.pending.len();
    match ended {
        Ok(Ended::Stop) => {
            // The sender is told to look for another server; what is not answered it sends again.
            drop(conn.write_all(b"0 serverclose 0\n").await);
            tracing::debug!(%source, peer = name, unanswered = waiting, "closed at the stop");
        }
        Ok(Ended::Idle) => tracing::warn!(%source, peer = name, "closed: nothing came for idle_timeout"),
        Ok(Ended::Closed) => tracing::debug!(%source, peer = name, unanswered = waiting, "closed by the sender"),
        Ok(Ended::Failed(error)) => {
            tracing::warn!(%source, peer = name, unanswered = waiting, %error, "the connection broke; what is not answered the sender sends again");
        }
        Err(words) => {
            tracing::warn!(%source, peer = name, "closed: what it sends is no RELP ({words}); is its output really omrelp, and the same on both sides (TLS or not)?");
        }
    }
    drop(conn.shutdown().await);
}

impl Session<'_> {
    async fn run(&mut self, conn: &mut dyn Conn) -> Result<Ended, &'static str> {
        let mut heard = Instant::now();
        loop {
            self.answer_what_is_safe();
            if !self.out.is_empty()
                && let Err(error) = conn.write_all(&std::mem::take(&mut self.out)).await
            {
                return Ok(Ended::Failed(error));
            }
            if self.peer.common.stopping() && self.pending.is_empty() {
                return Ok(Ended::Stop);
            }
            let patience = if self.pending.is_empty() { Duration::from_millis(500) } else { SAFE };
            if self.pending.len() >= PENDING || self.peer.common.stopping() {
                // Nothing more is read; at a stop what waits is made safe and answered.
                self.peer.common.intake.ask_for_safety();
                tokio::time::sleep(SAFE).await;
                continue;
            }
            let rest = &mut self.rest;
            match read_some(conn, patience, |bytes| {
                rest.extend_from_slice(bytes);
                bytes.len()
            })
            .await
            {
                None if self.peer.common.settings.idle_timeout.is_some_and(|limit| heard.elapsed() >= limit) => return Ok(Ended::Idle),
                None => {}
                Some(Err(error)) => return Ok(Ended::Failed(error)),
                Some(Ok(0)) => return Ok(Ended::Closed),
                Some(Ok(_)) => {
                    heard = Instant::now();
                    if let Some(ended) = self.take().await? {
                        drop(conn.write_all(&std::mem::take(&mut self.out)).await);
                        return Ok(ended);
                    }
                }
            }
        }
    }

    fn answer_what_is_safe(&mut self) {
        while let Some((number, end)) = self.pending.front() {
            if !self.peer.common.intake.is_safe(*end) {
                break;
            }
            self.out.extend_from_slice(&answer(*number, "200 OK"));
            self.pending.pop_front();
        }
        if self.pending.len() >= WINDOW / 2 {
            self.peer.common.intake.ask_for_safety();
        }
    }

    /// Takes the requests that are whole.
    async fn take(&mut self) -> Result<Option<Ended>, &'static str> {
        let most = self.peer.common.settings.max_message_size.max(4096);
        let mut at = 0;
        // Messages that came together are accepted together.
        let (mut frames, mut numbers): (Vec<Frame>, Vec<u32>) = (Vec::new(), Vec::new());
        let bytes = std::mem::take(&mut self.rest);
        let mut ended = None;
        while ended.is_none() {
            let (request, len) = match parse(bytes.get(at..).unwrap_or_default(), most) {
                Parsed::More if bytes.len() - at > most + AROUND => return Err("a frame without an end"),
                Parsed::More => break,
                Parsed::Bad(words) => return Err(words),
                Parsed::Frame { number, command, data, len } => {
                    let request = match command {
                        b"open" => Request::Open(number),
                        b"syslog" => {
                            self.frames(&mut frames, &bytes, (at + data.0, at + data.1));
                            Request::Message(number)
                        }
                        b"close" => Request::Close(number),
                        _ => Request::Unknown(number),
                    };
                    (request, len)
                }
            };
            at += len;
            match request {
                Request::Message(number) => numbers.push(number),
                Request::Open(number) => {
                    let offers = format!("200 OK\nrelp_version=0\nrelp_software=logferry,{}\ncommands=syslog", env!("CARGO_PKG_VERSION"));
                    self.out.extend_from_slice(&answer(number, &offers));
                }
                Request::Close(number) => {
                    self.settle(&bytes, &mut frames, &mut numbers).await;
                    self.wait_for_all().await;
                    self.out.extend_from_slice(&answer(number, ""));
                    ended = Some(Ended::Closed);
                }
                Request::Unknown(number) => self.out.extend_from_slice(&answer(number, "500 this server knows open, syslog and close")),
            }
        }
        self.settle(&bytes, &mut frames, &mut numbers).await;
        self.rest = bytes.get(at..).unwrap_or_default().to_vec();
        Ok(ended)
    }

    /// One message, in parts where it is long.
    fn frames(&self, frames: &mut Vec<Frame>, bytes: &[u8], (start, end): (usize, usize)) {
        let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let message = bytes.get(start..end).unwrap_or_default();
        let message = message.strip_suffix(b"\n").unwrap_or(message);
        let piece = self.peer.common.limits().piece.max(1);
        let parts = message.len().div_ceil(piece).max(1);
        for index in 0..parts {
            let (at, last) = (index * piece, index + 1 == parts);
            let part = if parts == 1 { 0 } else { narrow(index + 1) };
            frames.push(Frame { start: narrow(start + at), len: narrow(piece.min(message.len() - at)), part, last, partial: false });
        }
    }

    async fn settle(&mut self, bytes: &[u8], frames: &mut Vec<Frame>, numbers: &mut Vec<u32>) {
        if !frames.is_empty() {
            // Without room at a stop they stay unanswered, and the sender keeps them.
            if let Some(end) = accept_all(self.peer, bytes, frames).await {
                self.pending.extend(numbers.iter().map(|number| (*number, end)));
            }
        }
        frames.clear();
        numbers.clear();
    }

    /// Before a session is closed all of it is answered.
    async fn wait_for_all(&mut self) {
        self.answer_what_is_safe();
        while !self.pending.is_empty() {
            self.peer.common.intake.ask_for_safety();
            tokio::time::sleep(SAFE).await;
            self.answer_what_is_safe();
        }
    }
}

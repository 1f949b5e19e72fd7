//! Messages out of a stream of bytes (RFC 6587): octet counting and newlines, told apart at each message, since relays mix them. Pure: the caller has
//! the buffer, and this file says what of it are messages and what is done with.
//!
//! A message is counted if it begins with a number without leading zero, a space and `<`. All else ends at a newline or NUL, which are no part of
//! it, nor is a carriage return in front of them. What is longer than [`Limits::piece`] comes in parts, so that the buffer needs no more than that
//! and one read. Whatever is irregular is told in [`Facts`].
//!
//! With `multiline`, lines that belong to the message in front of them, as those of a stack trace, are joined to it; where that may be, a line waits
//! for the next one, or for [`Framer::settle`].

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::intake::Frame;
use crate::source::multiline::{Multiline, State as Known};

/// The longest count that is taken for one. A longer one is no count, and the line is a message.
const MAX_COUNT: usize = 1 << 30;

/// What becomes of a message that is longer than the source takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// It is shipped in parts.
    Split,
    /// Its end is cut off, and counted.
    Truncate,
}

/// What fits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest part, bytes: what certainly fits into one Kafka message.
    pub piece: usize,
    /// `max_message_size`, bytes.
    pub message: usize,
    /// What becomes of a longer one.
    pub too_long: TooLong,
}

/// What was irregular. To be counted and said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Messages whose end was cut off, and the bytes of that.
    pub cut: (u64, u64),
    /// Counts that can't be true; the line was taken as it stands.
    pub bad_counts: u64,
}

/// Where in a message the last bytes left off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between two messages.
    #[default]
    Between,
    /// In one that ends at a newline.
    Line,
    /// In one of which so many bytes are to come.
    Counted(usize),
}

/// Takes the stream of one connection apart.
#[derive(Clone, Debug)]
pub struct Framer {
    limits: Limits,
    joining: Option<Arc<Multiline>>,
    /// No further line is waited for.
    settling: bool,
    state: State,
    /// Parts made of the present message.
    part: u32,
    /// Bytes of it that were handed on.
    given: usize,
    /// The rest of it is passed over.
    cutting: bool,
}

enum Begin {
    Line,
    /// So many bytes behind a count that takes so many itself.
    Counted(usize, usize),
    /// More bytes are needed to tell.
    Unclear,
    BadCount,
}

impl Framer {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Framer {
        let limits = Limits { piece: limits.piece.max(64), message: limits.message.max(64), ..limits };
        Framer { limits, joining: None, settling: false, state: State::Between, part: 0, given: 0, cutting: false }
    }

    /// The same; it joins lines that belong together.
    #[must_use]
    pub fn joining(self, joining: Option<Arc<Multiline>>) -> Framer {
        Framer { joining, ..self }
    }

    /// As [`Framer::frames`], when no further line has come for so long that none is waited for.
    pub fn settle(&mut self, bytes: &[u8], frames: &mut Vec<Frame>, facts: &mut Facts) -> usize {
        self.settling = true;
        let done = self.frames(bytes, frames, facts);
        self.settling = false;
        done
    }

    /// The messages in `bytes`, which begin where the last call left off. Returns how many bytes are done with: the rest, and what comes, are the
    /// next call's. At most [`Limits::piece`] bytes and a count are left.
    pub fn frames(&mut self, bytes: &[u8], frames: &mut Vec<Frame>, facts: &mut Facts) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.state == State::Between {
                match begin(rest) {
                    Begin::Unclear => return at,
                    Begin::Counted(header, len) => {
                        self.state = State::Counted(len);
                        at += header;
                    }
                    Begin::Line => self.state = State::Line,
                    Begin::BadCount => {
                        facts.bad_counts += 1;
                        self.state = State::Line;
                    }
                }
                continue;
            }
            let taken = match self.state {
                State::Counted(left) => self.counted(rest, at, left, frames, facts),
                _ => self.line(rest, at, frames, facts),
            };
            if taken == 0 {
                return at;
            }
            at += taken;
        }
    }

    /// The connection has ended: what is left of `bytes` is a message without its end.
    pub fn finish(&mut self, bytes: &[u8], frames: &mut Vec<Frame>, facts: &mut Facts) {
        let at = if self.joining.is_some() { self.settle(bytes, frames, facts) } else { 0 };
        let rest = bytes.get(at..).unwrap_or_default();
        let unfinished = self.state != State::Between || rest.iter().any(|byte| !matches!(byte, b'\n' | b'\r' | 0));
        if unfinished && (!rest.is_empty() || self.part > 0) {
            let end = frames.len();
            self.give(at, rest.len(), true, frames, facts);
            if let Some(frame) = frames.get_mut(end) {
                frame.partial = true;
            }
        }
        self.done();
    }

    /// Memory is short: what there is of an unfinished message is handed on as a part of it. Returns how many bytes are done with.
    pub fn flush(&mut self, bytes: &[u8], frames: &mut Vec<Frame>, facts: &mut Facts) -> usize {
        if self.joining.is_some() {
            let done = self.settle(bytes, frames, facts);
            if done > 0 {
                return done;
            }
        }
        let len = match self.state {
            State::Between => return 0,
            // The last byte stays, so that the message has a last part.
            State::Counted(left) => whole(bytes.get(..left.saturating_sub(1).min(bytes.len())).unwrap_or(bytes)),
            State::Line => whole(bytes.strip_suffix(b"\r").unwrap_or(bytes)),
        };
        if len > 0 {
            self.give(0, len, false, frames, facts);
            if let State::Counted(left) = &mut self.state {
                *left -= len;
            }
        }
        len
    }

    fn done(&mut self) {
        (self.state, self.part, self.given, self.cutting) = (State::Between, 0, 0, false);
    }

    /// Takes what is there of a counted message; 0 if more is needed.
    fn counted(&mut self, rest: &[u8], at: usize, left: usize, frames: &mut Vec<Frame>, facts: &mut Facts) -> usize {
        if rest.len() >= left && left <= self.limits.piece {
            let message = rest.get(..left).unwrap_or_default();
            // Some senders count a newline that they add.
            let trimmed = message.strip_suffix(b"\n").or_else(|| message.strip_suffix(b"\0")).unwrap_or(message);
            self.give(at, trimmed.len(), true, frames, facts);
            self.done();
            return left;
        }
        if rest.len() <= self.limits.piece {
            return 0;
        }
        let len = whole(rest.get(..self.limits.piece.min(left.saturating_sub(1))).unwrap_or(rest));
        self.give(at, len, false, frames, facts);
        self.state = State::Counted(left - len);
        len
    }

    /// Takes a message up to its newline; 0 if more is needed.
    fn line(&mut self, rest: &[u8], at: usize, frames: &mut Vec<Frame>, facts: &mut Facts) -> usize {
        let window = rest.get(..self.limits.piece + 2).unwrap_or(rest);
        if let Some(end) = memchr::memchr2(b'\n', 0, window) {
            let line = rest.get(..end).unwrap_or_default();
            let trimmed = line.strip_suffix(b"\r").unwrap_or(line);
            if trimmed.len() <= self.limits.piece {
                if let Some(joining) = self.joining.clone().filter(|_| self.part == 0 && !trimmed.is_empty()) {
                    let Some((len, next)) = self.joined(&joining, rest) else { return 0 };
                    self.give(at, len, true, frames, facts);
                    self.done();
                    return next;
                }
                // A line of nothing is no message.
                if !trimmed.is_empty() || self.part > 0 {
                    self.give(at, trimmed.len(), true, frames, facts);
                }
                self.done();
                return end + 1;
            }
        } else if window.len() < self.limits.piece + 2 {
            return 0;
        }
        let len = whole(rest.get(..self.limits.piece).unwrap_or(rest));
        self.give(at, len, false, frames, facts);
        len
    }

    /// How long the message is that these lines begin with, and where what follows it begins; `None` if the next line may belong to it and is not
    /// there. No longer than one part, so that what is joined is never cut.
    fn joined(&self, joining: &Multiline, bytes: &[u8]) -> Option<(usize, usize)> {
        let most = joining.max_size.min(self.limits.piece);
        let (mut len, mut next, mut lines, mut known) = (0, 0, 0, Known::DONE);
        loop {
            let rest = bytes.get(next..).unwrap_or_default();
            let Some(end) = memchr::memchr2(b'\n', 0, rest) else {
                let complete = lines > 0 && (self.settling || bytes.len() > most + 1 || matches!(begin(rest), Begin::Counted(..)));
                return complete.then_some((len, next));
            };
            let line = rest.get(..end).unwrap_or_default();
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            if lines == 0 {
                known = joining.lines.begin(text);
            } else {
                let fits = next + text.len() <= most && !matches!(begin(rest), Begin::Counted(..));
                let Some(after) = joining.lines.join(known, text).filter(|_| fits) else { return Some((len, next)) };
                known = after;
            }
            (len, next, lines) = (next + text.len(), next + end + 1, lines + 1);
            if known.is_done() || lines >= joining.max_lines || next >= most {
                return Some((len, next));
            }
        }
    }

    /// Hands on bytes of the present message.
    fn give(&mut self, start: usize, len: usize, last: bool, frames: &mut Vec<Frame>, facts: &mut Facts) {
        let truncate = self.limits.too_long == TooLong::Truncate;
        let room = if truncate { self.limits.message.saturating_sub(self.given) } else { len };
        let kept = len.min(room);
        if kept < len {
            facts.cut.0 += u64::from(!self.cutting);
            facts.cut.1 += (len - kept) as u64;
        }
        self.given += kept;
        if self.cutting {
            return;
        }
        // With its rest cut off, this is the last of it.
        self.cutting = kept < len;
        let last = last || self.cutting;
        let part = if last && self.part == 0 { 0 } else { self.part + 1 };
        self.part += 1;
        frames.push(Frame { start: narrow(start), len: narrow(kept), part, last, partial: false });
    }
}

/// What stands at the beginning of a message.
fn begin(bytes: &[u8]) -> Begin {
    match bytes.first() {
        None => return Begin::Unclear,
        Some(b'1'..=b'9') => {}
        Some(_) => return Begin::Line,
    }
    let digits = bytes.iter().take(24).take_while(|byte| byte.is_ascii_digit()).count();
    match (bytes.get(digits), bytes.get(digits + 1)) {
        _ if digits >= 24 => Begin::BadCount,
        (None, _) | (Some(b' '), None) => Begin::Unclear,
        (Some(b' '), Some(b'<')) => {
            let number = bytes.get(..digits).unwrap_or_default();
            let count = number.iter().fold(0_usize, |value, digit| value.saturating_mul(10).saturating_add(usize::from(digit - b'0')));
            if count <= MAX_COUNT { Begin::Counted(digits + 1, count) } else { Begin::BadCount }
        }
        _ => Begin::Line,
    }
}

/// The length of the longest prefix that does not end within a character of UTF-8.
fn whole(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    let lead = bytes.get(tail..).unwrap_or_default().iter().rposition(|byte| *byte >= 0xC0).map(|at| tail + at);
    let Some(lead) = lead else { return bytes.len() };
    let width = match bytes.get(lead) {
        Some(0xF0..) => 4,
        Some(0xE0..) => 3,
        _ => 2,
    };
    if bytes.len() - lead < width && lead > 0 { lead } else { bytes.len() }
}

/// Offsets in a connection's buffer, which is far below 4 GiB.
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

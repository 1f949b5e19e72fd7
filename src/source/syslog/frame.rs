//! Messages out of a stream of bytes (RFC 6587): octet counting and newlines, told apart at each message, since relays mix them. Pure: the caller has
//! the buffer, and this file says what of it are messages and what is done with.
//!
//! A message is counted if it begins with a number without leading zero, a space and `<`. All else ends at a newline or NUL, which are no part of
//! it, nor is a carriage return in front of them. What is longer than [`Limits::piece`] comes in parts, so that the buffer needs no more than that
//! and one read. Whatever is irregular is told in [`Facts`].

use super::intake::Frame;

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
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    limits: Limits,
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
        Framer { limits, state: State::Between, part: 0, given: 0, cutting: false }
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
        let unfinished = self.state != State::Between || bytes.iter().any(|byte| !matches!(byte, b'\n' | b'\r' | 0));
        if unfinished && (!bytes.is_empty() || self.part > 0) {
            let end = frames.len();
            self.give(0, bytes.len(), true, frames, facts);
            if let Some(frame) = frames.get_mut(end) {
                frame.partial = true;
            }
        }
        self.done();
    }

    /// Memory is short: what there is of an unfinished message is handed on as a part of it. Returns how many bytes are done with.
    pub fn flush(&mut self, bytes: &[u8], frames: &mut Vec<Frame>, facts: &mut Facts) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(piece: usize, message: usize, too_long: TooLong) -> Limits {
        Limits { piece, message, too_long }
    }

    type Messages = Vec<(Vec<u8>, bool)>;

    /// The messages, put together again, of a stream that comes in these pieces; with each whether it is whole.
    fn read(limits: Limits, pieces: &[&[u8]]) -> (Messages, Facts) {
        let (mut framer, mut facts) = (Framer::new(limits), Facts::default());
        let (mut buffer, mut messages, mut open): (Vec<u8>, Messages, Vec<u8>) = Default::default();
        let mut take = |buffer: &[u8], frames: &[Frame], next: &mut u32| {
            for frame in frames {
                open.extend_from_slice(&buffer[frame.start as usize..][..frame.len as usize]);
                assert!(frame.len as usize <= limits.piece.max(64), "{frame:?}");
                assert_eq!(frame.part, if frame.part == 0 { 0 } else { *next }, "parts are numbered from 1");
                *next = if frame.last { 1 } else { *next + 1 };
                if frame.last {
                    messages.push((std::mem::take(&mut open), !frame.partial));
                }
            }
        };
        let mut next = 1;
        for piece in pieces {
            buffer.extend_from_slice(piece);
            let mut found = Vec::new();
            let done = framer.frames(&buffer, &mut found, &mut facts);
            take(&buffer, &found, &mut next);
            buffer.drain(..done);
            assert!(buffer.len() <= limits.piece.max(64) + 32, "{} bytes are kept", buffer.len());
        }
        let mut found = Vec::new();
        framer.finish(&buffer, &mut found, &mut facts);
        take(&buffer, &found, &mut next);
        (messages, facts)
    }

    fn texts(limits: Limits, stream: &[u8]) -> Vec<String> {
        let (messages, _) = read(limits, &[stream]);
        messages
            .into_iter()
            .map(|(bytes, whole)| format!("{}{}", String::from_utf8_lossy(&bytes), if whole { "" } else { " (partial)" }))
            .collect()
    }

    const SPLIT: Limits = Limits { piece: 64, message: 64, too_long: TooLong::Split };

    #[test]
    fn both_framings_are_told_apart_at_each_message() {
        assert_eq!(texts(SPLIT, b"5 <13>a<14>b\n6 <15>cc"), ["<13>a", "<14>b", "<15>cc"]);
        assert_eq!(texts(SPLIT, b"<13>crlf\r\n<13>nul\0<13>lf\n\r\n\n<13>end"), ["<13>crlf", "<13>nul", "<13>lf", "<13>end (partial)"]);
        assert_eq!(texts(SPLIT, b"12 monkeys\n2026-11-26 a\n5\n007 <13>x\n"), ["12 monkeys", "2026-11-26 a", "5", "007 <13>x"]);
        assert_eq!(texts(SPLIT, b"6 <13>a\n6 <13>b\0"), ["<13>a", "<13>b"], "a newline that was counted is no part of the message");
        assert_eq!(texts(SPLIT, b"9 <13>a\nb\nc<13>d\n"), ["<13>a\nb\nc", "<13>d"], "newlines within a counted message are");
        assert_eq!(texts(SPLIT, b"20 <13>cut short"), ["<13>cut short (partial)"]);
    }

    #[test]
    fn a_count_that_can_t_be_true_makes_the_line_a_message_and_is_told() {
        let (messages, facts) = read(SPLIT, &[b"99999999999 <13>a\n5 <13>b"]);
        assert_eq!(messages, [(b"99999999999 <13>a".to_vec(), true), (b"<13>b".to_vec(), true)]);
        assert_eq!(facts, Facts { bad_counts: 1, ..Facts::default() });
    }

    #[test]
    fn what_is_too_long_is_cut_off_once_and_told_to_the_byte() {
        let long = [b"<13>", &[b'x'; 996][..], b"\n<13>next\n1000 <13>", &[b'y'; 996], b"5 <13>z"].concat();
        let (messages, facts) = read(limits(100, 250, TooLong::Truncate), &[&long]);
        let lengths: Vec<_> = messages.iter().map(|(message, _)| message.len()).collect();
        assert_eq!((lengths, facts.cut), (vec![250, 8, 250, 5], (2, 1500)));
        let (messages, facts) = read(limits(100, 250, TooLong::Split), &[&long]);
        let lengths: Vec<_> = messages.iter().map(|(message, _)| message.len()).collect();
        assert_eq!((lengths, facts), (vec![1000, 8, 1000, 5], Facts::default()));
    }

    #[test]
    fn parts_are_cut_between_characters() {
        let text = format!("<13>{}", "ä€😀".repeat(100));
        let mut framer = Framer::new(SPLIT);
        let (mut found, stream) = (Vec::new(), format!("{text}\n"));
        framer.frames(stream.as_bytes(), &mut found, &mut Facts::default());
        assert!(found.len() > 10);
        for frame in &found {
            assert!(str::from_utf8(&stream.as_bytes()[frame.start as usize..][..frame.len as usize]).is_ok(), "{frame:?}");
        }
    }

    #[test]
    fn a_gigabyte_without_a_newline_is_never_kept() {
        let limits = limits(64 << 10, 64 << 10, TooLong::Split);
        let (mut framer, mut facts, mut buffer) = (Framer::new(limits), Facts::default(), Vec::new());
        let (piece, mut bytes) = (vec![b'x'; 100_000], 0);
        let mut found = Vec::new();
        while bytes < 1 << 30 {
            buffer.extend_from_slice(&piece);
            found.clear();
            let done = framer.frames(&buffer, &mut found, &mut facts);
            bytes += found.iter().map(|frame| frame.len as usize).sum::<usize>();
            buffer.drain(..done);
            assert!(buffer.len() <= (64 << 10) + 2);
        }
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_its_messages_are_the_same(
            stream in prop::collection::vec(prop_oneof![
                "<[0-9]{1,3}>[a-zäö\r ]{0,120}\n".prop_map(String::into_bytes),
                "[0-9]{1,3} <?[a-z\n]{0,9}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..9),
                "<13>[a-zä€\n]{0,150}".prop_map(|text| format!("{} {text}", text.len()).into_bytes()),
            ], 0..8).prop_map(|parts| parts.concat()),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            truncate in any::<bool>(),
        ) {
            let limits = limits(64, 100, if truncate { TooLong::Truncate } else { TooLong::Split });
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([0, stream.len()]).collect();
            at.sort_unstable();
            let pieces: Vec<_> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let (messages, facts) = read(limits, &pieces);
            prop_assert_eq!((&messages, facts), (&read(limits, &[&stream]).0, read(limits, &[&stream]).1));
            let kept: usize = messages.iter().map(|(message, _)| message.len()).sum();
            prop_assert!(kept as u64 + facts.cut.1 <= stream.len() as u64, "nothing is made up");
        }
    }
}

//! From a block of a file to events: lines at `\n` or `\r\n`, long lines in parts. Pure, so that it is tested and fuzzed on bytes alone.

use memchr::memchr_iter;

use crate::batch::Event;
use crate::encode::{MAX_EVENTS, raw};

/// Where in the file a block begins, and how it is to be cut.
#[derive(Clone, Copy)]
pub struct Cut<'a> {
    /// The file offset of the block's first byte of data.
    pub offset: u64,
    /// Where the data begins in the block (before it is the tail that was compared).
    pub data: usize,
    /// How many parts of the first line were made before; 0: the data begins a line.
    pub part: u32,
    /// Where that line begins in the file.
    pub line_start: u64,
    /// Events that end at or before this offset are settled already and not made again.
    pub skip_to: u64,
    /// What becomes of a last line without its end.
    pub rest: Rest,
    /// How many bytes fit into one message, see [`crate::source::Outlet::fits`].
    pub fits: &'a dyn Fn(&[u8]) -> usize,
}

/// What becomes of a last line without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It waits for more.
    Wait,
    /// It is longer than a block: what is there goes out as parts.
    Parts,
    /// Nothing more will come: it goes out as partial.
    Ship,
}

/// What was made of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Bytes of data used.
    pub consumed: usize,
    /// As [`Cut::line_start`], for what follows.
    pub line_start: u64,
    /// As [`Cut::part`], for what follows.
    pub part: u32,
    /// Where the first event begins in the file, and the line it belongs to; `None` without events.
    pub first: Option<(u64, u64)>,
}

/// Cuts `block` into `events`; spans refer to the block, [`Event::from`] and [`Event::to`] count from the first event made.
#[must_use]
pub fn split(block: &[u8], cut: &Cut<'_>, events: &mut Vec<Event>) -> Made {
    let data = block.get(cut.data..).unwrap_or_default();
    let mut cutter = Cutter { cut, data, events, at: 0, part: cut.part, line_start: cut.line_start, first: None };
    for end in memchr_iter(b'\n', data) {
        cutter.line(end);
        if cutter.events.len() >= MAX_EVENTS {
            // The rest of the block is read again: very short lines must not make a batch that is many times its block.
            break;
        }
    }
    if cutter.events.len() < MAX_EVENTS {
        cutter.rest();
    }
    Made { consumed: cutter.at, line_start: cutter.line_start, part: cutter.part, first: cutter.first }
}

struct Cutter<'a, 'e> {
    cut: &'a Cut<'a>,
    data: &'a [u8],
    events: &'e mut Vec<Event>,
    /// Data before this is used.
    at: usize,
    part: u32,
    line_start: u64,
    first: Option<(u64, u64)>,
}

impl Cutter<'_, '_> {
    /// A line whose `\n` is at `end`.
    fn line(&mut self, end: usize) {
        let text = self.data.get(self.at..end).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.text(self.at + text.len(), end + 1, false);
        self.begin_line(end + 1);
    }

    /// The bytes from `at` to `end` are the (rest of the) line's text; its events end at `next`.
    fn text(&mut self, end: usize, next: usize, partial: bool) {
        loop {
            let text = self.data.get(self.at..end).unwrap_or_default();
            let len = (self.cut.fits)(text);
            let last = len >= text.len();
            let to = if last { next } else { self.at + len };
            let mut event = (self.at, text.len().min(len), to);
            if self.part == 0 && last {
                self.push(event, None, partial);
                return;
            }
            event.1 = if last { text.len() } else { len };
            self.part += 1;
            self.push(event, Some(last), partial && last);
            if last {
                return;
            }
            self.at += len;
        }
    }

    fn push(&mut self, (start, len, to): (usize, usize, usize), part: Option<bool>, partial: bool) {
        let absolute = |at: usize| self.cut.offset + at as u64;
        if absolute(to) <= self.cut.skip_to {
            return;
        }
        let line_start = self.line_start;
        let (base, _) = *self.first.get_or_insert_with(|| (absolute(start), line_start));
        let relative = |at: usize| u32::try_from(absolute(at) - base).unwrap_or(u32::MAX);
        let span = u32::try_from(self.cut.data + start).unwrap_or(u32::MAX);
        let mut event = Event::whole(span, u32::try_from(len).unwrap_or(u32::MAX), relative(start), relative(to));
        if let Some(last) = part {
            event = event.as_part(self.part, last);
        }
        self.events.push(if partial { event.as_partial() } else { event });
    }

    fn begin_line(&mut self, at: usize) {
        self.at = at;
        self.part = 0;
        self.line_start = self.cut.offset + at as u64;
    }

    /// What stands behind the last line end.
    fn rest(&mut self) {
        let end = self.data.len();
        let is_whole_block = self.at == 0 || self.part > 0;
        match self.cut.rest {
            Rest::Ship if self.at < end || self.part > 0 => {
                self.text(end, end, true);
                self.begin_line(end);
            }
            // Parts are cut by blocks, so that reading the same bytes again makes the same parts; only a line that fills its block is cut.
            Rest::Parts if is_whole_block => {
                let text = self.data.get(self.at..).unwrap_or_default();
                let stop = self.at + finished(text);
                while self.at < stop {
                    let len = (self.cut.fits)(self.data.get(self.at..stop).unwrap_or_default());
                    self.part += 1;
                    self.push((self.at, len, self.at + len), Some(false), false);
                    self.at += len;
                }
            }
            _ => {}
        }
    }
}

/// How much of the text surely stands alone: a `\r` at its end, or the beginning of a character, may belong together with what follows.
fn finished(text: &[u8]) -> usize {
    if text.last() == Some(&b'\r') { text.len() - 1 } else { raw::boundary(text, text.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads `file` block by block as the source does, and gives each line's text, joined from its parts, with whether it is partial.
    fn read(file: &[u8], block: usize, room: usize, finish: bool) -> Vec<(Vec<u8>, bool)> {
        let fits = |bytes: &[u8]| bytes.len().min(room);
        let (mut offset, mut part, mut line_start) = (0_usize, 0, 0);
        let (mut lines, mut open): (Vec<(Vec<u8>, bool)>, Vec<u8>) = (Vec::new(), Vec::new());
        let mut limit = block;
        loop {
            let end = (offset + limit).min(file.len());
            let full = end - offset == limit;
            let rest = match (full, end == file.len() && finish) {
                (true, _) => Rest::Parts,
                (false, true) => Rest::Ship,
                (false, false) => Rest::Wait,
            };
            let mut events = Vec::new();
            let cut = Cut { offset: offset as u64, data: 0, part, line_start, skip_to: 0, rest, fits: &fits };
            let data = &file[offset..end];
            let made = split(data, &cut, &mut events);
            let mut to = made.first.map_or(0, |_| 0);
            for event in &events {
                assert!(event.to > to || (event.to == to && event.len == 0), "ends grow");
                assert!(event.len as usize <= room);
                to = event.to;
                open.extend_from_slice(&data[event.start as usize..][..event.len as usize]);
                match event.part() {
                    None | Some((_, true)) => lines.push((std::mem::take(&mut open), event.partial())),
                    Some((_, false)) => {}
                }
            }
            (part, line_start) = (made.part, made.line_start);
            offset += made.consumed;
            if made.consumed == 0 {
                if full && limit < file.len() + 10 {
                    limit *= 2;
                    continue;
                }
                return lines;
            }
            limit = block;
        }
    }

    proptest! {
        #[test]
        fn every_byte_but_line_ends_arrives_in_order(lines in prop::collection::vec("[a-zäé\r€😀]{0,30}", 0..20), block in 8_usize..64, room in 4_usize..50) {
            let file = lines.iter().fold(String::new(), |file, line| file + line + "\n");
            let wanted: Vec<_> = file.lines().map(|line| (line.as_bytes().to_vec(), false)).collect();
            prop_assert_eq!(read(file.as_bytes(), block, room, false), wanted);
        }

        #[test]
        fn any_bytes_are_split_as_a_naive_splitter_does(file in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200), block in 8_usize..64) {
            let mut pieces: Vec<&[u8]> = file.split(|byte| *byte == b'\n').collect();
            let rest = pieces.pop().unwrap_or_default();
            let mut wanted: Vec<_> = pieces.into_iter().map(|line| (line.strip_suffix(b"\r").unwrap_or(line).to_vec(), false)).collect();
            if !rest.is_empty() {
                wanted.push((rest.to_vec(), true));
            }
            prop_assert_eq!(read(&file, block, 1000, true), wanted);
        }
    }

    #[test]
    fn what_is_settled_is_not_made_again_but_counted_in_the_position() {
        let mut events = Vec::new();
        let fits = |bytes: &[u8]| bytes.len();
        let cut = Cut { offset: 100, data: 0, part: 0, line_start: 100, skip_to: 104, rest: Rest::Wait, fits: &fits };
        let made = split(b"a\nb\nc\nd", &cut, &mut events);
        assert_eq!(made, Made { consumed: 6, line_start: 106, part: 0, first: Some((104, 104)) });
        assert_eq!(events, vec![Event::whole(4, 1, 0, 2)]);
    }

    #[test]
    fn empty_lines_are_events() {
        let mut events = Vec::new();
        let fits = |bytes: &[u8]| bytes.len();
        let cut = Cut { offset: 0, data: 0, part: 0, line_start: 0, skip_to: 0, rest: Rest::Wait, fits: &fits };
        let made = split(b"\n\r\n\n", &cut, &mut events);
        assert_eq!(made.consumed, 4);
        assert_eq!(events.iter().map(|event| (event.len, event.to)).collect::<Vec<_>>(), vec![(0, 1), (0, 3), (0, 4)]);
    }
}

//! From a block of a file to events: lines at `\n` or `\r\n`, long lines in parts, lines that belong together as one. Pure, so that it is
//! tested and fuzzed on bytes alone.

mod joined;

use memchr::memchr_iter;

pub use joined::Joining;
use joined::Open;

use super::charset::Charset;
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
    /// How lines are joined; `None`: each is an event.
    pub joining: Option<Joining<'a>>,
    /// What the bytes are; `None`: what they are does not matter.
    pub charset: Option<Charset>,
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
    /// How many lines were joined into others, those of events included that are settled already.
    pub merged: u64,
    /// Whole lines are left that may be joined with what follows.
    pub open: bool,
}

/// Cuts `block` into `events`; spans refer to the block, [`Event::from`] and [`Event::to`] count from the first event made.
#[must_use]
pub fn split(block: &[u8], cut: &Cut<'_>, events: &mut Vec<Event>) -> Made {
    let data = block.get(cut.data..).unwrap_or_default();
    let (part, line_start) = (cut.part, cut.line_start);
    let mut cutter = Cutter { cut, data, events, at: 0, part, line_start, first: None, open: None, merged: 0 };
    match cut.charset {
        None => cutter.lines(memchr_iter(b'\n', data)),
        Some(charset) => cutter.lines(charset.line_ends(data, cut.offset)),
    }
    if cutter.events.len() < MAX_EVENTS {
        cutter.rest();
    }
    let Cutter { at, line_start, part, first, merged, open, .. } = cutter;
    Made { consumed: at, line_start, part, first, merged, open: open.is_some() }
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
    open: Option<Open>,
    merged: u64,
}

impl Cutter<'_, '_> {
    /// The lines whose `\n` are at these places.
    fn lines(&mut self, ends: impl Iterator<Item = usize>) {
        for end in ends {
            match &self.cut.joining {
                None => self.line(end),
                Some(joining) => self.joined_line(joining, end),
            }
            if self.events.len() >= MAX_EVENTS {
                // The rest of the block is read again: very short lines must not make a batch that is many times its block.
                break;
            }
        }
    }

    /// A line whose `\n` is at `end`.
    fn line(&mut self, end: usize) {
        let (text, next) = self.text_of(self.at, end);
        self.text(text, next, false);
        self.begin_line(next);
    }

    /// Where the text ends of the line from `start` whose `\n` is at `end`, and where the next one begins.
    fn text_of(&self, start: usize, end: usize) -> (usize, usize) {
        let text = self.data.get(start..end).unwrap_or_default();
        match self.cut.charset {
            None => (start + text.strip_suffix(b"\r").unwrap_or(text).len(), end + 1),
            Some(charset) => (start + charset.without_return(text).len(), end + charset.unit()),
        }
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
        if let Some(joining) = &self.cut.joining {
            self.joined_rest(joining);
            if self.open.is_some() {
                return;
            }
        }
        let end = self.data.len();
        let is_mark = |charset: Charset| self.cut.offset + self.at as u64 == 0 && charset.is_mark(self.data);
        if self.cut.rest == Rest::Ship && self.cut.charset.is_some_and(is_mark) {
            return self.begin_line(end);
        }
        let is_whole_block = self.at == 0 || self.part > 0;
        match self.cut.rest {
            Rest::Ship if self.at < end || self.part > 0 => {
                self.text(end, end, true);
                self.begin_line(end);
            }
            // Parts are cut by blocks, so that reading the same bytes again makes the same parts; only a line that fills its block is cut.
            Rest::Parts if is_whole_block => {
                let text = self.data.get(self.at..).unwrap_or_default();
                let stop = self.at + self.cut.charset.map_or_else(|| finished(text), |charset| charset.finished(text));
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
mod tests;

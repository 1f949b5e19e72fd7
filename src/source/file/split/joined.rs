//! Lines that belong together become one event. Apart from the cutting of lines since only sources with `multiline` have it.

use super::{Cutter, Rest};
use crate::source::multiline::{Multiline, State};

/// How the lines of a block are joined.
#[derive(Clone, Copy, Debug)]
pub struct Joining<'a> {
    /// Which lines belong together, and its limits.
    pub lines: &'a Multiline,
    /// The time for more lines is over: what is open is complete.
    pub finish: bool,
    /// A line that begins here begins an event: up to here all was settled before.
    pub settled: u64,
}

/// Whole lines that may be followed by more of their event, from [`Cutter::at`] on.
pub(super) struct Open {
    lines: usize,
    state: State,
    /// Where the text of the last one ends.
    text: usize,
    /// Where the next line begins.
    next: usize,
}

impl Cutter<'_, '_> {
    /// A line whose `\n` is at `end`.
    pub(super) fn joined_line(&mut self, joining: &Joining<'_>, end: usize) {
        if self.part > 0 {
            // The end of a line that was longer than a block stands alone.
            return self.line(end);
        }
        let start = self.open.as_ref().map_or(self.at, |open| open.next);
        let (text, next) = self.text_of(start, end);
        let state = self.joins(joining, start, (text, next));
        if state.is_none() {
            self.close();
        }
        let lines = self.open.as_ref().map_or(0, |open| open.lines) + 1;
        let state = state.unwrap_or_else(|| self.seen(start, text, |line| joining.lines.lines.begin(line)));
        self.open = Some(Open { lines, state, text, next });
        if state.is_done() || lines >= joining.lines.max_lines || next - self.at >= joining.lines.max_size {
            self.close();
        }
    }

    /// What is known after the line from `start` if it belongs to what is open.
    fn joins(&self, joining: &Joining<'_>, start: usize, (text, next): (usize, usize)) -> Option<State> {
        let open = self.open.as_ref()?;
        let fits = next - self.at <= joining.lines.max_size && self.cut.offset + start as u64 != joining.settled;
        self.seen(start, text, |line| joining.lines.lines.join(open.state, line)).filter(|_| fits)
    }

    /// What `look` sees in a line: its text in UTF-8, where its encoding is known.
    fn seen<T>(&self, start: usize, text: usize, look: impl FnOnce(&[u8]) -> T) -> T {
        let line = self.data.get(start..text).unwrap_or_default();
        let Some(charset) = self.cut.charset else { return look(line) };
        let mut decoded = String::new();
        charset.line(line, self.cut.offset + start as u64 == 0, &mut decoded);
        look(decoded.as_bytes())
    }

    /// The event that is open is complete.
    fn close(&mut self) {
        if let Some(Open { lines, text, next, .. }) = self.open.take() {
            self.text(text, next, false);
            self.merged += lines as u64 - 1;
            self.begin_line(next);
        }
    }

    /// What becomes of what is open at the end of the block.
    pub(super) fn joined_rest(&mut self, joining: &Joining<'_>) {
        let Some(open) = &self.open else { return };
        let (end, next, lines) = (self.data.len(), open.next, open.lines);
        if self.cut.rest == Rest::Ship && next < end && self.joins(joining, next, (end, end)).is_some() {
            self.open = None;
            self.text(end, end, true);
            self.merged += lines as u64;
            self.begin_line(end);
        } else if joining.finish || self.cut.rest == Rest::Ship || end - self.at > joining.lines.max_size {
            self.close();
        }
    }
}

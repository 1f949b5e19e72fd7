//! The encoding of a source's files, where it is not to be left as it is: where lines end in it, where they may be cut, and what they are in UTF-8.
//! Pure; positions stay offsets of the file's own bytes.

#[cfg(test)]
mod tests;

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_16BE, UTF_16LE};
use memchr::memchr_iter;

use crate::batch::Event;

/// U+FEFF in UTF-8: the mark that files of some programs begin with.
const MARK: &str = "\u{FEFF}";
/// Text that is looked at first to see how much of a line fits into a message, bytes; then twice as much, and so on.
const WINDOW: usize = 4 << 10;
/// What any text is at most as long as: no message grows more by its bytes than by these.
const WORST: [u8; 3 * WINDOW] = [0; 3 * WINDOW];

/// `encoding` of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    encoding: &'static Encoding,
    /// The first two bytes of each file say which of two it is.
    by_mark: bool,
}

impl Named {
    /// The encoding of this label (<https://encoding.spec.whatwg.org/#names-and-labels>), where files can be read in it: none whose bytes mean
    /// something else behind others far before them. `utf-16` is what a file's mark says, without one little-endian.
    #[must_use]
    pub fn of(label: &str) -> Option<Named> {
        let encoding = Encoding::for_label_no_replacement(label.as_bytes())?;
        let by_mark = label.trim().eq_ignore_ascii_case("utf-16");
        let splits = encoding.is_ascii_compatible() || encoding == UTF_16LE || encoding == UTF_16BE;
        splits.then_some(Named { encoding, by_mark })
    }

    /// Whether the beginning of a file tells which it is.
    #[must_use]
    pub fn is_by_mark(self) -> bool {
        self.by_mark
    }

    /// The encoding of a file with these first bytes.
    #[must_use]
    pub fn of_file(self, head: &[u8]) -> Charset {
        Charset { encoding: if self.by_mark && head.starts_with(b"\xFE\xFF") { UTF_16BE } else { self.encoding } }
    }

    /// How many bytes the smallest piece of text has.
    #[must_use]
    pub fn unit(self) -> usize {
        Charset { encoding: self.encoding }.unit()
    }
}

/// The encoding of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset {
    encoding: &'static Encoding,
}

impl Charset {
    /// How many bytes the smallest piece of text has; they are aligned in the file.
    #[must_use]
    pub fn unit(self) -> usize {
        if self.is_wide() { 2 } else { 1 }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.encoding.name()
    }

    fn is_wide(self) -> bool {
        self.encoding == UTF_16LE || self.encoding == UTF_16BE
    }

    /// Where the `\n` of each line begins in `data`, which stands at `offset` in its file. In no encoding but UTF-16 is that byte part of anything
    /// else.
    pub fn line_ends(self, data: &[u8], offset: u64) -> impl Iterator<Item = usize> {
        let (wide, little) = (self.is_wide(), self.encoding == UTF_16LE);
        memchr_iter(b'\n', data).filter_map(move |at| {
            let low = if !wide || little { at } else { at.checked_sub(1)? };
            let aligned = !wide || (offset + low as u64).is_multiple_of(2);
            let high = if little { at + 1 } else { low };
            (aligned && (!wide || data.get(high) == Some(&0))).then_some(low)
        })
    }

    /// The text without a `\r` at its end.
    #[must_use]
    pub fn without_return(self, text: &[u8]) -> &[u8] {
        let end: &[u8] = match (self.is_wide(), self.encoding == UTF_16LE) {
            (false, _) => b"\r",
            (true, true) => b"\r\0",
            (true, false) => b"\0\r",
        };
        text.strip_suffix(end).filter(|text| text.len().is_multiple_of(self.unit())).unwrap_or(text)
    }

    /// How much of the text surely stands alone: a `\r` at its end, or the beginning of a character, may belong together with what follows.
    #[must_use]
    pub fn finished(self, text: &[u8]) -> usize {
        let whole = text.get(..text.len() / self.unit() * self.unit()).unwrap_or_default();
        let whole = self.without_return(whole);
        if self.is_wide() {
            let high = whole.get(whole.len().saturating_sub(if self.encoding == UTF_16LE { 1 } else { 2 }));
            // The first half of a character of four bytes.
            return whole.len() - if high.is_some_and(|high| (0xD8..0xDC).contains(high)) { 2 } else { 0 };
        }
        if self.encoding.is_single_byte() {
            return whole.len();
        }
        // Such a byte is never the second one of a character; from there on byte by byte.
        let safe = whole.iter().rposition(|byte| *byte < 0x30).map_or(0, |at| at + 1);
        let (mut decoder, mut end) = (self.decoder(), safe);
        let mut room = [0; 16];
        for (at, byte) in whole.iter().enumerate().skip(safe) {
            let (_, _, written, _) = decoder.decode_to_utf8(&[*byte], &mut room, false);
            if written > 0 {
                end = at + 1;
            }
        }
        end
    }

    /// How many bytes of the text fit into one message, of whose text `fits` tells that in UTF-8; never 0 for bytes that are there.
    #[must_use]
    pub fn fits(self, text: &[u8], fits: &dyn Fn(&[u8]) -> usize) -> usize {
        if WORST.get(..3 * text.len()).is_some_and(|worst| fits(worst) == worst.len()) {
            return text.len();
        }
        let mut window = WINDOW;
        let mut decoded = String::new();
        loop {
            let part = text.get(..window).unwrap_or(text);
            decoded.clear();
            self.append(part, &mut decoded, part.len() == text.len());
            let room = fits(decoded.as_bytes());
            if room < decoded.len() {
                return self.up_to(text, room);
            }
            if part.len() == text.len() {
                return text.len();
            }
            window *= 2;
        }
    }

    /// How many bytes of the text come to at most `room` bytes of UTF-8; at least its first character.
    fn up_to(self, text: &[u8], room: usize) -> usize {
        let mut out = vec![0; room.max(16)];
        let (_, read, written, _) = self.decoder().decode_to_utf8(text, &mut out, true);
        if read > 0 && written <= room {
            return read;
        }
        // Hardly any room at all: one character.
        let (mut decoder, mut small) = (self.decoder(), [0; 16]);
        let first = text.iter().position(|byte| decoder.decode_to_utf8(&[*byte], &mut small, false).2 > 0);
        first.map_or(text.len(), |at| at + 1)
    }

    /// Whether a file of these bytes holds nothing but the mark of its encoding.
    #[must_use]
    pub fn is_mark(self, bytes: &[u8]) -> bool {
        let mut text = String::new();
        bytes.len() <= MARK.len() && !self.decode(bytes, &mut text) && text == MARK
    }

    fn decoder(self) -> Decoder {
        self.encoding.new_decoder_without_bom_handling()
    }

    /// Appends the text in UTF-8; what is no character becomes U+FFFD, and then it returns true.
    pub fn decode(self, text: &[u8], out: &mut String) -> bool {
        self.append(text, out, true)
    }

    fn append(self, text: &[u8], out: &mut String, last: bool) -> bool {
        let mut decoder = self.decoder();
        out.reserve(decoder.max_utf8_buffer_length(text.len()).unwrap_or(text.len()));
        let (mut rest, mut replaced) = (text, false);
        loop {
            let (result, read, some) = decoder.decode_to_string(rest, out, last);
            replaced |= some;
            rest = rest.get(read..).unwrap_or_default();
            match result {
                CoderResult::InputEmpty => return replaced,
                CoderResult::OutputFull => out.reserve(64 + rest.len()),
            }
        }
    }

    /// A line as patterns look at it: in UTF-8, without the mark where it is the first one of its file.
    pub fn line(self, text: &[u8], is_first: bool, out: &mut String) {
        out.clear();
        self.append(text, out, true);
        if is_first && out.starts_with(MARK) {
            out.drain(..MARK.len());
        }
    }

    /// The events of a block in UTF-8, in a buffer of their own; `base` is where in its file the first one begins. Returns the buffer, and in how
    /// many events something was no character.
    #[must_use]
    pub fn decode_events(self, block: &[u8], base: u64, events: &mut [Event]) -> (Vec<u8>, u64) {
        let mut out = String::with_capacity(block.len());
        let mut replaced = 0;
        for event in events {
            let start = event.start as usize;
            let begin = out.len();
            replaced += u64::from(self.decode(block.get(start..start + event.len as usize).unwrap_or_default(), &mut out));
            let marked = base + u64::from(event.from) == 0 && out.get(begin..).is_some_and(|text| text.starts_with(MARK));
            let begin = begin + if marked { MARK.len() } else { 0 };
            let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            *event = event.moved(narrow(begin), narrow(out.len() - begin));
        }
        out.shrink_to_fit();
        (out.into_bytes(), replaced)
    }
}

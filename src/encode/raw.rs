//! The raw format: an event's bytes are the message. What is left to decide: where a long line is cut, and the headers that its parts bear.

use crate::batch::{Event, StreamId};

/// The headers of one part of a long line: `logferry-id` (the event id, as in JSON), `logferry-part` (from 1), `logferry-last` (`true` or
/// `false`). `None` for a whole event, which bears none. `line_start` is where the line begins in its stream.
#[must_use]
pub fn part_headers(stream: StreamId, line_start: u64, event: &Event) -> Option<[(&'static str, String); 3]> {
    let (part, last) = event.part()?;
    Some([
        ("logferry-id", format!("{stream}:{line_start}:{part}")),
        ("logferry-part", part.to_string()),
        ("logferry-last", last.to_string()),
    ])
}

/// How many of `bytes` fit into `limit` bytes: all, or the longest prefix that does not cut a UTF-8 character. Never 0 for bytes that are
/// there.
#[must_use]
pub fn fits(bytes: &[u8], limit: usize) -> usize {
    if bytes.len() <= limit {
        return bytes.len();
    }
    match boundary(bytes, limit) {
        0 => first_character(bytes),
        cut => cut,
    }
}

/// The last place at or before `at` where a cut leaves no UTF-8 character in two; `at` itself where the bytes are not UTF-8.
#[must_use]
pub fn boundary(bytes: &[u8], at: usize) -> usize {
    let before = bytes.get(..at).unwrap_or(bytes);
    for back in 1..=before.len().min(3) {
        match before.get(before.len() - back) {
            Some(0x80..=0xBF) => {}
            Some(&lead) if width(lead) > back => return before.len() - back,
            _ => break,
        }
    }
    before.len()
}

/// How many bytes a character that begins with this byte has.
fn width(lead: u8) -> usize {
    match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    }
}

/// The length of the first character, or of the first run that is none.
pub(crate) fn first_character(bytes: &[u8]) -> usize {
    let head = bytes.get(..4).unwrap_or(bytes);
    let chunk = head.utf8_chunks().next();
    chunk.map_or(0, |chunk| chunk.valid().chars().next().map_or(chunk.invalid().len(), char::len_utf8))
}

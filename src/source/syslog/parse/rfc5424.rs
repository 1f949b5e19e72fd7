//! RFC 5424 behind priority and version: header, structured data, message. Pure.

use super::{Context, Parsed, present, time, word};

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Takes apart what follows the version; `None` if that is no RFC 5424 (its time is none), so that it is tried as RFC 3164.
pub(super) fn parse<'a>(rest: &'a [u8], context: &Context) -> Option<Parsed<'a>> {
    let (stamp, rest) = word(rest)?;
    let time = if stamp == b"-" {
        None
    } else {
        let (time, left) = time::rfc3339(stamp, context)?;
        if !left.is_empty() {
            return None;
        }
        Some(time)
    };
    let mut parsed = Parsed { time, message: rest, ..Parsed::default() };
    let Some((hostname, rest)) = word(rest) else { return Some(unfinished(&parsed)) };
    parsed.hostname = present(hostname);
    let Some((app, rest)) = word(rest) else { return Some(unfinished(&Parsed { message: rest, ..parsed })) };
    parsed.app = present(app);
    let Some((procid, rest)) = word(rest) else { return Some(unfinished(&Parsed { message: rest, ..parsed })) };
    parsed.procid = present(procid);
    let (msgid, rest) = match word(rest) {
        Some(found) => found,
        // The header is all there is.
        None => (rest, &[][..]),
    };
    parsed.msgid = present(msgid);
    let (data, message) = match rest {
        [b'-'] | [] => (None, &[][..]),
        [b'-', b' ', message @ ..] => (None, message),
        [b'[', ..] => match data_end(rest) {
            Some(end) => (rest.get(..end), rest.get(end..).map(|after| after.strip_prefix(b" ").unwrap_or(after)).unwrap_or_default()),
            None => return Some(Parsed { message: rest, error: Some("structured data that is not sound"), ..parsed }),
        },
        _ => return Some(Parsed { message: rest, error: Some("no structured data where it should be"), ..parsed }),
    };
    parsed.structured_data = data;
    parsed.message = message.strip_prefix(BOM).unwrap_or(message);
    Some(parsed)
}

fn unfinished<'a>(parsed: &Parsed<'a>) -> Parsed<'a> {
    Parsed { error: Some("the header ends too early"), ..parsed.clone() }
}

/// Where structured data that begins here ends; `None` if it is not sound.
fn data_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while rest.starts_with(b"[") {
        rest = element(rest, &mut |_, _| {})?.1;
    }
    // Something else than a space right behind it: not where a message begins.
    matches!(rest, [] | [b' ', ..]).then(|| bytes.len() - rest.len())
}

/// Calls `each` with the id of every element, and with name and value (escapes as they stand) of each of its parameters: first `(id, None)`, then
/// `(name, Some(value))`.
pub fn elements<'a>(data: &'a [u8], mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) {
    let mut rest = data;
    while rest.starts_with(b"[") {
        let Some((_, behind)) = element(rest, &mut each) else { return };
        rest = behind;
    }
}

/// One element: its id, and what is behind it.
fn element<'a>(bytes: &'a [u8], each: &mut impl FnMut(&'a [u8], Option<&'a [u8]>)) -> Option<(&'a [u8], &'a [u8])> {
    let rest = bytes.strip_prefix(b"[")?;
    let len = name_len(rest)?;
    let (id, mut rest) = rest.split_at(len);
    each(id, None);
    loop {
        match rest {
            [b']', behind @ ..] => return Some((id, behind)),
            [b' ', more @ ..] => {
                // Some senders leave a space in front of the bracket.
                if let [b']', behind @ ..] = more {
                    return Some((id, behind));
                }
                let len = name_len(more)?;
                let (name, more) = more.split_at(len);
                let value = more.strip_prefix(b"=\"")?;
                let end = value_end(value)?;
                each(name, Some(value.get(..end)?));
                rest = value.get(end + 1..)?;
            }
            _ => return None,
        }
    }
}

/// The length of a name: printable, without `=`, space, `]` and `"`; none is empty.
fn name_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.iter().take_while(|byte| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"')).count();
    (len > 0).then_some(len)
}

/// Where a value ends: at the first quote that no backslash stands before.
fn value_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes.get(at)? {
            b'"' => return Some(at),
            _ => at += 2,
        }
    }
}

/// The value without its escapes (`\"`, `\\`, `\]`), in pieces; any other backslash stands for itself.
pub fn unescaped(value: &[u8], mut each: impl FnMut(&[u8])) {
    let (mut from, mut at) = (0, 0);
    while let Some(found) = value.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        if matches!(value.get(at + 1), Some(b'"' | b'\\' | b']')) {
            each(value.get(from..at).unwrap_or_default());
            from = at + 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    each(value.get(from..).unwrap_or_default());
}

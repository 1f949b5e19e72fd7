//! `key=value key="a \"quoted\" value"`: each pair becomes a field. Words without a `=` are no pairs; they are found in the message. Pure.

use memchr::{memchr, memchr2};

use crate::rules::fields::{Fields, Value};

/// Puts the pairs; `None`: there is none, or there are more than there may be fields. `text` is a buffer.
pub fn read(message: &[u8], fields: &mut Fields, text: &mut Vec<u8>) -> Option<()> {
    let mut rest = message.trim_ascii_start();
    let mut any = false;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'=' || byte.is_ascii_whitespace()).unwrap_or(rest.len());
        let (name, behind) = rest.split_at_checked(end)?;
        let Some(behind) = behind.strip_prefix(b"=").filter(|_| is_name(name)) else {
            // A word, or a value of nothing: up to the next space.
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            rest = rest.get(end..)?.trim_ascii_start();
            continue;
        };
        let (value, behind) = value(behind, text);
        if !fields.put(name, Value::Text(value)) {
            return None;
        }
        any = true;
        rest = behind.trim_ascii_start();
    }
    any.then_some(())
}

/// What may stand in front of a `=`: no quotes, so that a `=` inside of a sentence in quotes makes no field.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && memchr(b'"', name).is_none()
}

/// A value and what is behind it. A quote that is never closed is part of the value.
fn value<'m: 't, 't>(rest: &'m [u8], text: &'t mut Vec<u8>) -> (&'t [u8], &'m [u8]) {
    if let Some(inner) = rest.strip_prefix(b"\"")
        && let Some(behind) = quoted(inner, text)
    {
        return (text, behind);
    }
    rest.split_at(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len()))
}

/// What is in front of the closing quote goes to `text`, less its backslashes; returns what is behind it.
fn quoted<'m>(inner: &'m [u8], text: &mut Vec<u8>) -> Option<&'m [u8]> {
    text.clear();
    let mut rest = inner;
    loop {
        let at = memchr2(b'"', b'\\', rest)?;
        text.extend_from_slice(rest.get(..at)?);
        if rest.get(at) == Some(&b'"') {
            return rest.get(at + 1..);
        }
        text.push(match rest.get(at + 1)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            other => *other,
        });
        rest = rest.get(at + 2..)?;
    }
}

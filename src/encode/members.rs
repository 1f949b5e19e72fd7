//! Reads JSON objects that logferry has written itself, member by member, as spans of their bytes. Pure. Apart because the formats that have names of
//! their own, [`super::ecs`] and [`super::otlp`], are made from the message that [`super::json`] writes: so every kind of source, and a gap, has one
//! writer, and these formats cost one more pass over it.

use memchr::memchr2;

/// A value, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// What is between the quotes, escaped.
    Text(&'a [u8]),
    /// A number, `true`, `false` or `null`.
    Plain(&'a [u8]),
    /// An object with its braces.
    Object(&'a [u8]),
    /// An array with its brackets.
    Array(&'a [u8]),
}

impl<'a> Value<'a> {
    /// A value that stands alone.
    pub(crate) fn of(json: &'a [u8]) -> Option<Value<'a>> {
        value(json).map(|(value, _)| value)
    }
}

/// The members of an object with its braces, each value as it is written, a string's quotes included.
pub(crate) fn whole_members(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut members = Members::of(object);
    std::iter::from_fn(move || {
        let before = members.0;
        let (name, _) = members.next()?;
        let written = before.get(..before.len() - members.0.len())?;
        Some((name, written.get(usize::from(written.starts_with(b",")) + name.len() + b"\"\":".len()..)?))
    })
}

/// The elements of an array with its brackets, each as it is written.
pub(crate) fn whole_elements(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut elements = Elements::of(array);
    std::iter::from_fn(move || {
        let before = elements.0;
        elements.next()?;
        let written = before.get(..before.len() - elements.0.len())?;
        Some(written.strip_prefix(b",").unwrap_or(written))
    })
}

/// The members of an object, in their order: the name between its quotes, escaped, and the value. Ends early where the bytes are no such object.
#[derive(Clone, Debug)]
pub(crate) struct Members<'a>(&'a [u8]);

impl<'a> Members<'a> {
    /// Of this object with its braces.
    pub(crate) fn of(object: &'a [u8]) -> Members<'a> {
        Members(object.strip_prefix(b"{").unwrap_or_default())
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.strip_prefix(b",").unwrap_or(self.0);
        let (name, rest) = text(rest.strip_prefix(b"\"")?)?;
        let (value, rest) = value(rest.strip_prefix(b":")?)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// The elements of an array, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Of this array with its brackets.
    pub(crate) fn of(array: &'a [u8]) -> Elements<'a> {
        Elements(array.strip_prefix(b"[").unwrap_or_default())
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let rest = self.0.strip_prefix(b",").unwrap_or(self.0);
        let (value, rest) = value(rest)?;
        self.0 = rest;
        Some(value)
    }
}

/// The value at the beginning, and what is behind it.
fn value(bytes: &[u8]) -> Option<(Value<'_>, &[u8])> {
    match bytes.first()? {
        b'"' => text(bytes.get(1..)?).map(|(text, rest)| (Value::Text(text), rest)),
        b'{' => bytes.split_at_checked(nested(bytes)?).map(|(object, rest)| (Value::Object(object), rest)),
        b'[' => bytes.split_at_checked(nested(bytes)?).map(|(array, rest)| (Value::Array(array), rest)),
        b',' | b'}' | b']' => None,
        _ => {
            let end = bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']')).unwrap_or(bytes.len());
            bytes.split_at_checked(end).map(|(plain, rest)| (Value::Plain(plain), rest))
        }
    }
}

/// What is before the closing quote, and what is behind it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let hit = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(hit) == Some(&b'"') {
            return Some((bytes.get(..hit)?, bytes.get(hit + 1..)?));
        }
        at = hit + 2;
    }
}

/// How long the object or array at the beginning is.
fn nested(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match bytes.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            b'"' => at = bytes.len() - text(bytes.get(at + 1..)?)?.1.len() - 1,
            _ => {}
        }
        at += 1;
    }
}

/// Writes the text that an escaped one stands for (RFC 8259, section 7).
pub(crate) fn unescape(out: &mut Vec<u8>, escaped: &[u8]) {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = rest.get(at + 1..).unwrap_or_default();
        let Some((letter, behind)) = rest.split_first() else { return };
        rest = behind;
        match letter {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => rest = code_unit(out, rest),
            other => out.push(*other),
        }
    }
    out.extend_from_slice(rest);
}

/// Writes the character of the four digits at the beginning, with its second half where it has one; returns what is behind.
fn code_unit<'a>(out: &mut Vec<u8>, rest: &'a [u8]) -> &'a [u8] {
    let unit = |bytes: &[u8]| bytes.get(..4).and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    let Some(first) = unit(rest) else { return rest };
    let mut behind = rest.get(4..).unwrap_or_default();
    let mut code = first;
    if (0xD800..0xDC00).contains(&first)
        && let Some(next) = behind.strip_prefix(b"\\u")
        && let Some(second) = unit(next).filter(|second| (0xDC00..0xE000).contains(second))
    {
        code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        behind = next.get(4..).unwrap_or_default();
    }
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    behind
}

/// The keys of docs/schema.json, in its order.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    V, Timestamp, ObservedTimestamp, Host, Source, Type, EventId, Severity, Message, MessageBase64, Part, Last, Partial, ParseError, Of, Reason, Path,
    Offset, Hostname, Peer, Transport, Facility, App, Procid, Msgid, StructuredData, Unit, Identifier, Priority, Pid, Uid, BootId, Cursor, Seqnum,
    Journal, Place, Stream, From, To, Events, Bytes, Unknown, AtLeast, AtMost, FirstTime, LastTime, Number, Fields, Labels,
}

/// Each key with its name.
#[rustfmt::skip]
pub(super) const KEYS: [(Key, &str); 49] = {
    use Key as K;
    [
        (K::V, "v"), (K::Timestamp, "timestamp"), (K::ObservedTimestamp, "observed_timestamp"), (K::Host, "host"), (K::Source, "source"),
        (K::Type, "type"), (K::EventId, "event_id"), (K::Severity, "severity"), (K::Message, "message"), (K::MessageBase64, "message_base64"),
        (K::Part, "part"), (K::Last, "last"), (K::Partial, "partial"), (K::ParseError, "parse_error"), (K::Of, "of"), (K::Reason, "reason"),
        (K::Path, "path"), (K::Offset, "offset"), (K::Hostname, "hostname"), (K::Peer, "peer"), (K::Transport, "transport"),
        (K::Facility, "facility"), (K::App, "app"), (K::Procid, "procid"), (K::Msgid, "msgid"), (K::StructuredData, "structured_data"),
        (K::Unit, "unit"), (K::Identifier, "identifier"), (K::Priority, "priority"), (K::Pid, "pid"), (K::Uid, "uid"), (K::BootId, "boot_id"),
        (K::Cursor, "cursor"), (K::Seqnum, "seqnum"), (K::Journal, "journal"), (K::Place, "place"), (K::Stream, "stream"), (K::From, "from"),
        (K::To, "to"), (K::Events, "events"), (K::Bytes, "bytes"), (K::Unknown, "unknown"), (K::AtLeast, "at_least"), (K::AtMost, "at_most"),
        (K::FirstTime, "first_time"), (K::LastTime, "last_time"), (K::Number, "number"), (K::Fields, "fields"), (K::Labels, "labels"),
    ]
};

/// The members of one message by their keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a>([Option<Value<'a>>; KEYS.len()]);

impl<'a> Message<'a> {
    /// Of a message in the format `json`. Its keys come in the order of the schema, so that each is found by looking on from the last.
    pub(super) fn of(json: &'a [u8]) -> Message<'a> {
        let mut values = [None; KEYS.len()];
        let mut next = 0;
        for (name, value) in Members::of(json) {
            let found = KEYS.iter().enumerate().cycle().skip(next).take(KEYS.len()).find(|(_, (_, known))| known.as_bytes() == name);
            let Some((index, _)) = found else {
                debug_assert!(false, "a key that the schema does not have: {}", name.escape_ascii());
                continue;
            };
            if let Some(place) = values.get_mut(index) {
                *place = Some(value);
            }
            next = index + 1;
        }
        Message(values)
    }

    pub(super) fn get(&self, key: Key) -> Option<Value<'a>> {
        self.0.get(key as usize).copied().flatten()
    }

    /// The escaped text of a key that has one.
    pub(super) fn text(&self, key: Key) -> Option<&'a [u8]> {
        match self.get(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value as Json};

    use super::*;

    fn back(value: Value<'_>) -> Json {
        match value {
            Value::Text(escaped) => {
                let mut text = Vec::new();
                unescape(&mut text, escaped);
                Json::String(String::from_utf8(text).unwrap())
            }
            Value::Plain(plain) => serde_json::from_slice(plain).unwrap(),
            Value::Object(object) => Json::Object(members(object)),
            Value::Array(array) => Json::Array(Elements::of(array).map(back).collect()),
        }
    }

    fn members(object: &[u8]) -> Map<String, Json> {
        let name = |name: &[u8]| {
            let mut text = Vec::new();
            unescape(&mut text, name);
            String::from_utf8(text).unwrap()
        };
        Members::of(object).map(|(key, value)| (name(key), back(value))).collect()
    }

    fn json() -> impl Strategy<Value = Json> {
        let leaf =
            prop_oneof![any::<i64>().prop_map(Json::from), any::<bool>().prop_map(Json::from), ".*".prop_map(Json::from), Just(Json::Null)];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::btree_map(".*", inner, 0..5).prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_json_writes_is_read_back(map in prop::collection::btree_map(".*", json(), 0..6)) {
            let object: Map<String, Json> = map.into_iter().collect();
            let bytes = serde_json::to_vec(&object).unwrap();
            prop_assert_eq!(members(&bytes), object);
        }

        #[test]
        fn any_bytes_come_to_an_end(bytes: Vec<u8>, at in 0..64_usize) {
            let mut object = br#"{"a":{"b":["c\u00e9\ud83d\ude00",1,{}]},"d":"e"}"#.to_vec();
            object.splice(at.min(object.len()).., bytes);
            prop_assert!(Members::of(&object).count() <= object.len());
            unescape(&mut Vec::new(), &object);
        }
    }

    #[test]
    fn characters_in_two_halves_are_one() {
        let mut out = Vec::new();
        unescape(&mut out, br"\ud83d\ude00 \u00e9 \ud83d \n");
        assert_eq!(String::from_utf8(out).unwrap(), "\u{1F600} é \u{FFFD} \n");
    }

    #[test]
    fn the_keys_are_those_of_the_schema_in_its_order() {
        let schema: Json = serde_json::from_str(include_str!("../../docs/schema.json")).unwrap();
        for (index, (key, name)) in KEYS.iter().enumerate() {
            assert_eq!(*key as usize, index, "{name}");
            assert!(*name == "fields" || schema["properties"].get(name).is_some(), "{name}");
        }
        for name in schema["properties"].as_object().unwrap().keys() {
            assert!(KEYS.iter().any(|(_, known)| known == name), "{name} is not known here");
        }
    }
}

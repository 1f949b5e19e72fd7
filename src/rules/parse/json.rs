//! JSON objects: each member becomes a field, its value as it is written, less the white space between its tokens. `serde_json` walks and checks
//! them; no tree is built. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::rules::fields::{Fields, Value};

/// How deep objects and lists may stand in each other inside of a member. What reads messages afterwards has limits too, and so has the stack here.
const DEEPEST: usize = 64;

/// Puts the members; `None`: it is no JSON object, or has more members than there may be fields, or stands deeper than 64 levels.
pub fn read(message: &[u8], fields: &mut Fields) -> Option<()> {
    let text = simdutf8::basic::from_utf8(message).ok()?.trim_ascii();
    if !text.starts_with('{') {
        return None;
    }
    let mut from = serde_json::Deserializer::from_str(text);
    (&mut from).deserialize_map(Object(fields)).ok()?;
    from.end().ok()
}

struct Object<'f>(&'f mut Fields);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut dense = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            let value: &RawValue = map.next_value()?;
            let put =
                without_space(value.get().as_bytes(), &mut dense).is_some_and(|value| self.0.put(name.as_bytes(), Value::Json(value)));
            if !put {
                return Err(A::Error::custom("too many members, or too deep"));
            }
        }
        Ok(())
    }
}

/// A name, borrowed where it has no escape.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// A sound value without the white space between its tokens; only objects and lists have any. `None`: they stand too deep in each other.
fn without_space<'a>(value: &'a [u8], dense: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if !matches!(value.first(), Some(b'{' | b'[')) {
        return Some(value);
    }
    dense.clear();
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    for byte in value {
        match byte {
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
        dense.push(*byte);
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
    }
    Some(dense)
}

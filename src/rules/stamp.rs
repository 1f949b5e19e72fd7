//! The key and the headers of an event's message, where they are not those that every event of its stream has. Apart from the rules because they
//! hold for all events, and after the rules. Pure.

use std::sync::Arc;

use super::Tally;
use super::template::Template;
use super::when::Look;
use crate::batch::Headers;

/// The longest key, and the longest value of a header, bytes. A longer one counts as missing.
pub const LONGEST: usize = 4 << 10;
/// A text that is missing.
const MISSING: u32 = u32::MAX;

/// What messages get for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// That of the stream.
    Stream,
    /// None: each batch goes to the next partition.
    None,
    /// This text; where a field is missing, that of the stream.
    Of(Template),
}

/// `kafka.key` and `kafka.headers`, where one of them says something.
#[derive(Debug)]
pub struct Stamp {
    /// The keys of the configuration, for people.
    pub name: Arc<str>,
    /// The key.
    pub key: Key,
    /// Names and values, in order of the names. A header whose field is missing is left out.
    pub headers: Vec<(Arc<str>, Template)>,
    /// Events that it was put on, and errors: those on which something was missing.
    pub tally: Tally,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Stamp) -> bool {
        (&self.key, &self.headers) == (&other.key, &other.headers)
    }
}

/// What events of one batch have in common that go the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// `None`: the stream's.
    pub key: Option<Box<[u8]>>,
    /// In order.
    pub headers: Headers,
}

impl Stamp {
    /// A stamp; `None` if it says nothing.
    #[must_use]
    pub fn new(key: Key, headers: Vec<(Arc<str>, Template)>) -> Option<Stamp> {
        let name = match (key == Key::Stream, headers.is_empty()) {
            (true, true) => return None,
            (false, true) => "kafka.key",
            (true, false) => "kafka.headers",
            (false, false) => "kafka.key and kafka.headers",
        };
        Some(Stamp { name: name.into(), key, headers, tally: Tally::default() })
    }

    /// Writes what an event gets, so that equal bytes mean equal messages around the value; false if something was missing.
    pub(super) fn write(&self, look: &Look<'_>, out: &mut Vec<u8>) -> bool {
        out.clear();
        let mut all = match &self.key {
            Key::Stream => {
                put(out, |_| false);
                true
            }
            Key::None => put(out, |_| true),
            Key::Of(template) => put(out, |out| template.fill(look, out)),
        };
        for (_, template) in &self.headers {
            all &= put(out, |out| template.fill(look, out));
        }
        all
    }

    /// What was written.
    #[must_use]
    pub fn class(&self, mut written: &[u8]) -> Class {
        let mut next = || {
            let (len, rest) = written.split_first_chunk::<4>()?;
            let len = u32::from_le_bytes(*len);
            let (text, rest) = rest.split_at_checked(if len == MISSING { 0 } else { len as usize })?;
            written = rest;
            (len != MISSING).then(|| text.into())
        };
        let key = next();
        let headers = self.headers.iter().filter_map(|(name, _)| Some((Arc::clone(name), next()?))).collect();
        Class { key, headers }
    }
}

/// Writes a text with its length in front; false if it is missing.
fn put(out: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    let begin = out.len();
    out.extend_from_slice(&MISSING.to_le_bytes());
    let there = text(out);
    let len = out.len() - begin - 4;
    if !there || len > LONGEST {
        out.truncate(begin + 4);
        return false;
    }
    if let Some(place) = out.get_mut(begin..begin + 4) {
        place.copy_from_slice(&u32::try_from(len).unwrap_or(MISSING).to_le_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back_and_what_is_missing_is_told() {
        let template = |text: &str| Template::read(text).unwrap();
        let headers = vec![("a".into(), template("{source}!")), ("b".into(), template("{app}")), ("c".into(), template("x"))];
        let stamp = Stamp::new(Key::Of(template("{app}")), headers).unwrap();
        let mut out = Vec::new();
        let class = |look: &Look<'_>, out: &mut Vec<u8>| (stamp.write(look, out), stamp.class(out));
        let header = |name: &str, value: &[u8]| (name.into(), value.into());
        let look = Look { source: b"web", app: Some(b"cron"), ..Look::default() };
        let full = Class { key: Some((*b"cron").into()), headers: vec![header("a", b"web!"), header("b", b"cron"), header("c", b"x")] };
        assert_eq!(class(&look, &mut out), (true, full));
        let long = vec![b'x'; LONGEST + 1];
        for app in [None, Some(long.as_slice())] {
            let less = Class { key: None, headers: vec![header("a", b"web!"), header("c", b"x")] };
            assert_eq!(class(&Look { app, ..look }, &mut out), (false, less));
        }
        let none = Stamp::new(Key::None, Vec::new()).unwrap();
        assert!(none.write(&look, &mut out));
        assert_eq!(none.class(&out), Class { key: Some([].into()), headers: vec![] });
        assert!(Stamp::new(Key::Stream, Vec::new()).is_none());
        assert_eq!(stamp.class(b"\x01"), Class::default(), "bytes that were cut are none");
    }
}

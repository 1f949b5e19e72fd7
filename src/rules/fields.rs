//! What rules have found in an event, by name: the fields. Apart because parsers write them, conditions and templates read them, and the encoder
//! gets them as one JSON object. One store serves all events of a batch in turn, so that an event costs no allocation. Pure.

use std::borrow::Cow;
use std::ops::Range;

use crate::encode::json::{escape, escape_lossy};
use crate::encode::members::{Value as Member, unescape, whole_elements, whole_members};

/// How many fields an event may have; a parser that finds more gives up, and the event keeps what it had.
pub const MOST: usize = 256;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A value of JSON (RFC 8259) without white space between its tokens.
    Json(&'a [u8]),
    /// Text, in whatever bytes it came.
    Text(&'a [u8]),
}

#[derive(Clone, Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
    json: bool,
}

/// See [`Fields::mark`].
#[derive(Debug)]
pub struct Mark(Vec<Field>);

/// The fields of one event, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    list: Vec<Field>,
}

impl Fields {
    /// No field.
    #[must_use]
    pub const fn none() -> Fields {
        Fields { bytes: Vec::new(), list: Vec::new() }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How they are now; for [`Fields::back`]. Costs nothing while there are none.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.list.clone())
    }

    /// They are again as they were then. What was written since stays behind them, unseen: names and values are never changed in place.
    pub fn back(&mut self, mark: Mark) {
        self.list = mark.0;
    }

    /// Puts a field, in the place of one that has the name already. False if there are [`MOST`] of them.
    pub fn put(&mut self, name: &[u8], value: Value<'_>) -> bool {
        let (bytes, json) = match value {
            Value::Json(bytes) => (bytes, true),
            Value::Text(bytes) => (bytes, false),
        };
        let value = self.keep(bytes);
        if let Some(at) = self.find(name) {
            if let Some(field) = self.list.get_mut(at) {
                (field.value, field.json) = (value, json);
            }
            return true;
        }
        if self.list.len() >= MOST {
            return false;
        }
        let name = self.keep(name);
        self.list.push(Field { name, value, json });
        true
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.list.iter().position(|field| field.name.len() == name.len() && self.bytes(&field.name) == name)
    }

    fn value(&self, field: &Field) -> Value<'_> {
        let bytes = self.bytes(&field.value);
        if field.json { Value::Json(bytes) } else { Value::Text(bytes) }
    }

    /// The value under this name, or, if there is none, behind its dots: `a.b` is also `b` in the object `a`.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<Value<'_>> {
        if let Some(field) = self.find(path).and_then(|at| self.list.get(at)) {
            return Some(self.value(field));
        }
        memchr::memchr_iter(b'.', path).find_map(|dot| {
            let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
            let field = self.list.get(self.find(name)?)?;
            match self.value(field) {
                Value::Json(json) => inside(json, rest),
                Value::Text(_) => None,
            }
        })
    }

    /// The same as text: of a string what it stands for, of all else how it is written. `None` also for `null`.
    #[must_use]
    pub fn text(&self, path: &[u8]) -> Option<Cow<'_, [u8]>> {
        as_text(self.get(path)?)
    }

    /// Takes a field away; says whether it was there. A name with dots reaches no deeper than [`Fields::put`] does.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        self.find(name).map(|at| self.list.remove(at)).is_some()
    }

    /// Gives a field another name; one that has that name already is replaced. Says whether it was there.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        if from == to {
            return self.find(from).is_some();
        }
        if self.find(from).is_none() {
            return false;
        }
        self.remove(to);
        let name = self.keep(to);
        if let Some(field) = self.find(from).and_then(|at| self.list.get_mut(at)) {
            field.name = name;
        }
        true
    }

    /// Changes every text among the values, those inside objects and lists included; a number counts as the text of its digits. `change` appends
    /// what stands there afterwards and says whether anything changed; it is given no names. Returns whether anything did.
    pub fn change(&mut self, mut change: impl FnMut(&[u8], &mut Vec<u8>) -> bool) -> bool {
        let (mut any, mut out, mut texts) = (false, Vec::new(), Texts::default());
        for at in 0..self.list.len() {
            let Some(field) = self.list.get(at) else { break };
            out.clear();
            let changed = match self.value(field) {
                Value::Text(text) => change(text, &mut out),
                Value::Json(json) => texts.rewrite(json, &mut out, &mut change),
            };
            if changed {
                any = true;
                let value = self.keep(&out);
                if let Some(field) = self.list.get_mut(at) {
                    field.value = value;
                }
            }
        }
        any
    }

    /// Writes them as a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, field) in self.list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(out, self.bytes(&field.name));
            out.push(b':');
            match self.value(field) {
                Value::Json(json) => out.extend_from_slice(json),
                Value::Text(text) => string(out, text),
            }
        }
        out.push(b'}');
    }
}

/// A JSON string of these bytes; what is not UTF-8 of them becomes U+FFFD.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    if text.is_ascii() {
        escape(out, text);
    } else {
        escape_lossy(out, text);
    }
    out.push(b'"');
}

/// A value as text: of a string what it stands for, of all else how it is written; `None` for `null`.
pub(crate) fn as_text(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Json(b"null") => None,
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Json(json) => Some(plain(json)),
    }
}

/// What is behind the dots of `path` in this object.
pub(crate) fn inside<'a>(json: &'a [u8], path: &[u8]) -> Option<Value<'a>> {
    let named = |name: &[u8]| whole_members(json).find(|(known, _)| is(known, name)).map(|(_, value)| value);
    if let Some(value) = named(path) {
        return Some(Value::Json(value));
    }
    memchr::memchr_iter(b'.', path).find_map(|dot| inside(named(path.get(..dot)?)?, path.get(dot + 1..)?))
}

/// Whether an escaped name is this one.
fn is(escaped: &[u8], name: &[u8]) -> bool {
    if memchr::memchr(b'\\', escaped).is_none() {
        return escaped == name;
    }
    let mut text = Vec::new();
    unescape(&mut text, escaped);
    text == name
}

/// What a value of JSON is as text.
fn plain(json: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else { return Cow::Borrowed(json) };
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let mut text = Vec::with_capacity(inner.len());
    unescape(&mut text, inner);
    Cow::Owned(text)
}

/// Writes a value of JSON anew with its texts changed; keeps its buffers.
#[derive(Debug, Default)]
struct Texts {
    text: Vec<u8>,
    changed: Vec<u8>,
}

impl Texts {
    fn rewrite(&mut self, json: &[u8], out: &mut Vec<u8>, change: &mut impl FnMut(&[u8], &mut Vec<u8>) -> bool) -> bool {
        let mut any = false;
        match Member::of(json) {
            Some(Member::Text(escaped)) => {
                self.text.clear();
                unescape(&mut self.text, escaped);
                return self.one(json, out, change);
            }
            Some(Member::Plain(plain)) if plain.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-') => {
                self.text.clear();
                self.text.extend_from_slice(plain);
                return self.one(json, out, change);
            }
            Some(Member::Object(object)) => {
                out.push(b'{');
                for (index, (name, value)) in whole_members(object).enumerate() {
                    out.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
                    out.extend_from_slice(name);
                    out.extend_from_slice(b"\":");
                    any |= self.rewrite(value, out, change);
                }
                out.push(b'}');
            }
            Some(Member::Array(array)) => {
                out.push(b'[');
                for (index, value) in whole_elements(array).enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    any |= self.rewrite(value, out, change);
                }
                out.push(b']');
            }
            Some(Member::Plain(_)) | None => out.extend_from_slice(json),
        }
        any
    }

    fn one(&mut self, json: &[u8], out: &mut Vec<u8>, change: &mut impl FnMut(&[u8], &mut Vec<u8>) -> bool) -> bool {
        self.changed.clear();
        let changed = change(&self.text, &mut self.changed);
        if changed {
            string(out, &self.changed);
        } else {
            out.extend_from_slice(json);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let mut fields = Fields::default();
        fields.put(b"plain", Value::Text(b"a \"b\" \xFF"));
        fields.put(b"http", Value::Json(br#"{"status":500,"re\u0071":{"id":"x@y.z"},"list":["x@y.z",1]}"#));
        fields.put(b"a.b", Value::Json(b"true"));
        fields
    }

    fn json(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_is_found_by_its_name_and_behind_dots() {
        let fields = fields();
        let text = |path: &str| fields.text(path.as_bytes()).map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(text("http.status").unwrap(), "500");
        assert_eq!(text("http.req.id").unwrap(), "x@y.z");
        assert_eq!(text("http.list").unwrap(), r#"["x@y.z",1]"#);
        assert_eq!(text("a.b").unwrap(), "true");
        for path in ["", ".", "http.", "http.x", "plain.x", "http.status.x", "a"] {
            assert_eq!(text(path), None, "{path}");
        }
    }

    #[test]
    fn fields_are_written_replaced_renamed_and_removed() {
        let mut fields = fields();
        assert!(fields.rename(b"a.b", b"ab") && fields.rename(b"ab", b"ab") && !fields.rename(b"no", b"yes"));
        assert!(fields.remove(b"http") && !fields.remove(b"http"));
        assert_eq!(json(&fields), "{\"plain\":\"a \\\"b\\\" \u{FFFD}\",\"ab\":true}");
        assert!(fields.rename(b"ab", b"plain"));
        assert_eq!(json(&fields), r#"{"plain":true}"#);
    }

    #[test]
    fn every_text_inside_is_changed_and_no_name_is() {
        let mut fields = fields();
        let mut seen = Vec::new();
        assert!(fields.change(|text, out| {
            seen.push(text.to_vec());
            out.extend_from_slice(b"[mail]");
            text == b"x@y.z" || text == b"500"
        }));
        assert_eq!(seen.len(), 5);
        assert_eq!(
            json(&fields),
            "{\"plain\":\"a \\\"b\\\" \u{FFFD}\",\"http\":{\"status\":\"[mail]\",\"re\\u0071\":{\"id\":\"[mail]\"},\"list\":[\"[mail]\",1]},\"a.b\":true}"
        );
        assert!(!fields.change(|_, _| false));
    }
}

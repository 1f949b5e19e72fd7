//! Texts with `{name}` in them, where the value of a field goes. Pure.

use super::when::Look;
use crate::source::syslog::parse::{facility_word, severity_word};

/// A text with places for fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Place(Place, Option<Box<str>>),
}

/// What a place is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Source,
    Path,
    Message,
    App,
    Severity,
    Facility,
    Field(Box<str>),
}

/// Names that are no fields. A field of such a name is meant where the event has nothing else of it, and by `{fields.NAME}`.
const KNOWN: [(&str, Place); 6] = [
    ("source", Place::Source),
    ("path", Place::Path),
    ("message", Place::Message),
    ("app", Place::App),
    ("severity", Place::Severity),
    ("facility", Place::Facility),
];

impl Template {
    /// Reads `text {name} text {name|what is put there without it}`; `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(text: &str) -> Result<Template, String> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, behind) = rest.split_at(at);
            plain.push_str(before);
            if let Some(behind) = behind.strip_prefix("{{").or_else(|| behind.strip_prefix("}}")) {
                plain.push_str(rest.get(at..=at).unwrap_or_default());
                rest = behind;
                continue;
            }
            let inner = behind.strip_prefix('{').ok_or("a } without its {; write }} for the character")?;
            let (inner, behind) = inner.split_once('}').ok_or("a { without its }; write {{ for the character")?;
            let (name, instead) = inner.split_once('|').map_or((inner, None), |(name, instead)| (name, Some(instead.into())));
            if name.trim() != name || name.is_empty() || name.contains('{') {
                return Err(format!("{{{inner}}} names no field; write {{name}}"));
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, place)| place.clone());
            let field = || Place::Field(name.strip_prefix("fields.").unwrap_or(name).into());
            pieces.push(Piece::Place(known.unwrap_or_else(field), instead));
            rest = behind;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Template(pieces))
    }

    /// The text, if no field is in it.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it asks for a field that a rule has to find first.
    #[must_use]
    pub fn needs_fields(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Place(Place::Field(_), None)))
    }

    /// Appends it with the values of this event; false, and nothing is appended, if one is missing that has nothing to be put instead.
    pub fn fill(&self, look: &Look<'_>, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Place(place, instead) => {
                    if !place.put(look, out) {
                        let Some(instead) = instead else {
                            out.truncate(begin);
                            return false;
                        };
                        out.extend_from_slice(instead.as_bytes());
                    }
                }
            }
        }
        true
    }
}

impl Place {
    /// Appends the value; false if there is none.
    fn put(&self, look: &Look<'_>, out: &mut Vec<u8>) -> bool {
        let of_fields = |name: &str, out: &mut Vec<u8>| look.field(name.as_bytes()).map(|value| out.extend_from_slice(&value)).is_some();
        let value = match self {
            Place::Source => Some(look.source),
            Place::Path => Some(look.path).filter(|path| !path.is_empty()),
            Place::Message => Some(look.message),
            Place::App => look.app,
            Place::Severity => look.severity.map(|code| severity_word(code).as_bytes()),
            Place::Facility => look.facility.map(|code| facility_word(code).as_bytes()),
            Place::Field(name) => return of_fields(name, out),
        };
        match value {
            Some(value) => out.extend_from_slice(value),
            None => return KNOWN.iter().any(|(name, place)| place == self && of_fields(name, out)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::fields::{Fields, Value};

    fn filled(template: &str) -> Option<String> {
        let mut fields = Fields::default();
        fields.put(b"user", Value::Json(br#""Ann \u00e9""#));
        fields.put(b"http", Value::Json(br#"{"status":500,"none":null}"#));
        let look = Look { message: b"text", source: b"web", severity: Some(3), fields: Some(&fields), ..Look::default() };
        let mut out = b"-".to_vec();
        let done = Template::read(template).unwrap().fill(&look, &mut out);
        let text = String::from_utf8(out).unwrap().split_off(1);
        assert!(done || text.is_empty());
        done.then_some(text)
    }

    #[test]
    fn a_template_is_filled_or_says_that_something_is_missing() {
        assert_eq!(filled("{source}/{severity}: {message}").unwrap(), "web/error: text");
        assert_eq!(filled("{user} {http.status} {fields.http.status}").unwrap(), "Ann é 500 500");
        assert_eq!(filled("{{x}} {app|none}").unwrap(), "{x} none");
        assert_eq!(filled("a {app}"), None);
        assert_eq!(filled("a {http.none}"), None);
        assert_eq!(filled("{http.none|}").unwrap(), "");
    }

    #[test]
    fn what_is_no_template_is_told() {
        for wrong in ["{", "a {b", "}", "{}", "{ a }", "{a{b}"] {
            assert!(Template::read(wrong).is_err(), "{wrong}");
        }
    }
}

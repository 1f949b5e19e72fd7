//! Whether a rule concerns an event. A condition is first reduced by what its stream can't change; what is left looks at the event. Pure.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use regex::bytes::{Regex, RegexSet};

use super::fields::{Fields, as_text, inside};
use crate::batch::{Origin, Stream};
use crate::source::file::discover::Pattern;

/// A condition.
#[derive(Clone, Debug)]
pub enum When {
    /// All of them hold; also if there are none.
    All(Vec<When>),
    /// At least one of them holds.
    Any(Vec<When>),
    /// It does not hold.
    Not(Box<When>),
    /// The event's source has one of these names.
    Source(Vec<Arc<str>>),
    /// Its source has one of these types, in the words of the configuration.
    Type(Vec<&'static str>),
    /// It is of a file whose path, as first seen, one of these patterns matches.
    Path(Vec<Pattern>),
    /// Its message matches one of these.
    Message(Vec<Regex>),
    /// Its program, of a syslog message, is one of these.
    App(Vec<Box<[u8]>>),
    /// Its unit, of an entry of the journal, matches one of these.
    Unit(Vec<Regex>),
    /// Its severity (0 emergency to 7 debug), of a syslog message, has its bit set here.
    Severity(u8),
    /// Its facility (0 to 23), of a syslog message, has its bit set here.
    Facility(u32),
    /// The field of this name is such.
    Field(Box<[u8]>, Test),
}

/// What is asked of a field.
#[derive(Clone, Debug)]
pub enum Test {
    /// Whether it is there; `null` is not.
    Exists(bool),
    /// As text it is one of these.
    Is(Vec<Box<[u8]>>),
    /// As text it matches one of these.
    Matches(Vec<Regex>),
    /// It is a number, or text that is one, and all of these hold.
    Number(Vec<(Compare, f64)>),
}

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

impl Compare {
    /// The words of the configuration.
    pub const WORDS: [(&'static str, Compare); 4] =
        [("gt", Compare::Gt), ("gte", Compare::Gte), ("lt", Compare::Lt), ("lte", Compare::Lte)];

    fn holds(self, number: f64, than: f64) -> bool {
        match self {
            Compare::Gt => number > than,
            Compare::Gte => number >= than,
            Compare::Lt => number < than,
            Compare::Lte => number <= than,
        }
    }
}

impl Test {
    fn holds(&self, value: Option<Cow<'_, [u8]>>) -> bool {
        let Some(value) = value else { return matches!(self, Test::Exists(false)) };
        match self {
            Test::Exists(exists) => *exists,
            Test::Is(all) => all.iter().any(|one| **one == *value),
            Test::Matches(regexes) => regexes.iter().any(|regex| regex.is_match(&value)),
            Test::Number(all) => {
                let number = std::str::from_utf8(&value).ok().and_then(|text| text.trim().parse::<f64>().ok());
                number.is_some_and(|number| all.iter().all(|(compare, than)| compare.holds(number, *than)))
            }
        }
    }
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look<'a> {
    /// The text of the line, or what is left of a syslog message behind its header.
    pub message: &'a [u8],
    /// The program, if it is known.
    pub app: Option<&'a [u8]>,
    /// 0 to 7, if it is known.
    pub severity: Option<u8>,
    /// 0 to 23, if it is known.
    pub facility: Option<u8>,
    /// What rules have found so far.
    pub fields: Option<&'a Fields>,
    /// The name of the source.
    pub source: &'a [u8],
    /// The file's path as first seen; empty if it is no file.
    pub path: &'a [u8],
    /// The unit, if it is known.
    pub unit: Option<&'a [u8]>,
    /// An entry of the journal as it came, a JSON object: its members are fields as well, where rules have found none of the name.
    pub entry: Option<&'a [u8]>,
    /// Its member `journal`, where rules have changed that.
    pub journal: Option<&'a Fields>,
}

impl<'a> Look<'a> {
    /// The field of this name, as text.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.fields.and_then(|fields| fields.text(name)).or_else(|| match self.journal {
            Some(journal) if name.starts_with(b"journal") => journal.text(name),
            _ => as_text(inside(self.entry?, name)?),
        })
    }
}

/// What is known of a stream before its first event.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// The name of its source.
    pub source: &'a str,
    /// The type of its source.
    pub kind: &'a str,
    /// Its file's path; `None`: not asked yet, as of a whole source.
    pub path: Option<&'a [u8]>,
    /// Whether events have severity, facility and program.
    pub fields: bool,
}

impl<'a> Of<'a> {
    /// What is known of this stream.
    #[must_use]
    pub fn stream(stream: &'a Stream) -> Of<'a> {
        let (kind, fields) = match stream.origin {
            Origin::File(_) => ("file", false),
            Origin::Arrivals { .. } => ("syslog", true),
            Origin::Finished => ("journald", false),
        };
        Of { source: &stream.source, kind, path: Some(stream.path()), fields }
    }
}

const NEVER: When = When::Any(Vec::new());
const ALWAYS: When = When::All(Vec::new());

impl When {
    /// Whether no event can meet it.
    #[must_use]
    pub fn is_never(&self) -> bool {
        matches!(self, When::Any(all) if all.is_empty())
    }

    /// Whether every event meets it.
    #[must_use]
    pub fn is_always(&self) -> bool {
        matches!(self, When::All(all) if all.is_empty())
    }

    /// What is left to be asked of each event of such a stream.
    #[must_use]
    pub fn of(&self, of: &Of<'_>) -> When {
        let known = |holds: bool| if holds { ALWAYS } else { NEVER };
        match self {
            When::All(all) => {
                let mut left: Vec<When> = all.iter().map(|one| one.of(of)).filter(|one| !one.is_always()).collect();
                if left.iter().any(When::is_never) {
                    return NEVER;
                }
                if left.len() == 1 { left.pop().unwrap_or(ALWAYS) } else { When::All(left) }
            }
            When::Any(any) => {
                let mut left: Vec<When> = any.iter().map(|one| one.of(of)).filter(|one| !one.is_never()).collect();
                if left.iter().any(When::is_always) {
                    return ALWAYS;
                }
                if left.len() == 1 { left.pop().unwrap_or(NEVER) } else { When::Any(left) }
            }
            When::Not(not) => match not.of(of) {
                left if left.is_never() => ALWAYS,
                left if left.is_always() => NEVER,
                left => When::Not(Box::new(left)),
            },
            When::Source(names) => known(names.iter().any(|name| **name == *of.source)),
            When::Type(kinds) => known(kinds.contains(&of.kind)),
            When::Path(patterns) => match of.path {
                None => self.clone(),
                Some(path) => {
                    let path = Path::new(OsStr::from_bytes(path));
                    known(patterns.iter().any(|pattern| pattern.matches(path)))
                }
            },
            When::App(_) | When::Severity(_) | When::Facility(_) if !of.fields => NEVER,
            When::Unit(_) if of.kind != "journald" => NEVER,
            other => other.clone(),
        }
    }

    /// Whether it asks for a field somewhere.
    #[must_use]
    pub fn asks_fields(&self) -> bool {
        match self {
            When::All(all) | When::Any(all) => all.iter().any(When::asks_fields),
            When::Not(not) => not.asks_fields(),
            When::Field(..) => true,
            _ => false,
        }
    }

    /// Whether it asks for more than the message, which is all that an entry of the journal is in `raw`.
    #[must_use]
    pub fn asks_more(&self) -> bool {
        match self {
            When::All(all) | When::Any(all) => all.iter().any(When::asks_more),
            When::Not(not) => not.asks_more(),
            When::App(_) | When::Unit(_) | When::Severity(_) | When::Facility(_) | When::Field(..) => true,
            When::Source(_) | When::Type(_) | When::Path(_) | When::Message(_) => false,
        }
    }

    /// Whether it holds for an event; what the stream decides was reduced before.
    #[must_use]
    pub fn holds(&self, look: &Look<'_>) -> bool {
        match self {
            When::All(all) => all.iter().all(|one| one.holds(look)),
            When::Any(any) => any.iter().any(|one| one.holds(look)),
            When::Not(not) => !not.holds(look),
            When::Message(regexes) => regexes.iter().any(|regex| regex.is_match(look.message)),
            When::App(names) => look.app.is_some_and(|app| names.iter().any(|name| **name == *app)),
            When::Severity(bits) => look.severity.is_some_and(|code| code < 8 && bits & (1 << code) != 0),
            When::Facility(bits) => look.facility.is_some_and(|code| code < 24 && bits & (1 << code) != 0),
            When::Unit(units) => look.unit.is_some_and(|name| units.iter().any(|unit| unit.is_match(name))),
            When::Field(path, test) => test.holds(look.field(path)),
            When::Source(_) | When::Type(_) | When::Path(_) => false,
        }
    }

    /// The patterns of which one must match the message wherever this holds; `None`: it can hold whatever the message is.
    fn needs(&self) -> Option<Vec<&str>> {
        match self {
            When::Message(regexes) => Some(regexes.iter().map(Regex::as_str).collect()),
            When::All(all) => all.iter().find_map(When::needs),
            When::Any(any) => any.iter().map(When::needs).collect::<Option<Vec<_>>>().map(|lists| lists.concat()),
            _ => None,
        }
    }

    /// One pass over a message that says whether any of these can hold at all; `None` where that would not spare anything.
    #[must_use]
    pub fn any_of_these<'a>(all: impl Iterator<Item = &'a When>) -> Option<RegexSet> {
        let needed = all.map(When::needs).collect::<Option<Vec<_>>>()?.concat();
        if needed.len() < 2 {
            return None;
        }
        // Each was compiled alone within its limit; together they may not fit, and then each is asked alone.
        RegexSet::new(needed).ok()
    }
}

//! Files and environment variables as one kind of tree, each node with the place it comes from. Apart because the rest need not know whether
//! a value was a line of TOML or a variable. Pure.

use figment::value::Value as Parsed;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Text;
use super::problem::{Fault, Origin, Problem};
use super::schema::{self, Kind};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// The place: of the key for what has one, else of the value.
    pub origin: Origin,
    /// The value.
    pub value: Value,
}

/// A value of a configuration.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// true or false.
    Bool(bool),
    /// A list.
    List(Vec<Node>),
    /// A table, in no order in particular.
    Table(Vec<(String, Node)>),
    /// What no key takes, in words.
    Other(&'static str),
}

impl Value {
    /// What it is, in words.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Bool(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(what) => what,
        }
    }
}

/// The root table of a file, or every syntax error in it. `index` is the file's place among the files.
///
/// # Errors
/// One problem per syntax error, with line, column and the line itself.
pub fn parse(text: &Text, index: usize) -> Result<Vec<(String, Node)>, Vec<Problem>> {
    let lines = Lines::of(text, index);
    let (table, errors) = DeTable::parse_recoverable(&text.text);
    if errors.is_empty() {
        return Ok(lines.table(table.get_ref()));
    }
    Err(errors.iter().map(|error| lines.syntax(error)).collect())
}

/// Where the lines of a file begin, to tell the line of an offset.
struct Lines<'a> {
    file: &'a Text,
    index: usize,
    starts: Vec<usize>,
}

impl Lines<'_> {
    fn of(file: &Text, index: usize) -> Lines<'_> {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', file.text.as_bytes()).map(|end| end + 1)).collect();
        Lines { file, index, starts }
    }

    /// The line of an offset, from 1.
    fn number(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::File { index: self.index, line: self.number(offset), name: self.file.name.clone() }
    }

    fn table(&self, table: &DeTable<'_>) -> Vec<(String, Node)> {
        let node =
            |key: &Spanned<_>, value: &Spanned<DeValue<'_>>| Node { origin: self.origin(key.span().start), value: self.value(value) };
        table.iter().map(|(key, value)| (key.get_ref().to_string(), node(key, value))).collect()
    }

    fn value(&self, value: &Spanned<DeValue<'_>>) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(Value::Other("a number beyond 64 bits"), Value::Integer)
            }
            DeValue::Float(number) => number.as_str().parse().map_or(Value::Other("a number beyond 64 bits"), Value::Float),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(_) => Value::Other("a date or time"),
            DeValue::Array(items) => {
                Value::List(items.iter().map(|item| Node { origin: self.origin(item.span().start), value: self.value(item) }).collect())
            }
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let offset = error.span().map_or(0, |span| span.start).min(self.file.text.len());
        let number = self.number(offset);
        let line = self.line(number);
        let column = self.file.text.get(self.start(number)..offset).map_or(0, |before| before.chars().count()) + 1;
        let shown = if self.hides(number) { "(not shown, it may hold a secret)" } else { line.trim() }.replace(char::is_control, " ");
        let earlier = if error.message().contains("duplicate") { self.earlier(number) } else { None };
        let right = match earlier {
            Some(first) => format!("line {first} sets it already, keep one of them: {shown}"),
            None => format!("correct the line: {shown}"),
        };
        Fault::new(format!("not TOML at column {column}: {}", error.message()), right).at(&self.origin(offset), "")
    }

    /// Whether a line may be part of a secret: by its own words, by its table's, or by those of a string of several lines above it.
    fn hides(&self, number: usize) -> bool {
        let above = || (1..=number).rev().map(|number| self.line(number));
        let table = above().find(|line| line.trim_start().starts_with('['));
        let opens = |line: &str| line.contains("\"\"\"") || line.contains("'''");
        schema::is_secret(self.line(number))
            || table.is_some_and(schema::is_secret)
            || above().any(|line| schema::is_secret(line) && opens(line))
    }

    fn start(&self, number: usize) -> usize {
        self.starts.get(number.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn line(&self, number: usize) -> &str {
        let end = self.starts.get(number).copied().unwrap_or(self.file.text.len());
        self.file.text.get(self.start(number)..end).unwrap_or_default().trim_end()
    }

    /// The line above `number` that sets the same key in the same table, or opens the same table; the parser tells only the second.
    fn earlier(&self, number: usize) -> Option<usize> {
        let head = |line: &str| line.split(['=', '#']).next().unwrap_or_default().trim().to_owned();
        let wanted = head(self.line(number));
        for above in (1..number).rev() {
            let found = head(self.line(above));
            if found == wanted {
                return Some(above);
            }
            if found.starts_with('[') && !wanted.starts_with('[') {
                return None;
            }
        }
        None
    }
}

/// The prefix of the environment variables that set keys.
pub const PREFIX: &str = "LOGFERRY__";

/// An environment variable as the root of a tree of its own: `kafka__topic` and its value as `{ kafka = { topic = … } }`.
/// librdkafka's properties have dots where the variable has underscores, since a shell's variables can't have dots.
#[must_use]
pub fn variable(name: &str, text: &str) -> (String, Node) {
    let origin = Origin::Environment(format!("{PREFIX}{}", name.to_ascii_uppercase()));
    // What is behind these is a name of its own, not a path.
    let free = ["kafka__librdkafka__", "agent__labels__", "kafka__headers__"]
        .into_iter()
        .find(|table| name.starts_with(table))
        .unwrap_or_default();
    let (table, last) = name.split_at(free.len());
    let mut names: Vec<String> = if table.is_empty() { last } else { table.trim_end_matches('_') }.split("__").map(str::to_owned).collect();
    if !table.is_empty() {
        names.push(if table.contains("librdkafka") { last.replace('_', ".") } else { last.to_owned() });
    }
    let path = names.join(".");
    let counted = schema::key(&path, None).is_some_and(|key| matches!(key.kind, Kind::Count { .. }));
    let mut node = Node { origin: origin.clone(), value: plain(text, counted, &origin) };
    let root = names.remove(0);
    for name in names.into_iter().rev() {
        node = Node { origin: origin.clone(), value: Value::Table(vec![(name, node)]) };
    }
    (root, node)
}

/// A variable's text as figment reads it, except that numbers and truths stay text where no number is asked for.
fn plain(text: &str, counted: bool, origin: &Origin) -> Value {
    // figment 0.10 takes the number of a character for that of a byte where it undoes escapes: it panics, or cuts at the wrong place. Without
    // its escapes such a text is only a text.
    if !text.is_ascii() && text.contains('\\') {
        return Value::Text(text.to_owned());
    }
    let Ok(parsed) = text.parse::<Parsed>();
    match parsed {
        Parsed::Num(..) if counted => text.trim().parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Integer),
        Parsed::Num(..) | Parsed::Bool(..) => Value::Text(text.trim().to_owned()),
        other => nested(other, origin),
    }
}

fn nested(parsed: Parsed, origin: &Origin) -> Value {
    let node = |value| Node { origin: origin.clone(), value: nested(value, origin) };
    match parsed {
        Parsed::String(_, text) => Value::Text(text),
        Parsed::Char(_, c) => Value::Text(c.to_string()),
        Parsed::Bool(_, value) => Value::Bool(value),
        Parsed::Num(_, number) => number.to_i128().and_then(|n| i64::try_from(n).ok()).map_or_else(
            || {
                let whole = number.to_u128().and_then(|n| i64::try_from(n).ok()).map(Value::Integer);
                whole.or_else(|| number.to_f64().map(Value::Float)).unwrap_or(Value::Other("a number beyond 64 bits"))
            },
            Value::Integer,
        ),
        Parsed::Dict(_, table) => Value::Table(table.into_iter().map(|(key, value)| (key, node(value))).collect()),
        Parsed::Array(_, items) => Value::List(items.into_iter().map(node).collect()),
        Parsed::Empty(..) => Value::Other("nothing"),
    }
}

//! The configuration as it came out, as TOML with the origin of each value; for `check --print`. Secrets are replaced before they get here.
//! Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use figment::Figment;
use figment::value::Value;

use super::problem::Origin;
use super::schema::{self, Kind};

/// A table and its lines.
#[derive(Clone, Debug)]
pub struct Section {
    /// As it is written, with brackets.
    pub header: String,
    /// Its keys, in the order of the schema.
    pub lines: Vec<Line>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Line {
    /// The key, as TOML.
    pub key: String,
    /// The value, as TOML; of a secret only that it is one.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// The sections of one source of type `source`, or of everything but the sources.
#[must_use]
pub fn sections(figment: &Figment, origins: &BTreeMap<String, Origin>, source: Option<&str>) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for key in schema::KEYS.iter().filter(|key| key.is_in(source)) {
        let inside = key.path.strip_prefix("source.").unwrap_or(key.path);
        let value = figment.find_value(inside).ok();
        if let Kind::Texts | Kind::Properties = key.kind {
            if let Some(Value::Dict(_, table)) = value {
                let lines = table.iter().map(|(name, value)| free(key.path, name, value, origins)).collect();
                sections.push(Section { header: format!("[{}]", key.path), lines });
            }
            continue;
        }
        let (table, name) = if source.is_some() { ("", inside) } else { place(inside) };
        let header = if source.is_some() { "[[source]]".to_owned() } else { format!("[{table}]") };
        let written = source.is_some() || value.is_some() || origins.contains_key(table);
        if written && sections.last().is_none_or(|section| section.header != header) {
            sections.push(Section { header, lines: Vec::new() });
        }
        if let (Some(value), Some(section)) = (value, sections.last_mut()) {
            let origin = origins.get(key.path).cloned().unwrap_or(Origin::Default(""));
            section.lines.push(Line { key: name.to_owned(), value: toml(&value), origin });
        }
    }
    sections
}

/// The table in which a key is printed, and its name there: the password's keys stand dotted in their parent.
fn place(path: &str) -> (&str, &str) {
    let table = path.strip_prefix("kafka.sasl.").map(|name| ("kafka.sasl", name));
    table.or_else(|| path.rsplit_once('.')).unwrap_or(("", path))
}

fn free(path: &str, name: &str, value: &Value, origins: &BTreeMap<String, Origin>) -> Line {
    let origin = origins.get(&format!("{path}.{name}")).cloned().unwrap_or(Origin::Default(""));
    let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let key = if bare { name.to_owned() } else { string(name) };
    let hidden = path == "kafka.librdkafka" && schema::is_secret(name);
    Line { key, value: if hidden { string("(hidden)") } else { toml(value) }, origin }
}

fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn toml(value: &Value) -> String {
    match value {
        Value::Num(_, number) => number.to_i128().or_else(|| number.to_u128()?.try_into().ok()).unwrap_or_default().to_string(),
        Value::Array(_, items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => string(other.as_str().unwrap_or_default()),
    }
}

/// The sections as one TOML text.
#[must_use]
pub fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}{}", section.header);
        for Line { key, value, origin } in &section.lines {
            let origin = origin.to_string().replace(char::is_control, "?");
            let _ = writeln!(text, "{key} = {value}  # {origin}");
        }
    }
    text
}

//! An entry of the journal to try rules on: a line of `journalctl -o json`, or its message alone, as the source would render it. Apart because here a
//! tree of JSON does no harm. Pure.

use serde_json::{Map, Value};

use crate::source::syslog::parse::severity_word;

/// The members that stand beside the message, with their fields.
const NAMED: [(&str, &str); 5] =
    [("unit", "_SYSTEMD_UNIT"), ("identifier", "SYSLOG_IDENTIFIER"), ("priority", "PRIORITY"), ("pid", "_PID"), ("uid", "_UID")];
/// Members that are numbers.
const NUMBERS: [&str; 3] = ["priority", "pid", "uid"];

/// The message of the format `json` that the source would make of this line, as far as the line tells.
pub(super) fn rendered(line: &[u8], host: &str, source: &str) -> Vec<u8> {
    let mut fields = match serde_json::from_slice(line) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::from_iter([("MESSAGE".to_owned(), String::from_utf8_lossy(line).into_owned().into())]),
    };
    let mut take = |name: &str| fields.remove(name).map(text);
    let (message, time) = (take("MESSAGE").unwrap_or_default(), take("__REALTIME_TIMESTAMP"));
    let micros = take("_SOURCE_REALTIME_TIMESTAMP").or(time).and_then(|text| text.parse().ok()).unwrap_or(0);
    let named: Vec<(&str, String)> = NAMED.iter().filter_map(|(name, field)| Some((*name, take(field)?))).collect();
    let time = jiff::Timestamp::from_microsecond(micros).unwrap_or_default().to_string();
    let quoted = |text: &str| Value::from(text).to_string();
    let mut members: Vec<(&str, String)> = vec![
        ("v", "1".into()),
        ("timestamp", quoted(&time)),
        ("observed_timestamp", quoted(&time)),
        ("host", quoted(host)),
        ("source", quoted(source)),
        ("type", quoted("journald")),
        ("event_id", quoted("0000000000000000:1")),
    ];
    let priority = named.iter().find(|(name, _)| *name == "priority").and_then(|(_, value)| value.parse().ok()).filter(|code| *code < 8_u8);
    members.extend(priority.map(|code| ("severity", quoted(severity_word(code)))));
    members.push(("message", quoted(&message)));
    let is_number = |name: &str, value: &str| NUMBERS.contains(&name) && value.parse::<u64>().is_ok();
    members.extend(named.into_iter().map(|(name, value)| (name, if is_number(name, &value) { value } else { quoted(&value) })));
    let others: Map<String, Value> =
        fields.into_iter().filter(|(name, _)| !name.starts_with("__")).map(|(name, value)| (name, Value::from(text(value)))).collect();
    if !others.is_empty() {
        members.push(("journal", Value::Object(others).to_string()));
    }
    let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// journalctl writes what is no text as a list of bytes.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        other => other.to_string(),
    }
}

/// The message of such a rendered one.
pub(super) fn message_of(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    value.get("message").and_then(Value::as_str).unwrap_or_default().as_bytes().to_vec()
}

//! The format `ecs`: the same message under the names of the Elastic Common Schema (ECS 8). What ECS has no name for stands under `logferry`. Pure.

use super::members::{Key, Message, Value};

/// The version of the schema whose names are used.
const VERSION: &str = "8.17.0";

/// By how much a message grows at most, bytes: names, and the objects around them. Values are copied as they are.
pub(super) const GROWTH: usize = 1024;

/// A member of the object, or of one in it. An object is written when one of its members has a value.
#[derive(Debug)]
enum Node {
    /// The value of a key.
    Is(&'static str, Key),
    /// The same as a string, where it is a number.
    Quoted(&'static str, Key),
    /// Always this.
    Always(&'static str, &'static str),
    /// `event.kind`: an event, or trouble of the pipeline, as which ECS knows what could not be ingested.
    Kind,
    /// An object of these.
    Of(&'static str, &'static [Node]),
}

use Node::{Always, Is, Of, Quoted};

/// What stands where. docs/formats.md has the same as a table; a test compares them.
const TREE: &[Node] = &[
    Is("@timestamp", Key::Timestamp),
    Of("ecs", &[Always("version", VERSION)]),
    Is("message", Key::Message),
    Of(
        "event",
        &[
            Is("id", Key::EventId),
            Node::Kind,
            Is("dataset", Key::Source),
            Is("created", Key::ObservedTimestamp),
            Is("reason", Key::Reason),
            Is("sequence", Key::Seqnum),
            Is("sequence", Key::Number),
            Is("start", Key::FirstTime),
            Is("end", Key::LastTime),
        ],
    ),
    Of("host", &[Is("name", Key::Host), Of("boot", &[Is("id", Key::BootId)])]),
    Of("agent", &[Always("type", "logferry"), Always("version", env!("CARGO_PKG_VERSION"))]),
    Of(
        "log",
        &[
            Is("level", Key::Severity),
            Is("offset", Key::Offset),
            Of("file", &[Is("path", Key::Path)]),
            Of("source", &[Is("address", Key::Peer)]),
            Of(
                "syslog",
                &[
                    Is("hostname", Key::Hostname),
                    Is("appname", Key::App),
                    Is("appname", Key::Identifier),
                    Is("procid", Key::Procid),
                    Is("msgid", Key::Msgid),
                    Is("structured_data", Key::StructuredData),
                    Of("facility", &[Is("name", Key::Facility)]),
                    Of("severity", &[Is("code", Key::Priority)]),
                ],
            ),
        ],
    ),
    Of("process", &[Is("pid", Key::Pid)]),
    Of("user", &[Quoted("id", Key::Uid)]),
    Of("systemd", &[Is("unit", Key::Unit)]),
    Of("journald", &[Is("custom", Key::Journal)]),
    Of("error", &[Is("message", Key::ParseError)]),
    Of(
        "logferry",
        &[
            Is("type", Key::Type),
            Is("transport", Key::Transport),
            Is("message_base64", Key::MessageBase64),
            Is("part", Key::Part),
            Is("last", Key::Last),
            Is("partial", Key::Partial),
            Is("cursor", Key::Cursor),
            Is("of", Key::Of),
            Is("place", Key::Place),
            Is("stream", Key::Stream),
            Is("from", Key::From),
            Is("to", Key::To),
            Is("events", Key::Events),
            Is("bytes", Key::Bytes),
            Is("unknown", Key::Unknown),
            Is("at_least", Key::AtLeast),
            Is("at_most", Key::AtMost),
        ],
    ),
    Is("fields", Key::Fields),
    Is("labels", Key::Labels),
];

/// Writes a message of the format `json` under the names of ECS.
pub(super) fn write(out: &mut Vec<u8>, json: &[u8]) {
    let message = Message::of(json);
    out.push(b'{');
    members(out, TREE, &message);
    out.push(b'}');
}

/// Writes what of these has a value; says whether there was any.
fn members(out: &mut Vec<u8>, nodes: &[Node], message: &Message<'_>) -> bool {
    let begin = out.len();
    for node in nodes {
        let before = out.len();
        if before > begin {
            out.push(b',');
        }
        if !member(out, node, message) {
            out.truncate(before);
        }
    }
    out.len() > begin
}

fn member(out: &mut Vec<u8>, node: &Node, message: &Message<'_>) -> bool {
    match node {
        Is(name, key) => message.get(*key).map(|value| (name, value, false)),
        Quoted(name, key) => message.get(*key).map(|value| (name, value, true)),
        Always(name, text) => Some((name, Value::Text(text.as_bytes()), false)),
        Node::Kind => {
            let gap = message.text(Key::Type) == Some(b"gap");
            Some((&"kind", Value::Text(if gap { b"pipeline_error" } else { b"event" }), false))
        }
        Of(name, nodes) => {
            begin(out, name);
            out.push(b'{');
            let any = members(out, nodes, message);
            out.push(b'}');
            return any;
        }
    }
    .inspect(|(name, value, quoted)| {
        begin(out, name);
        write_value(out, *value, *quoted);
    })
    .is_some()
}

fn begin(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_value(out: &mut Vec<u8>, value: Value<'_>, quoted: bool) {
    match value {
        Value::Text(text) => {
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
        Value::Plain(text) if quoted => write_value(out, Value::Text(text), false),
        Value::Plain(text) | Value::Object(text) | Value::Array(text) => out.extend_from_slice(text),
    }
}

/// Each key with the name it has here, dots between objects.
#[cfg(test)]
pub(super) fn names() -> Vec<(Key, String)> {
    fn walk(nodes: &[Node], path: &str, found: &mut Vec<(Key, String)>) {
        for node in nodes {
            match node {
                Is(name, key) | Quoted(name, key) => found.push((*key, format!("{path}{name}"))),
                Of(name, nodes) => walk(nodes, &format!("{path}{name}."), found),
                Always(..) | Node::Kind => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(TREE, "", &mut found);
    found
}

//! An event as an entry of systemd's journal, in journald's native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): the message as people read it,
//! and each field for those who search. Apart because nothing else of the log knows that protocol.

use std::fmt::Debug;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::Stderr;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// A longer value is cut, bytes.
const LONGEST: usize = 16 << 10;
/// The message has all fields in it, and may be longer.
const LONGEST_MESSAGE: usize = 48 << 10;
/// Fields that would make an entry longer than this are left out of it, bytes; they stand in the message. A datagram may be some 200 KiB.
const ENTRY: usize = 128 << 10;
/// Names of fields are at most so long (journald refuses longer ones).
const NAME: usize = 64;

/// Whether standard error leads to the journal: `$JOURNAL_STREAM` names its device and inode.
#[must_use]
pub fn is_stderr() -> bool {
    let said = std::env::var("JOURNAL_STREAM").ok();
    said.is_some_and(|said| rustix::fs::fstat(io::stderr()).is_ok_and(|stat| names(&said, (stat.st_dev, stat.st_ino))))
}

/// Whether `device:inode` says this one.
fn names(said: &str, (device, inode): (u64, u64)) -> bool {
    said.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// See the module. Where journald takes nothing, the message goes to standard error.
#[derive(Debug)]
pub struct Journal {
    socket: Option<UnixDatagram>,
    place: PathBuf,
}

impl Journal {
    /// For the machine's journal.
    #[must_use]
    pub fn new() -> Journal {
        Journal::at(SOCKET.into())
    }

    fn at(place: PathBuf) -> Journal {
        Journal { socket: UnixDatagram::unbound().ok(), place }
    }

    fn send(&self, entry: &[u8]) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.send_to(entry, &self.place).map(drop)
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal::new()
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let priority = priority(*meta.level());
        let entry = entry(&fields, priority, (meta.target(), meta.file().unwrap_or_default(), meta.line().unwrap_or(0)));
        if self.send(&entry).is_err() {
            // Where that leads to the journal as well, the number in front is the priority (SyslogLevelPrefix=).
            let _ = Stderr.write_all(format!("<{priority}>{}\n", fields.text()).as_bytes());
        }
    }
}

/// syslog's number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// An event's message and its fields, as text.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.others.push((name, value.to_owned())),
        }
    }
}

impl Fields {
    /// The message with all fields behind it, as on a terminal.
    fn text(&self) -> String {
        let text = self.others.iter().map(|(name, value)| format!("{name}={value}"));
        let message = Some(self.message.clone()).filter(|message| !message.is_empty());
        message.into_iter().chain(text).collect::<Vec<_>>().join(" ")
    }
}

/// The datagram.
fn entry(fields: &Fields, priority: u8, (target, file, line): (&str, &str, u32)) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    add(&mut entry, "MESSAGE", cut(&fields.text(), LONGEST_MESSAGE));
    add(&mut entry, "PRIORITY", &priority.to_string());
    add(&mut entry, "SYSLOG_IDENTIFIER", "logferry");
    add(&mut entry, "LOGFERRY_TARGET", target);
    if !file.is_empty() {
        add(&mut entry, "CODE_FILE", file);
        add(&mut entry, "CODE_LINE", &line.to_string());
    }
    for (name, value) in &fields.others {
        let value = cut(value, LONGEST);
        if entry.len() + value.len() + NAME + 16 <= ENTRY {
            add(&mut entry, &named(name), value);
        }
    }
    entry
}

/// `bytes` becomes `LOGFERRY_BYTES`.
fn named(name: &str) -> String {
    let name = name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte.to_ascii_uppercase()) } else { '_' });
    "LOGFERRY_".chars().chain(name).take(NAME).collect()
}

fn cut(text: &str, most: usize) -> &str {
    // A character has at most four bytes.
    (most.saturating_sub(3)..=most).rev().find_map(|end| text.get(..end)).unwrap_or(text)
}

fn add(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What journald would read.
    fn read(mut entry: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut fields = Vec::new();
        while !entry.is_empty() {
            let end = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let (line, rest) = (&entry[..end], &entry[end + 1..]);
            if let Some(at) = line.iter().position(|byte| *byte == b'=') {
                fields.push((text(&line[..at]), text(&line[at + 1..])));
                entry = rest;
            } else {
                let len = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
                fields.push((text(line), text(&rest[8..8 + len])));
                assert_eq!(rest[8 + len], b'\n');
                entry = &rest[9 + len..];
            }
        }
        fields
    }

    #[test]
    fn an_entry_has_the_message_for_people_and_each_field() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("socket");
        let journald = UnixDatagram::bind(&place).unwrap();
        journald.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Journal::at(place)), || {
            tracing::error!(source = "web", bytes = 7, error = %"gone\nfor good", "can't be read");
        });
        let mut buffer = vec![0; 1 << 16];
        let len = journald.recv(&mut buffer).unwrap();
        let fields = read(&buffer[..len]);
        let of = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(of("MESSAGE"), Some("can't be read source=web bytes=7 error=gone\nfor good"));
        assert_eq!((of("PRIORITY"), of("SYSLOG_IDENTIFIER")), (Some("3"), Some("logferry")));
        assert_eq!((of("LOGFERRY_SOURCE"), of("LOGFERRY_BYTES")), (Some("web"), Some("7")));
        assert_eq!(of("LOGFERRY_ERROR"), Some("gone\nfor good"));
        assert!(of("CODE_FILE").is_some_and(|file| file.ends_with("journal.rs")) && of("CODE_LINE").is_some());
    }

    #[test]
    fn what_is_too_long_is_cut_and_an_entry_fits_into_a_datagram() {
        let others = (0..50).map(|_| ("field.x", "ä".repeat(20 << 10))).collect();
        let fields = Fields { message: "m".repeat(1 << 20), others };
        let entry = entry(&fields, 6, ("logferry", "", 0));
        assert!(entry.len() <= ENTRY && entry.len() > ENTRY / 2, "{}", entry.len());
        let fields = read(&entry);
        assert!(fields.iter().all(|(name, value)| name.len() <= NAME && value.len() <= LONGEST_MESSAGE));
        assert_eq!(fields.last().unwrap().0, "LOGFERRY_FIELD_X");
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(names("9:4711", (9, 4711)));
        for said in ["9:4712", "8:4711", "9", "", "a:b", "9:4711:"] {
            assert!(!names(said, (9, 4711)), "{said}");
        }
    }
}

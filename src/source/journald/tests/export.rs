//! The journal export format: what `systemd-journal-remote` makes journals of, and what journalctl shows.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Entries to be written into a journal.
#[derive(Clone, Default)]
pub(super) struct Writer {
    pub(super) text: Vec<u8>,
    pub(super) number: u64,
    pub(super) boot: u128,
}

pub(super) const START_US: u64 = 1_700_000_000_000_000;

impl Writer {
    /// From now on another boot.
    pub(super) fn boot(mut self, boot: u128) -> Writer {
        self.boot = boot;
        self
    }

    /// An entry of these fields, beside those that journald adds.
    pub(super) fn entry(&mut self, fields: &[(&str, &[u8])]) {
        self.number += 1;
        let time = START_US + self.number * 1000;
        let boot = self.boot.max(1);
        self.text
            .extend(format!("__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={}\n_BOOT_ID={boot:032x}\n", self.number * 1000).bytes());
        for (name, value) in fields {
            self.text.extend(name.bytes());
            if value.iter().any(|byte| *byte < b' ') || std::str::from_utf8(value).is_err() {
                self.text.push(b'\n');
                self.text.extend((value.len() as u64).to_le_bytes());
            } else {
                self.text.push(b'=');
            }
            self.text.extend(*value);
            self.text.push(b'\n');
        }
        self.text.push(b'\n');
    }

    /// Entries with their numbers, as of a service.
    pub(super) fn numbered(&mut self, count: u64) {
        for _ in 0..count {
            let message = format!("message {} of many", self.number + 1);
            let pid = format!("{}", 100 + self.number % 7);
            self.entry(&[
                ("MESSAGE", message.as_bytes()),
                ("PRIORITY", b"6"),
                ("_SYSTEMD_UNIT", b"app.service"),
                ("SYSLOG_IDENTIFIER", b"app"),
                ("_PID", pid.as_bytes()),
                ("_UID", b"33"),
                ("_TRANSPORT", b"stdout"),
                ("_CMDLINE", b"/usr/bin/app --with \"quotes\""),
            ]);
        }
    }

    /// Writes what was collected into this file, behind what it has.
    pub(super) fn write(&mut self, path: &Path, env: &[(&str, &str)]) {
        let mut command = Command::new("/lib/systemd/systemd-journal-remote");
        let child = command
            .arg("-o")
            .arg(path)
            .arg("-")
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("systemd-journal-remote is there: Debian package systemd-journal-remote");
        child.stdin.take().unwrap().write_all(&self.text).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        self.text.clear();
    }
}

/// The entries of an export, each with its fields in their order.
pub(super) fn parse(mut text: &[u8]) -> Vec<Vec<(String, Vec<u8>)>> {
    let mut entries = vec![Vec::new()];
    while !text.is_empty() {
        let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let (line, rest) = text.split_at(end);
        text = rest.get(1..).unwrap_or_default();
        if line.is_empty() {
            entries.push(Vec::new());
            continue;
        }
        let (name, value) = if let Some(at) = line.iter().position(|byte| *byte == b'=') {
            (&line[..at], line[at + 1..].to_vec())
        } else {
            let len = usize::try_from(u64::from_le_bytes(text[..8].try_into().unwrap())).unwrap();
            let value = text[8..8 + len].to_vec();
            text = &text[8 + len + 1..];
            (line, value)
        };
        entries.last_mut().unwrap().push((String::from_utf8(name.to_vec()).unwrap(), value));
    }
    entries.retain(|entry| !entry.is_empty());
    entries
}

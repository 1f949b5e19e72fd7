//! A spilled message as a line: what `spill export` writes.

use std::io::{self, Write};
use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use crate::batch::Batch;
use crate::control::protocol::Spilled;
use crate::spill::inspect::{Inspector, RecordInfo};

/// A message, in the order of its keys.
#[derive(Debug, Serialize)]
struct Message<'a> {
    record: u64,
    source: &'a str,
    stream: String,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<bool>,
    read_at: String,
}

/// Writes the messages of a record that are not acknowledged. Says how many, or that its body is damaged (`None`); or to end, when the reader has
/// gone away.
pub(super) fn record(
    reader: &mut Inspector,
    record: &RecordInfo,
    spilled: &Spilled,
    raw: bool,
    out: &mut impl Write,
) -> io::Result<ControlFlow<(), Option<u64>>> {
    let Some(batches) = reader.messages(record)? else { return Ok(ControlFlow::Continue(None)) };
    let mut written = 0;
    for (run, batch) in (0..).zip(&batches) {
        let acked = spilled.acked.iter().find(|(seq, of, _)| (*seq, *of) == (record.seq, run));
        let first = acked.map_or(0, |(.., messages)| usize::try_from(*messages).unwrap_or(usize::MAX));
        match batch_lines(record.seq, batch, first, raw, out) {
            Ok(lines) => written += lines,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ControlFlow::Break(())),
            Err(error) => return Err(error),
        }
    }
    Ok(ControlFlow::Continue(Some(written)))
}

fn batch_lines(record: u64, batch: &Batch, first: usize, raw: bool, out: &mut impl Write) -> io::Result<u64> {
    let mut written = 0;
    for event in batch.events.iter().skip(first) {
        let bytes = batch.event_bytes(event);
        if raw {
            out.write_all(bytes)?;
        } else {
            let (key, key_base64) = text(&batch.stream.key);
            let (value, value_base64) = text(bytes);
            let (part, last) = event.part().unzip();
            let read_at = Timestamp::from_nanosecond(batch.observed_ns.into()).map_or_else(|_| String::new(), |time| time.to_string());
            let (source, stream, offset) = (&*batch.stream.source, batch.stream.id.to_string(), batch.base + u64::from(event.from));
            let message = Message { record, source, stream, offset, key, key_base64, value, value_base64, part, last, read_at };
            serde_json::to_writer(&mut *out, &message).map_err(io::Error::from)?;
        }
        out.write_all(b"\n")?;
        written += 1;
    }
    Ok(written)
}

/// Bytes as text, or as base64 where they are none.
fn text(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}
